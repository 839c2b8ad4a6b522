"""Pairs of answers of which one is better, in three families: what preference learning needs, and what shows whether it
was learnt.

    fact   a right answer and a wrong one of the same kind: another capital
    topic  an answer to the question and one that is as right, to another question
    whole  a whole answer and one that breaks off, or says its end again

A model takes whatever tells the better answer from the worse one, and length would. So pairs come as couples, one the
other turned round: in each family whatever the better answer is longer by, it is as often shorter by. What is said is
as often right as wrong, too: two facts exchange their answers, two questions theirs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from random import Random
from typing import Literal, TypeVar

from jobs.stock import talk
from jobs.stock.compose import Fact, draw, draw_held_out, sentence, stands
from jobs.stock.knowledge import Knowledge
from jobs.stock.topics import LANGUAGES, TOPICS, Language

Family = Literal["fact", "topic", "whole"]
T = TypeVar("T")

_ROUNDS = 4
"""So often a subject may be part of a family, with another wrong answer each time."""

_OTHER_WORDS = 8
"""So many questions are drawn for one that has not been asked."""

_OVERLAPPING = frozenset({"region_en"})
"""Topics in which two answers may both be right: what is in Melanesia is in Oceania."""


@dataclass(frozen=True)
class Pair:
    """A question with a better and a worse answer. about: what tells its subject from others."""

    question: str
    chosen: str
    rejected: str
    family: Family
    language: Language
    about: str

    @property
    def length(self) -> str:
        """How long the better answer is beside the worse one, in characters: "same", "shorter" or "longer"."""
        more = len(self.chosen) - len(self.rejected)
        return "same" if not more else "longer" if more > 0 else "shorter"


Couple = tuple[Pair, Pair]
"""Two pairs; as much longer as the better answer of one is than the worse one, as much shorter is that of the other."""


@dataclass(frozen=True)
class _Talk:
    """What is answered to several questions of small talk."""

    answer: str
    questions: tuple[talk.Pair, ...]


@dataclass(frozen=True)
class _Subject:
    """What can be asked about."""

    of: Fact | _Talk
    topic: str
    language: Language

    @property
    def answer(self) -> str:
        return sentence(self.of) if isinstance(self.of, Fact) else self.of.answer

    @property
    def key(self) -> str:
        return self.of.key if isinstance(self.of, Fact) else self.of.answer


Topics = Sequence[Sequence[_Subject]]
Draft = tuple[tuple[_Subject, str], tuple[_Subject, str]]
"""A couple without its questions: two subjects, and the worse answer to each."""


def preferences(knowledge: Knowledge, count: int, seed: int) -> list[Couple]:
    """Couples to learn from. count: pairs of right and wrong facts in each language; there are half as many of each
    other family, and fewer of all where there are not so many.
    """
    composer = _Composer(f"{seed}/dpo", lambda subject, number, rng: _question(subject, seed + 1, number, rng))
    found: list[Couple] = []
    for language in LANGUAGES:
        facts, small_talk = _facts(knowledge, language), _small_talk(knowledge, language)
        found += composer.facts(facts, count // 2)
        found += composer.topics([*facts, small_talk], count // 4)
        found += composer.wholes([*facts, small_talk], count // 4)
    return found


def held_preferences(knowledge: Knowledge, taught: Iterable[Couple], count: int, seed: int) -> list[Pair]:
    """Pairs to measure with: facts that are taught, in words that are not, with other worse answers than in `taught`.

    count: pairs in each language. Of twenty, six are of a right and a wrong fact of one length, three of a right one
    that is shorter, three of a right one that is longer; four are of each other family.
    """
    composer = _Composer(f"{seed}/dpo_eval", lambda subject, number, rng: _held_question(subject, seed, number))
    composer.said |= {(pair.about, pair.rejected) for couple in taught for pair in couple}
    found: list[Couple] = []
    for language in LANGUAGES:
        facts = _facts(knowledge, language)
        found += composer.facts(facts, 3 * count // 20, lambda one, other: len(one.answer) == len(other.answer))
        found += composer.facts(facts, 3 * count // 20, lambda one, other: len(one.answer) != len(other.answer))
        found += composer.topics(facts, count // 10)
        found += composer.wholes(facts, count // 10)
    return list(chain.from_iterable(found))


def labels(couples: Iterable[Couple]) -> list[tuple[Pair, bool]]:
    """Of each pair one answer, and whether it is the better one: of a couple one is and the other is not, so that there
    are as many good answers as bad ones.
    """
    found = []
    for number, (first, second) in enumerate(couples):
        found += [(first, number % 2 == 0), (second, number % 2 == 1)]
    return found


class _Composer:
    """Makes couples; none has a question that was asked before, or a worse answer that was there before about the same.

    name: what the random choices follow from. ask: a question about a subject, another one for another number. said:
    the worse answers there have been, each with the key of its subject.
    """

    def __init__(self, name: str, ask: Callable[[_Subject, int, Random], str]) -> None:
        self.said: set[tuple[str, str]] = set()
        self._rng, self._ask = Random(name), ask
        self._numbers: Counter[str] = Counter()
        self._questions: set[str] = set()

    def facts(
        self, topics: Topics, count: int, fit: Callable[[Fact, Fact], bool] = lambda one, other: True
    ) -> list[Couple]:
        """Facts of one topic that exchange their answers."""

        def draft(one: _Subject, other: _Subject) -> Draft | None:
            if not isinstance(one.of, Fact) or not isinstance(other.of, Fact):
                return None
            if one.of.answer == other.of.answer or not fit(one.of, other.of):
                return None
            turned = replace(one.of, answer=other.of.answer), replace(other.of, answer=one.of.answer)
            return (one, sentence(turned[0])), (other, sentence(turned[1]))

        clear = [subjects for subjects in topics if subjects and subjects[0].topic not in _OVERLAPPING]
        return self._rounds("fact", count, lambda: _interleaved(self._coupled(topic, draft) for topic in clear))

    def topics(self, topics: Topics, count: int) -> list[Couple]:
        """Questions that exchange their answers: half of one topic, half of different ones."""

        def draft(one: _Subject, other: _Subject) -> Draft | None:
            if _bears_on(one, other.answer) or _bears_on(other, one.answer):
                return None
            return (one, other.answer), (other, one.answer)

        def across(one: _Subject, other: _Subject) -> Draft | None:
            return draft(one, other) if one.topic != other.topic else None

        named = [subjects for subjects in topics if subjects and _names_its_subject(subjects[0])]
        near = self._rounds("topic", count // 2, lambda: _interleaved(self._coupled(topic, draft) for topic in named))
        far = self._rounds("topic", count - len(near), lambda: self._coupled(self._mixed(topics), across))
        return near + far

    def wholes(self, topics: Topics, count: int) -> list[Couple]:
        """Of one subject each: its answer beside one without its end, and beside one that says its end again."""

        def drafts() -> list[Draft]:
            found: list[Draft] = []
            for subject in self._mixed(topics):
                end = self._rng.choice(_ends(subject))
                sides = (subject, subject.answer.removesuffix(end)), (subject, subject.answer + end)
                if self._is_new(sides):
                    found.append(sides)
            return found

        return self._rounds("whole", count, drafts)

    def _rounds(self, family: Family, count: int, drafts: Callable[[], list[Draft]]) -> list[Couple]:
        """At most `count` couples, of as many rounds as it takes and there may be."""
        found: list[Couple] = []
        for _ in range(_ROUNDS):
            for one, other in drafts() if len(found) < count else ():
                first, second = self._pair(family, *one), self._pair(family, *other)
                if first and second:
                    found.append((first, second))
                if len(found) == count:
                    break
        return found

    def _pair(self, family: Family, subject: _Subject, rejected: str) -> Pair | None:
        """None where the words for another question have been used up."""
        for _ in range(_OTHER_WORDS):
            question = self._ask(subject, self._numbers[subject.key], self._rng)
            self._numbers[subject.key] += 1
            if question not in self._questions:
                self._questions.add(question)
                self.said.add((subject.key, rejected))
                return Pair(question, subject.answer, rejected, family, subject.language, subject.key)
        return None

    def _coupled(
        self, subjects: Sequence[_Subject], draft: Callable[[_Subject, _Subject], Draft | None]
    ) -> list[Draft]:
        """The subjects two by two, at random, each with the first of the others that it fits; those that fit none stay
        alone.
        """
        waiting = self._rng.sample(subjects, len(subjects))
        found = []
        while waiting:
            one = waiting.pop()
            for at in reversed(range(len(waiting))):
                sides = draft(one, waiting[at])
                if sides is not None and self._is_new(sides):
                    found.append(sides)
                    del waiting[at]
                    break
        return found

    def _is_new(self, sides: Draft) -> bool:
        return not any((subject.key, rejected) in self.said for subject, rejected in sides)

    def _mixed(self, topics: Topics) -> list[_Subject]:
        """All subjects at random, of each topic as many as of the others as long as there are any."""
        return _interleaved(self._rng.sample(subjects, len(subjects)) for subjects in topics)


def _facts(knowledge: Knowledge, language: Language) -> list[list[_Subject]]:
    """Those of each topic."""
    return [
        [_Subject(fact, topic, language) for fact in found]
        for topic, found in knowledge.taught.items()
        if TOPICS[topic].language == language
    ]


def _small_talk(knowledge: Knowledge, language: Language) -> list[_Subject]:
    """That of this project's own, which answers in whole sentences."""
    own = set(talk.own_talk())
    questions: dict[str, list[talk.Pair]] = {}
    for pair in knowledge.pairs:
        if pair in own and pair.language == language:
            questions.setdefault(pair.answer, []).append(pair)
    return [_Subject(_Talk(answer, tuple(pairs)), f"talk_{language}", language) for answer, pairs in questions.items()]


