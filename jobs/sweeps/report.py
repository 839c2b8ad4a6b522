"""What a sweep found: a table in the terminal, and a page that holds everything in itself."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.sweeps.feasible import Group
from minimind.events import Event
from minimind.language import language, phrase, say
from minimind.units import amount, memory

OUTCOMES = ("measured", "ended early", "infeasible", "refused", "disk full", "failed")
"""What may become of a trial, or of a point."""

_CROSSES = ("refused", "infeasible", "failed")

PARAMETERS = "parameters"
"""What a trial's record says beside its settings: how many numbers its model has."""

Dot = tuple[float, float, str, str]
"""x, y, class, what is said of it."""


def ranked(trials: Sequence[Event], objective: str) -> list[Event]:
    """The trials that went to their end and have the objective, best first."""
    whole = [trial for trial in trials if trial["outcome"] == "measured" and trial.get(objective) is not None]
    return sorted(whole, key=lambda trial: _loss(trial, objective))


def front(trials: Sequence[Event]) -> list[Event]:
    """Those than which no other is both better in bits per byte and faster, by speed (the Pareto front)."""
    whole = [trial for trial in trials if trial["outcome"] == "measured" and trial.get("bits_per_byte") is not None]
    result: list[Event] = []
    for trial in sorted(whole, key=lambda t: (-t["tokens_per_s"], t["bits_per_byte"])):
        if not result or trial["bits_per_byte"] < result[-1]["bits_per_byte"]:
            result.append(trial)
    return result


def trial_line(trial: Event) -> str:
    """One trial in a line."""
    words = [say("trial {number}: {point}", number=trial["trial"], point=point_text(trial["settings"]))]
    if trial.get("bits_per_byte") is not None:
        words.append(f"{trial['bits_per_byte']:.4f} {say('bits/byte')}")
    if trial.get("tokens_per_s") is not None:
        words.append(f"{amount(trial['tokens_per_s'])} {say('tokens/s')}")
    if trial["outcome"] != "measured":
        closed = say(", {count} more points closed", count=trial["closed"]) if trial.get("closed") else ""
        outcome = phrase(trial["outcome"])
        if trial.get("reason"):
            outcome = say("{name}: {value}", name=outcome, value=trial["reason"])
        words.append(outcome + closed)
    return "  ".join(words)


def point_text(settings: dict[str, Any]) -> str:
    """A point by the last words of its paths."""
    return " ".join(f"{path.rpartition('.')[2]}={_value(value)}" for path, value in settings.items())


def table(trials: Sequence[Event], objective: str) -> Table:
    """The trials, best first, then those that measured nothing."""
    best = ranked(trials, objective)
    on_front = {trial["trial"] for trial in front(trials)}
    columns, same = _columns(trials)
    caption = say("{name}: {value}", name=say("in all"), value=point_text(same)) if same else None
    result = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), caption=caption, caption_justify="left")
    heads = _heads(columns)
    rows = (_cells(trial, columns) for trial in trials)
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)] or [0] * len(heads)
    for title, width in zip(("#", *heads), (len(str(len(trials))), *widths), strict=True):
        # Where a screen is narrow a title breaks, a number never does.
        result.add_column(re.sub(" |(?<=/)", "\n", title), justify="right", min_width=width, overflow="fold")
    result.add_column("", no_wrap=True)
    for place, trial in enumerate([*best, *(trial for trial in trials if trial not in best)], start=1):
        whole = trial in best
        outcome = phrase(trial["outcome"])  # the reasons stand above, in the trials' lines
        mark = ("Pareto" if trial["trial"] in on_front else "") if whole else outcome
        result.add_row(str(place) if whole else "", *map(Text, _cells(trial, columns)), Text(mark))
    return result


