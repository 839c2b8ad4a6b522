"""The table at the end of a pipeline: nothing of it is cut off, however many stages and suites there are."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len

from jobs.pipeline.results import Result, show
from jobs.pipeline.steps import STEPS
from jobs.runs.evals import EvalLog
from jobs.terminal.console import Terminal
from minimind.language import phrase, speaking

SUITES = {"grammar": 0.563, "language": 3.1875, "facts": 0.955, "preferences": 0.997, "skills": 1.0}


def log(suite: str, score: float) -> EvalLog:
    return EvalLog(Path("log"), [], {"suite": suite, "score": score, "lower_is_better": suite == "language"})


def result(stage: str, number: int) -> Result:
    """As a pipeline has it: pretraining is put to suites that need no answers, a reward model to none."""
    asked = {"pretrain": 2, "reward": 0}.get(stage, len(SUITES))
    logs = [log(*one) for one in list(SUITES.items())[:asked]]
    measured = ("accuracy", 0.5, 0.9 + number / 100) if stage in ("dpo", "kto", "reward") else None
    return Result(stage, 3784.0 + number, f"{number}c3f0d93ab" + 54 * "0", logs, measured)


def shown(results: list[Result], width: int) -> list[str]:
    stream = io.StringIO()
    show(results, Terminal(file=stream, width=width))
    text = stream.getvalue()
    assert "…" not in text
    lines = text.splitlines()
    assert max(map(cell_len, lines)) <= width
    return lines


def row(title: str, lines: list[str]) -> list[str]:
    """The values of each row of this title, of all tables."""
    return [value for line in lines if line.startswith(f"{title} ") for value in line.removeprefix(title).split()]


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("width", [80, 44])
def test_every_stage_and_every_suite_is_there_whole(lang: str, width: int) -> None:
    stages = [step.stage for step in STEPS]
    results = [result(stage, number) for number, stage in enumerate(stages)]
    with speaking(lang):
        lines = shown(results, width)
        titles = {name: phrase(name) for name in ("stage", "time", *SUITES)}
    assert row(titles["stage"], lines) == stages
    assert row(titles["time"], lines)[:2] == ["1:03:04", "1:03:05"]
    assert row("sha256", lines) == [f"{number}c3f0d93"[:7] for number in range(len(stages))]
    own = [f"0.500 → {0.9 + stages.index(name) / 100:.3f}" for name in ("kto", "dpo", "reward")]
    assert " ".join(row("accuracy", lines)) == " ".join(own)
    assert row(f"{titles['language']} ↓", lines)[: len(stages) - 1] == ["3.1875"] * (len(stages) - 1)
    assert row(titles["skills"], lines) == ["100.0", "%"] * (len(stages) - 2)
    tables = sum(line.startswith(titles["stage"]) for line in lines)
    assert tables == 2 if width == 80 else tables > 2


def test_two_stages_have_only_what_there_is_of_them() -> None:
    lines = shown(
        [replace(result("pretrain", 0), seconds=93_784.0), Result("sft", 5.0, "ab" * 32, [log("skills", 0.02)])], 80
    )
    assert row("time", lines) == ["26:03:04", "0:00:05"]
    assert row("skills", lines) == ["2.0", "%"]
    assert not any("accuracy" in line or "held-out" in line for line in lines)


def test_a_suite_of_a_long_name_leaves_room_for_fewer_stages() -> None:
    name = "a-suite-of-my-own-with-a-name-that-is-long"[:41]
    lines = shown([Result(stage, 5.0, "ab" * 32, [log(name, 0.5)]) for stage in ("pretrain", "sft", "lora")] * 2, 80)
    assert sum(line.startswith(name) for line in lines) == 2
    assert row("stage", lines) == ["pretrain", "sft", "lora"] * 2


def test_of_no_stages_nothing_is_shown() -> None:
    stream = io.StringIO()
    show([], Terminal(file=stream, width=80))
    assert stream.getvalue() == ""
