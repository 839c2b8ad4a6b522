"""The terms of a reward, by name: {"is": NAME, "weight": 0.2, ...arguments}. The reward is their weighted sum.

What is compared with a right answer has 1 where it fits and 0 where it does not:

- `exact`: the answer is the reference, but for white space at its ends.
- `contains`: the reference stands in the answer, as whole words.
- `number`: the last number of the answer is the reference's.
- `match`: a regular expression matches the answer.
- `check`: a checker of a suite holds (minimind/evaluation/checkers.py).

What looks at the form of an answer:

- `format`: 1 where the answer consists of its parts in tags, such as <think>…</think><answer>…</answer>.
- `length`: 1 where the number of tokens is within bounds, less outside.
- `overlong`: from 0 to -1 in the last tokens that an answer may have; -1 where it was cut off.
- `repetition`: minus the share of n-grams that were there before.
- `language`: which share of the letters is of a language.
- `stopped`: 1 where the model ended its answer. An empty answer earns it: give it beside terms that ask for more.

What is judged elsewhere, by what `Rewards` is given:

- `reward_model`: the score of a reward model, which a run names beside its terms.
- `judge`: the number that a model behind an endpoint gives.
- `python`: what a function of the user's says.

A new term is a class below `Term` and a row in `TERMS`. Where a term cannot judge an answer through no fault of the
answer's, its score is `Unjudged`. Texts are compared in Unicode's composed form (NFC).
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from minimind.config import Config, listed, near, of_kind
from minimind.evaluation import checkers, measures, numbers
from minimind.evaluation.checkers import Answer, all_composed, composed, parse_check
from minimind.evaluation.patterns import Pattern
from minimind.language import say

THINKING = "think"
"""The tag of what a model thinks. Where it is a token, a parser has taken this part out of the text."""


@dataclass(frozen=True)
class Ending:
    """How the conversation of an answer ends. before: the token ids of all that its last turn follows. turn: that one
    as a message, with what it thinks and calls.
    """

    before: Sequence[int]
    turn: Mapping[str, Any]


@dataclass(frozen=True)
class Attempt:
    """One answer to be judged.

    reference: the right answer of its row, "" where it has none. tokens: how many were written, the stop token
    included. room: how many could have been. ending: of its conversation, which a reward model reads; None where nobody
    needs it.
    """

    answer: Answer
    reference: str
    tokens: int
    room: int
    ending: Ending | None = None


class Unjudged(float):
    """The score, which is NaN, of an answer that could not be judged. reason: why, in the reader's language."""

    reason: str

    def __new__(cls, reason: str) -> Self:
        """NaN, with its reason."""
        score = super().__new__(cls, "nan")
        score.reason = reason
        return score

    def __reduce__(self) -> tuple[type[Self], tuple[str]]:
        return type(self), (self.reason,)


class Term(Config, ABC):
    """A term with its arguments. weight: what its scores are multiplied by in the sum; below zero it punishes."""

    # A number in quotation marks, or true for 1, is a mistake.
    model_config = ConfigDict(strict=True)

    weight: float = 1.0

    punishes: ClassVar[bool] = False
    """Whether its best score is 0, so that it cannot say that an answer is right."""

    @property
    def needs_reference(self) -> bool:
        """Whether it compares with the right answer, and judges nothing where there is none."""
        return False

    @abstractmethod
    def scores(self, attempts: Sequence[Attempt]) -> list[float]:
        """One score for each attempt, higher for better; NaN, mostly an Unjudged, for one that it could not judge."""


class _Single(Term):
    """A term that judges each answer by itself."""

    def scores(self, attempts: Sequence[Attempt]) -> list[float]:
        """One score for each attempt."""
        return [self._score(attempt) for attempt in attempts]

    @abstractmethod
    def _score(self, attempt: Attempt) -> float: ...


_TAG = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def _tag(name: str) -> str:
    if not _TAG.fullmatch(name):
        raise ValueError(say("a tag's name is written without brackets, in letters and digits, such as answer"))
    return name


Tag = Annotated[str, AfterValidator(_tag)]


class _Read(_Single):
    """A term that reads what was answered. tag: reads only what stands between <tag> and </tag>, which has to be there
    once; None for the whole answer.
    """

    tag: Tag | None = None

    def _score(self, attempt: Attempt) -> float:
        reference = composed(attempt.reference).strip()
        if self.needs_reference and not reference:
            return Unjudged(say("the row has no right answer to compare with"))
        text = attempt.answer.text
        if self.tag:
            if not _is_once(text, self.tag):
                return 0.0
            text = text.partition(f"<{self.tag}>")[2].partition(f"</{self.tag}>")[0]
        return self._fits(replace(attempt.answer, text=text), reference)

    @abstractmethod
    def _fits(self, answer: Answer, reference: str) -> float: ...


