"""Checks of an answer, by name: a row of a suite says which of them a right answer passes.

A row has `checks`, a list of objects {"is": NAME, ...arguments}. Its score is the share of checks that hold, and it is
passed if all do. A new checker is a class below `Check` and a row in `CHECKERS`.

Texts are compared in Unicode's composed form (NFC): é is é, whether it is written as one character or as two.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidatorFunctionWrapHandler, WrapValidator, model_validator

from minimind.config import Config, of_kind
from minimind.evaluation import measures, numbers
from minimind.evaluation.patterns import Pattern
from minimind.language import say

LONGEST_MATCHED = 4000
"""How many characters of an answer a regular expression looks at."""

_FENCE = re.compile(r"(`{3,})[\w-]*\s*")
# Python refuses to read more than 4300 digits.
_NUMERAL = re.compile(r"[+-]?[0-9]{1,999}(?:\.[0-9]{1,999})?")
_PADDED = re.compile(r"[+-]?0[0-9]")


@dataclass(frozen=True)
class Answer:
    """What a model answered.

    text: what it said. finish: why it ended, in OpenAI's words: stop, length, tool_calls.
    calls: the tools it called, each a name and its arguments. prompt: the text of the turn that it answers.
    thinking: what it thought; no check looks there.
    """

    text: str
    finish: str
    calls: tuple[tuple[str, Mapping[str, Any]], ...]
    prompt: str
    thinking: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether it neither says nor calls anything."""
        return not self.calls and not self.text.strip()


class Check(Config, ABC):
    """A checker with its arguments. One below it says in `_holds` when it does."""

    # A number in quotation marks, or true for 1, is a mistake in a suite.
    model_config = ConfigDict(strict=True)

    def holds(self, answer: Answer) -> bool:
        """Whether the answer passes."""
        return self._holds(replace(answer, text=composed(answer.text), prompt=composed(answer.prompt)))

    @abstractmethod
    def _holds(self, answer: Answer) -> bool: ...


Texts = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False)]


class Exact(Check):
    """The answer is one of `any`, but for white space at its ends."""

    any: Texts = Field(min_length=1)

    def _holds(self, answer: Answer) -> bool:
        return answer.text.strip() in self.any


class _Searched(Check):
    """A search for texts. whole_words: a text must not be a part of a longer Latin word or number."""

    ignore_case: bool = False
    whole_words: bool = False

    def _is_in(self, wanted: str, text: str) -> bool:
        return stands_in(wanted, text, ignore_case=self.ignore_case, whole_words=self.whole_words)


def stands_in(wanted: str, text: str, *, ignore_case: bool, whole_words: bool) -> bool:
    """Whether a text, which is not empty, stands in another. whole_words: not inside a longer Latin word or number."""
    if ignore_case:
        wanted, text = wanted.casefold(), text.casefold()
    if not whole_words:
        return wanted in text
    # By hand: as an expression, "a" would be sought in "aaaa…" at each place anew.
    start = text.find(wanted)
    while start >= 0:
        end = start + len(wanted)
        if not (_joins(text[start - 1 : start], wanted[0]) or _joins(wanted[-1], text[end : end + 1])):
            return True
        start = text.find(wanted, start + 1)
    return False


def _joins(left: str, right: str) -> bool:
    """Whether two characters beside each other are inside one word. Chinese has no ends of words to look at."""
    return all(character.isalnum() and not measures.HAN.match(character) for character in (left, right))


class Contains(_Searched):
    """At least one of `any` and each of `all` stands in the answer."""

    any: Texts = ()
    all: Texts = ()

    @model_validator(mode="after")
    def _asks(self) -> Contains:
        if not self.any and not self.all:
            raise ValueError(say("give texts in `any` or in `all`"))
        return self

    def _holds(self, answer: Answer) -> bool:
        one = not self.any or any(self._is_in(wanted, answer.text) for wanted in self.any)
        return one and all(self._is_in(wanted, answer.text) for wanted in self.all)


class Lacks(_Searched):
    """The answer says or calls something, and none of `any` stands in it."""

    any: Texts = Field(min_length=1)

    def _holds(self, answer: Answer) -> bool:
        return not answer.is_empty and not any(self._is_in(wanted, answer.text) for wanted in self.any)


class Matches(Check):
    """The regular expression matches a part of the answer, or all of it if `full`."""

    pattern: str
    full: bool = False

    @model_validator(mode="after")
    def _compiles(self) -> Matches:
        _ = self._compiled
        return self

    @cached_property
    def _compiled(self) -> Pattern:
        return Pattern(self.pattern, full=self.full)

    def _holds(self, answer: Answer) -> bool:
        text = answer.text.strip()
        return self._compiled.matches(text[:LONGEST_MATCHED]) and not (self.full and len(text) > LONGEST_MATCHED)


