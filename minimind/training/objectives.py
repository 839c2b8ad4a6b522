"""What a run minimises. An objective maps (models by role, batch) to a `Loss`: a sum over units and how many units.

Sums, not means: the loop adds (sum, weight) over micro-batches and workers and divides the gradient once, so that
neither the micro-batch size, the accumulation nor the number of workers changes what is learnt.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from minimind.training.batch import TokenBatch

CHUNK_TOKENS = 512
"""Rows of logits held at once: enough for matrix products at full rate, 13 MB of fp32 with MiniMind's vocabulary."""

KEPT_LOGITS = 1 << 24
"""For so many, 67 MB in fp32, what the gradient needs is kept and not computed again: those of 2621 tokens with
MiniMind's vocabulary. For 480 of them at a width of 160 both passes take a third less time than with logits computed
twice.
"""

MOST_SUM = 32768
"""What the exponentials of a row may come to, for fp16 to hold it: its largest number is 65,504."""


@dataclass(frozen=True)
class Loss:
    """A sum and its weight.

    total: scalar, the sum over all units of this micro-batch; differentiable.
    weight: scalar, how many units the sum runs over (tokens, pairs, rollouts).
    metrics: further (sum, weight) pairs by name; the loop logs each as train/NAME, a validation as val/NAME.
    """

    total: Tensor
    weight: Tensor
    metrics: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)


Models = Mapping[str, nn.Module]
"""Modules by role: policy, reference, critic, teacher. A role whose parameters ask for no gradient is frozen."""

Objective = Callable[[Models, Any], Loss]


def next_token_loss(models: Models, batch: TokenBatch) -> Loss:
    """Cross-entropy of every token the loss mask names, given the tokens before it in its document, in nats."""
    policy = models["policy"]
    hidden_BTD = policy(batch.tokens_BT, batch.segment_BT)
    head_VD = policy.head_weight_VD
    assert isinstance(head_VD, Tensor)
    return cross_entropy(hidden_BTD, head_VD, batch.tokens_BT, batch.predicted_N)


def cross_entropy(hidden_BTD: Tensor, head_VD: Tensor, tokens_BT: Tensor, predicted_N: Tensor) -> Loss:
    """Summed next-token cross-entropy in nats, without ever holding the logits of the whole batch.

    hidden_BTD: the trunk's output; position t predicts token t+1, see `predicting`.
    head_VD: the output matrix. tokens_BT: int64. predicted_N: int64, where in [B x T] the tokens to be predicted are:
    no others have logits.
    """
    hidden_ND = predicting(hidden_BTD, predicted_N)
    target_N = tokens_BT.flatten()[predicted_N]
    if not torch.is_grad_enabled():  # a Function is told of parameters that ask for a gradient even where none is kept
        hidden_ND, head_VD = hidden_ND.detach(), head_VD.detach()
    total: Tensor = _CrossEntropy.apply(hidden_ND, head_VD, target_N)  # type: ignore[no-untyped-call]
    return Loss(total=total, weight=torch.full_like(total, len(target_N)))


def predicting(hidden_BTD: Tensor, predicted_N: Tensor) -> Tensor:
    """[N, D], the hidden states that predict these tokens: each that of the place before. The one shift there is."""
    return hidden_BTD.flatten(0, 1)[predicted_N - 1]


class _CrossEntropy(torch.autograd.Function):
    """sum_n -log softmax(hidden_n @ head.T)[target_n], a chunk of rows at a time.

    The gradient of a sum is known up to the one factor that backward brings, so it is made in the forward pass from the
    logits at hand instead of storing or computing them again (as in Liger Kernel, arXiv:2410.10989). Under autocast the
    matrix products run in its dtype and everything else in fp32.
    """

    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, head_VD: Tensor, target_N: Tensor) -> Tensor:
        need_hidden, need_head = ctx.needs_input_grad[:2]
        grad_hidden_ND = torch.empty_like(hidden_ND) if need_hidden else None
        grad_head_VD = torch.zeros_like(head_VD, dtype=torch.float32) if need_head else None
        total = torch.zeros((), dtype=torch.float32, device=hidden_ND.device)
        for start in range(0, hidden_ND.shape[0], CHUNK_TOKENS):
            rows = slice(start, start + CHUNK_TOKENS)
            hidden_CD, target_C1 = hidden_ND[rows], target_N[rows, None]
            exp_CV, sum_C1, loss_C1 = _exponentials(hidden_CD, head_VD, target_C1)
            total += loss_C1.sum()
            if not (need_hidden or need_head):
                continue
            # d total / d logits = exp / sum - one-hot = (exp - sum * one-hot) / sum. The division goes to the narrow
            # side of both products: each pass over [C, V] is felt where the model is small.
            error_CV = exp_CV.scatter_add_(1, target_C1, -sum_C1)
            if grad_hidden_ND is not None:
                grad_hidden_ND[rows] = (error_CV @ head_VD) / sum_C1
            if grad_head_VD is not None:
                add_product(grad_head_VD, error_CV.T, hidden_CD / sum_C1)
        ctx.save_for_backward(grad_hidden_ND, grad_head_VD)
        ctx.head_dtype = head_VD.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (factor,) = grads
        grad_hidden_ND, grad_head_VD = ctx.saved_tensors
        if grad_hidden_ND is not None:
            grad_hidden_ND = grad_hidden_ND * factor.to(grad_hidden_ND.dtype)
        if grad_head_VD is not None:
            grad_head_VD = (grad_head_VD * factor).to(ctx.head_dtype)
        return grad_hidden_ND, grad_head_VD, None


