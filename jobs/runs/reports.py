"""Which reports of two checkpoints side by side there are, and where they lie.

`reports/<b>-vs-<a>/` in MINIMIND_HOME: the pages, and `report.json`, which says what they compare and is written last.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from jobs import paths

FACTS = "report.json"


@dataclass(frozen=True)
class ReportRow:
    """A report of B against A. name: of its folder. time: unix seconds at which it was written."""

    name: str
    a: str
    b: str
    time: float


def folder_of(a: str, b: str) -> Path:
    """Where the report of B against A lies."""
    name = "-vs-".join(re.sub(r"[^A-Za-z0-9._@-]+", "-", text).strip("-.") for text in (b, a))
    return paths.home() / "reports" / name


def page_of(folder: Path, lang: str) -> Path:
    """The page of a report in a language."""
    return folder / f"report.{lang}.html"


def list_reports() -> list[ReportRow]:
    """All reports that are whole, the newest first."""
    found = []
    for path in (paths.home() / "reports").glob(f"*/{FACTS}"):
        try:
            facts = json.loads(path.read_text("utf-8"))
            found.append(ReportRow(path.parent.name, str(facts["a"]), str(facts["b"]), float(facts["time"])))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return sorted(found, key=lambda row: row.time, reverse=True)
