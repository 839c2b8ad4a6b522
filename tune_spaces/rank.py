"""How much an adapter can hold, and how fast it learns."""

from __future__ import annotations

from tune_spaces.around import Around
from tune_spaces.distribution import Choices, LogUniform, Space


def rank(usual: Around) -> Space:
    """LoRA rank x learning rate, from a tenth of the stage's own to ten times."""
    return {
        "adapter.rank": Choices(choices=(4, 8, 16, 32, 64)),
        "optim.learning_rate": LogUniform(low=usual.optim.learning_rate / 10, high=usual.optim.learning_rate * 10),
    }
