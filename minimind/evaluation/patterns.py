"""Regular expressions in time that grows with the text, whatever the expression.

Python's `re` turns back where several ways could lead on: `(a+)+b` holds it for ever, and `.*a.*a.*b` for minutes. A
check only asks whether there is a match, so here all ways are followed at once, as sets of steps (Thompson 1968,
"Regular Expression Search Algorithm"). Back references and look-around, which need more than that, are refused.
`re` still says what is an expression, and what a single character class or assertion accepts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial

from minimind.language import say

LONGEST_SOURCE = 400
MOST_STEPS = 300
"""What a pattern may have: with a text of 4000 characters this was a quarter of a second."""

_MOST_DEPTH = 20

_FLAGS = re.compile(r"\(\?([aiLmsux]+)\)")
_GROUP = re.compile(r"\((?:\?:|\?P<\w+>|(?!\?))")
_CLASS = re.compile(r"\[\^?\]?(?:[^\]\\]|\\.)*\]", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:x..|u.{4}|U.{8}|N\{[^}]*\}|0[0-7]{0,2}|.)", re.DOTALL)
_QUANTIFIER = re.compile(r"([*+?]|\{(?=[0-9,])([0-9]*)(?:(,)([0-9]*))?\})([?+]?)")
_ASSERTIONS = ("^", "$", r"\b", r"\B", r"\A", r"\Z", r"\z")


@dataclass(frozen=True, slots=True)
class _One:
    """A single character, or an assertion about a place, as `re` writes it."""

    source: str


@dataclass(frozen=True, slots=True)
class _Row:
    parts: tuple[_Part, ...]


@dataclass(frozen=True, slots=True)
class _Choice:
    options: tuple[_Part, ...]


@dataclass(frozen=True, slots=True)
class _Repeat:
    part: _Part
    least: int
    most: int | None


_Part = _One | _Row | _Choice | _Repeat


@dataclass(frozen=True, slots=True)
class _Step:
    """One step: eats a character that `eats` accepts, or stands at a place that `stands` accepts, or goes on freely."""

    then: tuple[int, ...]
    eats: Callable[[str], bool] | None = None
    stands: Callable[[str, int], bool] | None = None


class Pattern:
    """A compiled expression. `full`: it has to match the whole text, else any part of it.

    Raises ValueError for what is no expression, for what would need turning back, and for one that is too large.
    """

    def __init__(self, source: str, *, full: bool = False) -> None:
        if len(source) > LONGEST_SOURCE:
            raise ValueError(
                say(
                    "a pattern of {length} characters; at most {most} are allowed",
                    length=len(source),
                    most=LONGEST_SOURCE,
                )
            )
        try:
            re.compile(source)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(say("{source!r} is no regular expression: {error}", source=source, error=error)) from None
        self.source, self.full = source, full
        flags = _FLAGS.match(source)
        self._flags = _flags(source, flags[1]) if flags else re.RegexFlag(0)
        tree = _Reader(source, flags.end() if flags else 0).choice(0)
        self._steps: list[_Step] = []
        self._add(tree)

    def matches(self, text: str) -> bool:
        """Whether the expression matches."""
        end = len(self._steps)
        alive: set[int] = set()
        for place in range(len(text) + 1):
            if place == 0 or not self.full:
                alive.add(0)
            alive = self._reached(alive, text, place)
            if end in alive and (place == len(text) or not self.full):
                return True
            if not alive and self.full:
                return False
            if place < len(text):
                alive = self._eaten(alive, text[place])
        return False

    def _reached(self, begin: set[int], text: str, place: int) -> set[int]:
        """Those steps and all that are reached from them without eating."""
        reached: set[int] = set()
        waiting = list(begin)
        while waiting:
            number = waiting.pop()
            if number in reached:
                continue
            reached.add(number)
            if number == len(self._steps):
                continue
            step = self._steps[number]
            if step.eats is None and (step.stands is None or step.stands(text, place)):
                waiting += step.then
        return reached

    def _eaten(self, alive: set[int], character: str) -> set[int]:
        steps = (self._steps[number] for number in alive if number < len(self._steps))
        return {number for step in steps if step.eats is not None and step.eats(character) for number in step.then}

    def _put(self, step: _Step) -> int:
        self._steps.append(step)
        if len(self._steps) > MOST_STEPS:
            raise ValueError(
                say(
                    "{source!r} is too large: with its repetitions written out it has more than {most} steps",
                    source=self.source,
                    most=MOST_STEPS,
                )
            )
        return len(self._steps) - 1

    def _add(self, part: _Part) -> None:
        """Write the steps of a part behind those that are there; it goes on with what is written next."""
        match part:
            case _One():
                self._add_one(part.source)
            case _Row():
                self._put(_Step(then=(len(self._steps) + 1,)))  # so that repeating what is empty counts too
                for inner in part.parts:
                    self._add(inner)
            case _Choice():
                ends = []
                for option in part.options[:-1]:
                    fork = self._put(_Step(then=()))
                    self._add(option)
                    ends.append(self._put(_Step(then=())))
                    self._steps[fork] = _Step(then=(fork + 1, len(self._steps)))
                self._add(part.options[-1])
                for number in ends:
                    self._steps[number] = _Step(then=(len(self._steps),))
            case _Repeat():
                self._add_repeat(part)

    def _add_one(self, source: str) -> None:
        then = (len(self._steps) + 1,)
        compiled = re.compile(source, self._flags)
        if source in _ASSERTIONS:
            self._put(_Step(then, stands=partial(_stands, compiled)))
        else:
            self._put(_Step(then, eats=cache(partial(_eats, compiled))))

    def _add_repeat(self, part: _Repeat) -> None:
        for _ in range(part.least):
            self._add(part.part)
        if part.most is None:
            fork = self._put(_Step(then=()))
            self._add(part.part)
            self._put(_Step(then=(fork,)))
            self._steps[fork] = _Step(then=(fork + 1, len(self._steps)))
            return
        forks = []
        for _ in range(part.most - part.least):
            forks.append(self._put(_Step(then=())))
            self._add(part.part)
        for fork in forks:
            self._steps[fork] = _Step(then=(fork + 1, len(self._steps)))


def _eats(compiled: re.Pattern[str], character: str) -> bool:
    return compiled.fullmatch(character) is not None


def _stands(compiled: re.Pattern[str], text: str, place: int) -> bool:
    return compiled.match(text, place) is not None


def _flags(source: str, letters: str) -> re.RegexFlag:
    flags = re.RegexFlag(0)
    for letter in letters:
        if letter not in "ims":
            raise _refused(source, f"(?{letter})")
        flags |= re.RegexFlag[letter.upper()]
    return flags


def _refused(source: str, what: str) -> ValueError:
    return ValueError(
        say(
            "{source!r}: {what} is not allowed here; a check has characters, classes, groups, |, * + ? {{n}}, "
            "^ $ \\b and the flags (?i) (?m) (?s) at its beginning",
            source=source,
            what=what,
        )
    )


class _Reader:
    """The structure of an expression that `re` has compiled, so that nothing in it is unfinished."""

    def __init__(self, source: str, at: int) -> None:
        self.source, self.at = source, at

    def choice(self, depth: int) -> _Part:
        """Alternatives up to the end or a closing bracket."""
        if depth > _MOST_DEPTH:
            raise ValueError(
                say("{source!r}: more than {most} groups in each other", source=self.source, most=_MOST_DEPTH)
            )
        options = [self._row(depth)]
        while self._next() == "|":
            self.at += 1
            options.append(self._row(depth))
        return options[0] if len(options) == 1 else _Choice(tuple(options))

    def _row(self, depth: int) -> _Part:
        return _Row(tuple(self._parts(depth)))

    def _parts(self, depth: int) -> Iterator[_Part]:
        while self._next() not in ("", "|", ")"):
            part = self._part(depth)
            quantifier = _QUANTIFIER.match(self.source, self.at)
            if quantifier is None:
                yield part
                continue
            self.at = quantifier.end()
            yield self._repeat(part, quantifier)

    def _repeat(self, part: _Part, quantifier: re.Match[str]) -> _Part:
        sign, least, comma, most, manner = quantifier.groups()
        if manner == "+":
            raise _refused(self.source, quantifier[0])
        match sign:
            case "*":
                return _Repeat(part, 0, None)
            case "+":
                return _Repeat(part, 1, None)
            case "?":
                return _Repeat(part, 0, 1)
        if not comma:
            return _Repeat(part, int(least), int(least))
        return _Repeat(part, int(least or 0), int(most) if most else None)

    def _part(self, depth: int) -> _Part:
        match self._next():
            case "(":
                group = _GROUP.match(self.source, self.at)
                if group is None:
                    raise _refused(self.source, self.source[self.at : self.at + 3])
                self.at = group.end()
                inner = self.choice(depth + 1)
                self.at += 1  # the bracket that closes it
                return inner
            case "[":
                return self._taken(_CLASS)
            case "\\":
                one = self._taken(_ESCAPE)
                if one.source[1] in "123456789":
                    raise _refused(self.source, one.source)
                return one
        self.at += 1
        character = self.source[self.at - 1]
        # A bracket that opens no quantifier stands for itself, and so it should alone.
        return _One(re.escape(character) if character in "{}]" else character)

    def _taken(self, expression: re.Pattern[str]) -> _One:
        match = expression.match(self.source, self.at)
        if match is None:
            raise _refused(self.source, self.source[self.at : self.at + 3])
        self.at = match.end()
        return _One(match[0])

    def _next(self) -> str:
        return self.source[self.at : self.at + 1]
