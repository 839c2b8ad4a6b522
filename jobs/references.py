"""How a user names weights: a run, run@step, run@latest, run@best, or a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import minimind.checkpoint as checkpoints
from jobs.runs import RunDirectory
from minimind.events import metric_series


@dataclass(frozen=True)
class Reference:
    """A checkpoint folder that somebody named, and where it comes from (None for a folder outside the runs)."""

    folder: Path
    run: str | None
    step: int | None


def resolve(text: str, runs: Path) -> Reference:
    """The checkpoint that `text` names. A bare run name means its last checkpoint, and only if the run succeeded.

    Raises ValueError that lists what there is.
    """
    path = Path(text)
    if path.is_absolute() or (path / "config.json").is_file():
        manifest = checkpoints.verify(path)
        return Reference(path, manifest["run_id"], manifest["step"])
    name, _, which = text.partition("@")
    run = RunDirectory.find(runs, name)
    steps = checkpoints.steps(run.checkpoints)
    if not steps:
        raise ValueError(f"{text!r}: the run at {run.path} has no checkpoint yet")
    choices = f"{name}@latest, {name}@best, " + ", ".join(f"{name}@{step}" for step in steps)
    if which == "" and (word := run.state().word) != "SUCCEEDED":
        raise ValueError(f"{text!r}: the run is {word}, so say which checkpoint is meant: {choices}")
    if which in ("", "latest"):
        step = steps[-1]
    elif which == "best":
        step = _best(run, steps)
    elif which.isdecimal() and int(which) in steps:
        step = int(which)
    else:
        raise ValueError(f"{text!r}: there is no such checkpoint in {run.checkpoints}; there are {choices}")
    return Reference(checkpoints.folder_of(run.checkpoints, step), name, step)


def _best(run: RunDirectory, steps: list[int]) -> int:
    measured = dict(zip(*metric_series(run.events_path, "val/loss"), strict=True))
    known = [step for step in steps if step in measured]
    if not known:
        raise ValueError(f"{run.name}@best: no checkpoint in {run.checkpoints} has been validated")
    return min(known, key=lambda step: (measured[step], step))
