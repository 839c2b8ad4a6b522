"""Answers that share their prompt: what comes out is what each by itself gives."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
import torch
from torch import Tensor

from minimind.network.attention import branch_positions
from minimind.network.model import MiniMind
from minimind.network.score import ScoreModel
from minimind.training.answers import (
    Answer,
    AnswerBatch,
    answer_batch,
    answer_logprobs,
    shared_tokens,
    summed,
    tree_tokens,
    worst_answers,
)
from minimind.training.objectives import token_logprobs
from tests.toys import TOY_CONFIG, toy_model

WIDTH = 48


def prompts(count: int, answers: int = 3, seed: int = 0) -> list[list[Answer]]:
    """Prompts with some answers each, the first of which begins as the second does."""
    draw = Random(seed)

    def ids(least: int, most: int) -> list[int]:
        return [draw.randrange(1, TOY_CONFIG.vocab_size) for _ in range(draw.randint(least, most))]

    found = []
    for number in range(count):
        prompt, begun = ids(2, 4), ids(2, 2) if number % 2 else []
        texts = [[*prompt, *begun, *ids(1, 5)] for _ in range(answers)]
        found.append([Answer(np.array(text), np.arange(len(text)) >= len(prompt)) for text in texts])
    return found


def batch_of(trees: list[list[Answer]], in_row: int = 2) -> AnswerBatch:
    rows = [trees[start : start + in_row] for start in range(0, len(trees), in_row)]
    return answer_batch(rows, range(7, 7 + len(rows)), WIDTH)


def alone(model: MiniMind, trees: list[list[Answer]]) -> list[Tensor]:
    """The log-probabilities of each answer's learnt tokens, each text by itself."""
    found = []
    for answer in (answer for tree in trees for answer in tree):
        tokens = torch.from_numpy(answer.tokens)[None]
        at = torch.from_numpy(np.flatnonzero(answer.targets))
        found.append(token_logprobs(model(tokens), model.head_weight_VD, tokens, at))
    return found


def test_each_answer_is_as_likely_as_by_itself_and_so_are_its_gradients() -> None:
    trees, together, apart = prompts(5), toy_model(), toy_model()
    batch = batch_of(trees)
    found_M, expected = answer_logprobs(together, batch), alone(apart, trees)
    torch.testing.assert_close(found_M, torch.cat(expected), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(summed(found_M, batch), torch.stack([logprob.sum() for logprob in expected]))
    factor_M = torch.linspace(-1, 1, len(found_M))
    (found_M * factor_M).sum().backward()  # type: ignore[no-untyped-call]
    (torch.cat(expected) * factor_M).sum().backward()  # type: ignore[no-untyped-call]
    for one, other in zip(together.parameters(), apart.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5)


def test_what_answers_share_is_computed_once() -> None:
    trees = prompts(4)
    batch = batch_of(trees)
    texts = [[answer.tokens for answer in tree] for tree in trees]
    assert batch.real_tokens == sum(map(tree_tokens, texts)) < sum(len(text) for tree in texts for text in tree)
    learnt = [int(answer.targets.sum()) for tree in trees for answer in tree]
    assert len(batch.predicted_N) < sum(learnt) == len(batch.member_M)
    assert torch.bincount(batch.answer_M).tolist() == learnt


def test_positions_go_on_from_the_stem_on_every_branch() -> None:
    segment = torch.tensor([[1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 0, 0]])
    branch = torch.tensor([[0, 0, 1, 1, 2, 2, 0, 1, 2, 2, 0, 0]])
    assert branch_positions(segment, branch).tolist() == [[0, 1, 2, 3, 2, 3, 0, 1, 1, 2, 0, 1]]


def test_a_batch_in_parts_has_the_same_answers() -> None:
    model, batch = toy_model(), batch_of(prompts(5), in_row=1)
    batch = answer_batch([[tree] for tree in prompts(5)], (7, 8, 3, 1, 2), WIDTH)
    parts = batch.split(2)
    assert [part.rows for part in parts] == [(7, 8), (3, 1), (2,)]
    assert [part.answers for part in parts] == [6, 6, 3]
    whole_M = answer_logprobs(model, batch)
    torch.testing.assert_close(torch.cat([answer_logprobs(model, part) for part in parts]), whole_M)
    assert torch.equal(torch.cat([summed(torch.ones(len(part.answer_M)), part) for part in parts]),
                       summed(torch.ones(len(batch.answer_M)), batch))  # fmt: skip
    assert batch.split(5) == [batch]
    assert parts[0].known_M is None
    known = answer_batch([[tree] for tree in prompts(5)], range(5), WIDTH)
    object.__setattr__(known, "known_M", whole_M.detach())
    kept = [part.known_M for part in known.split(2)]
    assert all(isinstance(part, Tensor) for part in kept)
    assert torch.equal(torch.cat([part for part in kept if part is not None]), whole_M)
    moved = known.to(torch.device("meta"))
    assert moved.tokens_BT.is_meta
    assert moved.known_M is not None
    assert moved.known_M.is_meta
    with pytest.raises(TypeError, match="make sense only whole"):
        batch.halved()


def test_an_answer_that_is_the_beginning_of_another_keeps_a_token_of_its_own() -> None:
    assert shared_tokens([np.array([1, 2, 3]), np.array([1, 2, 3, 4])]) == 2
    assert shared_tokens([np.array([1, 2]), np.array([3, 4])]) == 0
    assert tree_tokens([np.array([1, 2, 3]), np.array([1, 2, 3, 4])]) == 5


def test_scores_are_read_where_each_answer_ends() -> None:
    trees, model = prompts(3), ScoreModel.of(toy_model())
    with torch.no_grad():
        model.score.weight.normal_(generator=torch.Generator().manual_seed(0))
        batch = batch_of(trees)
        found_A = model.scores(batch.tokens_BT, batch.segment_BT, batch.branch_BT).flatten()[batch.last_A]
        expected = [model.scores(torch.from_numpy(answer.tokens)[None])[0, -1] for tree in trees for answer in tree]
    torch.testing.assert_close(found_A, torch.stack(expected), rtol=1e-5, atol=1e-5)


def test_the_worst_answers_fill_their_rows() -> None:
    batch = worst_answers(3, 8)
    assert (batch.rows, batch.slots, batch.real_tokens, batch.answers) == ((0, 1, 2), 48, 48, 6)
    assert len(batch.predicted_N) == len(batch.member_M) == 6 * 7
    assert torch.bincount(batch.answer_M).tolist() == [7] * 6
    assert int(batch.last_A.max()) < batch.slots
    assert answer_logprobs(toy_model(), batch).shape == (42,)


def test_compiled_blocks_give_the_same() -> None:
    model, batch = toy_model(), batch_of(prompts(2))
    with torch.no_grad():
        expected_M = answer_logprobs(model, batch)
        model.compile_blocks(backend="eager")
        torch.testing.assert_close(answer_logprobs(model, batch), expected_M)
