from __future__ import annotations

import torch

from minimind.batch import Batch, TokenBatch


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
    assert {t.device.type for t in (moved.tokens_BT, moved.loss_mask_BT, moved.segment_BT)} == {"meta"}
    assert moved.rows == (4, 7)
    assert moved.segment_BT.dtype == torch.int32
