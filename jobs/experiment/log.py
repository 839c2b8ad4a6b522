"""The table of all experiments: a row a run, the oldest first. Date, command, memory, loss and sample output are the
columns of the MiniMind handbook's training log, in its order; behind them stands what else it takes to compare runs.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.text import Text

from jobs import paths
from jobs.evaluation.texts import cell
from jobs.experiment.facts import Facts, at, facts_of, find
from jobs.runs import evals
from jobs.runs.directory import directories
from jobs.runs.show import pairs, warnings
from jobs.stages.spec import differences
from jobs.terminal.console import plain
from minimind.language import phrase, say
from minimind.units import amount, duration, memory

_FORMULA = re.compile(r"[\s\u200b-\u200f\u2060\ufeff]*[=+\-@＝＋－＠]")
"""So a text begins that a spreadsheet would take for a formula."""


@dataclass(frozen=True)
class Entry:
    """A run in the log. before: the entry's run of the same stage before it, to see what was changed since."""

    facts: Facts
    before: Facts | None = None


def entries(names: Sequence[str], tell: Callable[[str], None]) -> list[Entry]:
    """The runs of these names, or all there are, the oldest first.

    tell: told of each run that is left out, where all are asked for. Raises ValueError for one that was named.
    """
    found: list[Facts] = []
    if names:
        found = [facts_of(find(name)) for name in dict.fromkeys(names)]
    else:
        for run in directories(paths.runs()):
            try:
                found.append(facts_of(run))
            except ValueError as error:
                tell(say("left out: {error}", error=error))
    found.sort(key=lambda facts: facts.began_s)
    newest: dict[str, Facts] = {}
    listed = []
    for facts in found:
        listed.append(Entry(facts, newest.get(facts.row.stage)))
        newest[facts.row.stage] = facts
    return listed


def as_json(entry: Entry) -> dict[str, Any]:
    """An entry for programs; docs/json.md has the keys."""
    facts = entry.facts
    return {
        "date": facts.began_s,
        "command": facts.command,
        "peak_memory_bytes": facts.last("perf/peak_memory_bytes"),
        "planned_bytes": facts.plan.get("needed_bytes"),
        "loss": facts.last("train/loss"),
        "samples": facts.samples,
        "name": facts.run.name,
        "stage": facts.row.stage,
        "state": facts.row.state.word,
        "step": facts.row.step,
        "total_steps": facts.row.total_steps,
        "seconds": round(facts.seconds, 3),
        "tokens": facts.last("train/tokens"),
        "tokens_per_s": facts.tokens_per_s,
        "validation_loss": facts.last("val/loss"),
        "bits_per_byte": facts.last("val/bits_per_byte"),
        "scores": evals.scores(facts.run),
        "alarms": [{name: event[name] for name in ("step", "kind", "text")} for event in warnings(entry.facts.events)],
        "changed": changed(entry),
        "settings": facts.spec,
        "files": {setting: {"path": path, "sha256": digest} for setting, (path, digest) in facts.files.items()},
        "began_with": facts.run.began_with,
        "environment": facts.environment,
    }


def changed(entry: Entry) -> dict[str, list[Any]]:
    """The settings that are not those of the run of the same stage before it: dotted path -> before and now."""
    if entry.before is None:
        return {}
    old, new = entry.before.spec, entry.facts.spec
    return {path: [at(old, path), at(new, path)] for path in differences(old, new) if path != "name"}


