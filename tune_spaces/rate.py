"""How fast weights move, and along which schedule."""

from __future__ import annotations

from tune_spaces.around import Around
from tune_spaces.distribution import Choices, LogUniform, Space


def rate(usual: Around) -> Space:
    """Learning rate, from a tenth of the stage's own to ten times, x schedule."""
    return {
        "optim.schedule": Choices(choices=("wsd", "cosine", "constant")),
        "optim.learning_rate": LogUniform(low=usual.optim.learning_rate / 10, high=usual.optim.learning_rate * 10),
    }
