"""Which models there are: the runs under MINIMIND_HOME, looked at anew for every question."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import minimind.checkpoint as checkpoints
from jobs import paths, references
from jobs.runs import RunDirectory, list_runs
from jobs.stock import stock_folder
from minimind.checkpoint import CheckpointError
from service.backend import ModelCard
from service.errors import ApiError, unknown_model

_FRESH_S = 1.0


@dataclass(frozen=True)
class Found:
    """A checkpoint that a model's name means now. id: run@step. fingerprint: of its weights."""

    id: str
    folder: Path
    fingerprint: str


class Catalog:
    """The checkpoints of all runs. A run that succeeded is a model under its name; any checkpoint is as run@step."""

    def __init__(self) -> None:
        self._recent: dict[str, tuple[float, str, Path]] = {}

    def cards(self) -> list[ModelCard]:
        """Everything that can be asked for, the run that wrote last first."""
        cards = []
        for row in list_runs(paths.runs()):
            run = RunDirectory(paths.runs() / row.name)
            root = run.checkpoints
            steps = sorted(checkpoints.steps(root), reverse=True)
            stock = bool(steps) and _is_from_stock(run)
            newest = row.name if row.state.word == "SUCCEEDED" else f"{row.name}@latest"
            names = [(newest, step) for step in steps[:1]] + [(f"{row.name}@{step}", step) for step in steps]
            cards += [
                ModelCard(name, _written(root, step), f"{row.name}@{step}", row.stage, step, stock)
                for name, step in names
            ]
        return cards

    def card(self, model: str) -> ModelCard:
        """The card of what `model` means, which need not be in the list under this name. Raises what `find` does."""
        root = self.find(model).id
        there = next((card for card in self.cards() if card.id == root), None)
        if there is None:
            raise self._unknown(model, "its checkpoint was deleted")
        return replace(there, id=model)

    def find(self, model: str) -> Found:
        """The checkpoint that `model` means: run, run@step, run@latest or run@best.

        Raises ApiError: 404 with the models there are, 500 for a checkpoint whose manifest is damaged.
        """
        if paths.is_path(model):
            raise self._unknown(model, "a model is the name of a run, not a path")
        try:
            name, folder = self._place(model)
            return Found(name, folder, checkpoints.weights_sha256(folder))
        except ValueError as error:
            run = model.partition("@")[0]
            there = run in {row.name for row in list_runs(paths.runs())}
            raise self._unknown(model, str(error).partition(": ")[2] if there else f"there is no run {run!r}") from None
        except CheckpointError as error:
            if not folder.is_dir():
                self._recent.pop(model, None)
                raise self._unknown(model, "its checkpoint was deleted") from None
            raise damaged(model, error) from None

    def _place(self, model: str) -> tuple[str, Path]:
        # The state of a run is computed from all its events: once a second is often enough for a name that moves.
        asked, name, folder = self._recent.get(model, (0.0, "", Path()))
        if time.monotonic() - asked > _FRESH_S:
            name, folder = references.pinned(model), references.resolve(model)
            if len(self._recent) > 1000:
                self._recent.clear()
            self._recent[model] = (time.monotonic(), name, folder)
        return name, folder

    def _unknown(self, model: str, why: str) -> ApiError:
        return unknown_model(model, why, [card.id for card in self.cards()])


def damaged(model: str, error: Exception) -> ApiError:
    """500: the checkpoint of this model cannot be loaded; other models are not touched."""
    return ApiError(500, f"model {model!r} cannot be loaded: {error}", code="model_damaged", param="model")


def _is_from_stock(run: RunDirectory) -> bool:
    try:
        spec = run.spec()
    except ValueError:
        return False
    kind, path = (spec.get(section, {}).get(name) for section, name in (("stage", "kind"), ("data", "path")))
    return kind != "pretrain" and path is not None and paths.absolute(path).parent == stock_folder()


def _written(root: Path, step: int) -> int:
    try:
        return int((checkpoints.folder_of(root, step) / checkpoints.MANIFEST).stat().st_mtime)
    except OSError:
        return 0