def _question(subject: _Subject, seed: int, number: int, rng: Random) -> str:
    if isinstance(subject.of, Fact):
        return rng.choice(draw(subject.of, seed, number))
    return talk.vary(subject.of.questions[number % len(subject.of.questions)], 0)


def _held_question(subject: _Subject, seed: int, number: int) -> str:
    """In words that are kept back; those that eval.jsonl asks in have the number 0."""
    if not isinstance(subject.of, Fact):
        raise TypeError("small talk has no words that are kept back")
    return draw_held_out(subject.of, seed, number + 1)[0]


def _names_its_subject(subject: _Subject) -> bool:
    return isinstance(subject.of, Fact) and "{s}" in TOPICS[subject.of.topic].sentence


def _bears_on(subject: _Subject, text: str) -> bool:
    """Whether a text says something of a subject, and so might be an answer after all."""
    return isinstance(subject.of, Fact) and (stands(subject.of.subject, text) or stands(subject.of.answer, text))


def _ends(subject: _Subject) -> list[str]:
    """What an answer can break off before, or say again: from somewhere inside its last sentence to its end."""
    text = subject.answer
    spaces = [at for at, sign in enumerate(text) if sign == " "]
    if isinstance(subject.of, Fact) and (answer_at := text.rindex(subject.of.answer)):
        if subject.language == "en":
            return [text[at:] for at in spaces if min(len(text) // 3, answer_at - 1) <= at < answer_at]
        verbs = [len(verb) for verb in ("是", "属于", "位于") if text[:answer_at].endswith(verb)]
        return [text[answer_at - length :] for length in (0, *verbs)]
    clause = max(text.rfind(mark, 0, -1) for mark in ".!?:，。！？：；") + 1
    middle = (clause + len(text)) // 2
    return [text[max((at for at in spaces if at <= middle), default=middle) if subject.language == "en" else middle :]]


def _interleaved(groups: Iterable[Sequence[T]]) -> list[T]:
    """The first of each, the second of each, and so on."""
    return [item for layer in zip_longest(*groups) for item in layer if item is not None]