def write_report(
    path: Path,
    name: str,
    objective: str,
    dimensions: Sequence[str],
    found: Sequence[Group],
    trials: Sequence[Event],
    console: Console,
) -> None:
    """Print the table and write the page: the objective against each dimension, the Pareto front, and memory as it was
    predicted and measured. The page needs no other file and no network.
    """
    console.print(table(trials, objective), soft_wrap=False)
    refused = [point for group in found for point in group.refused]
    feasible = sum(len(group.feasible) for group in found)
    best, on_front = ranked(trials, objective), front(trials)
    columns, same = _columns(trials)
    rows = "".join(
        f"<tr class='{'best' if trial in best[:1] else ''}'><td>{place if trial in best else ''}</td>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in _cells(trial, columns))
        + f"<td>{'Pareto' if trial in on_front else escape(_outcome(trial) if trial not in best else '')}</td></tr>"
        for place, trial in enumerate([*best, *(trial for trial in trials if trial not in best)], start=1)
    )
    with_bits = [trial for trial in trials if trial.get("bits_per_byte") is not None]
    shown = [*dimensions, *([PARAMETERS] if _differ_in_size(trials) else ())]
    plots = [_against(dimension, objective, trials, refused, best) for dimension in shown]
    plots.append(
        _scatter(
            say("Pareto front"),
            say("tokens/s"),
            say("bits/byte"),
            [
                (t["tokens_per_s"], t["bits_per_byte"], "front" if t in on_front else t["outcome"], trial_line(t))
                for t in with_bits
            ],
            line=[(t["tokens_per_s"], t["bits_per_byte"]) for t in on_front],
        )
    )
    counted = [t for t in trials if t.get("peak_bytes") and t.get("counts_tensors")]
    if counted:
        dots: list[Dot] = [
            (t["predicted_bytes"] / 2**20, t["peak_bytes"] / 2**20, t["outcome"], trial_line(t)) for t in counted
        ]
        ends = [f([d[0] for d in dots] + [d[1] for d in dots]) for f in (min, max)]
        diagonal = [(end, end) for end in ends]
        plots.append(_scatter(say("memory (MB)"), say("predicted"), say("measured peak"), dots, line=diagonal))
    summary = say(
        "{trials} trials, {feasible} points that fit, {refused} refused and never started",
        trials=len(trials),
        feasible=feasible,
        refused=len(refused),
    )
    heads = "".join(f"<th>{escape(head)}</th>" for head in ("#", *_heads(columns), ""))
    caption = f"<p>{escape(say('{name}: {value}', name=say('in all'), value=point_text(same)))}</p>" if same else ""
    content = (
        f"<!doctype html><html lang={language()}><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{escape(name)}</title><style>{_STYLE}</style><main><h1>{escape(name)}</h1><p>{summary}</p>"
        f"<p class=legend>{_legend()}</p><div class=plots>{''.join(plots)}</div>"
        f"<div class=wide><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>{caption}</div>"
        f"</main></html>\n"
    )
    path.write_text(content, "utf-8")


def _against(
    dimension: str, objective: str, trials: Sequence[Event], refused: Sequence[dict[str, Any]], best: Sequence[Event]
) -> str:
    """The objective against one setting; refused points stand on the lower edge."""
    values = [_setting(t, dimension) for t in trials if _setting(t, dimension) is not None]
    values += [point[dimension] for point in refused if dimension in point]
    numbers = [v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)]
    names = None if len(numbers) == len(values) else sorted({_value(value) for value in values})

    def x(value: Any) -> float:
        return float(value) if names is None else float(names.index(_value(value)))

    measured = [t for t in trials if t.get(objective) is not None and _setting(t, dimension) is not None]
    heights = [float(t[objective]) for t in measured]
    low = min(heights, default=0.0)
    low -= 0.08 * (max(heights, default=1.0) - low or 1.0)
    dots: list[Dot] = [
        (x(_setting(t, dimension)), t[objective], "best" if t in best[:1] else t["outcome"], trial_line(t))
        for t in measured
    ]
    dots += [
        (x(_setting(t, dimension)), low, "infeasible", trial_line(t))
        for t in trials
        if t not in measured and _setting(t, dimension) is not None
    ]
    dots += [
        (x(p[dimension]), low, "refused", say("{name}: {value}", name=say("refused"), value=point_text(p)))
        for p in refused
        if dimension in p
    ]
    label = say("bits/byte") if objective == "bits_per_byte" else say("tokens/s")
    return _scatter(dimension, dimension.rpartition(".")[2], label, dots, names=names)


