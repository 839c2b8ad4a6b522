from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest
import torch

from jobs.card import calibration, calibration_path, identity, named_card, system, this_card
from minimind.memory import PLATFORMS, Calibration

needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="of a machine without a GPU")


def test_a_card_that_is_not_here() -> None:
    card = named_card("8GB", os="wsl2")
    assert (card.name, card.capacity_bytes, card.platform) == ("8.00 GB, wsl2", 8 << 30, PLATFORMS["wsl2"])
    assert card.dtype is torch.bfloat16
    assert named_card("6GB").platform == PLATFORMS[system()]
    assert card.tensor_bytes == (8 << 30) - (800 << 20)
    with pytest.raises(ValueError, match="'8gb' is no size of memory"):
        named_card("8gb")


@needs_no_gpu
def test_a_cpu_has_its_memory_or_a_limit_that_is_emulated() -> None:
    whole, half, limited = this_card(), this_card(share=0.5), this_card("512MB", share=0.5)
    assert whole.capacity_bytes == psutil.virtual_memory().total
    assert half.capacity_bytes == whole.capacity_bytes // 2
    assert whole.platform == PLATFORMS["cpu"]
    assert (limited.capacity_bytes, limited.platform) == (512 << 20, PLATFORMS["emulated"])
    assert limited.tensor_bytes == limited.capacity_bytes
    assert whole.tensor_bytes == whole.capacity_bytes - PLATFORMS["cpu"].context_bytes
    assert whole.dtype is limited.dtype is torch.float32


def test_a_calibration_counts_for_the_card_driver_torch_and_system_it_was_made_on(home: Path) -> None:
    assert calibration() is None
    calibration_path().parent.mkdir(parents=True, exist_ok=True)
    seen = Calibration(allocated=1.0, reserved=1.02, context_bytes=5, **identity())
    calibration_path().write_text(json.dumps(asdict(seen)))
    assert calibration() == seen
    calibration_path().write_text(json.dumps(asdict(seen) | {"torch": "1.0"}))
    assert calibration() is None
    calibration_path().write_text("{")
    with pytest.raises(ValueError, match=r"calibration.json cannot be read .*minimind plan --calibrate"):
        calibration()
