"""Which reports of two checkpoints side by side there are, and where they lie.

`reports/<b>-vs-<a>/` in MINIMIND_HOME: the pages, and `report.json`, which says what they compare and is written last.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, FiniteFloat, ValidationError

from jobs import paths

FACTS = "report.json"


class _Facts(BaseModel):
    """What `report.json` says of itself."""

    a: str
    b: str
    time: FiniteFloat


@dataclass(frozen=True)
class ReportRow:
    """A report of B against A. name: of its folder. time: unix seconds at which it was written."""

    name: str
    a: str
    b: str
    time: float

    @property
    def is_of_some(self) -> bool:
        """Whether it is of some suites alone."""
        return self.name != folder_of(self.a, self.b).name

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return paths.home() / "reports" / self.name


def folder_of(a: str, b: str, suites: Sequence[str] = ()) -> Path:
    """Where the report of B against A lies. suites: where only some were asked, which."""
    name = "-vs-".join(map(_readable, (b, a)))
    return paths.home() / "reports" / (f"{name}-{_readable('+'.join(suites))}" if suites else name)


def _readable(text: str) -> str:
    """The name of a model in that of a folder, with a mark of its own where other names would be written alike."""
    name = re.sub(r"[^A-Za-z0-9._@-]+", "-", text).strip("-.")[-80:]
    return name if name == text else f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def page_of(folder: Path, lang: str) -> Path:
    """The page of a report in a language."""
    return folder / f"report.{lang}.html"


def list_reports() -> list[ReportRow]:
    """All reports that can be read: the newest first, those of some suites alone after the others."""
    found = []
    for path in (paths.home() / "reports").glob(f"*/{FACTS}"):
        try:
            facts = _Facts.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            continue
        if all(page_of(path.parent, lang).is_file() for lang in ("en", "zh")):
            found.append(ReportRow(path.parent.name, facts.a, facts.b, facts.time))
    return sorted(found, key=lambda row: (not row.is_of_some, row.time), reverse=True)
