"""Which models there are: the runs under MINIMIND_HOME, looked at anew for every question."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from jobs import paths
from jobs.runs import references
from jobs.runs.directory import RunDirectory, list_runs
from jobs.serving.model_card import ModelCard
from jobs.serving.models import model_cards
from jobs.stages.lineage import learnt_to_answer
from minimind.checkpoints.checkpoint import gives_scores
from minimind.checkpoints.manifest import CheckpointError, weights_sha256
from service.errors import ApiError, unknown_model

_FRESH_S = 1.0


@dataclass(frozen=True)
class Found:
    """A checkpoint that a model's name means now. id: run@step. fingerprint: of its weights. chat: it can answer.
    scores: it gives scores and writes nothing.
    """

    id: str
    folder: Path
    fingerprint: str
    chat: bool
    scores: bool


class Catalog:
    """The checkpoints of all runs. A run that succeeded is a model under its name; any checkpoint is as run@step."""

    def __init__(self) -> None:
        self._recent: dict[str, tuple[float, str, Path]] = {}

    def cards(self) -> list[ModelCard]:
        """Everything that can be asked for: what has learnt to answer first, and of that the run that wrote last; what
        gives scores at the end.
        """
        return model_cards(paths.runs())

    def card(self, model: str) -> ModelCard:
        """The card of what `model` means, which need not be in the list under this name. Raises what `find` does."""
        root = self.find(model).id
        there = next((card for card in self.cards() if card.id == root), None)
        if there is None:
            raise self._unknown(model, "its checkpoint was deleted")
        return replace(there, id=model)

    def find(self, model: str) -> Found:
        """The checkpoint that `model` means: run, run@step, run@latest or run@best.

        Raises ApiError: 404 with the models there are, 500 for a checkpoint whose manifest or config is damaged.
        """
        if paths.is_path(model):
            raise self._unknown(model, "a model is the name of a run, not a path")
        try:
            name, folder = self._place(model)
            fingerprint, scores = weights_sha256(folder), gives_scores(folder)
            chat = not scores and learnt_to_answer(RunDirectory(folder.parent.parent))
            return Found(name, folder, fingerprint, chat, scores)
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
            found = references.find_weights(model)
            name, folder = found.name, found.folder
            if len(self._recent) > 1000:
                self._recent.clear()
            self._recent[model] = (time.monotonic(), name, folder)
        return name, folder

    def _unknown(self, model: str, why: str) -> ApiError:
        return unknown_model(model, why, [card.id for card in self.cards()])


def damaged(model: str, error: Exception) -> ApiError:
    """500: the checkpoint of this model cannot be loaded; other models are not touched."""
    return ApiError(500, f"model {model!r} cannot be loaded: {error}", code="model_damaged", param="model")
