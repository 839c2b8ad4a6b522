"""A limit on the memory that training may take: the card's own on a GPU, an emulated one on a CPU.

The emulated limit sees every operation below autograd, as `minimind.memory.trace` does, on real tensors: so what
happens on a small card can be made to happen, and tested, without one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack

from minimind.device.cpu_kernels import CPU_WORKSPACES
from minimind.device.storages import LiveStorages, ResultKind, Workspace, result_kind, tensors_in
from minimind.language import say
from minimind.units import memory

OUT_OF_MEMORY = (
    "out of memory",  # the caching allocator, the CUDA runtime, NCCL, Triton
    "_ALLOC_FAILED",  # CUBLAS_STATUS_, CUSOLVER_STATUS_, CUDNN_STATUS_
    "ALLOCATION_FAILED",  # CUDNN_STATUS_INTERNAL_ERROR_HOST_ and _DEVICE_
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",  # the same on Windows
)
"""What errors say that have no type of their own. torch.OutOfMemoryError is what the caching allocator alone raises."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on the device or on the host: the one place that knows all kinds."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in OUT_OF_MEMORY)


class MemoryLimit(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's __init_subclass__
    """Counts the bytes of the CPU tensors that are made while it is entered, and of what `count_tensors` is told of.

    What would hold more than `limit_bytes` (None: there is no limit) raises torch.OutOfMemoryError. peak_bytes: the
    most held at once, scratch space of kernels included. It is that of the calling thread: what other threads make
    counts once `count_tensors` is told of it.
    """

    def __init__(self, limit_bytes: int | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.limit_bytes = limit_bytes
        self.held_bytes: int = 0
        self.peak_bytes: int = 0
        self._rules: dict[int, tuple[ResultKind, Workspace | None]] = {}
        self._storages = LiveStorages(self._died)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # skipping costs two frames for every operation

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        with torch._C.DisableTorchFunction():
            result = func(*args, **kwargs) if kwargs else func(*args)
            # By identity: an operation's own hash is computed in Python, anew each time.
            kind, workspace = self._rules.get(id(func)) or self._rule(func)
            if kind == "new":
                self._born(result)
            elif kind == "several":
                self.count_tensors(result)
            if workspace is not None and (scratch := sum(workspace(*args, **kwargs or {}))):
                self._require(scratch, self.held_bytes + scratch)
        return result

    def _rule(self, func: Any) -> tuple[ResultKind, Workspace | None]:
        return self._rules.setdefault(id(func), (result_kind(func), CPU_WORKSPACES.get(func)))

    def count_tensors(self, values: Any) -> None:
        """Count tensors that exist already, in nested containers or fields of dataclasses; each counts once."""
        for tensor in tensors_in(values):
            self._born(tensor)

    def _born(self, tensor: Tensor) -> None:
        if tensor.is_cpu and (size := self._storages.add(tensor)):
            self.held_bytes += size
            self._require(size, self.held_bytes)

    def _died(self, number: int, size: int) -> None:
        self.held_bytes -= size

    def _require(self, asked: int, held: int) -> None:
        if self.limit_bytes is not None and held > self.limit_bytes:
            raise torch.OutOfMemoryError(
                say(
                    "{asked} more were asked for with {held} in use: the limit is {limit}",
                    asked=memory(asked),
                    held=memory(held - asked),
                    limit=memory(self.limit_bytes),
                )
            )
        self.peak_bytes = max(self.peak_bytes, held)


def active() -> MemoryLimit | None:
    """The innermost limit that this thread has entered."""
    modes = reversed(_get_current_dispatch_mode_stack())
    return next((mode for mode in modes if isinstance(mode, MemoryLimit)), None)


def count_tensors(*values: Any) -> None:
    """Count tensors that were made elsewhere towards the active limit, if there is one."""
    if (limit := active()) is not None:
        limit.count_tensors(values)


def is_limited(device: torch.device) -> bool:
    """Whether tensors on the device can run out of memory in a way that can be caught: a GPU's, or an emulated limit's.

    Elsewhere the operating system ends the process.
    """
    return device.type == "cuda" or ((limit := active()) is not None and limit.limit_bytes is not None)


@contextmanager
def limited_memory(device: torch.device, limit_bytes: int | None) -> Iterator[None]:
    """In here this process holds no more than `limit_bytes` bytes on the device; None: as many as there are.

    On a GPU it is what the caching allocator may reserve, without the CUDA context. That keeps clear of the point where
    a driver would silently move memory to the host.
    """
    if limit_bytes is None:
        yield
    elif device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        # Less than nothing is left where a limit is smaller than context and display: the first tensor says so.
        torch.cuda.set_per_process_memory_fraction(max(0.0, min(1.0, limit_bytes / total)), device)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, device)
    else:
        with MemoryLimit(limit_bytes):
            yield
