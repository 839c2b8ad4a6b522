"""How far a run is, told from its events: a moving line in a terminal, plain lines now and then in a log."""

from __future__ import annotations

import io
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from jobs.runs.directory import RunDirectory
from jobs.terminal.console import Terminal
from minimind.events import METRICS, Event, attempt_start, read_events, tail
from minimind.language import phrase, say
from minimind.units import amount, duration, memory

_WINDOW = 60  # rows of metrics that the remaining time is told from


class RunProgress:
    """Shows a run's events one after another; use as a context manager.

    In a terminal: notes, validations and checkpoints as lines, and below them a bar. Elsewhere (a job's log, a file):
    a plain line with the first metrics, then every `period_s` seconds of the events' own time, and less often in a
    long run, up to one a minute. bar_only: no lines.
    """

    def __init__(
        self,
        console: Console | None = None,
        period_s: float = 10.0,
        *,
        bar_only: bool = False,
    ) -> None:
        self._console = console or Terminal()
        self._period_s = period_s
        self._bar_only = bar_only
        self._total: int | None = None
        self._values: dict[str, float] = {}
        self._memory = 0.0  # as it was told last, in bytes
        self._recent: deque[tuple[float, int]] = deque(maxlen=_WINDOW)
        self._started: float | None = None
        self._printed: float | None = None
        self._unprinted: Event | None = None
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> RunProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def update(self, event: Event) -> None:
        """Shows one event. Can be given to EventLog as its listener."""
        match event["type"]:
            case "metrics":
                self._metrics(event)
            case "state":
                self._state(event)
            case "checkpoint":
                self._line(event, f"{self._where(event['step'])}  {say('checkpoint')}  {event['path']}")
            case "note":
                alarm = f"{say('alarm {cause}', cause=event['cause'])}: " if event["kind"] == "alarm" else ""
                self._line(event, alarm + event["text"], style="yellow")

    def close(self) -> None:
        """Shows what is still to be shown and takes the bar away. Harmless when called twice."""
        if self._unprinted is not None and self._bar is None:
            for line in self._status_lines(self._unprinted):
                self._line(self._unprinted, line)
            self._unprinted = None
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def remaining_s(self) -> float | None:
        """Seconds to the end at the pace of the last rows of metrics, all included; None if it cannot be told."""
        if self._total is None or len(self._recent) < 2:
            return None
        (time, step), (now, newest) = self._recent[0], self._recent[-1]
        return (now - time) / (newest - step) * (self._total - newest)

    def _metrics(self, event: Event) -> None:
        step = event["step"]
        self._values |= event["values"]
        if "val/loss" in event["values"] or "val/bits_per_byte" in event["values"]:
            self._line(event, self._validation(event))
        if "train/loss" not in event["values"]:
            return
        if self._recent and step <= self._recent[-1][1]:
            self._recent.clear()
        self._recent.append((event["time"], step))
        if self._console.is_terminal:
            self._move_bar(event)
            return
        self._unprinted = event
        self._started = self._started if self._started is not None else event["time"]
        elapsed = event["time"] - self._started
        period = max(self._period_s, min(6 * self._period_s, elapsed / 50))
        if self._printed is None or step == self._total or event["time"] - self._printed >= period:
            self._printed = event["time"]
            self._unprinted = None
            for line in self._status_lines(event):
                self._line(event, line)

    def _state(self, event: Event) -> None:
        word = event["state"]
        if word == "RUNNING":
            self._total = event.get("total_steps", self._total)
            self._recent.clear()
            self._recent.append((event["time"], event.get("step", 0)))
            where = f"{say('step')} {event.get('step', 0)}" + (f" / {self._total}" if self._total else "")
            self._line(event, f"{phrase(word)}  {where}", style="bold")
            return
        self.close()
        style = {"SUCCEEDED": "bold green", "FAILED": "bold red"}.get(word, "bold")
        self._line(event, f"{phrase(word)}  {event.get('reason', '')}".rstrip(), style=style)

    def _move_bar(self, event: Event) -> None:
        if self._bar is None:
            self._bar = Progress(
                TextColumn("{task.fields[where]}", markup=False),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[how]}", markup=False),
                console=self._console,
                expand=True,
            )
            self._task = self._bar.add_task("", total=self._total, where="", how="")
            self._bar.start()
        where, how = self._parts(event)
        assert self._task is not None
        self._bar.update(self._task, completed=event["step"], total=self._total, where=where, how="  ".join(how))

    def _status_lines(self, event: Event) -> list[str]:
        """A line, and one of its own for the memory where it has grown: both are as wide as a terminal."""
        where, how = self._parts(event)
        lines = ["  ".join((where, *how))]
        peak = self._values.get("perf/peak_memory_bytes", 0.0)
        if peak > 1.05 * self._memory:
            self._memory = peak
            lines.append(f"{self._where(event['step'])}  {say('memory')} {memory(peak)}")
        return lines

    def _where(self, step: int) -> str:
        """The column that all lines of a step begin with."""
        if not self._total:
            return f"{say('step')} {step}"
        return f"{say('step')} {step:>{len(str(self._total))}}/{self._total}"

    def _parts(self, event: Event) -> tuple[str, list[str]]:
        step, values = event["step"], self._values
        where = self._where(step)
        if self._total:
            share = f"{100 * step / self._total:.1f}%"
            where += f" {share:>6}"
        # The loss of a run that learns by trying is near 0 whatever it learns.
        tried = values.get("train/reward")
        how = [
            f"{say('loss')} {values['train/loss']:.3f}"
            if tried is None
            else say("reward {value}", value=f"{tried:.3f}")
        ]
        if "perf/tokens_per_s" in values:
            how.append(f"{amount(values['perf/tokens_per_s']):>5} {say('tokens/s')}")
        if "perf/peak_memory_bytes" in values and self._bar is not None:
            how.append(memory(values["perf/peak_memory_bytes"]))
        remaining = self.remaining_s()
        if remaining is not None:
            how.append(f"{say('ETA')} {duration(remaining)}")
        return where, how

    def _validation(self, event: Event) -> str:
        values = event["values"]
        parts = [self._where(event["step"]), say("validation")]
        if "val/reward" in values:
            return "  ".join((*parts, *_tried(values)))
        if "val/bits_per_byte" in values:
            parts.append(f"{values['val/bits_per_byte']:.4f} {say('bits/byte')}")
        if "val/loss" in values:
            parts.append(f"{say('loss')} {values['val/loss']:.4f}")
        if "val/pretrain_bits_per_byte" in values:
            parts.append(f"{say('plain text')} {values['val/pretrain_bits_per_byte']:.4f}")
        own = sorted(values.keys() - {"val/bits_per_byte", "val/loss", "val/pretrain_bits_per_byte"})
        own = [name for name in own if name not in METRICS or METRICS[name].better]  # the others are in `show`
        parts += [f"{name.removeprefix('val/')} {values[name]:.4f}" for name in own]
        return "  ".join(parts)

    def _line(self, event: Event, text: str, style: str = "") -> None:
        if self._bar_only:
            return
        clock = datetime.fromtimestamp(event["time"]).astimezone().strftime("%H:%M:%S")
        options: dict[str, Any] = {"highlight": False, "soft_wrap": True}
        self._console.print(Text.assemble((clock, "dim"), f"  {text}"), style=style or None, **options)


