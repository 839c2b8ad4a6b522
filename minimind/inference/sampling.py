"""How the next token is chosen from logits: pure functions, and the settings of one request.

The random number of a token is decided by (seed, position) alone, never by what else is in the batch. It picks a token
by the inverse of the distribution function, so that logits which differ by rounding pick another one only if the number
falls into the gap between the two functions: less than once in 100,000 tokens in fp32.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

GREEDY_BELOW = 1e-5
"""Temperatures below this take the likeliest token: what else they could draw is a tie but for rounding."""

MOST = 1e6
"""The largest temperature and penalty: more would change nothing, but leave what fp32 can hold."""

LEAST_REPETITION_PENALTY = 0.01

CANDIDATES = 256
"""Top-p looks at this number of the likeliest tokens before it sorts all of them, which takes ten times as long."""


@dataclass(frozen=True)
class SamplingParams:
    """How one request is continued. Everything is checked here; errors name the setting.

    max_tokens: the most tokens that are written; 0 computes the prompt only.
    temperature: logits are divided by it; 0, and what is below GREEDY_BELOW, takes the likeliest token. top_k, top_p,
        min_p: only the k likeliest tokens; the likeliest that have p of the probability together; those with at least
        min_p of the likeliest one's probability. 0, 1 and 0 switch them off. They apply in this order, each to what the
        one before left.
    repetition_penalty: logits of tokens seen in prompt or answer are divided by it where positive and multiplied where
        negative (Keskar et al. 2019). presence_penalty, frequency_penalty: subtracted from the logits of tokens in the
        answer, once, and once per occurrence (OpenAI's).
    seed: the same seed gives the same answer; None draws one.
    stop_ids: tokens that end the answer. stop: texts that end it and are no part of it.
    logprobs: None gives no log-probs, 0 that of every token written, n also the n likeliest at its place. They are the
        model's own: of its logits, without temperature, penalties and limits. prompt_logprobs: the same for the prompt.
    """

    max_tokens: int
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    stop_ids: tuple[int, ...] = ()
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    prompt_logprobs: int | None = None

    def __post_init__(self) -> None:
        self._require(self.max_tokens >= 0, "max_tokens", "0 or more")
        self._require(0 <= self.temperature <= MOST, "temperature", f"0 to {MOST:.0f}; 0 takes the likeliest token")
        self._require(self.top_k >= 0, "top_k", "0 or more; 0 switches it off")
        self._require(0 < self.top_p <= 1, "top_p", "above 0 and at most 1; 1 switches it off")
        self._require(0 <= self.min_p <= 1, "min_p", "0 to 1; 0 switches it off")
        least = LEAST_REPETITION_PENALTY
        fits = least <= self.repetition_penalty <= MOST
        self._require(fits, "repetition_penalty", f"{least} to {MOST:.0f}; 1 switches it off")
        for name in ("presence_penalty", "frequency_penalty"):
            self._require(abs(getattr(self, name)) <= MOST, name, f"-{MOST:.0f} to {MOST:.0f}; 0 switches it off")
        self._require("" not in self.stop, "stop", "texts of at least one character")
        for name in ("logprobs", "prompt_logprobs"):
            self._require((getattr(self, name) or 0) >= 0, name, "None, or how many alternatives: 0 or more")

    def _require(self, holds: bool, name: str, allowed: str) -> None:
        if not holds:
            value: Any = getattr(self, name)
            raise ValueError(f"{name} = {value!r}: allowed is {allowed}")

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken."""
        return self.temperature < GREEDY_BELOW

    @property
    def penalised(self) -> bool:
        """Whether what was written before changes the logits."""
        return (self.repetition_penalty, self.presence_penalty, self.frequency_penalty) != (1, 0, 0)

    @property
    def limited(self) -> bool:
        """Whether some tokens are left out of the draw."""
        return bool(self.top_k) or self.top_p < 1 or self.min_p > 0


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a model is sampled where a request does not say: a checkpoint carries it. Checked as in SamplingParams."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        SamplingParams(max_tokens=0, **asdict(self))


def noise(seed: int, position: int) -> float:
    """The number in [0, 1) that chooses the token at `position` of a text with this seed."""
    digest = hashlib.blake2b(f"{seed} {position}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def penalise(logits_V: Tensor, params: SamplingParams, seen_ids: Tensor, written_ids: Tensor) -> Tensor:
    """The logits of one request after its penalties, finite where they were.

    seen_ids: int64 ids of prompt and answer; written_ids: of the answer. Both may repeat.
    """
    logits_V = logits_V.clone()
    if params.repetition_penalty != 1:
        seen = logits_V[seen_ids]
        penalty = params.repetition_penalty
        logits_V[seen_ids] = torch.where(seen > 0, seen / penalty, seen * penalty)
    if len(written_ids) and (params.presence_penalty or params.frequency_penalty):
        count_V = torch.bincount(written_ids, minlength=len(logits_V))
        logits_V -= params.frequency_penalty * count_V + params.presence_penalty * (count_V > 0)
    most = torch.finfo(logits_V.dtype).max
    return logits_V.clamp_(-most, most)


def limit(logits_BV: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    """The logits with -inf where top-k, top-p or min-p leave a token out. Tokens as likely as the last one stay.

    logits_BV: already divided by the temperature. params: one for each row. Top-p is Holtzman et al. 2020
    (arXiv:1904.09751), min-p Nguyen et al. 2024 (arXiv:2407.01082).
    """
    vocab_size = logits_BV.shape[1]
    few = max(1, *(p.top_k for p in params), CANDIDATES if any(p.top_p < 1 for p in params) else 1)
    floor_B1, found = _floor(logits_BV, params, min(few, vocab_size))
    if not found:
        floor_B1, _ = _floor(logits_BV, params, vocab_size)
    return logits_BV.masked_fill(logits_BV < floor_B1, -math.inf)


def _floor(logits_BV: Tensor, params: Sequence[SamplingParams], width: int) -> tuple[Tensor, bool]:
    """The least logit [B, 1] that stays, and whether it was found: top-p may reach below the `width` largest."""
    device, vocab_size = logits_BV.device, logits_BV.shape[1]
    top_k_B1 = torch.tensor([[min(p.top_k, vocab_size) or vocab_size] for p in params], device=device)
    top_p_B1 = torch.tensor([[p.top_p] for p in params], device=device)
    min_p_B1 = torch.tensor([[p.min_p] for p in params], device=device)
    all_stay_B1 = (top_k_B1 == vocab_size) & (top_p_B1 == 1)

    sorted_BW = logits_BV.topk(width).values
    kept_BW = sorted_BW.masked_fill(torch.arange(width, device=device) >= top_k_B1, -math.inf)
    whole_B1 = torch.where(top_k_B1 < vocab_size, kept_BW.logsumexp(1, True), logits_BV.logsumexp(1, True))
    sum_BW = (kept_BW - whole_B1).exp().cumsum(1)
    beyond_B1 = (top_k_B1 == vocab_size) & (top_p_B1 < 1) & (sum_BW[:, -1:] < top_p_B1)
    # A token stays if those before it have less than top_p of the probability: the likeliest always does.
    enough_B1 = torch.where(top_p_B1 < 1, (sum_BW < top_p_B1).sum(1, True), vocab_size)
    last_B1 = enough_B1.minimum(top_k_B1 - 1).clamp(max=width - 1)
    floor_B1 = kept_BW.gather(1, last_B1).masked_fill(all_stay_B1, -math.inf)
    return floor_B1.maximum(sorted_BW[:, :1] + min_p_B1.log()), width == vocab_size or not bool(beyond_B1.any())


def choose(logits_BV: Tensor, params: Sequence[SamplingParams], noise_B: Sequence[float]) -> list[int]:
    """The next token of every row.

    logits_BV: fp32 and finite, after penalties. params, noise_B: each row's settings and its number from `noise`.
    """
    rows = [row for row, p in enumerate(params) if not p.greedy]
    chosen_B = logits_BV.argmax(1) if len(rows) < len(params) else logits_BV.new_zeros(len(params), dtype=torch.int64)
    if rows:
        some = [params[row] for row in rows]
        scaled_RV = logits_BV if len(rows) == len(params) else logits_BV[rows]
        if any(p.temperature != 1 for p in some):
            temperature_R = torch.tensor([p.temperature for p in some], device=scaled_RV.device)
            # Subtracting the largest first keeps a tiny temperature from giving infinities.
            scaled_RV = (scaled_RV - scaled_RV.amax(1, keepdim=True)) / temperature_R[:, None]
        if any(p.limited for p in some):
            scaled_RV = limit(scaled_RV, some)
        below_RV = scaled_RV.softmax(1).cumsum(1, dtype=torch.float64)
        noise_R = torch.tensor([noise_B[row] for row in rows], dtype=torch.float64, device=scaled_RV.device)
        # The first token whose sum exceeds the number: one of probability zero never does so first.
        token_R1 = torch.searchsorted(below_RV, noise_R[:, None] * below_RV[:, -1:], right=True)
        chosen_B[rows] = token_R1[:, 0]
    chosen: list[int] = chosen_B.tolist()
    return chosen


TopLogprobs = tuple[tuple[int, float], ...]
"""(token id, log-prob) of the likeliest tokens at one place, best first."""


def token_logprobs(logits_BV: Tensor, token_ids: Sequence[int], alternatives: int) -> list[tuple[float, TopLogprobs]]:
    """The log-prob of each row's token, and the `alternatives` likeliest ones at its place."""
    logprobs_BV = logits_BV.float().log_softmax(1)
    token_B1 = torch.tensor(token_ids, device=logits_BV.device)[:, None]
    logprobs: list[float] = logprobs_BV.gather(1, token_B1)[:, 0].tolist()
    if not alternatives:
        return [(logprob, ()) for logprob in logprobs]
    best = logprobs_BV.topk(min(alternatives, logits_BV.shape[1]))
    tops = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [
        (logprob, tuple(zip(ids, values, strict=True))) for logprob, (ids, values) in zip(logprobs, tops, strict=True)
    ]