def _scatter(
    title: str,
    x_label: str,
    y_label: str,
    dots: Sequence[Dot],
    *,
    names: Sequence[str] | None = None,
    line: Sequence[tuple[float, float]] = (),
) -> str:
    """Dots as an SVG. x runs by factors where it spans more than ten of them; names: where x counts these instead."""
    width, height, left, bottom, top = 440, 300, 64, 46, 16
    xs = [*(dot[0] for dot in dots), *(x for x, _ in line)] or [0.0]
    ys = [*(dot[1] for dot in dots), *(y for _, y in line)] or [0.0]
    by_factors = names is None and min(xs) > 0 and max(xs) / min(xs) >= 10
    to_x: Callable[[float], float] = math.log10 if by_factors else float

    def scale(values: Sequence[float], start: float, end: float) -> Callable[[float], float]:
        low, high = min(values), max(values)
        span = high - low or 1.0
        low, high = (low - 0.06 * span, high + 0.06 * span) if high > low else (low - 0.5, high + 0.5)
        return lambda value: start + (value - low) / (high - low) * (end - start)

    at_x, at_y = scale([to_x(x) for x in xs], left, width - 12), scale(ys, height - bottom, top)
    ticks = range(len(names)) if names is not None else _few(sorted(set(xs)))
    parts = []
    values = [dot[1] for dot in dots if dot[2] not in _CROSSES] or ys  # a cross stands on the edge, not at a value
    for tick in _few([min(values), (min(values) + max(values)) / 2, max(values)]):
        parts.append(f"<line class=grid x1={left} x2={width - 12} y1={at_y(tick):.1f} y2={at_y(tick):.1f} />")
        parts.append(f"<text x={left - 8} y={at_y(tick) + 4:.1f} text-anchor=end>{_short(tick)}</text>")
    free = 0.0
    for tick in ticks:
        text = escape(names[int(tick)]) if names is not None else _short(tick)
        if at_x(to_x(tick)) < free:  # it would stand on the one before
            continue
        free = at_x(to_x(tick)) + 42
        parts.append(f"<text x={at_x(to_x(tick)):.1f} y={height - bottom + 18} text-anchor=middle>{text}</text>")
    if len(line) > 1:
        path = " ".join(f"{at_x(to_x(x)):.1f},{at_y(y):.1f}" for x, y in line)
        parts.append(f"<polyline points='{path}' />")
    for x, y, kind, text in sorted(dots, key=lambda dot: dot[2] in ("best", "front")):
        cx, cy, shown = at_x(to_x(x)), at_y(y), f"<title>{escape(text)}</title>"
        if kind in _CROSSES:
            cross = f"M{cx - 4:.1f} {cy - 4:.1f}l8 8m0 -8l-8 8"
            parts.append(f"<path class={kind} d='{cross}'>{shown}</path>")
        else:
            word = kind.replace(" ", "-")
            parts.append(
                f"<circle class={word} cx={cx:.1f} cy={cy:.1f} r={7 if kind == 'best' else 5}>{shown}</circle>"
            )
    parts.append(f"<text class=label x={width - 12} y={height - 8} text-anchor=end>{escape(x_label)}</text>")
    return (
        f"<figure><figcaption>{escape(title)}<small>{escape(y_label)}</small></figcaption>"
        f"<svg viewBox='0 0 {width} {height}' role=img aria-label='{escape(title)}'>{''.join(parts)}</svg></figure>"
    )


def _few(values: Sequence[float]) -> list[float]:
    """At most seven of ascending values, both ends among them."""
    step = max(1, math.ceil((len(values) - 1) / 6))
    return list(dict.fromkeys([*values[::step], values[-1]]))


def _columns(trials: Sequence[Event]) -> tuple[list[str], dict[str, Any]]:
    """The settings in which trials differ, which get a column each, and those that are the same in all."""
    paths = list(dict.fromkeys(path for trial in trials for path in trial["settings"]))
    values = {path: {str(trial["settings"].get(path)) for trial in trials} for path in paths}
    columns = [path for path in paths if len(values[path]) > 1]
    same = {path: trials[0]["settings"][path] for path in paths if path not in columns}
    return [*columns, *([PARAMETERS] if _differ_in_size(trials) else ())], same


def _differ_in_size(trials: Sequence[Event]) -> bool:
    return any(path.startswith("model.") for trial in trials for path in trial["settings"])


