"""The same model with smaller weights, and which weights are the fastest ones that lose nothing worth mentioning."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args
from weakref import ReferenceType, ref

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minimind.inference.cache import Piece
from minimind.inference.decoder import Decoder
from minimind.inference.small_linears import BFloat16Linear, Int8Linear
from minimind.network.lora import LoraLinear
from minimind.network.model import MiniMind

WeightType = Literal["float32", "bfloat16", "int8"]
"""How the weights of linear maps are held. Embedding and norms stay in fp32, and so does all arithmetic."""

WEIGHT_TYPES: tuple[WeightType, ...] = get_args(WeightType)

LOSS_LIMIT = 0.005
"""A type may cost this share of the bits per byte."""

MEASURED_ROWS = 16
"""Into how many pieces a text is cut, which are measured together."""


def quantized(model: MiniMind, weight_type: WeightType) -> MiniMind:
    """The model with weights of that type: itself for float32, else a copy that shares what stays in fp32.

    Raises ValueError for int8 on a GPU, and for a model whose adapter is not merged.
    """
    return model if weight_type == "float32" else QuantizedModel(model, weight_type)


class QuantizedModel(MiniMind):
    """A MiniMind for inference whose linear maps, the head included, have smaller weights."""

    def __init__(self, source: MiniMind, weight_type: Literal["bfloat16", "int8"]) -> None:
        device = source.head_weight_VD.device
        if weight_type not in weight_types(device):
            raise ValueError(f"weights in int8 are for CPUs, and this model is on {device}: take bfloat16 there")
        _refuse_adapter(source, weight_type)
        with torch.device("meta"):
            super().__init__(source.config, source.make_mlp)
        linear = {"bfloat16": BFloat16Linear, "int8": Int8Linear}[weight_type]
        for name, part in source.named_modules():
            if isinstance(part, nn.Linear):
                self.set_submodule(name, linear(part.weight))
        tied = source.config.tie_word_embeddings
        self.head = linear(source.head_weight_VD) if tied else self.lm_head
        self._weight_type = weight_type
        self._share(source)

    def follow(self, source: MiniMind) -> None:
        """Take the weights that the source has now, in place. Raises ValueError for an adapter that is not merged."""
        _refuse_adapter(source, self._weight_type)
        for name, part in source.named_modules():
            if isinstance(part, nn.Linear):
                self._linear(name).take(part.weight)
        if source.config.tie_word_embeddings:
            self._linear("head").take(source.head_weight_VD)
        self._share(source)

    def _share(self, source: MiniMind) -> None:
        """What stays in fp32 is the source's own."""
        for name, part in source.named_modules():
            if name and not any(part.children()) and not isinstance(part, nn.Linear):
                self.set_submodule(name, part)
        self._taken = _state(source)

    def is_current(self, source: MiniMind) -> bool:
        """Whether no weight of the source has changed since, as PyTorch counts changes in place. It counts none that
        are made past it (`.data`, NumPy), nor any of tensors made in inference mode: those are never current.
        """
        return _state(source) == self._taken and not any(tensor.is_inference() for tensor in source.parameters())

    def _linear(self, name: str) -> BFloat16Linear | Int8Linear:
        part = self.get_submodule(name)
        assert isinstance(part, BFloat16Linear | Int8Linear)
        return part

    def logits(self, hidden_BTD: Tensor) -> Tensor:
        """Next-token logits [..., V] of hidden states [..., D]."""
        return cast(Tensor, self.head(hidden_BTD))


def _refuse_adapter(source: MiniMind, weight_type: WeightType) -> None:
    adapted = [name for name, part in source.named_modules() if isinstance(part, LoraLinear)]
    if adapted:
        raise ValueError(f"{adapted[0]} has an adapter: merge it before weights are turned into {weight_type}")


def _state(model: MiniMind) -> list[tuple[ReferenceType[Tensor], int, int]]:
    """Which tensors a model has, where their numbers are, and how often they were changed in place."""
    return [
        (ref(tensor), tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version)
        for tensor in model.parameters()
    ]


@dataclass(frozen=True)
class Choice:
    """Which weights to serve with, and what was measured.

    losses: by what share the bits per byte of a text grow against float32 (0.005 is 0.5 %). seconds: of a step that
    writes one token.
    """

    weight_type: WeightType
    losses: dict[WeightType, float]
    seconds: dict[WeightType, float]


def weight_types(device: torch.device) -> tuple[WeightType, ...]:
    """Those that a model on this device may have: int8 is for CPUs."""
    return tuple(kind for kind in WEIGHT_TYPES if kind != "int8" or device.type == "cpu")


def choose_precision(
    model: MiniMind, tokens: Sequence[int], *, candidates: Sequence[WeightType] | None = None
) -> Choice:
    """The fastest of `candidates` that loses less than LOSS_LIMIT of the bits per byte of a text, or float32.

    tokens: ids of a text the model is meant for; some hundred make the figure steady. candidates: None for all that the
    model's device can have. Losses and times are those of the steps that write answers, on this machine as it is now.

    Raises ValueError for a text of less than two tokens for each of MEASURED_ROWS.
    """
    if len(tokens) < 2 * MEASURED_ROWS:
        raise ValueError(f"a text of {len(tokens)} tokens is too short to measure on: give {2 * MEASURED_ROWS} or more")
    if candidates is None:
        candidates = weight_types(model.head_weight_VD.device)
    kinds: tuple[WeightType, ...] = ("float32", *(kind for kind in candidates if kind != "float32"))
    measured = {kind: _measure(quantized(model, kind), tokens) for kind in kinds}
    least = measured["float32"][0]
    losses = {kind: nats / least - 1 for kind, (nats, _) in measured.items()}
    seconds = {kind: time_s for kind, (_, time_s) in measured.items()}
    good = [kind for kind in candidates if losses[kind] < LOSS_LIMIT]
    return Choice(min(good, key=seconds.__getitem__, default="float32"), losses, seconds)


def _measure(model: MiniMind, tokens: Sequence[int]) -> tuple[float, float]:
    """Nats of a text cut into pieces, and seconds per token of writing one at a time."""
    length = min(len(tokens) // MEASURED_ROWS, model.config.max_position_embeddings)
    pieces_RT = torch.tensor(tokens[: MEASURED_ROWS * length]).view(MEASURED_ROWS, length)
    decoder = Decoder(model, MEASURED_ROWS, length)
    device = model.model.embed_tokens.weight.device
    nats, seconds = 0.0, []
    for place in range(length - 1):
        logits_RV = decoder.extend(
            [Piece(row, place, pieces_RT[row, place : place + 1].tolist()) for row in range(MEASURED_ROWS)]
        )
        nats += float(F.cross_entropy(logits_RV.cpu(), pieces_RT[:, place + 1], reduction="sum"))
    for _ in range(5):
        _wait(device)
        began = time.perf_counter()
        decoder.extend([Piece(0, length - 1, tokens[:1])])
        _wait(device)
        seconds.append(time.perf_counter() - began)
    return nats, statistics.median(seconds)


def _wait(device: torch.device) -> None:
    """Until the device has done what it was told: a GPU is only told, and calls return at once."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
