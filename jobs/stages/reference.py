"""What the policy is held to while it learns to prefer: the weights that it began as."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from data.row_values import RowsWithValues, RowValues, Values, row_values
from data.rows import AnswerRows, Rows
from jobs import paths
from jobs.stages import supervised
from jobs.stages.spec import RunSpec, StageSettings
from jobs.stages.stage import Computing, Corpus, ModelSource
from minimind.network.lora import adapter_off
from minimind.network.model import MiniMind
from minimind.training.answers import AnswerBatch, answer_logprobs, worst_answers
from minimind.training.objectives import Models

REFERENCE = "reference"


class ReferenceSettings(StageSettings):
    """Base of the settings of stages whose loss compares the policy with a reference."""

    reference: Literal["model", "cached"] = Field(
        default="model",
        description="model: in memory beside the policy, or with an adapter the policy with its adapter off; cached: "
        "what it says of the answers is computed once before the training and kept, the choice for a small card",
    )
    beta: float = Field(default=0.1, gt=0, description="how strongly the policy is held to its reference")

    @property
    def has_reference(self) -> bool:
        """Whether the loss compares with a reference at all."""
        return True

    @property
    def is_cached(self) -> bool:
        """Whether what it says is computed before the training."""
        return self.has_reference and self.reference == "cached"


def settings(spec: RunSpec) -> ReferenceSettings:
    """The stage's own."""
    assert isinstance(spec.stage, ReferenceSettings)
    return spec.stage


def models(spec: RunSpec, weights: ModelSource) -> dict[str, nn.Module]:
    """The policy, and where it is needed in memory the frozen model that it began as."""
    found, own = supervised.models(spec, weights), settings(spec)
    adapter_is_enough = spec.adapter is not None and REFERENCE not in spec.roles
    if own.has_reference and not own.is_cached and not adapter_is_enough:
        found[REFERENCE] = weights.role(REFERENCE)
    return found


def reference_logprobs(models: Models, batch: AnswerBatch) -> Tensor:
    """[M], what the reference thinks of each learnt token of each answer, in nats."""
    if batch.known_M is not None:
        return batch.known_M
    with torch.no_grad():
        reference = models.get(REFERENCE)
        if isinstance(reference, MiniMind):
            return answer_logprobs(reference, batch)
        policy = models["policy"]
        assert isinstance(policy, MiniMind)
        with adapter_off(policy):
            return answer_logprobs(policy, batch)


def annotate(
    spec: RunSpec, corpus: Corpus, computing: Computing, rows_of: Callable[[RunSpec, Corpus], dict[str, AnswerRows]]
) -> Corpus:
    """The corpus with what the reference says of its rows, where it is not to be in memory beside the policy."""
    if not settings(spec).is_cached:
        return corpus
    model: MiniMind | None = None

    @torch.no_grad()
    def compute(batch: AnswerBatch) -> tuple[Tensor, Values]:
        nonlocal model
        if model is None:
            model = computing.weights.role(REFERENCE).to(computing.parallel.device)
        with computing.precision.autocast():
            logprob_M = answer_logprobs(model, batch.to(computing.parallel.device))
        row_M = (batch.last_A // batch.tokens_BT.shape[1])[batch.answer_M]
        return torch.bincount(row_M, minlength=len(batch.rows)), {"logprob": logprob_M.float()}

    identity = {"model": computing.weights.fingerprint(REFERENCE), "dtype": computing.precision.name}
    known = {
        name: row_values(
            paths.cache() / "known",
            rows,
            identity,
            compute,
            batch_size=spec.loop.batch_size,
            parallel=computing.parallel,
            progress=partial(computing.progress, REFERENCE),
        )
        for name, rows in rows_of(spec, corpus).items()
    }
    return replace(corpus, known=known)


def worst(spec: RunSpec) -> AnswerBatch:
    """Rows that two answers fill, of which every token is predicted."""
    return worst_answers(spec.loop.batch_size, spec.data.max_seq_len, known=settings(spec).is_cached)


def with_known(rows: AnswerRows, known: RowValues | None) -> Rows[AnswerBatch]:
    """Rows whose batches carry what the reference says, where that is known."""
    return rows if known is None else RowsWithValues(rows, known, _add)


def _add(batch: AnswerBatch, values: Values) -> AnswerBatch:
    return replace(batch, known_M=values["logprob"])
