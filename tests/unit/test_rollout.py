"""Rollouts: the policy's own answers, as micro-batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from minimind.training.answers import AnswerBatch
from minimind.training.rollout import PromptBatch, Rollouts, Writing
from tests.toys import TOY_CONFIG, toy_model

CONTEXT = 24


class Prompts:
    """Prompts of two to six tokens, or longer ones, eight a micro-batch."""

    def __init__(self, longer: int = 0) -> None:
        self.position, self.longer = 0, longer

    @property
    def done(self) -> bool:
        return self.position >= 32

    def take(self, count: int) -> Sequence[PromptBatch]:
        found = []
        for _ in range(count):
            rows = range(self.position, self.position + 8)
            tokens_BT = torch.tensor(
                [[1 + (row * 7 + at) % (TOY_CONFIG.vocab_size - 1) for at in range(6 + self.longer)] for row in rows]
            )
            length_B = torch.tensor([2 + self.longer + row % 5 for row in rows])
            found.append(PromptBatch(tuple(rows), tokens_BT, length_B))
            self.position += 8
        return found

    def total_steps(self, accumulation_steps: int) -> int:
        return 4 // accumulation_steps

    def stop_reading_ahead(self) -> bool:
        return False

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]


def written(count: int, answers: int = 1, max_tokens: int = 8, longer: int = 0) -> list[AnswerBatch]:
    how = Writing(seed=5, answers=answers, max_tokens=max_tokens, context_tokens=CONTEXT, stop_id=0)
    return Rollouts(Prompts(longer), {"policy": toy_model()}, how).take(count)


def texts(batch: AnswerBatch) -> list[list[int]]:
    """Each prompt with each of its answers, in order of their tokens."""
    found = []
    for tokens_T, segment_T, branch_T in zip(batch.tokens_BT, batch.segment_BT, batch.branch_BT, strict=True):
        for segment in range(1, int(segment_T.max()) + 1):
            branches = [int(branch) for branch in branch_T[segment_T == segment].unique() if branch]
            for branch in branches:
                mine = (segment_T == segment) & ((branch_T == 0) | (branch_T == branch))
                found.append(tokens_T[mine].tolist())
    return sorted(found)


def test_several_prompts_lie_in_a_row_and_none_is_lost() -> None:
    for number, batch in enumerate(written(2)):
        assert batch.tokens_BT.shape[0] < 8
        assert batch.tokens_BT.shape[1] <= CONTEXT
        found = texts(batch)
        prompts = Prompts().take(number + 1)[number].prompts()
        assert len(found) == 8
        assert all(any(text[: len(prompt)] == prompt for text in found) for prompt in prompts)
        # What is learnt is what was written, and all of it.
        assert len(batch.predicted_N) == sum(map(len, found)) - sum(map(len, prompts))
        assert set(batch.rows) <= set(range(8 * number, 8 * number + 8))
        assert len(batch.rows) == len(batch.tokens_BT)


def test_what_is_written_is_the_same_however_prompts_lie_in_micro_batches() -> None:
    assert [texts(batch) for batch in written(2)] == [texts(batch) for batch in written(4)[:2]]


def test_a_group_of_answers_that_is_longer_than_a_row_gets_a_wider_one() -> None:
    (batch,) = written(1, answers=6)
    assert len(texts(batch)) == 48
    assert batch.answers == 48
    assert batch.tokens_BT.shape[1] > CONTEXT


def test_a_row_is_no_wider_than_what_lies_in_it() -> None:
    (batch,) = written(1, max_tokens=1, longer=11)  # 13 to 17 tokens: there is no room for two in a row
    assert batch.tokens_BT.shape == (8, 17 + 1)
