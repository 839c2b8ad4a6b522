"""The table of stages. Adding one is one file that says what it trains and one row here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jobs.presets import pretrain
from jobs.spec import RunSpec
from minimind.objectives import Objective, next_token_loss


@dataclass(frozen=True)
class Stage:
    """What makes one stage differ from another.

    title: one line for the help. rows: which row format its data has, as `data check --stage` calls it.
    preset: model size -> the complete spec that a run starts from. objective: what is minimised.
    """

    title: str
    rows: str
    preset: Callable[[str], RunSpec]
    objective: Objective


STAGES: dict[str, Stage] = {
    "pretrain": Stage(
        title="learn language from plain text: predict every next token",
        rows="pretrain",
        preset=pretrain,
        objective=next_token_loss,
    ),
}
