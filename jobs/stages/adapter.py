"""What an adapter trains and what memory that saves, in words: why LoRA fits a small card."""

from __future__ import annotations

from jobs.stages.spec import RunSpec
from jobs.stages.weights import optimizer_states, policy_shape
from minimind.language import say
from minimind.network.lora import adapter_report
from minimind.units import amount, size


def adapter_lines(spec: RunSpec) -> list[str]:
    """The report on a run's adapter; nothing for a run without one."""
    if spec.adapter is None:
        return []
    found = adapter_report(policy_shape(spec), optimizer_states(spec))
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
