"""The dtype that a run computes in: one for all workers and for its whole life."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from typing import Any

import torch

from minimind.device.distributed import Parallel

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
"""What autocast computes in, by name, from what every device has to what only newer ones have."""


class Precision:
    """Autocast in one dtype, and gradient scaling where that dtype is float16. It stays what it was for the life of a
    run: gradients in one dtype and a scaler's state for another do not go together.

    units_per_step: about how many units (tokens) one optimizer step sums over. The loss is a sum, not a mean, so the
    scaler starts that much lower; it finds its own way from there.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device, units_per_step: int = 1) -> None:
        self.device = device
        self._initial = 2.0 ** (16 - math.ceil(math.log2(max(1, units_per_step))))
        self._set(dtype)

    def _set(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        scales = dtype == torch.float16
        self.scaler = torch.amp.GradScaler(self.device.type, init_scale=self._initial, enabled=scales)
        # The scale is made on first use, and the first step of a rank may have no rows to use it on.
        self.scaler.scale(torch.zeros((), device=self.device))

    @property
    def name(self) -> str:
        """That of the dtype, as `LoopConfig.dtype` has it."""
        return next(name for name, dtype in DTYPES.items() if dtype == self.dtype)

    def state_dict(self) -> dict[str, Any]:
        """`dtype` by name, and the `scaler`'s state."""
        return {"dtype": self.name, "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave, the dtype included. A state from before dtypes were kept has none: then
        this one's stays.
        """
        self._set(DTYPES[state.get("dtype", self.name)])
        self.scaler.load_state_dict(state["scaler"])

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The context that a forward pass runs in."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """The autocast dtype that a `LoopConfig.dtype` means on the CPU or this process's own GPU, where nobody has
    measured.
    """
    if name != "auto":
        return DTYPES[name]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def common_dtype(name: str, parallel: Parallel) -> torch.dtype:
    """The one that all ranks compute in: that of the least capable device. Where each took its own, gradients with and
    without a loss scale would be added up.
    """
    if name != "auto":
        return DTYPES[name]
    order = list(DTYPES.values())
    return min(parallel.gather(resolve_dtype(name, parallel.device)), key=order.index)
