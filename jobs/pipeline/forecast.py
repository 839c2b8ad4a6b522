"""What each stage of a pipeline will take, said before it starts: steps and time, memory, disk."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from data.suite import Rows
from jobs.evaluation.suites import expected_s
from jobs.fit.card import this_card
from jobs.fit.disk import checkpoint_disk
from jobs.fit.measure import measure, writing_speed
from jobs.fit.plan import Planner
from jobs.stages.spec import RunSpec
from jobs.stages.table import STAGES
from jobs.text.prepare import Prepared
from jobs.training.build import corpus_of, with_intervals
from minimind.device.distributed import Parallel
from minimind.language import phrase, say
from minimind.network.model import MiniMind
from minimind.text.tokenizer import Tokenizer
from minimind.units import duration, memory, size

STARTS_S = 12.0
"""Until a stage trains, and from its end until the next: processes start, import torch, load, and save at the end."""

VALIDATION_SHARE = 1 / 3
"""A forward's part of a step, which has a backward of twice its size."""


@dataclass(frozen=True)
class StageForecast:
    """A stage: its optimizer steps that are left, seconds, bytes of memory and of disk. seconds: None where nothing can
    be measured here, on a cluster whose GPUs are elsewhere.
    """

    stage: str
    steps: int
    seconds: float | None
    memory_bytes: int
    disk_bytes: int
    is_done: bool = False


def done(stage: str) -> StageForecast:
    """A stage that takes nothing any more."""
    return StageForecast(stage, 0, 0.0, 0, 0, is_done=True)


def forecast(spec: RunSpec, prepared: Prepared, suites: Sequence[Rows], made: int = 0) -> StageForecast:
    """What a run will take, from its data, a few steps that are made here, and a few rows of the suites that it ends
    with. spec: placed, its dtype decided. made: steps that are made already, as of one that was killed.
    """
    stage = STAGES[spec.stage.kind]
    data = stage.data(spec, corpus_of(prepared), {}, Parallel(world=spec.world))
    steps = min(data.batches.total_steps(spec.loop.accumulation_steps), spec.loop.max_steps or sys.maxsize)
    planner = Planner(this_card(spec.memory.vram))
    one, kept = checkpoint_disk(spec)
    measured = [data.held_out if data.answers is None else None, data.text]
    held_out = sum(batch.slots for source in measured if source for batch in source.batches())
    validations = 1 + (steps - made) // (with_intervals(spec.loop, steps).eval_interval or steps)
    trained = (steps - made) * spec.global_batch_size * spec.data.max_seq_len
    written = 0.0
    if data.answers is not None:
        epochs = (steps - made) / data.batches.total_steps(spec.loop.accumulation_steps) * spec.loop.epochs
        trained = round(epochs * data.answers.trained)
        written = epochs * data.answers.written + validations * data.answers.examined
        written += 0 if made else data.answers.first
    seconds = None
    if torch.cuda.is_available() or not spec.scaling.gpus_per_worker:
        speed = _speed(planner, spec) * spec.world
        if data.answers is not None:  # which are counted one by one, and not by rows of max_seq_len
            speed *= stage.worst(spec).slots / (spec.loop.batch_size * spec.data.max_seq_len)
        trains_s = (trained + VALIDATION_SHARE * validations * held_out) / speed
        if data.answers is not None:
            with _threads_of(spec):
                trains_s += written / (writing_speed(spec) * spec.world)
        seconds = STARTS_S + trains_s + _evaluation_s(spec, prepared, suites)
    return StageForecast(spec.stage.kind, steps - made, seconds, planner.plan(spec).needed_bytes, one * kept)


def show(forecasts: Sequence[StageForecast], console: Console) -> None:
    """A line a stage, and the sum of the times."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))
    table.add_column(say("stage"), no_wrap=True)
    for title in ("steps", "time", "memory", "disk"):
        table.add_column(phrase(title), justify="right", no_wrap=True)
    for one in forecasts:
        if one.is_done:
            table.add_row(phrase(one.stage), "", say("done"), "", "")
            continue
        time = duration(one.seconds) if one.seconds is not None else "?"
        table.add_row(phrase(one.stage), str(one.steps), time, memory(one.memory_bytes), size(one.disk_bytes))
    known = [one.seconds for one in forecasts if one.seconds is not None]
    time = duration(sum(known)) if len(known) == len(forecasts) else "?"
    table.add_section()
    table.add_row(say("together"), "", time, "", size(sum(one.disk_bytes for one in forecasts)))
    console.print(table, soft_wrap=False)


def _evaluation_s(spec: RunSpec, prepared: Prepared, suites: Sequence[Rows]) -> float:
    """Seconds of the suites: on the CPU, whatever trains."""
    if not suites:
        return 0.0
    model = MiniMind(spec.model, generator=torch.Generator().manual_seed(spec.seed))
    return expected_s(model, Tokenizer.load(prepared.tokenizer), suites)


def _speed(planner: Planner, spec: RunSpec) -> float:
    """Tokens a second of one worker."""
    with _threads_of(spec):
        return measure(planner, spec).tokens_per_s


@contextmanager
def _threads_of(spec: RunSpec) -> Iterator[None]:
    """As many as a worker will have."""
    threads = torch.get_num_threads()
    if spec.scaling.workers and spec.scaling.cpus_per_worker:
        torch.set_num_threads(spec.scaling.cpus_per_worker)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
