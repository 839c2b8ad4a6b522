from __future__ import annotations

from pathlib import Path

import pytest
import torch

from jobs.card import calibration_path, this_card
from jobs.measure import calibrate, measure
from jobs.plan import Planner
from jobs.plan_view import measured_line, show_stage
from minimind.config import override
from tests.small import Screen
from tests.unit.test_plan import SETTINGS, SPEC

needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="of a machine without a GPU")
SMALL = override(SPEC, {"loop.batch_size": 2, "data.max_seq_len": 64})


@needs_no_gpu
def test_real_steps_take_what_is_planned(home: Path) -> None:
    found = measure(SMALL, steps=1)
    assert found.peak_bytes == pytest.approx(Planner(this_card()).need(SMALL).peak_bytes, rel=1e-3)
    assert (found.reserved_bytes, found.outside_bytes) == (found.peak_bytes, 0)
    assert found.tokens_per_s > 0
    assert measured_line(found.peak_bytes, found).endswith("(+0.000 %)")


@needs_no_gpu
def test_a_plan_with_a_measurement_and_a_forecast(home: Path) -> None:
    screen = Screen()
    settings = {name: str(value) for name, value in SETTINGS.items()} | {"loop.batch_size": "2"}
    assert show_stage("pretrain", settings, screen, model="tiny", speed_of="RTX 3050", measured=True) == 0
    assert "RTX 3050 at 30 %" in screen.text
    assert "measured here / 本机实测" in screen.text
    assert "Tensors at the peak / 张量峰值" in screen.text


@needs_no_gpu
def test_there_is_nothing_to_calibrate_without_a_gpu(home: Path) -> None:
    with pytest.raises(ValueError, match="measures a GPU, and PyTorch sees none here"):
        calibrate(Screen())
    assert not calibration_path().exists()
