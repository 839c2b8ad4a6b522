"""Kernels that give the same bits every time they are given the same numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from minimind.language import say


@contextmanager
def deterministic(device: torch.device, wanted: bool = True) -> Iterator[None]:
    """In here a GPU takes kernels that add in a fixed order.

    All that training computes has such a kernel in PyTorch 2.13 (`tests/unit/test_deterministic.py` looks at every
    operation). The attention kernel for masked rows then walks over the keys of a row in one go, where it would add
    gradients of several blocks as they come. cuBLAS wants CUBLAS_WORKSPACE_CONFIG besides, which `jobs` sets before
    PyTorch is loaded. On a CPU, or where it is not wanted, nothing changes.

    Raises ValueError, in words, for an operation that has no such kernel.
    """
    if device.type != "cuda" or not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    settings: Any = torch.utils.deterministic  # a module whose attribute is a property
    fills = settings.fill_uninitialized_memory
    # Else each new tensor would be filled with NaN first, to show who reads what nobody has written.
    settings.fill_uninitialized_memory = False
    torch.use_deterministic_algorithms(True)
    try:
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        raise ValueError(
            say(
                "loop.deterministic = true, and the step has an operation that cannot be repeated to "
                "the last bit: {error} To train without that promise: --set loop.deterministic=false",
                error=error,
            )
        ) from error
    finally:
        torch.use_deterministic_algorithms(before)
        settings.fill_uninitialized_memory = fills
