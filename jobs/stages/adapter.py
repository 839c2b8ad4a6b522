"""What an adapter trains and what memory that saves, in words: why LoRA fits a small card."""

from __future__ import annotations

import torch

from jobs.stages.spec import RunSpec
from minimind.language import say
from minimind.lora import adapter_report, attach
from minimind.model import MiniMind
from minimind.units import amount, size


def adapter_lines(spec: RunSpec) -> list[str]:
    """The report on a run's adapter; nothing for a run without one."""
    if spec.adapter is None:
        return []
    found = adapter_report(without_numbers(spec), optimizer_states(spec))
    trained, total, share = amount(found.trained), amount(found.total), f"{100 * found.share:.1f} %"
    adapter_bytes = size(found.gradient_bytes + found.optimizer_bytes)
    full_bytes = size(found.full_gradient_bytes + found.full_optimizer_bytes)
    saved = size(found.saved_bytes)
    return [
        say(
            "LoRA: {trained} of {total} parameters trained ({share}). Gradients and optimizer took {adapter}; all "
            "weights would have taken {full}: {saved} of memory saved.",
            trained=trained,
            total=total,
            share=share,
            adapter=adapter_bytes,
            full=full_bytes,
            saved=saved,
        )
    ]


def trained_parameters(spec: RunSpec) -> int:
    """How many numbers a run trains, and its checkpoints hold."""
    return sum(parameter.numel() for parameter in without_numbers(spec).parameters() if parameter.requires_grad)


def optimizer_states(spec: RunSpec) -> float:
    """About how many fp32 numbers the optimizer keeps for each parameter that it trains."""
    return 2.0 if spec.optim.name == "adamw" else 1.3


def without_numbers(spec: RunSpec) -> MiniMind:
    """The run's model, and its adapter, on the meta device: shapes without numbers."""
    with torch.device("meta"):
        model = MiniMind(spec.model)
    if spec.adapter is not None:
        attach(model, spec.adapter, torch.Generator())
    return model
