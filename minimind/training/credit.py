"""Who turns rewards into advantages: groups (GRPO), a memory of each prompt (SPO), a critic (PPO)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from minimind.training.advantages import (
    Floats,
    Ints,
    Scale,
    generalised_advantages,
    group_advantages,
    has_spread,
    separate_advantages,
    whitened,
)
from minimind.training.answers import AnswerBatch, answer_logprobs
from minimind.training.attempts import Credit, Credited, Tried
from minimind.training.objectives import Models
from minimind.training.policy import token_values
from minimind.training.rollout import PromptBatch, Writer, Written, in_rows
from minimind.training.tracker import Remembered, Tracker, changes


class GroupCredit(Credit):
    """Each attempt is compared with the others at its prompt. Groups without spread are left out.

    weight_K: of the terms, where each is brought to one scale before they are summed; None: they are summed first.
    """

    def __init__(self, scale: Scale, weight_K: Floats | None = None) -> None:
        self.scale, self.weight_K = scale, weight_K

    def give(self, tried: Tried, lengths: Sequence[int]) -> Sequence[Credited | None]:
        """The same advantage for every token of an attempt. Those of which nothing could be told are left out."""
        known_A, group_A = tried.known_A, tried.group_A[tried.known_A]
        advantage_A = np.zeros(len(known_A))
        if self.weight_K is None:
            advantage_A[known_A] = group_advantages(tried.reward_A[known_A], group_A, self.scale)
        else:
            advantage_A[known_A] = separate_advantages(tried.value_KA[:, known_A], self.weight_K, group_A)
        spread_G = self.spread(tried)
        return [
            Credited(np.full(length, advantage)) if known and spread_G[group] else None
            for advantage, known, group, length in zip(advantage_A, known_A, tried.group_A, lengths, strict=True)
        ]

    def spread(self, tried: Tried) -> NDArray[np.bool_]:
        """Where terms are brought to one scale each: whether one of those that count differs."""
        if self.weight_K is None:
            return super().spread(tried)
        weighted_KA = self.weight_K[:, None] * tried.value_KA
        spread_G: NDArray[np.bool_] = np.any([has_spread(value_A, tried.group_A) for value_A in weighted_KA], axis=0)
        return spread_G


class TrackedCredit(Credit):
    """Each attempt is compared with what is remembered of its prompt, and all of a step brought to one scale.

    rows: of attempts that are looked at together, at most: those of a micro-batch, whose memory is planned for. first:
    how many answers to every prompt it begins with, and this worker's share of the prompts.
    """

    def __init__(
        self,
        tracker: Tracker,
        writer: Writer,
        rows: int,
        first: tuple[int, Callable[[], Iterable[PromptBatch]]] = (0, tuple),
    ) -> None:
        self.tracker, self.writer, self.rows = tracker, writer, rows
        self._first_answers, self._first_prompts = first
        self._told: dict[str, tuple[float, float]] = {}

    @property
    def first_answers(self) -> int:
        """To each of `first_prompts`, until the tracker has begun with them."""
        return 0 if self.tracker.begun else self._first_answers

    def first_prompts(self) -> Iterable[PromptBatch]:
        """All prompts, of which this worker takes its share."""
        return self._first_prompts()

    def begin(self, row_A: Ints, reward_AN: Floats, whole_AN: NDArray[np.bool_]) -> None:
        """The tracker begins with them; where nothing could be told of a prompt's, it knows no more of it."""
        for row, reward_N, whole_N in zip(row_A.tolist(), reward_AN, whole_AN, strict=True):
            if whole_N.any():
                self.tracker.begin(row, reward_N[whole_N])
        self.tracker.begun = True

    def look(self, written: Sequence[Written]) -> tuple[list[float], list[Remembered]]:
        """How far the policy has moved on the last answer to each prompt, and the answers of now."""
        rows = [one.row for one in written if one.row in self.tracker.answers]
        then = [self.tracker.answers[row] for row in rows]
        moved = dict(zip(rows, changes(then, self._logprobs(then)), strict=True))
        return (
            [moved.get(one.row, 0.0) for one in written],
            [Remembered(one.tokens, one.prompt, one.logprobs, one.told) for one in written],
        )

    def give(self, tried: Tried, lengths: Sequence[int]) -> Sequence[Credited | None]:
        """Reward less expectation, over all attempts of the step to one scale; then every attempt is remembered whose
        whole reward could be told. Of an attempt of which nothing could, nothing is learnt.
        """
        expected_A = self.tracker.expected(tried.row_A)
        advantage_A = np.zeros(len(expected_A))
        advantage_A[tried.known_A] = whitened((tried.reward_A - expected_A)[tried.known_A])
        moved = [one for of_rank, _ in tried.looked for one in of_rank]
        answers = [one for _, of_rank in tried.looked for one in of_rank]
        for at in np.flatnonzero(tried.whole_A).tolist():
            self.tracker.update(int(tried.row_A[at]), float(tried.reward_A[at]), moved[at], answers[at])
        count = float(len(moved))
        self._told = {"expected_reward": (float(expected_A.sum()), count), "moved": (float(sum(moved)), count)}
        return [
            Credited(np.full(length, worth)) if known else None
            for worth, known, length in zip(advantage_A, tried.known_A, lengths, strict=True)
        ]

    def told(self) -> dict[str, tuple[float, float]]:
        """What was expected, and how far the policy had moved."""
        return self._told

    def state_dict(self) -> dict[str, Any]:
        """That of the tracker."""
        return self.tracker.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where `state_dict` stood."""
        self.tracker.load_state_dict(state)

    def _logprobs(self, answers: Sequence[Remembered]) -> list[list[float]]:
        """What the policy of now says of the tokens of answers of before."""
        texts = [Written(at, one.tokens, one.prompt, one.logprobs, True, 0, one.told) for at, one in enumerate(answers)]
        with self.writer.as_it_is() as policy:
            return _of_tokens(self.writer, self.rows, texts, lambda batch: answer_logprobs(policy, batch))


class CriticCredit(Credit):
    """A critic says before each token what reward it expects, and each token is worth what came beyond that (GAE).

    rows: as of a TrackedCredit. discount, trace: gamma and lambda. kl: what each nat costs that a token is away from a
    reference, beside what its answer brings; estimate: gives [M], how far that is, where kl is not 0.
    """

    def __init__(
        self,
        models: Models,
        writer: Writer,
        rows: int,
        discount: float,
        trace: float,
        kl: float = 0.0,
        estimate: Callable[[AnswerBatch], torch.Tensor] | None = None,
    ) -> None:
        self.models, self.writer, self.rows = models, writer, rows
        self.discount, self.trace = discount, trace
        self.kl, self.estimate = kl, estimate
        self._told: dict[str, tuple[float, float]] = {}

    def look(self, written: Sequence[Written]) -> list[tuple[list[float], list[float]]]:
        """What the critic says before each token of each attempt, and how far it is from a reference."""
        with self.writer.as_it_is():
            values = _of_tokens(self.writer, self.rows, written, partial(token_values, self.models))
            away = [[0.0] * len(one.own) for one in written]
            if self.kl:
                away = _of_tokens(self.writer, self.rows, written, self.estimate)
        return list(zip(values, away, strict=True))

    def give(self, tried: Tried, lengths: Sequence[int]) -> Sequence[Credited | None]:
        """Advantages with mean 0 and deviation 1 over all tokens of the step. Of an attempt of which nothing could be
        told, nothing is learnt; where a part could, the critic is to say what it said.
        """
        looked = [one for of_rank in tried.looked for one in of_rank]
        if self.kl:
            self._told = {"kl": (sum(sum(away) for _, away in looked), float(sum(lengths)))}
        found: list[Credited | None] = []
        for reward, known, whole, (value, away) in zip(
            tried.reward_A.tolist(), tried.known_A, tried.whole_A, looked, strict=True
        ):
            value_T, reward_T = np.array(value), -self.kl * np.array(away)
            reward_T[-1] += reward
            advantage_T, return_T = generalised_advantages(reward_T, value_T, self.discount, self.trace)
            found.append(Credited(advantage_T, value_T, return_T if whole else value_T) if known else None)
        learnt = [one for one in found if one is not None]
        if learnt:
            white_M = whitened(np.concatenate([one.advantage_T for one in learnt]))
            ends = np.cumsum([len(one.advantage_T) for one in learnt])
            white = iter(np.split(white_M, ends[:-1]))
            found = [None if one is None else replace(one, advantage_T=next(white)) for one in found]
        return found

    def told(self) -> dict[str, tuple[float, float]]:
        """How far the policy is from its reference, where that costs."""
        return self._told


def _of_tokens(writer: Writer, rows: int, written: Sequence[Written], compute: Any) -> list[list[float]]:
    """What a model computes of the own tokens of answers, so many rows at once, and no more than the writer writes
    answers. compute: AnswerBatch -> [M].
    """
    how, device = writer.how, writer.policy.head_weight_VD.device
    found: list[list[float]] = [[] for _ in written]
    if not written:
        return found
    batch, order = in_rows([[one.answer] for one in written], range(len(written)), how.context_tokens, how.pad_id)
    values: list[float] = []
    with torch.no_grad():
        for part in batch.split(min(rows, writer.slots)):
            values += cast(torch.Tensor, compute(part.to(device))).float().cpu().tolist()
    rest = iter(values)
    for at in order:
        found[at] = [next(rest) for _ in written[at].own]
    return found
