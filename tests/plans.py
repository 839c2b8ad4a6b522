"""Steps whose memory is predicted, and the same steps for real: what the tests and the benchmark of the plan share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from minimind.memory.closed_form import Shape
from minimind.network.lora import LoraConfig, attach
from minimind.network.model import MiniMind, ModelConfig
from minimind.training.batch import worst_batch
from minimind.training.objectives import next_token_loss
from minimind.training.optim import OptimConfig, build_optimizer
from minimind.training.precision import Precision
from minimind.training.recipe import LoopConfig, Recipe
from minimind.training.trial_steps import Repeated, run_trial_steps

WHOLE_GRID = bool(os.environ.get("MINIMIND_WHOLE_GRID"))
"""Whether the tests run every configuration (some minutes) or a handful."""


@dataclass(frozen=True)
class Case:
    """A configuration by what memory depends on. rank: of an adapter, 0 for none."""

    hidden: int = 64
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    vocab: int = 640
    tied: bool = True
    rows: int = 2
    width: int = 64
    dtype: torch.dtype = torch.float32
    accumulation: int = 1
    checkpointing: bool = False
    optimizer: str = "muon"
    rank: int = 0
    targets: tuple[str, ...] = LoraConfig().target_modules
    dropout: float = 0.0

    @property
    def model_config(self) -> ModelConfig:
        return ModelConfig(
            vocab_size=self.vocab,
            hidden_size=self.hidden,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            tie_word_embeddings=self.tied,
        )

    @property
    def lora(self) -> LoraConfig | None:
        if not self.rank:
            return None
        return LoraConfig(rank=self.rank, dropout=self.dropout, target_modules=self.targets)

    @property
    def optim(self) -> OptimConfig:
        return OptimConfig.model_validate({"name": self.optimizer})

    @property
    def loop(self) -> LoopConfig:
        return LoopConfig(
            batch_size=self.rows, accumulation_steps=self.accumulation, activation_checkpointing=self.checkpointing
        )

    @property
    def shape(self) -> Shape:
        """What the closed form is told."""
        return Shape(
            self.model_config,
            self.rows,
            self.width,
            self.dtype,
            self.accumulation,
            self.checkpointing,
            muon=self.optimizer == "muon",
            lora=self.lora,
        )

    def step(self) -> Recipe:
        """Everything the loop takes, as `jobs.training.build` makes it."""
        model = MiniMind(self.model_config)
        if self.lora is not None:
            attach(model, self.lora, torch.Generator().manual_seed(0))
        model.activation_checkpointing = self.checkpointing
        worst = worst_batch(self.rows, self.width)
        return Recipe(
            models={"policy": model},
            objective=next_token_loss,
            batches=Repeated(worst),
            optimizer=build_optimizer({"policy": model}, self.optim),
            learning_rate=lambda step: 1e-3,
            precision=Precision(self.dtype, torch.device("cpu")),
            loop=self.loop,
            total_steps=1,
            worst=worst,
        )


def allocator_peak(make: Callable[[], Recipe], steps: int = 2) -> int:
    """The most bytes that PyTorch's C++ allocator has held at once in the real steps, weights and batch included."""
    step = make()
    tensors: list[torch.Tensor] = [p for model in step.models.values() for p in model.parameters()]
    tensors += [value for value in vars(step.worst).values() if isinstance(value, torch.Tensor)]
    held = peak = sum(tensor.untyped_storage().nbytes() for tensor in tensors)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run_trial_steps(step, steps)
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def allocator_peaks(names: Iterable[str]) -> dict[str, int]:
    """`allocator_peak` of real cases by name, in a process of its own whose oneDNN knows AVX2 and no more.

    Where it multiplies half precision natively it packs operands into scratch space, as much as the processor at hand
    makes it: the bf16 case took 7.13 MB with AVX2, 7.29 with AVX-512, 7.36 with AVX-512 BF16 and 7.42 with AMX.
    """
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "1"}
    root = Path(__file__).parent.parent
    command = [sys.executable, "-m", "tests.plans", *names]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    peaks: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return peaks


BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32

