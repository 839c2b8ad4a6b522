"""A memory plan as people read it: where the memory goes, whether it fits, and what fits on which card."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from jobs.fit.card import Card, named_card, this_card
from jobs.fit.disk import checkpoint_disk
from jobs.fit.forecast import Forecast, by_card, tokens_of
from jobs.fit.measure import Measured, measure
from jobs.fit.needs import Needs
from jobs.fit.plan import BUDGETS, CHINESE_PRESETS, Planner, command_flags
from jobs.fit.precision import decided
from jobs.stages import flags
from jobs.stages.origin import new_spec
from jobs.stages.spec import RunSpec
from jobs.stages.stage import DEFAULT_MODEL
from jobs.stages.table import STAGES
from jobs.stages.weights import policy_shape
from minimind.memory import Plan, Verdict, largest_batch
from minimind.model import MODEL_PRESETS
from minimind.units import amount, memory, size

CARDS = ("4GB", "6GB", "8GB", "12GB")
"""The cards of the table of what fits."""

MOST_ROWS = 64
"""Beyond so many rows at a time nothing is gained, and nothing is looked for."""

_BAR = 28

_PARTS = {
    "weights": "权重",
    "adapters": "适配器",
    "gradients": "梯度",
    "optimizer": "优化器",
    "activations": "激活值",
    "logits": "词表输出",
    "casts": "半精度副本",
    "workspace": "算子工作区",
    "batch": "批数据",
    "temporaries": "临时张量",
    "fragmentation": "显存碎片",
    "margin": "安全余量",
    "context": "CUDA 上下文",
    "display": "显示器",
    "tensors": "全部张量",
}
_CPU_PARTS = {"context": ("Python, PyTorch, Ray", "运行环境")}

_VERDICTS: dict[Verdict, tuple[str, str]] = {
    "fits": ("放得下", "green"),
    "tight": ("很紧，可能放不下", "yellow"),
    "does not fit": ("放不下", "red"),
}


def show_plan(plan: Plan, card: Card, spec: RunSpec, console: Console) -> None:
    """The plan of a run: a row and a bar for each part, and the verdict, in English and Chinese."""
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    for part, count in plan.breakdown.items():
        table.add_row(_part(part, card), memory(count), _bar(count, plan.capacity_bytes, "cyan"))
    chinese, colour = _VERDICTS[plan.verdict]
    share = plan.needed_bytes / plan.capacity_bytes
    table.add_section()
    table.add_row(
        Text("together / 合计", style="bold"),
        memory(plan.needed_bytes),
        _bar(plan.needed_bytes, plan.capacity_bytes, colour),
    )
    memory_plan = "Memory plan / " + ("内存计划" if card.platform.rules == "cpu" else "显存计划")
    console.print(f"\n{memory_plan}: {_shape(spec)} on {card.name}", style="bold", highlight=False)
    console.print(table, soft_wrap=False)
    calibrated = "" if plan.calibrated or card.platform.rules == "cpu" else "; uncalibrated / 未校准"
    console.print(
        f"[bold {colour}]{plan.verdict} / {chinese}[/]: {memory(plan.needed_bytes)} of {memory(plan.capacity_bytes)} "
        f"({100 * share:.0f} %{calibrated})",
        markup=True,
    )
    if spec.loop.dtype == "bfloat16" and not card.bf16:
        console.print(
            f"{card.name} has no bfloat16 of its own: attention there keeps all its scores, which this plan does not "
            "count. Take --dtype float16. / 此显卡不支持 bfloat16，本计划未计入其额外的注意力开销："
            "请用 --dtype float16。",
            style="yellow",
        )


def show_stage(
    stage: str,
    settings: Mapping[str, Any],
    console: Console,
    *,
    model: str | None = None,
    budget: str | None = None,
    system: str | None = None,
    speed_of: str | None = None,
    measured: bool = False,
) -> int:
    """`plan STAGE`: the plan of a run with these settings on the card that `memory.vram` names, else on this machine's
    device. Gives the exit status: 1 where it does not fit, and then says what does.

    budget: a name in BUDGETS, for which sizes are chosen that `settings` leave open. speed_of: the name of a card, for
    a forecast of the time. measured: make a few real steps here, for their peak and a forecast. Raises ValueError.
    """
    if settings.get("init_from") is None:
        spec = flags.apply(STAGES[stage].preset(model or DEFAULT_MODEL), settings)
    else:
        spec = new_spec(stage, settings, model)
    vram = spec.memory.vram
    if system is not None and vram is None:
        raise ValueError(f"--system {system} is of a card that is not here: name its memory with --vram, such as 8GB")
    if vram is None or (torch.cuda.is_available() and system is None):
        card = this_card(vram)
        if card.platform.rules == "cpu":
            spec = decided(spec, console)
    else:
        card = named_card(vram, os=system)
    planner = Planner(card)
    if budget is not None:
        asked, spec = spec, planner.choose(spec, budget, frozenset(settings))
        console.print(choice_line(asked, spec, budget, card))
    plan = planner.plan(spec)
    show_plan(plan, card, spec, console)
    if plan.verdict == "does not fit":
        console.print(planner.refusal(spec))
        return 1
    one, kept = checkpoint_disk(spec)
    console.print(f"Disk / 磁盘: up to / 最多 {size(one * kept)}, {kept} checkpoints of {size(one)}")
    if speed_of is not None:
        console.print(by_card(spec, speed_of).line())
    if measured:
        here = Planner(this_card(), planner.needs)
        found = measure(here, spec)
        console.print(measured_line(here.need(spec).peak_bytes, found))
        console.print(Forecast(tokens_of(spec), found.tokens_per_s, "measured here / 本机实测").line())
    return 0


def measured_line(planned_bytes: int, found: Measured) -> str:
    """The tensors' peak as it was planned and as it was measured, in English and Chinese."""
    error = 100 * (planned_bytes / found.peak_bytes - 1)
    return (
        f"Tensors at the peak / 张量峰值: planned / 计划 {memory(planned_bytes)}, measured / 实测 "
        f"{memory(found.peak_bytes)} ({error:+.3f} %)"
    )


