"""What steps need, remembered from one command to the next: a trace takes about a second, a table of them minutes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path

import torch

import jobs.stages
import minimind
from jobs import paths
from jobs.stages.spec import RunSpec
from jobs.stages.table import STAGES
from jobs.stages.weights import role_config
from minimind.memory.closed_form import Shape
from minimind.memory.plan import Need, Platform, need
from minimind.training.recipe import Recipe


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

    def of(self, kind: str, shape: Shape, platform: Platform, make: Callable[[], Recipe]) -> Need:
        """What a step of the recipe that `make` builds takes. kind: of step, see `step_kind`."""
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


def step_kind(spec: RunSpec) -> str:
    """A name for all that decides what a run's step takes beside its `Shape`.

    That is the code of its stage, the settings that the stage has of its own, and the shapes of other roles' models.
    Stages that share their functions share their steps.
    """
    stage = STAGES[spec.stage.kind]
    functions = [stage.models, stage.objective, stage.worst, stage.worst_take]
    names = [f"{part.__module__}.{part.__qualname__}" for part in functions if part is not None]
    files = {sys.modules[part.__module__].__file__ for part in functions if part is not None}
    digest = hashlib.sha256("\n".join(names).encode())
    for file in sorted(file for file in files if file is not None):
        digest.update(Path(file).read_bytes())
    digest.update(spec.stage.model_dump_json(exclude={"kind"}).encode())
    if (beside := stage.beside(spec)) is not None:
        digest.update(f"beside {len(beside.rows)}".encode())
    for role in (role for role in stage.roles if role not in spec.stage.does_without):
        digest.update(f"{role} {role_config(spec, role).model_dump_json()}".encode())
    return digest.hexdigest()[:16]


def _name(kind: str, shape: Shape, platform: Platform) -> str:
    """Kernels of a CPU take scratch space for each thread."""
    threads = torch.get_num_threads() if platform.rules == "cpu" else 0
    return repr((kind, shape, platform.rules, platform.expandable, threads))


@cache
def _code() -> str:
    """A name for what decides a trace: this project's model, loop and tracer, what stages share, and torch."""
    digest = hashlib.sha256(torch.__version__.encode())
    for package in (minimind, jobs.stages):
        for file in sorted(Path(package.__path__[0]).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
