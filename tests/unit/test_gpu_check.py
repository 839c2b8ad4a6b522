from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from jobs import gpu_check
from jobs.fit.card import this_card
from jobs.gpu_check import CHECKS, Bench, Row, plans
from jobs.stages.table import STAGES
from tests.small import Screen, needs_no_gpu

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", CHECKS)
def test_each_check_holds_on_a_very_small_model(name: str, home: Path) -> None:
    rows = list(CHECKS[name](Bench.on("cpu")))
    assert rows
    assert [row for row in rows if row.ok is False] == []


def test_what_must_hold_is_looked_at(home: Path) -> None:
    bench = Bench.on("cpu")
    assert len({spec.model_dump_json() for spec in plans(bench)}) == 23
    assert {spec.stage.kind for spec in plans(bench)} == set(STAGES)
    held = [row.what for row in CHECKS["bits"](bench) if row.ok]
    assert len(held) == 3 * len(gpu_check.PRECISIONS)
    assert list((home / "runs").glob("*/checkpoints/*")) == []  # those of a large model would fill a small disk


def test_a_card_without_bfloat16_is_not_asked_for_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = this_card
    monkeypatch.setattr(gpu_check, "this_card", lambda *args, **named: replace(real(*args, **named), bf16=False))
    assert not [row.what for row in CHECKS["card"](Bench.on("cpu")) if "product, bfloat16" in row.what]
    assert Bench.on("cpu").precisions == ("float32", "float16")


def test_a_run_that_ends_with_other_bits_is_seen(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, seeds = gpu_check._trained, iter(range(100))
    monkeypatch.setattr(
        gpu_check, "_trained", lambda bench, name, **settings: real(bench, name, seed=next(seeds), **settings)
    )
    rows = {row.what: row.ok for row in CHECKS["bits"](Bench.on("cpu"))}
    assert rows["float32 trains"] is True
    assert rows["float32, the same run again"] is False
    assert rows["float32, stopped and resumed"] is False


def test_all_checks_make_a_table_a_report_and_a_line_of_json(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_check, "CHECKS", {"card": CHECKS["card"], "bits": CHECKS["bits"]})
    answers = {"bits": [Row("float16 | trains", "loss 3 to 4", ok=False), Row("speed", "7", figures={"speed": 7.0})]}
    real = gpu_check._in_a_process
    monkeypatch.setattr(gpu_check, "_in_a_process", lambda name, *rest: answers.get(name) or real(name, *rest))
    screen = Screen()
    report = tmp_path / "gpu-report.md"
    assert gpu_check.gpu_check("cpu", screen, report=report) == 1
    figures = json.loads(screen.text.strip().splitlines()[-1])
    assert figures["failed"] == ["bits: float16 | trains"]
    assert figures["speed"] == 7
    assert figures["product_float32"] > 0
    assert "torch" in figures["software"]
    text = report.read_text("utf-8")
    assert "| bits | float16 \\| trains | loss 3 to 4 | FAILED |" in text
    assert re.search(r"\| card \| memory, copied \| \d+ GB/s \|", text)


def test_a_check_that_ends_in_an_error_is_told(home: Path) -> None:
    (row,) = gpu_check._in_a_process("nothing of this name", "cpu", str(home), 60)
    assert row.ok is False
    assert "KeyError" in row.value


def test_what_libraries_print_is_no_row(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_VERBOSE", "1")  # it prints what it has compiled, on the standard output
    rows = gpu_check._in_a_process("card", "cpu", str(home), 60)
    assert [row.what for row in rows if row.ok is False] == []
    assert any(row.what == "software" for row in rows)


def test_a_check_that_takes_too_long_is_ended(home: Path) -> None:
    (row,) = gpu_check._in_a_process("bits", "cpu", str(home), 0.2)
    assert row.ok is False
    assert row.value.startswith("ended after")


@needs_no_gpu
def test_without_a_gpu_it_says_what_to_look_at() -> None:
    with pytest.raises(ValueError, match=r"sees none here.*nvidia-smi.*--device cpu"):
        Bench.on("cuda")