def _tried(values: Mapping[str, float]) -> list[str]:
    """What a validation of a run that learns by trying found, in a line of a terminal. Where the reward is what is
    right, it is told once; where it is not, plain text stands in `show`.
    """
    right, reward, facts, text = (
        values.get(f"val/{name}") for name in ("right", "reward", "facts", "pretrain_bits_per_byte")
    )
    parts = [] if right is None else [f"{say('right')} {100 * right:.1f} %"]
    paid = reward is not None and (right is None or abs(right - reward) > 5e-4)
    if paid:
        parts.append(say("reward {value}", value=f"{reward:.2f}"))
    if facts is not None:
        parts.append(f"{phrase('facts')} {100 * facts:.1f} %")
    if text is not None and not paid:
        parts.append(f"{say('plain text')} {text:.2f}")
    return parts


@contextmanager
def following(run: RunDirectory, console: Console | None = None, *, bar_only: bool = False) -> Iterator[None]:
    """Shows the run's events as they come, from a thread of its own, for as long as the block lasts.

    Of a run that is running, what its present attempt has written before is shown too; of any other, only what comes.
    bar_only: leave out the lines about notes, validations and checkpoints, where a log beside it has them.
    """
    path = run.events_path
    start = attempt_start(path) if run.is_running else path.stat().st_size if path.exists() else 0
    stop = threading.Event()
    thread = threading.Thread(
        target=_follow, args=(path, RunProgress(console, bar_only=bar_only), stop, start), daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def show_events(run: RunDirectory, console: Console, *, last: int) -> None:
    """Print the last lines of what a run has written down, as a log would have shown it."""
    file = io.StringIO()
    with RunProgress(Terminal(file=file), period_s=0) as progress:
        for event in read_events(run.events_path):
            progress.update(event)
    for line in file.getvalue().splitlines()[-last:]:
        console.print(line)


def _follow(path: Path, progress: RunProgress, stop: threading.Event, start: int) -> None:
    with progress:
        try:
            for event in tail(path, stop.is_set, start):
                progress.update(event)
        except ValueError as error:  # a broken file ends the showing, not the run
            progress.update({"time": time.time(), "type": "note", "kind": "unreadable", "text": str(error)})
