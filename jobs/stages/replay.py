"""What supervised fine-tuning does with the plain text that `data.mix` replays: learn it, or keep to what was known."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import nn

from data.rows import ReplayRows
from jobs.stages import supervised
from jobs.stages.spec import NO_WEIGHTS, RunSpec, StageSettings
from jobs.stages.stage import Corpus, Data, ModelSource
from minimind.device.distributed import Parallel
from minimind.events import Metric
from minimind.language import say
from minimind.training.batch import TokenBatch
from minimind.training.distillation import TEACHER
from minimind.training.objectives import Models, Objective
from minimind.training.replay import ReplayBatch, replay_loss

METRICS = {"drift": Metric("nats/token", "how far the model is, on replayed text, from what it was before", "lower")}


class ReplaySettings(StageSettings):
    """Base of the settings of stages that replay text."""

    replay: Literal["text", "teacher"] = Field(
        default="text",
        description="what is learnt of the text that data.mix replays: text: its tokens; teacher: what the first "
        "weights say of it, which are in memory for that, or with an adapter the same model with its adapter off",
    )

    @property
    def does_without(self) -> tuple[str, ...]:
        """The model from before, where it does not teach."""
        return () if self.replay == "teacher" else (TEACHER,)


def models(spec: RunSpec, weights: ModelSource) -> dict[str, nn.Module]:
    """The policy, and where it teaches the frozen model that the policy began as."""
    found = supervised.models(spec, weights)
    if not _is_taught(spec):
        return found
    if not spec.data.mix:
        raise ValueError(
            say("stage.replay = teacher: no text is replayed, data.mix = 0; --set data.mix=0.1 makes a tenth of it")
        )
    if spec.init_from == NO_WEIGHTS:
        raise ValueError(say("stage.replay = teacher: weights that are drawn anew have nothing to keep"))
    if spec.adapter is None or TEACHER in spec.roles:
        found[TEACHER] = weights.role(TEACHER)
    return found


def objective(spec: RunSpec) -> Objective:
    """Cross-entropy of every token that is to be learnt, and of replayed ones what the settings say."""
    return replay_loss if _is_taught(spec) else supervised.objective(spec)


def worst(spec: RunSpec) -> TokenBatch:
    """Full rows, of which every token is predicted, all of them replayed where that takes a second model."""
    batch = supervised.worst(spec)
    return ReplayBatch(**vars(batch), replayed=spec.loop.batch_size, own=0) if _is_taught(spec) else batch


def data(spec: RunSpec, corpus: Corpus, models: Models, parallel: Parallel) -> Data:
    """Packed rows in an order of their own, among them plain text where `data.mix` says so."""
    return supervised.data(spec, corpus, models, parallel, marked=ReplayRows if _is_taught(spec) else None)


def _is_taught(spec: RunSpec) -> bool:
    assert isinstance(spec.stage, ReplaySettings)
    return spec.stage.replay == "teacher"
