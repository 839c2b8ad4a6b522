"""What a run says while it works: one line of JSON per event in events.jsonl, and the table of every metric there is.

The file is append-only and has one writer at a time (whoever holds the run's lock). A line is written by one system
call, so a kill can tear at most the last line; readers ignore a torn last line and the next writer cuts it off.
Nothing else stores the state of a run: states, curves and progress are all computed from these lines.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from minimind.language import say

STATES = ("PENDING", "RUNNING", "SUCCEEDED", "FAILED", "STOPPED")
"""The states of a run, in the words of Ray Jobs."""

Event = dict[str, Any]
"""One line of events.jsonl: `time` (unix seconds), `type` and what that type carries."""


@dataclass(frozen=True)
class Metric:
    """What a number means.

    unit: as printed after it; "" for a plain ratio.
    better: which direction is an improvement, None where neither is.
    """

    unit: str
    meaning: str
    better: Literal["lower", "higher"] | None


METRICS: dict[str, Metric] = {
    "train/loss": Metric("nats/token", "mean cross-entropy of the step's target tokens", "lower"),
    "train/grad_norm": Metric("", "length of the whole gradient before clipping", None),
    "train/lr": Metric("", "learning rate of the step", None),
    "train/tokens": Metric("tokens", "real (non-padding) tokens trained on since the run began", None),
    "train/loss_scale": Metric("", "gradient scale of float16 training", None),
    "train/skipped_steps": Metric("steps", "steps refused so far because a number was not finite", None),
    "val/loss": Metric("nats/token", "mean cross-entropy of the held-out tokens", "lower"),
    "val/bits_per_byte": Metric(
        "bits/byte", "held-out cross-entropy per byte of text, whatever the tokenizer", "lower"
    ),
    "val/pretrain_bits_per_byte": Metric(
        "bits/byte", "the same on held-out plain text: how much is forgotten", "lower"
    ),
    "perf/tokens_per_s": Metric("tokens/s", "real (non-padding) tokens per second, all workers together", "higher"),
    "perf/step_s": Metric("s", "wall time of one optimizer step", "lower"),
    "perf/data_wait_s": Metric("s", "part of the step spent waiting for data", "lower"),
    "perf/peak_memory_bytes": Metric("bytes", "most memory held so far, on the worker that holds most", "lower"),
    "perf/utilisation": Metric("", "share of the tokens in the batches that is not padding", "higher"),
    "tokenizer/zh_chars_per_token": Metric("characters/token", "compression of Chinese text", "higher"),
    "tokenizer/en_chars_per_token": Metric("characters/token", "compression of English text", "higher"),
}
"""Every metric a run may write. A name that is not here is refused, so a typing error cannot start a second curve."""


def declare(metrics: Mapping[str, Metric]) -> None:
    """Let runs write what an objective measures beside its loss, as `train/NAME` and, on held-out rows, `val/NAME`.

    Raises ValueError for a name that means something else already.
    """
    for name, metric in metrics.items():
        for whole in (f"train/{name}", f"val/{name}"):
            if METRICS.setdefault(whole, metric) != metric:
                raise ValueError(
                    say(
                        "metric {name!r} is {meant} already: call the other one something else",
                        name=whole,
                        meant=METRICS[whole],
                    )
                )


class JsonLines:
    """Appends JSON objects to a file, a line each. Open it only while nobody else writes it: opening cuts off a torn
    last line, which a killed writer may leave. A line is written by one system call; durable: and reaches the disk.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        _cut_torn_tail(self._descriptor)

    def append(self, content: Mapping[str, Any], durable: bool = False) -> None:
        """Raises OSError, and leaves whole lines only, where the disk does not take it."""
        # Half of a pair of UTF-16, as a server or user code may say, is no text; the rest of what they said is.
        line = json.dumps(_legal(content), ensure_ascii=False, allow_nan=False).encode(errors="replace") + b"\n"
        size = os.fstat(self._descriptor).st_size
        written = os.write(self._descriptor, line)
        if written != len(line):  # the disk filled up in the middle of the line: leave whole lines only
            os.ftruncate(self._descriptor, size)
            raise OSError(
                say(
                    "{path}: only {written} of {count} bytes could be written; is the disk full?",
                    path=self.path,
                    written=written,
                    count=len(line),
                )
            )
        if durable:
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Closes the file; closing twice is harmless."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class EventLog:
    """Appends to events.jsonl. Open it only while you hold the run's lock: opening repairs a torn last line."""

    def __init__(
        self, path: Path, clock: Callable[[], float] = time.time, listener: Callable[[Event], None] | None = None
    ) -> None:
        """Opens or creates `path`; its folder must exist. clock: unix seconds. listener: told of each event written."""
        self.path = path
        self._clock = clock
        self._listener = listener
        self._lines = JsonLines(path)

    def state(self, word: str, **details: Any) -> None:
        """The run is now in this state (one of STATES).

        RUNNING carries `step` (where the attempt starts), `total_steps` and `environment`; FAILED carries `reason`.
        """
        if word not in STATES:
            raise ValueError(say("state {word!r} is not one of {names}", word=word, names=", ".join(STATES)))
        self._append("state", {"state": word}, details, durable=True)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of one completed optimizer step; a number that is not finite is kept as such.

        Raises ValueError for a name that METRICS does not have.
        """
        for name in values:
            if name not in METRICS:
                near = difflib.get_close_matches(name, METRICS, n=3) or sorted(METRICS)
                raise ValueError(
                    say(
                        "metric {name!r} is not declared in METRICS; near names: {names}",
                        name=name,
                        names=", ".join(near),
                    )
                )
        self._append("metrics", {"step": step, "values": {name: float(value) for name, value in values.items()}}, {})

    def checkpoint(self, step: int, path: str | Path, **details: Any) -> None:
        """A complete checkpoint of `step` lies at `path` (relative to the run's folder)."""
        self._append("checkpoint", {"step": step, "path": str(path)}, details, durable=True)

    def note(self, kind: str, text: str, **details: Any) -> None:
        """Something worth reading later: `kind` is one word to search for, `text` a sentence for people."""
        self._append("note", {"kind": kind, "text": text}, details)

    def close(self) -> None:
        """Closes the file; closing twice is harmless."""
        self._lines.close()

    def __enter__(self) -> EventLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _append(self, kind: str, fields: Event, details: Event, durable: bool = False) -> None:
        if clash := {"time", "type", *fields} & set(details):
            raise ValueError(
                say(
                    "an event of type {kind!r} already has {names}; name the detail otherwise",
                    kind=kind,
                    names=", ".join(sorted(clash)),
                )
            )
        event = {"time": round(self._clock(), 3), "type": kind, **fields, **details}
        self._lines.append(event, durable)
        if self._listener:
            self._listener(event)


def read_events(path: Path, types: Collection[str] | None = None) -> list[Event]:
    """The events of the file in order, of these `types` only if given. No file means no events.

    A torn last line is ignored. Raises ValueError with file and line for any other line that cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    return list(_parse(content, path, types))


def tail(path: Path, stop: Callable[[], bool], start: int = 0, poll_s: float = 0.2) -> Iterator[Event]:
    """Every event of the file from byte `start`, then each new one as it comes, until `stop()` is true and all is read.

    The file may appear later, and may be replaced by a new run's: then the new one is read from its start.
    """
    position, number = start, path.read_bytes()[:start].count(b"\n") if start else 0
    inode: int | None = None
    while True:
        last_round = stop()
        content = b""
        try:
            with path.open("rb") as file:
                found = os.fstat(file.fileno())
                if found.st_size < position or inode not in (None, found.st_ino):
                    position, number = 0, 0
                inode = found.st_ino
                file.seek(position)
                content = file.read()
        except FileNotFoundError:
            position, number = 0, 0
        whole = content[: content.rfind(b"\n") + 1]
        yield from _parse(whole, path, before=number)
        position, number = position + len(whole), number + whole.count(b"\n")
        if last_round:
            return
        time.sleep(poll_s)


def attempt_start(path: Path) -> int:
    """The byte at which the newest attempt's RUNNING event starts (0 if there is none): for `tail`."""
    position = start = 0
    for line in path.read_bytes().split(b"\n")[:-1] if path.exists() else []:
        if b'"state": "RUNNING"' in line[:64]:
            start = position
        position += len(line) + 1
    return start


def metric_series(path: Path, name: str) -> tuple[list[int], list[float]]:
    """Steps and values of one metric, ascending, as the newest attempt has them (see all_series)."""
    if name not in METRICS:
        raise ValueError(say("metric {name!r} is not declared in METRICS", name=name))
    return all_series(read_events(path, {"metrics", "state"})).get(name, ([], []))


def all_series(events: Iterable[Event]) -> dict[str, tuple[list[int], list[float]]]:
    """Every metric's steps and values. After a resume from step S the steps above S are trained again: what the
    abandoned attempt wrote for them is dropped, so the curves hold each step once and end where the run really is.
    """
    series: dict[str, tuple[list[int], list[float]]] = {}
    reached = -1
    for event in events:
        step = _step_reached(event)
        if step is None:
            continue
        if step < reached:
            first_dropped = step if event["type"] == "metrics" else step + 1
            for steps, values in series.values():
                while steps and steps[-1] >= first_dropped:
                    steps.pop()
                    values.pop()
        reached = step
        for name, value in event.get("values", {}).items():
            steps, values = series.setdefault(name, ([], []))
            if steps and steps[-1] == step:
                values[-1] = value
            else:
                steps.append(step)
                values.append(value)
    return {name: points for name, points in series.items() if points[0]}


def validations(series: Mapping[str, tuple[list[int], list[float]]]) -> dict[int, dict[str, float]]:
    """Step -> what was measured at it on held-out rows, of the metrics by name that `all_series` gives."""
    measured: dict[int, dict[str, float]] = {}
    for name, (steps, values) in series.items():
        if name.startswith("val/"):
            for step, value in zip(steps, values, strict=True):
                measured.setdefault(step, {})[name] = value
    return measured


def standing(events: Collection[Event]) -> dict[int, dict[str, float]]:
    """Step -> what the checkpoint of that step was measured by on held-out rows. Where a run went back (see
    `minimind.training.gate`) the checkpoint of that step has the weights of the good one, and counts as that.
    """
    measured = validations(all_series(event for event in events if event["type"] != "note"))
    for step, good in sorted(went_back(events).items()):
        if step in measured and good in measured:
            measured[step] = measured[good]
    return measured


def went_back(events: Iterable[Event]) -> dict[int, int]:
    """The steps at which a run went back -> the good step that it went back to. What an abandoned attempt did behind
    the step from which the next went on is dropped.
    """
    found: dict[int, int] = {}
    for event in events:
        if event["type"] == "state" and event["state"] == "RUNNING":
            found = {step: good for step, good in found.items() if step <= event.get("step", 0)}
        elif event["type"] == "note" and event["kind"] == "return":
            found[event["step"]] = event["good"]
    return found


def best_first(measured: Mapping[int, float], best_is: str) -> list[int]:
    """The steps by their value, the best first and of equal ones the earliest. What is no number (NaN) is not ranked.

    best_is: "lowest" or "highest".
    """
    sign = -1 if best_is == "highest" else 1
    numbers = {step: sign * value for step, value in measured.items() if not math.isnan(value)}
    return sorted(numbers, key=lambda step: (numbers[step], step))


def latest_values(path: Path, names: Collection[str]) -> tuple[int | None, dict[str, float]]:
    """The step the run has reached (None if it has not started), and the newest value of each metric that has one.

    Reads from the end and parses little, so that listing many long runs stays quick.
    """
    reached: int | None = None
    found: dict[str, float] = {}
    marks = {name: f'"{name}"'.encode() for name in names}
    for line in reversed(path.read_bytes().split(b"\n")[:-1] if path.exists() else []):
        missing = [name for name in names if name not in found]
        if reached is not None:
            if not missing:
                break
            if not any(marks[name] in line for name in missing):
                continue
        event = _event(line)
        step = _step_reached(event) if event else None
        if event is None or step is None:
            continue
        reached = step if reached is None else reached
        if step <= reached:  # else it belongs to an attempt that was abandoned
            found |= {name: event["values"][name] for name in missing if name in event.get("values", {})}
    return reached, found


def _step_reached(event: Event) -> int | None:
    """The step at which the run stands with this event, if it says so: a row of metrics, or the start of an attempt."""
    if event["type"] == "metrics":
        return int(event["step"])
    if event["type"] == "state" and event["state"] == "RUNNING" and "step" in event:
        return int(event["step"])
    return None


def _parse(content: bytes, path: Path, types: Collection[str] | None = None, before: int = 0) -> Iterator[Event]:
    marks = [f'"type": "{word}"'.encode() for word in types or ()]
    lines = content.split(b"\n")[:-1]  # what stands behind the last line end is torn, or nothing
    for number, line in enumerate(lines, start=before + 1):
        if types is not None and not any(mark in line[:64] for mark in marks):
            continue  # most lines are metrics; not parsing them is what keeps a list of long runs quick
        event = _event(line)
        if event is None:
            raise ValueError(
                say("{path}:{number}: not an event; the line starts {line!r}", path=path, number=number, line=line[:80])
            )
        yield event


def _event(line: bytes) -> Event | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    if not isinstance(event, dict) or "type" not in event:
        return None
    if event["type"] == "metrics":
        event["values"] = {name: float(value) for name, value in event["values"].items()}
    return event


def _legal(value: Any) -> Any:
    """JSON has no NaN and no infinity: they are written as texts, "nan", "inf", "-inf", which float() reads."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(float(value))
    if isinstance(value, Mapping):
        return {str(key): _legal(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_legal(item) for item in value]
    return value


def _cut_torn_tail(descriptor: int) -> None:
    """Cuts off what a killed writer or a power cut left behind the last line end (half a line, or zero bytes)."""
    size = os.fstat(descriptor).st_size
    start, line_end = size, -1
    while start and line_end < 0:
        start = max(0, start - (1 << 16))
        line_end = os.pread(descriptor, size - start, start).rfind(b"\n")
    if (whole := start + line_end + 1) < size:
        os.ftruncate(descriptor, whole)
