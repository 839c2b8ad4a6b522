"""What `loop.dtype = auto` is: on CPUs decided here, by measuring, before a run is planned; on GPUs by the workers
together (`minimind.training.precision.common_dtype`). A run keeps it for life.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import ray
import torch
from rich.console import Console

from jobs.fit.card import here
from jobs.runs.directory import RunDirectory
from jobs.stages.recipe import trial_recipe
from jobs.stages.spec import RunSpec
from jobs.terminal.wrap import tell
from minimind.events import read_events
from minimind.language import say
from minimind.training.precision import Precision
from minimind.training.recipe import Recipe

CLEARLY_FASTER = 0.75
"""Where bfloat16 takes no more than this share of float32's time, it is taken. Measured on an EPYC with AVX-512 BF16:
0.62 to 0.69 for `30m`, 0.80 to 0.90 for `tiny`, which has more to cast than to multiply. Without such units it was 7
to 15 times float32's time.
"""

MEASURED_TOKENS = 128

ROUNDS = 3


def decide_dtype(spec: RunSpec, console: Console) -> RunSpec:
    """The run with the dtype that `auto` is, where it trains on CPUs, and a word on why; else as it is.

    spec: with its workers decided (`jobs.training.launch.resolve_scaling`). On several machines it is float32: the
    slowest decides how long a step takes, and only this one could be measured.
    """
    if spec.loop.dtype != "auto" or trains_on_gpu(spec):
        return spec
    name = "float32"
    if multiplies_bfloat16() and not _several_machines():
        share = bfloat16_share(spec)
        name = "bfloat16" if share <= CLEARLY_FASTER else "float32"
        tell(
            console,
            say(
                "Precision: {name}; bfloat16 takes {share:.2f} of float32's time here (--dtype takes either)",
                name=name,
                share=share,
            ),
        )
    return with_dtype(spec, name)


def keep_dtype(spec: RunSpec, run: RunDirectory) -> RunSpec:
    """A run's spec with the dtype that its earlier attempts have computed in, where it left that open. Where they
    did not write it down, they are from before a CPU had a choice.
    """
    attempts = [_environment(state) for state in read_events(run.events_path, {"state"})]
    old = {"cpu": "float32"}
    names = [name for found in attempts if (name := found.get("dtype") or old.get(found.get("device", "")))]
    return with_dtype(spec, names[-1]) if spec.loop.dtype == "auto" and names else spec


def trains_on_gpu(spec: RunSpec) -> bool:
    """Whether its workers have GPUs. spec: as `decide_dtype` takes it."""
    return bool(spec.scaling.gpus_per_worker) if spec.scaling.workers else here().type == "cuda"


def multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for products in bfloat16 that oneDNN may use (ONEDNN_MAX_CPU_ISA allows)."""
    has: Mapping[str, Any] = torch.cpu.get_capabilities()
    units = any(has.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))  # x86, and ARM's name of it
    return units and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def bfloat16_share(spec: RunSpec) -> float:
    """The time of a forward and a backward pass of the run in bfloat16, as a share of that in float32.

    CPU time of one short row, the least of a few rounds: other programs on the machine change it little. Longer rows
    and more of them gain more.
    """
    short = min(MEASURED_TOKENS, spec.data.max_seq_len)
    loop, data = spec.loop.model_copy(update={"batch_size": 1}), spec.data.model_copy(update={"max_seq_len": short})
    small = spec.model_copy(update={"loop": loop, "data": data})
    with torch.random.fork_rng(devices=()):  # weights and dropout draw
        recipe = trial_recipe(small, torch.float32)
        for dtype in (torch.float32, torch.bfloat16):  # the first of each makes its buffers
            _seconds(recipe, dtype)
        rounds = [(_seconds(recipe, torch.bfloat16), _seconds(recipe, torch.float32)) for _ in range(ROUNDS)]
    return min(half for half, _ in rounds) / min(full for _, full in rounds)


def _seconds(recipe: Recipe, dtype: torch.dtype) -> float:
    precision = Precision(dtype, torch.device("cpu"))
    began = time.process_time()
    with precision.autocast():
        loss = recipe.objective(recipe.models, recipe.worst)
    torch.autograd.backward(loss.total)
    seconds = time.process_time() - began
    recipe.optimizer.zero_grad()
    return seconds


def with_dtype(spec: RunSpec, name: str) -> RunSpec:
    """The run with its dtype decided."""
    return spec.model_copy(update={"loop": spec.loop.model_copy(update={"dtype": name})})


def _several_machines() -> bool:
    return ray.is_initialized() and sum(node["Alive"] for node in ray.nodes()) > 1  # type: ignore[no-untyped-call]


def _environment(state: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = state.get("environment", {})
    return found
