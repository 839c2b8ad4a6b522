"""The reward stage: a model that gives each answer a score, learnt from pairs of a better and a worse one.

Measured: the learning rate of `tiny`, a quarter of SFT's, and the five epochs, on the stock pairs. After one epoch the
better answer of a held-out pair is ahead in 72 % at 4e-4, in 79 % at 1e-3, in 67 % at 3e-3; at 1e-3 after three in
96.3 % and after five in 96.9 %, of pairs of one length in 94.8 and 97.7 % (one seed; docs/benchmarks.md has others).
Not measured: larger models.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import Field
from torch import nn

from data.pack import whole
from data.rows import PairRows
from jobs.stages import dpo, preferences, sft
from jobs.stages.preferences import METRICS
from jobs.stages.sampling import writing
from jobs.stages.spec import RunSpec, StageSettings
from jobs.stages.stage import DEFAULT_MODEL, Corpus, Data, ModelSource, Stage
from minimind.device.distributed import Parallel
from minimind.events import Metric
from minimind.language import say
from minimind.network.score import ScoreModel
from minimind.training.answers import AnswerBatch, worst_answers
from minimind.training.objectives import Loss, Models, Objective
from minimind.training.reward import reward_loss


class RewardConfig(StageSettings):
    """What the stage has to be told."""

    kind: Literal["reward"] = "reward"
    center: float = Field(
        default=0.01, ge=0, description="how strongly scores are drawn to a mean of 0; only their difference is learnt"
    )


def reward(size: str = DEFAULT_MODEL) -> RunSpec:
    """The settings of DPO, but for its rate and its epochs: the head is new."""
    spec = dpo.dpo(size)
    optim = spec.optim.model_copy(update={"learning_rate": sft.sft(size).optim.learning_rate / 4})
    loop = spec.loop.model_copy(update={"epochs": 5})
    return spec.model_copy(update={"name": "reward", "stage": RewardConfig(), "optim": optim, "loop": loop})


def models(spec: RunSpec, weights: ModelSource) -> dict[str, nn.Module]:
    """The first weights under a head for scores."""
    if spec.adapter is not None:
        raise ValueError(say("adapter: a reward model trains all of its weights, with a head of its own: leave it out"))
    return {"policy": ScoreModel.of(weights.policy())}


def objective(spec: RunSpec) -> Objective:
    """The better answer's score is to be the higher one."""
    assert isinstance(spec.stage, RewardConfig)
    center = spec.stage.center

    def preference(models: Models, batch: AnswerBatch) -> Loss:
        model = models["policy"]
        assert isinstance(model, ScoreModel)
        score_BT = model.scores(batch.tokens_BT, batch.segment_BT, batch.branch_BT)
        return reward_loss(score_BT.flatten()[batch.last_A].float(), center)

    return preference


def data(spec: RunSpec, corpus: Corpus, models: Models, parallel: Parallel) -> Data:
    """Pairs of whole answers. What the language model under the scores forgets is of no interest."""
    return replace(preferences.data(PairRows, whole, spec, corpus, models, parallel), text=None)


def worst(spec: RunSpec) -> AnswerBatch:
    """Rows that two answers fill."""
    return worst_answers(spec.loop.batch_size, spec.data.max_seq_len)


STAGE = Stage(
    title="a reward model: learn from pairs to give the better answer the higher score",
    rows="dpo",
    settings=RewardConfig,
    preset=reward,
    continues=True,
    prompt=None,
    sampling=writing,
    models=models,
    objective=objective,
    data=data,
    worst=worst,
    usable=whole,
    metrics={
        "accuracy": METRICS["accuracy"],
        "margin": Metric("", "by how much the better answers' reward is above the worse ones'", "higher"),
        "score": Metric("", "mean score of all answers", None),
    },
)
