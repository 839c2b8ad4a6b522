"""The loss of single answers with a label, against KTO's formula written out over full logits."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch
from torch import Tensor

from minimind.network.model import MiniMind
from minimind.training.answers import Answer, AnswerBatch, answer_batch, answer_logprobs
from minimind.training.preference import LabelledLoss
from tests.toys import TOY_CONFIG, toy_model

GOOD = [True, False, True, True, False]
IN_ROW = 2


def texts() -> list[list[tuple[list[int], int]]]:
    """For each label (prompt and answer, where the answer begins), and the same prompt with the next one's answer."""
    draw = Random(0)

    def ids(least: int, most: int) -> list[int]:
        return [draw.randrange(1, TOY_CONFIG.vocab_size) for _ in range(draw.randint(least, most))]

    prompts, answers = [ids(2, 4) for _ in GOOD], [ids(1, 5) for _ in GOOD]
    return [
        [(prompt + answers[(number + other) % len(GOOD)], len(prompt)) for other in (0, 1)]
        for number, prompt in enumerate(prompts)
    ]


def labelled() -> AnswerBatch:
    trees = [[Answer(np.array(ids), np.arange(len(ids)) >= begin) for ids, begin in pair] for pair in texts()]
    rows = [trees[start : start + IN_ROW] for start in range(0, len(trees), IN_ROW)]
    batch = answer_batch(rows, range(len(rows)), 48)
    return replace(batch, good_A=torch.tensor(GOOD).repeat_interleave(2))


def gains(policy: MiniMind, reference: MiniMind) -> tuple[Tensor, Tensor]:
    """[P] and [P], what the own answers and those of others have gained on the reference, each text by itself."""

    def logprob(model: MiniMind, ids: list[int], begin: int) -> Tensor:
        logprob_TV = model.logits(model(torch.tensor([ids])))[0].float().log_softmax(1)
        return logprob_TV[begin - 1 : -1].gather(1, torch.tensor(ids)[begin:, None]).sum()

    found = [[logprob(policy, *side) - logprob(reference, *side).detach() for side in pair] for pair in texts()]
    return torch.stack([own for own, _ in found]), torch.stack([other for _, other in found])


def written_out(own_P: Tensor, other_P: Tensor, beta: float, good: float, bad: float) -> Tensor:
    """[P], equations 7 and 8 of the paper, as TRL's KTOTrainer has them; the baseline is a row's."""
    losses = []
    for start in range(0, len(GOOD), IN_ROW):
        part = slice(start, start + IN_ROW)
        baseline = other_P[part].mean().clamp(min=0).detach()
        for gained, label in zip(own_P[part], GOOD[part], strict=True):
            sign, weight = (1, good) if label else (-1, bad)
            losses.append(weight * (1 - torch.sigmoid(beta * sign * (gained - baseline))))
    return torch.stack(losses)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.0, 2.5)])
def test_loss_and_gradients_are_those_of_the_formula(weights: tuple[float, float]) -> None:
    ours, theirs, reference, batch = toy_model(), toy_model(), toy_model(1).requires_grad_(False), labelled()
    found = LabelledLoss(0.3, *weights)(batch, answer_logprobs(ours, batch), answer_logprobs(reference, batch))
    found.total.backward()  # type: ignore[no-untyped-call]
    expected = written_out(*gains(theirs, reference), 0.3, *weights).sum()
    expected.backward()  # type: ignore[no-untyped-call]
    assert found.weight == len(GOOD)
    torch.testing.assert_close(found.total, expected, rtol=1e-5, atol=1e-5)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5)


def test_a_batch_in_parts_adds_up() -> None:
    model, reference, loss = toy_model(), toy_model(1), LabelledLoss(0.3)

    def total(batch: AnswerBatch) -> Tensor:
        with torch.no_grad():
            return loss(batch, answer_logprobs(model, batch), answer_logprobs(reference, batch)).total

    torch.testing.assert_close(sum(map(total, labelled().split(1))), total(labelled()), rtol=1e-5, atol=1e-5)


def test_the_metrics_are_of_the_own_answers() -> None:
    batch, policy, reference = labelled(), toy_model(), toy_model(1)
    with torch.no_grad():
        found = LabelledLoss(0.3)(batch, answer_logprobs(policy, batch), answer_logprobs(reference, batch))
        own_P, other_P = gains(policy, reference)
    told = {name: float(total / weight) for name, (total, weight) in found.metrics.items()}
    good_P = torch.tensor(GOOD)
    assert told["good_reward"] == pytest.approx(float(0.3 * own_P[good_P].mean()), rel=1e-4)
    assert told["bad_reward"] == pytest.approx(float(0.3 * own_P[~good_P].mean()), rel=1e-4)
    baselines = [float(other_P[start : start + IN_ROW].mean().clamp(min=0)) for start in range(0, len(GOOD), IN_ROW)]
    above = [(float(gained) > baselines[number // IN_ROW]) == GOOD[number] for number, gained in enumerate(own_P)]
    assert told["accuracy"] == pytest.approx(sum(above) / len(GOOD))
    assert told["kl"] > 0


def test_a_policy_that_is_its_reference_is_on_neither_side() -> None:
    batch, model = labelled(), toy_model()
    with torch.no_grad():
        logprob_M = answer_logprobs(model, batch)
    found = LabelledLoss(0.3)(batch, logprob_M, logprob_M)
    assert float(found.total / found.weight) == pytest.approx(0.5)
    assert float(found.metrics["accuracy"][0] / found.metrics["accuracy"][1]) == 0.5
