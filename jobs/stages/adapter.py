"""What an adapter trains and what memory that saves, in words: why LoRA fits a small card."""

from __future__ import annotations

from jobs.stages.spec import RunSpec
from jobs.stages.weights import optimizer_states, policy_shape
from minimind.lora import adapter_report
from minimind.units import amount, size


def adapter_lines(spec: RunSpec) -> list[str]:
    """The report on a run's adapter, in English and Chinese; nothing for a run without one."""
    if spec.adapter is None:
        return []
    found = adapter_report(policy_shape(spec), optimizer_states(spec))
    trained, total, share = amount(found.trained), amount(found.total), f"{100 * found.share:.1f} %"
    adapter_bytes = size(found.gradient_bytes + found.optimizer_bytes)
    full_bytes = size(found.full_gradient_bytes + found.full_optimizer_bytes)
    saved = size(found.saved_bytes)
    english = (
        f"LoRA: {trained} of {total} parameters trained ({share}). Gradients and optimizer took {adapter_bytes}; all "
        f"weights would have taken {full_bytes}: {saved} of memory saved."
    )
    chinese = (
        f"LoRA：训练了 {total} 个参数中的 {trained} 个（{share}）。梯度和优化器占用 {adapter_bytes}，"
        f"全参数训练需要 {full_bytes}：节省 {saved} 内存/显存。"
    )
    return [english, chinese]
