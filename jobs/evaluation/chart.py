"""The report's pictures as SVG: where an interval lies, and two curves in one frame."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import isfinite

from jobs.evaluation.compare import Compared
from minimind.evaluation.statistics import Interval
from minimind.language import say

Curve = tuple[str, Sequence[int], Sequence[float]]
"""Its letter, steps, values."""


def widest(compared: Sequence[Compared]) -> dict[bool, float]:
    """How far from none the intervals of suites reach, for those where less is better and for the others."""
    reach = {False: 1e-9, True: 1e-9}
    for one in compared:
        kind = bool(one.a.summary["lower_is_better"])
        reach[kind] = max(
            reach[kind], *(abs(end) for end in one.whole.comparison.difference.known().values() if end is not None)
        )
    return reach


def interval(of: Interval, reach: float, middle: float = 0.0) -> str:
    """A number with its interval, where that is known, on a line that reaches so far both ways from its middle, which
    is what no difference or chance would be.
    """
    found = of.known()

    def x(value: float) -> float:
        return 80 + 76 * max(-1.0, min(1.0, (value - middle) / reach))

    value, low, high = found["value"], found["low"], found["high"]
    span = (
        f'<line class="range" x1="{x(low):.1f}" x2="{x(high):.1f}" y1="8" y2="8"/>'
        if low is not None and high is not None
        else ""
    )
    return (
        '<svg class="interval" viewBox="0 0 160 16" role="img" aria-hidden="true">'
        '<line class="none" x1="80" x2="80" y1="1" y2="15"/>'
        f'{span}<circle cx="{x(middle if value is None else value):.1f}" cy="8" r="3.5"/></svg>'
    )


def _finite(curve: Curve) -> Curve:
    """A curve without the points that are no numbers."""
    letter, steps, values = curve
    there = [place for place, value in enumerate(values) if isfinite(value)]
    return letter, [steps[place] for place in there], [values[place] for place in there]


def curves(found: Sequence[Curve]) -> str:
    """Both curves in one frame, with their ends named; "" where there is none."""
    drawn = [one for one in map(_finite, found) if len(one[1]) > 1]
    if not drawn:
        return ""
    width, height, left, bottom = 640, 240, 48, 30
    last = max(steps[-1] for _, steps, _ in drawn)
    every = [value for _, _, values in drawn for value in values]
    low, high = min(every), max(every)
    span = (high - low) or 1.0

    def x(step: float) -> float:
        return left + (width - left - 24) * step / last

    def y(value: float) -> float:
        return 12 + (height - bottom - 12) * (high - value) / span

    parts = [f'<svg class="curves" viewBox="0 0 {width} {height}" role="img">']
    for part in range(5):
        value = low + span * part / 4
        parts.append(f'<line class="grid" x1="{left}" x2="{width - 24}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(f'<text x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.2f}</text>')
    for letter, steps, values in drawn:
        points = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in zip(steps, values, strict=True))
        parts.append(f'<polyline class="curve {letter.lower()}" points="{points}"/>')
        parts.append(
            f'<text class="end {letter.lower()}" x="{x(steps[-1]) + 4:.1f}" y="{y(values[-1]) + 4:.1f}">{letter}</text>'
        )
    parts.append(
        f'<text x="{left}" y="{height - 8}">0</text>'
        f'<text x="{width - 24}" y="{height - 8}" text-anchor="end">{escape(say("step"))} {last}</text></svg>'
    )
    return "".join(parts)
