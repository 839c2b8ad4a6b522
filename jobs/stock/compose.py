"""From a fact to questions: composed afresh in each epoch, with some words and some facts kept back for evaluation.

With a handful of fixed phrasings a small model answers only those; composed from parts, it answers phrasings that it
has never seen.
"""

from __future__ import annotations

import hashlib
import math
import operator
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random

from jobs.stock.topics import ENDINGS, HELD_ENDINGS, HELD_PREFIXES, PREFIXES, TOPICS

HELD_SHARE = 0.06  # of the facts of a topic are never taught


@dataclass(frozen=True)
class Fact:
    """One fact of a topic (a name in TOPICS). `subject`, `answer` and `extra` are the {s}, {a} and {x} of its texts.

    group: facts of one group are taught or kept back together; its subject where nothing is said.
    """

    topic: str
    subject: str
    answer: str
    extra: str = ""
    group: str = ""

    @property
    def key(self) -> str:
        """What tells this fact from all others."""
        return f"{self.topic}/{self.subject}"


def sentence(fact: Fact) -> str:
    """The answer as a full sentence: what the model is to say."""
    return _fill(TOPICS[fact.topic].sentence, fact)


def statements(fact: Fact) -> list[str]:
    """The fact as it may stand in running text, in every wording there is."""
    return [_fill(text, fact) for text in TOPICS[fact.topic].statements]


def draw(fact: Fact, seed: int, epoch: int) -> list[str]:
    """The questions about a fact in one epoch, `draws` of its topic: every second one bare, the others with a prefix.

    The same seed and epoch give the same questions; other epochs give others until all combinations are used up.
    """
    topic = TOPICS[fact.topic]
    prefixes, endings = PREFIXES[topic.language], ENDINGS[topic.language]
    questions = []
    for number in range(epoch * topic.draws, (epoch + 1) * topic.draws):
        dressed = number % 2
        choices = prefixes[1:] if dressed else prefixes[:1]
        total = len(choices) * len(topic.cores) * len(endings)
        index, core = divmod(_walk(f"{seed}/{fact.key}/{dressed}", number // 2, total), len(topic.cores))
        prefix, ending = divmod(index, len(endings))
        questions.append(_question(fact, choices[prefix], topic.cores[core], endings[ending]))
    return questions


def draw_held_out(fact: Fact, seed: int, number: int = 0) -> tuple[str, tuple[str, ...]]:
    """A question in which at least one part is of those that are kept back, and the names of those parts.

    number: 0, 1, ... gives other questions about the same fact.
    """
    topic = TOPICS[fact.topic]
    rng = Random(f"{seed}/held/{fact.key}/{number}")
    patterns = [("prefix",), ("ending",), ("prefix", "ending")]
    if topic.held_cores:
        patterns += [("core",), ("core",), ("prefix", "core"), ("prefix", "core", "ending")]
    held = rng.choice(patterns)
    prefix = rng.choice((HELD_PREFIXES if "prefix" in held else PREFIXES)[topic.language])
    core = rng.choice(topic.held_cores if "core" in held else topic.cores)
    ending = rng.choice((HELD_ENDINGS if "ending" in held else ENDINGS)[topic.language])
    return _question(fact, prefix, core, ending), held


def hold_out_facts(facts: Sequence[Fact], seed: int, share: float = HELD_SHARE) -> tuple[list[Fact], list[Fact]]:
    """Facts to teach, and facts that are kept back: `share` of the groups, at least one where there are ten or more.

    Which ones depends on the seed and on the facts' own content, not on their order.
    """
    groups = sorted({_group(fact) for fact in facts}, key=lambda group: _hash(f"{seed}/{group}"))
    held = set(groups[: math.ceil(len(groups) * share)] if len(groups) >= 10 else ())
    return [f for f in facts if _group(f) not in held], [f for f in facts if _group(f) in held]


def is_held(group: str, seed: int) -> bool:
    """Whether a generated problem is one of those that are never taught: one in ten, by its content."""
    return _hash(f"{seed}/{group}") % 10 == 0


def unambiguous(facts: Iterable[Fact]) -> list[Fact]:
    """The facts whose question has one answer only; the same fact once."""
    answers: dict[str, set[str]] = defaultdict(set)
    first: dict[str, Fact] = {}
    for fact in facts:
        answers[fact.key].add(fact.answer)
        first.setdefault(fact.key, fact)
    return [fact for key, fact in first.items() if len(answers[key]) == 1]


class Leaks:
    """Finds texts that would give away a fact that is kept back: both what is asked and its answer stand in them."""

    def __init__(self, held: Iterable[Fact]) -> None:
        # By the first two characters of the subject: a text is looked through once, not once per fact.
        self._facts: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for fact in held:
            subject = fact.subject.removeprefix("the ")
            self._facts[subject[:2]].append((subject, fact.answer.removeprefix("the ")))
        self._short = [start for start in self._facts if len(start) == 1]

    def mentions(self, text: str) -> bool:
        """Whether a fact that is kept back could be learnt from the text."""
        starts = self._facts.keys() & set(map(operator.add, text, text[1:]))
        starts |= {start for start in self._short if start in text}
        return any(
            stands(subject, text) and stands(answer, text) for start in starts for subject, answer in self._facts[start]
        )


def stands(word: str, text: str) -> bool:
    """Whether a word stands in a text. Chinese has no spaces; in English Niger does not stand in Nigeria."""
    return word in text and (not word.isascii() or bool(re.search(rf"\b{re.escape(word)}\b", text)))


def _question(fact: Fact, prefix: str, core: str, ending: str) -> str:
    return prefix + _fill(core, fact, capital=not prefix.endswith(", ")) + ending


def _fill(template: str, fact: Fact, capital: bool = True) -> str:
    text = template.format(s=fact.subject, a=fact.answer, x=fact.extra)
    if capital and TOPICS[fact.topic].language == "en":
        text = text[:1].upper() + text[1:]
    return text


def _walk(key: str, number: int, total: int) -> int:
    """Step `number` of a walk over 0 .. total-1 that meets each place once before it comes back to the first."""
    rng = Random(key)
    start, stride = rng.randrange(total), rng.randrange(total)
    while math.gcd(stride, total) != 1:
        stride = rng.randrange(total) if total > 1 else 1
    return (start + number * stride) % total


def _group(fact: Fact) -> str:
    return fact.group or fact.key


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
