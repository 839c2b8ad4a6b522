from __future__ import annotations

import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from jobs.sweeps.feasible import Group
from jobs.sweeps.report import front, point_text, ranked, table, trial_line, write_report
from minimind.language import speaking
from tests.small import Screen


def trial(
    number: int, bits: float | None, speed: float | None, outcome: str = "measured", **more: Any
) -> dict[str, Any]:
    known = {"bits_per_byte": bits, "tokens_per_s": speed, "predicted_bytes": 2**20, "peak_bytes": 2**20}
    settings = {"loop.batch_size": 2**number, "optim.schedule": "wsd"}
    return {"trial": number, "settings": settings, "outcome": outcome, "counts_tensors": True, **known, **more}


TRIALS = [
    trial(1, 2.5, 900.0),
    trial(2, 2.0, 500.0),
    trial(3, 3.0, 400.0),
    trial(4, 1.0, 9e9, "ended early"),
    trial(5, None, None, "infeasible", reason="no <memory> [/red]\nmore", closed=2, peak_bytes=None),
]
FOUND = [Group(tuple({"loop.batch_size": 2**n, "optim.schedule": "wsd"} for n in range(1, 8)), 5)]


def numbers(trials: list[dict[str, Any]]) -> list[int]:
    return [trial["trial"] for trial in trials]


def test_only_trials_that_went_to_their_end_are_ranked() -> None:
    assert numbers(ranked(TRIALS, "bits_per_byte")) == [2, 1, 3]
    assert numbers(ranked(TRIALS, "tokens_per_s")) == [1, 2, 3]
    assert numbers(front(TRIALS)) == [1, 2]


def test_a_trial_in_a_line() -> None:
    assert trial_line(TRIALS[0]) == "trial 1: batch_size=2 schedule=wsd  2.5000 bits/byte  900 tokens/s"
    assert "infeasible: no <memory>" in trial_line(TRIALS[4])
    with speaking("zh"):
        assert "显存不足：no <memory>" in trial_line(TRIALS[4])
    assert "2 more points closed" in trial_line(TRIALS[4])
    assert point_text({"loop.activation_checkpointing": True, "optim.learning_rate": 0.0012345}) == (
        "activation_checkpointing=1 learning_rate=0.00123"
    )


def test_the_table_has_every_trial_the_best_first() -> None:
    screen = Screen()
    screen.print(table(TRIALS, "bits_per_byte"))
    rows = [line.split() for line in screen.text.splitlines()]
    places = [next(place for place, row in enumerate(rows) if str(2**n) in row) for n in (2, 1, 3, 4, 5)]
    assert places == sorted(places)
    assert "in all: schedule=wsd" in screen.text
    assert screen.text.count("Pareto") == 2


def test_the_page_holds_everything_in_itself(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(path, "a <sweep>", "bits_per_byte", ["loop.batch_size", "optim.schedule"], FOUND, TRIALS, Screen())
    page = path.read_text("utf-8")
    assert page.count("<svg") == 4  # two settings, the front, memory
    assert page.count("class=best cx") == 2
    assert page.count("<path class=refused") == 4  # two points on two plots
    assert "5 trials, 5 points that fit, 2 refused" in page
    assert "refused, never started" in page
    assert "<html lang=en>" in page
    assert not re.search("[一-鿿]", page)
    assert "a &lt;sweep&gt;" in page
    assert "no &lt;memory&gt;" in page
    assert not any(outside in page for outside in ("http", "src=", "@import", "url("))


def test_the_page_of_a_sweep_that_measured_nothing(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(path, "s", "tokens_per_s", ["loop.batch_size"], FOUND, TRIALS[4:], Screen())
    assert "infeasible" in path.read_text("utf-8")


def test_the_page_is_in_the_readers_language(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    with speaking("zh"):
        write_report(path, "s", "bits_per_byte", ["loop.batch_size"], FOUND, TRIALS, Screen())
    page = path.read_text("utf-8")
    for words in (
        "<html lang=zh>",
        "5 次试验",
        "放不下，从未启动",
        "帕累托前沿",
        "比特/字节",
        "实测",
        "显存不足",
    ):
        assert words in page
    for words in ("refused and", "never started", "bits/byte", "measured<", ">predicted", " / "):
        assert words not in page


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_no_number_of_the_table_is_cut_on_a_narrow_screen(lang: str) -> None:
    settings = {
        "loop.batch_size": 16,
        "loop.accumulation_steps": 8,
        "data.max_seq_len": 340,
        "optim.learning_rate": 0.00945,
        "loop.activation_checkpointing": True,
    }
    trials = [
        trial(number, 2.8241, 1234.5) | {"settings": dict.fromkeys(settings, 0) if number else settings}
        for number in (0, 1)
    ]
    screen = Console(width=80, file=(output := StringIO()))
    with speaking(lang):
        screen.print(table(trials, "bits_per_byte"), soft_wrap=False)
    row = next(line for line in output.getvalue().splitlines() if "0.00945" in line)
    assert row.split()[1:] == ["16", "8", "340", "0.00945", "1", "2.8241", "1.23k", "1", "MB", "1", "MB", "Pareto"]
    assert "…" not in output.getvalue()


def test_a_sweep_that_was_stopped_before_a_trial_ended_has_a_report(tmp_path: Path) -> None:
    screen = Screen()
    write_report(tmp_path / "report.html", "s", "bits_per_byte", ["loop.batch_size"], FOUND, [], screen)
    assert "bits/" in screen.text
    assert (tmp_path / "report.html").exists()
