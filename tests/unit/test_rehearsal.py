from __future__ import annotations

import pytest
import torch

from minimind.device.limit import MemoryLimit
from minimind.training.out_of_memory import DoesNotFitError
from minimind.training.trial_steps import NoHooks, run_trial_steps
from tests.plans import Case


def test_real_steps_are_made() -> None:
    step = Case(width=16).step()
    before = [parameter.clone() for parameter in step.models["policy"].parameters()]
    run_trial_steps(step, 2)
    after = list(step.models["policy"].parameters())
    assert not all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_nothing_may_happen_that_would_be_noted() -> None:
    with pytest.raises(AssertionError, match="a step was skipped"):
        NoHooks().note("step_skipped", "a step was skipped")
    NoHooks({"step_skipped"}).note("step_skipped", "expected in float16")


def test_a_step_that_runs_out_of_memory_does_not_adapt() -> None:
    step = Case(width=16).step()
    with MemoryLimit(1 << 16), pytest.raises((DoesNotFitError, torch.OutOfMemoryError)):
        run_trial_steps(step, 2)