class _Compared(_Read):
    @property
    def needs_reference(self) -> bool:
        """It does."""
        return True


class Exact(_Compared):
    """1 where the answer is the reference, but for white space at its ends. Case counts unless `ignore_case`."""

    ignore_case: bool = False

    def _fits(self, answer: Answer, reference: str) -> float:
        text = composed(answer.text).strip()
        if self.ignore_case:
            text, reference = text.casefold(), reference.casefold()
        return float(text == reference)


class Contains(_Compared):
    """1 where the reference stands in the answer. whole_words: not as a part of a longer Latin word or number.

    An answer that names everything earns it as well: give it beside `length`.
    """

    ignore_case: bool = False
    whole_words: bool = True

    def _fits(self, answer: Answer, reference: str) -> float:
        text = composed(answer.text)
        how = {"ignore_case": self.ignore_case, "whole_words": self.whole_words}
        return float(checkers.stands_in(reference, text, **how))


class Number(_Compared):
    """1 where the last number of the answer is the last of the reference, give or take `tolerance`.

    In digits, Chinese numerals or English words (minimind/evaluation/numbers.py).
    """

    tolerance: float = Field(default=0, ge=0)

    def _fits(self, answer: Answer, reference: str) -> float:
        wanted = numbers.last_number(reference)
        if wanted is None:
            return Unjudged(say("the right answer {reference!r} has no number", reference=reference[:80]))
        return float(checkers.Number(value=wanted, tolerance=self.tolerance).holds(answer))


class Match(_Read):
    """1 where the regular expression matches a part of the answer, or all of it if `full`.

    Of an answer its first 4000 characters are looked at, and expressions have no back references and no look-around.
    """

    pattern: str
    full: bool = False

    @model_validator(mode="after")
    def _compiles(self) -> Self:
        _ = self._check
        return self

    @cached_property
    def _check(self) -> checkers.Matches:
        Pattern(self.pattern, full=self.full)  # said without pydantic's words around it
        return checkers.Matches(pattern=self.pattern, full=self.full)

    def _fits(self, answer: Answer, reference: str) -> float:
        return float(self._check.holds(answer))


class Checked(_Read):
    """1 where a check holds. check: {"is": NAME, ...} as rows of suites have it."""

    check: dict[str, Any]

    @model_validator(mode="after")
    def _parses(self) -> Self:
        _ = self._check
        return self

    @cached_property
    def _check(self) -> checkers.Check:
        return parse_check(self.check)

    def _fits(self, answer: Answer, reference: str) -> float:
        return float(self._check.holds(answer))


class Format(_Single):
    """1 where the answer is what `tags` say: each part once, in this order, with something in it, and nothing outside.

    text_after: behind the last part there is text, the answer proper, and not nothing. Where a parser has taken the
    thinking out of the text, it counts as the part <think>, in its place at the beginning. Calls are not looked at.
    """

    tags: Annotated[tuple[Tag, ...], Field(strict=False, min_length=1)] = (THINKING, "answer")
    text_after: bool = False

    @model_validator(mode="after")
    def _once_each(self) -> Self:
        if len(set(self.tags)) < len(self.tags):
            raise ValueError(say("tags = {tags}: each part is named once", tags=", ".join(self.tags)))
        return self

    def _score(self, attempt: Attempt) -> float:
        text, tags = attempt.answer.text, self.tags
        if attempt.answer.thinking.strip():
            again = f"<{THINKING}>" in text or f"</{THINKING}>" in text
            # Without anything behind it, nobody knows whether the thinking came to an end.
            if tags[0] != THINKING or again or not text.strip():
                return 0.0
            tags = tags[1:]
        for tag in tags:
            if not _is_once(text, tag):
                return 0.0
        for tag in tags:
            before, _, rest = text.partition(f"<{tag}>")
            inside, _, text = rest.partition(f"</{tag}>")
            if before.strip() or not inside.strip():
                return 0.0
        return float(bool(text.strip()) == self.text_after)


def _is_once(text: str, tag: str) -> bool:
    """Whether there is one <tag>, and one </tag> behind it."""
    opens, closes = f"<{tag}>", f"</{tag}>"
    return text.count(opens) == text.count(closes) == 1 and text.index(opens) < text.index(closes)


class Length(_Single):
    """1 for an answer of `least` to `most` tokens, falling to 0 within `slack` tokens outside.

    The stop token counts. So `least` is 2 where nothing is said: an empty answer has one.
    """

    least: int = Field(default=2, ge=0)
    most: int | None = Field(default=None, ge=0)
    slack: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        checkers.require_bounds(self.model_fields_set, self.least, self.most)
        return self

    def _score(self, attempt: Attempt) -> float:
        above = 0 if self.most is None else attempt.tokens - self.most
        outside = max(self.least - attempt.tokens, above, 0)
        return max(0.0, 1 - outside / self.slack) if self.slack else float(outside == 0)


