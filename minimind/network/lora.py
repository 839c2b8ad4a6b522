"""Low-rank adapters (LoRA, Hu et al. 2021, arXiv:2106.09685) on a model's linear maps.

An adapted map gives x W^T + alpha / rank * dropout(x) A^T B^T: W is the base's and frozen, only A [rank, in] and
B [out, rank] train. B begins at zero, so an adapter that has learnt nothing changes nothing. The base keeps its
parameters, under their names; on disk the adapter has PEFT's names and settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from minimind.config import Config
from minimind.language import say
from minimind.network.model import MiniMind

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The linear maps of a block: what can be adapted, and what is unless the user says otherwise."""

_PEFT_PREFIX = "base_model.model."


class LoraConfig(Config):
    """The shape of an adapter; `alpha / rank` is the factor on what it adds."""

    rank: int = Field(default=8, ge=1, description="inner width of the two matrices beside each adapted map")
    alpha: float = Field(default=16.0, gt=0, description="weight of the adapter; what it adds is times alpha / rank")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="share of the adapter's inputs set to zero in training")
    target_modules: tuple[str, ...] = Field(
        default=TARGETS, description=f"which maps of every block are adapted, out of {', '.join(TARGETS)}"
    )

    @field_validator("target_modules")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in names if name not in TARGETS]
        if unknown or not names or len(set(names)) < len(names):
            wrong = (
                say("no such map: {unknown}", unknown=", ".join(unknown))
                if unknown
                else say("each is named once, and at least one")
            )
            raise ValueError(say("{wrong}; there are {targets}", wrong=wrong, targets=", ".join(TARGETS)))
        return names


class LoraLinear(nn.Module):
    """A frozen linear map and the two thin matrices that train beside it."""

    def __init__(self, linear: nn.Linear, config: LoraConfig, generator: torch.Generator) -> None:
        super().__init__()
        outputs, inputs = linear.weight.shape
        self.scale = config.alpha / config.rank
        self.active = True
        self.dropout = config.dropout
        self.weight = linear.weight
        device = linear.weight.device
        self.lora_A = nn.Parameter(torch.empty(config.rank, inputs, device=device))
        self.lora_B = nn.Parameter(torch.zeros(outputs, config.rank, device=device))
        if not self.lora_A.is_meta:
            bound = inputs**-0.5
            drawn = torch.empty(config.rank, inputs).uniform_(-bound, bound, generator=generator)
            self.lora_A.data.copy_(drawn)

    def forward(self, x: Tensor) -> Tensor:
        """The map's output [..., out] for x [..., in]."""
        base = F.linear(x, self.weight)
        if not self.active:
            return base
        # Only what is differentiated is dropped: a look at the model in between draws no random numbers, and a resumed
        # run finds the generator where it was.
        if self.dropout and self.training and torch.is_grad_enabled():
            # Dropped out again in backward: each map would keep a copy of its own of an input that several share.
            return base.add_(cast(Tensor, checkpoint(self._dropped, x, use_reentrant=False)))
        return base.add_(self._low_rank(x))

    def delta(self) -> Tensor:
        """What the adapter adds to the weight [out, in]."""
        return self.scale * (self.lora_B @ self.lora_A)

    def _low_rank(self, x: Tensor) -> Tensor:
        return F.linear(F.linear(x, self.lora_A) * self.scale, self.lora_B)

    def _dropped(self, x: Tensor) -> Tensor:
        return self._low_rank(F.dropout(x, self.dropout))


def attach(model: MiniMind, config: LoraConfig, generator: torch.Generator) -> None:
    """Put a new adapter on the model, in place: from then on the adapter trains and nothing else.

    The model computes what it did before, and its parameters keep their names and bytes. generator: a CPU one, so that
    the adapter is the same on every device. Raises ValueError if the model has an adapter already.
    """
    if _adapted(model):
        raise ValueError(say("the model has an adapter already: detach it first, or take its weights with `merge`"))
    model.requires_grad_(False)
    linears = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    for name, linear in linears.items():
        if name.rpartition(".")[2] in config.target_modules:
            model.set_submodule(name, LoraLinear(linear, config, generator).train(linear.training))
    model.random_blocks = config.dropout > 0


@contextmanager
def adapter_off(model: MiniMind) -> Iterator[None]:
    """In here the model computes what its base does: an adapted policy is its own reference, without a second model.

    Raises ValueError if the model has no adapter.
    """
    adapted = _require_adapted(model).values()
    before = [linear.active for linear in adapted]
    try:
        for linear in adapted:
            linear.active = False
        yield
    finally:
        for linear, active in zip(adapted, before, strict=True):
            linear.active = active