REAL_CASES = {
    "fp32": Case(),
    "bf16": Case(dtype=BF16, width=200),
    "fp16, scaled": Case(dtype=FP16, checkpointing=True, width=96),
    "checkpointed": Case(checkpointing=True, layers=4, width=300),
    "adapter": Case(rank=4, optimizer="adamw", width=200),
}
"""Steps that are also made for real, in every run of the tests."""

MORE_REAL_CASES = {
    "adamw": Case(optimizer="adamw", width=200),
    "accumulated": Case(accumulation=3, width=100),
    "accumulated adamw bf16": Case(accumulation=2, optimizer="adamw", dtype=BF16, width=130),
    "untied": Case(tied=False, width=130),
    "untied bf16 checkpointed": Case(tied=False, dtype=BF16, checkpointing=True, width=300),
    "one long row": Case(rows=1, width=900),
    "one long row bf16": Case(rows=1, width=900, dtype=BF16, optimizer="adamw"),
    "many short rows": Case(rows=16, width=24),
    "wide": Case(hidden=192, layers=2, width=128),
    "wide adamw checkpointed": Case(hidden=192, layers=3, width=128, optimizer="adamw", checkpointing=True),
    "deep": Case(layers=8, width=64),
    "many heads": Case(heads=8, kv_heads=8, width=256),
    "one key head": Case(heads=8, kv_heads=1, width=256),
    "large vocabulary": Case(vocab=6400, width=80),
    "large vocabulary bf16": Case(vocab=6400, width=700, dtype=BF16),
    "weights only": Case(hidden=160, rows=1, width=8, vocab=6400),
    "weights only adamw": Case(hidden=160, rows=1, width=8, vocab=6400, optimizer="adamw"),
    "adapter bf16": Case(rank=8, optimizer="adamw", dtype=BF16, width=256),
    "adapter checkpointed": Case(rank=4, optimizer="adamw", checkpointing=True, layers=4, width=300),
    "adapter accumulated": Case(rank=4, optimizer="adamw", accumulation=2, width=200),
    "adapter with dropout": Case(rank=4, optimizer="adamw", dropout=0.1, targets=("down_proj",), rows=4, width=400),
    "adapter fp16": Case(rank=4, optimizer="adamw", dtype=FP16, width=128),
}


def cases(base: Case, *changes: dict[str, Any]) -> list[Case]:
    """The case with each of these changes."""
    return [replace(base, **change) for change in changes]


_USUAL = Case(hidden=512, layers=3, heads=8, kv_heads=4, vocab=6400, rows=8, width=512, dtype=BF16)
_ADAPTER: dict[str, Any] = {"rank": 8, "optimizer": "adamw"}

SHAPES = cases(
    _USUAL,
    {},
    {"dtype": FP32},
    {"dtype": FP16},
    {"optimizer": "adamw"},
    {"checkpointing": True},
    {"checkpointing": True, "dtype": FP32},
    {"checkpointing": True, "dtype": FP16, "accumulation": 2},
    {"accumulation": 2},
    {"accumulation": 4, "optimizer": "adamw", "dtype": FP32},
    {"rows": 1, "width": 64},
    {"rows": 1, "width": 64, "checkpointing": True, "optimizer": "adamw"},
    {"rows": 1, "width": 200, "dtype": FP32},
    {"rows": 2, "width": 160, "hidden": 768},
    {"rows": 2, "width": 1024, "hidden": 768},
    {"rows": 2, "width": 1024, "hidden": 768, "checkpointing": True},
    {"rows": 24, "width": 256},
    {"rows": 4, "width": 128, "dtype": FP32, "optimizer": "adamw"},
    {"rows": 4, "width": 2048, "layers": 2},
    {"rows": 32, "hidden": 256},
    {"rows": 8, "width": 256, "hidden": 160, "heads": 4, "kv_heads": 2},
    {"rows": 8, "width": 256, "hidden": 160, "heads": 4, "kv_heads": 2, "checkpointing": True},
    {"rows": 4, "width": 300},
    {"rows": 4, "width": 300, "checkpointing": True, "dtype": FP32},
    {"tied": False},
    {"tied": False, "rows": 2, "width": 128, "optimizer": "adamw"},
    {"layers": 8},
    {"layers": 8, "checkpointing": True},
    {"rows": 2, "width": 256, "checkpointing": True, "accumulation": 4},
    _ADAPTER,
    _ADAPTER | {"dtype": FP32},
    _ADAPTER | {"checkpointing": True},
    _ADAPTER | {"checkpointing": True, "dtype": FP32, "rows": 16},
    _ADAPTER | {"accumulation": 4},
    _ADAPTER | {"rank": 64},
    _ADAPTER | {"rank": 16, "dropout": 0.1},
    _ADAPTER | {"rank": 4, "rows": 1, "width": 200},
    _ADAPTER | {"targets": ("q_proj", "v_proj")},
    _ADAPTER | {"hidden": 768, "rows": 4},
    _ADAPTER | {"rows": 64, "width": 128, "checkpointing": True, "optimizer": "muon"},
    _ADAPTER | {"hidden": 160, "heads": 4, "kv_heads": 2, "rows": 4, "width": 256},
)
"""Steps whose trace the closed form was written by."""

