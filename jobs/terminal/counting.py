"""How far something is that is counted, and how long it still takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from minimind.language import say
from minimind.units import duration

PERIOD_S = 30.0
"""Where there is no terminal, a line so often."""


@contextmanager
def counting(
    title: str, total: int, console: Console, *, done: int = 0, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[], None]]:
    """What the block has to call for each of `total` that is done. A bar with the time that is left on a terminal; else
    a line now and then. done: how many there were before.
    """
    if not console.is_terminal:
        yield _Lines(title, total, console, done, clock).tell
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=total, completed=done)
        yield lambda: bar.advance(task)


class _Lines:
    def __init__(self, title: str, total: int, console: Console, done: int, clock: Callable[[], float]) -> None:
        self._title, self._total, self._console = title, total, console
        self._done = self._before = done
        self._clock = clock
        self._began = self._said = clock()

    def tell(self) -> None:
        self._done += 1
        now = self._clock()
        if now - self._said < PERIOD_S:
            return
        self._said = now
        left_s = (now - self._began) / (self._done - self._before) * (self._total - self._done)
        self._console.print(
            say(
                "{title}: {done} of {total}, about {time} left",
                title=self._title,
                done=self._done,
                total=self._total,
                time=duration(left_s),
            )
        )
