from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path

import pytest
from rich.console import Console

from jobs.progress import RunProgress, follow
from minimind.events import Event, EventLog


def console(terminal: bool = False, width: int = 80) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(file=stream, width=width, force_terminal=terminal, color_system=None, legacy_windows=False), stream


def running(step: int = 0, total: int = 100, time: float = 0.0) -> Event:
    return {"time": time, "type": "state", "state": "RUNNING", "step": step, "total_steps": total}


def metrics(step: int, time: float, **values: float) -> Event:
    named = {name.replace("__", "/"): value for name, value in values.items()}
    return {"time": time, "type": "metrics", "step": step, "values": {"train/loss": 3.25, **named}}


def test_a_log_gets_a_plain_line_with_everything() -> None:
    screen, stream = console()
    with RunProgress(screen, "en") as progress:
        progress.update(running())
        progress.update(metrics(10, 20.0, perf__tokens_per_s=12_345.0, perf__peak_memory_bytes=1.2e9))
    first, second = stream.getvalue().splitlines()
    assert first.endswith("RUNNING  step 0 / 100")
    assert second.endswith("step 10/100 10.0%  loss 3.250  12.3k tokens/s  memory 1.2 GB  ETA 3 min 0 s")
    assert "\x1b" not in stream.getvalue()


def test_a_log_is_not_flooded_and_ends_with_the_last_step() -> None:
    screen, stream = console()
    with RunProgress(screen, "en", period_s=10.0) as progress:
        progress.update(running(total=20_000))
        for step in range(1, 10_001):
            progress.update(metrics(step, time=step * 1.0))
    steps = [int(line.split("step ")[1].split("/")[0]) for line in stream.getvalue().splitlines()[1:]]
    assert steps[:3] == [1, 11, 21]
    assert steps[-1] == 10_000
    gaps = [later - earlier for earlier, later in pairwise(steps)]
    assert max(gaps) == 60
    assert len(steps) < 300


def test_the_final_step_is_always_told() -> None:
    screen, stream = console()
    progress = RunProgress(screen, "en")
    progress.update(running(total=3))
    for step in (1, 2, 3):
        progress.update(metrics(step, time=float(step)))
    assert "step 3/3 100.0%" in stream.getvalue()
    assert "step 2/3" not in stream.getvalue()


def test_the_remaining_time_follows_the_pace_of_this_attempt() -> None:
    progress = RunProgress(console()[0], "en")
    assert progress.remaining_s() is None
    progress.update(running(total=100, time=0.0))
    for step in (10, 20):
        progress.update(metrics(step, time=step * 2.0))
    assert progress.remaining_s() == pytest.approx(160.0)
    progress.update(running(step=10, total=100, time=1000.0))
    progress.update(metrics(20, time=1005.0))
    assert progress.remaining_s() == pytest.approx(40.0)
    progress.update(metrics(15, time=1010.0))
    assert progress.remaining_s() is None


def test_validations_checkpoints_notes_and_the_end_are_lines_of_their_own() -> None:
    screen, stream = console()
    with RunProgress(screen, "en") as progress:
        progress.update(
            {"time": 1, "type": "metrics", "step": 5, "values": {"val/loss": 2.5, "val/bits_per_byte": 1.25}}
        )
        progress.update({"time": 1, "type": "checkpoint", "step": 5, "path": "checkpoints/step_00000005"})
        progress.update({"time": 1, "type": "note", "kind": "x", "text": "rows [3, 4] skipped " + "because " * 20})
        progress.update({"time": 1, "type": "state", "state": "FAILED", "reason": "disk full"})
    lines = [line.split("  ", 1)[1] for line in stream.getvalue().splitlines()]
    assert lines[0] == "validation  step 5  1.2500 bits/byte  loss 2.5000"
    assert lines[1] == "checkpoint  step 5  checkpoints/step_00000005"
    assert lines[2].startswith("rows [3, 4] skipped because")
    assert lines[3] == "FAILED  disk full"


def test_in_chinese() -> None:
    screen, stream = console()
    with RunProgress(screen, "zh") as progress:
        progress.update(running())
        progress.update(metrics(10, 20.0))
        progress.update({"time": 1, "type": "state", "state": "SUCCEEDED"})
    assert "步数 10/100 10.0%  损失 3.250  剩余 3 min 0 s" in stream.getvalue()
    assert stream.getvalue().rstrip().endswith("已完成")


def test_a_terminal_gets_a_bar_that_fits_it() -> None:
    screen, stream = console(terminal=True, width=80)
    with RunProgress(screen, "en") as progress:
        progress.update(running(total=57_600))
        progress.update(metrics(30_000, 33_000.0, perf__tokens_per_s=12_345.0, perf__peak_memory_bytes=1.2e9))
        progress.update({"time": 1, "type": "note", "kind": "x", "text": "a note"})
    shown = stream.getvalue()
    assert "step 30000/57600 52.1%" in shown
    assert "loss 3.250  12.3k tokens/s  1.2 GB  ETA 8 h 26 min" in shown
    assert "━" in shown
    assert "a note" in shown
    assert shown.endswith("\x1b[?25h")  # the cursor is back


def test_it_can_listen_to_the_log_itself(tmp_path: Path) -> None:
    screen, stream = console()
    with RunProgress(screen, "en") as progress, EventLog(tmp_path / "events.jsonl", listener=progress.update) as log:
        log.state("RUNNING", step=0, total_steps=2)
        log.metrics(1, {"train/loss": 1.5})
    assert "step 1/2 50.0%  loss 1.500" in stream.getvalue()


def test_following_shows_the_newest_attempt_until_its_end(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog(path) as log:
        log.state("RUNNING", step=0, total_steps=4)
        log.metrics(1, {"train/loss": 9.0})
        log.state("STOPPED")
        before = path.stat().st_size
        log.state("RUNNING", step=1, total_steps=4)
        log.metrics(4, {"train/loss": 1.0})
        log.state("SUCCEEDED")
        log.note("late", "not shown")
    for start in (None, before):
        screen, stream = console()
        with RunProgress(screen, "en") as progress:
            assert follow(path, progress, start=start) == "SUCCEEDED"
        assert "step 4/4" in stream.getvalue()
        assert "9.0" not in stream.getvalue()
        assert "not shown" not in stream.getvalue()


def test_following_ends_when_told_to(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog(path) as log:
        log.state("RUNNING", step=0, total_steps=4)
    screen, stream = console()
    assert follow(path, RunProgress(screen, "en"), stop=lambda: True) is None
    assert "RUNNING" in stream.getvalue()
    assert follow(tmp_path / "none", RunProgress(screen, "en"), stop=lambda: True) is None
