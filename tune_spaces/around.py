"""What a stage does without a sweep: a space is made around it."""

from __future__ import annotations

from dataclasses import dataclass

from minimind.network.model import ModelConfig
from minimind.training.optim import OptimConfig
from minimind.training.recipe import LoopConfig


@dataclass(frozen=True)
class Around:
    """The parts of a run's settings that spaces are made of. max_seq_len: tokens per row."""

    model: ModelConfig
    loop: LoopConfig
    optim: OptimConfig
    max_seq_len: int
