from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from minimind.events import (
    METRICS,
    STATES,
    Event,
    EventLog,
    Metric,
    all_series,
    attempt_start,
    best_first,
    declare,
    latest_values,
    metric_series,
    read_events,
    standing,
    tail,
    went_back,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def clock() -> float:
    return 1000.0


def write_losses(path: Path, steps: range, offset: float = 0.0) -> None:
    with EventLog(path) as log:
        for step in steps:
            log.metrics(step, {"train/loss": step + offset})


def test_every_kind_of_event_is_one_line_that_reads_back(path: Path) -> None:
    with EventLog(path, clock) as log:
        log.state("RUNNING", step=0, total_steps=3)
        log.metrics(1, {"train/loss": 2.5, "train/lr": 1})
        log.checkpoint(1, "checkpoints/step_00000001", save_s=0.5)
        log.note("step_skipped", "第 2 步被跳过", rows=[3, 4])
    assert path.read_text("utf-8").count("\n") == 4
    assert "第 2 步" in path.read_text("utf-8")
    assert read_events(path) == [
        {"time": 1000.0, "type": "state", "state": "RUNNING", "step": 0, "total_steps": 3},
        {"time": 1000.0, "type": "metrics", "step": 1, "values": {"train/loss": 2.5, "train/lr": 1.0}},
        {"time": 1000.0, "type": "checkpoint", "step": 1, "path": "checkpoints/step_00000001", "save_s": 0.5},
        {"time": 1000.0, "type": "note", "kind": "step_skipped", "text": "第 2 步被跳过", "rows": [3, 4]},
    ]
    assert [event["type"] for event in read_events(path, {"state", "note"})] == ["state", "note"]


def test_no_file_means_no_events(path: Path) -> None:
    assert read_events(path) == []
    assert metric_series(path, "train/loss") == ([], [])
    assert latest_values(path, ["train/loss"]) == (None, {})
    assert attempt_start(path) == 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_survive_as_legal_json(path: Path, value: float) -> None:
    with EventLog(path) as log:
        log.metrics(1, {"train/loss": value})
        log.note("odd", "a number", value=[value])
    assert "NaN" not in path.read_text()
    assert "Infinity" not in path.read_text()
    (_, (read,)) = metric_series(path, "train/loss")
    assert read == value or (math.isnan(read) and math.isnan(value))


def test_an_unknown_metric_is_refused_with_near_names(path: Path) -> None:
    with EventLog(path) as log, pytest.raises(ValueError, match=r"'train/los' is not declared.*train/loss"):
        log.metrics(1, {"train/los": 1.0})
    assert path.read_text() == ""
    with pytest.raises(ValueError, match="not declared"):
        metric_series(path, "train/los")


def test_an_unknown_state_and_a_detail_that_hides_a_field_are_refused(path: Path) -> None:
    with EventLog(path) as log:
        with pytest.raises(ValueError, match=f"'DONE' is not one of {', '.join(STATES)}"):
            log.state("DONE")
        with pytest.raises(ValueError, match="already has time"):
            log.note("x", "y", time=3)


def test_a_listener_hears_what_is_written(path: Path) -> None:
    heard: list[Event] = []
    with EventLog(path, listener=heard.append) as log:
        log.metrics(1, {"train/loss": 1.0})
    assert heard == read_events(path)


def test_a_torn_last_line_is_ignored_and_cut_before_the_next_event(path: Path) -> None:
    write_losses(path, range(1, 3))
    whole = path.read_bytes()
    for torn in (b'{"time": 1, "type": "met', b"\0" * 5000, b"x" * 200_000):
        path.write_bytes(whole + torn)
        assert metric_series(path, "train/loss")[0] == [1, 2]
        EventLog(path).close()
        assert path.read_bytes() == whole
    path.write_bytes(b"only half a li")
    write_losses(path, range(1, 2))
    assert metric_series(path, "train/loss") == ([1], [1.0])


def test_a_broken_line_in_the_middle_is_named(path: Path) -> None:
    write_losses(path, range(1, 2))
    path.write_bytes(path.read_bytes() + b"{broken\n")
    write_losses(path, range(2, 3))
    with pytest.raises(ValueError, match=r"events\.jsonl:2: not an event.*\{broken"):
        read_events(path)


def test_a_short_write_leaves_whole_lines_only(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    real = os.write
    with EventLog(path) as log:
        log.metrics(1, {"train/loss": 1.0})
        monkeypatch.setattr("minimind.events.os.write", lambda descriptor, line: real(descriptor, line[:10]))
        with pytest.raises(OSError, match=r"only 10 of \d+ bytes.*disk full"):
            log.metrics(2, {"train/loss": 2.0})
        monkeypatch.undo()
        log.metrics(3, {"train/loss": 3.0})
    assert metric_series(path, "train/loss") == ([1, 3], [1.0, 3.0])


def test_after_a_resume_the_newest_attempt_counts_and_the_curve_ends_where_the_run_is(path: Path) -> None:
    write_losses(path, range(1, 11))
    write_losses(path, range(6, 9), offset=100)
    assert metric_series(path, "train/loss") == ([1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5, 106, 107, 108])
    assert latest_values(path, ["train/loss"]) == (8, {"train/loss": 108.0})


def test_a_resume_drops_other_metrics_of_the_steps_that_come_again(path: Path) -> None:
    with EventLog(path) as log:
        for step in (10, 20, 30, 40):
            log.metrics(step, {"train/loss": step})
            log.metrics(step, {"val/loss": step})
        log.metrics(20, {"train/loss": 0})
    series = all_series(read_events(path))
    assert series["val/loss"] == ([10], [10.0])
    assert series["train/loss"] == ([10, 20], [10.0, 0.0])
    assert latest_values(path, ["val/loss", "val/bits_per_byte"])[0] == 20


def test_a_resume_counts_from_its_running_event_on(path: Path) -> None:
    with EventLog(path) as log:
        for step in (10, 20, 30):
            log.metrics(step, {"train/loss": step, "val/loss": step})
        log.state("RUNNING", step=20)
    assert metric_series(path, "val/loss") == ([10, 20], [10.0, 20.0])
    assert latest_values(path, ["train/loss"]) == (20, {"train/loss": 20.0})
    with EventLog(path) as log:
        log.metrics(25, {"train/loss": 25})
    assert metric_series(path, "val/loss") == ([10, 20], [10.0, 20.0])
    assert latest_values(path, ["train/loss", "val/loss"]) == (25, {"train/loss": 25.0, "val/loss": 20.0})


def test_latest_values_looks_back_as_far_as_needed(path: Path) -> None:
    with EventLog(path) as log:
        log.metrics(0, {"val/loss": 9.0})
        for step in range(1, 50):
            log.metrics(step, {"train/loss": step})
        log.note("late", "a note mentions train/loss")
    assert latest_values(path, ["train/loss", "val/loss", "perf/step_s"]) == (49, {"train/loss": 49.0, "val/loss": 9.0})


def test_tail_gives_what_is_there_and_what_comes_and_ends_after_stop(path: Path) -> None:
    """Two threads, no clock: the writer writes only when the reader has seen what was written before."""
    seen, stop = threading.Semaphore(0), threading.Event()

    def write() -> None:
        with EventLog(path) as log:
            for step in range(5):
                log.metrics(step, {"train/loss": step})
                assert seen.acquire(timeout=20)
        stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    steps = []
    for event in tail(path, stop.is_set, poll_s=0.001):
        steps.append(event["step"])
        seen.release()
    writer.join()
    assert steps == [0, 1, 2, 3, 4]


def test_tail_waits_for_half_a_line_and_starts_again_in_a_new_file(path: Path) -> None:
    write_losses(path, range(1, 4))
    line = path.read_bytes().splitlines(keepends=True)[0]
    stages: Iterator[bytes] = iter([line[:20], line, line + line])

    def next_stage() -> bool:
        content = next(stages, None)
        if content is not None:
            path.write_bytes(content)
        return content is None

    path.write_bytes(line * 2)
    first_look = iter([False])
    events = list(tail(path, lambda: next(first_look, None) is None and next_stage(), poll_s=0.0))
    # two at first; then the file is replaced by a shorter one: nothing, one, another one
    assert len(events) == 4


def test_tail_notices_a_new_file_that_is_longer(path: Path) -> None:
    write_losses(path, range(1, 3))
    looks = iter([False, True])

    def look() -> bool:
        last = next(looks)
        if last:
            path.rename(path.with_name("old"))
            write_losses(path, range(10, 15))
        return last

    assert [event["step"] for event in tail(path, look, poll_s=0.0)] == [1, 2, 10, 11, 12, 13, 14]


def test_tail_from_the_newest_attempt(path: Path) -> None:
    with EventLog(path) as log:
        log.state("RUNNING", step=0)
        log.metrics(1, {"train/loss": 1})
        log.state("FAILED", reason="x")
        log.note("between", "attempts")
        log.state("RUNNING", step=1)
        log.metrics(2, {"train/loss": 1})
    events = list(tail(path, lambda: True, attempt_start(path)))
    assert [event["type"] for event in events] == ["state", "metrics"]
    assert events[0]["step"] == 1
    path.write_bytes(path.read_bytes() + b"broken\n")
    with pytest.raises(ValueError, match=":7: not an event"):
        list(tail(path, lambda: True, attempt_start(path)))


def test_metrics_have_a_meaning_and_names_with_a_group() -> None:
    assert {"train/loss", "val/bits_per_byte", "perf/tokens_per_s", "perf/peak_memory_bytes"} <= METRICS.keys()
    for name, metric in METRICS.items():
        assert name.count("/") == 1
        assert metric.meaning


def test_what_a_stage_declares_has_one_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minimind.events.METRICS", dict(METRICS))
    accuracy = Metric("", "share of pairs", "higher")
    declare({"hits": accuracy})
    declare({"hits": accuracy})  # two stages may measure the same
    with pytest.raises(ValueError, match="metric 'train/hits' is Metric"):
        declare({"hits": Metric("", "share of answers", "higher")})
    with pytest.raises(ValueError, match="metric 'train/loss' is Metric"):
        declare({"loss": accuracy})


def test_the_best_is_by_its_direction_the_earliest_of_equals_and_a_number() -> None:
    measured = {2: float("nan"), 4: 2.0, 6: 1.0, 8: 1.0, 10: float("inf")}
    assert best_first(measured, "lowest") == [6, 8, 4, 10]
    assert best_first(measured, "highest") == [10, 4, 6, 8]


def test_half_of_a_pair_of_utf_16_is_no_end_of_a_run(path: Path) -> None:
    with EventLog(path) as log:
        log.note("not_judged", "it said \ud800 and more")
    assert [event["text"] for event in read_events(path)] == ["it said ? and more"]


def test_a_step_at_which_a_run_went_back_counts_as_the_good_one(path: Path) -> None:
    with EventLog(path) as log:
        log.state("RUNNING", step=0, total_steps=9)
        for step, loss in ((0, 5.0), (2, 4.0), (4, 3.0)):
            log.metrics(step, {"val/loss": loss})
        log.note("return", "", step=2, good=0)
        log.note("return", "", step=4, good=2)
    events = read_events(path)
    assert went_back(events) == {2: 0, 4: 2}
    assert {step: values["val/loss"] for step, values in standing(events).items()} == {0: 5.0, 2: 5.0, 4: 5.0}
    with EventLog(path) as log:
        log.state("RUNNING", step=2, total_steps=9)
        log.metrics(4, {"val/loss": 2.0})
    events = read_events(path)
    assert went_back(events) == {2: 0}
    assert {step: values["val/loss"] for step, values in standing(events).items()} == {0: 5.0, 2: 5.0, 4: 2.0}