def choice_line(asked: RunSpec, chosen: RunSpec, budget: str, card: Card) -> str:
    """What a preset has chosen for a card, and why, in English and Chinese."""
    chinese = next(name for name, english in CHINESE_PRESETS.items() if english == budget)
    share = f"{100 * BUDGETS[budget]:.0f} %"
    changed = " ".join(command_flags(asked, chosen)) or "nothing changed / 无需改动"
    return (
        f"Preset {budget} / {chinese}: at most {share} of {card.name} ({memory(card.capacity_bytes)}), "
        f"{chosen.global_batch_size * chosen.data.max_seq_len} tokens to a step as before / "
        f"最多使用 {share}，每步词元数不变: {changed}"
    )


def what_fits(
    console: Console,
    stages: Iterable[str] = tuple(STAGES),
    cards: Iterable[str] = CARDS,
    models: Sequence[str] = tuple(MODEL_PRESETS),
) -> Table:
    """For every stage and model size, in rows as long as its preset's, the largest batch_size that fits each card
    without / with activation checkpointing. Tens of steps are traced the first time, which takes minutes.
    """
    needs = Needs.cached()
    planners = [Planner(named_card(text), needs) for text in cards]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("stage / 阶段", "model / 模型", "tokens a row / 每行词元"):
        table.add_column(title, no_wrap=True)
    for planner in planners:
        table.add_column(memory(planner.card.capacity_bytes), justify="right", no_wrap=True)
    jobs = [(stage, model) for stage in stages for model in models]
    for stage, model in track(jobs, "Tracing steps / 分析训练步骤", console=console, transient=True):
        spec = STAGES[stage].preset(model)
        parameters = amount(policy_shape(spec).parameter_count())
        cells = [largest_batches(planner, spec) for planner in planners]
        table.add_row(stage, f"{model} ({parameters})", str(spec.data.max_seq_len), *cells)
    return table


def largest_batches(planner: Planner, spec: RunSpec) -> str:
    """The largest batch_size up to MOST_ROWS, in rows as long as the run's, without / with activation checkpointing."""
    counts = [largest_batch(partial(_judged, planner, spec, wanted), MOST_ROWS) for wanted in (False, True)]
    return " / ".join(f"{count}" + "+" * (count == MOST_ROWS) if count else "–" for count in counts)


def _judged(planner: Planner, spec: RunSpec, checkpointing: bool, rows: int) -> Plan:
    loop = spec.loop.model_copy(update={"batch_size": rows, "activation_checkpointing": checkpointing})
    return planner.plan(spec.model_copy(update={"loop": loop}))


def _shape(spec: RunSpec) -> str:
    loop = spec.loop
    extra = ", activation checkpointing" if loop.activation_checkpointing else ""
    return (
        f"{spec.stage.kind}, {loop.batch_size} rows x {spec.data.max_seq_len} tokens x {loop.accumulation_steps} "
        f"accumulation, {loop.dtype}{extra}"
    )


def _part(name: str, card: Card) -> str:
    english, chinese = name, _PARTS.get(name, "")
    if card.platform.rules == "cpu" and name in _CPU_PARTS:
        english, chinese = _CPU_PARTS[name]
    return f"{english} / {chinese}" if chinese else english


def _bar(count: int, capacity: int, colour: str) -> Text:
    filled = min(_BAR, round(_BAR * count / capacity))
    bar = Text("█" * filled, style=colour)
    return bar.append("·" * (_BAR - filled), style="dim")
