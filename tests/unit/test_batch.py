from __future__ import annotations

import torch

from minimind.batch import Batch, TokenBatch, predicted


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
