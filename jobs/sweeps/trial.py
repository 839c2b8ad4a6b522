"""One trial of a sweep: a run like any other, for a given time, in the process that Ray Tune gives it."""

from __future__ import annotations

import gc
import io
import math
import shutil
import statistics
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from jobs.fit.card import here, this_card, worker_share
from jobs.fit.plan import Planner, to_json
from jobs.runs.directory import RunDirectory, RunStateError
from jobs.stages.spec import RunSpec
from jobs.stages.weights import policy_shape
from jobs.terminal.console import Terminal
from jobs.text.prepare import Prepared, prepare
from jobs.training.build import build
from jobs.training.run import resolve
from jobs.training.worker import limit_bytes, work
from minimind.config import override
from minimind.device.distributed import Parallel
from minimind.device.limit import OUT_OF_MEMORY, limited_memory
from minimind.events import Event, metric_series, read_events
from minimind.language import phrase, say
from minimind.memory.plan import MemoryPlan
from minimind.training.loop import train
from minimind.training.train_state import TrainState
from minimind.units import memory

PROBE_STEPS = 4
"""Steps that are made and thrown away, to see how long one takes; fewer where they take all the time of a trial."""

PARTS = 4
"""How often a trial is measured, evenly: after the last time it is over."""

MEMORY_PATIENCE_S = 60.0
"""How long a trial waits for the memory of the one before."""

Report = Callable[[dict[str, Any]], None]


def run_trial(base: RunSpec, settings: Mapping[str, Any], folder: Path, budget_s: float, report: Report) -> Event:
    """Train with the settings for `budget_s` seconds of steps, in `folder`; what came of it, by name.

    report: told what is known after each part but the last; what it raises ends the trial. Always gives `outcome`:
    "measured" (with bits_per_byte and tokens_per_s), "refused", "infeasible" (out of memory), "disk full" or "failed";
    the last three with `reason`.
    """
    run = RunDirectory(folder)
    result: Event = {}
    try:
        device = here()
        card = this_card(base.memory.vram, device=device, share=worker_share(base.scaling, device))
        spec = override(base, {**settings, "name": folder.name, "scaling.workers": 0, "loop.out_of_memory": "fail"})
        plan = Planner(card).plan(spec)
        result = {
            "parameters": policy_shape(spec).parameter_count(),
            "predicted_bytes": plan.peak_bytes,
            "counts_tensors": to_json(plan, card)["counts_tensors"],
        }
        if plan.verdict != "fits":
            reason = say("{memory} needed", memory=memory(plan.needed_bytes))
            return result | {"outcome": "refused", "reason": reason}
        wait_for_memory(plan)
        quiet = Terminal(file=io.StringIO())
        spec, weights = resolve(spec, None, quiet)  # with these settings it may replay what the sweep's own would not
        prepared = prepare(spec, quiet, weights=weights)
        parallel = Parallel(device=device)
        with limited_memory(device, limit_bytes(spec, parallel)):
            spec = _timed(spec, prepared, parallel, budget_s)
        run.create(spec.model_dump(mode="json"))
        run.write_plan(to_json(plan, card))
        work(spec, prepared, run, parallel, lambda event: _tell(event, run, spec, lambda now: report(result | now)))
        state = read_events(run.events_path, {"state"})[-1]
        if state["state"] == "FAILED":
            return result | {"outcome": outcome_of(state.get("traceback", "")), "reason": state["reason"]}
        return result | results_of(run) | {"outcome": "measured"}
    except SystemExit:  # Tune ends the trial
        raise
    except Exception as error:  # noqa: BLE001  # whatever a trial dies of, the others go on
        text = traceback.format_exc()
        return result | {"outcome": outcome_of(text), "reason": str(error) or type(error).__name__}
    finally:
        shutil.rmtree(run.checkpoints, ignore_errors=True)  # the weights of a minute are not worth their disk


DISK_FULL = ("is the disk full", "make room")
"""Parts of what is said where a disk is full; a trial dies in the language that it is asked in."""


def outcome_of(trace: str) -> str:
    """What a trial died of, from its traceback: "infeasible" where it was memory, "disk full", or "failed"."""
    if any(sign in trace for sign in ("MemoryError", *OUT_OF_MEMORY)):
        return "infeasible"
    if any(sign in trace for sign in ("Errno 28]", "Errno 27]", "Errno 122]", *map(phrase, DISK_FULL))):
        return "disk full"
    return "failed"


def wait_for_memory(plan: MemoryPlan, patience_s: float = MEMORY_PATIENCE_S) -> None:
    """Until the GPU has what the plan needs; what an ended process held comes back a moment later.

    Raises RunStateError if it does not. On a CPU there is nothing to wait for.
    """
    if not torch.cuda.is_available():
        return
    needed = plan.needed_bytes - plan.breakdown.get("context", 0) - plan.breakdown.get("display", 0)
    deadline = time.monotonic() + patience_s
    while (free := torch.cuda.mem_get_info()[0]) < needed:
        if time.monotonic() > deadline:
            raise RunStateError(
                say(
                    "{free} of the card are free, the trial needs {needed}: another process holds the "
                    "rest (nvidia-smi lists them)",
                    free=memory(free),
                    needed=memory(needed),
                )
            )
        time.sleep(0.2)


def results_of(run: RunDirectory) -> Event:
    """What a trial's events say so far. bits_per_byte: None where there are none, or they are no number: then it is
    not ranked. tokens_per_s: the median of its rows, which a slow moment does not change.
    """
    bits = metric_series(run.events_path, "val/bits_per_byte")[1]
    speeds = metric_series(run.events_path, "perf/tokens_per_s")[1]
    peaks = metric_series(run.events_path, "perf/peak_memory_bytes")[1]
    steps, seconds = metric_series(run.events_path, "perf/step_s")
    spent = sum(s * (step - before) for step, before, s in zip(steps, [0, *steps], seconds, strict=False))
    return {
        "bits_per_byte": bits[-1] if bits and math.isfinite(bits[-1]) else None,
        "tokens_per_s": statistics.median(speeds[1:] or speeds),
        "peak_bytes": peaks[-1],
        "steps": steps[-1],
        "seconds": round(spent, 2),
    }


def _tell(event: Event, run: RunDirectory, spec: RunSpec, report: Report) -> None:
    steps = spec.loop.max_steps or 0
    if "val/bits_per_byte" not in event.get("values", {}) or not 0 < event["step"] < steps:
        return
    try:
        report(results_of(run))
    except SystemExit:
        raise RunStateError(say("ended early: at this point other trials of the sweep were better")) from None


def _timed(spec: RunSpec, prepared: Prepared, parallel: Parallel, budget_s: float) -> RunSpec:
    """The run with as many steps as take `budget_s` seconds, so that its schedule goes to its end."""
    endless = override(spec, {"loop.epochs": 1_000_000})
    recipe = build(endless, prepared, parallel).recipe
    watch = _StopWatch(budget_s)
    loop = recipe.loop.model_copy(update={"log_interval": 1, "save_interval": None, "eval_interval": None})
    train(replace(recipe, loop=loop, total_steps=PROBE_STEPS), TrainState(), watch, parallel)
    del recipe
    gc.collect()
    if parallel.device.type == "cuda":
        torch.cuda.empty_cache()
    step_s = statistics.median(watch.step_s[1:] or watch.step_s)  # the first one makes its buffers
    steps = max(1, round(budget_s / step_s))
    return override(
        endless,
        {
            "loop.max_steps": steps,
            "loop.log_interval": max(1, steps // 40),
            "loop.eval_interval": -(-steps // PARTS),
            "loop.save_interval": steps,
            "loop.keep_last": 1,
            "loop.keep_best": 0,
            "eval.sample_tokens": 0,
        },
    )


class _StopWatch:
    """Hooks that keep the time of each step and nothing else, for so many seconds."""

    def __init__(self, most_s: float) -> None:
        self.step_s: list[float] = []
        self._most_s = most_s

    def log(self, state: TrainState, metrics: dict[str, float]) -> None:
        self.step_s.append(metrics["perf/step_s"])

    def note(self, kind: str, text: str, **details: Any) -> None:
        return None

    def evaluate(self, state: TrainState) -> None:
        return None

    def judge(self, state: TrainState) -> None:
        return None

    def save(self, state: TrainState) -> None:
        return None

    def should_stop(self, state: TrainState) -> bool:
        return sum(self.step_s) > self._most_s
