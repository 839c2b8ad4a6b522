"""The three elementwise pieces of a block as autograd functions: RMS norm, rotary rotation, SwiGLU's product.

Written out by PyTorch's own autograd each of them passes over memory two to five times as often and keeps one or two
more tensors for the backward pass. Here each keeps only its input. Inputs may be half precision (autocast): everything
is computed in fp32 and given back in the input's type.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMS norm (Zhang and Sennrich 2019) over the last dimension: x / sqrt(mean(x^2) + eps) * weight, typed as x."""
    if not torch.is_grad_enabled():  # a Function costs as much as the arithmetic of one token
        return _norm(x, weight, eps)[0]
    return cast(Tensor, _RMSNorm.apply(x, weight, eps))  # type: ignore[no-untyped-call]


def rotate(x_BTHE: Tensor, cos_BT1E: Tensor, sin_BT1E: Tensor) -> Tensor:
    """Turns the dimension pairs (i, i + E/2) of every head by the angle of its position (Su et al. 2021).

    cos_BT1E and sin_BT1E are fp32 and hold each angle twice, as Hugging Face lays them out.
    """
    if not torch.is_grad_enabled():
        return _turn(x_BTHE, cos_BT1E, sin_BT1E, 1.0)
    return cast(Tensor, _Rotate.apply(x_BTHE, cos_BT1E, sin_BT1E))  # type: ignore[no-untyped-call]


def silu_product(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up."""
    if not torch.is_grad_enabled():
        return F.silu(gate).mul_(up)
    return cast(Tensor, _SiluProduct.apply(gate, up))  # type: ignore[no-untyped-call]


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        normed, inverse = _norm(x, weight, eps)
        ctx.save_for_backward(x, weight, inverse)
        return normed

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        x, weight, inverse = ctx.saved_tensors
        normed = x.float() * inverse
        along = normed * grad
        grad_weight = None
        if ctx.needs_input_grad[1]:
            grad_weight = along.sum(dim=tuple(range(along.dim() - 1))).to(weight.dtype)
        mean_along = along.mul_(weight).mean(dim=-1, keepdim=True)
        grad_x = normed.mul_(-mean_along).addcmul_(grad.float(), weight.float()).mul_(inverse)
        return grad_x.to(x.dtype), grad_weight, None


def _norm(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The normed x and, in fp32, what every vector was multiplied by."""
    x_32 = x.float()
    length = torch.linalg.vector_norm(x_32, dim=-1, keepdim=True)
    inverse: Tensor = length.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    return (x_32 * inverse).mul_(weight).to(x.dtype), inverse


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin, 1.0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turn(grad, cos, sin, -1.0), None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor, direction: float) -> Tensor:
    half = x.shape[-1] // 2
    x_32 = x.float()
    turned = x_32 * cos
    turned[..., :half].addcmul_(x_32[..., half:], sin[..., :half], value=-direction)
    turned[..., half:].addcmul_(x_32[..., :half], sin[..., half:], value=direction)
    return turned.to(x.dtype)


class _SiluProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        grad_gate = torch.ops.aten.silu_backward(grad * up, gate)
        return grad_gate, F.silu(gate).mul_(grad)
