from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from torch.utils._python_dispatch import TorchDispatchMode

from minimind.memory.allocator import MIB, smallest_limit
from minimind.memory.closed_form import CLOSED_FORM_ERROR, closed_form
from minimind.memory.plan import (
    EMULATED_SAFETY,
    PLATFORMS,
    UNCALIBRATED_SAFETY,
    Calibration,
    MemoryPlan,
    Platform,
    Verdict,
    judge,
    largest_batch,
    need,
    rejected,
)
from minimind.memory.trace import trace
from tests.plans import BF16, HELD_OUT_SHAPES, SHAPES, WHOLE_GRID, Case

CASES = SHAPES + HELD_OUT_SHAPES if WHOLE_GRID else [SHAPES[0], SHAPES[9], SHAPES[20], SHAPES[39], HELD_OUT_SHAPES[18]]

BARE = Platform(context_bytes=0, display_bytes=0, expandable=False)
SMALL = Case(vocab=6400, width=128)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_closed_form_is_near_the_trace(case: Case) -> None:
    assert closed_form(case.shape) == pytest.approx(trace(case.step).peak_bytes, rel=CLOSED_FORM_ERROR)


class NoTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's __init_subclass__
    """Every operation is one too many."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} was computed")


def test_the_closed_form_makes_no_tensors() -> None:
    expected = closed_form(SHAPES[0].shape)
    with NoTensors():  # type: ignore[no-untyped-call]
        assert closed_form(SHAPES[0].shape) == expected
        with pytest.raises(AssertionError, match="was computed"):
            trace(SHAPES[0].step)


def limit(case: Case) -> int:
    return smallest_limit(trace(case.step).events)


def test_a_plan_fits_with_its_margin_is_tight_without_it_and_else_does_not_fit() -> None:
    least = limit(SMALL)
    with_margin = -int(-least * UNCALIBRATED_SAFETY // 1)
    expected: dict[int, Verdict] = {
        with_margin: "fits",
        with_margin - 1: "tight",
        least: "tight",
        least - 1: "does not fit",
    }
    needs = need(SMALL.step, BARE)
    for capacity, verdict in expected.items():
        plan = judge(needs, capacity, BARE)
        assert (plan.verdict, plan.level, plan.needed_bytes) == (verdict, "replay", with_margin)


def test_a_plan_adds_up() -> None:
    platform = PLATFORMS["windows"]
    plan = judge(need(SMALL.step, platform), 8 << 30, platform)
    steps = trace(SMALL.step)
    assert sum(plan.breakdown.values()) == plan.needed_bytes
    assert plan.peak_bytes == steps.peak_bytes
    assert {name: plan.breakdown[name] for name in steps.breakdown()} == steps.breakdown()
    assert plan.breakdown["context"] == platform.context_bytes
    assert plan.breakdown["display"] == platform.display_bytes
    assert plan.breakdown["fragmentation"] == limit(SMALL) - steps.peak_bytes
    assert not plan.calibrated


def test_a_closed_form_rejects_what_is_far_too_large_and_accepts_nothing() -> None:
    plan = rejected(replace(SHAPES[0], rows=64).shape, 2 << 30, PLATFORMS["linux"])
    assert plan is not None
    assert (plan.verdict, plan.level) == ("does not fit", "closed form")
    assert sum(plan.breakdown.values()) == plan.needed_bytes > 2 << 30
    assert rejected(SMALL.shape, limit(SMALL), BARE) is None


def test_under_the_rules_of_a_cpu_tensors_alone_count() -> None:
    emulated = PLATFORMS["emulated"]
    needs = need(SMALL.step, emulated)
    assert needs.reserved_bytes == needs.peak_bytes == trace(SMALL.step, "cpu").peak_bytes
    assert judge(needs, needs.peak_bytes, emulated).verdict == "tight"
    assert judge(needs, math.ceil(needs.peak_bytes * EMULATED_SAFETY), emulated).verdict == "fits"
    assert judge(needs, needs.peak_bytes, PLATFORMS["cpu"]).verdict == "does not fit"
    assert rejected(SMALL.shape, 0, emulated) is None, "the closed form is of CUDA"


def test_a_calibration_takes_the_place_of_assumptions() -> None:
    seen = Calibration(1.0, 1.02, 200 * MIB, card="a card", driver="1", torch="2.13", system="Linux")
    linux = PLATFORMS["linux"]
    plan = judge(need(SMALL.step, linux), 8 << 30, linux, seen)
    least = smallest_limit(trace(SMALL.step).events, expandable=True)
    assert plan.calibrated
    assert seen.safety == pytest.approx(1.03)
    assert plan.breakdown["context"] == 200 * MIB
    assert plan.breakdown["margin"] == pytest.approx(0.03 * least, abs=2)


def test_a_card_that_uses_less_than_predicted_still_has_a_margin() -> None:
    assert Calibration(0.9, 0.9, 0, "", "", "", "").safety == 1.01


def test_expandable_segments_are_used_where_they_can_be() -> None:
    case = replace(SHAPES[0], rows=3, checkpointing=True)
    linux, windows = need(case.step, replace(BARE, expandable=True)), need(case.step, BARE)
    assert linux.peak_bytes == windows.peak_bytes
    assert linux.reserved_bytes < windows.reserved_bytes


def planned(rows: int, capacity: int, per_row: int = 10, fixed: int = 100) -> MemoryPlan:
    needed = fixed + per_row * rows + rows % 3  # not quite a line
    return MemoryPlan("fits" if needed <= capacity else "does not fit", "replay", capacity, needed, needed)


@pytest.mark.parametrize("capacity", [0, 109, 111, 112, 122, 500, 1000, 5127, 10**6])
def test_the_largest_batch_is_the_last_that_fits(capacity: int) -> None:
    asked: list[int] = []

    def judged(rows: int) -> MemoryPlan:
        asked.append(rows)
        return planned(rows, capacity)

    found = largest_batch(judged, most=800)
    assert found == max((rows for rows in range(1, 801) if planned(rows, capacity).verdict == "fits"), default=0)
    assert len(asked) == len(set(asked)) <= 8


@pytest.mark.slow
def test_the_largest_batch_of_a_real_step_fits_and_one_more_does_not() -> None:
    def judged(rows: int) -> MemoryPlan:
        case = replace(SMALL, rows=rows, dtype=BF16)
        return rejected(case.shape, 168 * MIB, BARE) or judge(need(case.step, BARE), 168 * MIB, BARE)

    rows = largest_batch(judged)
    assert rows > 8
    assert judged(rows).verdict == "fits"
    assert judged(rows + 1).verdict != "fits"
