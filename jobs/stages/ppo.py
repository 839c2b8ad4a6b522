"""The PPO stage: a critic says what reward is to be expected before each token, and what came beyond that is learnt."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from data.rows import PromptRows
from jobs.stages import preferences, trying
from jobs.stages.spec import RunSpec
from jobs.stages.spo import ANSWERS
from jobs.stages.stage import DEFAULT_MODEL, ModelSource
from jobs.stages.trying import TryingSettings
from minimind.device.distributed import Parallel
from minimind.events import Metric
from minimind.network.score import ScoreModel, ValueHead
from minimind.training.answers import AnswerBatch, answer_logprobs
from minimind.training.attempts import Credit
from minimind.training.credit import CriticCredit
from minimind.training.objectives import Loss, Models, Objective
from minimind.training.policy import PolicyBatch, kl_estimate, token_values, value_loss
from minimind.training.rollout import PromptSource, Writer

CRITIC = "critic"


class PpoConfig(TryingSettings):
    """What the stage has to be told beside what all that try have."""

    kind: Literal["ppo"] = "ppo"
    critic: Literal["own", "shared"] = Field(
        default="shared",
        description="shared: one more output of the policy, which takes no memory and learns with it; own: a model "
        "beside the policy, of its size",
    )
    discount: float = Field(default=1.0, gt=0, le=1, description="what a reward is worth a token earlier (gamma)")
    trace: float = Field(
        default=0.95, ge=0, le=1, description="how far the critic is believed: 1 not at all, 0 at each token (lambda)"
    )
    kl_in: Literal["loss", "reward"] = Field(
        default="loss", description="where what loss.kl holds back stands: in the loss, or in each token's reward"
    )
    value_weight: float = Field(default=0.5, gt=0, description="weight of the critic's error beside the policy's loss")
    value_clip: float | None = Field(
        default=0.2, gt=0, description="how far the critic may go from what it said in one set of answers; null: freely"
    )


def ppo(size: str = DEFAULT_MODEL) -> RunSpec:
    """The settings of stages that try, with more prompts in a step."""
    spec = trying.preset("ppo", PpoConfig(), size)
    batch_size = spec.loop.batch_size
    loop = spec.loop.model_copy(update={"accumulation_steps": ANSWERS // batch_size})
    return spec.model_copy(update={"loop": loop})


def settings(spec: RunSpec) -> PpoConfig:
    """The stage's own."""
    assert isinstance(spec.stage, PpoConfig)
    return spec.stage


def models(spec: RunSpec, weights: ModelSource) -> dict[str, nn.Module]:
    """The policy, and a critic: a head on the policy, or a model that begins with its weights under such a head."""
    found = trying.models(spec, weights)
    shared = settings(spec).critic == "shared"
    return {**found, CRITIC: ValueHead(spec.model.hidden_size) if shared else ScoreModel.of(weights.policy())}


def credited(spec: RunSpec, rows: PromptRows, writer: Writer, parallel: Parallel) -> tuple[PromptSource, Credit]:
    """Every prompt in turn; each token against what the critic expected."""
    own = settings(spec)

    def away(batch: AnswerBatch) -> Tensor:
        reference_M = preferences.reference_logprobs(writer.models, batch)
        return kl_estimate(own.loss.kl_estimator or "k1", answer_logprobs(writer.policy, batch), reference_M)

    kl = own.loss.kl if own.kl_in == "reward" else 0.0
    credit = CriticCredit(writer.models, writer, spec.loop.batch_size, own.discount, own.trace, kl, away)
    return trying.in_turn(spec, rows, parallel), credit


def objective(spec: RunSpec) -> Objective:
    """The policy's loss and the critic's."""
    own = settings(spec)
    how = own.loss if own.kl_in == "loss" else own.loss.model_copy(update={"kl": 0.0})

    def attempted(models: Models, batch: PolicyBatch) -> Loss:
        loss, state_ND = trying.attempted(how, models, batch)
        of_critic = value_loss(token_values(models, batch, state_ND), batch, own.value_clip, own.loss.per)
        total = loss.total + own.value_weight * of_critic.total
        return Loss(total, loss.weight, {**loss.metrics, **of_critic.metrics})

    return trying.objective_of(attempted)


def worst(spec: RunSpec) -> AnswerBatch:
    """As of stages that try, with what the critic said."""
    own = settings(spec)
    return PolicyBatch.worst(
        spec.loop.batch_size,
        spec.data.max_seq_len,
        own.answers,
        own.max_new_tokens,
        old=own.passes > 1,
        critic=True,
        told=own.told_tokens,
    )


STAGE = replace(
    trying.stage(
        "improve by trying: a critic tells which tokens brought more than was expected (PPO)",
        PpoConfig,
        ppo,
        credited,
        metrics={
            "value_error": Metric("", "squared error of what the critic expects", "lower"),
            "value_clipped": Metric("", "share of tokens on which the critic went as far as it may", None),
        },
    ),
    models=models,
    objective=objective,
    worst=worst,
)
