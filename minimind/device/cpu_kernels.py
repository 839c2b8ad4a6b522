"""What PyTorch's CPU kernels allocate for themselves, by rule.

With these rules a trace equals the events of the C++ allocator (torch.profiler with profile_memory) in the same step.
It does so in half precision where oneDNN does not multiply natively (ONEDNN_MAX_CPU_ISA=AVX2): with AVX-512 or AMX it
packs the operands of each product into scratch space whose size depends on the instruction set, the caches and the
shape, which no rule here follows. Up to 15 % more was seen.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from minimind.device.storages import Workspace

aten = torch.ops.aten


def _flash_forward(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> list[int]:
    """Scores of one block of queries for each thread (ATen/native/cpu/FlashAttentionKernel.cpp)."""
    length, width = query.shape[2:]
    block, keys = min(length, _query_block(length)), min(512, key.shape[2])
    threads = torch.get_num_threads()
    reduced = 2 * block * keys if query.dtype != torch.float32 else 0
    return [4 * threads * (block * keys + 2 * block + block * width), threads * reduced]


def _flash_backward(grad: Tensor, query: Tensor, key: Tensor, *args: Any, **kwargs: Any) -> list[int]:
    """Scores and their gradients of one block of queries for each thread; a gradient with gaps is copied."""
    length = query.shape[2]
    block, keys = min(length, _query_block(length)), min(512, key.shape[2])
    threads = torch.get_num_threads()
    reduced = 4 * block * keys if query.dtype != torch.float32 else 0
    copied = 0 if grad.is_contiguous() else grad.numel() * grad.element_size()
    return [copied, 8 * threads * block * keys, threads * reduced, 4 * block]


def _query_block(length: int) -> int:
    return 256 if length >= 768 else 64 if length >= 192 else 32


def _mixed(*args: Any, **kwargs: Any) -> list[int]:
    """A CPU casts whole tensors to the type an elementwise operation computes in; a GPU casts number by number."""
    tensors = [arg for arg in args if isinstance(arg, Tensor)]
    common = tensors[0].dtype
    for tensor in tensors:
        if tensor.dtype != common:
            common = torch.promote_types(common, tensor.dtype)
    return [tensor.numel() * common.itemsize for tensor in tensors if tensor.dtype != common and tensor.dim()]


CPU_WORKSPACES: dict[Any, Workspace] = {
    aten._scaled_dot_product_flash_attention_for_cpu.default: _flash_forward,
    aten._scaled_dot_product_flash_attention_for_cpu_backward.default: _flash_backward,
    **dict.fromkeys(
        (
            aten.add.Tensor,
            aten.add_.Tensor,
            aten.sub.Tensor,
            aten.mul.Tensor,
            aten.mul_.Tensor,
            aten.div.Tensor,
            aten.div_.Tensor,
            aten.addcmul_.default,
        ),
        _mixed,
    ),
}
"""What PyTorch's CPU kernels allocate for themselves, which never reaches Python."""