def as_csv(listed: Sequence[Entry]) -> str:
    """The whole table for a spreadsheet."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([phrase(title) for title in COLUMNS])
    for entry in listed:
        writer.writerow([_no_formula(plain(text(entry))) for text in COLUMNS.values()])
    return stream.getvalue()


def as_markdown(listed: Sequence[Entry]) -> str:
    """The whole table for a page."""
    lines = [[phrase(title) for title in COLUMNS], ["---"] * len(COLUMNS)]
    lines += [[cell(text(entry)) for text in COLUMNS.values()] for entry in listed]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def show(listed: Sequence[Entry], console: Console) -> None:
    """A block a run, with the columns that have something to say: so many in a row no terminal is wide enough for."""
    if not listed:
        console.print(f"{say('no runs yet in')} {paths.runs()}", soft_wrap=True)
    for entry in listed:
        console.print(Text(f"\n{entry.facts.run.name}", style="bold"))
        lines = [(phrase(title), told) for title, text in COLUMNS.items() if (told := text(entry)) and title != "Run"]
        console.print(pairs(lines), soft_wrap=False)


def _no_formula(text: str) -> str:
    return f"'{text}" if _FORMULA.match(text) else text


def _date(entry: Entry) -> str:
    return datetime.fromtimestamp(entry.facts.began_s).astimezone().strftime("%Y-%m-%d %H:%M")


def _memory(entry: Entry) -> str:
    plan, peak = entry.facts.plan, entry.facts.last("perf/peak_memory_bytes")
    measured = memory(peak) if peak else ""
    if "needed_bytes" not in plan:
        return measured
    planned = say("{bytes} planned", bytes=memory(plan["needed_bytes"]))
    return f"{measured} ({planned})" if measured else planned


def _loss(entry: Entry) -> str:
    facts = entry.facts
    _, right = facts.series.get("val/right", ([], []))
    if right:  # of a run that tries, whose loss is near 0 whatever it learns
        return say(
            "held-out prompts answered right: {before:.1f} → {now:.1f} %", before=100 * right[0], now=100 * right[-1]
        )
    _, values = facts.series.get("train/loss", ([], []))
    found = f"{values[0]:.4f} → {values[-1]:.4f}" if len(values) > 1 else "".join(f"{value:.4f}" for value in values)
    held_out = facts.last("val/loss")
    return found if held_out is None else say("{training}, held out {value:.4f}", training=found, value=held_out)


def _samples(entry: Entry) -> str:
    """A line each, whatever lines the model wrote: some write nothing else."""
    lines = [f"{one['prompt']} → {one['continuation']}" for one in entry.facts.samples]
    return "\n".join(line.replace("\n", "⏎") for line in lines)


def _steps(entry: Entry) -> str:
    row = entry.facts.row
    return "" if row.step is None else f"{row.step}" + (f"/{row.total_steps}" if row.total_steps else "")


def _speed(entry: Entry) -> str:
    speed = entry.facts.tokens_per_s
    return amount(speed) if speed is not None else ""


def _bits(entry: Entry) -> str:
    bits = entry.facts.last("val/bits_per_byte")
    return f"{bits:.4f}" if bits is not None else ""


def _scores(entry: Entry) -> str:
    said = []
    for log in evals.logs(entry.facts.run):
        found = log.summary
        interval = f"{evals.number(found, found['low'])} … {evals.number(found, found['high'])}"
        said.append(f"{phrase(log.suite)}@{found.get('step')} {evals.number(found, found['score'])} ({interval})")
    return "; ".join(said)


def _setting(path: str) -> Callable[[Entry], str]:
    def text(entry: Entry) -> str:
        value = entry.facts.asked(path)
        return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)

    return text


def _changed(entry: Entry) -> str:
    return "; ".join(f"{path}: {old} → {new}" for path, (old, new) in changed(entry).items())


def _batch(entry: Entry) -> str:
    sizes = [entry.facts.asked(path) for path in ("loop.batch_size", "loop.accumulation_steps")]
    workers = entry.facts.asked("scaling.workers") or 1
    return " x ".join(map(str, [*sizes, workers])) if None not in sizes else ""


def _data(entry: Entry) -> str:
    return "; ".join(f"{setting} = {path} ({digest[:12]})" for setting, (path, digest) in entry.facts.files.items())


def _kept(name: str) -> Callable[[Entry], str]:
    return lambda entry: entry.facts.environment.get(name, "")


def _state(entry: Entry) -> str:
    return phrase(entry.facts.row.state.word)


def _alarms(entry: Entry) -> str:
    return "\n".join(f"{say('step')} {event['step']}: {event['text']}" for event in warnings(entry.facts.events))


def _machine(entry: Entry) -> str:
    kept = entry.facts.environment
    threads = say("threads: {count}", count=kept["threads"]) if "threads" in kept else ""
    return ", ".join(filter(None, (kept.get("device"), kept.get("cpu"), threads)))


COLUMNS: dict[str, Callable[[Entry], str]] = {
    "Date": _date,
    "Command": lambda entry: entry.facts.command,
    "Memory": _memory,
    "Loss": _loss,
    "Sample output": _samples,
    "Run": lambda entry: entry.facts.run.name,
    "Stage": lambda entry: entry.facts.row.stage,
    "State": _state,
    "Time": lambda entry: duration(entry.facts.seconds),
    "Steps": _steps,
    "Tokens/s": _speed,
    "Bits/byte": _bits,
    "Scores (95 % interval)": _scores,
    "Alarms": _alarms,
    "Changed since the run before": _changed,
    "Learning rate": _setting("optim.learning_rate"),
    "Batch x accumulation x workers": _batch,
    "Tokens per row": _setting("data.max_seq_len"),
    "Seed": _setting("seed"),
    "First weights": _setting("init_from"),
    "Data (sha256)": _data,
    "Tokenizer": lambda entry: str(entry.facts.run.began_with.get("tokenizer", ""))[:12],
    "Commit": _kept("commit"),
    "Precision": _kept("dtype"),
    "Machine": _machine,
    "PyTorch": _kept("torch"),
}
"""Title, as it is translated -> what an entry has to say there."""
