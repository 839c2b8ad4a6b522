"""The losses of pairs against their formulas, written out over full logits."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from jobs.stages.preferences import reference_logprobs
from minimind.network.lora import LoraConfig, attach
from minimind.network.model import MiniMind
from minimind.training.answers import Answer, AnswerBatch, answer_batch, answer_logprobs
from minimind.training.objectives import Loss
from minimind.training.preference import WITHOUT_REFERENCE, Answers, PreferenceLoss, preference_loss, two_way_kl
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


Ids = list[int]


def texts(count: int = 5, seed: int = 0) -> list[list[tuple[Ids, int]]]:
    """Pairs of (prompt and answer, where the answer begins); some answers begin alike."""
    draw = Random(seed)

    def ids(least: int, most: int) -> Ids:
        return [draw.randrange(1, TOY_CONFIG.vocab_size) for _ in range(draw.randint(least, most))]

    found = []
    for number in range(count):
        prompt, begun = ids(2, 4), ids(0, 3) if number % 2 else []
        found.append([([*prompt, *begun, *ids(1, 6)], len(prompt)) for _ in range(2)])
    return found


def pairs(count: int = 5) -> AnswerBatch:
    """All of them in rows of two."""
    trees = [[_answer(*side) for side in pair] for pair in texts(count)]
    rows = [trees[start : start + 2] for start in range(0, count, 2)]
    return answer_batch(rows, range(len(rows)), 48)


def _answer(ids: Ids, begin: int) -> Answer:
    return Answer(np.array(ids), np.arange(len(ids)) >= begin)


def plain_answers(model: MiniMind, count: int = 5) -> tuple[Tensor, Tensor]:
    """[A], summed log-probs of the answers and their lengths, each text by itself."""
    sums, lengths = [], []
    for ids, begin in (side for pair in texts(count) for side in pair):
        logprob_TV = model.logits(model(torch.tensor([ids])))[0].float().log_softmax(1)
        own_T = logprob_TV[begin - 1 : -1].gather(1, torch.tensor(ids)[begin:, None])
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
    ours, theirs = toy_model(), toy_model()
    needed = name not in WITHOUT_REFERENCE
    reference_M = answer_logprobs(reference, batch) if needed else None
    found = preference_loss(loss_of(name), batch, answer_logprobs(ours, batch), reference_M, sft_weight=0.3)
    found.total.backward()  # type: ignore[no-untyped-call]
    policy_B, length_B = plain_answers(theirs)
    reference_B = plain_answers(reference)[0] if needed else torch.zeros_like(policy_B)
    expected_P = written_out(name, policy_B, reference_B, length_B) - 0.3 * (policy_B / length_B)[0::2]
    expected_P.sum().backward()  # type: ignore[no-untyped-call]
    assert found.weight == 5
    torch.testing.assert_close(found.total, expected_P.sum(), rtol=1e-5, atol=1e-5)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_in_parts_adds_up(name: str) -> None:
    model, reference = toy_model(), None if name in WITHOUT_REFERENCE else toy_model(1)

    def total(batch: AnswerBatch) -> Tensor:
        reference_M = answer_logprobs(reference, batch) if reference else None
        return preference_loss(loss_of(name), batch, answer_logprobs(model, batch), reference_M).total

    torch.testing.assert_close(sum(map(total, pairs().split(2))), total(pairs()), rtol=1e-5, atol=1e-5)


def told(found: Loss) -> dict[str, float]:
    return {name: float(total.detach() / weight) for name, (total, weight) in found.metrics.items()}


def test_a_policy_that_is_its_reference_has_no_preference() -> None:
    batch, model = pairs(), toy_model()
    with torch.no_grad():
        logprob_M = answer_logprobs(model, batch)
    found = preference_loss(loss_of("sigmoid"), batch, logprob_M, logprob_M)
    assert told(found) | {"chosen_logprob": -1.0} == {
        "accuracy": 0.5, "margin": 0, "chosen_reward": 0, "rejected_reward": 0, "chosen_logprob": -1.0, "kl": 0
    }  # fmt: skip
    assert told(found)["chosen_logprob"] < 0
    assert float(found.total / found.weight) == pytest.approx(0.6931, abs=1e-4)


def test_the_metrics_say_what_the_loss_compares() -> None:
    batch, policy, reference = pairs(), toy_model(), toy_model(1)
    with torch.no_grad():
        policy_M, reference_M = answer_logprobs(policy, batch), answer_logprobs(reference, batch)
        policy_B, length_B = plain_answers(policy)
        gain_B = policy_B - plain_answers(reference)[0]
    for name, reward_B in (("sigmoid", 0.3 * gain_B), ("ipo", 0.3 * gain_B / length_B)):
        found = told(preference_loss(loss_of(name), batch, policy_M, reference_M))
        chosen_P, rejected_P = reward_B[0::2], reward_B[1::2]
        expected = {
            "accuracy": (chosen_P > rejected_P).float().mean(),
            "margin": (chosen_P - rejected_P).mean(),
            "chosen_reward": chosen_P.mean(),
            "rejected_reward": rejected_P.mean(),
            "chosen_logprob": (policy_B / length_B)[0::2].mean(),
        }
        for metric, value in expected.items():
            assert found[metric] == pytest.approx(float(value), rel=1e-4, abs=1e-5), metric


def test_the_divergence_is_not_more_than_that_of_whole_distributions() -> None:
    draw = torch.Generator().manual_seed(0)
    policy_NV, reference_NV = (torch.randn(200, 7, generator=draw).mul(2).log_softmax(1) for _ in range(2))
    whole_N = (policy_NV.exp() * (policy_NV - reference_NV)).sum(1)
    for token in range(7):
        found_N = two_way_kl(policy_NV[:, token], reference_NV[:, token])
        assert bool((found_N <= whole_N + 1e-6).all())
        assert bool((found_N >= -1e-6).all())
    two_NV = policy_NV[:, :2].log_softmax(1), reference_NV[:, :2].log_softmax(1)
    found_N = two_way_kl(two_NV[0][:, 0], two_NV[1][:, 0])
    torch.testing.assert_close(found_N, (two_NV[0].exp() * (two_NV[0] - two_NV[1])).sum(1), rtol=1e-4, atol=1e-5)


def test_with_its_adapter_off_a_policy_is_its_own_reference() -> None:
    batch, adapted = pairs(), toy_model()
    attach(adapted, LoraConfig(rank=4), torch.Generator().manual_seed(0))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora" in name or parameter.requires_grad:
                parameter.add_(0.05)
        frozen_M = answer_logprobs(toy_model(), batch)
        assert not torch.equal(answer_logprobs(adapted, batch), frozen_M)
    assert torch.equal(reference_logprobs({"policy": adapted}, batch), frozen_M)


def test_nearly_certain_answers_keep_their_odds() -> None:
    loss = PreferenceLoss("orpo", 0.1)
    sure = Answers(torch.tensor([-1e-9]), torch.tensor([-5.0]), torch.ones(1), torch.ones(1))
    assert torch.isfinite(loss.of(sure, None)).all()
