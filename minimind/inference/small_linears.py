"""Linear maps for inference whose weights are smaller than fp32: writing one token is reading all weights once.

On a CPU decode.c multiplies, or PyTorch in fp32 with some of the weights turned back at a time: kernels for products of
such weights are other ones on each processor, with limits and rounding of their own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minimind.inference.compiled import can_multiply, product

CHUNK_NUMBERS = 1 << 20
"""Where PyTorch multiplies, the most weights that are in fp32 at once."""


class BFloat16Linear(nn.Module):
    """A linear map without bias, its weights rounded to bfloat16; fp32 in and out."""

    weight: Tensor

    def __init__(self, weight_OI: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", torch.empty_like(weight_OI, dtype=torch.bfloat16, requires_grad=False))
        self.take(weight_OI)

    @torch.no_grad()
    def take(self, weight_OI: Tensor) -> None:
        """Round these weights, in place of those there are."""
        self.weight.copy_(weight_OI)

    def forward(self, x: Tensor) -> Tensor:
        """The map's output [..., O] for x [..., I]."""
        if x.device.type != "cpu":
            return F.linear(x.bfloat16(), self.weight).float()
        return _multiply(x, self.weight, None)


class Int8Linear(nn.Module):
    """A linear map without bias for CPUs, its weights rounded to int8 with a scale for each output; fp32 in and out."""

    weight: Tensor
    scale: Tensor

    def __init__(self, weight_OI: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", torch.empty_like(weight_OI, dtype=torch.int8, requires_grad=False))
        self.register_buffer("scale", torch.empty(len(weight_OI), device=weight_OI.device))
        self.take(weight_OI)

    @torch.no_grad()
    def take(self, weight_OI: Tensor) -> None:
        """Round these weights, in place of those there are."""
        weight_OI = weight_OI.float()
        self.scale.copy_(weight_OI.abs().amax(1).clamp(min=1e-30) / 127)
        self.weight.copy_((weight_OI / self.scale[:, None]).round_().clamp_(-127, 127))

    def forward(self, x: Tensor) -> Tensor:
        """The map's output [..., O] for x [..., I]."""
        return _multiply(x, self.weight, self.scale)


def _multiply(x: Tensor, weight_OI: Tensor, scale_O: Tensor | None) -> Tensor:
    """The product x @ (weight * scale).T in fp32."""
    x_RI = x.reshape(-1, x.shape[-1]).float()
    if can_multiply(x_RI, weight_OI):
        out_RO = product(x_RI, weight_OI, scale_O)
    else:
        rows = max(1, CHUNK_NUMBERS // weight_OI.shape[1])
        chunks = torch.split(weight_OI, rows)
        out_RO = torch.cat([F.linear(x_RI, chunk_CI.float()) for chunk_CI in chunks], dim=1)
        if scale_O is not None:
            out_RO *= scale_O
    return out_RO.view(*x.shape[:-1], len(weight_OI))
