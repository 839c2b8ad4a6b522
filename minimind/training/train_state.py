"""How far a run has come: all that the loop remembers beside weights, optimizer and data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class TrainState:
    """How far a run has come. It is saved with the weights and says all that the loop remembers.

    step: completed optimizer steps. tokens: real tokens seen by all workers. bad_steps: refused steps in a row.
    skipped_steps: refused steps in all. empty: steps in a row from which there was nothing to learn. What
    `minimind.training.out_of_memory` has done to spare memory: rows_at_once, how many rows are computed together, 0 for
    all of a micro-batch; checkpointing, whether activation checkpointing was turned on; cuts, how often every row is
    halved.

    What `minimind.training.gate` has done, where a run is held to one. judged: the last step at which it was asked, -1
    for none. good: the checkpoint that a return goes to, and of it right, the share of right answers. text: bits per
    byte of held-out plain text at the beginning, 0 where none is known. facts: the share of facts that was known then,
    0 where none are. returns: how many there were. rate: what the learning rate is multiplied by.
    ended: whether it has ended the run.
    """

    step: int = 0
    tokens: int = 0
    bad_steps: int = 0
    skipped_steps: int = 0
    empty: int = 0
    rows_at_once: int = 0
    checkpointing: bool = False
    cuts: int = 0
    judged: int = -1
    good: int = -1
    right: float = 0.0
    text: float = 0.0
    facts: float = 0.0
    returns: int = 0
    rate: float = 1.0
    ended: bool = False

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return asdict(self)
