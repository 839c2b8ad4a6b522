"""A memory plan as people read it: where the memory goes, whether it fits, what else would, and on which card."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from rich import box
from rich.console import Console, Group
from rich.progress import track
from rich.table import Table
from rich.text import Text

from jobs.fit.card import Card, named_card, this_card
from jobs.fit.disk import checkpoint_disk
from jobs.fit.forecast import CARD_FLOPS, Forecast, by_card, tokens_of
from jobs.fit.measure import Measured, measure
from jobs.fit.needs import Needs
from jobs.fit.plan import BUDGETS, CHINESE_PRESETS, Planner, command_flags, to_json
from jobs.fit.precision import decide_dtype
from jobs.stages.origin import new_spec, of_preset
from jobs.stages.spec import RunSpec
from jobs.stages.stage import DEFAULT_MODEL
from jobs.stages.table import STAGES
from jobs.stages.weights import policy_shape
from jobs.terminal.wrap import tell, wrapped
from minimind.language import phrase, say
from minimind.memory.plan import MemoryPlan, Verdict, largest_batch
from minimind.network.model import MODEL_PRESETS, ModelConfig
from minimind.units import amount, memory, size

CARD_SIZES = ("4GB", "6GB", "8GB", "12GB")
"""The cards of the table of what fits."""

MOST_ROWS = 64
"""Beyond so many rows at a time nothing is gained, and nothing is looked for."""

_BAR = 28

PARTS = (
    "weights", "reference", "teacher", "adapters", "gradients", "optimizer", "activations", "logits", "casts",
    "workspace", "batch", "temporaries", "fragmentation", "margin", "context", "display", "tensors",
)  # fmt: skip
"""What a plan may be made of, by `minimind.memory.plan`."""

_ON_CPU = {"context": "Python, PyTorch, Ray"}

_COLOURS: dict[Verdict, str] = {"fits": "green", "tight": "yellow", "does not fit": "red"}

ROOMY = 0.7
"""Where a plan takes less of the card than this, it is said what the rest could be used for."""


def show_plan(plan: MemoryPlan, card: Card, spec: RunSpec, console: Console) -> None:
    """The plan of a run: a row and a bar for each part, and the verdict."""
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    for part, count in plan.breakdown.items():
        table.add_row(_part(part, card), memory(count), _bar(count, plan.capacity_bytes, "cyan"))
    colour = _COLOURS[plan.verdict]
    table.add_section()
    table.add_row(
        Text(say("together"), style="bold"),
        memory(plan.needed_bytes),
        _bar(plan.needed_bytes, plan.capacity_bytes, colour),
    )
    title = (
        say("Memory plan: {shape} in the memory of {card}", shape=_shape(spec), card=card.title)
        if card.platform.rules == "cpu"
        else say("Memory plan: {shape} on {card}", shape=_shape(spec), card=card.title)
    )
    console.print()
    tell(console, title, style="bold")
    console.print(table, soft_wrap=False)
    if plan.phases:
        writing, learning = (memory(plan.phases[phase]) for phase in ("writing", "learning"))
        tell(
            console,
            say(
                "peak: {writing} while answers are written, {learning} while they are learnt",
                writing=writing,
                learning=learning,
            ),
        )
    share = f"{100 * plan.needed_bytes / plan.capacity_bytes:.0f} %"
    if not plan.calibrated and card.platform.rules != "cpu":
        share = say("{share}; uncalibrated", share=share)
    needed, capacity = memory(plan.needed_bytes), memory(plan.capacity_bytes)
    numbers = say("{needed} of {capacity} ({share})", needed=needed, capacity=capacity, share=share)
    verdict = say("{name}: {value}", name=phrase(plan.verdict), value=numbers)
    console.print(Text.assemble((phrase(plan.verdict), f"bold {colour}"), verdict.removeprefix(phrase(plan.verdict))))
    if spec.loop.dtype == "bfloat16" and not card.bf16:
        console.print(
            say(
                "{card} has no bfloat16 of its own: attention there keeps all its scores, which this plan does not "
                "count. Take --dtype float16.",
                card=card.title,
            ),
            style="yellow",
        )


@dataclass(frozen=True)
class StagePlan:
    """What `plan STAGE` is about: a run, the card, and what is known of both. asked: before sizes were chosen."""

    asked: RunSpec
    spec: RunSpec
    planner: Planner
    plan: MemoryPlan


def plan_stage(
    stage: str,
    settings: Mapping[str, Any],
    console: Console,
    *,
    model: str | None = None,
    budget: str | None = None,
    system: str | None = None,
) -> StagePlan:
    """The plan of a run with these settings on the card that `memory.vram` names, else on this machine's device.

    budget: a name in BUDGETS, for which sizes are chosen that `settings` leave open. Raises ValueError.
    """
    if settings.get("init_from") is None:
        spec = of_preset(STAGES[stage].preset(model or DEFAULT_MODEL), settings)
    else:
        spec = new_spec(stage, settings, model)
    vram = spec.memory.vram
    if system is not None and vram is None:
        raise ValueError(
            say(
                "--system {system} is of a card that is not here: name its memory with --vram, such as 8GB",
                system=system,
            )
        )
    if vram is None or (torch.cuda.is_available() and system is None):
        card = this_card(vram)
        if card.platform.rules == "cpu":
            spec = decide_dtype(spec, console)
    else:
        card = named_card(vram, os=system)
    planner = Planner(card)
    asked = spec
    if budget is not None:
        spec = planner.choose(spec, budget, frozenset(settings))
    return StagePlan(asked, spec, planner, planner.plan(spec))


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
    """`plan STAGE`: the plan, what could be done with the rest of the card, and how long the run takes. Gives the exit
    status: 1 where it does not fit, and then says what does.

    speed_of: the name of a card, for a forecast of the time. measured: make a few real steps here, for their peak and a
    forecast. The others as `plan_stage` takes them. Raises ValueError.
    """
    found = plan_stage(stage, settings, console, model=model, budget=budget, system=system)
    spec, planner, card = found.spec, found.planner, found.planner.card
    if budget is not None:
        console.print(choice_line(found.asked, spec, budget, card))
    show_plan(found.plan, card, spec, console)
    if found.plan.verdict == "does not fit":
        console.print(planner.refusal(spec))
        return 1
    one, kept = checkpoint_disk(spec)
    console.print(
        say("Disk: up to {all}, {count} checkpoints of {one}", all=size(one * kept), count=kept, one=size(one))
    )
    if rest := rest_line(found):
        console.print(rest)
    speed_of = speed_of or next((name for name in CARD_FLOPS if name in card.name), None)
    if speed_of is not None:
        console.print(by_card(spec, speed_of).line())
    if measured:
        here = Planner(this_card(), planner.needs)
        steps = measure(here, spec)
        console.print(measured_line(here.need(spec).peak_bytes, steps))
        console.print(Forecast(tokens_of(spec), steps.tokens_per_s, say("measured here")).line())
    if speed_of is None and not measured:
        console.print(say('How long it takes: --card "RTX 3050" forecasts it, --measure makes a few steps here'))
    return 0


def rest_line(found: StagePlan) -> str:
    """What the rest of the card could be used for; "" where not much is left, or nothing larger fits."""
    spec, plan, planner = found.spec, found.plan, found.planner
    if plan.needed_bytes > ROOMY * plan.capacity_bytes:
        return ""
    free = memory(plan.capacity_bytes - plan.needed_bytes)
    rows = planner.largest(spec)
    if rows is not None and rows.loop.batch_size > spec.loop.batch_size:
        return say(
            "{free} are left: more rows at once fit, to the same result and with less waiting: {flags}",
            free=free,
            flags=" ".join(command_flags(spec, rows)),
        )
    larger = [name for name, model in MODEL_PRESETS.items() if _matrices(model) > _matrices(spec.model)]
    for name in reversed(larger if spec.weights is None else []):
        model = MODEL_PRESETS[name].model_copy(update={"vocab_size": spec.model.vocab_size})
        if planner.fits(spec.model_copy(update={"model": model})):
            return say("{free} are left: --model {name} fits as well", free=free, name=name)
    return say("{free} are left, for other programs or for longer rows (--max_seq_len)", free=free)


def _matrices(model: ModelConfig) -> int:
    """What a model's size grows with."""
    return model.hidden_size**2 * model.num_hidden_layers


