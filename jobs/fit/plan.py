"""Whether a run fits a device before it starts, the nearest run that does, and what a preset's budget buys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import torch

from jobs.fit.card import Card
from jobs.fit.needs import Needs, step_kind
from jobs.stages import flags
from jobs.stages.recipe import asking_recipe, trial_recipe
from jobs.stages.spec import RunSpec
from jobs.stages.table import STAGES
from minimind.language import phrase, say
from minimind.memory.closed_form import Shape
from minimind.memory.plan import PLATFORMS, MemoryPlan, Need, judge, rejected
from minimind.units import memory

T = TypeVar("T")

BUDGETS = {"conservative": 0.60, "standard": 0.80, "aggressive": 0.92}
"""The share of a card that each preset may plan with."""

CHINESE_PRESETS = {"保守": "conservative", "标准": "standard", "激进": "aggressive"}

LEAST_TOKENS = 1024
"""Tokens in a forward pass below which a GPU waits for its next kernel most of the time; then activation checkpointing,
which computes a third more, is the smaller loss.
"""

SHORTEST = 64
"""Tokens per row below which nothing is suggested."""


class Planner:
    """Plans for one card. A step is traced once, whatever is asked about it.

    needs: what is known already, and where it is remembered; by default in MINIMIND_HOME's cache.
    """

    def __init__(self, card: Card, needs: Needs | None = None) -> None:
        self.card = card
        self.needs = needs if needs is not None else Needs.cached()

    def plan(self, spec: RunSpec, budget: float = 1.0) -> MemoryPlan:
        """Whether a run's step fits into `budget` of the card."""
        capacity = int(self.card.capacity_bytes * budget)
        platform, calibration = self.card.platform, self.card.calibration
        shape = self.shape(spec)
        if STAGES[spec.stage.kind].closed_form and not self.needs.has(step_kind(spec), shape, platform):
            plan = rejected(shape, capacity, platform, calibration)
            if plan is not None:
                return plan
        plans = [judge(self.need(spec), capacity, platform, calibration)]
        if STAGES[spec.stage.kind].asks(spec) is not None:
            plans.append(judge(self.need_of_asking(spec), capacity, platform, calibration))
        return max(plans, key=lambda plan: plan.needed_bytes)

    def need(self, spec: RunSpec) -> Need:
        """What a run's step takes, whatever the card has: a trace, unless it is known."""
        shape = self.shape(spec)
        return self.needs.of(step_kind(spec), shape, self.card.platform, lambda: trial_recipe(spec, shape.dtype))

    def need_of_asking(self, spec: RunSpec) -> Need:
        """What it takes to ask a frozen model about a run's rows before that trains."""
        shape, kind = self.shape(spec), f"asking before {step_kind(spec)}"
        return self.needs.of(kind, shape, self.card.platform, lambda: asking_recipe(spec, shape.dtype))

    def shape(self, spec: RunSpec) -> Shape:
        """What the memory of a run's step depends on."""
        return shape_in(spec, getattr(torch, self.dtype(spec)))

    def dtype(self, spec: RunSpec) -> str:
        """The name of the dtype that the run computes in on this card. On a CPU `auto` is decided before (see
        `jobs.fit.precision`); where it was not, it is float32.
        """
        return self.card.dtype if spec.loop.dtype == "auto" else spec.loop.dtype

    def fits(self, spec: RunSpec, budget: float = 1.0) -> bool:
        """Whether it does, with its margin."""
        return self.plan(spec, budget).verdict == "fits"

    def largest(self, spec: RunSpec, budget: float = 1.0, most: int | None = None) -> RunSpec | None:
        """The run with the largest batch_size, up to `most`, that fits and keeps its global batch; None if not even one
        row does.

        What a step needs grows with its rows, so it is found by bisection over the divisors of the global batch.
        """
        per_worker = spec.loop.batch_size * spec.loop.accumulation_steps
        sizes = [rows for rows in range(1, (most or per_worker) + 1) if per_worker % rows == 0]
        fitting = how_many_fit(sizes, lambda rows: self.fits(_with_rows(spec, rows), budget))
        return _with_rows(spec, sizes[fitting - 1]) if fitting else None

    def nearest(self, spec: RunSpec, budget: float = 1.0, *, shorter: bool = True) -> RunSpec | None:
        """The run that is nearest to one that does not fit and does, in the order in which a smaller step is bought:
        fewer rows at a time with the same global batch, then activation checkpointing, then, if rows may be `shorter`,
        that, with as many tokens to a step as before.
        """
        for width in _widths(spec) if shorter else (spec.data.max_seq_len,):
            for checkpointing in sorted({spec.loop.activation_checkpointing, True}):
                smaller = _with_loop(_with_width(spec, width), activation_checkpointing=checkpointing)
                found = self.largest(smaller, budget, most=spec.loop.batch_size)
                if found is not None:
                    return found
        return None

    def choose(self, spec: RunSpec, preset: str, given: frozenset[str] = frozenset()) -> RunSpec:
        """The run as a preset's budget has it: dtype, batch_size, accumulation_steps, max_seq_len and activation
        checkpointing chosen for the card, the tokens of a step kept. given: settings that the user has chosen, which
        stay.

        Raises ValueError where nothing fits the budget.
        """
        budget = BUDGETS[preset]
        spec = _with_loop(spec, dtype=self.dtype(spec))
        # Shorter rows come with more accumulation.
        keeps_width = bool(given & {"data.max_seq_len", "loop.accumulation_steps"})
        widths = [spec.data.max_seq_len] if keeps_width else _widths(spec)
        ways = [spec.loop.activation_checkpointing]
        if "loop.activation_checkpointing" not in given:
            ways = [False, True]
        fixed = bool(given & {"loop.batch_size", "loop.accumulation_steps"})
        for width in widths:
            best: RunSpec | None = None
            for checkpointing in ways:
                wanted = _with_loop(_with_width(spec, width), activation_checkpointing=checkpointing)
                found = (wanted if self.fits(wanted, budget) else None) if fixed else self.largest(wanted, budget)
                if found is not None and (best is None or found.loop.batch_size > best.loop.batch_size):
                    best = found
                if best is not None and (fixed or best.loop.batch_size * width >= LEAST_TOKENS):
                    break
            if best is not None:
                return best
        raise ValueError(self.refusal(spec, budget=budget))

    def refusal(self, spec: RunSpec, *, budget: float = 1.0, shorter: bool = True) -> str:
        """Why a run is not started, in words, with the flags of one that fits. shorter: whether its rows may be."""
        plan = self.plan(spec, budget)
        verdict = say(
            "the run does not fit: a step needs {needed}, {card} has {there}{share}.",
            needed=memory(plan.needed_bytes),
            card=self.card.title,
            there=memory(plan.capacity_bytes),
            share=say(" ({percent:.0f} % of it)", percent=100 * budget) if budget < 1 else "",
        )
        nearest = self.nearest(spec, budget, shorter=shorter)
        if nearest is not None:
            change = " ".join(command_flags(spec, nearest))
            advice = say("The nearest that fits, with the same global batch: {flags}", flags=change)
        else:
            advice = say(
                "No batch of it fits, not even {row} with activation checkpointing. Train an adapter (lora), take a "
                "smaller --model, or close what else uses the card.",
                row=say("one short row") if shorter else say("one row"),
            )
        asking = STAGES[spec.stage.kind].asks(spec)
        if asking is not None and self.need_of_asking(spec).reserved_bytes > self.need(spec).reserved_bytes:
            advice += "\n" + say(
                "Most is taken before the training, by the {role} that is asked about the rows: a smaller one "
                "needs less.",
                role=phrase(asking.role),
            )
        return f"{verdict}\n{advice}"


