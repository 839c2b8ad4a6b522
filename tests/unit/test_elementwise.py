from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from minimind.network.elementwise import rms_norm, rotate, silu_product


def rotate_plainly(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


CASES: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor], list[tuple[int, ...]], int]] = {
    # ours, PyTorch's own, shapes of the inputs, how many of them take a gradient
    "rms_norm": (
        lambda x, w: rms_norm(x, w, 1e-6),
        lambda x, w: F.rms_norm(x, w.shape, w, 1e-6),
        [(2, 5, 3, 8), (8,)],
        2,
    ),
    "rotate": (rotate, rotate_plainly, [(2, 5, 3, 8), (2, 5, 1, 8), (2, 5, 1, 8)], 1),
    "silu_product": (silu_product, lambda gate, up: F.silu(gate) * up, [(2, 5, 8), (2, 5, 8)], 2),
}


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradients_are_those_of_autograd(name: str) -> None:
    ours, plain, shapes, differentiable = CASES[name]
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(shape, generator=generator) for shape in shapes]
    if name == "rotate":
        inputs[1:] = [torch.cat((x[..., :4], x[..., :4]), dim=-1) for x in inputs[1:]]
    for x in inputs[:differentiable]:
        x.requires_grad_()
    expected, got = plain(*inputs), ours(*inputs)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
    # A gradient in another memory layout, as attention gives it.
    grad = torch.randn(expected.transpose(1, -1).shape, generator=generator).transpose(1, -1)
    for got_grad, expected_grad in zip(
        torch.autograd.grad(got, inputs[:differentiable], grad),
        torch.autograd.grad(expected, inputs[:differentiable], grad),
        strict=True,
    ):
        torch.testing.assert_close(got_grad, expected_grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_half_precision_comes_back_as_half_precision_computed_in_fp32(name: str) -> None:
    ours, plain, shapes, differentiable = CASES[name]
    generator = torch.Generator().manual_seed(1)
    exact = [torch.randn(shape, generator=generator) for shape in shapes]
    half = [x.bfloat16() if x.shape != (8,) and i < differentiable else x for i, x in enumerate(exact)]
    for x in half[:differentiable]:
        x.requires_grad_()
    got = ours(*half)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), plain(*[x.detach().float() for x in half]), rtol=1e-2, atol=1e-2)
    grads = torch.autograd.grad(got.float().sum(), half[:differentiable])
    assert [grad.dtype for grad in grads] == [x.dtype for x in half[:differentiable]]


def test_each_keeps_only_its_input_for_the_backward_pass() -> None:
    def kept(run: Callable[[], Tensor]) -> set[tuple[int, ...]]:
        shapes: list[tuple[int, ...]] = []

        def pack(tensor: Tensor) -> Tensor:
            shapes.append(tuple(tensor.shape))
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            run()
        return set(shapes) if len(shapes) == len(set(shapes)) else set()

    x = torch.randn(7, 8, requires_grad=True)
    weight = torch.ones(8, requires_grad=True)
    cos, sin = torch.randn(7, 1), torch.randn(1, 8)
    assert kept(lambda: rms_norm(x, weight, 1e-6)) == {(7, 8), (8,), (7, 1)}
    assert kept(lambda: rotate(x, cos.expand(7, 8)[:, :1], sin)) == {(7, 1), (1, 8)}
