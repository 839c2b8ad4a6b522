"""What the real training step allocates, found without running it: birth and death of every tensor, on fake tensors.

`trace` runs `minimind.training.loop.train` for a few steps under FakeTensorMode, where tensors have shapes and no
numbers, and writes down when each storage is born and when it dies. What kernels allocate for themselves never reaches
Python, so it is added by rule. There are two sets of rules: those of `minimind.device.cpu_kernels` are there to be
checked, for they can be measured, and those of `minimind.memory.cuda_kernels` are what a plan is made with. Casts of
weights, and how long they are kept, are autocast's own, which is the same code on every device.

Not in it: several processes (the buckets in which gradients are summed), torch.compile, cuDNN, staging buffers of
large reductions (kilobytes), random states that checkpointing keeps on the host (5 KB for each map with dropout).
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.autograd.graph import _engine_run_backward
from torch.utils._python_dispatch import TorchDispatchMode

from minimind.device.cpu_kernels import CPU_WORKSPACES
from minimind.device.storages import LiveStorages, result_kind, tensors_in
from minimind.memory.allocator import TensorEvent
from minimind.memory.cuda_kernels import (
    CUBLAS_WORKSPACE_BYTES,
    CUDA_WORKSPACES,
    DETERMINISTIC_WORKSPACES,
    MATRIX_PRODUCTS,
    CudaFunctions,
)
from minimind.training.objectives import Loss, Models
from minimind.training.recipe import Recipe
from minimind.training.trial_steps import run_trial_steps

aten = torch.ops.aten

Rules: TypeAlias = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Trace:
    """The events of a few steps. categories: by number of the tensor, what it is for. before: of the events those of
    what a source computes before it gives a step its batches, such as answers that are written.

    Weights come first. They are "weights", "adapters", or the name of a role that is not trained; then "gradients",
    "optimizer", "activations" (made in the forward pass), "logits", "casts" (of weights, by autocast), "workspace" (of
    a kernel), "batch", and "temporaries" (made in the backward pass or by the optimizer).
    """

    events: list[TensorEvent]
    categories: list[str]
    before: list[range]

    def peak(self) -> tuple[int, int]:
        """The most bytes alive at once, and after which event."""
        alive = self._alive()
        where = max(range(len(alive)), key=alive.__getitem__)
        return alive[where], where

    def phases(self) -> dict[str, int]:
        """The most bytes alive at once, by what is done: "writing", before a step's batches are there, and "learning".
        Empty where nothing is computed before.
        """
        alive = self._alive()
        writing = {index for part in self.before for index in part}
        if not writing:
            return {}
        learning = (size for index, size in enumerate(alive) if index not in writing)
        return {"writing": max(alive[index] for index in writing), "learning": max(learning)}

    def _alive(self) -> list[int]:
        """Bytes after each event."""
        sizes: dict[int, int] = {}
        alive, after = 0, []
        for number, size in self.events:
            if size:
                sizes[number] = size
                alive += size
            else:
                alive -= sizes.pop(number)
            after.append(alive)
        return after

    @property
    def peak_bytes(self) -> int:
        """The most bytes alive at once."""
        return self.peak()[0]

    def breakdown(self) -> dict[str, int]:
        """Bytes by category at the moment of the peak, largest first; they add up to `peak_bytes`."""
        alive: dict[int, int] = {}
        for number, size in self.events[: self.peak()[1] + 1]:
            if size:
                alive[number] = size
            else:
                del alive[number]
        sums: dict[str, int] = {}
        for number, size in alive.items():
            category = self.categories[number]
            sums[category] = sums.get(category, 0) + size
        return dict(sorted(sums.items(), key=lambda item: -item[1]))


def trace(make: Callable[[], Recipe], rules: Rules = "cuda", steps: int = 2) -> Trace:
    """The events of the first steps of a run.

    With four and more micro-batches the peak is that of three (see `minimind.training.trial_steps`), and what the
    allocator must reserve for it was within 1 %. Autocast drops its casts of weights together; the order in which they
    die is not fixed, here as on a device.

    make: builds everything on the CPU; it is called where tensors are fake, so it costs no memory. steps: 2 are enough:
    the first creates the optimizer's state, the second is like all that follow.
    """
    with FakeTensorMode() as fake:
        recipe = make()
        recorder = _Recorder(rules, fake, recipe.loop.deterministic)
        recorder.add_models(recipe.models)
        worst, beside = recipe.worst, recipe.beside
        if rules == "cuda":
            worst, beside = (_HostBatch(batch, recorder) if batch is not None else None for batch in (worst, beside))
        else:
            recorder.add(tensors_in([worst, beside]), "batch")
        recorder.add(tensors_in(recipe.optimizer.state_dict()), "optimizer")
        with recorder, CudaFunctions() if rules == "cuda" else contextlib.nullcontext():
            watched = _Watched(recorder, recipe)
            told = dataclasses.replace(
                recipe,
                objective=watched.objective,
                optimizer=watched,
                worst=worst,
                beside=beside,
                worst_take=watched.take if recipe.worst_take is not None else None,
            )
            run_trial_steps(told, steps)
        recorder.listening = False
    return Trace(recorder.events, recorder.categories, watched.before)


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's __init_subclass__
    """Every operation below autograd and autocast passes through here; what it creates is written down."""

    def __init__(self, rules: Rules, fake: FakeTensorMode, deterministic: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.events: list[TensorEvent] = []
        self.categories: list[str] = []
        self.phase = "optimizer"
        self.vocabulary: set[int] = set()
        self.leaves: set[int] = set()
        self.listening = True
        self._alive = LiveStorages(self._died)
        self._shapes = _Shapes(fake)
        self._workspaces = CPU_WORKSPACES
        if rules == "cuda":
            self._workspaces = CUDA_WORKSPACES | (DETERMINISTIC_WORKSPACES if deterministic else {})
        self._has_cublas = rules == "cuda"
        self._cublas_of: set[str] = set()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and skipping costs two frames for every operation

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.prim.device.default:
            return torch.device("cpu")  # asked so often that the answer is worth a short cut
        if func is aten._local_scalar_dense.default:
            return 1  # the loop reads its loss and its norm: finite numbers
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunction():
            if func is aten.add.Tensor and sys._getframe(1).f_code is _ENGINE and (total := _sum_in_place(*args)):
                return total[0]
            kind = result_kind(func)
            result = self._shapes.run(func, args, kwargs) if kind in ("new", "view") else None
            if result is None:
                result = args[0] if kind == "in place" else func(*args, **kwargs)
            if kind in ("new", "several"):
                category = "activations" if self.phase == "forward" else "temporaries"
                if func is aten._to_copy.default and id(args[0]) in self.leaves:
                    category = "casts"
                for tensor in result if isinstance(result, (tuple, list)) else (result,):
                    if isinstance(tensor, Tensor):
                        self._born(tensor, category)
            workspace = self._workspaces.get(func)
            if workspace is not None:
                self._transient(workspace(*args, **kwargs))
            elif self._has_cublas and func in MATRIX_PRODUCTS:
                self._cublas()
        return result

    def add_models(self, models: Models) -> None:
        """Write down models that exist already, in the order of their parameters."""
        for role, model in models.items():
            trained = any(parameter.requires_grad for parameter in model.parameters())
            config = getattr(model, "config", None)
            if (size := getattr(config, "vocab_size", None)) is not None:
                self.vocabulary.add(size)
            for name, parameter in model.named_parameters():
                own = "adapters" if ".lora_" in name else "weights"
                self.add([parameter], own if trained else role)
                self.leaves.add(id(parameter))
            self.add(model.buffers(), "weights" if trained else role)

    def add(self, tensors: Iterable[Tensor], category: str) -> None:
        """Write down tensors that exist already."""
        for tensor in tensors:
            self._born(tensor, category)

    def name(self, tensors: Iterable[Tensor], category: str) -> None:
        """Say what tensors are for, now that it is known."""
        with torch._C.DisableTorchFunction():
            for tensor in tensors:
                number = self._alive.number(tensor)
                if number is not None:
                    self.categories[number] = category

    def _born(self, tensor: Tensor, category: str) -> None:
        number = len(self.categories)
        size = self._alive.add(tensor, number)
        if not size:
            return
        if category != "weights" and tensor.dim() > 1 and tensor.shape[-1] in self.vocabulary:
            category = "logits"
        self._event(size, category)

    def _event(self, size: int, category: str) -> int:
        number = len(self.categories)
        self.categories.append(category)
        self.events.append((number, size))
        return number

    def _died(self, number: int, size: int) -> None:
        if self.listening:
            self.events.append((number, 0))

    def _transient(self, sizes: Iterable[int]) -> None:
        numbers = [self._event(size, "workspace") for size in sizes if size]
        self.events += [(number, 0) for number in reversed(numbers)]

    def _cublas(self) -> None:
        """One workspace for the thread that runs the loop, one for that of the backward pass; both stay."""
        thread = "backward" if self.phase == "backward" else "main"
        if thread not in self._cublas_of:
            self._cublas_of.add(thread)
            self._event(CUBLAS_WORKSPACE_BYTES, "workspace")


class _Shapes:
    """The results of operations that came before with arguments of the same shapes. FakeTensorMode keeps them as well,
    under a key that takes four times as long to make.
    """

    def __init__(self, fake: FakeTensorMode) -> None:
        self.fake = fake
        self.known: dict[Any, tuple[Any, ...]] = {}

    def run(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor | None:
        """A new tensor or a view of the first argument; None where only the operation itself can tell."""
        key: list[Any] = [func, *kwargs.items()]
        for arg in args:
            if isinstance(arg, Tensor):
                if not arg.dim():
                    return None  # whether it counts in the result's type depends on where it comes from
                key += (arg.shape, arg.stride(), arg.dtype, arg.storage_offset())
            elif isinstance(arg, (list, tuple)):
                if any(isinstance(item, Tensor) for item in arg):
                    return None
                key.append(tuple(arg))
            else:
                key += (type(arg), arg)
        name = tuple(key)
        known = self.known.get(name)
        if known is None:
            result = cast(Tensor, func(*args, **kwargs))
            where = (result.shape, result.stride(), result.storage_offset())
            if isinstance(args[0], Tensor) and result.untyped_storage()._cdata == args[0].untyped_storage()._cdata:
                self.known[name] = (None, where)  # not only views: _unsafe_view does not say that it is one
            else:
                self.known[name] = (result.dtype, where)
            return result
        dtype, where = known
        with torch._C._DisableTorchDispatch():
            if dtype is None:
                plain = torch.as_strided(args[0], *where)
            else:
                plain = torch.empty_strided(*where[:2], dtype=dtype, device="meta")
        return FakeTensor(self.fake, plain, torch.device("cpu"))


_ENGINE = _engine_run_backward.__code__


def _sum_in_place(*summands: Tensor) -> list[Tensor]:
    """What the autograd engine does where two gradients meet and it alone holds one of them: it adds to that one. With
    fake tensors it never does, so it is done here. Empty if neither is the engine's alone.
    """
    for index, own in enumerate(summands):
        storage = own.untyped_storage()
        holders: int = own._use_count()  # type: ignore[attr-defined]  # torch's stubs leave it out
        if holders == _ENGINE_HOLDS and torch._C._storage_Use_Count(storage._cdata) == 2 and _is_dense(own):
            return [own.add_(summands[1 - index])]
    return []


_ENGINE_HOLDS = 4
"""References to a tensor that nothing but the engine's buffer and the call at hand hold."""