class Overlong(_Single):
    """0 for an answer of up to room - `buffer` tokens, falling to -1 at `room`; -1 for one that was cut off.

    DAPO's soft overlong punishment (Yu et al. 2025, arXiv:2503.14476, section 3.4).
    """

    punishes = True

    buffer: int = Field(ge=1)

    def _score(self, attempt: Attempt) -> float:
        if attempt.answer.finish == "length":
            return -1.0
        return max(-1.0, min(0.0, (attempt.room - self.buffer - attempt.tokens) / self.buffer))


class Repetition(_Single):
    """Minus the share of n-grams that were there before: 0 for an answer that never repeats `n` words in a row.

    A Chinese character is a word; case and punctuation do not count. Of what was thought and what was said, that which
    repeats more counts.
    """

    punishes = True

    n: int = Field(default=3, ge=1)

    def _score(self, attempt: Attempt) -> float:
        texts = (attempt.answer.text, attempt.answer.thinking)
        words = ([word.casefold() for word in measures.WORD.findall(text)] for text in texts)
        return min(measures.distinct_grams(part, self.n) for part in words) - 1


class Language(_Single):
    """Which share of the answer's letters is Chinese ("zh") or Latin ("en"); 0 where it has none."""

    language: Literal["zh", "en"]

    def _score(self, attempt: Attempt) -> float:
        return measures.share(composed(attempt.answer.text), self.language)


class Stopped(_Single):
    """1 where the model ended its answer, by its stop token or with a call, 0 where it was cut off.

    An empty answer earns it, so alone it teaches to say nothing.
    """

    def _score(self, attempt: Attempt) -> float:
        return float(attempt.answer.finish in ("stop", "tool_calls"))


class Elsewhere(Term):
    """A term that only declares what judges: `Rewards` has a scorer for it."""

    def scores(self, attempts: Sequence[Attempt]) -> list[float]:
        """Refused: a program asks `Rewards`."""
        raise TypeError(f"{type(self).__name__} is judged by the scorer that Rewards has for it")


class RewardModel(Elsewhere):
    """The score of a reward model, as it is: any number, of which only differences mean something."""


_PLACE = re.compile(r"\{(\w+)\}")


class Judge(Elsewhere):
    """The number that a model behind an OpenAI-compatible endpoint gives, as 0 for the least of `scale` to 1 for most.

    question: what it is asked, with {prompt}, {answer} and {reference} in their places. What an answer says is read by
    the judge too, and may talk it into a number. max_tokens: of its reply. timeout_s: how long it may say nothing
    before it is asked once more. at_once: how many questions it is asked at the same time.
    """

    url: str
    model: str = Field(min_length=1)
    question: str = (
        "Question:\n{prompt}\n\nAnswer:\n{answer}\n\nHow good is this answer, from 0 (useless) to 10 (excellent)? "
        "Reply with the number alone."
    )
    scale: Annotated[tuple[float, float], Field(strict=False)] = (0, 10)
    max_tokens: int = Field(default=256, ge=1)
    timeout_s: float = Field(default=60, gt=0, le=3600)
    at_once: int = Field(default=8, ge=1, le=256)

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        if not re.match(r"https?://[^\s/]", self.url):
            raise ValueError(
                say("url = {url!r}: write where the endpoint is, such as http://127.0.0.1:8000/v1", url=self.url)
            )
        parts = urlsplit(self.url)
        if parts.username is not None or parts.query or parts.fragment:  # terms are kept in files
            raise ValueError(
                say(
                    "url: it is http://HOST:PORT/PATH, without a user, a password, a query or a #; the key stands in "
                    "MINIMIND_API_KEY"
                )
            )
        for name in _PLACE.findall(self.question):
            if name not in _FILLED:
                raise ValueError(
                    say(
                        "question: there is no {name!r} to put in{near}; there are: {names}",
                        name=name,
                        near=near(name, _FILLED),
                        names=listed(_FILLED),
                    )
                )
        if "{answer}" not in self.question:
            raise ValueError(say("question: there is no {answer} in it, so the judge would not see what it judges"))
        least, most = self.scale
        if least >= most:
            raise ValueError(say("scale = {least:g}, {most:g}: the least comes first", least=least, most=most))
        return self

    @property
    def needs_reference(self) -> bool:
        """Whether the judge is shown the right answer."""
        return "{reference}" in self.question

    def asked(self, attempt: Attempt) -> str:
        """The question about an attempt. What is put in is not looked at again: braces in it stay braces."""
        values = {"prompt": attempt.answer.prompt, "answer": attempt.answer.text, "reference": attempt.reference}
        return _PLACE.sub(lambda place: values[place[1]], self.question)

    def read(self, reply: str) -> float:
        """The score in what the judge replied: its last number, on the scale. Unjudged where there is none."""
        least, most = self.scale
        # 8/10 is no fraction here.
        highest = re.escape(f"{most:g}")
        text = re.sub(rf" ?(?:/|out of|[(（]?满分[为是]?) ?{highest}(?![0-9.,]*[0-9])", "", " ".join(reply.split()))
        found = numbers.last_number(text)
        if found is None or not least <= found <= most:
            return Unjudged(
                say(
                    "the judge replied {reply!r}, which has no number from {least:g} to {most:g}",
                    reply=reply[:80],
                    least=least,
                    most=most,
                )
            )
        return (found - least) / (most - least)


