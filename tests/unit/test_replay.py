"""Replayed text and what the model from before says of it, against each row by itself."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import AdamW

from minimind.memory.trace import trace
from minimind.network.lora import LoraConfig, attach
from minimind.network.model import MiniMind
from minimind.training.batch import TokenBatch, worst_batch
from minimind.training.distillation import TEACHER
from minimind.training.objectives import Loss, Models, next_token_loss
from minimind.training.precision import Precision
from minimind.training.recipe import LoopConfig, Recipe
from minimind.training.replay import Beside, ReplayBatch, beside_loss, replay_loss, together
from minimind.training.trial_steps import Repeated
from tests.toys import TOY_CONFIG, toy_model


def make(replayed: int = 2) -> ReplayBatch:
    """Three rows of eight, two documents in the first; conversations are learnt in part."""
    tokens_BT = torch.randint(3, TOY_CONFIG.vocab_size, (3, 8), generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[0, 0, 1, 1, 0, 0, 1, 0], [0, 1, 1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1, 0, 0]]).bool()
    segment = torch.tensor([[1, 1, 1, 1, 2, 2, 2, 0], [1] * 8, [1] * 6 + [0] * 2], dtype=torch.int32)
    return ReplayBatch(tokens_BT, mask, segment, rows=(5, 90, 91), replayed=replayed)


def roles() -> dict[str, MiniMind]:
    """A policy, and another model as the one from before."""
    before = toy_model(seed=3).eval().requires_grad_(False)
    return {"policy": toy_model(seed=4), TEACHER: before}


def by_hand(models: Models, batch: ReplayBatch) -> tuple[Tensor, Tensor]:
    """What the two kinds of rows add up to, from all logits at once."""
    policy, before = models["policy"], models[TEACHER]
    assert isinstance(policy, MiniMind)
    assert isinstance(before, MiniMind)
    own, drift = torch.zeros(()), torch.zeros(())
    for row in range(len(batch.tokens_BT)):
        tokens, segment = batch.tokens_BT[row : row + 1], batch.segment_BT[row : row + 1]
        logprob_TV = policy.logits(policy(tokens, segment))[0].log_softmax(-1)
        was_TV = before.logits(before(tokens, segment))[0].log_softmax(-1)
        for at in batch.loss_mask_BT[row].nonzero()[:, 0].tolist():
            if row < batch.own_rows:
                own = own - logprob_TV[at - 1, tokens[0, at]]
            else:
                drift = drift + F.kl_div(logprob_TV[at - 1], was_TV[at - 1], log_target=True, reduction="sum")
    return own, drift


def test_own_rows_learn_their_tokens_and_replayed_ones_what_was_said_before() -> None:
    models, batch = roles(), make()
    loss = replay_loss(models, batch)
    own, drift = by_hand(models, batch)
    torch.testing.assert_close(loss.total, own + drift, rtol=1e-5, atol=1e-5)
    assert (float(loss.weight), batch.own) == (15, 3)
    total, weight = loss.metrics["drift"]
    torch.testing.assert_close(total, drift, rtol=1e-5, atol=1e-5)
    assert float(weight) == 12
    parameters = list(models["policy"].parameters())
    expected = torch.autograd.grad(own + drift, parameters)
    for found, one in zip(torch.autograd.grad(loss.total, parameters), expected, strict=True):
        torch.testing.assert_close(found, one, rtol=1e-4, atol=1e-5)


def test_what_has_not_changed_has_not_drifted() -> None:
    policy = toy_model(seed=4)
    models = {"policy": policy, TEACHER: copy.deepcopy(policy).requires_grad_(False)}
    loss = replay_loss(models, make(replayed=3))
    assert loss.total.item() == pytest.approx(0.0, abs=1e-5)


def test_an_adapted_policy_is_its_own_teacher() -> None:
    policy, batch = toy_model(seed=4), make()
    before = copy.deepcopy(policy).requires_grad_(False)
    attach(policy, LoraConfig(rank=2), torch.Generator().manual_seed(0))
    for name, parameter in policy.named_parameters():
        if name.endswith("lora_B"):
            torch.nn.init.normal_(parameter, std=0.1)
    found, expected = replay_loss({"policy": policy}, batch), replay_loss({"policy": policy, TEACHER: before}, batch)
    assert float(found.metrics["drift"][0]) > 0.01
    torch.testing.assert_close(found.total, expected.total)


def test_without_replayed_rows_it_is_the_loss_of_any_rows() -> None:
    models, batch = roles(), make(replayed=0)
    plain = TokenBatch(batch.tokens_BT, batch.loss_mask_BT, batch.segment_BT, batch.rows)
    for found in (replay_loss(models, batch), replay_loss(models, plain)):
        assert torch.equal(found.total, next_token_loss(models, plain).total)
        assert not found.metrics


@pytest.mark.parametrize("replayed", [0, 1, 2, 3])
def test_parts_and_their_losses_add_up(replayed: int) -> None:
    models, batch = roles(), make(replayed)
    whole = replay_loss(models, batch)
    for rows in (1, 2, 3):
        parts = batch.split(rows)
        assert [row for part in parts for row in part.rows] == [5, 90, 91]
        assert sum(part.replayed for part in parts) == replayed
        losses: list[Loss] = [replay_loss(models, part) for part in parts]
        torch.testing.assert_close(sum(loss.total for loss in losses), whole.total, rtol=1e-5, atol=1e-5)
        assert sum(float(loss.weight) for loss in losses) == float(whole.weight)


def test_halves_of_replayed_rows_are_replayed() -> None:
    halves = make().halved()
    assert (halves.replayed, halves.own_rows, halves.own) == (4, 2, 3)
    assert halves.rows == (5, 5, 90, 90, 91, 91)


def test_it_moves_without_being_counted_again() -> None:
    moved = make().to(torch.device("meta"))
    assert (moved.replayed, moved.own, moved.predicted_N.device.type) == (2, 3, "meta")


def test_no_batch_takes_more_memory_than_one_of_replayed_rows_alone() -> None:
    rows, width = 4, 64

    def make(replayed: int) -> Recipe:
        models, own = roles(), (rows - replayed) * (width - 1)
        worst = ReplayBatch(**vars(worst_batch(rows, width)), replayed=replayed, own=own)
        return Recipe(
            models=models,
            objective=replay_loss,
            batches=Repeated(worst),
            optimizer=AdamW(models["policy"].parameters()),
            learning_rate=lambda step: 1e-3,
            precision=Precision(torch.float32, torch.device("cpu")),
            loop=LoopConfig(),
            total_steps=1,
            worst=worst,
        )

    assert max(range(rows + 1), key=lambda replayed: trace(partial(make, replayed)).peak_bytes) == rows


def rows_of_a_step() -> TokenBatch:
    batch = make()
    return TokenBatch(batch.tokens_BT, batch.loss_mask_BT, batch.segment_BT, batch.rows)


@pytest.mark.parametrize(("at_once", "world"), [(3, 1), (1, 1), (2, 2), (1, 2), (1, 5)])
def test_text_beside_attempts_counts_by_its_weight_however_it_is_shared_out(at_once: int, world: int) -> None:
    models, batch = {"policy": toy_model(seed=4)}, rows_of_a_step()
    plain = next_token_loss(models, batch)
    parts = [
        part
        for rank in range(world)
        for part in Beside(Repeated(batch), 0.25, at_once, rank=rank, world=world).take(units=40)
    ]
    assert sorted(row for part in parts for row in part.rows) == [5, 90, 91]
    assert all(len(part.rows) <= at_once for part in parts)
    losses = [beside_loss(models, part) for part in parts]
    mean = plain.total / plain.weight
    torch.testing.assert_close(sum(loss.total for loss in losses), 0.25 * 40 * mean)
    assert sum(float(loss.weight) for loss in losses) == 0
    told = [loss.metrics["replayed_loss"] for loss in losses]
    torch.testing.assert_close(sum(total for total, _ in told) / sum(weight for _, weight in told), mean)


def test_text_beside_attempts_keeps_its_weight_in_parts_and_halves() -> None:
    batch = together([rows_of_a_step()], unit=0.5)
    assert [(part.rows, part.unit) for part in batch.split(2)] == [((5, 90), 0.5), ((91,), 0.5)]
    assert (batch.halved().unit, batch.to(torch.device("meta")).unit) == (0.5, 0.5)
