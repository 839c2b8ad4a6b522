"""The KTO stage: learn to prefer from single answers, each of which is good or bad."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from pydantic import Field

from data.pack import labelled
from data.rows import LabelledRows
from jobs.stages import dpo, preferences, sft
from jobs.stages.preferences import METRICS, REFERENCE, ReferenceSettings, reference_logprobs
from jobs.stages.sampling import answering
from jobs.stages.spec import RunSpec
from jobs.stages.stage import DEFAULT_MODEL, Stage
from minimind.events import Metric
from minimind.network.model import MiniMind
from minimind.training.answers import AnswerBatch, answer_logprobs
from minimind.training.objectives import Loss, Models, Objective
from minimind.training.preference import LabelledLoss


class KtoConfig(ReferenceSettings):
    """What the stage has to be told; the loss is in `minimind/training/preference.py`."""

    kind: Literal["kto"] = "kto"
    beta: float = Field(default=0.1, gt=0, description="how strongly the policy is held to its reference")
    good_weight: float = Field(default=1.0, gt=0, description="what a good answer counts")
    bad_weight: float = Field(default=1.0, gt=0, description="what a bad answer counts")


def kto(size: str = DEFAULT_MODEL) -> RunSpec:
    """The settings of DPO, but for its data."""
    spec = dpo.dpo(size)
    data = spec.data.model_copy(update={"path": "data/stock/kto.jsonl"})
    return spec.model_copy(update={"name": "kto", "stage": KtoConfig(), "data": data})


def settings(spec: RunSpec) -> KtoConfig:
    """The stage's own."""
    assert isinstance(spec.stage, KtoConfig)
    return spec.stage


def objective(spec: RunSpec) -> Objective:
    """The loss of labelled answers."""
    own = settings(spec)
    loss = LabelledLoss(own.beta, own.good_weight, own.bad_weight)

    def preference(models: Models, batch: AnswerBatch) -> Loss:
        policy = models["policy"]
        assert isinstance(policy, MiniMind)
        reference_M = reference_logprobs(models, batch)
        return loss(batch, answer_logprobs(policy, batch), reference_M)

    return preference


def worst(spec: RunSpec) -> AnswerBatch:
    """Rows that an answer and one to another prompt fill."""
    batch = preferences.worst(spec)
    return replace(batch, good_A=torch.ones(batch.answers, dtype=torch.bool))


STAGE = Stage(
    title="prefer good answers to bad ones, from single answers with a label (KTO)",
    rows="kto",
    settings=KtoConfig,
    preset=kto,
    continues=True,
    prompt=sft.question,
    sampling=answering,
    models=preferences.models,
    asks=partial(preferences.asks, LabelledRows, labelled),
    objective=objective,
    data=partial(preferences.data, LabelledRows, labelled),
    worst=worst,
    usable=labelled,
    roles=(REFERENCE,),
    metrics=METRICS
    | {
        "good_reward": Metric("", "reward of the good answers: beta times what they gained on the reference", None),
        "bad_reward": Metric("", "reward of the bad answers", None),
    },
)
