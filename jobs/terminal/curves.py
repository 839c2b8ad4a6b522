"""A run's curves: drawn with braille dots in the terminal, and as a PNG picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.text import Text

from minimind.language import language, phrase, say, speaking
from minimind.units import amount

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Series = dict[str, tuple[list[int], list[float]]]
"""Metric name -> steps, values."""

_TRAIN, _VALIDATION, _MARK = "#2a78b5", "#d9662b", "#7a7a7a"
_CJK_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",
    "SimHei",
    "PingFang SC",
    "Hiragino Sans GB",
    "Arial Unicode MS",
)
_WINDOWS_FONT = Path("/mnt/c/Windows/Fonts/msyh.ttc")  # what a WSL2 machine has of its Windows


def terminal_curve(
    name: str,
    steps: Sequence[int],
    values: Sequence[float],
    *,
    unit: str = "",
    last_step: int,
    width: int = 78,
    height: int = 10,
    resumed: Sequence[int] = (),
    braille: bool = True,
) -> Text:
    """A plot of one metric against the step, `width` columns wide and `height` + 3 lines high.

    unit: of the values, "" for none. The horizontal axis runs from 0 to `last_step`. resumed: steps that get a mark on
    it. braille: False draws with ASCII characters, for terminals that have nothing else. Values that are not finite are
    left out.
    """
    points = [(step, value) for step, value in zip(steps, values, strict=True) if math.isfinite(value)]
    title = Text(f"{name}", style="bold")
    if unit:
        title.append(f"  {phrase(unit)}", style="dim")
    if not points:
        return title.append(f"\n  {say('no metrics yet')}", style="dim")
    low, high = min(value for _, value in points), max(value for _, value in points)
    title.append(f"   {points[0][1]:.4g} {'→' if braille else '->'} {points[-1][1]:.4g}")
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    labels = _row_labels(low, high, height)
    margin = max(map(len, labels.values())) + 2
    columns = max(20, width - margin - 2 - cell_len(say("step")))
    per_x, per_y = (2, 4) if braille else (1, 1)
    last_step = max(last_step, points[-1][0], 1)
    canvas = _Canvas(columns * per_x, height * per_y)
    canvas.draw(
        [
            (
                step / last_step * (columns * per_x - 1),
                (high - value) / (high - low) * (height * per_y - 1),
            )
            for step, value in points
        ]
    )
    edge, tick, corner, line, mark = ("│", "┤", "└", "─", "▲") if braille else ("|", "+", "+", "-", "^")
    text = title
    colour = "cyan" if name.startswith("train/") else "yellow"
    for row in range(height):
        label = labels.get(row, "")
        text.append(f"\n{label:>{margin - 1}} {tick if label else edge}", style="dim")
        text.append(canvas.row(row, per_x, per_y), style=colour)
    axis = [line] * columns
    for step in resumed:
        axis[round(step / last_step * (columns - 1))] = mark
    text.append(f"\n{'':{margin}}{corner}", style="dim")
    text.append("".join(axis) + f" {say('step')}", style="dim")
    text.append(f"\n{'':{margin + 1}}{_step_labels(last_step, columns)}", style="dim")
    return text


_LEARNING = ("loss", "train/loss", "val/loss", "val/bits_per_byte")
_TRYING = ("mean reward", "train/reward", "val/reward", "val/right")
"""What the upper part of a picture shows, by which metrics, and the metric of the lower part."""


def picture(
    path: Path, title: str, series: Series, *, resumed: Sequence[int] = (), unit: str = "nats/token"
) -> Path | None:
    """Draws the curve of a run to a PNG file and returns its path; None, and no file, if there is nothing to draw.

    Above: training loss (light: as logged, strong: smoothed) and validation loss. Below: validation bits per byte. Of a
    run that learns by trying, whose loss tells nothing: the reward, and below the share of held-out prompts answered
    right. resumed: steps at which the run was continued, marked by a dashed line. Chinese labels need a Chinese font on
    the machine; without one they are in English. unit: of the loss, as `minimind.events.Metric` has it.
    """
    tries = not series.keys().isdisjoint(("train/reward", "val/reward"))
    what, train, validation, judged = _TRYING if tries else _LEARNING
    shown = {name: _finite(*series[name]) for name in (train, validation, judged) if name in series}
    shown = {name: points for name, points in shown.items() if points[0]}
    if not shown:
        return None
    # Not pyplot: it would hold a picture in a global, and pick a window system.
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    font = _chinese_font() if language() == "zh" else None
    style: Any = {"font.family": [font, "DejaVu Sans"] if font else ["DejaVu Sans"], "font.size": 10.5}
    with rc_context(style), speaking("zh" if font else "en"):
        below = judged in shown
        figure = Figure(figsize=(9, 6.4 if below else 4.6), dpi=140, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(
            2 if below else 1, 1, sharex=True, height_ratios=[2.2, 1] if below else [1], squeeze=False
        )
        above = axes[0][0]
        figure.suptitle(title, x=0.015, ha="left", family="DejaVu Sans", fontweight="bold", fontsize=12)
        if train in shown:
            steps, values = shown[train]
            smoothed = smooth(values)
            if smoothed != values:
                above.plot(steps, values, color=_TRAIN, alpha=0.28, linewidth=0.9, label=say("training"))
            label = phrase("training, smoothed" if smoothed != values else "training")
            above.plot(steps, smoothed, color=_TRAIN, linewidth=2, label=label)
        if validation in shown:
            _points(above, *shown[validation], say("validation"))
        above.set_ylabel(f"{phrase(what)}  ({phrase(unit)})" if unit and not tries else phrase(what))
        if below:
            steps, values = shown[judged]
            _points(axes[1][0], steps, values, say("validation"))
            axes[1][0].set_ylabel(f"{say('validation')}  ({say('right') if tries else say('bits/byte')})")
            for index, side in {0: "left", len(steps) - 1: "right"}.items():
                at = (steps[index], values[index])
                axes[1][0].annotate(f"{at[1]:.3g}", at, (0, 8), textcoords="offset points", ha=side)
        for (axis,) in axes:
            for step in resumed:
                axis.axvline(step, color=_MARK, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
            axis.grid(axis="y", color="#e6e6e6", linewidth=0.8)
            axis.set_axisbelow(True)
            axis.spines[["top", "right"]].set_visible(False)
            axis.margins(x=0.02, y=0.12)
        if resumed:
            label = f"{say('resumed at step')} {_enumerate(resumed)}"
            above.plot([], [], color=_MARK, linewidth=1, linestyle=(0, (4, 3)), label=label)
        axes[-1][0].set_xlabel(say("step"))
        axes[-1][0].xaxis.get_major_locator().set_params(integer=True)
        above.legend(frameon=False, loc="lower right" if tries else "upper right")
        figure.savefig(path, metadata={"Software": None})
    return path


def smooth(values: Sequence[float]) -> list[float]:
    """A centred moving average over a thirtieth of the values; near the ends over fewer, always as many on both sides.

    Centred, so that it does not lag behind a falling loss. Fewer than 60 values stay as they are.
    """
    half = len(values) // 60
    if not half:
        return list(values)
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    result = []
    for index in range(len(values)):
        reach = min(half, index, len(values) - 1 - index)
        result.append((sums[index + reach + 1] - sums[index - reach]) / (2 * reach + 1))
    return result


class _Canvas:
    """A grid of dots, read out as characters."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.dots: set[tuple[int, int]] = set()

    def draw(self, points: list[tuple[float, float]]) -> None:
        """A line through the points; where several fall into one column, through their mean."""
        columns: dict[int, list[float]] = {}
        for x, y in points:
            columns.setdefault(round(x), []).append(y)
        path = [(x, sum(ys) / len(ys)) for x, ys in columns.items()]
        for x, y in path:
            self.dots.add((x, round(y)))
        for (x0, y0), (x1, y1) in pairwise(path):
            count = max(1, round(max(abs(x1 - x0), abs(y1 - y0))))
            for part in range(count + 1):
                share = part / count
                self.dots.add((round(x0 + share * (x1 - x0)), round(y0 + share * (y1 - y0))))

    def row(self, row: int, per_x: int, per_y: int) -> str:
        """One line of characters, each of `per_x` by `per_y` dots."""
        return "".join(
            self._character(column * per_x, row * per_y, per_x) for column in range(self.width // per_x)
        ).rstrip()

    def _character(self, x: int, y: int, per_x: int) -> str:
        if per_x == 1:
            return "*" if (x, y) in self.dots else " "
        bits = sum(bit for (dx, dy), bit in _BRAILLE.items() if (x + dx, y + dy) in self.dots)
        return chr(0x2800 + bits) if bits else " "


_BRAILLE = {
    (0, 0): 0x01, (0, 1): 0x02, (0, 2): 0x04, (0, 3): 0x40,
    (1, 0): 0x08, (1, 1): 0x10, (1, 2): 0x20, (1, 3): 0x80,
}  # fmt: skip
"""Dot (right, down) of a braille character -> its bit in Unicode."""


def _row_labels(low: float, high: float, height: int) -> dict[int, str]:
    """Row -> the value it stands for: the highest on top, the lowest at the bottom, every third in between."""
    rows = [*range(0, height - 2, 3), height - 1]
    values = [high - (high - low) * row / (height - 1) for row in rows]
    digits = max(0, 2 - math.floor(math.log10(high - low)))
    if max(abs(low), abs(high)) >= 10_000:
        return {row: amount(value) for row, value in zip(rows, values, strict=True)}
    return {row: f"{value:.{digits}f}" for row, value in zip(rows, values, strict=True)}


def _round_step(rough: float) -> float:
    """The largest of 1, 2, 5, 10, 20, ... or a tenth, hundredth, ... of these that is not above `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return max(factor * power for factor in (1, 2, 5) if factor * power <= rough * (1 + 1e-9))


def _step_labels(last_step: int, columns: int) -> str:
    """Round steps under the axis, and the last one under its end."""
    line = [" "] * columns
    end = columns
    step = max(1, round(_round_step(last_step / max(1, columns // 16))))
    for value in (last_step, *range(0, last_step, step)):
        label = amount(value) if value >= 10_000 else str(value)
        at = columns - len(label) if value == last_step else round(value / last_step * (columns - 1)) - len(label) // 2
        at = max(0, at)
        if value == last_step or at + len(label) + 2 <= end:
            line[at : at + len(label)] = label
        if value == last_step:
            end = at
    return "".join(line)


def _finite(steps: Sequence[int], values: Sequence[float]) -> tuple[list[int], list[float]]:
    kept = [(step, value) for step, value in zip(steps, values, strict=True) if math.isfinite(value)]
    return [step for step, _ in kept], [value for _, value in kept]


def _points(axis: Axes, steps: list[int], values: list[float], label: str) -> None:
    axis.plot(steps, values, color=_VALIDATION, marker="o", markersize=5, linewidth=1.3, label=label)


def _enumerate(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers)) if len(numbers) <= 4 else f"{numbers[0]}, …, {numbers[-1]} ({len(numbers)}x)"


def _chinese_font() -> str | None:
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    if not installed & set(_CJK_FONTS) and _WINDOWS_FONT.exists():
        font_manager.fontManager.addfont(_WINDOWS_FONT)
        installed = {font.name for font in font_manager.fontManager.ttflist}
    return next((name for name in _CJK_FONTS if name in installed), None)
