"""How wide and how deep a model is: which one learns most in a given time on this machine."""

from __future__ import annotations

from fractions import Fraction

from tune_spaces.around import Around
from tune_spaces.distribution import Choices, Largest, LogUniform, Space

WIDTHS = tuple(map(Fraction, ("1/2", "3/4", "1", "5/4", "3/2")))
DEPTHS = tuple(map(Fraction, ("1/2", "3/4", "1", "3/2", "2")))

HEAD_STEP = 8
"""A head's width is a multiple of it: odd widths are slow."""


def size(usual: Around) -> Space:
    """hidden_size x num_hidden_layers, from about an eighth of the model to four times, x learning rate, for a wider
    model wants a lower one. As many rows at once as fit, at most the stage's own; the tokens of a step stay.
    """
    model, rate, rows = usual.model, usual.optim.learning_rate, usual.loop.batch_size
    together = rows * usual.loop.accumulation_steps
    step = HEAD_STEP * model.num_attention_heads
    widths = {max(step, round(share * model.hidden_size / step) * step) for share in WIDTHS} | {model.hidden_size}
    depths = {max(1, round(share * model.num_hidden_layers)) for share in DEPTHS}
    return {
        "model.hidden_size": Choices(choices=tuple(sorted(widths))),
        "model.num_hidden_layers": Choices(choices=tuple(sorted(depths))),
        "loop.batch_size": Largest(largest=tuple(n for n in range(1, rows + 1) if together % n == 0)),
        "optim.learning_rate": LogUniform(low=rate / 3, high=rate * 3),
    }
