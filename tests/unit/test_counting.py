"""How far something is, on a terminal and in a log."""

from __future__ import annotations

import io

from jobs.terminal.console import Terminal
from jobs.terminal.counting import PERIOD_S, counting
from tests.small import Screen


def test_a_log_gets_a_line_now_and_then_with_the_time_that_is_left() -> None:
    now = 0.0
    screen = Screen()
    with counting("Asking", 20, screen, done=10, clock=lambda: now) as tell:
        for _ in range(6):
            now += PERIOD_S / 2
            tell()
    assert screen.text.splitlines() == [
        "Asking: 12 of 20, about 2 min 0 s left",
        "Asking: 14 of 20, about 1 min 30 s left",
        "Asking: 16 of 20, about 1 min 0 s left",
    ]


def test_a_terminal_gets_a_bar_that_begins_where_it_stood() -> None:
    stream = io.StringIO()
    console = Terminal(file=stream, force_terminal=True, width=100, color_system=None, legacy_windows=False)
    with counting("Asking", 20, console, done=10) as tell:
        tell()
    assert "Asking" in stream.getvalue()
    assert "11/20" in stream.getvalue()
