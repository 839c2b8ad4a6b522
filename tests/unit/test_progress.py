from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path

import pytest
from rich.console import Console

from jobs.runs.directory import RunDirectory
from jobs.runs.progress import RunProgress, following
from minimind.events import Event, EventLog
from minimind.language import speaking


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
    with RunProgress(screen) as progress:
        progress.update(running())
        progress.update(metrics(10, 20.0, perf__tokens_per_s=12_345.0, perf__peak_memory_bytes=1.2e9))
    first, second, third = stream.getvalue().splitlines()
    assert first.endswith("RUNNING  step 0 / 100")
    assert second.endswith("step  10/100  10.0%  loss 3.250  12.3k tokens/s  ETA 3 min 0 s")
    assert third.endswith("step  10/100  memory 1.12 GB")
    assert "\x1b" not in stream.getvalue()


def test_a_log_is_not_flooded_and_ends_with_the_last_step() -> None:
    screen, stream = console()
    with RunProgress(screen, period_s=10.0) as progress:
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
    progress = RunProgress(screen)
    progress.update(running(total=3))
    for step in (1, 2, 3):
        progress.update(metrics(step, time=float(step)))
    assert "step 3/3 100.0%" in stream.getvalue()
    assert "step 2/3" not in stream.getvalue()


def test_the_remaining_time_follows_the_pace_of_this_attempt() -> None:
    progress = RunProgress(console()[0])
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
    with RunProgress(screen) as progress:
        progress.update(
            {"time": 1, "type": "metrics", "step": 5, "values": {"val/loss": 2.5, "val/bits_per_byte": 1.25}}
        )
        progress.update({"time": 1, "type": "checkpoint", "step": 5, "path": "checkpoints/step_00000005"})
        progress.update({"time": 1, "type": "note", "kind": "x", "text": "rows [3, 4] skipped " + "because " * 20})
        progress.update({"time": 1, "type": "state", "state": "FAILED", "reason": "disk full"})
    lines = [line.split("  ", 1)[1] for line in stream.getvalue().splitlines()]
    assert lines[0] == "step 5  validation  1.2500 bits/byte  loss 2.5000"
    assert lines[1] == "step 5  checkpoint  checkpoints/step_00000005"
    assert lines[2].startswith("rows [3, 4] skipped because")
    assert lines[3] == "FAILED  disk full"


def test_the_lines_of_a_log_have_columns_and_fit_a_terminal() -> None:
    screen, stream = console()
    with RunProgress(screen, period_s=0) as progress:
        progress.update(running(total=8000))
        for step in (5, 40, 4000):
            values = {"perf__tokens_per_s": 12_345.0, "perf__peak_memory_bytes": 1.2e9}
            progress.update(metrics(step, 20.0 * step, **values))
            progress.update({"time": 1, "type": "metrics", "step": step, "values": {"val/loss": 2.5}})
            progress.update({"time": 1, "type": "checkpoint", "step": step, "path": f"checkpoints/step_{step:08d}"})
    lines = stream.getvalue().splitlines()[1:]
    assert len(lines) == 10
    assert {line.index("/8000") for line in lines} == {len("hh:mm:ss  step 0000")}
    assert len({line.index("loss") for line in lines if "%" in line}) == 1
    assert max(map(len, lines)) <= 80
    assert sum("memory" in line for line in lines) == 1  # it has not grown


def test_what_is_forgotten_stands_beside_a_validation() -> None:
    screen, stream = console()
    with RunProgress(screen) as progress:
        values = {"val/bits_per_byte": 1.25, "val/pretrain_bits_per_byte": 1.5}
        progress.update({"time": 1, "type": "metrics", "step": 5, "values": values})
    assert "step 5  validation  1.2500 bits/byte  plain text 1.5000" in stream.getvalue()


TRIED = {"val/loss": -0.75, "val/right": 0.75, "val/cut_off": 0.25, "val/answer_tokens": 12.0}


def test_a_run_that_tries_tells_its_reward_and_what_is_right() -> None:
    screen, stream = console()
    known = {"val/facts": 0.5, "val/pretrain_bits_per_byte": 2.0}
    with RunProgress(screen) as progress:
        progress.update(running())
        progress.update(metrics(10, 20.0, train__reward=0.5))
        for reward in (0.75, 1.25):
            values = TRIED | {"val/reward": reward} | known
            progress.update({"time": 1, "type": "metrics", "step": 10, "values": values})
        del values["val/right"]  # nothing could be told
        progress.update({"time": 1, "type": "metrics", "step": 10, "values": values})
        progress.update({"time": 1, "type": "note", "kind": "alarm", "cause": "proxy", "text": "look"})
    lines = [line.split("  ", 1)[1] for line in stream.getvalue().splitlines()[1:]]
    assert lines[0] == "step  10/100  10.0%  reward 0.500  ETA 3 min 0 s"
    assert lines[1] == "step  10/100  validation  right 75.0 %  facts 50.0 %  plain text 2.00"
    assert lines[2] == "step  10/100  validation  right 75.0 %  reward 1.25  facts 50.0 %"
    assert lines[3] == "step  10/100  validation  reward 1.25  facts 50.0 %"
    assert max(map(len, stream.getvalue().splitlines())) <= 80
    assert lines[4] == "alarm proxy: look"


