from __future__ import annotations

from pathlib import Path

import pytest

from jobs.fit.card import calibration_path, this_card
from jobs.fit.measure import Measured, calibrate, calibration_of, measure
from jobs.fit.plan import Planner
from jobs.fit.view import measured_line, show_stage
from minimind.config import override
from minimind.memory.plan import Need
from minimind.training.recipe import Recipe
from tests.small import Screen, needs_no_gpu, small_spec
from tests.unit.test_plan import SETTINGS, SPEC

SMALL = override(SPEC, {"loop.batch_size": 2, "data.max_seq_len": 64})


@needs_no_gpu
def test_real_steps_take_what_is_planned(home: Path) -> None:
    planner = Planner(this_card())
    found = measure(planner, SMALL, steps=1)
    assert found.peak_bytes == pytest.approx(planner.need(SMALL).peak_bytes, rel=1e-3)
    assert (found.reserved_bytes, found.outside_bytes) == (found.peak_bytes, 0)
    assert found.tokens_per_s > 0
    assert measured_line(found.peak_bytes, found).endswith("(+0.000 %)")


@needs_no_gpu
def test_a_plan_with_a_measurement_and_a_forecast(home: Path) -> None:
    screen = Screen()
    settings = {name: str(value) for name, value in SETTINGS.items()} | {"loop.batch_size": "2"}
    assert show_stage("pretrain", settings, screen, model="tiny", speed_of="RTX 3050", measured=True) == 0
    assert "RTX 3050 at 30 %" in screen.text
    assert "measured here" in screen.text
    assert "Tensors at the peak" in screen.text


@needs_no_gpu
def test_there_is_nothing_to_calibrate_without_a_gpu(home: Path) -> None:
    with pytest.raises(ValueError, match="measures a GPU, and PyTorch sees none here"):
        calibrate(Screen())
    assert not calibration_path().exists()


@needs_no_gpu
def test_what_does_not_fit_here_is_not_measured(home: Path) -> None:
    with pytest.raises(ValueError, match="it cannot be measured here: the run does not fit"):
        measure(Planner(this_card("1MB")), SMALL)


@needs_no_gpu
def test_tokens_a_second_are_those_of_the_rows_that_are_counted(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[Recipe] = []
    monkeypatch.setattr("jobs.fit.measure.run_trial_steps", lambda recipe, *_: timed.append(recipe))
    measure(Planner(this_card()), small_spec("grpo", data__mix=0.5, loop__dtype="float32"), steps=1)
    first, *_, last = timed
    assert first.beside is not None
    assert last.beside is None


@needs_no_gpu
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.slow
def test_a_step_is_measured_in_the_dtype_it_was_planned_in(home: Path, dtype: str) -> None:
    spec, planner = override(SPEC, {"loop.dtype": dtype}), Planner(this_card())
    found = measure(planner, spec, steps=1)
    assert found.peak_bytes == pytest.approx(planner.need(spec).peak_bytes, rel=1e-3)
    assert found.peak_bytes != pytest.approx(planner.need(SPEC).peak_bytes, rel=1e-2)


def test_a_calibration_is_the_largest_ratio_of_any_run() -> None:
    planned = Need(peak_bytes=100, reserved_bytes=110, unlimited_bytes=200, breakdown={})
    runs = [(planned, Measured(101, 190, 7, 1.0)), (planned, Measured(99, 210, 5, 1.0))]
    seen = calibration_of(runs)
    assert (seen.allocated, seen.reserved, seen.context_bytes) == (1.01, 1.05, 7)
