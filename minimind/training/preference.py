"""Losses of preferences: of two answers to a prompt one is the better, or of single answers each is good or bad.

All are sums over pairs, or answers, of a function of how likely they are to a policy, and to a reference that it began
as.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from minimind.training.answers import AnswerBatch, rows_of, summed
from minimind.training.objectives import Loss

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

    def compared(self, *, by_length: bool) -> tuple[Tensor, Tensor]:
        """[P] and [P], the log-probability of both answers: of the whole, or the mean of their tokens."""
        if by_length:
            return self.chosen_P / self.chosen_tokens_P, self.rejected_P / self.rejected_tokens_P
        return self.chosen_P, self.rejected_P


def pair_answers(logprob_M: Tensor, batch: AnswerBatch) -> Answers:
    """What a model thinks of both answers of each pair. logprob_M: of each learnt token."""
    logprob_A, tokens_A = summed(logprob_M, batch), summed(torch.ones_like(logprob_M), batch)
    return Answers(logprob_A[0::2], logprob_A[1::2], tokens_A[0::2], tokens_A[1::2])


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

    def rewards(self, policy: Answers, reference: Answers | None) -> tuple[Tensor, Tensor]:
        """[P] and [P], beta times what the better and the worse answers have gained on the reference; None for losses
        that need none.
        """
        chosen_P, rejected_P = policy.compared(by_length=self._by_length)
        if reference is not None:
            chosen_was_P, rejected_was_P = reference.compared(by_length=self._by_length)
            chosen_P, rejected_P = chosen_P - chosen_was_P, rejected_P - rejected_was_P
        return self.beta * chosen_P, self.beta * rejected_P

    def of(self, policy: Answers, reference: Answers | None) -> Tensor:
        """[P], the loss of each pair."""
        if self.name == "orpo":
            return self._orpo(policy)
        chosen_P, rejected_P = self.rewards(policy, reference)
        margin_P = chosen_P - rejected_P
        if self.name == "ipo":
            return (margin_P / self.beta - 1 / (2 * self.beta)) ** 2
        scaled_P = margin_P - self.gamma
        if self.name == "hinge":
            return F.relu(1 - scaled_P)
        return -F.logsigmoid(scaled_P) * (1 - self.label_smoothing) - F.logsigmoid(-scaled_P) * self.label_smoothing

    @property
    def _by_length(self) -> bool:
        return self.by_length or self.name in BY_LENGTH

    def _orpo(self, policy: Answers) -> Tensor:
        chosen_P, rejected_P = policy.compared(by_length=True)
        log_odds_P = (chosen_P - rejected_P) - (_log1m_exp(chosen_P) - _log1m_exp(rejected_P))
        return -chosen_P - self.beta * F.logsigmoid(log_odds_P)


def _log1m_exp(logprob_P: Tensor) -> Tensor:
    """log(1 - p) of log p, without loss where p is nearly 1."""
    return torch.log(-torch.expm1(logprob_P.clamp(max=-1e-7)))


def preference_loss(
    loss: PreferenceLoss, batch: AnswerBatch, logprob_M: Tensor, reference_M: Tensor | None, sft_weight: float = 0.0
) -> Loss:
    """The summed loss of pairs, with what tells how it goes.

    logprob_M, reference_M: what policy and reference think of each learnt token, in nats; None for losses without a
    reference. sft_weight: how much of the chosen answer's own cross-entropy, per token, is added.

    Metrics, all of what this loss compares: accuracy, the share of pairs whose better answer gains more on the
    reference than the worse one, those where both gain alike counting half; margin, by how much, times beta; the
    rewards of both sides, of which that is the difference; chosen_logprob, how likely the better answers are, per
    token; kl, see `two_way_kl`.
    """
    policy = pair_answers(logprob_M, batch)
    reference = pair_answers(reference_M, batch) if reference_M is not None else None
    loss_P = loss.of(policy, reference)
    mean_logprob_P = policy.chosen_P / policy.chosen_tokens_P
    if sft_weight:
        loss_P = loss_P - sft_weight * mean_logprob_P
    pairs = torch.full_like(loss_P[:1].sum(), len(loss_P))
    with torch.no_grad():
        chosen_P, rejected_P = loss.rewards(policy, reference)
        metrics = {
            "accuracy": ((chosen_P > rejected_P).sum() + (chosen_P == rejected_P).sum() / 2, pairs),
            "margin": ((chosen_P - rejected_P).sum(), pairs),
            "chosen_reward": (chosen_P.sum(), pairs),
            "rejected_reward": (rejected_P.sum(), pairs),
            "chosen_logprob": (mean_logprob_P.sum(), pairs),
        }
        if reference_M is not None:
            metrics["kl"] = (two_way_kl(logprob_M, reference_M).sum(), torch.full_like(pairs, len(logprob_M)))
    return Loss(loss_P.sum(), pairs, metrics)


def two_way_kl(logprob_M: Tensor, reference_M: Tensor) -> Tensor:
    """[M], the divergence KL(policy || reference) of "this token, or any other", in nats.

    Never more than that of the whole distributions, for nothing is gained by telling less apart; and it needs what is
    known of the tokens at hand alone.
    """
    p_M = logprob_M.exp()
    others_M = (1 - p_M) * (_log1m_exp(logprob_M) - _log1m_exp(reference_M))
    return p_M * (logprob_M - reference_M) + others_M


@dataclass(frozen=True)
class LabelledLoss:
    """How an answer's loss follows from what policy and reference think of it, and from its label: KTO (Ethayarajh et
    al. 2024, arXiv:2402.01306).

    A good answer is to gain more on the reference than any text does, a bad one less. What any text gains is estimated,
    for each row of a batch, of answers to other prompts: a row is never taken apart, so how many are computed at once
    changes nothing.

    beta: how strongly the policy is held to its reference. good_weight, bad_weight: what the two kinds count; where
    there are many more of one, the paper lets the weights make up for it.
    """

    beta: float
    good_weight: float = 1.0
    bad_weight: float = 1.0

    def __call__(self, batch: AnswerBatch, logprob_M: Tensor, reference_M: Tensor) -> Loss:
        """The summed loss of the labelled answers of a batch, each of which is followed by one to another prompt.

        Metrics: accuracy, the share of answers on their side of what any text gains; good_reward and bad_reward, beta
        times what these gain; kl, see `two_way_kl`, of the answers themselves.
        """
        assert batch.good_A is not None
        gained_A = summed(logprob_M - reference_M, batch)
        gained_P, any_P, row_P = gained_A[0::2], gained_A[1::2].detach(), rows_of(batch)[0::2]
        rows = len(batch.rows)
        sum_R, count_R = (any_P.new_zeros(rows).index_add(0, row_P, each) for each in (any_P, torch.ones_like(any_P)))
        above_P = self.beta * (gained_P - (sum_R / count_R).clamp(min=0)[row_P])
        good_P = batch.good_A[0::2]
        sign_P = torch.where(good_P, 1.0, -1.0)
        weight_P = torch.where(good_P, self.good_weight, self.bad_weight)
        total = (weight_P * (1 - torch.sigmoid(sign_P * above_P))).sum()
        count = torch.full_like(total, len(good_P))
        with torch.no_grad():
            reward_P, good = self.beta * gained_P, good_P.sum().to(total)
            own_M = batch.answer_M % 2 == 0
            kl_M = two_way_kl(logprob_M, reference_M) * own_M
            metrics = {
                "accuracy": ((sign_P * above_P > 0).sum() + (above_P == 0).sum() / 2, count),
                "good_reward": ((reward_P * good_P).sum(), good),
                "bad_reward": ((reward_P * ~good_P).sum(), count - good),
                "kl": (kl_M.sum(), own_M.sum().to(total)),
            }
        return Loss(total, count, metrics)
