"""The DPO stage: learn which of two answers is better, from pairs.

Measured: the learning rate of `tiny`, a fortieth of SFT's, on one pass over the stock pairs. Before it 50.0 % of the
held-out pairs are preferred, 95.5 % of the facts are right and plain text takes 2.098 bits per byte; at 2e-5 95.6 %,
96.2 % and 2.099, at 1e-4 95.3 %, 95.5 % and 2.103, at 2e-4 with an SFT term of 0.2 95.3 %, 94.9 % and 2.111. Not
measured: larger models, which take the same share of their SFT's rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Literal

from pydantic import Field, model_validator

from data.pack import paired
from data.rows import PairRows
from jobs.stages import preferences, sft
from jobs.stages.preferences import METRICS, REFERENCE, ReferenceSettings, reference_logprobs
from jobs.stages.sampling import answering
from jobs.stages.spec import RunSpec
from jobs.stages.stage import DEFAULT_MODEL, Stage
from minimind.events import Metric
from minimind.language import say
from minimind.network.model import MiniMind
from minimind.training.answers import AnswerBatch, answer_logprobs
from minimind.training.objectives import Loss, Models, Objective
from minimind.training.preference import WITHOUT_REFERENCE, LossName, PreferenceLoss, preference_loss

HELD_OUT = 0.05
"""Share of the pairs: there are fewer of them than of conversations."""

FALL = 0.1
"""In nats per token: what the better answers may lose before it is said."""


class DpoConfig(ReferenceSettings):
    """What the stage has to be told; the losses are in `minimind/training/preference.py`."""

    kind: Literal["dpo"] = "dpo"
    loss: LossName = Field(
        default="sigmoid", description="sigmoid (DPO), ipo, hinge, or without a reference: simpo, orpo"
    )
    beta: float | None = Field(
        default=None,
        gt=0,
        description="how strongly the policy is held to its reference; default: 0.1, simpo 2, which multiplies means",
    )
    gamma: float | None = Field(default=None, ge=0, description="simpo: the margin that is aimed at; default: 1")
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=0.5, description="sigmoid, simpo: the share of pairs taken to be the wrong way round"
    )
    by_length: bool = Field(
        default=False, description="sigmoid, hinge: mean log-probabilities of an answer, not their sum"
    )
    sft_weight: float = Field(
        default=0.0, ge=0, description="how much of the better answers' own cross-entropy is added"
    )

    @model_validator(mode="after")
    def _fitting(self) -> DpoConfig:
        only = {
            "gamma": ("simpo",),
            "label_smoothing": ("sigmoid", "simpo"),
            "by_length": ("sigmoid", "hinge"),
        }
        if unused := [name for name, losses in only.items() if getattr(self, name) and self.loss not in losses]:
            raise ValueError(say("loss = {loss} has no {names}", loss=self.loss, names=", ".join(unused)))
        if self.reference == "cached" and not self.has_reference:
            raise ValueError(say("loss = {loss} has no reference that could be cached", loss=self.loss))
        return self

    @property
    def preference_loss(self) -> PreferenceLoss:
        """The loss."""
        simpo = self.loss == "simpo"
        return PreferenceLoss(
            self.loss,
            beta=(2.0 if simpo else 0.1) if self.beta is None else self.beta,
            gamma=float(simpo) if self.gamma is None else self.gamma,
            label_smoothing=self.label_smoothing,
            by_length=self.by_length,
        )

    @property
    def has_reference(self) -> bool:
        """Whether the loss compares with a reference at all."""
        return self.loss not in WITHOUT_REFERENCE


def dpo(size: str = DEFAULT_MODEL) -> RunSpec:
    """The settings of SFT, but for its rate, its data and what is measured."""
    spec, small = sft.sft(size), size == "tiny"
    return spec.model_copy(
        update={
            "name": "dpo",
            "stage": DpoConfig(),
            "data": spec.data.model_copy(update={"path": "data/stock/dpo.jsonl"}),
            "optim": spec.optim.model_copy(update={"learning_rate": 1e-4 if small else 7.5e-6}),
            "loop": spec.loop.model_copy(update={"epochs": 1, "batch_size": 1 if small else 4}),
            "eval": spec.eval.model_copy(update={"best": "val/accuracy", "best_is": "highest", "fraction": HELD_OUT}),
        }
    )


def settings(spec: RunSpec) -> DpoConfig:
    """The stage's own."""
    assert isinstance(spec.stage, DpoConfig)
    return spec.stage


def objective(spec: RunSpec) -> Objective:
    """The loss of pairs that the settings name."""
    own = settings(spec)
    loss = own.preference_loss

    def preference(models: Models, batch: AnswerBatch) -> Loss:
        policy = models["policy"]
        assert isinstance(policy, MiniMind)
        reference_M = reference_logprobs(models, batch) if own.has_reference else None
        return preference_loss(loss, batch, answer_logprobs(policy, batch), reference_M, own.sft_weight)

    return preference


def remark(first: Mapping[str, float], last: Mapping[str, float]) -> str:
    """That the better answers have become less likely, where they have."""
    was, now = first.get("chosen_logprob", 0.0), last.get("chosen_logprob", 0.0)
    if not was - now >= FALL:  # nor where one is not a number
        return ""
    return say(
        "The better answers themselves have become less likely, from {was:.2f} to {now:.2f} nats per token: the loss "
        "asks for a distance to the worse ones and for nothing else. Where what the model writes suffers, "
        "--set stage.sft_weight=0.2 holds them.",
        was=was,
        now=now,
    )


STAGE = Stage(
    title="prefer the better of two answers, from pairs (DPO and its relatives)",
    rows="dpo",
    settings=DpoConfig,
    preset=dpo,
    continues=True,
    prompt=sft.question,
    sampling=answering,
    models=preferences.models,
    asks=partial(preferences.asks, PairRows, paired),
    objective=objective,
    data=partial(preferences.data, PairRows, paired),
    worst=preferences.worst,
    usable=paired,
    roles=(REFERENCE,),
    remark=remark,
    metrics=METRICS
    | {
        "margin": Metric("", "by how much the better answers' reward is above the worse ones'", "higher"),
        "chosen_reward": Metric("", "reward of the better answers: beta times what they gained on the reference", None),
        "rejected_reward": Metric("", "reward of the worse answers", None),
        "chosen_logprob": Metric("nats/token", "how likely the better answers are; in many runs it falls", None),
    },
)