HELD_OUT_SHAPES = cases(
    _USUAL,
    {"hidden": 640, "layers": 6, "rows": 3, "width": 384},
    {"hidden": 640, "layers": 6, "rows": 3, "width": 384, "dtype": FP32, "optimizer": "adamw"},
    {"hidden": 640, "layers": 6, "rows": 12, "width": 384, "checkpointing": True},
    {"hidden": 384, "layers": 5, "rows": 20, "width": 192, "dtype": FP16},
    {"hidden": 384, "layers": 5, "rows": 20, "width": 192, "checkpointing": True, "optimizer": "adamw"},
    {"hidden": 384, "layers": 5, "rows": 1, "width": 768, "accumulation": 8},
    {"hidden": 1024, "layers": 4, "heads": 16, "kv_heads": 4, "rows": 2, "width": 512},
    {"hidden": 1024, "layers": 4, "heads": 16, "kv_heads": 4, "rows": 2, "width": 512, "checkpointing": True},
    {"hidden": 1024, "layers": 2, "heads": 16, "kv_heads": 16, "rows": 1, "width": 96, "dtype": FP32},
    {"hidden": 768, "layers": 4, "heads": 12, "kv_heads": 12, "rows": 6, "width": 640},
    {"hidden": 768, "layers": 4, "heads": 12, "kv_heads": 1, "rows": 6, "width": 640, "accumulation": 2},
    {"hidden": 512, "layers": 2, "vocab": 32000, "rows": 4, "width": 512},
    {"hidden": 512, "layers": 2, "vocab": 32000, "rows": 4, "width": 512, "tied": False, "checkpointing": True},
    {"hidden": 256, "layers": 12, "rows": 10, "width": 1024, "checkpointing": True, "dtype": FP32},
    {"hidden": 256, "layers": 12, "rows": 10, "width": 333},
    {"hidden": 320, "layers": 7, "heads": 4, "kv_heads": 2, "rows": 40, "width": 72, "optimizer": "adamw"},
    _ADAPTER | {"hidden": 640, "layers": 6, "rows": 6, "width": 384, "rank": 32},
    _ADAPTER | {"hidden": 640, "layers": 6, "rows": 6, "width": 384, "checkpointing": True, "accumulation": 2},
    _ADAPTER | {"hidden": 384, "layers": 5, "rows": 16, "width": 192, "dtype": FP32, "rank": 2},
    _ADAPTER | {"hidden": 384, "layers": 5, "rows": 16, "width": 192, "dropout": 0.05},
    _ADAPTER | {"hidden": 768, "layers": 4, "rows": 2, "width": 1000, "targets": ("q_proj", "k_proj", "o_proj")},
    _ADAPTER | {"hidden": 1024, "layers": 2, "heads": 16, "rows": 3, "width": 256, "dtype": FP16, "tied": False},
)
"""Steps that nobody had looked at when the closed form was finished."""


if __name__ == "__main__":  # what `allocator_peaks` runs
    torch.set_num_threads(1)
    known = REAL_CASES | MORE_REAL_CASES
    print(json.dumps({name: allocator_peak(known[name].step) for name in sys.argv[1:]}))
