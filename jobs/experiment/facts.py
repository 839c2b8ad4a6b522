"""What a run's folder tells of the experiment, read once: for its line in the log, its repetition and its card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

from pydantic import ValidationError

from jobs import paths
from jobs.runs import samples
from jobs.runs.directory import RunDirectory, RunRow
from jobs.stages.flags import TOOLS, tables_of
from jobs.stages.spec import FILES, RunSpec
from jobs.stages.table import STAGES
from minimind.config import explain
from minimind.events import Event, all_series, read_events
from minimind.language import say

Series = dict[str, tuple[list[int], list[float]]]


@dataclass(frozen=True)
class Facts:
    """A run, what it was asked to do, and what it wrote."""

    run: RunDirectory
    spec: dict[str, Any]
    row: RunRow
    events: list[Event]
    plan: dict[str, Any]
    samples: list[dict[str, Any]]

    def asked(self, path: str) -> Any:
        """A setting by its dotted path; None where the spec has none."""
        return at(self.spec, path)

    @cached_property
    def series(self) -> Series:
        """Every metric's steps and values."""
        return all_series(self.events)

    @cached_property
    def attempts(self) -> list[Event]:
        """The RUNNING events, in their order."""
        return [event for event in self.events if begins(event)]

    @cached_property
    def environment(self) -> dict[str, str]:
        """What each attempt kept of its machine and program, by name; where attempts differ, each value once."""
        return environment_of(self.attempts)

    @property
    def command(self) -> str:
        """What the run was asked for with, as it was typed where that was kept."""
        first: Mapping[str, str] = self.attempts[0].get("environment", {}) if self.attempts else {}
        return first.get("typed") or first.get("command", "")

    @property
    def began_s(self) -> float:
        """When it was created, or began to train, in unix seconds."""
        return self.run.created_s or (self.events[0]["time"] if self.events else 0.0)

    @cached_property
    def seconds(self) -> float:
        """How long it trained, all attempts together, the pauses between them left out."""
        total, since, last = 0.0, None, 0.0
        for event in self.events:
            if begins(event):
                total += last - since if since is not None else 0.0
                since = float(event["time"])
            last = float(event["time"])
            if since is not None and event["type"] == "state" and event["state"] != "RUNNING":
                total, since = total + last - since, None
        return total + (last - since if since is not None else 0.0)

    def last(self, name: str) -> float | None:
        """The newest value of a metric."""
        _, values = self.series.get(name, ([], []))
        return values[-1] if values else None

    @property
    def tokens_per_s(self) -> float | None:
        """The middle one of all that were measured: the first step is slow."""
        _, values = self.series.get("perf/tokens_per_s", ([], []))
        return median(values) if values else None

    @property
    def files(self) -> dict[str, tuple[str, str]]:
        """Setting -> path and sha256 of each file of data that it read; "" of a run from before that was kept."""
        if self.row.stage == "tokenizer":
            return {"path": (str(self.asked("path")), "")}
        tables = tables_of({TOOLS: self.asked(TOOLS)})
        named = {setting: self.asked(setting) for setting in FILES} | tables
        known = self.run.sources
        return {
            setting: (path, known.get(setting, ""))
            for setting, path in named.items()
            if path is not None and (setting in known or not known)
        }


def facts_of(run: RunDirectory) -> Facts:
    """What is known of a run. Raises ValueError for a run whose files are damaged, or that has not begun."""
    spec = run.spec()
    if not isinstance(at(spec, "stage.kind"), str):
        raise ValueError(
            say("{path} is damaged, or of another version: {problem}", path=run.spec_path, problem="stage.kind")
        )
    events = read_events(run.events_path)
    if not events:
        raise ValueError(
            say(
                "the run {name!r} has not begun: {path} holds no events, so there is nothing to tell of it",
                name=run.name,
                path=run.events_path,
            )
        )
    try:
        written = samples.written_at_the_end(run)
    except (OSError, ValueError) as error:
        raise ValueError(say("{path} cannot be read: {error}", path=run.samples_path, error=error)) from None
    return Facts(run, spec, run.row(), events, run.plan() or {}, written)


def spec_of(run: RunDirectory) -> RunSpec:
    """The spec of a run that trains a model. Raises ValueError, in words, for one that is damaged."""
    spec = run.spec()
    kind = at(spec, "stage.kind")
    if kind not in STAGES:
        raise ValueError(
            say(
                "the run {name!r} is of the stage {stage!r}, which trains no model ({path})",
                name=run.name,
                stage=str(kind),
                path=run.spec_path,
            )
        )
    try:
        return RunSpec.model_validate(spec)
    except ValidationError as error:
        raise ValueError(
            say("{path} is damaged, or of another version: {problem}", path=run.spec_path, problem=explain(error))
        ) from None


def find(name: str) -> RunDirectory:
    """The run of this name. Raises ValueError that names near ones."""
    return RunDirectory.find(paths.runs(), name)


def environment_of(attempts: list[Event]) -> dict[str, str]:
    """What these attempts kept of their machines and programs, by name; where they differ, each value once."""
    kept: list[Mapping[str, str]] = [
        {**event.get("environment", {}), "workers": str(event.get("world", 1))} for event in attempts
    ]
    names = dict.fromkeys(name for one in kept for name in one)
    return {name: " / ".join(dict.fromkeys(str(one.get(name, "?")) for one in kept)) for name in names}


def begins(event: Event) -> bool:
    """Whether an attempt begins with this event."""
    return bool(event["type"] == "state" and event["state"] == "RUNNING")


def at(tree: Any, path: str) -> Any:
    """What stands at a dotted path of a tree of JSON; None where nothing does."""
    for part in path.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree
