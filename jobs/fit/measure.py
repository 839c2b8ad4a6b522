"""A few real steps of a run on this machine's device, on made-up rows: what they take in memory and time."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace

import torch
from rich.console import Console

from jobs import paths
from jobs.fit.card import calibration_path, here, identity, this_card
from jobs.fit.plan import Planner
from jobs.stages.pretrain import pretrain
from jobs.stages.recipe import trial_recipe
from jobs.stages.spec import RunSpec
from minimind.config import override
from minimind.device.limit import MemoryLimit
from minimind.inference.engine import Engine
from minimind.inference.sampling import SamplingParams
from minimind.language import say
from minimind.memory.plan import Calibration, Need
from minimind.network.model import MiniMind
from minimind.training.out_of_memory import beyond_rungs
from minimind.training.rollout import SLOTS
from minimind.training.trial_steps import run_trial_steps
from minimind.units import memory

CALIBRATION_ROWS = (1, 4, 16)
"""Three sizes of the same step: ratios of small and large ones differ, and the largest counts."""


WRITTEN_PROMPT, WRITTEN_TOKENS = 16, 32
"""Tokens of the prompts and of the answers by which the speed of writing is measured."""


@dataclass(frozen=True)
class Measured:
    """peak_bytes: of tensors. reserved_bytes: what the allocator held for them. outside_bytes: in use beside it,
    by CUDA, the desktop and other programs; 0 on a CPU. tokens_per_s: with one micro-batch to a step.
    """

    peak_bytes: int
    reserved_bytes: int
    outside_bytes: int
    tokens_per_s: float


def measure(planner: Planner, spec: RunSpec, steps: int = 3) -> Measured:
    """Make so many steps of the run on the device that is here, and two more to see what they take.

    planner: of that device. Raises ValueError for a run that it refuses, DoesNotFitError where memory runs out.
    """
    if planner.plan(spec).verdict == "does not fit":
        raise ValueError(say("it cannot be measured here: {refusal}", refusal=planner.refusal(spec)))
    device, shape = here(), planner.shape(spec)
    with beyond_rungs(say("in the steps that were to be measured")):
        recipe = trial_recipe(spec, shape.dtype, device)
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            run_trial_steps(recipe, 2, device)
            peak, reserved = torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device)
            free, total = torch.cuda.mem_get_info(device)
            outside = total - free - torch.cuda.memory_reserved(device)
        else:
            with MemoryLimit() as limit:
                run_trial_steps(recipe, 2)
            peak = reserved = limit.peak_bytes
            outside = 0
        # What is replayed beside has tokens of its own, which whoever forecasts counts.
        single = replace(recipe, loop=recipe.loop.model_copy(update={"accumulation_steps": 1}), beside=None)
        began = time.perf_counter()
        run_trial_steps(single, steps, device)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        tokens_per_s = steps * shape.rows * shape.width / (time.perf_counter() - began)
    return Measured(peak, reserved, outside, tokens_per_s)


def writing_speed(spec: RunSpec) -> float:
    """Tokens a second that a model of this shape writes on the device that is here, answering as in training."""
    model = MiniMind(spec.model, generator=torch.Generator().manual_seed(spec.seed)).to(here())
    engine = Engine(model, slots=SLOTS, context_tokens=WRITTEN_PROMPT + WRITTEN_TOKENS)
    prompts = [[number] * WRITTEN_PROMPT for number in range(SLOTS)]
    how = SamplingParams(WRITTEN_TOKENS, seed=spec.seed, logprobs=0)
    engine.generate(prompts, how)  # the first time takes longer
    began = time.perf_counter()
    engine.generate(prompts, how)
    return SLOTS * WRITTEN_TOKENS / (time.perf_counter() - began)


def calibrate(console: Console) -> Calibration:
    """Three short runs at three sizes on this machine's GPU; what they show is kept for every plan to come.

    Raises ValueError where there is no GPU.
    """
    if not torch.cuda.is_available():
        raise ValueError(say("minimind plan --calibrate measures a GPU, and PyTorch sees none here"))
    card = replace(this_card(), calibration=None)
    planner = Planner(card)
    specs = [override(pretrain("30m"), {"loop.batch_size": rows}) for rows in CALIBRATION_ROWS]
    seen = calibration_of([(planner.need(spec), measure(planner, spec)) for spec in specs])
    path = calibration_path()
    paths.make(path.parent)
    path.write_text(json.dumps(asdict(seen), indent=2) + "\n", "utf-8")
    console.print(
        say(
            "{card}: tensors take {allocated:.3f} and the allocator holds {reserved:.3f} times what is planned; "
            "{context} are in use beside it. Plans count on that from now on ({path}).",
            card=card.name,
            allocated=seen.allocated,
            reserved=seen.reserved,
            context=memory(seen.context_bytes),
            path=path,
        )
    )
    return seen


def calibration_of(runs: list[tuple[Need, Measured]]) -> Calibration:
    """What runs on this machine's device show: the largest ratios of measured to planned, reservations where nothing
    limits them.
    """
    return Calibration(
        allocated=max(found.peak_bytes / planned.peak_bytes for planned, found in runs),
        reserved=max(found.reserved_bytes / planned.unlimited_bytes for planned, found in runs),
        context_bytes=max(found.outside_bytes for _, found in runs),
        **identity(here()),
    )
