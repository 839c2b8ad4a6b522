"""Which models there are to talk with: the checkpoints of all runs, what each is, and which one comes first."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import minimind.checkpoints.checkpoint as checkpoints
from jobs.runs.directory import RunDirectory, RunRow, list_runs
from jobs.serving.model_card import ModelCard
from jobs.stages.lineage import is_from_stock, learnt_to_answer
from jobs.stages.table import STAGES
from minimind.checkpoints import folders as checkpoint_folders
from minimind.checkpoints.manifest import MANIFEST, CheckpointError, read_manifest, weights_sha256
from minimind.events import read_events
from minimind.inference.sampling import Sampling


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a checkpoint folder says of itself."""

    parent_run: str | None
    parent_step: int | None
    weights: str
    sampling: Sampling


_UNKNOWN = _Facts(None, None, "", Sampling())


def model_cards(runs: Path) -> list[ModelCard]:
    """Every model below `runs`: those that have learnt to answer, those that continue text, and those that give scores,
    and of each kind the run that wrote last first. A run that succeeded is a model under its name; any checkpoint is
    one as run@step.
    """
    cards = []
    for row in sorted(list_runs(runs), key=_wrote_at, reverse=True):
        scores = row.stage in STAGES and not STAGES[row.stage].writes
        run = RunDirectory(runs / row.name)
        steps = sorted(checkpoint_folders.steps(run.checkpoints), reverse=True)
        newest = row.name if row.state.word == "SUCCEEDED" else f"{row.name}@latest"
        chat, stock = (learnt_to_answer(run), is_from_stock(run)) if steps and not scores else (False, False)
        for name, step in [(newest, step) for step in steps[:1]] + [(f"{row.name}@{step}", step) for step in steps]:
            fact = _facts(run.checkpoints, step)
            cards.append(
                ModelCard(
                    id=name,
                    created=_saved_at(run, step),
                    root=f"{row.name}@{step}",
                    stage=row.stage,
                    step=step,
                    chat=chat,
                    scores=scores,
                    stock=stock,
                    parent=None if fact.parent_run is None else f"{fact.parent_run}@{fact.parent_step}",
                    weights=fact.weights,
                    sampling={} if scores else asdict(fact.sampling),
                )
            )
    return sorted(cards, key=lambda card: (not card.chat, card.scores))  # a stable sort


def _wrote_at(row: RunRow) -> float:
    """Unix seconds of what a run wrote last; of one that has ended from its events: a copied file has a new time."""
    return (row.updated if row.state.word == "RUNNING" else row.state.since or row.updated) or 0.0


def _facts(root: Path, step: int) -> _Facts:
    folder = checkpoint_folders.folder_of(root, step)
    try:
        return _read_facts(folder, (folder / MANIFEST).stat().st_mtime_ns)
    except (CheckpointError, ValueError, OSError):
        return _UNKNOWN


@lru_cache(maxsize=4096)
def _read_facts(folder: Path, _written_ns: int) -> _Facts:
    """Once for each checkpoint: a list of models is asked for again and again."""
    manifest = read_manifest(folder)
    return _Facts(
        parent_run=manifest["parent_run"],
        parent_step=manifest["parent_step"],
        weights=weights_sha256(folder)[:12],
        sampling=checkpoints.read_sampling(folder) or Sampling(),
    )


def _saved_at(run: RunDirectory, step: int) -> int:
    """Unix seconds at which a checkpoint was written: by the run's events, for a copied file has another time."""
    try:
        now = run.events_path.stat()
        if (told := _saved_times(run.events_path, now.st_ino, now.st_size).get(step)) is not None:
            return told
        return int((checkpoint_folders.folder_of(run.checkpoints, step) / MANIFEST).stat().st_mtime)
    except OSError:
        return 0


@lru_cache(maxsize=1024)
def _saved_times(events: Path, *_as_of: int) -> dict[int, int]:
    """By step; once for each length of the file: a list of models is asked for again and again."""
    return {event["step"]: int(event["time"]) for event in read_events(events, {"checkpoint"})}
