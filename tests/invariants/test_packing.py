"""Documents packed into one row are as if each were alone, and padding is as if it were not there."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from data.batches import in_order
from data.pack import pack, pack_shards
from data.rows import PackedRows
from data.shards import TokenShards
from minimind.training.batch import TokenBatch
from minimind.training.objectives import next_token_loss
from tests.toys import text_model

WIDTH = 48


def loss_and_gradient(batches: Iterable[TokenBatch]) -> tuple[float, float, Tensor]:
    """Summed loss, its weight, and the gradient of all parameters as one vector."""
    model = text_model()
    total = weight = 0.0
    for batch in batches:
        loss = next_token_loss({"policy": model}, batch)
        loss.total.backward()  # type: ignore[no-untyped-call]
        total += float(loss.total.detach())
        weight += float(loss.weight)
    return total, weight, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def assert_equal(left: tuple[float, float, Tensor], right: tuple[float, float, Tensor]) -> None:
    assert abs(left[0] - right[0]) < 1e-6 * abs(right[0])
    assert left[1] == right[1]
    assert (left[2] - right[2]).norm() < 1e-5 * right[2].norm()


def alone(shards: TokenShards) -> Iterable[TokenBatch]:
    """Each document in a row of its own, as long as it is."""
    for index in range(len(shards)):
        tokens = torch.from_numpy(shards.document(index).astype(np.int64))[None]
        mask = torch.zeros_like(tokens, dtype=torch.bool)
        for begin, end in shards.targets(index).tolist():
            mask[:, begin:end] = True
        yield TokenBatch(tokens, mask, torch.ones_like(tokens))


@pytest.mark.parametrize(("kind", "width"), [("shards", WIDTH), ("chats", 200)])
def test_packed_documents_have_the_loss_and_gradient_of_documents_alone(
    request: pytest.FixtureRequest, kind: str, width: int
) -> None:
    documents = request.getfixturevalue(kind)
    packing = pack_shards(documents, width)
    assert documents.lengths.max() <= width
    assert packing.rows < len(documents) / 2
    packed = loss_and_gradient(in_order(PackedRows(documents, packing), batch_size=3))
    assert_equal(packed, loss_and_gradient(alone(documents)))


def test_only_the_answers_of_conversations_are_learnt(chats: TokenShards) -> None:
    _, weight, _ = loss_and_gradient(in_order(PackedRows(chats, pack_shards(chats, 200)), batch_size=3))
    spans = [chats.targets(index) for index in range(len(chats))]
    assert weight == sum(int((span[:, 1] - span[:, 0]).sum()) for span in spans) < chats.tokens / 2


def test_a_document_in_pieces_predicts_every_token_once(shards: TokenShards) -> None:
    packing = pack(shards.lengths, 8)
    assert len(packing.piece_length) > len(shards)
    _, weight, _ = loss_and_gradient(in_order(PackedRows(shards, packing), batch_size=3))
    assert weight == shards.tokens - len(shards)


def test_padding_changes_nothing_whatever_it_holds(shards: TokenShards) -> None:
    packing = pack(shards.lengths, WIDTH)
    batch = PackedRows(shards, packing).batch(range(4))
    expected = loss_and_gradient([batch])
    for pad_id in (0, 7):
        wider = TokenBatch(
            F.pad(batch.tokens_BT, (0, 9), value=pad_id),
            F.pad(batch.loss_mask_BT, (0, 9)),
            F.pad(batch.segment_BT, (0, 9)),
        )
        assert_equal(loss_and_gradient([wider]), expected)


def test_the_order_of_documents_in_a_row_does_not_matter(shards: TokenShards) -> None:
    packing = pack(shards.lengths, WIDTH)
    fullest = int(np.diff(packing.row_offsets).argmax())
    batch = PackedRows(shards, packing).batch([fullest])
    pieces = [batch.segment_BT[0] == number for number in (*range(1, int(batch.segment_BT.max()) + 1), 0)]
    assert len(pieces) > 3
    turned = torch.cat([piece.nonzero()[:, 0] for piece in (*pieces[-2::-1], pieces[-1])])
    other = TokenBatch(batch.tokens_BT[:, turned], batch.loss_mask_BT[:, turned], batch.segment_BT[:, turned])
    assert_equal(loss_and_gradient([other]), loss_and_gradient([batch]))
