"""What a step's memory and speed hang on, at the same number of tokens in every step."""

from __future__ import annotations

from tune_spaces.around import Around
from tune_spaces.distribution import Choices, Space

SHORTEST = 64
"""Tokens per row below which nothing is tried."""


def batch(usual: Around) -> Space:
    """batch_size x max_seq_len x activation checkpointing; accumulation_steps keeps the tokens of a step."""
    loop, max_seq_len = usual.loop, usual.max_seq_len
    widths = [max_seq_len] + [max_seq_len // part for part in (2, 4) if max_seq_len // part >= SHORTEST]
    most = loop.batch_size * loop.accumulation_steps * max_seq_len // min(widths)
    rows = {loop.batch_size, *(2**power for power in range(most.bit_length()))}
    return {
        "loop.activation_checkpointing": Choices(choices=(False, True)),
        "data.max_seq_len": Choices(choices=tuple(sorted(widths))),
        "loop.batch_size": Choices(choices=tuple(sorted(rows))),
    }
