"""Which prompts can be learnt from by trying: those whose answers are not all worth the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from minimind.language import say
from minimind.training.advantages import Floats, Ints, has_spread

Standing = Literal["signal", "all_right", "all_wrong", "equal"]
"""How a prompt stands: its answers differ in worth; or are worth the same, and all are right, none is, or some are
or nobody knows."""

RIGHT = 1 - 1e-9
"""From this score by the first term of a reward an answer is right."""


@dataclass(frozen=True)
class Signal:
    """standings: of each prompt."""

    standings: tuple[Standing, ...]

    def count(self, standing: Standing) -> int:
        """How many prompts stand so."""
        return self.standings.count(standing)

    @property
    def counts(self) -> dict[str, int]:
        """The same of all."""
        return {standing: self.count(standing) for standing in get_args(Standing)}

    @property
    def advice(self) -> str:
        """Why nothing can be learnt and what to do, a line for each; "" where a prompt has signal, or there is none."""
        if not self.standings or self.count("signal"):
            return ""
        said = [
            say(
                "No prompt of {count} has signal: all answers to one are worth the same, so there is nothing to learn "
                "from comparing them.",
                count=len(self.standings),
            )
        ]
        if self.count("all_right"):
            said.append(
                say("Always right, {count} prompts: too easy. Take harder ones.", count=self.count("all_right"))
            )
        if self.count("all_wrong"):
            said.append(
                say(
                    "Never right, {count} prompts: too hard. More SFT comes first, or easier prompts, or a reward "
                    "that a wrong answer earns in part, by further terms such as format or language.",
                    count=self.count("all_wrong"),
                )
            )
        if self.count("equal"):
            said.append(
                say(
                    "Worth the same, right or wrong, {count} prompts: the terms of the reward cancel each other, weigh "
                    "nothing, or ask for what every answer has or none.",
                    count=self.count("equal"),
                )
            )
        return "\n".join(said)


def signal(reward_A: Floats, right_A: NDArray[np.bool_] | None, group_A: Ints) -> Signal:
    """How prompts stand by answers to them. reward_A: of each answer, all terms together; right_A: whether it is right,
    None where nobody knows; group_A: which prompt it answers, from 0, each with one answer at least.
    """
    spread_G = has_spread(reward_A, group_A)
    if right_A is None:
        return Signal(tuple("signal" if spread else "equal" for spread in spread_G.tolist()))
    answers_G, right_G = (np.bincount(group_A, weights) for weights in (None, right_A))
    return Signal(tuple(map(_standing, spread_G.tolist(), right_G.tolist(), answers_G.tolist())))


def _standing(spread: bool, right: float, answers: int) -> Standing:
    if spread:
        return "signal"
    return "all_right" if right == answers else "equal" if right else "all_wrong"
