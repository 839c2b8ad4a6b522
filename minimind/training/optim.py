"""AdamW and Muon, which parameter goes to which, and the learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn

from minimind.config import Config
from minimind.language import say


class OptimConfig(Config):
    """How weights are updated. One `learning_rate` serves both optimizers: Muon's update is scaled to AdamW's size."""

    name: Literal["adamw", "muon"] = Field(
        default="muon", description="muon (with AdamW for embeddings, head, norms) or adamw"
    )
    learning_rate: float = Field(default=3e-3, gt=0, description="peak learning rate")
    weight_decay: float = Field(default=0.01, ge=0, description="decoupled, on matrices only")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="AdamW: decay of the first moment")
    beta2: float = Field(default=0.95, ge=0, lt=1, description="AdamW: decay of the second moment")
    eps: float = Field(default=1e-8, gt=0, description="AdamW: added to the denominator")
    momentum: float = Field(default=0.95, ge=0, lt=1, description="Muon: decay of the momentum")
    grad_clip: float = Field(default=1.0, gt=0, description="largest gradient norm that is used as it is")
    schedule: Literal["cosine", "wsd", "constant"] = Field(
        default="wsd",
        description="after the warm-up: cosine to the end, flat then linear decay (warmup-stable-decay), or flat",
    )
    lr_scale: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict,
        description="for a role beside the policy: its learning rate, as a multiple of the others'",
    )
    warmup: float = Field(
        default=0.02, ge=0, le=1, description="share of all steps in which the rate rises to its peak"
    )
    decay: float = Field(
        default=0.6, ge=0, le=1, description="wsd: share of all steps, at the end, in which the rate falls"
    )
    final: float = Field(
        default=0.0, ge=0, le=1, description="cosine and wsd: the rate at the end, as a share of the peak"
    )


def learning_rate_factor(config: OptimConfig, step: int, total_steps: int) -> float:
    """The share of the peak learning rate that step `step` (0, 1, ... total_steps - 1) uses.

    wsd is the warmup-stable-decay schedule of MiniCPM (arXiv:2404.06395) with a linear decay.
    """
    warmup_steps = round(config.warmup * total_steps)
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    if config.schedule == "constant":
        return 1.0
    decay_steps = total_steps - warmup_steps
    if config.schedule == "wsd":
        decay_steps = min(decay_steps, round(config.decay * total_steps))
    progress = min(1.0, max(0.0, 1 - (total_steps - step) / max(1, decay_steps)))
    shape = (1 + math.cos(math.pi * progress)) / 2 if config.schedule == "cosine" else 1 - progress
    return config.final + (1 - config.final) * shape


class Optimizer(Protocol):
    """What the loop asks of an optimizer; torch's own have it, and `Combined`."""

    param_groups: list[dict[str, Any]]

    def step(self) -> Any:
        """Update the parameters from their gradients."""
        ...

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that a continued run needs."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        ...


def build_optimizer(models: Mapping[str, nn.Module], config: OptimConfig) -> Optimizer:
    """The optimizer for all parameters that ask for a gradient, of models by role; what roles share is updated once.

    Matrices inside the blocks go to Muon (or to AdamW with weight decay), embeddings and heads to AdamW with weight
    decay, vectors (the norms) to AdamW without. The groups of a role that `config.lr_scale` names carry its `lr_scale`.
    Raises ValueError where nothing is to be trained, or a role with a rate of its own is not there or frozen.
    """
    muon = config.name == "muon"
    for_muon: list[dict[str, Any]] = []
    for_adamw: list[dict[str, Any]] = []
    seen: set[int] = set()
    for role, model in models.items():
        scale = {"lr_scale": config.lr_scale[role]} if role in config.lr_scale else {}
        blocks, tables, vectors = _by_kind(model, seen)
        if muon:
            for_muon.append({"params": blocks, **scale})
        else:
            tables += blocks
        for_adamw.append({"params": tables, "weight_decay": config.weight_decay, **scale})
        for_adamw.append({"params": vectors, "weight_decay": 0.0, **scale})
    trained = [role for role, model in models.items() if any(p.requires_grad for p in model.parameters())]
    if unknown := [role for role in config.lr_scale if role not in trained]:
        raise ValueError(
            say(
                "optim.lr_scale names {unknown}; what trains here is {trained}",
                unknown=", ".join(unknown),
                trained=", ".join(trained) or say("nothing"),
            )
        )
    optimizers: list[torch.optim.Optimizer] = []
    if groups := [group for group in for_muon if group["params"]]:
        optimizers.append(Muon(groups, config.learning_rate, config.momentum, config.weight_decay))
    if groups := [group for group in for_adamw if group["params"]]:
        betas = (config.beta1, config.beta2)
        optimizers.append(torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas, eps=config.eps, fused=True))
    if not optimizers:
        raise ValueError(say("no parameter of the model asks for a gradient: there is nothing to train"))
    return Combined(*optimizers)


