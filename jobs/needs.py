"""What steps need, remembered from one command to the next: a trace takes about a second, a table of them minutes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path

import torch

import minimind
from jobs import paths
from minimind.closed_form import Shape
from minimind.memory import Need, Platform, need
from minimind.rehearsal import Step


class Needs:
    """By stage, shape and platform, in a file of the cache. What was traced by other code or another torch is not used.

    path: None keeps nothing beyond this object.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._known = self._stored()

    @classmethod
    def cached(cls) -> Needs:
        """Those of this code, in MINIMIND_HOME's cache."""
        return cls(paths.cache() / "plans" / f"{_code()}.json")

    def of(self, kind: str, shape: Shape, platform: Platform, make: Callable[[], Step]) -> Need:
        """What the step that `make` builds takes. kind: what else than its shape distinguishes it."""
        name = _name(kind, shape, platform)
        if name not in self._known:
            self._known[name] = need(make, platform)
            self._save()
        return self._known[name]

    def has(self, kind: str, shape: Shape, platform: Platform) -> bool:
        """Whether it is known without a trace."""
        return _name(kind, shape, platform) in self._known

    def _stored(self) -> dict[str, Need]:
        if self.path is None or not self.path.exists():
            return {}
        try:
            return {name: Need(**entry) for name, entry in json.loads(self.path.read_text("utf-8")).items()}
        except (OSError, ValueError, TypeError):
            return {}  # only a cache: what it held is traced again

    def _save(self) -> None:
        if self.path is None:
            return
        self._known = self._stored() | self._known  # others write there as well
        partial = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        with contextlib.suppress(OSError):  # a full disk costs a second next time
            paths.make(self.path.parent)
            partial.write_text(json.dumps({name: asdict(entry) for name, entry in self._known.items()}), "utf-8")
            partial.replace(self.path)


def _name(kind: str, shape: Shape, platform: Platform) -> str:
    """Kernels of a CPU take scratch space for each thread."""
    threads = torch.get_num_threads() if platform.rules == "cpu" else 0
    return repr((kind, shape, platform.rules, platform.expandable, threads))


@cache
def _code() -> str:
    """A name for what decides a trace: this project's model, loop and tracer, and torch."""
    digest = hashlib.sha256(torch.__version__.encode())
    for file in sorted(Path(minimind.__path__[0]).glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
