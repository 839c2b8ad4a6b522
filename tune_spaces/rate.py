"""How fast weights move, and along which schedule."""

from __future__ import annotations

from minimind.training.optim import OptimConfig
from minimind.training.recipe import LoopConfig
from tune_spaces.distribution import Choices, LogUniform, Space


def rate(loop: LoopConfig, optim: OptimConfig, max_seq_len: int) -> Space:
    """Learning rate, from a tenth of the stage's own to ten times, x schedule."""
    return {
        "optim.schedule": Choices(choices=("wsd", "cosine", "constant")),
        "optim.learning_rate": LogUniform(low=optim.learning_rate / 10, high=optim.learning_rate * 10),
    }
