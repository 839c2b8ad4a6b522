from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from minimind.training import objectives
from minimind.training.batch import TokenBatch, predicted
from minimind.training.objectives import CHUNK_TOKENS, Loss, cross_entropy, next_token_loss, token_logprobs
from tests.toys import toy_model, toy_rows

D, V = 16, 40


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches every operation, those of the backward pass too: the largest result, and how many matrix products."""

    numel = 0
    products = 0

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.products += func in (torch.ops.aten.mm.default, torch.ops.aten.addmm_.default)
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, Tensor):
                self.numel = max(self.numel, tensor.numel())
        return result


def data(rows: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, width, D, generator=generator).requires_grad_()
    head = torch.randn(V, D, generator=generator).requires_grad_()
    tokens = torch.randint(V, (rows, width), generator=generator)
    mask = torch.rand(rows, width, generator=generator) < 0.7
    return hidden, head, tokens, mask


def plain(hidden: Tensor, head: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """The same sum with all logits at once."""
    logits = F.linear(hidden[:, :-1], head).reshape(-1, V)
    each = F.cross_entropy(logits, tokens[:, 1:].reshape(-1), reduction="none")
    return (each * mask[:, 1:].reshape(-1)).sum()


def both(rows: int, width: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """(value, gradient of hidden, gradient of head) by chunks, and with all logits at once."""
    results = []
    for by_chunks in (True, False):
        hidden, head, tokens, mask = data(rows, width)
        total = (
            cross_entropy(hidden, head, tokens, predicted(mask)).total
            if by_chunks
            else plain(hidden, head, tokens, mask)
        )
        (total * 3.0).backward()  # type: ignore[no-untyped-call]
        assert hidden.grad is not None
        assert head.grad is not None
        results.append((total.detach(), hidden.grad, head.grad))
    return results


@pytest.mark.parametrize(
    ("rows", "width"),
    [(1, 2), (3, 7), (1, CHUNK_TOKENS), (1, CHUNK_TOKENS + 1), (1, CHUNK_TOKENS + 2), (5, CHUNK_TOKENS // 2)],
)
def test_cross_entropy_has_the_value_and_gradients_of_the_plain_sum(rows: int, width: int) -> None:
    ours, theirs = both(rows, width)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_cross_entropy_under_autocast_is_as_near_as_its_dtype(dtype: torch.dtype) -> None:
    exact = both(4, 300)[1]
    with torch.autocast("cpu", dtype):
        ours, theirs = both(4, 300)
    for a, b, reference in zip(ours, theirs, exact, strict=True):
        assert a.dtype == torch.float32
        scale = reference.norm()
        assert (a - reference).norm() / scale < 2 * torch.finfo(dtype).eps
        assert (a - reference).norm() < 1.5 * (b - reference).norm() + 1e-3 * scale


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_cross_entropy_holds_for_vocabularies_beyond_the_range_of_fp16(dtype: torch.dtype) -> None:
    vocab_size = 70_000  # fp16 ends at 65,504
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(1, 4, D, generator=generator).requires_grad_()
    head = torch.zeros(vocab_size, D).requires_grad_()
    tokens = torch.tensor([[3, 9, 69_999, 0]])
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        total = cross_entropy(hidden, head, tokens, torch.tensor([1, 2, 3])).total
    total.backward()  # type: ignore[no-untyped-call]
    assert float(total.detach()) == pytest.approx(3 * math.log(vocab_size), rel=1e-5)
    assert hidden.grad is not None
    assert head.grad is not None
    assert hidden.grad.isfinite().all()
    # Each target's row of the head is drawn to its hidden state, but for the share of one token in all.
    tolerance = 2 * torch.finfo(dtype).eps
    torch.testing.assert_close(head.grad[9], -hidden.detach()[0, 0], rtol=tolerance, atol=1e-3)


def test_cross_entropy_weighs_masked_targets_only_and_never_the_first_token() -> None:
    hidden, head, tokens, mask = data(3, 9)
    loss = cross_entropy(hidden, head, tokens, predicted(mask))
    assert loss.weight == mask[:, 1:].sum()
    loss.total.backward()  # type: ignore[no-untyped-call]
    assert hidden.grad is not None
    used = hidden.grad.abs().sum(-1) > 0
    assert torch.equal(used[:, :-1], mask[:, 1:])
    assert not used[:, -1].any()
    mask[:, 0] = ~mask[:, 0]
    torch.testing.assert_close(cross_entropy(hidden, head, tokens, predicted(mask)).total, loss.total)


def test_cross_entropy_without_a_target_is_zero_with_zero_gradients() -> None:
    hidden, head, tokens, mask = data(2, 5)
    loss = cross_entropy(hidden, head, tokens, predicted(torch.zeros_like(mask)))
    loss.total.backward()  # type: ignore[no-untyped-call]
    assert hidden.grad is not None
    assert head.grad is not None
    assert [float(x.detach().abs().max()) for x in (loss.total, loss.weight, hidden.grad, head.grad)] == [0, 0, 0, 0]


def test_cross_entropy_stays_exact_where_a_probability_underflows() -> None:
    hidden, head = torch.tensor([[[1000.0], [0.0]]]), torch.tensor([[1.0], [-1.0]])
    loss = cross_entropy(hidden, head, torch.tensor([[0, 1]]), torch.tensor([1]))
    assert loss.total == 2000


def test_cross_entropy_gives_gradients_only_where_they_are_asked_for() -> None:
    hidden, head, tokens, mask = data(2, 5)
    cross_entropy(hidden, head.detach(), tokens, predicted(mask)).total.backward()  # type: ignore[no-untyped-call]
    assert hidden.grad is not None
    assert head.grad is None
    hidden.grad = None
    cross_entropy(hidden.detach(), head, tokens, predicted(mask)).total.backward()  # type: ignore[no-untyped-call]
    assert hidden.grad is None
    assert head.grad is not None


def test_cross_entropy_never_holds_the_logits_of_all_tokens() -> None:
    hidden, head, tokens, mask = data(4, 2 * CHUNK_TOKENS)
    with Watch() as watched:
        cross_entropy(hidden, head, tokens, predicted(mask)).total.backward()  # type: ignore[no-untyped-call]
    assert watched.numel == max(CHUNK_TOKENS * V, hidden.numel())
    with Watch() as watched:
        plain(hidden, head, tokens, mask).backward()  # type: ignore[no-untyped-call]
    assert watched.numel >= 4 * (2 * CHUNK_TOKENS - 1) * V


def test_cross_entropy_without_gradients_costs_no_gradients() -> None:
    hidden, head, tokens, mask = data(1, 9)
    with Watch() as watched:
        cross_entropy(hidden, head, tokens, predicted(mask))
    assert watched.products == 3
    with torch.no_grad(), Watch() as watched:
        cross_entropy(hidden, head, tokens, predicted(mask))
    assert watched.products == 1


def test_loss_carries_no_metrics_of_its_own() -> None:
    assert Loss(torch.tensor(1.0), torch.tensor(2.0)).metrics == {}


def test_next_token_loss_is_that_of_the_models_own_logits() -> None:
    model, batch = toy_model(), toy_rows(3)
    loss = next_token_loss({"policy": model}, batch)
    logits = model.logits(model(batch.tokens_BT, batch.segment_BT))
    each = F.cross_entropy(logits[:, :-1].flatten(0, 1), batch.tokens_BT[:, 1:].flatten(), reduction="none")
    torch.testing.assert_close(loss.total, (each * batch.loss_mask_BT[:, 1:].flatten()).sum())
    assert loss.weight == batch.loss_mask_BT.sum()


def test_next_token_loss_trains_a_tied_head_through_both_of_its_uses() -> None:
    model, batch = toy_model(), toy_rows(3)
    next_token_loss({"policy": model}, batch).total.backward()  # type: ignore[no-untyped-call]
    gradient = model.model.embed_tokens.weight.grad
    assert isinstance(gradient, Tensor)
    unseen = sorted(set(range(V)) - set(batch.tokens_BT.flatten().tolist()))
    assert gradient[unseen].abs().sum() > 0  # from the head: these tokens were never looked up


def test_next_token_loss_needs_no_segments_where_rows_are_whole_documents() -> None:
    batch = toy_rows(2)
    whole = TokenBatch(batch.tokens_BT, batch.segment_BT > 0, torch.ones_like(batch.segment_BT))
    assert next_token_loss({"policy": toy_model()}, whole).total.isfinite()


def plain_logprobs(hidden: Tensor, head: Tensor, tokens: Tensor, at: Tensor, temperature: float) -> Tensor:
    """The same with all logits at once."""
    each = F.log_softmax(F.linear(hidden.flatten(0, 1), head).float() / temperature, -1)
    return each[at - 1].gather(1, tokens.flatten()[at, None])[:, 0]


def logprobs_and_gradients(function: Any, rows: int, width: int, *, temperature: float = 1.0) -> tuple[Tensor, ...]:
    """Values, and gradients of a sum in which each token has a factor of its own."""
    hidden, head, tokens, mask = data(rows, width)
    logprobs = function(hidden, head, tokens, predicted(mask), temperature)
    factors = torch.linspace(-1, 2, len(logprobs))
    (logprobs * factors).sum().backward()
    assert hidden.grad is not None
    assert head.grad is not None
    return logprobs.detach(), hidden.grad, head.grad


@pytest.mark.parametrize("kept_chunks", [0, 2, 9])
@pytest.mark.parametrize("temperature", [1.0, 0.7, 3.0])
@pytest.mark.parametrize(("rows", "width"), [(1, 3), (2, 2 * CHUNK_TOKENS + 5)])
def test_token_logprobs_are_those_of_all_logits_at_once(
    rows: int, width: int, temperature: float, kept_chunks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objectives, "KEPT_LOGITS", kept_chunks * CHUNK_TOKENS * V)
    found = logprobs_and_gradients(token_logprobs, rows, width, temperature=temperature)
    expected = logprobs_and_gradients(plain_logprobs, rows, width, temperature=temperature)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("count", [CHUNK_TOKENS - 1, CHUNK_TOKENS, CHUNK_TOKENS + 1])
def test_token_logprobs_are_the_same_at_the_border_of_a_chunk(count: int) -> None:
    hidden, head, tokens, _ = data(1, count + 1)
    at = torch.arange(1, count + 1)
    found, expected = (function(hidden, head, tokens, at, 1.0) for function in (token_logprobs, plain_logprobs))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert len(token_logprobs(hidden, head, tokens, at[:0])) == 0


def test_token_logprobs_under_autocast_multiply_in_its_dtype_and_add_in_fp32() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        found = logprobs_and_gradients(token_logprobs, 2, CHUNK_TOKENS)
        expected = logprobs_and_gradients(plain_logprobs, 2, CHUNK_TOKENS)
    assert [tensor.dtype for tensor in found] == [torch.float32] * 3
    torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=1e-5)  # the same products, in bf16
    for mine, theirs in zip(found[1:], expected[1:], strict=True):
        assert float((mine - theirs).norm() / theirs.norm()) < 0.01
    plainly = logprobs_and_gradients(token_logprobs, 2, CHUNK_TOKENS)
    assert not torch.equal(found[0], plainly[0])


def test_token_logprobs_make_no_gradient_that_nobody_asks_for() -> None:
    hidden, head, tokens, mask = data(2, 9)
    frozen = token_logprobs(hidden, head.detach(), tokens, predicted(mask))
    frozen.sum().backward()  # type: ignore[no-untyped-call]
    assert hidden.grad is not None
    assert head.grad is None
    with torch.no_grad():
        assert not token_logprobs(hidden, head, tokens, predicted(mask)).requires_grad


def test_what_the_gradient_of_token_logprobs_needs_is_computed_once_where_it_may_be_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hidden, head, tokens, _ = data(1, 4 * CHUNK_TOKENS + 1)
    at = torch.arange(1, 4 * CHUNK_TOKENS + 1)
    for kept_chunks, products in ((0, 16), (1, 15), (4, 12), (9, 12)):
        monkeypatch.setattr(objectives, "KEPT_LOGITS", kept_chunks * CHUNK_TOKENS * V)
        with Watch() as watch:
            token_logprobs(hidden, head, tokens, at).sum().backward()  # type: ignore[no-untyped-call]
        assert watch.products == products


def test_token_logprobs_never_hold_the_logits_of_all_tokens() -> None:
    hidden, head, tokens, _ = data(1, 4 * CHUNK_TOKENS + 1)
    at = torch.arange(1, 4 * CHUNK_TOKENS + 1)
    with Watch() as watch:
        token_logprobs(hidden, head, tokens, at).sum().backward()  # type: ignore[no-untyped-call]
    assert watch.numel <= max(CHUNK_TOKENS * V, hidden.numel())


def test_their_sum_is_the_cross_entropy() -> None:
    hidden, head, tokens, mask = data(3, 40)
    total = cross_entropy(hidden, head, tokens, predicted(mask)).total
    torch.testing.assert_close(-token_logprobs(hidden, head, tokens, predicted(mask)).sum(), total)
