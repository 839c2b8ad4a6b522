"""What there is to say of a model that can be asked for. Plain data: it crosses process boundaries and becomes JSON."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model.

    created: unix seconds. root: the checkpoint it means, as run@step. chat: whether it has learnt to answer; one that
    has not continues text, or, where `scores` is true, judges answers and writes nothing. stock: it learnt to answer
    from the stock data, so its topics can be asked. parent: the checkpoint whose weights it started from, as run@step.
    weights: equal for equal weights, "" where the checkpoint is damaged. sampling: how it is sampled unless a request
    says otherwise, under the names of minimind.inference.sampling.Sampling; empty where it gives scores.
    """

    id: str
    created: int
    root: str
    stage: str
    step: int
    chat: bool = True
    scores: bool = False
    stock: bool = False
    parent: str | None = None
    weights: str = ""
    sampling: dict[str, float] = field(default_factory=dict)
