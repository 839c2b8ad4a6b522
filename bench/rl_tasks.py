"""Tasks of `bench/rl.py`, whose answers are right or wrong: demonstrations to begin with, prompts to try, and others.

    rising      sort five digits, after SFT on demonstrations of which three in four are in falling order: the model
                can, but mostly does not
    eight       sort eight digits, after a few steps of SFT on right demonstrations: the model half can
    arithmetic  sums and differences of numbers below 100, asked in English and in Chinese, after some SFT

Nothing that is held out stands among the others in another order: no multiset of digits, no pair of numbers.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Example:
    """A question. shown: what a demonstration answers, right or not. held_out: it is only asked."""

    question: str
    right: str
    shown: str
    held_out: bool


@dataclass(frozen=True)
class Task:
    """examples: drawn with a generator of its own. asked: of the held-out ones so many.

    start: steps of SFT before, on so many demonstrations and so many of the stock's conversations (known), without
    which the facts would be lost before any trying; start_settings: of it. more: steps of SFT that take about as long
    as GRPO. steps: of each algorithm. settings: of each, where they are not the preset's. again: so many prompts,
    the first of those that the others have, SPO has, which learns of such as come again.
    """

    examples: Callable[[random.Random], Iterable[Example]]
    asked: int
    start: int
    more: int
    steps: Mapping[str, int]
    demonstrations: int = 6000
    known: int = 2000
    batch_size: int = 16
    start_settings: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    again: int = 1024


def sorting(digits: int, falling: float) -> Callable[[random.Random], Iterable[Example]]:
    """To sort so many digits. falling: share of the demonstrations whose answer falls."""

    def examples(draw: random.Random) -> Iterable[Example]:
        for _ in range(10_000):
            drawn = [draw.randrange(10) for _ in range(digits)]
            rising, shown = sorted(drawn), sorted(drawn, reverse=draw.random() < falling)
            yield Example(f"Sort: {_spaced(drawn)}", _spaced(rising), _spaced(shown), _is_held_out(rising, 10))

    return examples


def arithmetic(draw: random.Random) -> Iterable[Example]:
    """The sum and the difference of every two numbers below 100, in both languages; of differences the larger first."""
    asked = list(product(range(100), range(100), (True, False), (True, False)))
    draw.shuffle(asked)
    for a, b, plus, chinese in asked:
        first, second = (a, b) if plus else (max(a, b), min(a, b))
        if chinese:
            question = f"{first}{'加' if plus else '减'}{second}等于多少？"
        else:
            question = f"What is {first} {'plus' if plus else 'minus'} {second}?"
        right = str(first + second if plus else first - second)
        yield Example(question, right, right, _is_held_out(sorted((a, b)), 40))


HALF_TAUGHT = {"optim.learning_rate": 3e-3, "optim.decay": 0.0}
"""SFT that is broken off on its way, at its full rate."""

FAST = {"optim.learning_rate": 1e-3}
SUMS = {"optim.learning_rate": 8e-4, "optim.decay": 0.5, "data.mix": 0.03}
SLOWER = {"optim.decay": 0.6, "data.mix": 0.02}

TASKS = {
    "rising": Task(
        sorting(5, falling=0.75),
        asked=200,
        start=300,
        more=50,
        steps={"grpo": 24, "spo": 18, "ppo": 34},
        settings=dict.fromkeys(("grpo", "spo", "ppo"), FAST | {"data.mix": 0.1}),
    ),
    "eight": Task(
        sorting(8, falling=0.0),
        asked=200,
        start=44,
        start_settings=HALF_TAUGHT,
        more=250,
        steps={"grpo": 155, "spo": 166, "ppo": 160},
        settings={
            "grpo": {"optim.learning_rate": 1.2e-3, "optim.decay": 0.5, "data.mix": 0.05, "stage.scale": "none"},
            "spo": SLOWER | {"optim.learning_rate": 8e-4, "stage.loss.entropy": 0.01},
            "ppo": SLOWER | {"optim.learning_rate": 7e-4},
        },
        again=4096,
    ),
    "arithmetic": Task(
        arithmetic,
        asked=400,
        start=480,
        start_settings=HALF_TAUGHT,
        demonstrations=24_000,
        known=6000,
        batch_size=32,
        more=310,
        steps={"grpo": 131, "spo": 124, "ppo": 124},
        settings={
            "grpo": SUMS | {"loop.batch_size": 128},
            "spo": SUMS | {"loop.batch_size": 64},
            "ppo": SUMS | {"loop.batch_size": 64},
        },
        again=8192,
    ),
}


def write_task(name: str, home: Path) -> dict[str, Path]:
    """The files of a task, in a home with the stock data: demonstrations, those among them that are the stock's,
    prompts, those of SPO, and held-out ones.
    """
    task = TASKS[name]
    found = list(task.examples(random.Random(f"bench {name}")))
    training = [example for example in found if not example.held_out]
    held_out = [example for example in found if example.held_out][: task.asked]
    folder = home / "data" / "bench-rl"
    folder.mkdir(parents=True, exist_ok=True)

    def prompt(example: Example) -> str:
        return _line({"prompt": example.question, "answer": example.right})

    def demonstration(example: Example) -> str:
        turns = [("user", example.question), ("assistant", example.shown)]
        return _line({"conversations": [{"role": role, "content": content} for role, content in turns]})

    def write(file: str, lines: Iterable[str]) -> Path:
        path = folder / f"{name}-{file}.jsonl"
        path.write_text("".join(lines), "utf-8")
        return path

    stock = (home / "data" / "stock" / "sft.jsonl").read_text("utf-8").splitlines(keepends=True)[: task.known]
    return {
        "demonstrations": write(
            "demonstrations",
            [*map(demonstration, training[: task.demonstrations]), *stock],
        ),
        "known": write("known", stock),
        "prompts": write("prompts", map(prompt, training)),
        "again": write("again", map(prompt, training[: task.again])),
        "held_out": write("held-out", map(prompt, held_out)),
    }


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _spaced(digits: Sequence[int]) -> str:
    return " ".join(map(str, digits))


def _is_held_out(numbers: Sequence[int], percent: int) -> bool:
    """So many in a hundred, by their hash."""
    return int.from_bytes(hashlib.blake2b(bytes(numbers), digest_size=4).digest()) % 100 < percent
