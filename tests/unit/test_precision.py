from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from jobs.fit.precision import (
    CLEARLY_FASTER,
    bfloat16_share,
    decide_dtype,
    keep_dtype,
    multiplies_bfloat16,
    trains_on_gpu,
    with_dtype,
)
from jobs.runs.directory import RunDirectory
from jobs.stages.spec import RunSpec, ScalingConfig
from jobs.training.run import resume, start
from minimind.events import EventLog, read_events
from tests.small import Screen, end_of, kill_at, needs_no_gpu, small_spec

AUTO = small_spec(loop__dtype="auto")


def on(**scaling: float) -> RunSpec:
    return AUTO.model_copy(update={"scaling": ScalingConfig.model_validate(scaling)})


@needs_no_gpu
def test_a_cpu_without_units_for_it_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert not multiplies_bfloat16()
    screen = Screen()
    assert decide_dtype(AUTO, screen) == with_dtype(AUTO, "float32")
    assert screen.text == ""


@needs_no_gpu
def test_a_cpu_with_such_units_takes_what_is_clearly_faster_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.fit.precision.multiplies_bfloat16", lambda: True)  # whatever it says of this machine
    screen = Screen()
    name = decide_dtype(AUTO, screen).loop.dtype
    said = re.search(r"^Precision: (\w+); bfloat16 takes ([0-9.]+) of float32's time here", screen.text)
    assert said is not None, screen.text
    assert said[1] == name
    assert name == ("bfloat16" if float(said[2]) <= CLEARLY_FASTER else "float32")


def test_a_measurement_leaves_no_trace() -> None:
    before = torch.get_rng_state()
    assert 0 < bfloat16_share(small_spec("lora", init_from="none", adapter__dropout=0.5)) < 100
    assert torch.equal(torch.get_rng_state(), before)


def test_what_the_user_names_stays_and_gpus_decide_together() -> None:
    for name in ("float32", "float16", "bfloat16"):
        spec = with_dtype(AUTO, name)
        assert decide_dtype(spec, Screen()) is spec
    gpu = on(workers=2, gpus_per_worker=0.5)
    assert trains_on_gpu(gpu)
    assert decide_dtype(gpu, Screen()) is gpu
    assert not trains_on_gpu(on(workers=2, gpus_per_worker=0))


@needs_no_gpu
def test_a_run_stores_what_was_decided_and_goes_on_in_it(home: Path) -> None:
    run = start(AUTO, Screen())
    name = run.spec()["loop"]["dtype"]
    assert name in ("float32", "bfloat16")
    whole = end_of(run)
    kill_at(run, 4)
    resume("small", {}, Screen())
    assert end_of(run) == whole
    states = [event for event in read_events(run.events_path, {"state"}) if event["state"] == "RUNNING"]
    assert [state["environment"]["dtype"] for state in states] == [name, name]
    left_open = RunSpec.model_validate(run.spec() | {"loop": run.spec()["loop"] | {"dtype": "auto"}})
    assert keep_dtype(left_open, run).loop.dtype == name  # where GPUs have decided, the spec has left it open
    assert keep_dtype(with_dtype(AUTO, "float16"), run).loop.dtype == "float16"


def test_a_run_from_before_its_dtype_was_kept_stays_what_a_cpu_was(home: Path) -> None:
    for device, name in (("cpu", "float32"), ("NVIDIA GeForce RTX 3050", "auto")):
        run = RunDirectory(home / "runs" / device.partition(" ")[0])
        run.create(AUTO.model_dump(mode="json"))
        with EventLog(run.events_path) as log:
            log.state("RUNNING", step=0, total_steps=9, world=1, environment={"device": device})
            log.state("FAILED", reason="power")
        assert keep_dtype(AUTO, run).loop.dtype == name
