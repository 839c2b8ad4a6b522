"""The GRPO stage: of several answers to a prompt those that are better than the others become likelier."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from data.rows import PromptRows
from jobs.stages import trying
from jobs.stages.spec import RunSpec
from jobs.stages.stage import DEFAULT_MODEL
from jobs.stages.trying import TryingSettings
from minimind.device.distributed import Parallel
from minimind.training.advantages import Scale
from minimind.training.attempts import Credit
from minimind.training.credit import GroupCredit
from minimind.training.rollout import PromptSource, Writer


class GrpoConfig(TryingSettings):
    """What the stage has to be told beside what all that try have."""

    kind: Literal["grpo"] = "grpo"
    group_size: int = Field(default=8, ge=2, description="answers to each prompt, which are compared with each other")
    scale: Scale = Field(
        default="group",
        description="what an answer's distance to the mean of its group is divided by: group: the group's standard "
        "deviation; batch: that of all answers of the step; none: nothing (Dr. GRPO)",
    )
    separate: bool = Field(
        default=False,
        description="bring each term of the reward to one scale in its group before they are summed (GDPO)",
    )

    draws: int = Field(
        default=1,
        ge=1,
        description="how often at most a step draws prompts, until as many groups as it draws at once have answers "
        "that differ (dynamic sampling); prompts then last for fewer steps",
    )

    @property
    def most_draws(self) -> int:
        """How often at most prompts are drawn for a step."""
        return self.draws

    @property
    def answers(self) -> int:
        """To each prompt at one time."""
        return self.group_size


def grpo(size: str = DEFAULT_MODEL) -> RunSpec:
    """The settings of stages that try."""
    return trying.preset("grpo", GrpoConfig(), size)


def credited(spec: RunSpec, rows: PromptRows, writer: Writer, parallel: Parallel) -> tuple[PromptSource, Credit]:
    """Every prompt in turn; answers against the others of their group."""
    own = spec.stage
    assert isinstance(own, GrpoConfig)
    weights = np.array([term.weight for term in own.terms]) if own.separate else None
    return trying.in_turn(spec, rows, parallel), GroupCredit(own.scale, weights)


STAGE = trying.stage(
    "improve by trying: of several answers to a prompt the better ones become likelier (GRPO)",
    GrpoConfig,
    grpo,
    credited,
    metrics={},
)