def stage_as_json(found: StagePlan) -> dict[str, Any]:
    """`plan STAGE --json`; docs/json.md has its keys."""
    spec, plan = found.spec, found.plan
    one, kept = checkpoint_disk(spec)
    forecasts = {name: by_card(spec, name) for name in CARD_FLOPS}
    return {
        "stage": spec.stage.kind,
        "batch_size": spec.loop.batch_size,
        "accumulation_steps": spec.loop.accumulation_steps,
        "max_seq_len": spec.data.max_seq_len,
        "dtype": found.planner.dtype(spec),
        "activation_checkpointing": spec.loop.activation_checkpointing,
        "parameters": policy_shape(spec).parameter_count(),
        "plan": to_json(plan, found.planner.card),
        "refusal": found.planner.refusal(spec) if plan.verdict == "does not fit" else None,
        "checkpoint_bytes": one,
        "checkpoints": kept,
        "tokens": tokens_of(spec),
        "tokens_per_s": {name: forecast.tokens_per_s for name, forecast in forecasts.items()},
    }


def measured_line(planned_bytes: int, found: Measured) -> str:
    """The tensors' peak as it was planned and as it was measured."""
    error = f"{100 * (planned_bytes / found.peak_bytes - 1):+.3f} %"
    return say(
        "Tensors at the peak: planned {planned}, measured {measured} ({error})",
        planned=memory(planned_bytes),
        measured=memory(found.peak_bytes),
        error=error,
    )