def _by_kind(model: nn.Module, seen: set[int]) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
    """What trains of a model and was not seen before: matrices inside the blocks, other matrices, vectors."""
    blocks: list[nn.Parameter] = []
    tables: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and id(parameter) not in seen:
            seen.add(id(parameter))
            group = vectors if parameter.ndim < 2 else blocks if ".layers." in f".{name}" else tables
            group.append(parameter)
    return blocks, tables, vectors


class Combined:
    """Optimizers, each over parameters of its own, behind the interface of one."""

    def __init__(self, *optimizers: torch.optim.Optimizer) -> None:
        self.optimizers = optimizers
        self.param_groups = [group for optimizer in optimizers for group in optimizer.param_groups]

    def step(self) -> None:
        """Update the parameters from their gradients."""
        for optimizer in self.optimizers:
            optimizer.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """The states of all, in order."""
        return {"optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave; ValueError if that was of other optimizers."""
        saved = state_dict["optimizers"]
        if len(saved) != len(self.optimizers):
            raise ValueError(
                say(
                    "the saved state is of {saved} optimizers and here are {here} ({names}): was optim.name changed?",
                    saved=len(saved),
                    here=len(self.optimizers),
                    names=", ".join(type(optimizer).__name__ for optimizer in self.optimizers),
                )
            )
        for optimizer, state in zip(self.optimizers, saved, strict=True):
            optimizer.load_state_dict(state)
        # Loading replaces the group dicts, and the loop sets learning rates through this list.
        self.param_groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal, for matrices (K. Jordan et al., "Muon", 2024).

    The update is scaled by 0.2 * sqrt(max(rows, columns)), which gives it the size of an AdamW update (Moonlight,
    arXiv:2502.16982), so that both use one learning rate. torch.optim.Muon orthogonalises in bf16 on every device,
    which takes 24 times as long as fp32 on a CPU without bf16 units.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # torch allows a closure, the loop has none
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
                momentum: Tensor = state["momentum_buffer"]
                momentum.lerp_(parameter.grad, 1 - group["momentum"])
                ahead = parameter.grad.lerp(momentum, group["momentum"])  # Nesterov's
                scale = 0.2 * math.sqrt(max(parameter.shape))
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(orthogonalize(ahead), alpha=-group["lr"] * scale)


POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
"""(a, b, c) of the five polynomials a x + b x^3 + c x^5 (Amsel et al., "Polar Express", arXiv:2505.16932)."""


def orthogonalize(matrix: Tensor) -> Tensor:
    """The nearest matrix with orthonormal rows or columns, U V^T of U S V^T, each singular value within 0.15 of 1.

    matrix: fp32 [rows, columns]. Singular values below about a thousandth of the norm stay below 1.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonalize(matrix.mT).mT
    x: Tensor = matrix / (torch.linalg.matrix_norm(matrix) * 1.02 + 1e-12)
    if x.is_cuda:  # there bf16 is fast, and precise enough as long as each step starts from x itself
        x = x.bfloat16()
    elif 2 * x.shape[0] <= x.shape[1]:
        return _polar_factor(x @ x.mT) @ x
    for coefficients in POLAR_EXPRESS:
        x = _polynomial(x @ x.mT, coefficients) @ x
    return x.to(matrix.dtype)


def _polar_factor(gram: Tensor) -> Tensor:
    """All five steps as one matrix, from x x^T alone: a third less work where x is three times as wide; fp32 only."""
    product = last = _polynomial(gram, POLAR_EXPRESS[0])
    for coefficients in POLAR_EXPRESS[1:]:
        gram = last @ (gram @ last)  # that of x after the step before
        last = _polynomial(gram, coefficients)
        product = last @ product
    return product


def _polynomial(gram: Tensor, coefficients: tuple[float, float, float]) -> Tensor:
    """What a step multiplies x by, given gram = x x^T: a + b gram + c gram^2."""
    a, b, c = coefficients
    factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
    factor.diagonal().add_(a)
    return factor
