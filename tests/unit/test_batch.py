from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from minimind.training.batch import Batch, TokenBatch, WholeRows, predicted, worst_batch


@dataclass(frozen=True)
class Scored(WholeRows):
    """Rows with a number each."""

    tokens_BT: Tensor
    score_B: Tensor


def make() -> TokenBatch:
    return TokenBatch(
        tokens_BT=torch.tensor([[1, 5, 2, 1, 7, 0], [1, 9, 9, 9, 9, 2]]),
        loss_mask_BT=torch.tensor([[0, 1, 1, 0, 1, 0], [0, 1, 1, 1, 1, 1]]).bool(),
        segment_BT=torch.tensor([[1, 1, 1, 2, 2, 0], [1, 1, 1, 1, 1, 1]], dtype=torch.int32),
        rows=(4, 7),
    )


def test_token_batch_counts_real_tokens_and_slots() -> None:
    batch: Batch = make()
    assert batch.real_tokens == 11
    assert batch.slots == 12


def test_token_batch_moves_every_tensor_and_keeps_its_rows() -> None:
    moved = make().to(torch.device("meta"))
    assert {t.device.type for t in (moved.tokens_BT, moved.loss_mask_BT, moved.segment_BT, moved.predicted_N)} == {
        "meta"
    }
    assert moved.rows == (4, 7)
    assert moved.segment_BT.dtype == torch.int32


def test_a_token_batch_knows_where_its_predicted_tokens_are() -> None:
    batch = make()
    assert batch.predicted_N.tolist() == [1, 2, 4, 7, 8, 9, 10, 11]
    assert torch.equal(batch.tokens_BT.flatten()[batch.predicted_N], batch.tokens_BT[batch.loss_mask_BT])


def test_nothing_predicts_the_first_token_of_a_row() -> None:
    mask = torch.ones(2, 3, dtype=torch.bool)
    assert predicted(mask).tolist() == [1, 2, 4, 5]
    assert mask.all()


def test_the_worst_batch_predicts_all_that_can_be_predicted() -> None:
    batch = worst_batch(3, 5)
    assert (batch.slots, batch.real_tokens, len(batch.predicted_N), len(batch.rows)) == (15, 15, 12, 3)
    assert torch.equal(batch.predicted_N, predicted(batch.loss_mask_BT))


def test_parts_have_the_rows_in_order_and_know_what_they_predict() -> None:
    batch = make()
    assert batch.split(2) == [batch]
    first, second = batch.split(1)
    assert (first.rows, second.rows) == ((4,), (7,))
    assert torch.equal(torch.cat([first.tokens_BT, second.tokens_BT]), batch.tokens_BT)
    assert torch.equal(torch.cat([first.segment_BT, second.segment_BT]), batch.segment_BT)
    assert (first.predicted_N.tolist(), second.predicted_N.tolist()) == ([1, 2, 4], [1, 2, 3, 4, 5])
    assert [len(part.rows) for part in worst_batch(5, 8).split(2)] == [2, 2, 1]


def test_halves_predict_every_token_once_from_the_one_before() -> None:
    batch = make()
    halves = batch.halved()
    assert halves.rows == (4, 4, 7, 7)
    assert halves.tokens_BT.tolist() == [[1, 5, 2, 1], [1, 7, 0, 0], [1, 9, 9, 9], [9, 9, 2, 0]]
    assert halves.segment_BT.tolist() == [[1, 1, 1, 2], [2, 2, 0, 0], [1, 1, 1, 1], [1, 1, 1, 0]]
    assert halves.loss_mask_BT.int().tolist() == [[0, 1, 1, 0], [0, 1, 0, 0], [0, 1, 1, 1], [0, 1, 1, 0]]
    for width in (8, 9):
        whole = worst_batch(3, width)
        assert len(whole.halved().predicted_N) == len(whole.predicted_N)
        assert whole.halved().tokens_BT.shape == (6, width // 2 + 1)


def test_whole_rows_move_and_split_with_all_that_belongs_to_them() -> None:
    batch = Scored((4, 5, 9), torch.arange(12).view(3, 4), torch.tensor([0.5, 1.0, 2.0]))
    assert (batch.slots, batch.real_tokens, batch.width) == (12, 12, 0)
    parts = batch.split(2)
    assert [part.rows for part in parts] == [(4, 5), (9,)]
    assert [part.score_B.tolist() for part in parts] == [[0.5, 1.0], [2.0]]
    assert torch.equal(torch.cat([part.tokens_BT for part in parts]), batch.tokens_BT)
    moved = batch.to(torch.device("meta"))
    assert moved.tokens_BT.is_meta
    assert moved.score_B.is_meta
    assert moved.rows == batch.rows
    with pytest.raises(TypeError, match="the rows of a Scored make sense only whole"):
        batch.halved()
