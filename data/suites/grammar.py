"""Minimal pairs of English and Chinese grammar: does a model find the good sentence likelier than the bad one?

The idea is that of BLiMP (Warstadt et al., 2020, "BLiMP: The Benchmark of Linguistic Minimal Pairs for English") and
of ZhoBLiMP (Liu et al., 2024, "ZhoBLiMP: a Systematic Assessment of Language Models with Linguistic Minimal Pairs in
Chinese"). Phenomena, templates and words are this project's own: words of children's stories, for small models.
"""

from __future__ import annotations

import random

from data.suites import chinese, english
from data.suites.templates import fill, fork

VERSION = 1
"""Raised with every change to the rows: scores of different versions are not comparable."""

PER_PHENOMENON = 100


def pairs() -> list[dict[str, str]]:
    """All rows in BLiMP's format, the same at every call."""
    return [
        {"sentence_good": good, "sentence_bad": bad, "phenomenon": phenomenon, "language": language}
        for language, suite in (("en", english), ("zh", chinese))
        for phenomenon, texts in suite.PHENOMENA.items()
        for good, bad in _drawn(phenomenon, texts, suite.WORDS).items()
    ]


def _drawn(phenomenon: str, texts: list[str], words: dict[str, list[str]]) -> dict[str, str]:
    """Good sentence -> bad one. The texts take turns, so that a form is right in one as often as wrong in another."""
    chance = random.Random(phenomenon)
    drawn: dict[str, str] = {}
    while len(drawn) < PER_PHENOMENON:
        good, bad = fork(fill(texts[len(drawn) % len(texts)], words, chance))
        drawn.setdefault(good, bad)
    return drawn
