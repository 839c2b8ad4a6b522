from __future__ import annotations

import json
import subprocess
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest
import torch

from jobs.fit.card import (
    calibration,
    calibration_path,
    driver,
    here,
    identity,
    named_card,
    system,
    this_card,
    worker_share,
)
from jobs.stages.spec import ScalingConfig
from minimind.memory.plan import PLATFORMS, Calibration
from tests.small import needs_no_gpu

CPU = torch.device("cpu")


def test_a_card_that_is_not_here() -> None:
    card = named_card("8GB", os="wsl2")
    assert (card.name, card.capacity_bytes, card.platform) == ("8.00 GB, wsl2", 8 << 30, PLATFORMS["wsl2"])
    assert card.dtype == "bfloat16"
    assert named_card("6GB").platform == PLATFORMS[system()]
    assert card.tensor_bytes == (8 << 30) - (800 << 20)
    with pytest.raises(ValueError, match="'8 cards' is no size of memory"):
        named_card("8 cards")


@needs_no_gpu
def test_a_cpu_has_its_memory_or_a_limit_that_is_emulated() -> None:
    whole, half, limited = this_card(), this_card(share=0.5), this_card("512MB", share=0.5)
    assert whole.capacity_bytes == psutil.virtual_memory().total
    assert half.capacity_bytes == whole.capacity_bytes // 2
    assert whole.platform == PLATFORMS["cpu"]
    assert (limited.capacity_bytes, limited.platform) == (512 << 20, PLATFORMS["emulated"])
    assert limited.tensor_bytes == limited.capacity_bytes
    assert whole.tensor_bytes == whole.capacity_bytes - PLATFORMS["cpu"].context_bytes
    assert whole.dtype == limited.dtype == "float32"


def test_a_calibration_counts_for_the_card_driver_torch_and_system_it_was_made_on(home: Path) -> None:
    assert calibration(CPU) is None
    calibration_path().parent.mkdir(parents=True, exist_ok=True)
    seen = Calibration(allocated=1.0, reserved=1.02, context_bytes=5, **identity(CPU))
    calibration_path().write_text(json.dumps(asdict(seen)))
    assert calibration(CPU) == seen
    calibration_path().write_text(json.dumps(asdict(seen) | {"torch": "1.0"}))
    assert calibration(CPU) is None
    calibration_path().write_text("{")
    with pytest.raises(ValueError, match=r"calibration.json cannot be read .*minimind plan --calibrate"):
        calibration(CPU)


def test_the_driver_is_what_nvidia_smi_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert driver() == ""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 560.35.03\necho 560.35.03\n")
    program.chmod(0o755)
    assert driver() == "560.35.03"


@needs_no_gpu
def test_where_a_process_trains_and_what_one_of_several_workers_may_take() -> None:
    assert here() == CPU
    gpu = torch.device("cuda")
    assert worker_share(ScalingConfig(workers=4, gpus_per_worker=0.5), gpu) == 0.5
    assert worker_share(ScalingConfig(workers=4, gpus_per_worker=2), gpu) == 1
    assert worker_share(ScalingConfig(workers=4), CPU) == 0.25
    assert worker_share(ScalingConfig(workers=0), CPU) == 1


def test_a_driver_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hangs(command: list[str], **options: object) -> None:
        raise subprocess.TimeoutExpired(command, 30)

    program = tmp_path / "nvidia-smi"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(subprocess, "run", hangs)
    with pytest.raises(ValueError, match="nvidia-smi has not answered for 30 s"):
        driver()