_FILLED = ("prompt", "answer", "reference")


class Python(Elsewhere):
    """What a function of the user's says. function: module:function, found in the user's folder or PYTHONPATH.

    It is called with a list of dicts, one for each answer: prompt, answer, thinking, reference, finish, tokens, room
    (texts and numbers) and calls, a list of {"name", "arguments"}. It gives a list of as many numbers; None or NaN for
    an answer that it cannot judge. It runs in a process of its own, of at most memory_mb MiB of address space, which
    is kept from call to call; one that takes longer than timeout_s, or cpu_s seconds of processor time, is ended.
    """

    function: str
    timeout_s: float = Field(default=10, gt=0, le=3600)
    cpu_s: int = Field(default=10, ge=1, le=3600)
    memory_mb: int = Field(default=1024, ge=128)

    @model_validator(mode="after")
    def _is_named(self) -> Self:
        module, _, function = self.function.partition(":")
        if not all(part.isidentifier() for part in (*module.split("."), function)):
            raise ValueError(
                say(
                    "function = {function!r}: write module:function, such as my_rewards:score for the function score "
                    "of my_rewards.py",
                    function=self.function,
                )
            )
        return self


TERMS: dict[str, type[Term]] = {
    "exact": Exact,
    "contains": Contains,
    "number": Number,
    "match": Match,
    "check": Checked,
    "format": Format,
    "length": Length,
    "overlong": Overlong,
    "repetition": Repetition,
    "language": Language,
    "stopped": Stopped,
    "reward_model": RewardModel,
    "judge": Judge,
    "python": Python,
}
"""What a term may be: name -> class."""


def parse_term(value: object) -> Term:
    """A term of a reward, validated.

    Raises ValueError that names a term or an argument that there is not, the nearest, and those there are.
    """
    return of_kind(all_composed(value), TERMS, say("reward term"))


def named(text: str) -> Term:
    """A term as a command line names it: by its name alone, or in JSON. Raises ValueError as `parse_term` does."""
    if not text.lstrip().startswith("{"):
        return parse_term({"is": text})
    try:
        return parse_term(json.loads(text))
    except json.JSONDecodeError as error:
        raise ValueError(say("{text}: not JSON ({error})", text=text, error=error)) from None


def require_telling(term: Term) -> None:
    """Raise ValueError where a term is to say whether an answer is right, and cannot: it only punishes."""
    if term.punishes:
        raise ValueError(
            say(
                "{name} is 0 at most, and what says whether an answer is right gives 1 for that: name another term "
                "first, such as {others}",
                name=names_of([term])[0],
                others="contains, exact, number",
            )
        )


def require_references(terms: Sequence[Term], without: Sequence[str], rows: int) -> None:
    """Raise ValueError where a term compares with the right answer, and rows have none.

    without: where such rows stand, of so many `rows`.
    """
    needing = [name for name, term in zip(names_of(terms), terms, strict=True) if term.needs_reference]
    if needing and without:
        raise ValueError(
            say(
                "{where}: the reward {names} compares with the right answer, and this row has none ({count:,} of "
                "{rows:,} rows). Leave such rows out, or name rewards that need none, such as {others}",
                where=without[0],
                names=", ".join(needing),
                count=len(without),
                rows=rows,
                others="format, repetition, stopped",
            )
        )


def names_of(terms: Sequence[Term]) -> tuple[str, ...]:
    """A name for each term, none twice: what it is, with a number from the second of its kind on."""
    kinds: Mapping[type[Term], str] = {kind: name for name, kind in TERMS.items()}
    counts: dict[str, int] = {}
    names = []
    for term in terms:
        name = kinds[type(term)]
        counts[name] = counts.get(name, 0) + 1
        names.append(name if counts[name] == 1 else f"{name}_{counts[name]}")
    return tuple(names)
