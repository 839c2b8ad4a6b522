"""Attempts at prompts, judged: prompts -> answers of the policy of now -> rewards -> advantages -> batches.

A source of the one loop, for PPO, GRPO and SPO alike; where they differ is a `Credit`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from minimind.device.distributed import Parallel
from minimind.device.limit import is_out_of_memory
from minimind.language import say
from minimind.training.advantages import Floats, Ints, has_spread, without_failures
from minimind.training.answers import answer_logprobs
from minimind.training.policy import Examined, JudgedBatch, Per, PolicyBatch, Told
from minimind.training.replay import Beside, BesideBatch
from minimind.training.rollout import PromptBatch, PromptSource, Writer, Written, in_rows, numbered
from minimind.training.signal import RIGHT, Signal, Standing, signal

T = TypeVar("T")

PROMPTS_WITHOUT_SIGNAL = 256
"""If none of so many has any, a run ends: in error one run in eight where one answer in a thousand is right."""


BEFORE_ALL = -1
"""A position that no step has."""


@dataclass(frozen=True)
class Verdict:
    """What the terms of a reward say of answers. value_KA: of each term of each answer, finite. failed_KA: where a
    term could not tell. problems: of those that could not, why, by their names.
    """

    value_KA: Floats
    failed_KA: NDArray[np.bool_]
    problems: Mapping[str, str] = field(default_factory=dict)

    @property
    def failed_K(self) -> Ints:  # noqa: N802  # named as tensors are: K is its shape
        """How often each term could not tell."""
        failed_K: Ints = self.failed_KA.sum(axis=1)
        return failed_K


class Judge(Protocol):
    """Tells how good answers are. names: of the terms of the reward. weight_K: what each counts."""

    names: tuple[str, ...]
    weight_K: Floats

    def judge(self, written: Sequence[Written]) -> Verdict:
        """Of answers, those to one prompt one after the other. The same at any time, whatever else is asked."""
        ...

    def worst(self) -> None:
        """What judging takes of the device's memory, with nothing judged."""
        ...


class Examiner(Judge, Protocol):
    """Judges answers to held-out prompts."""

    def right(self, written: Sequence[Written], verdict: Verdict) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which of them are right, and of which that could be told. verdict: what was found of them."""
        ...

    def texts(self, one: Written) -> tuple[str, str, str]:
        """The prompt's last turn, the answer and the right answer."""
        ...


@dataclass(frozen=True)
class Tried:
    """What came of all attempts of a step, on all workers, in the order of their prompts.

    row_A: the prompt of each. group_A: ascending from 0, the attempts of one prompt at one time. reward_A: the terms'
    sum by weight. looked: what `Credit.look` gave on each worker.

    Where a term could not judge an answer, its value is neutral (`advantages.without_failures`): it depends on the
    others' answers and not on this one, so that this one is learnt from by what its other terms say. But that is not
    what the answer brought. So two things are told apart, of the terms that weigh something:

    whole_A: all of them could tell. Of no other attempt a tracker remembers the reward, and a critic is held to it.
    known_A: at least one could. Of no other attempt anything is learnt: it is as if it had not been made.
    """

    row_A: Ints
    group_A: Ints
    value_KA: Floats
    reward_A: Floats
    looked: Sequence[Any]
    whole_A: NDArray[np.bool_]
    known_A: NDArray[np.bool_]


@dataclass(frozen=True)
class Credited:
    """What an attempt's own tokens are worth. advantage_T; of a critic also what it said, value_T, and what it should
    have said, return_T.
    """

    advantage_T: Floats
    value_T: Floats | None = None
    return_T: Floats | None = None


_Found = tuple[list[Written], Verdict, Any]
"""Attempts of a worker, what is found of them, and what its credit sees in them."""


