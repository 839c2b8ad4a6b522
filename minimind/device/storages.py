"""What operations below autograd create, and how long it lives: what the trace of a step and a limit on it have in
common.
"""

from __future__ import annotations

import dataclasses
import functools
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor


class LiveStorages:
    """The storages that are alive, of all tensors that were added: each is born once and dies once.

    died: called with the number and the size in bytes of a storage that has died.
    """

    def __init__(self, died: Callable[[int, int], None]) -> None:
        self._died = died
        self._alive: dict[int, tuple[int, weakref.ref[Any]]] = {}

    def add(self, tensor: Tensor, number: int = 0) -> int:
        """Take note of a tensor's storage; its size in bytes if it was not known, else 0."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._alive:
            return 0
        size = storage.nbytes()
        if size:
            self._alive[key] = number, weakref.ref(storage, lambda _: self._dead(key, number, size))
        return size

    def number(self, tensor: Tensor) -> int | None:
        """The number that the tensor's storage was added with, None if it was not."""
        known = self._alive.get(tensor.untyped_storage()._cdata)
        return known[0] if known else None

    def _dead(self, key: int, number: int, size: int) -> None:
        del self._alive[key]
        self._died(number, size)


ResultKind: TypeAlias = Literal["new", "several", "in place", "view", "views"]


@functools.cache
def result_kind(operation: Any) -> ResultKind:
    """Whether an operation's result is a new tensor, several of which some are new, its own first argument, or no more
    than views.
    """
    returns = operation._schema.returns
    if len(returns) == 1 and returns[0].alias_info is None and str(returns[0].type) == "Tensor":
        return "new"
    if any(output.alias_info is None for output in returns):
        return "several"
    if returns and returns[0].alias_info.is_write and torch.Tag.pointwise in operation.tags:
        return "in place"
    return "view" if len(returns) == 1 and str(returns[0].type) == "Tensor" else "views"


def tensors_in(values: Any) -> list[Tensor]:
    """All tensors in nested containers, or in the fields of a dataclass."""
    if isinstance(values, Tensor):
        return [values]
    if dataclasses.is_dataclass(values):
        values = [getattr(values, item.name) for item in dataclasses.fields(values)]
    if isinstance(values, Mapping):
        values = list(values.values())
    if isinstance(values, (list, tuple)):
        return [tensor for value in values for tensor in tensors_in(value)]
    return []


Workspace: TypeAlias = Callable[..., list[int]]
"""An operation's arguments -> the sizes in bytes of what its kernel allocates for as long as it runs."""
