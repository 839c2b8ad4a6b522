"""What the real training step allocates, found without running it: birth and death of every tensor, on fake tensors.

`trace` runs `minimind.loop.train` for a few steps under FakeTensorMode, where tensors have shapes and no numbers, and
writes down when each storage is born and when it dies. What kernels allocate for themselves never reaches Python, so it
is added by rule. There are two sets of rules:

"cpu": what PyTorch's CPU kernels do. It is there to be checked: it equals the events of the C++ allocator
(torch.profiler with profile_memory) in the same step. It does so in half precision where oneDNN does not multiply
natively (ONEDNN_MAX_CPU_ISA=AVX2): with AVX-512 or AMX it packs the operands of each product into scratch space whose
size depends on the instruction set, the caches and the shape, which no rule here follows. Up to 15 % more was seen.

"cuda": what the CUDA kernels of PyTorch 2.13 do by its source, some of it read in neighbouring versions, none of it
measured: the attention kernel that scaled_dot_product_attention would choose
(ATen/native/transformers/cuda/sdp_utils.cpp) and the scratch space of its backward pass
(mem_eff_attention/kernel_backward.h, flash_attn/flash_api.cpp), both with and without deterministic kernels
(`LoopConfig.deterministic`), cuBLAS workspaces (ATen/cuda/CublasHandlePool.cpp),
sorting in the backward pass of embeddings and indexing (ATen/native/cuda/EmbeddingBackwardKernel.cu, Indexing.cu),
batches that come from the host. Casts of weights, and how long they are kept, are autocast's own, which is the same
code on every device.

Not in it: several processes (the buckets in which gradients are summed), torch.compile, cuDNN, staging buffers of
large reductions (kilobytes), random states that checkpointing keeps on the host (5 KB for each map with dropout).
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.autograd.graph import _engine_run_backward
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from minimind.allocator import Event
from minimind.objectives import Loss, Models
from minimind.recipe import Recipe
from minimind.storages import CPU_WORKSPACES, Storages, Workspace, gives, tensors_in
from minimind.trial_steps import run_trial_steps

aten = torch.ops.aten

Rules: TypeAlias = Literal["cpu", "cuda"]

CUBLAS_WORKSPACE_BYTES = 8 * 4096 * 1024
"""Of each handle: CUBLAS_WORKSPACE_CONFIG is :4096:8 (`jobs` sets it), one of two values with which cuBLAS computes the
same bits every time. On Hopper it is the default as well, on other cards that is 8,519,680 bytes.
"""

HIGHEST_SORTED = 3072
"""Up to so many rows CUDA adds up the gradients of an embedding without sorting them first."""


@dataclass(frozen=True)
class Trace:
    """The events of a few steps. categories: by number of the tensor, what it is for.

    Weights come first. They are "weights", "adapters", or the name of a role that is not trained; then "gradients",
    "optimizer", "activations" (made in the forward pass), "logits", "casts" (of weights, by autocast), "workspace" (of
    a kernel), "batch", and "temporaries" (made in the backward pass or by the optimizer).
    """

    events: list[Event]
    categories: list[str]

    def peak(self) -> tuple[int, int]:
        """The most bytes alive at once, and after which event."""
        sizes: dict[int, int] = {}
        alive = most = where = 0
        for index, (number, size) in enumerate(self.events):
            if size:
                sizes[number] = size
                alive += size
                if alive > most:
                    most, where = alive, index
            else:
                alive -= sizes.pop(number)
        return most, where

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

    With four and more micro-batches the peak is that of three (see `minimind.trial_steps`), and what the allocator must
    reserve for it was within 1 %. Casts of weights that autocast drops together die in an order of their own, here as
    for real.

    make: builds everything on the CPU; it is called where tensors are fake, so it costs no memory. steps: 2 are enough:
    the first creates the optimizer's state, the second is like all that follow.
    """
    with FakeTensorMode() as fake:
        recipe = make()
        recorder = _Recorder(rules, fake, recipe.loop.deterministic)
        recorder.adopt_models(recipe.models)
        batch = recipe.worst
        if rules == "cuda":
            batch = _HostBatch(batch, recorder)
        else:
            recorder.adopt(tensors_in(batch), "batch")
        recorder.adopt(tensors_in(recipe.optimizer.state_dict()), "optimizer")
        with recorder, _CudaFunctions() if rules == "cuda" else contextlib.nullcontext():
            watched = _Watched(recorder, recipe)
            told = dataclasses.replace(recipe, objective=watched.objective, optimizer=watched, worst=batch)
            run_trial_steps(told, steps)
        recorder.listening = False
    return Trace(recorder.events, recorder.categories)


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's __init_subclass__
    """Sees every operation below autograd and autocast, and what it creates."""

    def __init__(self, rules: Rules, fake: FakeTensorMode, deterministic: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.events: list[Event] = []
        self.categories: list[str] = []
        self.phase = "optimizer"
        self.vocabulary: set[int] = set()
        self.leaves: set[int] = set()
        self.listening = True
        self._alive = Storages(self._died)
        self._shapes = _Shapes(fake)
        self._workspaces = CPU_WORKSPACES
        if rules == "cuda":
            self._workspaces = _CUDA_WORKSPACES | (_DETERMINISTIC_WORKSPACES if deterministic else {})
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
            kind = gives(func)
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
            elif self._has_cublas and func in _MATRIX_PRODUCTS:
                self._cublas()
        return result

    def adopt_models(self, models: Models) -> None:
        """Models that exist already, in the order of their parameters."""
        for role, model in models.items():
            trained = any(parameter.requires_grad for parameter in model.parameters())
            config = getattr(model, "config", None)
            if (size := getattr(config, "vocab_size", None)) is not None:
                self.vocabulary.add(size)
            for name, parameter in model.named_parameters():
                own = "adapters" if ".lora_" in name else "weights"
                self.adopt([parameter], own if trained else role)
                self.leaves.add(id(parameter))
            self.adopt(model.buffers(), "weights" if trained else role)

    def adopt(self, tensors: Iterable[Tensor], category: str) -> None:
        """Tensors that exist already."""
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
    """The step's objective and optimizer, and what the recorder learns from being told where the step stands."""

    def __init__(self, recorder: _Recorder, recipe: Recipe) -> None:
        self.recorder = recorder
        self.inner = recipe.optimizer
        self.made = recipe.objective
        self.param_groups = recipe.optimizer.param_groups
        self.named = False

    def objective(self, models: Models, batch: Any) -> Loss:
        self.recorder.phase = "forward"
        loss = self.made(models, batch)
        self.recorder.phase = "backward"
        return loss

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
        names = [item.name for item in dataclasses.fields(self.batch)]
        values = {name: getattr(self.batch, name) for name in names}
        copies = {name: value.clone() for name, value in values.items() if isinstance(value, Tensor)}
        self.recorder.name(copies.values(), "batch")
        return dataclasses.replace(self.batch, **copies)


class _CudaFunctions(TorchFunctionMode):
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


_DEVICE_QUESTIONS = {Tensor.is_cuda.__get__: True, Tensor.is_cpu.__get__: False}  # type: ignore[attr-defined]


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


def _flash_backward_cuda(grad: Tensor, query: Tensor, key: Tensor, *args: Any, **kwargs: Any) -> list[int]:
    """Sums over rows, the gradient of queries in fp32, and with fewer key heads than query heads those of all heads."""
    rows, heads, length, width = query.shape
    rounded, wide = _up(length, 128), _up(width, 32 if width <= 128 else 64)
    expanded = 0 if key.shape[1] == heads else rows * heads * key.shape[2] * width * key.element_size()
    return [4 * rows * heads * rounded, 4 * rows * rounded * heads * wide, expanded, expanded]


def _efficient_backward_cuda(
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


def _embedding_backward_cuda(
    grad: Tensor, indices: Tensor, num_weights: int, padding_idx: int, scale_grad_by_freq: bool
) -> list[int]:
    """Indices are sorted, then partial sums of up to ten rows each are made in fp32."""
    count = indices.numel()
    if count <= HIGHEST_SORTED:
        return []
    segments = min(count, num_weights)
    partial = count // 10 + segments
    return [*_sort_cuda(count), 8 * segments, 8 * segments, 8 * segments, 8 * partial, 4 * partial * grad.shape[-1]]


def _index_put_cuda(
    x: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False, unsafe: bool = False
) -> list[int]:
    """What is added up is sorted by where it goes."""
    counts = [index.numel() for index in indices if index is not None]
    return [8 * max(counts), *_sort_cuda(max(counts))] if accumulate else []


def _scatter_add_cuda(x: Tensor, dim: int, index: Tensor, source: Tensor) -> list[int]:
    """Where determinism is asked for, it is an index_put_ at coordinates that are written out and flattened first."""
    coordinates = 8 * index.numel() * x.dim()
    return [coordinates, coordinates, 8 * index.numel(), 8 * index.numel(), *_sort_cuda(index.numel())]


def _sort_cuda(count: int) -> list[int]:
    """Sorted keys, where they came from, and a second buffer of both to sort in."""
    return [8 * count, 8 * count, 16 * count]


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


_CUDA_WORKSPACES: dict[Any, Workspace] = {
    aten._scaled_dot_product_flash_attention_backward.default: _flash_backward_cuda,
    aten._scaled_dot_product_efficient_attention_backward.default: _efficient_backward_cuda,
    aten.embedding_dense_backward.default: _embedding_backward_cuda,
    aten._index_put_impl_.default: _index_put_cuda,
    aten.index_put_.default: _index_put_cuda,
    aten.index_put.default: _index_put_cuda,
}

_DETERMINISTIC_WORKSPACES: dict[Any, Workspace] = {
    aten._scaled_dot_product_efficient_attention_backward.default: partial(_efficient_backward_cuda, most_splits=1),
    aten.scatter_add_.default: _scatter_add_cuda,
}
"""What takes another kernel, or another way through the same, under `torch.use_deterministic_algorithms`."""

_MATRIX_PRODUCTS = {
    aten.mm.default,
    aten.addmm.default,
    aten.addmm_.default,
    aten.bmm.default,
    aten.baddbmm.default,
}