def test_in_chinese() -> None:
    screen, stream = console()
    with speaking("zh"), RunProgress(screen) as progress:
        progress.update(running())
        progress.update(metrics(10, 20.0))
        progress.update({"time": 1, "type": "state", "state": "SUCCEEDED"})
    assert "步数  10/100  10.0%  损失 3.250  剩余 3 分 0 秒" in stream.getvalue()
    assert stream.getvalue().rstrip().endswith("已完成")


def test_a_terminal_gets_a_bar_that_fits_it() -> None:
    screen, stream = console(terminal=True, width=80)
    with RunProgress(screen) as progress:
        progress.update(running(total=57_600))
        progress.update(metrics(30_000, 33_000.0, perf__tokens_per_s=12_345.0, perf__peak_memory_bytes=1.2e9))
        progress.update({"time": 1, "type": "note", "kind": "x", "text": "a note"})
    shown = stream.getvalue()
    assert "step 30000/57600  52.1%" in shown
    assert "loss 3.250  12.3k tokens/s  1.12 GB  ETA 8 h 26 min" in shown
    assert "━" in shown
    assert "a note" in shown
    assert shown.endswith("\x1b[?25h")  # the cursor is back


def test_it_can_listen_to_the_log_itself(tmp_path: Path) -> None:
    screen, stream = console()
    with RunProgress(screen) as progress, EventLog(tmp_path / "events.jsonl", listener=progress.update) as log:
        log.state("RUNNING", step=0, total_steps=2)
        log.metrics(1, {"train/loss": 1.5})
    assert "step 1/2  50.0%  loss 1.500" in stream.getvalue()


def test_bar_only_leaves_the_lines_to_the_log() -> None:
    screen, stream = console(terminal=True)
    with RunProgress(screen, bar_only=True) as progress:
        progress.update(running())
        progress.update({"time": 1, "type": "note", "kind": "x", "text": "a note"})
        progress.update(metrics(10, 20.0))
    assert "step  10/100" in stream.getvalue()
    assert "RUNNING" not in stream.getvalue()
    assert "a note" not in stream.getvalue()


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path / "first")
    run.create({"stage": {"kind": "pretrain"}})
    with run.hold(), EventLog(run.events_path) as log:
        log.state("RUNNING", step=0, total_steps=4)
        log.metrics(1, {"train/loss": 9.0})
        log.state("STOPPED")
    return run


def test_following_a_run_that_goes_on_shows_only_what_comes(run: RunDirectory) -> None:
    screen, stream = console()
    with following(run, screen), run.hold(), EventLog(run.events_path) as log:
        log.state("RUNNING", step=1, total_steps=4)
        log.metrics(4, {"train/loss": 1.0})
        log.state("FAILED", reason="a worker died")
        log.state("RUNNING", step=2, total_steps=4)  # the workers were started again
        log.state("SUCCEEDED")
    lines = [line.split("  ", 1)[1] for line in stream.getvalue().splitlines()]
    assert lines == [
        "RUNNING  step 1 / 4",
        lines[1],
        "FAILED  a worker died",
        "RUNNING  step 2 / 4",
        "SUCCEEDED",
    ]
    assert lines[1].startswith("step 4/4 100.0%  loss 1.000")


def test_following_a_running_run_shows_its_present_attempt(run: RunDirectory) -> None:
    screen, stream = console()
    with run.hold(), EventLog(run.events_path) as log:
        log.state("RUNNING", step=1, total_steps=4)
        log.metrics(2, {"train/loss": 2.0})
        with following(run, screen):
            pass
    assert "RUNNING  step 1 / 4" in stream.getvalue()
    assert "step 2/4" in stream.getvalue()
    assert "9.000" not in stream.getvalue()


def test_following_a_run_without_events_or_with_a_broken_file(tmp_path: Path, run: RunDirectory) -> None:
    screen, stream = console()
    with following(RunDirectory(tmp_path / "none"), screen):
        pass
    assert stream.getvalue() == ""
    with following(run, screen), run.events_path.open("a") as file:
        file.write("broken\n")
    assert "events.jsonl:4: not an event" in stream.getvalue()
