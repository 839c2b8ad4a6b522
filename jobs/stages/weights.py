"""Models without numbers: what a plan is made from, and what says how large a checkpoint is."""

from __future__ import annotations

import json
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import nn

from jobs.runs.references import find_weights
from jobs.stages.spec import RunSpec
from jobs.stages.table import STAGES
from minimind.checkpoints.convert import from_hf_config
from minimind.network.model import MiniMind, ModelConfig
from minimind.network.score import ScoreModel


class ExpectedSpec(RunSpec):
    """For plans: a run whose further models are not there yet. expected: their shapes, by role."""

    expected: dict[str, ModelConfig] = Field(default_factory=dict)


@dataclass(frozen=True)
class Shapes:
    """Models of the shapes that a run's models have."""

    spec: RunSpec

    def policy(self) -> MiniMind:
        """The model that the run trains."""
        return MiniMind(self.spec.model)

    def role(self, role: str) -> MiniMind:
        """The model of a frozen role."""
        return MiniMind(role_config(self.spec, role)).requires_grad_(False)

    def scoring(self, role: str) -> ScoreModel:
        """The reward model of a frozen role."""
        return ScoreModel(role_config(self.spec, role)).requires_grad_(False)


def role_config(spec: RunSpec, role: str) -> ModelConfig:
    """The shape of a role's model. Raises ValueError for a checkpoint that is not there."""
    # A run that goes on would look for its model in vain: first weights are kept for roles that are declared.
    assert role in STAGES[spec.stage.kind].roles, f"the stage {spec.stage.kind} uses the role {role}: add it to `roles`"
    assert role not in spec.stage.does_without, f"the settings say that they do without the role {role}"
    if isinstance(spec, ExpectedSpec) and role in spec.expected:
        return spec.expected[role]
    reference = spec.roles.get(role)
    if reference is None:
        return spec.model
    return from_hf_config(json.loads((find_weights(reference).folder / "config.json").read_text("utf-8")))


def without_numbers(spec: RunSpec) -> dict[str, nn.Module]:
    """A run's models by role, an adapter included, on the meta device."""
    with torch.device("meta"):
        return STAGES[spec.stage.kind].models(spec, Shapes(spec))


def policy_shape(spec: RunSpec) -> MiniMind:
    """The model that a run trains, with its adapter, on the meta device."""
    policy = without_numbers(spec)["policy"]
    assert isinstance(policy, MiniMind)
    return policy


def trained_parameters(spec: RunSpec) -> int:
    """How many numbers a run trains, and its checkpoints hold."""
    parameters = {id(p): p for model in without_numbers(spec).values() for p in model.parameters()}
    return sum(parameter.numel() for parameter in parameters.values() if parameter.requires_grad)


def optimizer_states(spec: RunSpec) -> float:
    """About how many fp32 numbers the optimizer keeps for each parameter that it trains."""
    return 2.0 if spec.optim.name == "adamw" else 1.3