def detach(model: MiniMind) -> None:
    """Take the adapter off, in place: the base remains, and all of it asks for gradients, as in a new model.

    Raises ValueError if the model has no adapter.
    """
    for name, module in _require_adapted(model).items():
        outputs, inputs = module.weight.shape
        linear = nn.Linear(inputs, outputs, bias=False, device="meta").train(module.training)
        linear.weight = module.weight
        model.set_submodule(name, linear)
    model.random_blocks = False
    model.requires_grad_(True)


@torch.no_grad()
def merge(model: MiniMind) -> dict[str, Tensor]:
    """The state dict of a plain model that computes what this one does; the model stays as it is.

    Weights that have no adapter are the model's own tensors, not copies. Raises ValueError if the model has no adapter.
    """
    adapted = _require_adapted(model)
    own = {f"{name}.{part}" for name in adapted for part in ("lora_A", "lora_B")}
    plain = {name: tensor for name, tensor in model.state_dict().items() if name not in own}
    return plain | {f"{name}.weight": module.weight + module.delta() for name, module in adapted.items()}


def adapter_state(model: MiniMind) -> dict[str, Tensor]:
    """The adapter's tensors, the model's own, under PEFT's names. Raises ValueError if the model has no adapter."""
    return {
        f"{_PEFT_PREFIX}{name}.{part}.weight": getattr(module, part).detach()
        for name, module in _require_adapted(model).items()
        for part in ("lora_A", "lora_B")
    }


def load_adapter(model: MiniMind, state: Mapping[str, Tensor]) -> None:
    """Take over what `adapter_state` gave, by value. Raises ValueError that lists every name and shape that is wrong,
    before anything is changed.
    """
    own = adapter_state(model)
    wrong = [say("{name} is missing", name=name) for name in own if name not in state]
    wrong += [say("{name} is not part of it", name=name) for name in state if name not in own]
    wrong += [
        say("{name} is {found}, here it is {shape}", name=name, found=list(state[name].shape), shape=list(tensor.shape))
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if wrong:
        more = say("; and {count} more", count=len(wrong) - 5) if len(wrong) > 5 else ""
        raise ValueError(
            say(
                "these weights are not of the adapter that the model has: {wrong}{more}. Rank and "
                "target modules must be those it was trained with",
                wrong="; ".join(wrong[:5]),
                more=more,
            )
        )
    for name, tensor in own.items():
        tensor.copy_(state[name])


def to_peft_config(config: LoraConfig, base: str) -> dict[str, Any]:
    """The content of PEFT's adapter_config.json. base: folder of the base model, for programs that look it up."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "target_modules": list(config.target_modules),
        "bias": "none",
        "inference_mode": True,
    }


def from_peft_config(values: Mapping[str, Any]) -> LoraConfig:
    """The LoraConfig of an adapter_config.json that `to_peft_config` gave."""
    return LoraConfig(
        rank=values["r"],
        alpha=values["lora_alpha"],
        dropout=values["lora_dropout"],
        target_modules=tuple(values["target_modules"]),
    )


@dataclass(frozen=True)
class AdapterReport:
    """What an adapter trains, and the memory that it saves beside training every weight of the same model.

    trained, total: parameters that train, and all of the model with its adapter. gradient_bytes, optimizer_bytes: what
    training the adapter holds; full_gradient_bytes, full_optimizer_bytes: what training the base would. Activations and
    the weights themselves are not counted.
    """

    trained: int
    total: int
    gradient_bytes: int
    optimizer_bytes: int
    full_gradient_bytes: int
    full_optimizer_bytes: int

    @property
    def share(self) -> float:
        """The part of all parameters that trains, 0 to 1."""
        return self.trained / self.total

    @property
    def saved_bytes(self) -> int:
        """Bytes of gradients and optimizer state that are not needed."""
        full = self.full_gradient_bytes + self.full_optimizer_bytes
        return full - self.gradient_bytes - self.optimizer_bytes


def adapter_report(model: MiniMind, optimizer_states: float = 2) -> AdapterReport:
    """The numbers of a model with an adapter, on any device, also "meta".

    optimizer_states: fp32 numbers the optimizer keeps per parameter (AdamW 2, Muon near 1). Raises ValueError if the
    model has no adapter.
    """
    trained = sum(tensor.numel() for tensor in adapter_state(model).values())
    total = model.parameter_count()
    base = total - trained
    return AdapterReport(
        trained=trained,
        total=total,
        gradient_bytes=4 * trained,
        optimizer_bytes=int(4 * optimizer_states * trained),
        full_gradient_bytes=4 * base,
        full_optimizer_bytes=int(4 * optimizer_states * base),
    )


def _adapted(model: MiniMind) -> dict[str, LoraLinear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLinear)}


def _require_adapted(model: MiniMind) -> dict[str, LoraLinear]:
    adapted = _adapted(model)
    if not adapted:
        raise ValueError(say("the model has no adapter: attach one first"))
    return adapted