def token_logprobs(
    hidden_BTD: Tensor, head_VD: Tensor, tokens_BT: Tensor, predicted_N: Tensor, temperature: float = 1.0
) -> Tensor:
    """[N], the log-probability of each predicted token in nats, fp32 and differentiable.

    For objectives that give each token a factor of its own. Of a large batch all logits never exist: beyond KEPT_LOGITS
    those of a chunk are computed again in the backward pass.

    Arguments as `cross_entropy` takes them, which is the faster way to a plain sum. temperature: what logits are
    divided by, as when the tokens were drawn.
    """
    hidden_ND = predicting(hidden_BTD, predicted_N)
    return target_logprobs(hidden_ND, head_VD, tokens_BT.flatten()[predicted_N], temperature)


def target_logprobs(hidden_ND: Tensor, head_VD: Tensor, target_N: Tensor, temperature: float = 1.0) -> Tensor:
    """[N], as `token_logprobs`, where the state that predicts each token is already picked out."""
    if not torch.is_grad_enabled():
        hidden_ND, head_VD = hidden_ND.detach(), head_VD.detach()
    logprob_N: Tensor = _TokenLogprobs.apply(hidden_ND, head_VD, target_N, temperature)  # type: ignore[no-untyped-call]
    return logprob_N


class _TokenLogprobs(torch.autograd.Function):
    """log softmax(hidden_n @ head.T / temperature)[target_n], a chunk of rows at a time, forward and backward."""

    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, head_VD: Tensor, target_N: Tensor, temperature: float) -> Tensor:
        logprob_N = hidden_ND.new_empty(len(target_N), dtype=torch.float32)
        kept_from = len(target_N) - KEPT_LOGITS // len(head_VD) if any(ctx.needs_input_grad) else len(target_N)
        kept: list[Tensor] = []
        for start in range(0, len(target_N), CHUNK_TOKENS):
            rows = slice(start, start + CHUNK_TOKENS)
            target_C1 = target_N[rows, None]
            exp_CV, sum_C1, loss_C1 = _exponentials(hidden_ND[rows], head_VD, target_C1, temperature)
            logprob_N[rows] = -loss_C1[:, 0]
            if start >= kept_from:
                kept += [sum_C1, exp_CV.scatter_add_(1, target_C1, -sum_C1)]
        ctx.save_for_backward(hidden_ND, head_VD, target_N, *kept)
        ctx.temperature = temperature
        device = hidden_ND.device.type
        ctx.autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        return logprob_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (grad_N,) = grads
        hidden_ND, head_VD, target_N, *kept = ctx.saved_tensors
        need_hidden, need_head = ctx.needs_input_grad[:2]
        grad_hidden_ND = torch.empty_like(hidden_ND) if need_hidden else None
        grad_head_VD = torch.zeros_like(head_VD, dtype=torch.float32) if need_head else None
        with torch.autocast(hidden_ND.device.type, ctx.autocast, enabled=ctx.autocast is not None):
            for start in reversed(range(0, len(target_N), CHUNK_TOKENS)):
                rows = slice(start, start + CHUNK_TOKENS)
                hidden_CD, target_C1 = hidden_ND[rows], target_N[rows, None]
                if kept:
                    error_CV, sum_C1 = kept.pop(), kept.pop()
                else:
                    exp_CV, sum_C1, _ = _exponentials(hidden_CD, head_VD, target_C1, ctx.temperature)
                    error_CV = exp_CV.scatter_add_(1, target_C1, -sum_C1)
                # d logprob / d logits = (one-hot - exp / sum) / temperature = -error / (sum * temperature)
                factor_C1 = grad_N[rows, None] / (-ctx.temperature * sum_C1)
                if grad_hidden_ND is not None:
                    grad_hidden_ND[rows] = (error_CV @ head_VD) * factor_C1
                if grad_head_VD is not None:
                    add_product(grad_head_VD, error_CV.T, hidden_CD * factor_C1)
        if grad_head_VD is not None:
            grad_head_VD = grad_head_VD.to(head_VD.dtype)
        return grad_hidden_ND, grad_head_VD, None, None


def _exponentials(
    hidden_CD: Tensor, head_VD: Tensor, target_C1: Tensor, temperature: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """(exp_CV, sum_C1, loss_C1): exp(logits - a shift of each row), what they come to, the targets' cross-entropy."""
    logits_CV = nn.functional.linear(hidden_CD, head_VD).float()
    if temperature != 1.0:
        logits_CV /= temperature
    target_logit_C1 = logits_CV.gather(1, target_C1)
    shift_C1 = logits_CV.amax(1, keepdim=True)
    if head_VD.shape[0] > MOST_SUM:
        shift_C1 += math.log(head_VD.shape[0] / MOST_SUM)
    exp_CV = logits_CV.sub_(shift_C1).exp_()
    sum_C1 = exp_CV.sum(1, keepdim=True)
    return exp_CV, sum_C1, shift_C1 + sum_C1.log() - target_logit_C1


def add_product(sum_VD: Tensor, left_VC: Tensor, right_CD: Tensor) -> None:
    """Add left @ right to the sum, in place and in one kernel where no autocast asks for another dtype."""
    if torch.is_autocast_enabled(sum_VD.device.type):
        sum_VD += left_VC @ right_CD
    else:
        sum_VD.addmm_(left_VC, right_CD.to(left_VC.dtype))
