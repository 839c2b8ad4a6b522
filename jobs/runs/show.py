"""`minimind runs` and `minimind show RUN`: what there is to see of runs, as tables, curves and a picture."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from jobs.runs import evals, reports, samples
from jobs.runs.directory import CONTINUE, KILLED, RunDirectory, RunRow, RunState
from jobs.runs.meanings import TRY, metrics_of
from jobs.terminal.console import can_show
from jobs.terminal.curves import Series, picture, terminal_curve
from jobs.terminal.wrap import tell
from minimind.checkpoints import folders as checkpoint_folders
from minimind.checkpoints.manifest import CheckpointError, read_manifest
from minimind.events import Event, Metric, all_series, best_first, read_events, standing
from minimind.language import language, phrase, say
from minimind.units import amount, duration, memory, size

_STYLES = {"PENDING": "dim", "RUNNING": "cyan", "SUCCEEDED": "green", "FAILED": "red", "STOPPED": "yellow"}
WAITING = "prepares its data or waits; what for, says: minimind attach"
"""Of a run whose job is on the cluster and does not train yet."""

_MOST_NOTES = 5

_WARNINGS = ("alarm", "return")
"""Kinds of notes that are all shown, each with the step that it was made at."""

TEXT = "val/pretrain_bits_per_byte"

_NUMBERS = ("last", "best", "at step", "size", "score", "95 % interval", "chance", "rows")

_FIRST_LEFT_OUT = ("memory", "tokens/s", "loss", "age", "step")
"""Columns of the list of runs that go where a terminal is too narrow for all."""

_LEAST_NAME = 12
"""Cells that the name of a run gets there at least; a longer one is folded."""


def runs_table(rows: Iterable[RunRow], now: float | None = None, *, width: int = 0) -> Table:
    """One line for each run; `age` is the time since it last wrote. now: unix seconds, default the clock's.

    width: cells there are on a line, 0 for any number. Where they are too few, some columns are left out; the name of
    the run never is.
    """
    now = time.time() if now is None else now
    columns: dict[str, list[Text]] = {
        name: [Text(phrase(name))] for name in ("run", "stage", "state", "step", "loss", "tokens/s", "memory", "age")
    }
    for row in rows:
        step = "" if row.step is None else str(row.step) + (f"/{row.total_steps}" if row.total_steps else "")
        cells: tuple[str | Text, ...] = (
            row.name,
            row.stage,
            state_text(row.state),
            step,
            "" if row.loss is None or row.stage in TRY else f"{row.loss:.3f}",  # theirs is near 0 whatever is learnt
            "" if row.tokens_per_s is None else amount(row.tokens_per_s),
            "" if row.peak_memory_bytes is None else memory(row.peak_memory_bytes),
            "" if row.updated is None else age(now - row.updated),
        )
        for column, cell in zip(columns.values(), cells, strict=True):
            column.append(cell if isinstance(cell, Text) else Text(cell))
    widths = {name: max(text.cell_len for text in texts) for name, texts in columns.items()} | {"run": _LEAST_NAME}
    for name in _FIRST_LEFT_OUT:
        if not width or sum(widths.values()) + 2 * (len(widths) - 1) <= width:
            break
        del widths[name], columns[name]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for name, (header, *_) in columns.items():
        if name == "run":
            table.add_column(header, overflow="fold", min_width=_LEAST_NAME)
        else:
            table.add_column(header, justify="left" if name in ("stage", "state") else "right", no_wrap=True)
    for line in list(zip(*columns.values(), strict=True))[1:]:
        table.add_row(*line)
    return table


def show_runs(runs: Path, rows: list[RunRow], console: Console) -> None:
    """Prints the table of all runs, why the failed ones failed, and what the pending ones wait for."""
    if not rows:
        console.print(f"{say('no runs yet in')} {runs}", highlight=False, soft_wrap=True)
        return
    console.print(runs_table(rows, width=console.width), soft_wrap=False)
    for row in rows:
        if reason := reason_text(row.state):
            console.print(
                Text.assemble((row.name, _STYLES[row.state.word]), f"  {reason.splitlines()[0]}"), soft_wrap=True
            )


def show(run: RunDirectory, console: Console, *, only: Collection[str] | None = None) -> Path | None:
    """Prints everything worth knowing of one run, draws its curve into `curve.png` and returns that file's path.

    only: below the curves, these sections alone. None if there is nothing to draw yet. Raises ValueError if the run's
    files cannot be read.
    """
    row, events = run.row(), read_events(run.events_path)
    series, stands = all_series(events), standing(events)
    attempts = [event for event in events if event["type"] == "state" and event["state"] == "RUNNING"]
    resumed = [step for event in attempts if (step := event.get("step", 0))]
    console.print(_head(row, attempts), soft_wrap=False)
    judged = _judged(run, series)
    console.print(_curves(series, row, resumed, console, judged), soft_wrap=False)
    if forgetting := _forgetting(stands):
        console.print(forgetting, soft_wrap=False)
    for line in _advice(run.name, series, judged) if row.state.word == "SUCCEEDED" else ():
        console.print(line, style="yellow")
    written = samples.written_at_the_end(run)
    path = picture(
        run.path / "curve.png",
        _picture_title(row),
        series,
        resumed=resumed,
        unit=metrics_of(row.stage)["train/loss"].unit,
    )
    environment = attempts[-1].get("environment", {}) if attempts else {}
    warned = warnings(events)
    notes = [event for event in events if event["type"] == "note" and event not in warned][-_MOST_NOTES:]
    sections = {
        "alarms": pairs(
            (f"{say('step')} {event['step']} {event.get('cause', '')}".rstrip(), event["text"]) for event in warned
        ),
        "metrics": _metrics_table(series, row.stage),
        "memory": pairs(_memory(run, series)),
        "checkpoints": _checkpoints_table(run, stands, judged),
        "scores": _scores_table(run),
        "settings": _settings_table(run.spec()),
        "origin": _origin_table(run, attempts),
        "environment": pairs(environment.items()),
        "notes": pairs((_clock(event["time"]), event["text"]) for event in notes),
        "samples": pairs((sample["prompt"], sample["continuation"]) for sample in written),
        "files": pairs(_files(run, path)),
    }
    for name, table in sections.items():
        if table.row_count and (only is None or name in only):
            console.print(Text(f"\n{phrase(name)}", style="bold"))
            console.print(table, soft_wrap=False)
    return path


def warnings(events: Iterable[Event]) -> list[Event]:
    """Of what a run that learns by trying has noted, what is to be looked at: alarms and returns, with their steps."""
    return [event for event in events if event["type"] == "note" and event["kind"] in _WARNINGS]


def _memory(run: RunDirectory, series: Series) -> list[tuple[str, str]]:
    """What was planned, and where tensors were counted, how far that was from what they took."""
    plan = run.plan()
    if plan is None:
        return []
    peak, capacity = plan["peak_bytes"], memory(plan["capacity_bytes"])
    # What is emulated is kept by its English name.
    card = say("CPU, limited to {size}", size=capacity) if plan["card"].startswith("CPU, ") else plan["card"]
    rows = [
        (say("planned"), f"{memory(plan['needed_bytes'])} / {capacity}, {card}"),
        (say("tensors, predicted peak"), memory(peak)),
    ]
    if plan["counts_tensors"] and "perf/peak_memory_bytes" in series:
        _, measured = series["perf/peak_memory_bytes"]
        error = 100 * (peak / measured[-1] - 1)
        rows.append((say("tensors, measured peak"), f"{memory(measured[-1])} ({error:+.2f} %)"))
    return rows


def _head(row: RunRow, attempts: list[Event]) -> Group:
    lines = [Text.assemble("\n", (row.name, "bold"), f"   {row.stage}   ", state_text(row.state))]
    if reason := reason_text(row.state):
        lines.append(Text(reason, style=_STYLES[row.state.word]))
    facts = []
    if row.step is not None:
        share = f" ({100 * row.step / row.total_steps:.0f}%)" if row.total_steps else ""
        facts.append(f"{say('step')} {row.step}" + (f" / {row.total_steps}{share}" if row.total_steps else ""))
    if attempts:
        facts.append(f"{say('started')} {_clock(attempts[0]['time'])[:-3]}")
        facts.append(f"{say('attempts')} {len(attempts)}")
    if row.updated is not None:
        facts.append(say("updated {age} ago", age=age(time.time() - row.updated)))
    if facts:
        lines.append(Text(" · ".join(facts), style="dim"))
    return Group(*lines)


def _judged(run: RunDirectory, series: Series) -> str:
    """The metric that the run's checkpoints are judged by. Bits per byte stand for the loss where both were measured:
    they rank alike, and tokenizers can be compared by them.
    """
    name = str(run.spec().get("eval", {}).get("best", "val/loss"))
    return "val/bits_per_byte" if name == "val/loss" and "val/bits_per_byte" in series else name


def _curves(series: Series, row: RunRow, resumed: list[int], console: Console, judged: str) -> Group:
    # The loss of a run that learns by trying is near 0 whatever it learns.
    first = "train/reward" if "train/reward" in series else "train/loss"
    names = [name for name in dict.fromkeys((first, "val/bits_per_byte", judged)) if name in series]
    if not names:
        return Group(*([] if series else [Text(f"\n{say('no metrics yet')}", style="dim")]))
    last_step = row.total_steps if row.state.word == "RUNNING" and row.total_steps else row.step or 0
    plots, meant = [], metrics_of(row.stage)
    for name in names:
        plots.append(Text())
        plots.append(
            terminal_curve(
                name,
                *series[name],
                unit=meant[name].unit if name in meant else "",
                last_step=last_step,
                width=min(console.width, 90),
                height=10 if name == first else 7,
                resumed=resumed,
                braille=can_show("⣿", console),
            )
        )
    if resumed:
        plots.append(Text(f"▲ {say('resumed at step')} {', '.join(map(str, resumed))}", style="dim"))
    return Group(*plots)


_WORSE = 0.05
"""How much worse than its best a run may end: validation goes up and down by some percent."""

_STILL = 0.02
"""A validation that is better by more than this than the one before it is not the last that would be."""


def _forgetting(stands: Mapping[int, Mapping[str, float]]) -> str:
    """What a run that went on from other weights has lost of them, in lines; "" where that was not measured."""
    lines = ""
    if values := [found[TEXT] for _, found in sorted(stands.items()) if TEXT in found]:
        change = f"{100 * (values[-1] / values[0] - 1):+.1f} %"
        what = say("forgetting (plain text, before and after)")
        lines += f"\n{what}: {values[0]:.4f} -> {values[-1]:.4f} {say('bits/byte')} ({change})"
    if values := [found["val/facts"] for _, found in sorted(stands.items()) if "val/facts" in found]:
        what = say("forgetting (facts answered right, before and after)")
        lines += f"\n{what}: {100 * values[0]:.1f} -> {100 * values[-1]:.1f} %"
    return lines


def _advice(name: str, series: Series, judged: str) -> list[str]:
    """What its held-out rows say of a run that is through: that it went on too long, or not long enough."""
    steps, values = series.get(judged, ([], []))
    if len(values) < 3 or judged not in ("val/loss", "val/bits_per_byte"):
        return []
    best = min(range(len(values)), key=values.__getitem__)
    if values[-1] > values[best] * (1 + _WORSE):
        return [
            say(
                "It was at its best at step {step} ({best:.4f}), and {last:.4f} at the end: it has learnt its rows by "
                "heart. Fewer --epochs or more data would help; {name}@best is the best checkpoint that is kept.",
                step=steps[best],
                best=values[best],
                last=values[-1],
                name=name,
            )
        ]
    if values[-1] < values[-2] * (1 - _STILL):
        return [say("It was still getting better when it ended: more --epochs, or more data, would help.")]
    return []


def _metrics_table(series: Series, stage: str) -> Table:
    table = _plain_table("", "last", "best", "at step", "meaning")
    # What a stage has declared is known where stages are loaded, which takes seconds.
    known = metrics_of(stage)
    own = {name: Metric("", "", None) for name in sorted(series.keys() - known.keys())}
    for name, metric in {**known, **own}.items():
        if name not in series:
            continue
        steps, values = series[name]
        best = at = ""
        if metric.better and len(values) > 1 and not name.startswith("perf/"):
            pick = min if metric.better == "lower" else max
            where = pick(range(len(values)), key=lambda index: _comparable(values[index], pick is min))
            best, at = _number(values[where], metric.unit), str(steps[where])
        unit = "" if metric.unit in ("", "bytes", "s") else f" ({phrase(metric.unit)})"
        table.add_row(name, _number(values[-1], metric.unit), best, at, phrase(metric.meaning) + unit)
    return table


def _checkpoints_table(run: RunDirectory, stands: Mapping[int, Mapping[str, float]], judged: str) -> Table:
    found = checkpoint_folders.steps(run.checkpoints)
    measured = {step: values[judged] for step, values in stands.items() if judged in values}
    ranked = best_first(measured, run.spec().get("eval", {}).get("best_is", "lowest"))
    best = next((step for step in ranked if step in found), None)
    table = _plain_table("step", "size", "bits/byte" if judged == "val/bits_per_byte" else judged, "")
    for step in found:
        folder = checkpoint_folders.folder_of(run.checkpoints, step)
        marks = [phrase(word) for word, at in (("newest", found[-1]), ("best so far", best)) if at == step]
        value = f"{measured[step]:.4f}" if step in measured else ""
        table.add_row(str(step), size(_bytes_below(folder)), value, say(", ").join(marks))
    return table


def _scores_table(run: RunDirectory) -> Table:
    """What each suite found of the newest checkpoint that it was put to."""
    table = _plain_table("suite", "step", "score", "95 % interval", "chance", "rows")
    for log in {log.suite: log for log in evals.logs(run)}.values():
        found = log.summary
        sure = f"{evals.number(found, found['low'])} … {evals.number(found, found['high'])}"
        chance = evals.number(found, found["chance"]) if found["chance"] is not None else ""
        table.add_row(
            phrase(log.suite), str(found["step"]), evals.number(found, log.score), sure, chance, str(found["n"])
        )
    return table


def _settings_table(spec: dict[str, Any]) -> Table:
    """One line for each section: `loop  batch_size=8  epochs=1 ...`."""
    single = {name: value for name, value in spec.items() if not isinstance(value, dict)}
    sections: dict[str, dict[str, Any]] = {"": single}
    sections |= {name: value for name, value in spec.items() if isinstance(value, dict)}
    return pairs((name, _assignments(values)) for name, values in sections.items() if values)


def _origin_table(run: RunDirectory, attempts: list[Event]) -> Table:
    rows = [(say("weights from"), str(run.spec().get("init_from") or say("random")))]
    steps = checkpoint_folders.steps(run.checkpoints)
    if steps:
        try:
            manifest = read_manifest(checkpoint_folders.folder_of(run.checkpoints, steps[-1]))
        except CheckpointError as error:
            rows.append((say("checkpoint"), str(error)))
        else:
            if manifest["parent_run"]:
                rows[0] = (rows[0][0], f"{manifest['parent_run']}, {say('step')} {manifest['parent_step']}")
            rows.append((say("training data"), f"{manifest['data_fingerprint']}"))
            rows.append((say("tokenizer"), manifest["tokenizer_fingerprint"]))
    resumed = [f"{event['step']} ({_clock(event['time'])})" for event in attempts if event.get("step", 0)]
    if resumed:
        rows.append((say("resumed at step"), ", ".join(resumed)))
    return pairs(rows)


def _files(run: RunDirectory, curve: Path | None) -> list[tuple[str, str]]:
    kept, everything = _bytes_below(run.checkpoints), _bytes_below(run.path)
    free = shutil.disk_usage(run.path).free
    disk = (
        f"{say('checkpoints')} {size(kept)} · {say('other files')} {size(everything - kept)} · "
        f"{say('free')} {size(free)}"
    )
    mine = [row for row in reports.list_reports() if row.b.partition("@")[0] == run.name]
    return [
        (say("folder"), str(run.path)),
        (say("picture"), str(curve) if curve else say("no picture yet")),
        (say("disk"), disk),
        *((say("report"), str(reports.page_of(row.folder, language()))) for row in mine),
    ]


def show_answers(run: RunDirectory, console: Console) -> None:
    """Prints what a run wrote: of the first validation and the newest the answers to held-out prompts that were kept,
    and what was written at the end. Raises ValueError if samples.jsonl cannot be read.
    """
    found = samples.read(run)
    steps = sorted({sample["step"] for sample in found if samples.KEPT in sample})
    for step in dict.fromkeys((*steps[:1], *steps[-1:])):
        console.print(Text(f"\n{say('answers to held-out prompts at step {step}', step=step)}", style="bold"))
        for sample in found:
            if sample["step"] == step and samples.KEPT in sample:
                console.print()
                console.print(_answer(sample), soft_wrap=False)
    if len(steps) > 2:
        between = ", ".join(map(str, steps[1:-1]))
        tell(console, "\n" + say("samples.jsonl of the run has those of the steps {steps} too.", steps=between))
    ended = [(sample["prompt"], sample["continuation"]) for sample in found if samples.KEPT not in sample]
    if ended:
        console.print(Text(f"\n{phrase('samples')}", style="bold"))
        console.print(pairs(ended), soft_wrap=False)
    if not found:
        console.print(say("{name} has written no samples yet.", name=run.name))


_KEPT = {"best": "the most reward", "worst": "the least reward", "drawn": "the same each time"}


def _answer(sample: samples.Sample) -> Table:
    """A held-out prompt, the answer to it, and what that is worth."""
    terms = [f"{name} {_number(value, '')}" for name, value in sample["terms"].items()]
    length = say("{count} tokens", count=sample["tokens"]) + ("" if sample["finished"] else say(", cut off"))
    worth = [say("reward {value}", value=_number(sample["reward"], "")), *(terms if len(terms) > 1 else ()), length]
    return pairs(
        [
            (phrase(_KEPT[sample[samples.KEPT]]), phrase("right" if sample["right"] else "wrong")),
            (say("prompt"), sample["prompt"]),
            (say("answer"), sample["continuation"]),
            (say("right answer"), sample["right_answer"]),
            (say("worth"), " · ".join(worth)),
        ]
    )


def _picture_title(row: RunRow) -> str:
    step = "" if row.step is None else f" · step {row.step}" + (f" / {row.total_steps}" if row.total_steps else "")
    return f"{row.name} · {row.stage} · {row.state.word}{step}"


def _plain_table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in columns:
        table.add_column(phrase(name), justify="right" if name in _NUMBERS else "left", overflow="fold")
    return table


def pairs(rows: Iterable[tuple[str, str]]) -> Table:
    """Names and values, one pair a line."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(value))
    return table


def _assignments(values: dict[str, Any]) -> str:
    return "  ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in values.items()
        if value is not None
    )


def state_text(state: RunState) -> Text:
    """The state in its colour."""
    return Text(phrase(state.word), style=_STYLES[state.word])


def _number(value: float, unit: str) -> str:
    if unit == "bytes":
        return memory(value)
    if unit == "s":
        return f"{value:.3g} {say('s')}"
    return amount(value) if abs(value) >= 10_000 else f"{value:.4g}"


def _comparable(value: float, lower_is_better: bool) -> float:
    if value == value:
        return value
    return float("inf") if lower_is_better else float("-inf")


def reason_text(state: RunState) -> str:
    """Why a run is in its state, in the reader's language where that is known."""
    reason = state.reason
    for known in (KILLED, CONTINUE, WAITING):
        reason = reason.replace(known, phrase(known))
    return reason


def age(seconds: float) -> str:
    """The larger of a duration's two units is enough in a table."""
    return " ".join(duration(max(0.0, seconds)).split()[:2])


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