def _is_dense(x: Tensor) -> bool:
    """Whether its elements fill its memory without gaps or overlaps, in any order of dimensions."""
    expected = 1
    for stride, size in sorted(zip(x.stride(), x.shape, strict=True)):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


class _Watched:
    """The step's objective and optimizer, what is computed before it, and what the recorder learns from being told
    where the step stands.
    """

    def __init__(self, recorder: _Recorder, recipe: Recipe) -> None:
        self.recorder = recorder
        self.inner = recipe.optimizer
        self.made = recipe.objective
        self.computed_before = recipe.worst_take
        self.before: list[range] = []
        self.param_groups = recipe.optimizer.param_groups
        self.named = False

    def objective(self, models: Models, batch: Any) -> Loss:
        self.recorder.phase = "forward"
        loss = self.made(models, batch)
        self.recorder.phase = "backward"
        return loss

    def take(self) -> None:
        assert self.computed_before is not None
        begin = len(self.recorder.events)
        self.computed_before()
        self.before.append(range(begin, len(self.recorder.events)))

    def step(self) -> None:
        self.recorder.phase = "optimizer"
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        self.recorder.name(gradients, "gradients")
        self.inner.step()
        if not self.named:
            self.recorder.name(tensors_in(self.inner.state_dict()), "optimizer")
            self.named = True

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.inner.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        return self.inner.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.inner.load_state_dict(state_dict)