def _as_written(value: object, read: ValidatorFunctionWrapHandler) -> float:
    """A whole number stays one: as a float it would lose digits."""
    return value if isinstance(value, int) and not isinstance(value, bool) else float(read(value))


class Number(Check):
    """The last number of the answer is `value`, give or take `tolerance`."""

    value: Annotated[float, WrapValidator(_as_written)]
    tolerance: float = Field(default=0, ge=0)

    def _holds(self, answer: Answer) -> bool:
        found = numbers.last_number(answer.text)
        value, tolerance = numbers.exact(self.value), numbers.exact(self.tolerance)
        return found is not None and numbers.same(numbers.exact(found), value, tolerance)


def require_bounds(given: Collection[str], least: int, most: int | None) -> None:
    """Raise ValueError where neither of both was given, or the least is more than the most. given: names of fields."""
    if "least" not in given and "most" not in given:
        raise ValueError(say("give `least`, `most` or both"))
    if most is not None and least > most:
        raise ValueError(say("least = {least} is more than most = {most}", least=least, most=most))


class _Counted(Check):
    """A count from `least` to `most`. An empty answer has few of everything, so `least` is 1 where nothing is said."""

    least: int = Field(default=1, ge=0)
    most: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _in_order(self) -> _Counted:
        require_bounds(self.model_fields_set, self.least, self.most)
        return self

    def _holds(self, answer: Answer) -> bool:
        count = self._count(answer.text)
        return count >= self.least and (self.most is None or count <= self.most)

    @abstractmethod
    def _count(self, text: str) -> int: ...


class Words(_Counted):
    """So many words; a Chinese character counts as one."""

    def _count(self, text: str) -> int:
        return measures.words(text)


class Characters(_Counted):
    """So many characters, without white space and punctuation."""

    def _count(self, text: str) -> int:
        return measures.characters(text)


class Sentences(_Counted):
    """So many sentences."""

    def _count(self, text: str) -> int:
        return measures.sentences(text)


class Lines(_Counted):
    """So many lines that are not blank."""

    def _count(self, text: str) -> int:
        return measures.lines(text)


class Json(Check):
    """The answer is a JSON object or list, alone or in the one ``` fence that there is.

    keys: what the object has, and each object of a list. values: what it has under keys. form: which of both it is.
    """

    keys: Texts = ()
    values: dict[str, Any] = Field(default_factory=dict)
    form: Literal["object", "list"] | None = None

    def _holds(self, answer: Answer) -> bool:
        try:
            value = _json_of(answer.text.strip())
        except (ValueError, RecursionError):
            return False
        if not isinstance(value, {"object": dict, "list": list}.get(self.form or "", (dict, list))):
            return False
        parts = value if isinstance(value, list) else [value]
        wanted = bool(self.keys or self.values)
        return bool(parts) and all(self._has(part) for part in parts) if wanted else True

    def _has(self, part: object) -> bool:
        return isinstance(part, dict) and part.keys() >= set(self.keys) and _includes(part, self.values)


def _json_of(text: str) -> object:
    """The value of a text that is JSON, or that has it in its only fence. Raises ValueError for any other text.

    What is in a fence is read to its own end, for it may hold the signs of one.
    """
    try:
        return _JSON.decode(text)
    except ValueError:
        if (fence := _FENCE.search(text)) is None:
            raise
    value, end = _JSON.raw_decode(text, fence.end())
    if not re.fullmatch(rf"\s*{fence[1]}(?!.*{fence[1]}).*", text[end:], re.DOTALL):
        raise ValueError(text[end:])
    return value


def _refuse(constant: str) -> None:
    """NaN and Infinity are Python's; JSON has neither."""
    raise ValueError(constant)


_JSON = json.JSONDecoder(parse_constant=_refuse)


class Items(Check):
    """The answer has a numbered or bulleted list of `count` items."""

    count: int = Field(ge=1)

    def _holds(self, answer: Answer) -> bool:
        return measures.items(answer.text) == self.count


class Language(Check):
    """At least four fifths of the letters of the answer are Chinese ("zh"), or Latin ("en"). It has letters."""

    language: Literal["zh", "en"]

    def _holds(self, answer: Answer) -> bool:
        return measures.share(answer.text, self.language) >= 0.8


