"""`minimind runs` and `minimind show NAME` for sweeps: what their folders say, without Ray."""

from __future__ import annotations

import json
import time
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs import paths
from jobs.runs.directory import RunDirectory, RunRow, directories
from jobs.runs.show import age, pairs, reason_text, state_text
from jobs.sweeps.report import point_text, ranked, table
from minimind.events import Event, read_events
from minimind.language import phrase, say


def trials_of(folder: RunDirectory) -> list[Event]:
    """The trials that have ended, in order."""
    ended = [event for event in read_events(folder.events_path, {"note"}) if event["kind"] == "trial"]
    # Sweeps of before November 2026 have the loss of a trial that went astray as the text "nan": it measured none.
    return [{**trial, "bits_per_byte": None} if trial.get("bits_per_byte") == "nan" else trial for trial in ended]


def list_sweeps() -> list[RunDirectory]:
    """All sweeps of MINIMIND_HOME."""
    return directories(paths.sweeps(), "sweep")


def show_sweeps(console: Console) -> None:
    """Print a line for each sweep, the one that wrote last first; nothing where there is none."""
    rows = []
    for folder in list_sweeps():
        try:
            rows.append((folder.row(), folder))
        except ValueError as error:
            console.print(Text.assemble((folder.name, "red"), f"  {error}"))
    if not rows:
        return
    found = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for title in ("sweep", "stage", "state"):
        found.add_column(phrase(title), no_wrap=True)
    for title in ("trials", "best", "age"):
        found.add_column(phrase(title), justify="right", no_wrap=True)
    for row, folder in sorted(rows, key=lambda pair: pair[0].updated or 0.0, reverse=True):
        found.add_row(row.name, row.stage, state_text(row.state), *_cells(row, folder))
    console.print()
    console.print(found, soft_wrap=False)


def show_sweep(folder: RunDirectory, console: Console) -> None:
    """Print what a sweep was asked for, its trials, and where its report is. Raises ValueError if its files are bad."""
    row, spec, trials = folder.row(), folder.spec(), trials_of(folder)
    console.print(Text.assemble("\n", (row.name, "bold"), f"   {row.stage}   ", state_text(row.state)))
    if reason := reason_text(row.state):
        console.print(reason, style="red")
    asked: list[tuple[str, str]] = [
        (say("trials"), f"{len(trials)} / {spec.get('trials')}"),
        (say("best"), str(spec.get("objective"))),
        (say("seconds a trial"), f"{spec.get('budget_s'):g}"),
        (say("space"), json.dumps(spec.get("space"), ensure_ascii=False)),
        (say("folder"), str(folder.path)),
    ]
    asked += [(name, str(folder.path / name)) for name in ("best.json", "report.html") if (folder.path / name).exists()]
    console.print(pairs(asked), soft_wrap=False)
    if trials:
        console.print()
        console.print(table(trials, str(spec.get("objective"))), soft_wrap=False)
    for trial in begun_trials(folder):
        said = say("trial {number}: {point}", number=trial["trial"], point=point_text(trial["settings"]))
        console.print(say("{name}: {value}", name=say("begun"), value=said), style="dim")


def sweep_row_as_json(folder: RunDirectory) -> dict[str, Any]:
    """A sweep in the list of all, for programs; docs/json.md has the keys."""
    row, spec, trials = folder.row(), folder.spec(), trials_of(folder)
    objective = str(spec.get("objective"))
    best = ranked(trials, objective)
    return {
        "name": row.name,
        "stage": row.stage,
        "state": row.state.word,
        "reason": row.state.reason,
        "trials_done": len(trials),
        "trials": spec.get("trials"),
        "objective": objective,
        "best": best[0][objective] if best else None,
        "updated": row.updated,
    }


def sweep_rows_as_json() -> list[dict[str, Any]]:
    """All sweeps, for programs. One that cannot be read is FAILED, with the reason."""
    rows = []
    for folder in list_sweeps():
        try:
            rows.append(sweep_row_as_json(folder))
        except ValueError as error:
            unknown = dict.fromkeys(("trials_done", "trials", "objective", "best", "updated"))
            rows.append({"name": folder.name, "stage": "?", "state": "FAILED", "reason": str(error), **unknown})
    return rows


def sweep_as_json(folder: RunDirectory) -> dict[str, Any]:
    """All that is known of one, for programs."""
    spec = folder.spec()
    hidden = ("time", "type", "kind", "text")
    return {
        **sweep_row_as_json(folder),
        "folder": str(folder.path),
        "budget_s": spec.get("budget_s"),
        "space": spec.get("space"),
        "settings": spec.get("run"),
        "results": [
            {name: value for name, value in trial.items() if name not in hidden} for trial in trials_of(folder)
        ],
    }


def begun_trials(folder: RunDirectory) -> list[Event]:
    """The trials that have begun and not ended: they run, or were killed."""
    notes = read_events(folder.events_path, {"note"})
    ended = {event["trial"] for event in notes if event["kind"] == "trial"}
    return [event for event in notes if event["kind"] == "trial_started" and event["trial"] not in ended]


def _cells(row: RunRow, folder: RunDirectory) -> tuple[str, str, str]:
    spec: dict[str, Any] = folder.spec()
    trials, objective = trials_of(folder), str(spec.get("objective"))
    best = ranked(trials, objective)
    unit = {"bits_per_byte": "bits/byte", "tokens_per_s": "tokens/s"}.get(objective, objective)
    value = f"{best[0][objective]:.4g} {phrase(unit)}" if best else ""
    return f"{len(trials)}/{spec.get('trials')}", value, age(time.time() - row.updated) if row.updated else ""


def named(name: str) -> RunDirectory:
    """The run or the sweep of this name. Raises ValueError with the near names of both if there is none."""
    sweep = RunDirectory(paths.sweeps() / name, "sweep")
    run = RunDirectory(paths.runs() / name)
    if sweep.exists and not run.exists:
        return sweep
    return RunDirectory.find(paths.runs(), name, [folder.name for folder in list_sweeps()])
