"""A reward model: its loss, and the scores that it gives."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from minimind.inference import reward
from minimind.network.score import ScoreModel
from minimind.training.reward import reward_loss
from tests.toys import TOY_CONFIG, toy_model


def scoring() -> ScoreModel:
    model = ScoreModel.of(toy_model())
    with torch.no_grad():
        model.score.weight.normal_(generator=torch.Generator().manual_seed(0))
    return model.eval()


def test_the_loss_is_that_of_bradley_and_terry_with_a_centre() -> None:
    score_A = torch.tensor([1.0, 0.5, -2.0, 3.0, 0.25, 0.25], requires_grad=True)
    found = reward_loss(score_A, center=0.1)
    better, worse = score_A.detach().view(3, 2).unbind(1)
    expected = -F.logsigmoid(better - worse).sum() + 0.1 * ((better + worse) ** 2).sum()
    torch.testing.assert_close(found.total, expected)
    assert found.weight == 3
    told = {name: float(total.detach() / weight) for name, (total, weight) in found.metrics.items()}
    assert told == {
        "accuracy": pytest.approx(1.5 / 3),
        "margin": pytest.approx(float((better - worse).mean())),
        "score": pytest.approx(float(score_A.detach().mean())),
    }
    found.total.backward()  # type: ignore[no-untyped-call]
    assert score_A.grad is not None


def test_a_centre_draws_the_mean_of_the_scores_to_zero() -> None:
    for center in (0.0, 0.1):
        score_A = torch.tensor([3.0, 2.0], requires_grad=True)
        reward_loss(score_A, center).total.backward()  # type: ignore[no-untyped-call]
        assert score_A.grad is not None
        assert float(score_A.grad.sum()) == pytest.approx(center * 20)


def test_scores_of_many_texts_are_those_of_each() -> None:
    model, draw = scoring(), torch.Generator().manual_seed(1)
    texts = [torch.randint(1, TOY_CONFIG.vocab_size, (length,), generator=draw).tolist() for length in (3, 9, 1, 5, 9)]
    with torch.no_grad():
        alone = [float(model.scores(torch.tensor([ids]))[0, -1]) for ids in texts]
    told: list[int] = []
    for tokens in (reward.STEP_TOKENS, 12):
        told.clear()
        assert reward.scores(model, texts, told.append, step_tokens=tokens) == pytest.approx(alone, rel=1e-4, abs=1e-5)
        assert sum(told) == len(texts)
    assert len(told) > 1


def test_what_has_no_tokens_or_too_many_is_refused() -> None:
    model = scoring()
    most = model.config.max_position_embeddings
    with pytest.raises(ValueError, match=f"text 2 has 0 tokens: a score is given to 1 to {most}"):
        reward.scores(model, [[1], []])
    with pytest.raises(ValueError, match=f"text 1 has {most + 1} tokens"):
        reward.scores(model, [[1] * (most + 1)])
