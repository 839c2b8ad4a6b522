"""The SPO stage: one answer to a prompt, compared with what is remembered of that prompt."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from data.rows import PromptRows
from jobs.stages import trying
from jobs.stages.spec import RunSpec
from jobs.stages.stage import DEFAULT_MODEL
from jobs.stages.trying import TryingSettings
from minimind.device.distributed import Parallel
from minimind.events import Metric
from minimind.language import say
from minimind.rewards.terms import Overlong, Python, Repetition
from minimind.training.attempts import Credit
from minimind.training.credit import TrackedCredit
from minimind.training.policy import PolicyLoss
from minimind.training.rollout import PromptSource, Writer
from minimind.training.tracker import DrawnPrompts, Tracker

ANSWERS = 128
"""To as many prompts in a step: one answer to each says less than the eight of a group."""


class SpoConfig(TryingSettings):
    """What the stage has to be told beside what all that try have."""

    kind: Literal["spo"] = "spo"
    loss: PolicyLoss = Field(default=PolicyLoss(dual_clip=10.0), description="what the answers are learnt by")
    memory: Literal["counts", "mean"] = Field(
        default="counts",
        description="what is remembered of a prompt: counts of success and failure, for rewards from 0 to 1; or the "
        "mean of its rewards, for any",
    )

    first_answers: int = Field(
        default=0,
        ge=0,
        description="answers to every prompt before the first step, with which what is remembered begins (8 in the "
        "paper); 0: nothing is known of a prompt before it is tried",
    )

    @model_validator(mode="after")
    def _countable(self) -> Self:
        if self.memory == "counts" and self.has_reward_model:
            raise ValueError(
                say(
                    "rewards: the scores of a reward model have no bounds, and memory = counts is for rewards from 0 "
                    "to 1. Say --set stage.memory=mean"
                )
            )
        # What a user's function gives may be anything, and is looked at when it comes.
        known = [term for term in self.terms if not isinstance(term, Python)]
        reach = [-term.weight if isinstance(term, Overlong | Repetition) else term.weight for term in known]
        low, high = (sum(far for far in reach if (far > 0) == up) for up in (False, True))
        if self.memory == "counts" and (low < 0 or high > 1 + 1e-9):
            raise ValueError(
                say(
                    "rewards = from {low:g} to {high:g} by these terms and weights: memory = counts is for rewards "
                    "from 0 to 1. Say --set stage.memory=mean, or other weights",
                    low=low,
                    high=high,
                )
            )
        return self


def spo(size: str = DEFAULT_MODEL) -> RunSpec:
    """The settings of stages that try, with more prompts in a step."""
    spec = trying.preset("spo", SpoConfig(), size)
    batch_size = spec.loop.batch_size
    loop = spec.loop.model_copy(update={"accumulation_steps": ANSWERS // batch_size})
    return spec.model_copy(update={"loop": loop})


def credited(spec: RunSpec, rows: PromptRows, writer: Writer, parallel: Parallel) -> tuple[PromptSource, Credit]:
    """Prompts drawn by what is known of them; answers against what was to be expected."""
    own = spec.stage
    assert isinstance(own, SpoConfig)
    tracker = Tracker(rows.count, shares=own.memory == "counts")
    prompts = DrawnPrompts(
        tracker,
        rows.batch,
        identity=rows.identity(),
        batch_size=spec.loop.batch_size,
        seed=spec.seed,
        epochs=spec.loop.epochs,
        rank=parallel.rank,
        world=parallel.world,
    )
    return prompts, TrackedCredit(tracker, writer, spec.loop.batch_size, (own.first_answers, prompts.every))


STAGE = trying.stage(
    "improve by trying: one answer to a prompt, against what is remembered of it (SPO)",
    SpoConfig,
    spo,
    credited,
    metrics={
        "expected_reward": Metric("", "what the answers were expected to bring", "higher"),
        "moved": Metric("nats/token", "how far the policy has moved on the last answers to these prompts", None),
    },
    words={
        "loop.epochs": "how often as many prompts are drawn as there are: those of which least is known the most often"
    },
)
