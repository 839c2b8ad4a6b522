"""What a run takes on disk."""

from __future__ import annotations

import shutil

from rich.console import Console

import minimind.checkpoints.checkpoint as checkpoints
from jobs import paths
from jobs.runs.directory import RunDirectory
from jobs.stages.known import KNOWN
from jobs.stages.spec import RunSpec
from jobs.stages.weights import optimizer_states, trained_parameters
from jobs.terminal.wrap import tell
from minimind.language import say
from minimind.units import size


def disk_plan(spec: RunSpec, run: RunDirectory, console: Console, known_bytes: int = 0) -> None:
    """Say what the run will take on disk; raises ValueError if the room for its checkpoints is not there.

    Checkpoints that the run has already are not needed twice. known_bytes: of what a frozen model is asked before the
    training, which is kept in the cache and may be there already.
    """
    one, kept = checkpoint_disk(spec)
    there = sum(file.stat().st_size for file in run.checkpoints.rglob("*") if file.is_file())
    needed = max(one, one * kept - there)
    existing = next(parent for parent in run.path.parents if parent.exists())
    free = shutil.disk_usage(existing).free
    tell(
        console,
        say(
            "Disk: up to {needed} for {kept} checkpoints of {one}; {free} are free in {existing}.",
            needed=size(needed),
            kept=kept,
            one=size(one),
            free=size(free),
            existing=existing,
        ),
    )
    if known_bytes:
        console.print(
            say(
                "Besides, up to {size} in {folder} for what is computed before the training, where it is not there "
                "yet.",
                size=size(known_bytes),
                folder=paths.cache() / KNOWN,
            )
        )
    if needed > free:
        raise ValueError(
            say(
                "the run needs up to {needed} in {path} ({kept} checkpoints of {one}), {free} are free: "
                "make room, set MINIMIND_HOME to another disk, or keep fewer with --set loop.keep_last=1",
                needed=size(needed),
                path=run.path,
                kept=kept,
                one=size(one),
                free=size(free),
            )
        )


def checkpoint_disk(spec: RunSpec) -> tuple[int, int]:
    """Bytes of one checkpoint of a run, and the most of them that are there at once."""
    one = checkpoints.checkpoint_bytes(trained_parameters(spec), optimizer_states(spec))
    good = spec.stage.held_to is not None  # the one that a return goes to
    return one, spec.loop.keep_last + spec.loop.keep_best + good + 1  # one more while it is being written