def choice_line(asked: RunSpec, chosen: RunSpec, budget: str, card: Card) -> str:
    """What a preset has chosen for a card, and why."""
    chinese = next(name for name, english in CHINESE_PRESETS.items() if english == budget)
    return say(
        "Preset {english} ({chinese}): at most {share} of {card} ({capacity}), {tokens} tokens to a step as before: "
        "{changed}",
        english=budget,
        chinese=chinese,
        share=f"{100 * BUDGETS[budget]:.0f} %",
        card=card.title,
        capacity=memory(card.capacity_bytes),
        tokens=chosen.global_batch_size * chosen.data.max_seq_len,
        changed=" ".join(command_flags(asked, chosen)) or say("nothing changed"),
    )


def what_fits(
    console: Console,
    stages: Iterable[str] = tuple(STAGES),
    cards: Iterable[str] = CARD_SIZES,
    models: Sequence[str] = tuple(MODEL_PRESETS),
) -> Group:
    """For every stage and model size, in rows as long as its preset's, the largest batch_size that fits each card
    without / with activation checkpointing; stages that need the same stand in one row. Tens of steps are traced the
    first time, which takes minutes.
    """
    needs = Needs.cached()
    planners = [Planner(named_card(text), needs) for text in cards]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for title in (say("stage"), say("model")):
        table.add_column(title, no_wrap=True)
    for planner in planners:
        table.add_column(memory(planner.card.capacity_bytes), justify="right", no_wrap=True)
    rows: dict[tuple[str, ...], list[str]] = {}
    widths: dict[int, list[str]] = {}
    jobs = [(stage, model) for model in models for stage in stages]
    for stage, model in track(jobs, say("Tracing steps"), console=console, transient=True):
        spec = STAGES[stage].preset(model)
        parameters = amount(policy_shape(spec).parameter_count())
        cells = [largest_batches(planner, spec) for planner in planners]
        rows.setdefault((f"{model} ({parameters})", *cells), []).append(stage)
        widths.setdefault(spec.data.max_seq_len, []).append(model)
    for (model, *cells), named in sorted(rows.items(), key=lambda row: row[1]):
        table.add_row(", ".join(named), model, *cells)
    lengths = "; ".join(f"{width} ({', '.join(dict.fromkeys(found))})" for width, found in widths.items())
    legend = say(
        "The largest --batch_size without / with --activation_checkpointing 1; {most}+: that or more; –: not even one "
        "row. Tokens in a row: {lengths}.",
        most=MOST_ROWS,
        lengths=lengths,
    )
    return Group(table, *(Text(line, style="dim") for line in wrapped(legend, min(console.width, 100))))


def largest_batches(planner: Planner, spec: RunSpec) -> str:
    """The largest batch_size up to MOST_ROWS, in rows as long as the run's, without / with activation checkpointing."""
    counts = [largest_batch(partial(_judged, planner, spec, wanted), MOST_ROWS) for wanted in (False, True)]
    return " / ".join(f"{count}" + "+" * (count == MOST_ROWS) if count else "–" for count in counts)


def _judged(planner: Planner, spec: RunSpec, checkpointing: bool, rows: int) -> MemoryPlan:
    loop = spec.loop.model_copy(update={"batch_size": rows, "activation_checkpointing": checkpointing})
    return planner.plan(spec.model_copy(update={"loop": loop}))


def _shape(spec: RunSpec) -> str:
    loop = spec.loop
    shape = say(
        "{stage}, {rows} rows x {tokens} tokens x {steps} accumulation, {dtype}",
        stage=spec.stage.kind,
        rows=loop.batch_size,
        tokens=spec.data.max_seq_len,
        steps=loop.accumulation_steps,
        dtype=loop.dtype,
    )
    return shape + (say(", activation checkpointing") if loop.activation_checkpointing else "")


def _part(name: str, card: Card) -> str:
    return phrase(_ON_CPU.get(name, name) if card.platform.rules == "cpu" else name)


def _bar(count: int, capacity: int, colour: str) -> Text:
    filled = min(_BAR, round(_BAR * count / capacity))
    bar = Text("█" * filled, style=colour)
    return bar.append("·" * (_BAR - filled), style="dim")
