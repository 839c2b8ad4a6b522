"""What came of a pipeline, as a table: a column for each stage, for stages have short names and suites long ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from jobs.evaluation.view import explain, label
from jobs.runs.evals import EvalLog, number
from jobs.terminal.wrap import tell
from minimind.language import phrase, say
from minimind.units import clock

SHA256_DIGITS = 7
"""Of a sha256 as many are shown as tell a pipeline's weights apart."""

_GAP = 2
"""Between columns, the blank that the box has there among them."""


@dataclass(frozen=True)
class Result:
    """A stage at its end. seconds: what it took; sha256: of its weights. measured: a metric's name and its value on the
    stage's own held-out rows, where that says more than its loss.
    """

    stage: str
    seconds: float
    sha256: str
    logs: Sequence[EvalLog]
    measured: tuple[str, float, float] | None = None


def show(results: Sequence[Result], console: Console) -> None:
    """A column a stage: its time, its scores, its own measure, its weights. Where the console is too narrow for all of
    them, one table after the other.
    """
    suites = {log.suite: label(log.summary, phrase(log.suite)) for one in results for log in one.logs}
    metrics = list(dict.fromkeys(one.measured[0] for one in results if one.measured is not None))
    titles = [say("stage"), say("time"), *suites.values(), *metrics, "sha256"]
    columns = [_column(one, list(suites), metrics) for one in results]
    widths = [_GAP + max(map(cell_len, column)) for column in columns]
    for first, end in pairwise(_breaks(widths, console.width - max(map(cell_len, titles)))):
        if first:
            console.print()
        console.print(_table(titles, columns[first:end]), soft_wrap=False)
    explain([log.summary for one in results for log in one.logs], console)
    if metrics:
        tell(
            console,
            say("{names}: of each stage's own held-out rows, before and after it", names=say(", ").join(metrics)),
            style="dim",
        )


def _column(one: Result, suites: Sequence[str], metrics: Sequence[str]) -> list[str]:
    scores = {log.suite: number(log.summary, log.score) for log in one.logs}
    own = {}
    if one.measured is not None:
        name, before, after = one.measured
        own[name] = f"{before:.3f} → {after:.3f}"
    told = [*(scores.get(name, "") for name in suites), *(own.get(name, "") for name in metrics)]
    return [phrase(one.stage), clock(one.seconds), *told, one.sha256[:SHA256_DIGITS]]


def _breaks(widths: Sequence[int], room: int) -> list[int]:
    """Where tables begin, and the end of the last: of columns that are so wide as many in each as have room, one at
    least.
    """
    breaks, taken = [0], 0
    for place, width in enumerate(widths):
        if taken + width > room and place > breaks[-1]:
            breaks.append(place)
            taken = 0
        taken += width
    return [*breaks, len(widths)] if widths else breaks


def _table(titles: Sequence[str], columns: Sequence[Sequence[str]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, _GAP - 1, 0, 0))
    table.add_column(titles[0], overflow="fold")
    for column in columns:
        table.add_column(column[0], justify="right", overflow="fold")
    for place, title in enumerate(titles[1:], 1):
        table.add_row(title, *(column[place] for column in columns))
    return table
