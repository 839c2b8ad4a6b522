"""A gate for runs that learn by trying: whether what is held out became so much worse that the run is to go back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from minimind.config import Config

# Of 33 runs that tried to sort digits or to answer the stock questions two fell by 10 points: one to nothing, the
# other, from 35 to 24 %, got up again. Plain text became up to 9 % worse where something narrow was learnt.

SURE = 2.0
"""Standard errors that a fall is larger than chance: one such in forty comes by itself."""

Fall = Literal["right", "text", "facts"]
"""What became worse: the share of prompts that are answered right, plain text, or what is known of facts."""


class Gate(Config):
    """What a run is held to at each validation."""

    right: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="how far the share of held-out prompts answered right may fall below its best; where these are few "
        "two standard errors of that difference, if they are more",
    )
    text: float = Field(
        default=0.1, gt=0, description="which part worse held-out plain text may become than it was at the beginning"
    )
    facts: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="how far the share of eval.facts_path that is answered right may fall below what it was at the "
        "beginning; where these are few two standard errors of that difference, if they are more",
    )
    returns: int = Field(default=2, ge=0, description="how often a run goes back; then it ends at its best checkpoint")
    slower: float = Field(default=0.5, gt=0, le=1, description="what the rate is multiplied by when it goes back")


@dataclass(frozen=True)
class Measured:
    """A validation. right: the share answered right of so many `prompts` of which that could be told. text: bits per
    byte, None where none is known. facts: the share answered right of so many `questions`, None where there are none.
    """

    right: float
    prompts: int
    text: float | None = None
    facts: float | None = None
    questions: int = 0


def may_fall(allowed: float, best: float, now: float, prompts: int) -> float:
    """How far right answers may fall from `best` to `now` without a return. The error is that of two shares that have
    nothing to do with each other; as both are of the same prompts the true one is smaller.
    """
    return max(allowed, SURE * share_error(best, now, prompts))


def share_error(one: float, other: float, count: int) -> float:
    """Standard error of the difference of two shares, each of so many, if both are of what is answered alike: by the
    share of both together, so that it is not 0 where one is 0 and the other 1.
    """
    both = (one + other) / 2
    return math.sqrt(2 * both * (1 - both) / max(1, count))


def fallen(gate: Gate, best: float, text_before: float, facts_before: float, now: Measured) -> Fall | None:
    """What became too much worse. best: the largest share of right answers so far. text_before: bits per byte at the
    beginning, 0 where that is not known. facts_before: the share of facts that was known then.
    """
    if best - now.right > may_fall(gate.right, best, now.right, now.prompts):
        return "right"
    if text_before and now.text is not None and now.text > text_before * (1 + gate.text):
        return "text"
    if now.facts is not None and facts_before - now.facts > may_fall(
        gate.facts, facts_before, now.facts, now.questions
    ):
        return "facts"
    return None