@dataclass(frozen=True)
class _HostBatch:
    """A batch in the host's memory: it exists on the device from `to` on."""

    batch: Any
    recorder: _Recorder

    @property
    def rows(self) -> tuple[int, ...]:
        return cast(tuple[int, ...], self.batch.rows)

    @property
    def real_tokens(self) -> int:
        return self.slots

    @property
    def slots(self) -> int:
        return cast(int, self.batch.slots)

    @property
    def width(self) -> int:
        return cast(int, self.batch.width)

    def halved(self) -> _HostBatch:
        return dataclasses.replace(self, batch=self.batch.halved())

    def split(self, rows: int) -> list[_HostBatch]:
        return [dataclasses.replace(self, batch=part) for part in self.batch.split(rows)]

    def to(self, device: torch.device) -> Any:
        copy = _copied(self.batch)
        self.recorder.name(tensors_in(copy), "batch")
        return copy


def _copied(batch: Any) -> Any:
    """A batch with tensors of its own, those of batches in it included."""
    copies: dict[str, Any] = {}
    for item in dataclasses.fields(batch):
        value = getattr(batch, item.name)
        if isinstance(value, Tensor):
            copies[item.name] = value.clone()
        elif dataclasses.is_dataclass(value):
            copies[item.name] = _copied(value)
    return dataclasses.replace(batch, **copies)
