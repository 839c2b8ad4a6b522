"""Minimal pairs written as one text: words are drawn for its `{slots}`, then its forks give the two sentences.

`The {animal} [is|are] hungry.` -> `The cat is hungry.` and `The cat are hungry.`; `the [red ~ ball]` -> `the red ball`
and `the ball red`; `我[也~想]去` -> `我也想去` and `我想也去`.
"""

from __future__ import annotations

import random
import re

_SLOT = re.compile(r"\{(\w+)\}")
_CHOICE = re.compile(r"\[([^\[\]|~]*)\|([^\[\]|~]*)\]")
_SWAP = re.compile(r"\[([^\[\]|~]*?)( ?)~ ?([^\[\]|~]*)\]")


def listed(text: str, by: str | None = None) -> list[str]:
    """The entries of a list that is written as one text, with spaces between them or what is given."""
    return [" ".join(entry.split()) for entry in text.split(by)]


def fill(text: str, words: dict[str, list[str]], chance: random.Random) -> str:
    """The text with a word for each slot, no word twice; words may have slots and forks of their own."""
    used: list[str] = []
    while slot := _SLOT.search(text):
        used.append(chance.choice([word for word in words[slot[1]] if word not in used]))
        text = text[: slot.start()] + used[-1] + text[slot.end() :]
    return text


def fork(text: str) -> tuple[str, str]:
    """(good, bad): the first of each choice and each swap as written; the second, and swaps turned round."""
    good = _SWAP.sub(r"\1\2\3", _CHOICE.sub(r"\1", text))
    bad = _SWAP.sub(r"\3\2\1", _CHOICE.sub(r"\2", text))
    return good, bad


def turned(words: list[str]) -> list[str]:
    """The words with their choices the other way round, for a sentence in which the other one is right."""
    return [_CHOICE.sub(r"[\2|\1]", word) for word in words]
