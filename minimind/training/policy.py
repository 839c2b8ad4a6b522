"""Policy gradients: answers that turned out better than was to be expected become likelier, the others less likely.

A token of an answer has an advantage A and a ratio r = exp(log p - log p_old) of the probabilities that the policy
gives to it now and gave to it when the step began. The surrogate that a step raises is

    PPO     min(r A, clip(r, 1 - low, 1 + high) A)          Schulman et al. 2017, arXiv:1707.06347
    CISPO   clip(r, max = most) log p A, no gradient through the clipped ratio     MiniMax 2025, arXiv:2506.13585

with `low` and `high` apart (DAPO: Yu et al. 2025, arXiv:2503.14476). GRPO, PPO and SPO differ in where A comes from
(`minimind.training.advantages`, `minimind.training.tracker`), not here.

Where the ratio is of whole sequences (GSPO: Zheng et al. 2025, arXiv:2507.18071), r of each token is the geometric mean
over its answer. Dual clip (Ye et al. 2020, arXiv:1912.09729): where A < 0 a token counts at most `dual_clip` A, however
likely it has become.

A step that is the first on its answers has r = 1, and its gradient is that of log p A. What was drawn from may differ
from what is trained by rounding, in bf16 by more: each token is weighted by min(p_old / p_drawn, `most_gap`) (truncated
importance sampling: Yao et al. 2025), which on a CPU in fp32 is 1 to four digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor

from minimind.config import Config
from minimind.language import say
from minimind.network.model import MiniMind
from minimind.network.score import ScoreModel, ValueHead
from minimind.training.answers import AnswerBatch, answer_states, summed, worst_tree
from minimind.training.batch import Movable
from minimind.training.objectives import Loss, Models

Kl = Literal["k1", "k2", "k3"]
"""Estimators of KL(policy || reference) from drawn tokens (Schulman 2020, "Approximating KL divergence"): with d =
log p - log p_reference, k1 = d, k2 = d^2 / 2, k3 = exp(-d) - 1 + d. In a loss the gradient of k1 is 0 on average: there
k2 has that of the KL, and k3 about that. In a reward only k1 has it.
"""

Per = Literal["token", "answer", "constant"]
"""What has one weight in a loss: see `PolicyLoss.per`."""

Told = tuple[tuple[str, float, float], ...]
"""Metrics of a step that no loss computes: name, sum, count."""


class PolicyLoss(Config):
    """How a policy learns from its attempts."""

    surrogate: Literal["ppo", "cispo"] = Field(
        default="ppo", description="ppo: clipped; cispo: the clipped ratio is a weight of log p, and every token learns"
    )
    ratio: Literal["token", "sequence"] = Field(
        default="token", description="what is compared with its old probability: each token, or the answer (GSPO)"
    )
    clip_low: float = Field(default=0.2, gt=0, lt=1, description="how far a ratio may fall below 1 and still count")
    clip_high: float = Field(default=0.28, gt=0, description="how far it may rise above 1; of cispo the most it may be")
    dual_clip: float | None = Field(
        default=None, gt=1, description="how often at most a token of a bad answer counts, however likely it became"
    )
    per: Per = Field(
        default="token",
        description="what has one weight: token: each token of all answers (DAPO); answer: each answer, so that tokens "
        "of long ones count less (GRPO's paper); constant: as token, divided by max_new_tokens (Dr. GRPO)",
    )
    kl: float = Field(
        default=0.0, ge=0, description="how strongly the policy is held to its reference; 0: there is none"
    )
    kl_estimator: Kl | None = Field(
        default=None,
        description="k1, k2 or k3: see minimind/training/policy.py; null: k3 in the loss, k1 in a reward",
    )
    entropy: float = Field(
        default=0.0, ge=0, description="how much a policy gets for not being sure, in nats per token"
    )
    most_gap: float = Field(
        default=2.0,
        ge=1,
        description="by how much at most a token's probability may differ from what it was drawn with",
    )

    @model_validator(mode="after")
    def _fitting(self) -> PolicyLoss:
        if self.surrogate == "cispo" and self.dual_clip is not None:
            raise ValueError(
                say("dual_clip = {value}: cispo has its own bound, clip_high; set it to null", value=self.dual_clip)
            )
        if self.surrogate == "cispo" and self.clip_high < 1:
            raise ValueError(
                say(
                    "clip_high = {value}: of cispo it is the most a ratio may be; below 1 every token would be held "
                    "back. 5 is usual",
                    value=self.clip_high,
                )
            )
        return self


@dataclass(frozen=True, kw_only=True)
class PolicyBatch(AnswerBatch):
    """Attempts, and what came of them.

    advantage_M: float32, of each learnt token of each answer. drawn_M: its log-probability as it was drawn, in nats.
    old_M: that by the policy as the step began, where this is not the first step on it; else None. room: how many
    tokens an answer could have had. Of a critic: value_M, what it said before each token, and return_M, what it should
    have said. told: what is to be said of all attempts of the step, those that are not here among them: name -> (sum,
    count).
    """

    advantage_M: Tensor
    drawn_M: Tensor
    old_M: Tensor | None = None
    value_M: Tensor | None = None
    return_M: Tensor | None = None
    room: int = 1
    told: Told = ()

    @classmethod
    def worst(
        cls,
        rows: int,
        context_tokens: int,
        answers: int,
        room: int,
        *,
        old: bool,
        critic: bool = False,
        told: int = 0,
    ) -> Self:
        """One that costs as much as one can: in each row a prompt with so many answers of `room` tokens that are learnt
        and `told` that are not, or of as many as the context leaves beside one token of the prompt. old, critic:
        whether it has what these say.
        """
        each = min(room + told, context_tokens - 1)
        stem = context_tokens - each
        batch = worst_tree(rows, stem, answers, each, stem + answers * each, learnt=min(room, each))
        zeros_M = torch.zeros(len(batch.member_M))
        of_critic = zeros_M if critic else None
        return cls(
            **vars(batch),
            advantage_M=zeros_M,
            drawn_M=zeros_M,
            old_M=zeros_M if old else None,
            value_M=of_critic,
            return_M=of_critic,
            room=room,
        )

    def split(self, rows: int) -> Sequence[Self]:
        """The same rows in order, as batches of at most n each; the first tells what is to be told."""
        first, *others = super().split(rows)
        return [first, *(replace(part, told=()) for part in others)]


@dataclass(frozen=True)
class Examined:
    """An answer to a held-out prompt, as it is kept for people. row: of the prompt, whose last turn is `prompt`.
    terms: what each term of the reward says, before its weight. right: by what says so. tokens: of the answer.
    """

    row: int
    prompt: str
    answer: str
    right_answer: str
    terms: dict[str, float]
    reward: float
    right: bool
    tokens: int
    finished: bool


@dataclass(frozen=True)
class JudgedBatch(Movable):
    """Answers to held-out prompts, of which nothing is learnt. rows: of the prompts. told: how good they are.
    examined: the answers, one to each.
    """

    rows: tuple[int, ...]
    told: Told
    examined: tuple[Examined, ...] = ()

    real_tokens: ClassVar[int] = 0
    slots: ClassVar[int] = 0
    width: ClassVar[int] = 0

    def split(self, rows: int) -> Sequence[Self]:
        """The whole: nothing is computed of it."""
        return [self]

    def halved(self) -> Self:
        """Raises TypeError: answers are not cut."""
        raise TypeError("answers make sense only whole")

    @property
    def loss(self) -> Loss:
        """Minus the summed reward."""
        pairs = {name: (torch.tensor(total), torch.tensor(count)) for name, total, count in self.told}
        total, count = pairs["reward"]
        return Loss(-total, count, pairs)


def policy_loss(how: PolicyLoss, batch: PolicyBatch, logprob_M: Tensor, reference_M: Tensor | None = None) -> Loss:
    """The summed loss of the attempts, by units of `how.per`.

    logprob_M: what the policy says of each learnt token of each answer now, in nats and at the temperature at which it
    was drawn. reference_M: what the reference says, where `how.kl` is not 0.

    Metrics, means over tokens unless it is said otherwise: entropy, -log p, in nats; clip_low, clip_high, how many
    tokens the clip keeps from being learnt; gap, |log p_old - log p_drawn|; gap_clipped, how many of these `most_gap`
    bounds; kl, by the estimator; and what the batch is told.
    """
    was_M = logprob_M.detach() if batch.old_M is None else batch.old_M
    change_M = logprob_M - was_M
    compared_M = change_M if how.ratio == "token" else _means_of_answers(change_M, batch)[batch.answer_M]
    ratio_M, advantage_M = compared_M.exp(), batch.advantage_M
    if how.surrogate == "cispo":
        gain_M = ratio_M.detach().clamp(max=how.clip_high) * advantage_M * logprob_M
        low_M, high_M = torch.zeros_like(ratio_M, dtype=torch.bool), ratio_M > how.clip_high
    else:
        plain_M = ratio_M * advantage_M
        clipped_M = ratio_M.clamp(1 - how.clip_low, 1 + how.clip_high) * advantage_M
        gain_M = torch.minimum(plain_M, clipped_M)
        if how.dual_clip is not None:
            gain_M = torch.where(advantage_M < 0, torch.maximum(gain_M, how.dual_clip * advantage_M), gain_M)
        low_M = (ratio_M < 1 - how.clip_low) & (advantage_M < 0)
        high_M = (ratio_M > 1 + how.clip_high) & (advantage_M > 0)
    with torch.no_grad():
        gap_M = was_M - batch.drawn_M
        weight_M = gap_M.exp().clamp(max=how.most_gap)
    loss_M = -gain_M * weight_M
    if how.entropy:  # of E[-log p] the gradient is that of log p times -log p, for the mean of log p's own is 0
        loss_M = loss_M + how.entropy * logprob_M.detach() * change_M.exp()
    count = torch.full_like(logprob_M[:1].sum(), len(logprob_M))
    metrics = {
        "entropy": (-logprob_M.detach().sum(), count),
        "clip_low": (low_M.sum(), count),
        "clip_high": (high_M.sum(), count),
        "gap": (gap_M.abs().sum(), count),
        "gap_clipped": ((gap_M.exp() > how.most_gap).sum(), count),
    }
    if how.kl:
        assert reference_M is not None, "kl asks for a reference"
        kl_M = kl_estimate(how.kl_estimator or "k3", logprob_M, reference_M)
        loss_M = loss_M + how.kl * kl_M
        metrics["kl"] = (kl_M.detach().sum(), count)
    for name, total, number in batch.told:
        metrics[name] = (torch.full_like(count, total), torch.full_like(count, number))
    return Loss(*_by_units(how.per, loss_M, batch), metrics)


def kl_estimate(name: Kl, logprob_M: Tensor, reference_M: Tensor) -> Tensor:
    """[M], what each drawn token says of KL(policy || reference)."""
    difference_M = logprob_M - reference_M
    if name == "k1":
        return difference_M
    if name == "k2":
        return difference_M**2 / 2
    return torch.expm1(-difference_M) + difference_M


def value_loss(value_M: Tensor, batch: PolicyBatch, clip: float | None, per: Per = "token") -> Loss:
    """Half the squared error of a critic, by the units of the policy's loss beside it (PPO). value_M: what it says now
    before each token. clip: how far it may go from what it said; beyond, only what is worse than staying counts. None:
    as far as it will.

    Metrics, means over tokens: value_error, the squared error; value_clipped, how many tokens are beyond.
    """
    assert batch.return_M is not None
    error_M = (value_M - batch.return_M) ** 2
    count = torch.full_like(error_M[:1].sum(), len(error_M))
    metrics = {"value_error": (error_M.detach().sum(), count)}
    if clip is not None:
        assert batch.value_M is not None
        near_M = batch.value_M + (value_M - batch.value_M).clamp(-clip, clip)
        held_M = (near_M - batch.return_M) ** 2
        metrics["value_clipped"] = ((held_M > error_M).sum(), count)
        error_M = torch.maximum(error_M, held_M)
    return Loss(*_by_units(per, error_M / 2, batch), metrics)


def token_values(models: Models, batch: AnswerBatch, state_ND: Tensor | None = None) -> Tensor:
    """[M], what the role "critic" expects before each learnt token of each answer: a `ScoreModel` by itself, a
    `ValueHead` from the policy's states. state_ND: these, where they are known already.
    """
    critic = models["critic"]
    if isinstance(critic, ValueHead):
        if state_ND is None:
            policy = models["policy"]
            assert isinstance(policy, MiniMind)
            state_ND = answer_states(policy, batch)
        value_N = critic(state_ND)
    else:
        assert isinstance(critic, ScoreModel)
        score_BT = critic.scores(batch.tokens_BT, batch.segment_BT, batch.branch_BT)
        value_N = score_BT.flatten()[batch.context_N]
    return cast(Tensor, value_N)[batch.member_M].float()


def _by_units(per: Per, loss_M: Tensor, batch: PolicyBatch) -> tuple[Tensor, Tensor]:
    """What tokens add up to, and over how many units."""
    tokens, answers = (torch.full_like(loss_M[:1].sum(), count) for count in (len(loss_M), batch.answers))
    if per == "token":
        return loss_M.sum(), tokens
    if per == "constant":
        return loss_M.sum() / batch.room, answers
    return _means_of_answers(loss_M, batch).sum(), answers


def _means_of_answers(value_M: Tensor, batch: AnswerBatch) -> Tensor:
    """[A], of the values of each answer's learnt tokens."""
    lengths_A = summed(torch.ones_like(value_M), batch)
    return summed(value_M, batch) / lengths_A.clamp(min=1)
