"""Text that a model has learnt from before, replayed among the rows of a stage, lest it forget.

Of the replayed rows either the text itself is learnt again, as of any other row, or what the model from before the
stage says of it: self-distillation, of which Learning without Forgetting (Li & Hoiem 2016, arXiv:1606.09282) is the
first form. The text then is but a place to be asked at, and each token tells of the whole distribution.

Beside attempts, which have units of their own, its mean loss is added to theirs with a weight: PPO-ptx of InstructGPT
(Ouyang et al. 2022, arXiv:2203.02155).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from minimind.network.lora import adapter_off
from minimind.network.model import MiniMind
from minimind.training.batch import TokenBatch
from minimind.training.distillation import TEACHER, Distillation, WholeTeacher, distillation_loss
from minimind.training.objectives import Loss, Models, cross_entropy, next_token_loss, predicting
from minimind.training.recipe import BatchSource


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


@dataclass(frozen=True)
class BesideBatch(TokenBatch):
    """Text replayed beside attempts. unit: what each of its predicted tokens counts in the attempts' loss."""

    unit: float = 0.0

    def split(self, rows: int) -> list[Self]:
        """The same rows in order, as batches of at most n each."""
        return [replace(part, unit=self.unit) for part in super().split(rows)]

    def halved(self) -> Self:
        """Each row as two of half its length."""
        return replace(super().halved(), unit=self.unit)


def beside_loss(models: Models, batch: BesideBatch) -> Loss:
    """Cross-entropy of replayed text, as a part of the loss of the attempts beside it: it has no weight of its own.

    Metric: replayed_loss, its mean in nats.
    """
    loss = next_token_loss(models, batch)
    metrics = {"replayed_loss": (loss.total.detach(), loss.weight)}
    return Loss(batch.unit * loss.total, torch.zeros_like(loss.weight), metrics)


class Beside:
    """Text that is replayed beside attempts, step after step.

    text: gives the rows of a step in one `TokenBatch`, the same on every rank; it has no end. weight: what their mean
    loss counts beside that of the attempts (gamma of InstructGPT). at_once: rows of a micro-batch at most.
    """

    def __init__(self, text: BatchSource, weight: float, at_once: int, *, rank: int = 0, world: int = 1) -> None:
        self.text, self.weight, self.at_once = text, weight, at_once
        self.rank, self.world = rank, world

    def take(self, units: float) -> list[BesideBatch]:
        """Rows of the next step that are this rank's. units: of the attempts' loss, on all ranks."""
        (whole,) = self.text.take(1)
        assert isinstance(whole, TokenBatch)
        unit = self.weight * units / max(1, len(whole.predicted_N))
        mine = whole.split(1)[self.rank :: self.world]
        return [together(mine[at : at + self.at_once], unit) for at in range(0, len(mine), self.at_once)]


def together(parts: Sequence[TokenBatch], unit: float) -> BesideBatch:
    """The rows of batches of one width, in one."""
    tokens_BT, mask_BT, segment_BT = (
        torch.cat([getattr(part, name) for part in parts]) for name in ("tokens_BT", "loss_mask_BT", "segment_BT")
    )
    return BesideBatch(tokens_BT, mask_BT, segment_BT, tuple(row for part in parts for row in part.rows), unit=unit)
