"""Which runs the weights of a run come from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jobs import paths
from jobs.runs.directory import RunDirectory
from jobs.stages.spec import NO_WEIGHTS
from jobs.stages.table import STAGES


def is_from_stock(run: RunDirectory) -> bool:
    """Whether a run's models learnt to answer from the stock data, in this home or in the one they were made in."""
    for spec in lineage(run):
        kind, path = (spec.get(section, {}).get(name) for section, name in (("stage", "kind"), ("data", "path")))
        if kind != "pretrain" and path and paths.absolute(path).parts[-3:-1] == paths.stock_folder().parts[-2:]:
            return True
    return False


def learnt_to_answer(run: RunDirectory) -> bool:
    """Whether a run's models have learnt to answer: in this run, or in one that its first weights come from."""
    for spec in lineage(run):
        stage = STAGES.get(spec.get("stage", {}).get("kind", ""))
        if not spec or stage is None or stage.rows != "pretrain":  # where it cannot be read, perhaps
            return True
    return False


def lineage(run: RunDirectory) -> Iterator[dict[str, Any]]:
    """The spec of a run, and of those that its first weights come from; an empty one where it cannot be read."""
    seen: set[Path] = set()
    while run.exists and run.path not in seen:
        seen.add(run.path)
        try:
            spec = run.spec()
        except ValueError:
            yield {}
            return
        yield spec
        origin = str(spec.get("init_from") or NO_WEIGHTS)
        if paths.is_path(origin):
            run = RunDirectory(paths.absolute(origin).parent.parent)
        else:
            run = RunDirectory(run.path.parent / origin.partition("@")[0])
