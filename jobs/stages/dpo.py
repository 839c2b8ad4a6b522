"""The DPO stage: learn which of two answers is better, from pairs.

With an adapter the reference is the same model with the adapter off, so there is no second one in memory.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from data.batches import OrderedBatches, in_order
from data.pack import learnable
from data.rows import PairRows
from data.shards import TokenShards
from data.split import hold_out
from jobs.stages import sft, supervised
from jobs.stages.sampling import answering
from jobs.stages.spec import RunSpec, StageSettings
from jobs.stages.stage import DEFAULT_MODEL, Corpus, Data, HeldOut, ModelSource, Stage
from minimind.device.distributed import Parallel
from minimind.events import Metric
from minimind.language import say
from minimind.network.lora import adapter_off
from minimind.network.model import MiniMind
from minimind.training.batch import PairBatch, worst_pairs
from minimind.training.objectives import Loss, Models, Objective
from minimind.training.preference import WITHOUT_REFERENCE, Answers, LossName, PreferenceLoss, answers, preference_loss

REFERENCE = "reference"


class DpoConfig(StageSettings):
    """What the stage has to be told; the losses are in `minimind/training/preference.py`."""

    kind: Literal["dpo"] = "dpo"
    loss: LossName = Field(
        default="sigmoid", description="sigmoid (DPO), ipo, hinge, or without a reference: simpo, orpo"
    )
    beta: float = Field(default=0.1, gt=0, description="how strongly the policy is held to its reference")
    gamma: float = Field(default=0.0, ge=0, description="simpo: the margin that is aimed at")
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
        unused = [
            name
            for name, losses in (
                ("gamma", ("simpo",)),
                ("label_smoothing", ("sigmoid", "simpo")),
                ("by_length", ("sigmoid", "hinge")),
            )
            if getattr(self, name) and self.loss not in losses
        ]
        if unused:
            raise ValueError(say("loss = {loss} has no {names}", loss=self.loss, names=", ".join(unused)))
        return self

    @property
    def has_reference(self) -> bool:
        """Whether the loss compares with a second model."""
        return self.loss not in WITHOUT_REFERENCE


def dpo(size: str = DEFAULT_MODEL) -> RunSpec:
    """The settings of SFT, but for its rate and what is measured."""
    spec = sft.sft(size)
    return spec.model_copy(
        update={
            "name": "dpo",
            "stage": DpoConfig(),
            "data": spec.data.model_copy(update={"path": "data/stock/dpo.jsonl"}),
            "optim": spec.optim.model_copy(update={"learning_rate": spec.optim.learning_rate / 20}),
            "loop": spec.loop.model_copy(update={"epochs": 2}),
            "eval": spec.eval.model_copy(update={"best": "val/accuracy", "best_is": "highest"}),
        }
    )


def settings(spec: RunSpec) -> DpoConfig:
    """The stage's own."""
    assert isinstance(spec.stage, DpoConfig)
    return spec.stage


def models(spec: RunSpec, weights: ModelSource) -> dict[str, nn.Module]:
    """The policy, and where neither an adapter nor the loss makes it needless the frozen model that it began as."""
    found = supervised.models(spec, weights)
    if settings(spec).has_reference and (spec.adapter is None or REFERENCE in spec.roles):
        found[REFERENCE] = weights.role(REFERENCE)
    return found


def objective(spec: RunSpec) -> Objective:
    """The loss of pairs that the settings name."""
    own = settings(spec)
    loss = PreferenceLoss(own.loss, own.beta, own.gamma, own.label_smoothing, own.by_length)

    def preference(models: Models, batch: PairBatch) -> Loss:
        policy = models["policy"]
        reference = _reference(models, batch) if own.has_reference else None
        return preference_loss(loss, answers(policy, batch), reference, own.sft_weight)

    return preference


def _reference(models: Models, batch: PairBatch) -> Answers:
    """What the weights that the policy began with think of the answers."""
    with torch.no_grad():
        if REFERENCE in models:
            return answers(models[REFERENCE], batch)
        policy = models["policy"]
        assert isinstance(policy, MiniMind)
        with adapter_off(policy):
            return answers(policy, batch)


def data(spec: RunSpec, corpus: Corpus, models: Models, parallel: Parallel) -> Data:
    """Pairs in an order of their own."""
    width = spec.data.max_seq_len
    training, measured = learnable(corpus.rows, width), corpus.held_out
    if measured is None:
        measured = corpus.rows
        training, held_out = hold_out(corpus.rows, spec.eval.fraction, spec.eval.max_documents, training)
    else:
        held_out = learnable(measured, width)

    def pairs(shards: TokenShards, chosen: Any) -> PairRows:
        return PairRows(shards, chosen, width, corpus.tokenizer.pad_id)

    share: dict[str, Any] = {"batch_size": spec.loop.batch_size, "rank": parallel.rank, "world": parallel.world}
    return Data(
        OrderedBatches(
            pairs(corpus.rows, training),
            seed=spec.seed,
            epochs=spec.loop.epochs,
            num_workers=spec.data.num_workers,
            **share,
        ),
        HeldOut(partial(in_order, pairs(measured, held_out), **share)),
    )


def worst(spec: RunSpec) -> PairBatch:
    """Full rows on both sides, of which every token is predicted."""
    return worst_pairs(spec.loop.batch_size, spec.data.max_seq_len)


STAGE = Stage(
    title="prefer the better of two answers, from pairs (DPO and its relatives)",
    rows="dpo",
    settings=DpoConfig,
    preset=dpo,
    continues=True,
    prompt=sft.question,
    sampling=answering,
    models=models,
    objective=objective,
    data=data,
    worst=worst,
    roles=(REFERENCE,),
    metrics={
        "accuracy": Metric("", "share of pairs whose better answer is preferred", "higher"),
        "margin": Metric("", "by how much the better answers' reward is above the worse ones'", "higher"),
        "chosen_reward": Metric("", "reward of the better answers: beta times what they gained on the reference", None),
        "rejected_reward": Metric("", "reward of the worse answers", None),
        "chosen_logprob": Metric("nats/token", "how likely the better answers are; in many runs it falls", None),
    },
)
