"""What CUDA's kernels allocate, by rule, and which kernels are chosen where fake CPU tensors stand for CUDA's.

The rules are those of PyTorch 2.13 by its source, some of it read in neighbouring versions, none of it measured: the
attention kernel that scaled_dot_product_attention would choose (ATen/native/transformers/cuda/sdp_utils.cpp) and the
scratch space of its backward pass (mem_eff_attention/kernel_backward.h, flash_attn/flash_api.cpp), both with and
without deterministic kernels (`LoopConfig.deterministic`), cuBLAS workspaces (ATen/cuda/CublasHandlePool.cpp), sorting
in the backward pass of embeddings and indexing (ATen/native/cuda/EmbeddingBackwardKernel.cu, Indexing.cu).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.graph import _engine_run_backward
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from minimind.device.storages import Workspace

aten = torch.ops.aten

CUBLAS_WORKSPACE_BYTES = 8 * 4096 * 1024
"""Of each handle: CUBLAS_WORKSPACE_CONFIG is :4096:8 (`jobs` sets it), one of two values with which cuBLAS computes the
same bits every time. On Hopper it is the default as well, on other cards that is 8,519,680 bytes.
"""

HIGHEST_SORTED = 3072
"""The most rows of which CUDA adds up the gradients of an embedding without sorting them first."""


class CudaFunctions(TorchFunctionMode):
    """Lets fake CPU tensors go where CUDA's would: which kernels are taken, and what code asks of a device."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in _DEVICE_QUESTIONS:
            return _DEVICE_QUESTIONS[func]
        if func is F.scaled_dot_product_attention:
            return _attention(*args, **(kwargs or {}))
        if func is F.dropout:
            return _dropout(*args, **(kwargs or {}))
        if func is torch.autograd.backward:
            (loss,) = args[0]
            with self:  # else what checkpointing computes again would take the CPU's kernels
                return _engine_run_backward(
                    (loss,), (torch.ones_like(loss),), False, False, (), allow_unreachable=True, accumulate_grad=True
                )
        return func(*args, **(kwargs or {}))


_DEVICE_QUESTIONS = {Tensor.is_cuda.__get__: True, Tensor.is_cpu.__get__: False}  # type: ignore[attr-defined]  # getters of C, unknown to the stubs


def _dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    return cast(Tensor, aten.native_dropout(x, p, True)[0]) if training and p else x


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """The kernel that PyTorch 2.13 chooses on cards from Ampere on that are no data centre's Hopper or Blackwell.

    Flash attention takes no mask and no fp32. Memory-efficient attention takes as many key heads as query heads. What
    neither takes is computed with all scores in memory, in fp32.
    """
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        query, key, value = (x.to(dtype) for x in (query, key, value))
        if attn_mask is not None and attn_mask.dtype != torch.bool:
            attn_mask = attn_mask.to(dtype)
    with torch.autocast("cpu", enabled=False):  # as inside an operation that autocast has cast for
        return _kernel(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)


def _kernel(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None,
    dropout_p: float,
    is_causal: bool,
    scale: float | None,
    enable_gqa: bool,
) -> Tensor:
    width = query.shape[-1]
    half = query.dtype in (torch.float16, torch.bfloat16)
    if attn_mask is None and half and width <= 256 and not dropout_p:
        padded = [F.pad(x, (0, -width % 8)) if width % 8 else x for x in (query, key, value)]
        output = aten._scaled_dot_product_flash_attention(*padded, 0.0, is_causal, scale=scale or width**-0.5)[0]
        return cast(Tensor, output[..., :width])
    if width % (8 if half else 4) == 0 and query.shape[-3] == key.shape[-3]:
        if attn_mask is not None:
            attn_mask = _bias(attn_mask, query)
        trains = torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value))
        efficient = aten._scaled_dot_product_efficient_attention
        return cast(Tensor, efficient(query, key, value, attn_mask, trains, dropout_p, is_causal, scale=scale)[0])
    plain = aten._scaled_dot_product_attention_math
    return cast(
        Tensor,
        plain(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)[0],
    )


