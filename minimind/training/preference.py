"""Losses of pairs: of two answers to a prompt one is to be preferred.

All are sums over pairs of a function of how likely a policy, and a reference that it began as, find the two answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minimind.network.model import MiniMind
from minimind.training.batch import PairBatch
from minimind.training.objectives import Loss, token_logprobs

LossName = Literal["sigmoid", "ipo", "hinge", "simpo", "orpo"]

WITHOUT_REFERENCE: tuple[LossName, ...] = ("simpo", "orpo")
"""These compare the two answers with each other alone: no second model is needed."""

BY_LENGTH: tuple[LossName, ...] = ("ipo", "simpo", "orpo")
"""These take the mean log-probability of an answer's tokens, the others their sum."""


@dataclass(frozen=True)
class Answers:
    """How likely a model finds the two answers of each pair, in nats. tokens: how long they are.

    chosen_P, rejected_P: the log-probability of the whole answer.
    """

    chosen_P: Tensor
    rejected_P: Tensor
    chosen_tokens_P: Tensor
    rejected_tokens_P: Tensor

    def margin(self, *, by_length: bool) -> Tensor:
        """[P], by how much the better answer is likelier: as a whole, or by the mean of its tokens."""
        if by_length:
            return self.chosen_P / self.chosen_tokens_P - self.rejected_P / self.rejected_tokens_P
        return self.chosen_P - self.rejected_P


def answers(model: nn.Module, batch: PairBatch) -> Answers:
    """What a model thinks of both answers of each pair."""
    assert isinstance(model, MiniMind)
    sides = batch.sides
    hidden_BTD = model(sides.tokens_BT, sides.segment_BT)
    logprob_N = token_logprobs(hidden_BTD, model.head_weight_VD, sides.tokens_BT, sides.predicted_N)
    rows, width = sides.tokens_BT.shape
    row_N = sides.predicted_N // width
    logprob_B = logprob_N.new_zeros(rows).index_add(0, row_N, logprob_N)
    tokens_B = logprob_N.new_zeros(rows).index_add(0, row_N, torch.ones_like(logprob_N))
    return Answers(logprob_B[0::2], logprob_B[1::2], tokens_B[0::2], tokens_B[1::2])


@dataclass(frozen=True)
class PreferenceLoss:
    """How a pair's loss follows from what policy and reference think of it.

    name: sigmoid is DPO (Rafailov et al. 2023, arXiv:2305.18290); ipo its squared form (Azar et al. 2023,
        arXiv:2310.12036) over mean log-probabilities; hinge SLiC's (Zhao et al. 2023, arXiv:2305.10425); simpo (Meng et
        al. 2024, arXiv:2405.14734) and orpo (Hong et al. 2024, arXiv:2403.07691) need no reference.
    beta: how strongly the policy is held to its reference; of simpo the scale of its margin, of orpo the weight of its
        odds ratio beside the chosen answer's own cross-entropy.
    gamma: simpo: the margin that is aimed at.
    label_smoothing: sigmoid and simpo: how many of the labels are taken to be the wrong way round.
    by_length: sigmoid and hinge: mean instead of summed log-probabilities; the others have their own.
    """

    name: LossName
    beta: float
    gamma: float = 0.0
    label_smoothing: float = 0.0
    by_length: bool = False

    def of(self, policy: Answers, reference: Answers | None) -> Tensor:
        """[P], the loss of each pair. reference: None for the losses that need none."""
        if self.name == "orpo":
            return self._orpo(policy)
        by_length = self.by_length or self.name in BY_LENGTH
        margin_P = policy.margin(by_length=by_length)
        if reference is not None:
            margin_P = margin_P - reference.margin(by_length=by_length)
        if self.name == "ipo":
            return (margin_P - 1 / (2 * self.beta)) ** 2
        scaled_P = self.beta * margin_P - self.gamma
        if self.name == "hinge":
            return F.relu(1 - scaled_P)
        return -F.logsigmoid(scaled_P) * (1 - self.label_smoothing) - F.logsigmoid(-scaled_P) * self.label_smoothing

    def _orpo(self, policy: Answers) -> Tensor:
        chosen_P, rejected_P = (
            policy.chosen_P / policy.chosen_tokens_P,
            policy.rejected_P / policy.rejected_tokens_P,
        )
        log_odds_P = (chosen_P - rejected_P) - (_log1m_exp(chosen_P) - _log1m_exp(rejected_P))
        return -chosen_P - self.beta * F.logsigmoid(log_odds_P)


def _log1m_exp(logprob_P: Tensor) -> Tensor:
    """log(1 - p) of log p, without loss where p is nearly 1."""
    return torch.log(-torch.expm1(logprob_P.clamp(max=-1e-7)))


def preference_loss(loss: PreferenceLoss, policy: Answers, reference: Answers | None, sft_weight: float = 0.0) -> Loss:
    """The summed loss of pairs, with what tells how it goes.

    sft_weight: how much of the chosen answer's own cross-entropy, per token, is added. Metrics: accuracy (the share of
    pairs whose better answer gains on the worse one against the reference), margin (by how much, in nats, times beta),
    the rewards of both sides, how likely the chosen answers are, and how far the policy went from its reference.
    """
    loss_P = loss.of(policy, reference)
    if sft_weight:
        loss_P = loss_P - sft_weight * policy.chosen_P / policy.chosen_tokens_P
    pairs = torch.full_like(loss_P.sum(), len(loss_P))
    with torch.no_grad():
        chosen_P, rejected_P = policy.chosen_P, policy.rejected_P
        if reference is not None:
            chosen_P, rejected_P = chosen_P - reference.chosen_P, rejected_P - reference.rejected_P
        rewards = {"chosen_reward": loss.beta * chosen_P, "rejected_reward": loss.beta * rejected_P}
        told = {
            "accuracy": (policy_prefers(loss, policy, reference), pairs),
            "margin": ((rewards["chosen_reward"] - rewards["rejected_reward"]).sum(), pairs),
            **{name: (value_P.sum(), pairs) for name, value_P in rewards.items()},
            "chosen_logprob": ((policy.chosen_P / policy.chosen_tokens_P).sum(), pairs),
        }
    return Loss(loss_P.sum(), pairs, told)


def policy_prefers(loss: PreferenceLoss, policy: Answers, reference: Answers | None) -> Tensor:
    """How many pairs have their better answer preferred, as this loss compares them."""
    by_length = loss.by_length or loss.name in BY_LENGTH
    margin_P = policy.margin(by_length=by_length)
    if reference is not None:
        margin_P = margin_P - reference.margin(by_length=by_length)
    return (margin_P > 0).sum().float()
