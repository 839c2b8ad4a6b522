"""RunSpec + models + batches -> the recipe that the loop follows. A run and its plan make theirs here."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from jobs.stages.known import answered
from jobs.stages.spec import RunSpec
from jobs.stages.table import STAGES
from jobs.stages.weights import Shapes
from minimind.network.model import MiniMind
from minimind.training.batch import Batch
from minimind.training.objectives import Loss, Models
from minimind.training.optim import build_optimizer, learning_rate_factor
from minimind.training.precision import Precision
from minimind.training.recipe import BatchSource, LoopConfig, Recipe
from minimind.training.trial_steps import Repeated


def recipe_of(
    spec: RunSpec, models: Models, batches: BatchSource, precision: Precision, loop: LoopConfig, total_steps: int
) -> Recipe:
    """All that a run of these settings takes. loop: the spec's, with what it leaves open decided."""
    stage, optim = STAGES[spec.stage.kind], spec.optim
    return Recipe(
        models=models,
        objective=stage.objective(spec),
        batches=batches,
        optimizer=build_optimizer(models, optim),
        learning_rate=lambda step: optim.learning_rate * learning_rate_factor(optim, step, total_steps),
        precision=precision,
        loop=loop,
        total_steps=total_steps,
        grad_clip=optim.grad_clip,
        worst=stage.worst(spec),
        beside=stage.beside(spec),
        worst_take=partial(stage.worst_take, spec, models) if stage.worst_take is not None else None,
    )


def trial_recipe(spec: RunSpec, dtype: torch.dtype, device: torch.device | None = None) -> Recipe:
    """A run's recipe over its worst batch again and again, with weights that mean nothing: to see what a step takes.

    dtype: of autocast. device: where it runs, by default the CPU; the batch is on the host.
    """
    stage, device = STAGES[spec.stage.kind], device or torch.device("cpu")
    models = stage.models(spec, Shapes(spec))
    place(models, spec, device)
    batches = Repeated(stage.worst(spec))
    return recipe_of(spec, models, batches, Precision(dtype, device), spec.loop, total_steps=1)


def asking_recipe(spec: RunSpec, dtype: torch.dtype, device: torch.device | None = None) -> Recipe:
    """As `trial_recipe`, of what a frozen model is asked before a run trains: steps of next to nothing, before each of
    which it answers for the worst batch.
    """
    stage, device = STAGES[spec.stage.kind], device or torch.device("cpu")
    asking = stage.asks(spec)
    assert asking is not None, f"the settings of {spec.name} want nothing to be known beforehand"
    model, idle = Shapes(spec).role(asking.role), nn.Linear(1, 1, bias=False)
    place({asking.role: model, "idle": idle}, spec, device)
    worst, precision = stage.worst(spec), Precision(dtype, device)

    def nothing(models: Models, batch: Batch) -> Loss:
        return Loss(idle.weight.sum(), torch.ones(()))

    return Recipe(
        models={asking.role: model, "idle": idle},
        objective=nothing,
        batches=Repeated(worst),
        optimizer=torch.optim.SGD(idle.parameters()),
        learning_rate=lambda step: 0.0,
        precision=precision,
        loop=spec.loop,
        total_steps=1,
        worst=worst,
        worst_take=lambda: answered(asking, model, worst.to(device), precision),
    )


def place(models: Models, spec: RunSpec, device: torch.device) -> None:
    """Move the models to their device, and let them compute as the spec says."""
    for model in models.values():
        if next(model.parameters()).device != device:  # fake tensors cannot be moved, and need not be
            model.to(device)
        for part in _language_models(model):
            part.activation_checkpointing = spec.loop.activation_checkpointing


def _language_models(model: nn.Module) -> list[MiniMind]:
    return [module for module in model.modules() if isinstance(module, MiniMind)]
