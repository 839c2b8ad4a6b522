"""How much an adapter can hold, and how fast it learns."""

from __future__ import annotations

from minimind.training.optim import OptimConfig
from minimind.training.recipe import LoopConfig
from tune_spaces.distribution import Choices, LogUniform, Space


def rank(loop: LoopConfig, optim: OptimConfig, max_seq_len: int) -> Space:
    """LoRA rank x learning rate, from a tenth of the stage's own to ten times."""
    return {
        "adapter.rank": Choices(choices=(4, 8, 16, 32, 64)),
        "optim.learning_rate": LogUniform(low=optim.learning_rate / 10, high=optim.learning_rate * 10),
    }