def _bias(mask: Tensor, query: Tensor) -> Tensor:
    """The mask as the memory-efficient kernel takes it: added to scores, rows aligned to 8 numbers."""
    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, -math.inf)
    keys = mask.shape[-1]
    if keys % 8:
        mask = F.pad(mask, (0, -keys % 8))[..., :keys]
    return mask.expand(*query.shape[:-1], keys)


def _flash_backward(grad: Tensor, query: Tensor, key: Tensor, *args: Any, **kwargs: Any) -> list[int]:
    """Sums over rows, the gradient of queries in fp32, and with fewer key heads than query heads those of all heads."""
    rows, heads, length, width = query.shape
    rounded, wide = _up(length, 128), _up(width, 32 if width <= 128 else 64)
    expanded = 0 if key.shape[1] == heads else rows * heads * key.shape[2] * width * key.element_size()
    return [4 * rows * heads * rounded, 4 * rows * rounded * heads * wide, expanded, expanded]


def _efficient_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, *args: Any, most_splits: int = sys.maxsize, **kwargs: Any
) -> list[int]:
    """The sums over rows, and the gradient of queries in fp32; that of keys and values where heads are wide.

    most_splits: into how many blocks the keys of a row are divided at most.
    """
    rows, heads, length, width = query.shape
    keys = key.shape[2]
    half = query.dtype != torch.float32
    block, columns = 64 if width <= 64 or (half and width > 96) else 128, 64
    per_head = -(-length // block) * -(-width // columns) * (4 + block * columns)
    if half and width > 96:
        splits = max(1, min(-(-keys // columns), 200 // (rows * heads), most_splits))
        per_head += 2 * splits * columns * _up(width, block)
    product = 0 if half else grad.numel() * 4
    return [4 * rows * heads * length, product, 4 * rows * heads * _up(per_head, 4)]


def _embedding_backward(
    grad: Tensor, indices: Tensor, num_weights: int, padding_idx: int, scale_grad_by_freq: bool
) -> list[int]:
    """Indices are sorted, then partial sums of up to ten rows each are made in fp32."""
    count = indices.numel()
    if count <= HIGHEST_SORTED:
        return []
    segments = min(count, num_weights)
    partial = count // 10 + segments
    return [*_sort(count), 8 * segments, 8 * segments, 8 * segments, 8 * partial, 4 * partial * grad.shape[-1]]


def _index_put(
    x: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False, unsafe: bool = False
) -> list[int]:
    """What is added up is sorted by where it goes."""
    counts = [index.numel() for index in indices if index is not None]
    return [8 * max(counts), *_sort(max(counts))] if accumulate else []


def _scatter_add(x: Tensor, dim: int, index: Tensor, source: Tensor) -> list[int]:
    """Where determinism is asked for, it is an index_put_ at coordinates that are written out and flattened first."""
    coordinates = 8 * index.numel() * x.dim()
    return [coordinates, coordinates, 8 * index.numel(), 8 * index.numel(), *_sort(index.numel())]


def _sort(count: int) -> list[int]:
    """Sorted keys, where they came from, and a second buffer of both to sort in."""
    return [8 * count, 8 * count, 16 * count]


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


CUDA_WORKSPACES: dict[Any, Workspace] = {
    aten._scaled_dot_product_flash_attention_backward.default: _flash_backward,
    aten._scaled_dot_product_efficient_attention_backward.default: _efficient_backward,
    aten.embedding_dense_backward.default: _embedding_backward,
    aten._index_put_impl_.default: _index_put,
    aten.index_put_.default: _index_put,
    aten.index_put.default: _index_put,
}

DETERMINISTIC_WORKSPACES: dict[Any, Workspace] = {
    aten._scaled_dot_product_efficient_attention_backward.default: partial(_efficient_backward, most_splits=1),
    aten.scatter_add_.default: _scatter_add,
}
"""What takes another kernel, or another way through the same, under `torch.use_deterministic_algorithms`."""

MATRIX_PRODUCTS = {
    aten.mm.default,
    aten.addmm.default,
    aten.addmm_.default,
    aten.bmm.default,
    aten.baddbmm.default,
}
"""What cuBLAS computes, and with a workspace that stays."""
