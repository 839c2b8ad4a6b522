"""Linear maps for inference whose weights are smaller than fp32: writing one token is reading all weights once."""

from __future__ import annotations

import functools
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEW_ROWS = {torch.bfloat16: 4, torch.int8: 32}
"""Up to so many rows PyTorch's product with such weights is faster on a CPU than one in fp32."""


class BFloat16Linear(nn.Module):
    """A linear map without bias, its weights rounded to bfloat16; fp32 in and out."""

    weight: Tensor

    def __init__(self, weight_OI: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight_OI.detach().bfloat16())

    def forward(self, x: Tensor) -> Tensor:
        """The map's output [..., O] for x [..., I]."""
        few = x.numel() // x.shape[-1] <= FEW_ROWS[torch.bfloat16]
        if few or x.device.type != "cpu" or _has_bfloat16_products():
            return F.linear(x.bfloat16(), self.weight).float()
        return F.linear(x, self.weight.float())


class Int8Linear(nn.Module):
    """A linear map without bias, its weights rounded to int8 with a scale for each output; fp32 in and out. For CPUs.

    The scale is rounded to bfloat16 before the weights are, since PyTorch's product takes it in that type.
    """

    weight: Tensor
    scale: Tensor

    def __init__(self, weight_OI: Tensor) -> None:
        super().__init__()
        weight_OI = weight_OI.detach().float()
        largest_O = weight_OI.abs().amax(1).clamp(min=1e-30)
        scale_O = (largest_O / 127).bfloat16().float()
        self.register_buffer("scale", scale_O)
        rounded_OI = (weight_OI / scale_O[:, None]).round_().clamp_(-127, 127)
        self.register_buffer("weight", rounded_OI.to(torch.int8))

    def forward(self, x: Tensor) -> Tensor:
        """The map's output [..., O] for x [..., I]."""
        x_RI = x.reshape(-1, x.shape[-1])
        if len(x_RI) > FEW_ROWS[torch.int8]:
            return F.linear(x, self.weight.float().mul_(self.scale[:, None]))
        out_RO = torch.ops.aten._weight_int8pack_mm(x_RI.bfloat16(), self.weight, self.scale.bfloat16())
        return cast(Tensor, out_RO.float()).view(*x.shape[:-1], len(self.weight))


@functools.cache
def _has_bfloat16_products() -> bool:
    """Whether this CPU multiplies bfloat16 matrices; one that does not takes thirty times as long as in fp32."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
