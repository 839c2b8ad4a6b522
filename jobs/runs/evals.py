"""What a suite found out about a checkpoint: a record a row and a summary, as a file that other programs read.

`evals/<suite>@<step>.jsonl` in the run's folder; docs/evaluation.md has the fields. It is whole or absent.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from jobs import paths
from jobs.runs.directory import RunDirectory
from minimind.checkpoints import folders as checkpoint_folders
from minimind.checkpoints.manifest import MANIFEST, sha256_of
from minimind.config import explain
from minimind.events import best_first
from minimind.language import say
from minimind.units import size

FORMAT = 2
"""The summary stands under a name of its own, for a row has other kinds of values under the same names."""

Record = dict[str, Any]

_HALF = re.compile("[\ud800-\udfff]")


class _Summary(BaseModel):
    """What of a summary is counted on wherever logs are read."""

    suite: str
    how: str
    model: str
    step: int | None
    score: float | None
    low: float | None
    high: float | None
    n: int
    chance: float | None
    lower_is_better: bool
    seconds: float
    time: float
    groups: dict[str, dict[str, Any]]
    metrics: dict[str, dict[str, Any]]
    diagnoses: dict[str, int]


@dataclass(frozen=True)
class EvalLog:
    """A suite's records of one checkpoint, in the suite's order, and what they add up to."""

    path: Path
    records: list[Record]
    summary: dict[str, Any]

    @property
    def suite(self) -> str:
        """Which suite."""
        return str(self.summary["suite"])

    @property
    def score(self) -> float:
        """The suite's score."""
        return float(self.summary["score"])


def folder_of(run: RunDirectory) -> Path:
    """The logs of a run."""
    return run.path / "evals"


def write(path: Path, records: list[Record], summary: dict[str, Any]) -> EvalLog:
    """Write a log in one move. Raises ValueError where the disk does not take it; an older one stays then."""
    last = {"type": "summary", "format": FORMAT, "summary": summary}
    write_text(path, "".join(map(_line, [*({"type": "row", **record} for record in records), last])))
    return EvalLog(path, records, summary)


def write_text(path: Path, text: str) -> Path:
    """Write a file in one move. Raises ValueError where the disk does not take it: an older one stays."""
    return write_parts(path, [text])


def write_parts(path: Path, parts: Iterable[str]) -> Path:
    """The same of a text in parts, which need not be in memory together."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        paths.make(path.parent)
        with partial.open("w", encoding="utf-8") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        free = size(shutil.disk_usage(path.parent).free) if path.parent.exists() else "?"
        raise ValueError(
            say("{path} could not be written: {error}; {free} are free there", path=path, error=error, free=free)
        ) from None
    finally:
        partial.unlink(missing_ok=True)
    return path


def read(path: Path) -> EvalLog:
    """A log that `write` wrote. Raises ValueError for a file that is none, or of a later format."""
    try:
        # Not splitlines: a text may hold other ends of lines than ours.
        lines = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
        *records, last = lines
        whole = last["type"] == "summary" and all(record.pop("type") == "row" for record in records)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(say("{path} is no log of an evaluation: {error}", path=path, error=error)) from None
    if not whole or last.get("format") != FORMAT:
        raise ValueError(say("{path} is no log of an evaluation that this program reads", path=path))
    try:
        _Summary.model_validate(summary := last.get("summary"))
    except ValidationError as error:
        raise ValueError(say("{path} is no log of an evaluation: {error}", path=path, error=explain(error))) from None
    return EvalLog(path, records, summary)


def logs(run: RunDirectory) -> list[EvalLog]:
    """The logs of a run that can be read, by suite and step; not those of another checkpoint than the one that is there
    under its step.
    """
    found = []
    for path in sorted(folder_of(run).glob("*@*.jsonl")):
        try:
            log = read(path)
        except ValueError:
            continue
        manifest = checkpoint_folders.folder_of(run.checkpoints, int(log.summary["step"] or 0)) / MANIFEST
        if not manifest.is_file() or log.summary.get("checkpoint") in (None, sha256_of(manifest)):
            found.append(log)
    return sorted(found, key=lambda log: (log.suite, int(log.summary.get("step") or 0)))


def number(summary: dict[str, Any], value: float | None, *, signed: bool = False) -> str:
    """A score as people read it: bits per byte as they are, shares in percent, their differences in points."""
    if value is None or math.isnan(value):
        return "?"
    if summary["lower_is_better"]:
        return f"{value:+.4f}" if signed else f"{value:.4f}"
    return f"{100 * value:+.1f} %" if signed else f"{100 * value:.1f} %"


def scores(run: RunDirectory) -> list[dict[str, Any]]:
    """What the suites found of a run's checkpoints, for programs."""
    names = ("suite", "step", "score", "low", "high", "chance", "n", "lower_is_better")
    return [{name: log.summary.get(name) for name in names} for log in logs(run)]


def best_step(run: RunDirectory, suite: str, steps: Sequence[int]) -> int | None:
    """The step, of `steps`, that did best at a suite, or at one of its metrics as "suite/metric"; None where none of
    them has been evaluated by it. Of equal ones the earliest. Only scores of what was asked last are compared.
    """
    name, _, metric = suite.partition("/")
    found: dict[int, float] = {}
    lower_is_better = False
    asked = [log for log in logs(run) if log.suite == name and log.summary["step"] in steps]
    newest = _asked(max(asked, key=lambda log: float(log.summary["time"]))) if asked else ()
    for log in asked:
        value = log.summary["metrics"].get(metric, {}).get("value") if metric else log.summary["score"]
        if value is not None and _asked(log) == newest:
            lower_is_better = bool(log.summary["lower_is_better"]) and not metric
            found[int(log.summary["step"])] = float(value)
    return next(iter(best_first(found, "lowest" if lower_is_better else "highest")), None)


def _asked(log: EvalLog) -> tuple[object, ...]:
    """What was asked and how it was scored: only scores that have this in common can be compared."""
    return tuple(log.summary.get(name) for name in ("rows_sha256", "suite_sha256", "scoring"))


def _line(value: dict[str, Any]) -> str:
    """A line of JSON; half a character of a model's, a lone surrogate, as the sign for what is none: other programs
    cannot read a file with one.
    """
    return _HALF.sub("\ufffd", json.dumps(value, ensure_ascii=False, allow_nan=False)) + "\n"