def shape_in(spec: RunSpec, dtype: torch.dtype) -> Shape:
    """What the memory of a run's step depends on, in this dtype. More than three micro-batches are like three."""
    return Shape(
        model=spec.model,
        rows=spec.loop.batch_size,
        width=spec.data.max_seq_len,
        dtype=dtype,
        accumulation_steps=min(spec.loop.accumulation_steps, 3),
        checkpointing=spec.loop.activation_checkpointing,
        muon=spec.optim.name == "muon",
        lora=spec.adapter,
        deterministic=spec.loop.deterministic,
    )


def how_many_fit(things: Sequence[T], fits: Callable[[T], bool]) -> int:
    """How many of these, each larger than the one before, fit. The largest is asked first: often all do."""
    low, high = 0, len(things)
    while low < high:
        middle = high - 1 if high == len(things) else (low + high) // 2
        if fits(things[middle]):
            low = middle + 1
        else:
            high = middle
    return low


def command_flags(before: RunSpec, after: RunSpec) -> list[str]:
    """The flags that turn one run into the other, as a user types them."""
    words = []
    for flag, path in flags.FLAGS.items():
        old, new = flags.at(before, path), flags.at(after, path)
        if old != new:
            words += [f"--{flag}", flags.default_text(new)]
    return words


def to_json(plan: MemoryPlan, card: Card) -> dict[str, Any]:
    """A plan as a run keeps it. counts_tensors: whether the peak that the run measures is one of tensors, as the plan's
    is, and not of the whole process.
    """
    return {**asdict(plan), "card": card.name, "counts_tensors": card.platform != PLATFORMS["cpu"]}


def preset_name(text: str) -> str:
    """The English name of a preset. Raises ValueError for one that there is not."""
    name = CHINESE_PRESETS.get(text, text)
    if name not in BUDGETS:
        known = say(", ").join(
            say("{english} ({chinese})", english=english, chinese=chinese)
            for chinese, english in CHINESE_PRESETS.items()
        )
        raise ValueError(say("preset {text!r}: there are {known}", text=text, known=known))
    return name


def _with_rows(spec: RunSpec, rows: int) -> RunSpec:
    per_worker = spec.loop.batch_size * spec.loop.accumulation_steps
    return _with_loop(spec, batch_size=rows, accumulation_steps=per_worker // rows)


def _with_width(spec: RunSpec, width: int) -> RunSpec:
    """Shorter rows, and as many more of them to a step, so that its tokens stay."""
    times = spec.data.max_seq_len // width
    shorter = spec.model_copy(update={"data": spec.data.model_copy(update={"max_seq_len": width})})
    return _with_loop(shorter, accumulation_steps=spec.loop.accumulation_steps * times)


def _widths(spec: RunSpec) -> list[int]:
    """Its rows' length and what is left of it by halving."""
    widths = [spec.data.max_seq_len]
    while widths[-1] // 2 >= SHORTEST:
        widths.append(widths[-1] // 2)
    return widths


def _with_loop(spec: RunSpec, **changes: Any) -> RunSpec:
    return spec.model_copy(update={"loop": spec.loop.model_copy(update=changes)})
