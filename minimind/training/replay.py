"""Text that a model has learnt from before, replayed among the rows of a stage, lest it forget.

Of the replayed rows either the text itself is learnt again, as of any other row, or what the model from before the
stage says of it: self-distillation, of which Learning without Forgetting (Li & Hoiem 2016, arXiv:1606.09282) is the
first form. The text then is but a place to be asked at, and each token tells of the whole distribution.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from minimind.network.lora import adapter_off
from minimind.network.model import MiniMind
from minimind.training.batch import TokenBatch
from minimind.training.distillation import TEACHER, Distillation, WholeTeacher, distillation_loss
from minimind.training.objectives import Loss, Models, cross_entropy, predicting


@dataclass(frozen=True)
class ReplayBatch(TokenBatch):
    """Packed rows, the last of which are replayed text.

    replayed: how many of the rows. own: how many of N are of the other rows; counted when the batch is made.
    """

    replayed: int = 0
    own: int = -1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.own < 0:
            object.__setattr__(self, "own", int((self.predicted_N < self.own_rows * self.width).sum()))

    @property
    def own_rows(self) -> int:
        """How many rows are not replayed."""
        return len(self.tokens_BT) - self.replayed

    def split(self, rows: int) -> list[Self]:
        """The same rows in order, as batches of at most n each."""
        if len(self.tokens_BT) <= rows:
            return [self]
        ends = range(rows, len(self.tokens_BT) + rows, rows)
        return [
            replace(
                part, replayed=min(max(min(end, len(self.tokens_BT)) - self.own_rows, 0), len(part.tokens_BT)), own=-1
            )
            for part, end in zip(super().split(rows), ends, strict=True)
        ]

    def halved(self) -> Self:
        """Each row as two of half its length."""
        return replace(super().halved(), replayed=2 * self.replayed, own=-1)


def replay_loss(models: Models, batch: TokenBatch) -> Loss:
    """Cross-entropy of what is to be learnt in the stage's own rows, and KL(teacher || policy) of every token that the
    replayed rows predict, in nats.

    Roles: policy; teacher, the model from before the stage, frozen, and where there is none the policy with its adapter
    off.
    Metric: drift, the second part as a mean over its tokens; none where nothing is replayed.
    """
    policy = models["policy"]
    assert isinstance(policy, MiniMind)
    hidden_BTD = policy(batch.tokens_BT, batch.segment_BT)
    if not isinstance(batch, ReplayBatch) or not batch.replayed:
        return cross_entropy(hidden_BTD, policy.head_weight_VD, batch.tokens_BT, batch.predicted_N)
    loss = cross_entropy(hidden_BTD, policy.head_weight_VD, batch.tokens_BT, batch.predicted_N[: batch.own])
    text_N = batch.predicted_N[batch.own :]
    drift = distillation_loss(
        predicting(hidden_BTD, text_N),
        policy.head_weight_VD,
        batch.tokens_BT.flatten()[text_N],
        _teacher(models, policy, batch, text_N),
        Distillation(alpha=0.0),
    )
    metrics = {"drift": (drift.total.detach(), drift.weight)}
    return Loss(loss.total + drift.total, loss.weight + drift.weight, metrics)


@torch.no_grad()
def _teacher(models: Models, policy: MiniMind, batch: ReplayBatch, text_N: Tensor) -> WholeTeacher:
    """The model from before the stage, at the replayed places."""
    rows, first = slice(batch.own_rows, None), batch.own_rows * batch.width
    teacher = models.get(TEACHER)
    if teacher is None:
        with adapter_off(policy):
            hidden_BTD = policy(batch.tokens_BT[rows], batch.segment_BT[rows])
        teacher = policy
    else:
        hidden_BTD = teacher(batch.tokens_BT[rows], batch.segment_BT[rows])
    assert isinstance(teacher, MiniMind)
    return WholeTeacher(predicting(hidden_BTD, text_N - first), teacher.head_weight_VD)
