"""A made-up corpus with the statistics of a real one: Zipf's law for words, log-normal lengths, Chinese and English.

English words and their frequencies are those of Python's own documentation; Chinese words are made of characters
drawn by Zipf's law. The same seed gives the same bytes.
"""

from __future__ import annotations

import json
import pydoc_data.topics
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

MEAN_WORDS, SPREAD = 4.5, 0.9
"""Words per document: log-normal with this mean and deviation of the logarithm."""


def texts(seed: int = 0) -> Iterator[str]:
    """Documents without end, in Chinese and English by turns, about as many bytes of each."""
    rng = np.random.default_rng(seed)
    languages = (_chinese(np.random.default_rng(0)), _english())
    while True:
        lengths = np.exp(rng.normal(MEAN_WORDS, SPREAD, 512)).astype(int) + 3
        drawn = [iter(_draw(language, int(lengths.sum()), rng)) for language in languages]
        for i, length in enumerate(lengths.tolist()):
            words = list(islice(drawn[i % 2], length))
            space, stop = languages[i % 2][2:]
            yield (stop + space).join(space.join(words[at : at + 12]) for at in range(0, length, 12)) + stop


def write(path: Path, megabytes: float, seed: int = 0) -> int:
    """Write about `megabytes` of {"text"} rows; gives the number of rows."""
    left, rows = int(megabytes * 1e6), 0
    with path.open("wb") as file:
        for text in texts(seed):
            left -= file.write(json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n")
            rows += 1
            if left <= 0:
                return rows
    raise AssertionError("unreachable")


Language = tuple[np.ndarray, np.ndarray, str, str]
"""Words, their cumulative shares, what stands between words, what ends a sentence."""


def _draw(language: Language, count: int, rng: np.random.Generator) -> list[str]:
    words, cumulative = language[:2]
    drawn: list[str] = words[np.searchsorted(cumulative, rng.random(count) * cumulative[-1])].tolist()
    return drawn


def _english() -> Language:
    counts = Counter(re.findall(r"[A-Za-z']+|\d+", " ".join(pydoc_data.topics.topics.values())))
    return np.array(list(counts), object), np.cumsum(list(counts.values())), " ", "."


def _chinese(rng: np.random.Generator) -> Language:
    characters = rng.permutation([chr(code) for code in range(0x4E00, 0x9FA6)])[:4000]
    frequency = 1 / np.arange(2, 4002)
    letters = rng.choice(characters, (30_000, 4), p=frequency / frequency.sum())
    words = ["".join(row[:length]) for row, length in zip(letters, rng.choice([1, 2, 2, 2, 3, 4], 30_000), strict=True)]
    return np.array(words, object), np.cumsum(1 / np.arange(2, 30_002)), "", "。"