class Credit(ABC):
    """Who turns rewards into advantages. What it remembers between steps is the same on every worker."""

    @property
    def first_answers(self) -> int:
        """To each of `first_prompts`, before the next step; 0 where it has seen them or wants none."""
        return 0

    def first_prompts(self) -> Iterable[PromptBatch]:
        """What of this worker it wants to see answered first."""
        return ()

    def begin(self, row_A: Ints, reward_AN: Floats, whole_AN: NDArray[np.bool_]) -> None:
        """Remember the first answers. row_A: prompts, of all workers. reward_AN: of N answers to each. whole_AN: of
        which it could be told (`Tried`).
        """
        raise NotImplementedError  # nobody calls it where first_answers is 0

    def look(self, written: Sequence[Written]) -> Any:
        """What this worker's models say of its attempts, for all workers to know. It computes, and changes nothing."""
        return None

    @abstractmethod
    def give(self, tried: Tried, lengths: Sequence[int]) -> Sequence[Credited | None]:
        """Of each attempt of all workers; None where there is nothing to learn from. lengths: of each, in tokens."""

    def spread(self, tried: Tried) -> NDArray[np.bool_]:
        """[G], whether the attempts at a prompt differ in what they are compared by."""
        return has_spread(tried.reward_A, tried.group_A)

    def told(self) -> dict[str, tuple[float, float]]:
        """Metrics of the last step: name -> (sum, count). The same on every worker."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What it remembers."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Remember that."""
        assert not state, f"a {type(self).__name__} remembers nothing"


@dataclass(frozen=True)
class Trying:
    """passes: optimizer steps on each set of attempts. stop_kl: no more of them once KL(before them || now), estimated
    in nats per token, is larger; None: all. learn_cut: whether answers that were cut off are learnt from. draws: how
    often at most prompts are drawn until as many groups as are drawn at once have signal (dynamic sampling: DAPO).
    first_is_true: whether the first term of the reward says what is right.
    """

    passes: int = 1
    stop_kl: float | None = None
    learn_cut: bool = True
    draws: int = 1
    first_is_true: bool = True


