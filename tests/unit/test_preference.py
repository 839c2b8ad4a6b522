"""The losses of pairs against their formulas, written out over full logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from minimind.network.lora import LoraConfig, adapter_off, attach
from minimind.network.model import MiniMind
from minimind.training.batch import PairBatch, TokenBatch
from minimind.training.preference import Answers, PreferenceLoss, answers, preference_loss
from tests.toys import TOY_CONFIG, toy_model

LOSSES: dict[str, dict[str, Any]] = {
    "sigmoid": {"beta": 0.3},
    "sigmoid, smoothed": {"beta": 0.3, "label_smoothing": 0.2},
    "sigmoid by length": {"beta": 2.0, "by_length": True},
    "hinge": {"beta": 0.3},
    "ipo": {"beta": 0.3},
    "simpo": {"beta": 2.0, "gamma": 0.5},
    "orpo": {"beta": 0.3},
}


def loss_of(name: str) -> PreferenceLoss:
    kind: Any = name.partition(",")[0].partition(" ")[0]
    return PreferenceLoss(kind, **LOSSES[name])


def pairs(count: int = 5, width: int = 12, seed: int = 0) -> PairBatch:
    """Prompts of 2 to 4 tokens with two answers of other lengths, padded."""
    draw = torch.Generator().manual_seed(seed)
    tokens_BT = torch.randint(1, TOY_CONFIG.vocab_size, (2 * count, width), generator=draw)
    mask_BT = torch.zeros(2 * count, width, dtype=torch.bool)
    segment_BT = torch.zeros(2 * count, width, dtype=torch.int32)
    for pair in range(count):
        prompt = int(torch.randint(2, 5, (), generator=draw))
        tokens_BT[2 * pair + 1, :prompt] = tokens_BT[2 * pair, :prompt]
        for row in (2 * pair, 2 * pair + 1):
            end = int(torch.randint(prompt + 1, width + 1, (), generator=draw))
            mask_BT[row, prompt:end] = True
            segment_BT[row, :end] = 1
            tokens_BT[row, end:] = 0
    return PairBatch(tuple(range(count)), TokenBatch(tokens_BT, mask_BT, segment_BT))


def plain_answers(model: MiniMind, batch: PairBatch) -> tuple[Tensor, Tensor]:
    """[B], summed log-probs of the answers and their lengths, each row by itself and without padding."""
    sums, lengths = [], []
    sides = batch.sides
    for tokens_T, mask_T, segment_T in zip(sides.tokens_BT, sides.loss_mask_BT, sides.segment_BT, strict=True):
        length = int((segment_T > 0).sum())
        logprob_TV = model.logits(model(tokens_T[None, :length]))[0].float().log_softmax(1)
        own_T = logprob_TV[:-1].gather(1, tokens_T[1:length, None])[:, 0][mask_T[1:length]]
        sums.append(own_T.sum())
        lengths.append(len(own_T))
    return torch.stack(sums), torch.tensor(lengths)


def written_out(name: str, policy_B: Tensor, reference_B: Tensor, length_B: Tensor) -> Tensor:
    """[P], the loss as TRL 1.16 writes it (trl/trainer/dpo_trainer.py; simpo and orpo: its CPO and ORPO trainers)."""
    how = LOSSES[name]
    beta: float = how["beta"]
    smooth: float = how.get("label_smoothing", 0.0)
    gamma: float = how.get("gamma", 0.0)
    difference_B = policy_B - reference_B
    chosen, rejected = slice(0, None, 2), slice(1, None, 2)
    delta_P = difference_B[chosen] - difference_B[rejected]
    mean_B, mean_difference_B = policy_B / length_B, difference_B / length_B
    if name.startswith("sigmoid by length"):
        return -F.logsigmoid(beta * (mean_difference_B[chosen] - mean_difference_B[rejected]))
    if name.startswith("sigmoid"):
        return -F.logsigmoid(beta * delta_P) * (1 - smooth) - F.logsigmoid(-beta * delta_P) * smooth
    if name == "hinge":
        return torch.relu(1 - beta * delta_P)
    if name == "ipo":
        return (mean_difference_B[chosen] - mean_difference_B[rejected] - 1 / (2 * beta)) ** 2
    if name == "simpo":
        return -F.logsigmoid(beta * (mean_B[chosen] - mean_B[rejected]) - gamma)
    one, other = mean_B[chosen], mean_B[rejected]
    odds_P = (one - other) - (torch.log1p(-torch.exp(one)) - torch.log1p(-torch.exp(other)))
    return -one - beta * F.logsigmoid(odds_P)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_gradients_are_those_of_the_formulas(name: str) -> None:
    batch, reference = pairs(), toy_model(1).requires_grad_(False)
    loss = loss_of(name)
    ours, theirs = toy_model(), toy_model()
    needed = name not in ("simpo", "orpo")
    found = preference_loss(loss, answers(ours, batch), answers(reference, batch) if needed else None, sft_weight=0.3)
    found.total.backward()  # type: ignore[no-untyped-call]
    policy_B, length_B = plain_answers(theirs, batch)
    reference_B = plain_answers(reference, batch)[0] if needed else torch.zeros_like(policy_B)
    expected_P = written_out(name, policy_B, reference_B, length_B) - 0.3 * (policy_B / length_B)[0::2]
    expected_P.sum().backward()  # type: ignore[no-untyped-call]
    assert found.weight == len(batch.rows)
    torch.testing.assert_close(found.total, expected_P.sum(), rtol=1e-5, atol=1e-5)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_in_parts_adds_up(name: str) -> None:
    model, reference, loss = toy_model(), toy_model(1), loss_of(name)
    other = None if name in ("simpo", "orpo") else reference

    def total(batch: PairBatch) -> Tensor:
        return preference_loss(loss, answers(model, batch), answers(other, batch) if other else None).total

    torch.testing.assert_close(sum(map(total, pairs().split(2))), total(pairs()), rtol=1e-5, atol=1e-5)


def test_a_policy_that_is_its_reference_prefers_nothing() -> None:
    batch, model = pairs(), toy_model()
    found = preference_loss(loss_of("sigmoid"), answers(model, batch), answers(model, batch))
    told = {name: float(total.detach() / weight) for name, (total, weight) in found.metrics.items()}
    assert told["accuracy"] == told["margin"] == told["chosen_reward"] == told["rejected_reward"] == 0
    assert float((found.total / found.weight).detach()) == pytest.approx(0.6931, abs=1e-4)
    assert told["chosen_logprob"] < 0


def test_with_its_adapter_off_a_policy_is_its_own_reference() -> None:
    batch, adapted = pairs(), toy_model()
    attach(adapted, LoraConfig(rank=4), torch.Generator().manual_seed(0))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora" in name or parameter.requires_grad:
                parameter.add_(0.05)
        with adapter_off(adapted):
            own = answers(adapted, batch)
        frozen = answers(toy_model(), batch)
        assert not torch.equal(answers(adapted, batch).chosen_P, frozen.chosen_P)
    assert torch.equal(own.chosen_P, frozen.chosen_P)
    assert torch.equal(own.rejected_P, frozen.rejected_P)


def test_nearly_certain_answers_keep_their_odds() -> None:
    loss = PreferenceLoss("orpo", 0.1)
    sure = Answers(torch.tensor([-1e-9]), torch.tensor([-5.0]), torch.ones(1), torch.ones(1))
    assert torch.isfinite(loss.of(sure, None)).all()
