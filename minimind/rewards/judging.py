"""Judging answers by the terms of a reward: a number for each term and answer, whatever fails."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from minimind.language import say
from minimind.rewards.terms import TERMS, Attempt, Elsewhere, Python, Term, Unjudged, names_of
from minimind.rewards.user_code import UserCode
from minimind.training.advantages import without_failures

Scorer = Callable[[Sequence[Attempt]], Sequence[float]]
"""Judges answers for a term: a number for each, an `Unjudged` where it could not. What it raises ends the judging."""

LARGEST = 1e15
"""A score beyond this, on either side, counts as none: sums and squares of such are of no use to training."""


@dataclass(frozen=True, eq=False)
class Judged:
    """What answers are worth.

    values_KA: float64, of each term and answer; all are finite, for what failed has a neutral value.
    failed_KA: which answers each term could not judge. names: of the terms, none twice.
    """

    values_KA: NDArray[np.float64]
    failed_KA: NDArray[np.bool_]
    names: tuple[str, ...]

    @property
    def failed_K(self) -> NDArray[np.int64]:  # noqa: N802  # named as tensors are: K is its shape
        """How many answers each term could not judge."""
        failed_K: NDArray[np.int64] = self.failed_KA.sum(axis=1)
        return failed_K

    def total(self, weights: Sequence[float]) -> NDArray[np.float64]:
        """The weighted sum of the terms, one for each answer, added up in the order of the terms."""
        total_A = np.zeros(self.values_KA.shape[1])
        for weight, values_A in zip(weights, self.values_KA, strict=True):
            total_A += weight * values_A
        return total_A


class Rewards:
    """Judges answers by terms. Use it in one thread at a time, and close it: user code runs in processes of its own.

    scorers: for each term that is judged elsewhere (`reward_model`, `judge`) what judges, by the term's name, which
        `names_of` says beforehand.
    folder: where user code is looked for, before PYTHONPATH; the working directory if None.

    problems: the name of a term -> why it last could not judge an answer.

    Raises ValueError for no terms, and for user code that cannot be found or imported.
    """

    def __init__(
        self, terms: Sequence[Term], *, scorers: Mapping[str, Scorer] | None = None, folder: Path | None = None
    ) -> None:
        if not terms:
            raise ValueError(say("a reward has at least one term; there are: {names}", names=", ".join(TERMS)))
        self.names = names_of(terms)
        self.weights = tuple(term.weight for term in terms)
        self.problems: dict[str, str] = {}
        given = dict(scorers or {})
        with ExitStack() as opened:
            self._scorers = [
                _scorer(term, name, given, folder or Path.cwd(), opened)
                for term, name in zip(terms, self.names, strict=True)
            ]
            if given:
                raise TypeError(f"scorers for what is no term that needs one: {', '.join(given)}")
            self._opened = opened.pop_all()

    def judge(self, attempts: Sequence[Attempt], groups: Sequence[int]) -> Judged:
        """The value of each answer by each term. groups: for each attempt, which prompt it answers.

        A score that failed is replaced by the mean of the same term among the other answers of its group, else among
        all that are judged here, else by 0, so that it neither rewards nor punishes. It is marked in `failed_KA`,
        and the first reason of the call stands in `problems`.
        """
        if len(groups) != len(attempts):
            raise TypeError(f"{len(attempts)} attempts with {len(groups)} groups")
        groups_A = np.asarray(groups, dtype=np.int64)
        values_KA = np.zeros((len(self.names), len(attempts)))
        failed_KA = np.zeros(values_KA.shape, dtype=np.bool_)
        for number, (name, scorer) in enumerate(zip(self.names, self._scorers, strict=True)):
            scores = scorer(attempts) if attempts else []
            if len(scores) != len(attempts):
                raise TypeError(f"the scorer of {name} gave {len(scores)} scores for {len(attempts)} answers")
            failed_KA[number] = [not _is_good(score) for score in scores]
            if failed_KA[number].any():
                self.problems[name] = _reason(scores[int(failed_KA[number].argmax())])
            values_KA[number] = without_failures(np.array(scores, dtype=np.float64), failed_KA[number], groups_A)
        return Judged(values_KA, failed_KA, self.names)

    def close(self) -> None:
        """Ends the processes of user code. Closing twice is harmless."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _scorer(term: Term, name: str, given: dict[str, Scorer], folder: Path, opened: ExitStack) -> Scorer:
    """What judges for a term, taken out of those that were given where the term has none of its own."""
    if isinstance(term, Python):
        code = UserCode(term, folder)
        opened.callback(code.close)
        return code.scores
    if isinstance(term, Elsewhere):
        if name not in given:
            raise TypeError(f"no scorer for the term {name}")
        return given.pop(name)
    return term.scores


def _is_good(score: float) -> bool:
    return math.isfinite(score) and abs(score) <= LARGEST


def _reason(score: float) -> str:
    if isinstance(score, Unjudged):
        return score.reason
    return say("the score {score:g} is no number that can be used", score=score)