def _setting(trial: Event, path: str) -> Any:
    """The value of a setting, or of what follows from the settings; None where a trial has none."""
    return trial["settings"].get(path, trial.get(path))


def _heads(columns: Sequence[str]) -> list[str]:
    # Lines break at spaces.
    names = [say("size") if path == PARAMETERS else path.rpartition(".")[2].replace("_", " ") for path in columns]
    return [*names, say("bits/byte"), say("tokens/s"), say("memory plan"), say("memory peak")]


def _cells(trial: Event, columns: Sequence[str]) -> list[str]:
    bits, speed = trial.get("bits_per_byte"), trial.get("tokens_per_s")
    peak = trial.get("peak_bytes") if trial.get("counts_tensors") else None
    return [
        *(_value(_setting(trial, path)) for path in columns),
        "" if bits is None else f"{bits:.4f}",
        "" if speed is None else amount(speed),
        *("" if count is None else memory(count) for count in (trial.get("predicted_bytes"), peak)),
    ]


def _outcome(trial: Event) -> str:
    reason = str(trial.get("reason") or "").partition("\n")[0]
    return phrase(trial["outcome"]) + (f": {reason}" if reason else "")


def _loss(trial: Event, objective: str) -> float:
    value = float(trial[objective])
    return value if objective == "bits_per_byte" else -value


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        return f"{value:.3g}"
    return "" if value is None else amount(value) if isinstance(value, int) and value >= 10**5 else str(value)


def _short(value: float) -> str:
    return amount(value) if abs(value) >= 1000 else f"{value:.3g}"


def _legend() -> str:
    marks = (
        ("i", "measured", say("measured")),
        ("i", "ended-early", say("ended early")),
        ("i", "front", "Pareto"),
        ("i", "best", say("best")),
        ("b", "refused", say("refused, never started")),
        ("b", "infeasible", say("out of memory or failed")),
    )
    return " ".join(f"<{tag} class={kind}>{'×' * (tag == 'b')}</{tag}>{escape(text)}" for tag, kind, text in marks)


_STYLE = """
:root{color-scheme:light;--ink:#1f2933;--soft:#6b7785;--line:#e6e9ed;--blue:#2a78b5;--orange:#d9662b;--green:#2f8f5b}
*{box-sizing:border-box}body{margin:0;background:#f7f8fa;color:var(--ink);font:15px/1.55 system-ui,"PingFang SC",
"Microsoft YaHei","Noto Sans CJK SC",sans-serif}main{max-width:1100px;margin:0 auto;padding:32px 20px 60px}
h1{font-size:26px;margin:0 0 4px}p{margin:4px 0 14px;color:var(--soft)}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(340px,1fr));gap:16px;margin:8px 0 24px}
figure,.wide{margin:0;background:#fff;border:1px solid var(--line);border-radius:12px;padding:14px 16px}
figcaption{font-weight:600}figcaption small{display:block;font-weight:400;color:var(--soft)}svg{width:100%;height:auto}
text{font-size:12px;fill:var(--soft)}.grid{stroke:var(--line)}
polyline{fill:none;stroke:var(--green);stroke-dasharray:4 4}
circle{fill:var(--blue);fill-opacity:.75}circle.ended-early{fill:#a9b4c0}circle.front{fill:var(--green)}
circle.best{fill:var(--orange);fill-opacity:1}path{fill:none;stroke:#c3cad2;stroke-width:1.6}
path.infeasible,path.failed{stroke:#c0392b}.wide{overflow-x:auto}table{border-collapse:collapse;width:100%}
th{color:var(--soft);font-weight:500}th,td{padding:7px 10px;text-align:right;border-bottom:1px solid var(--line);
white-space:nowrap}td:last-child{text-align:left}tr.best td{background:#fff5ee;
font-weight:600}.legend i{display:inline-block;width:10px;height:10px;border-radius:50%;background:var(--blue);
margin:0 5px 0 12px}.legend i.ended-early{background:#a9b4c0}.legend i.front{background:var(--green)}
.legend i.best{background:var(--orange)}b.refused{color:#9aa5b1;margin-left:12px}b.infeasible{color:#c0392b;
margin-left:12px}
"""