class Attempts:
    """A GeneratingSource of `PolicyBatch`, and of `BesideBatch` where text is replayed beside them.

    A set of attempts is written, judged and credited when a step asks for it. It is then learnt from in `how.passes`
    steps; what of it has not been taken is part of the state. per: the units of its loss. beside: text that is replayed
    in each step that learns from attempts.
    """

    def __init__(
        self,
        prompts: PromptSource,
        writer: Writer,
        judge: Judge,
        credit: Credit,
        how: Trying,
        parallel: Parallel,
        *,
        per: Per = "token",
        beside: Beside | None = None,
    ) -> None:
        self.prompts, self.writer, self.judge, self.credit = prompts, writer, judge, credit
        self.how, self.parallel = how, parallel
        self.per, self.beside = per, beside
        self._set: list[PolicyBatch] = []
        self._units = 0
        self._passes_left = 0
        self._untold: Told = ()
        self._without_signal: list[Standing] | None = []
        self._failures = Failures()

    @property
    def done(self) -> bool:
        """True when every prompt has been tried and learnt from."""
        return self.prompts.done and not self._passes_left

    def total_steps(self, accumulation_steps: int) -> int:
        """Optimizer steps until then."""
        return self.prompts.total_steps(accumulation_steps) * self.how.passes

    def take(self, count: int) -> list[PolicyBatch | BesideBatch]:
        """The micro-batches of the next step: `attempt`, and where that is something anywhere the text beside it."""
        attempts = self.attempt(count)
        beside = self.beside.take(self._units) if self.beside is not None and self._units else []
        return [*attempts, *beside]

    def attempt(self, count: int) -> list[PolicyBatch]:
        """The micro-batches of the next step: as many as there are prompts for, fewer where nothing can be learnt."""
        if self._passes_left:
            moved = self._everywhere(self._moved)
            if moved is None:
                return []
            if not self._too_far(moved):
                self._passes_left -= 1
                return self._set
        if not self._begin():
            return []
        self._set, self._units, self._passes_left = [], 0, 0
        batches: list[PromptBatch] = []
        known: list[_Found] = []
        for _ in range(self.how.draws):
            position = self.prompts.position
            drawn = self.prompts.take(count)
            found = self._everywhere(partial(self._try, position, drawn))
            if found is None:
                return []
            batches += drawn
            known = [_both(*pair) for pair in zip(known, found, strict=True)] if known else found
            if self.prompts.done or self._has_enough(known, found):
                break
        for _, verdict, _ in known:
            self._failures.count(self.judge.names, verdict)
        self._set, self._units = self._learnable(batches, known)
        self._passes_left = self.how.passes - 1 if self._units else 0
        # Of the first step on them the ratio is 1, whatever rounding makes of it.
        return [replace(batch, old_M=None) for batch in self._set]

    def stop_reading_ahead(self) -> bool:
        """Whether the prompts were read ahead."""
        return self.prompts.stop_reading_ahead()

    def generate_less(self) -> str:
        """Write half as many answers at once."""
        return self.writer.write_less()

    def worst_take(self) -> None:
        """What writing and judging take in memory, with nothing written."""
        self.writer.worst()
        self.judge.worst()

    def remarks(self) -> list[str]:
        """Why terms could not judge answers, of any worker."""
        return self._failures.remarks()

    def problems(self) -> Mapping[str, str]:
        """Why each term last could not judge an answer, by its name."""
        return self._failures.problems

    def state_dict(self) -> dict[str, Any]:
        """Where the prompts stand, what is remembered of them, and the attempts that are still to be learnt from."""
        return {
            "prompts": self.prompts.state_dict(),
            "slots": self.writer.slots,
            "credit": self.credit.state_dict(),
            "passes_left": self._passes_left,
            "set": [vars(batch) for batch in self._set] if self._passes_left else [],
            "units": self._units,
            "text": self.beside.text.state_dict() if self.beside is not None else None,
            "untold": self._untold,
            "without_signal": self._without_signal,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where `state_dict` stood."""
        self.prompts.load_state_dict(state["prompts"])
        self.writer.slots = state["slots"]
        self.credit.load_state_dict(state["credit"])
        self._passes_left = state["passes_left"]
        self._set = [PolicyBatch(**fields) for fields in state["set"]]
        self._units = state.get("units", 0)  # a state from before there was replay has none
        if self.beside is not None:
            self.beside.text.load_state_dict(state["text"])
        self._untold = state["untold"]
        self._without_signal = state["without_signal"]

    def go_back(self, state: dict[str, Any]) -> None:
        """Credit what `state_dict` had credited then; attempts of a policy that is no more are not learnt from."""
        self.credit.load_state_dict(state["credit"])
        self._set, self._units, self._passes_left = [], 0, 0

    def _everywhere(self, compute: Callable[[], T]) -> list[T] | None:
        """What each worker computes; None where memory runs out on another, and all take again. Here that raises."""
        found: T | None = None
        shortage: Exception | None = None
        try:
            found = compute()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            shortage = error
        everyone = self.parallel.gather(found)  # also where memory ran out, lest the others wait for ever
        if shortage is not None:
            raise shortage
        known = [one for one in everyone if one is not None]
        return known if len(known) == len(everyone) else None

    def _begin(self) -> bool:
        """Show the credit the first answers that it wants. False where memory runs out on another worker."""
        count = self.credit.first_answers
        if not count:
            return True

        def first() -> list[tuple[Sequence[int], Verdict]]:
            found: list[tuple[Sequence[int], Verdict]] = []
            for batch in self.credit.first_prompts():
                groups = self.writer.write(BEFORE_ALL, numbered([batch]), answers=count)
                found.append((batch.rows, self.judge.judge([one for group in groups for one in group])))
            return found

        everyone = self._everywhere(first)
        if everyone is None:
            return False
        found = [one for of_rank in everyone for one in of_rank]
        row_A = np.array([row for rows, _ in found for row in rows], dtype=np.int64)
        verdicts, weight_K = [verdict for _, verdict in found], self.judge.weight_K
        value_KA, (whole_A, _) = values_of(verdicts, np.repeat(row_A, count)), told_in(verdicts, weight_K)
        self.credit.begin(row_A, (weight_K @ value_KA).reshape(-1, count), whole_A.reshape(-1, count))
        return True

    def _try(self, position: int, batches: Sequence[PromptBatch]) -> _Found:
        """Answers of this worker to its prompts, what is found of them, and what the credit sees in them."""
        written = [one for group in self.writer.write(position, numbered(batches)) for one in group]
        return written, self.judge.judge(written), self.credit.look(written)

    def _has_enough(self, known: Sequence[_Found], drawn: Sequence[_Found]) -> bool:
        """Whether there are as many groups with signal as are drawn at once."""
        if self.how.draws == 1:
            return True
        tried = tried_of(known, self.judge.weight_K, self.writer.how.answers)
        wanted = sum(len(written) for written, _, _ in drawn) // self.writer.how.answers
        return int(self.credit.spread(tried).sum()) >= wanted

    def _moved(self) -> tuple[float, int]:
        """Over the tokens of this worker's attempts, the sum of what each says of KL(before them || now), and how many.

        With d = log p now - log p before, exp(d) - 1 - d (Schulman 2020, "Approximating KL divergence").
        """
        if self.how.stop_kl is None:
            return 0.0, 0
        total, count = 0.0, 0
        with self.writer.as_it_is() as policy:
            for part in (part for batch in self._set for part in batch.split(self.writer.slots)):
                assert part.old_M is not None
                change_M = answer_logprobs(policy, part.to(policy.head_weight_VD.device)).cpu() - part.old_M
                total, count = total + float((torch.expm1(change_M) - change_M).sum()), count + len(change_M)
        return total, count

    def _too_far(self, moved: Sequence[tuple[float, int]]) -> bool:
        """Whether all workers together have moved further than they may; that is told with the next attempts."""
        if self.how.stop_kl is None:
            return False
        total, count = (sum(part[at] for part in moved) for at in (0, 1))
        stops = total > self.how.stop_kl * count
        self._untold = with_more(self._untold, (("stopped", float(stops), 1.0),))
        return stops

    def _learnable(self, batches: Sequence[PromptBatch], everyone: Sequence[_Found]) -> tuple[list[PolicyBatch], int]:
        """What of this worker's attempts there is something to learn from, in its micro-batches, and how many units of
        loss that of all workers has.

        What is to be said of all attempts goes with the first of them, on whichever worker; where there are none, with
        those of a later step.
        """
        answers = self.writer.how.answers
        tried = tried_of(everyone, self.judge.weight_K, answers)
        if answers > 1:
            self._require_signal(tried)
        written = [one for of_rank, _, _ in everyone for one in of_rank]
        credited = iter(self.credit.give(tried, [len(one.own) for one in written]))
        worth = [[(one, self._learnt(one, next(credited))) for one in of_rank] for of_rank, _, _ in everyone]
        learning = [rank for rank, of_rank in enumerate(worth) if any(credit for _, credit in of_rank)]
        told = with_more(self._untold, self._told(tried, written, [verdict for _, verdict, _ in everyone]))
        self._untold = () if learning else told
        mine = iter(worth[self.parallel.rank])
        found: list[PolicyBatch] = []
        for batch in batches:
            groups = [[next(mine) for _ in range(answers)] for _ in batch.rows]
            kept = [[(one, credit) for one, credit in group if credit] for group in groups]
            if kept := [group for group in kept if group]:
                found.append(self._batch(kept, told if not found and self.parallel.rank == learning[0] else ()))
        lengths = [len(one.own) for of_rank in worth for one, credit in of_rank if credit]
        return found, sum(lengths) if self.per == "token" else len(lengths)

    def _require_signal(self, tried: Tried) -> None:
        """Raise ValueError, with what to do, where none of the first PROMPTS_WITHOUT_SIGNAL prompts has any, or of all
        where these are fewer.
        """
        if self._without_signal is None:
            return
        if self.credit.spread(tried).any():
            self._without_signal = None
            return
        right_A = tried.value_KA[0] >= RIGHT if self.how.first_is_true else None
        found = signal(tried.reward_A, right_A, tried.group_A)
        # A new list: the old one may stand in a state to which all go back where memory runs out.
        self._without_signal = [*self._without_signal, *found.standings]
        if len(self._without_signal) >= PROMPTS_WITHOUT_SIGNAL or self.prompts.done:
            raise ValueError(Signal(tuple(self._without_signal)).advice)

    def _learnt(self, one: Written, credit: Credited | None) -> Credited | None:
        return credit if one.finished or self.how.learn_cut else None

    def _told(self, tried: Tried, written: Sequence[Written], verdicts: Sequence[Verdict]) -> Told:
        verdict = Verdict(tried.value_KA, np.concatenate([verdict.failed_KA for verdict in verdicts], axis=1))
        told = told_of(self.judge, written, verdict, calls=self.writer.tools is not None)
        if written and self.writer.how.answers > 1:
            spread_G = self.credit.spread(tried)
            told = (*told, ("no_signal", float((~spread_G).sum()), float(len(spread_G))))
        return (*told, *((name, total, count) for name, (total, count) in self.credit.told().items()))

    def _batch(self, groups: Sequence[Sequence[tuple[Written, Credited]]], told: Told) -> PolicyBatch:
        how = self.writer.how
        rows = [group[0][0].row for group in groups]
        batch, order = in_rows(
            [[one.answer for one, _ in group] for group in groups], rows, how.context_tokens, how.pad_id
        )
        inside = [pair for at in order for pair in groups[at]]

        def joined(parts: Sequence[NDArray[Any] | Sequence[float] | None]) -> Tensor | None:
            given = [part for part in parts if part is not None]
            return torch.tensor(np.concatenate(given), dtype=torch.float32) if given else None

        policy_batch = PolicyBatch(
            **vars(batch),
            advantage_M=cast(Tensor, joined([credit.advantage_T for _, credit in inside])),
            drawn_M=cast(Tensor, joined([one.logprobs for one, _ in inside])),
            value_M=joined([credit.value_T for _, credit in inside]),
            return_M=joined([credit.return_T for _, credit in inside]),
            room=how.max_tokens,
            told=told,
        )
        if self.how.passes == 1:
            return policy_batch
        with self.writer.as_it_is() as policy:
            device, parts = policy.head_weight_VD.device, policy_batch.split(self.writer.slots)
            old_M = torch.cat([answer_logprobs(policy, part.to(device)).cpu() for part in parts])
        return replace(policy_batch, old_M=old_M)


def _both(one: _Found, other: _Found) -> _Found:
    """What a worker tried, and tried after that. Only of a credit that looks at nothing."""
    (written, verdict, looked), (more, of_more, _) = one, other
    assert looked is None, "a credit that looks at attempts takes all of a step at once"
    value_KA = np.concatenate([verdict.value_KA, of_more.value_KA], axis=1)
    failed_KA = np.concatenate([verdict.failed_KA, of_more.failed_KA], axis=1)
    return [*written, *more], Verdict(value_KA, failed_KA, {**verdict.problems, **of_more.problems}), None


class Failures:
    """Judgements that could not be made, since the run was begun or went on: said at first, and whenever they are twice
    as many. problems: why, of each term the last.
    """

    def __init__(self) -> None:
        self._failed: dict[str, int] = {}
        self._said: dict[str, int] = {}
        self.problems: dict[str, str] = {}
        self._judged = 0

    def count(self, names: Sequence[str], verdict: Verdict) -> None:
        """Add what a worker's terms could not judge. names: of the terms."""
        self._judged += verdict.value_KA.shape[1]
        for name, failed in zip(names, verdict.failed_K, strict=True):
            self._failed[name] = self._failed.get(name, 0) + int(failed)
        self.problems |= verdict.problems

    def remarks(self) -> list[str]:
        """What is to be said now."""
        said = []
        for name, failed in self._failed.items():
            if failed and failed >= 2 * self._said.get(name, 0):
                self._said[name] = failed
                said.append(
                    say(
                        "the reward {name} could not judge {failed} of {count} answers, which it neither rewards nor "
                        "punishes: {problem}",
                        name=name,
                        failed=failed,
                        count=self._judged,
                        problem=self.problems.get(name, "?"),
                    )
                )
        return said


def tried_of(everyone: Sequence[_Found], weight_K: Floats, answers: int) -> Tried:
    """The attempts of all workers, one worker after the other. answers: to each prompt."""
    row_A = np.array([one.row for written, _, _ in everyone for one in written], dtype=np.int64)
    group_A = np.arange(len(row_A)) // answers
    verdicts = [verdict for _, verdict, _ in everyone]
    value_KA, (whole_A, known_A) = values_of(verdicts, group_A), told_in(verdicts, weight_K)
    return Tried(
        row_A=row_A,
        group_A=group_A,
        value_KA=value_KA,
        reward_A=weight_K @ value_KA,
        looked=[looked for _, _, looked in everyone],
        whole_A=whole_A,
        known_A=known_A,
    )


def values_of(verdicts: Sequence[Verdict], group_A: Ints) -> Floats:
    """[K, A], what each term says of all of these answers: what could not be told is neutral among all, however they
    are shared out among workers and draws.
    """
    value_KA = np.concatenate([verdict.value_KA for verdict in verdicts], axis=1)
    failed_KA = np.concatenate([verdict.failed_KA for verdict in verdicts], axis=1)
    terms = zip(value_KA, failed_KA, strict=True)
    return np.stack([without_failures(value_A, failed_A, group_A) for value_A, failed_A in terms])


def told_in(verdicts: Sequence[Verdict], weight_K: Floats) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """[A] each: of which of these answers all terms that weigh something could tell, and of which any could."""
    failed_KA = np.concatenate([verdict.failed_KA for verdict in verdicts], axis=1)[weight_K != 0]
    return ~failed_KA.any(axis=0), ~failed_KA.all(axis=0)


def told_of(judge: Judge, written: Sequence[Written], verdict: Verdict, *, calls: bool = False) -> Told:
    """What is to be said of attempts: their reward and each of its terms, how long they are and how many were cut off,
    and how much they repeat; calls: also how often they call tools, and how often that fails.
    """
    count = len(written)
    if not count:
        return ()
    reward_A = judge.weight_K @ verdict.value_KA
    told = [("reward", float(reward_A.sum()), count)]
    told += [
        (f"reward_{name}", float(value_A.sum()), count)
        for name, value_A in zip(judge.names, verdict.value_KA, strict=True)
    ]
    told.append(("answer_tokens", sum(len(one.own) for one in written), count))
    told.append(("cut_off", sum(not one.finished for one in written), count))
    told.append(("repetition", sum(repeated(one.own) for one in written), count))
    told.append(("not_judged", float(verdict.failed_K.sum()), count))
    told += [
        (f"not_judged_{name}", float(failed), count) for name, failed in zip(judge.names, verdict.failed_K, strict=True)
    ]
    if calls:
        called = sum(one.calls for one in written)
        told.append(("tool_calls", called, count))
        told.append(("tool_errors", sum(one.errors for one in written), called))
    return tuple(told)


def repeated(tokens: Sequence[int]) -> float:
    """Which share of the stretches of REPEATED_TOKENS stood in the text before."""
    grams = list(zip(*(tokens[at:] for at in range(REPEATED_TOKENS)), strict=False))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


REPEATED_TOKENS = 4


def with_more(told: Told, more: Told) -> Told:
    """The sums of both."""
    sums: dict[str, tuple[float, float]] = {}
    for name, total, count in (*told, *more):
        before, counted = sums.get(name, (0.0, 0.0))
        sums[name] = before + total, counted + count
    return tuple((name, total, count) for name, (total, count) in sums.items())


def examined(prompts: Callable[[], Iterator[PromptBatch]], writer: Writer, judge: Examiner) -> Iterator[JudgedBatch]:
    """The likeliest answers to prompts, judged."""
    calls = writer.tools is not None
    for batch in prompts():
        written = [one for group in writer.write(0, numbered([batch]), greedy=True) for one in group]
        verdict = judge.judge(written)
        right_A, known_A = judge.right(written, verdict)
        known = float(known_A.sum())
        right = ("right", float((right_A & known_A).sum()), known), ("right_known", known, float(len(written)))
        told = (*told_of(judge, written, verdict, calls=calls), *right)
        yield JudgedBatch(batch.rows, told, tuple(_examined(judge, written, verdict, right_A)))


def _examined(
    judge: Examiner, written: Sequence[Written], verdict: Verdict, right_A: NDArray[np.bool_]
) -> Iterator[Examined]:
    reward_A = judge.weight_K @ verdict.value_KA
    for at, one in enumerate(written):
        prompt, answer, right_answer = judge.texts(one)
        yield Examined(
            row=one.row,
            prompt=prompt,
            answer=answer,
            right_answer=right_answer,
            terms=dict(zip(judge.names, verdict.value_KA[:, at].tolist(), strict=True)),
            reward=float(reward_A[at]),
            right=bool(right_A[at]),
            tokens=len(one.own),
            finished=one.finished,
        )