class ShorterThanPrompt(Check):
    """The answer says something, in at most `share` of the prompt's characters."""

    share: float = Field(default=1, gt=0)

    def _holds(self, answer: Answer) -> bool:
        return 0 < measures.characters(answer.text) <= self.share * measures.characters(answer.prompt)


class _Edge(Check):
    any: Texts = Field(min_length=1)
    ignore_case: bool = False

    def _text(self, text: str) -> str:
        return text.strip().casefold() if self.ignore_case else text.strip()

    @cached_property
    def _wanted(self) -> tuple[str, ...]:
        return tuple(text.casefold() if self.ignore_case else text for text in self.any)


class Starts(_Edge):
    """The answer begins with one of `any`."""

    def _holds(self, answer: Answer) -> bool:
        return self._text(answer.text).startswith(self._wanted)


class Ends(_Edge):
    """The answer ends with one of `any`."""

    def _holds(self, answer: Answer) -> bool:
        return self._text(answer.text).endswith(self._wanted)


class Call(Check):
    """The answer calls the tool `name` with `arguments`, and maybe others.

    one_of: arguments for which several values are right, each with those. Case does not count, nor whether a number
    stands in quotation marks.
    """

    name: str = Field(min_length=1)
    arguments: dict[str, Any] = Field(default_factory=dict)
    one_of: dict[str, list[Any]] = Field(default_factory=dict)

    def _holds(self, answer: Answer) -> bool:
        return any(name == self.name and self._fits(arguments) for name, arguments in answer.calls)

    def _fits(self, arguments: Mapping[str, Any]) -> bool:
        return _includes(arguments, self.arguments) and all(
            name in arguments and any(_same(arguments[name], value) for value in values)
            for name, values in self.one_of.items()
        )


class CallsNothing(Check):
    """The answer calls no tool, and says something."""

    def _holds(self, answer: Answer) -> bool:
        return not answer.calls and not answer.is_empty


class Stopped(Check):
    """The model ended its answer itself."""

    def _holds(self, answer: Answer) -> bool:
        return answer.finish == "stop"


CHECKERS: dict[str, type[Check]] = {
    "exact": Exact,
    "contains": Contains,
    "lacks": Lacks,
    "matches": Matches,
    "number": Number,
    "words": Words,
    "characters": Characters,
    "sentences": Sentences,
    "lines": Lines,
    "json": Json,
    "items": Items,
    "language": Language,
    "shorter_than_prompt": ShorterThanPrompt,
    "starts": Starts,
    "ends": Ends,
    "call": Call,
    "calls_nothing": CallsNothing,
    "stopped": Stopped,
}
"""What a check may be: name -> class."""


def parse_check(value: object) -> Check:
    """A check of a suite's row, validated.

    Raises ValueError that names a checker or an argument that there is not, the nearest, and those there are.
    """
    return of_kind(all_composed(value), CHECKERS, say("checker"))


def score(checks: Sequence[Check], answer: Answer) -> tuple[float, list[bool]]:
    """The share of checks that hold, and which do. The answer passed if all do. Raises ValueError without checks."""
    if not checks:
        raise ValueError(say("a row without checks has no score"))
    held = [check.holds(answer) for check in checks]
    return sum(held) / len(held), held


def composed(text: str) -> str:
    """The text in Unicode's composed form."""
    return unicodedata.normalize("NFC", text)


def all_composed(value: object) -> object:
    """The same value with all its texts composed, but for the names in it."""
    match value:
        case str():
            return composed(value)
        case list():
            return [all_composed(part) for part in value]
        case Mapping():
            return {key: all_composed(part) for key, part in value.items()}
    return value


def _includes(value: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(key in value and _same(value[key], part) for key, part in wanted.items())


def _same(value: object, wanted: object) -> bool:
    """Whether two JSON values mean the same to a person."""
    match wanted:
        case Mapping():
            return isinstance(value, Mapping) and _includes(value, wanted)
        case list():
            return isinstance(value, list) and len(value) == len(wanted) and all(map(_same, value, wanted))
        case bool() | None:
            return value is wanted
        case str() if isinstance(value, str):
            return _plain(value) == _plain(wanted)
        case str() if _PADDED.match(wanted):
            return False  # 007, a name in digits, is not 7
    found, number = _number(value), _number(wanted)
    return found is not None and number is not None and numbers.same(found, number)


def _plain(text: str) -> str:
    return composed(text).strip().casefold()


def _number(value: object) -> Fraction | None:
    """A number, or a text that is written as one is."""
    if isinstance(value, str):
        return Fraction(value.strip()) if _NUMERAL.fullmatch(value.strip()) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return numbers.exact(value) if isinstance(value, int) or math.isfinite(value) else None
