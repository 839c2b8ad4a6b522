"""What stages that learn from preferences share: packed answers, and the reference that the policy began as."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from data.batches import OrderedBatches, in_order
from data.row_values import RowsWithValues, RowValues, Values
from data.rows import AnswerRows, Rows
from jobs.stages import supervised
from jobs.stages.division import divided
from jobs.stages.spec import RunSpec, StageSettings
from jobs.stages.stage import Asking, Corpus, Data, HeldOut, ModelSource, Usable
from minimind.device.distributed import Parallel
from minimind.events import Metric
from minimind.language import say
from minimind.network.lora import adapter_off
from minimind.network.model import MiniMind
from minimind.training.answers import AnswerBatch, answer_logprobs, rows_of, worst_answers
from minimind.training.objectives import Models

REFERENCE = "reference"

METRICS = {
    "accuracy": Metric("", "share of what is to be preferred, or not, that is as the data says", "higher"),
    "kl": Metric("nats/token", "how far the policy is from its reference, at least", None),
}
"""What more than one of these stages measures."""


class ReferenceSettings(StageSettings):
    """Base of the settings of stages whose loss compares the policy with a reference."""

    reference: Literal["model", "cached"] = Field(
        default="model",
        description="model: in memory beside the policy, or with an adapter the policy with its adapter off; cached: "
        "what it says of the answers is computed once before the training and kept, the choice for a small card",
    )

    @property
    def has_reference(self) -> bool:
        """Whether the loss compares with a reference at all."""
        return True

    @property
    def does_without(self) -> tuple[str, ...]:
        """The reference, where there is none."""
        return () if self.has_reference else (REFERENCE,)

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
    if not own.has_reference and REFERENCE in spec.roles:
        raise ValueError(
            say("roles.reference = {named}: this loss has no reference; leave it out", named=spec.roles[REFERENCE])
        )
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


def worst(spec: RunSpec) -> AnswerBatch:
    """Rows that two answers fill, of which every token is predicted."""
    return worst_answers(spec.loop.batch_size, spec.data.max_seq_len, known=settings(spec).is_cached)


def packed(rows: type[AnswerRows], usable: Usable, spec: RunSpec, corpus: Corpus) -> tuple[AnswerRows, AnswerRows]:
    """What is trained on and what is measured on: other shards, or a part of the same."""
    width, pad_id = spec.data.max_seq_len, corpus.tokenizer.pad_id
    training, measured, held_out = divided(spec, corpus, usable)
    return (
        rows(corpus.rows, training, width, pad_id, in_order=spec.data.in_order),
        rows(measured, held_out, width, pad_id),
    )


def data(
    rows: type[AnswerRows], usable: Usable, spec: RunSpec, corpus: Corpus, models: Models, parallel: Parallel
) -> Data:
    """Packed answers in an order of their own, with what the reference says of them where that is cached."""
    training, held_out = map(_with_known, packed(rows, usable, spec, corpus), corpus.known or (None, None))
    share: dict[str, Any] = {"batch_size": spec.loop.batch_size, "rank": parallel.rank, "world": parallel.world}
    return Data(
        OrderedBatches(training, seed=spec.seed, epochs=spec.loop.epochs, num_workers=spec.data.num_workers, **share),
        HeldOut(partial(in_order, held_out, **share)),
        supervised.held_out_text(spec, corpus, parallel),
    )


def asks(rows: type[AnswerRows], usable: Usable, spec: RunSpec) -> Asking | None:
    """What the reference is asked about the answers, where it is not to be in memory beside the policy."""
    if not settings(spec).is_cached:
        return None
    return Asking(REFERENCE, _ask, partial(packed, rows, usable, spec), token_bytes=4)


def _ask(reference: MiniMind, batch: AnswerBatch) -> tuple[Tensor, Values]:
    return rows_of(batch)[batch.answer_M], {"logprob": answer_logprobs(reference, batch).float()}


def _with_known(rows: AnswerRows, values: RowValues | None) -> Rows[AnswerBatch]:
    return rows if values is None else RowsWithValues(rows, values, _add)


def _add(batch: AnswerBatch, values: Values) -> AnswerBatch:
    return replace(batch, known_M=values["logprob"])
