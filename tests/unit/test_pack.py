from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from data.pack import BLOCK_ROWS, learnable, order, pack, pack_in_order, pack_shards
from data.prepare import tokenise
from minimind.text.tokenizer import Tokenizer
from tests.small import write_chats, write_rows


def test_best_fit_decreasing_by_hand() -> None:
    packing = pack(np.array([3, 7, 2, 5, 3], np.int32), 10)
    rows = [packing.piece_document[begin:end].tolist() for begin, end in pairwise(packing.row_offsets.tolist())]
    assert rows == [[1, 0], [3, 4, 2]]
    assert packing.rows == 2
    assert (packing.tokens, packing.targets, packing.utilisation) == (20, 15, 1.0)


def test_long_documents_overlap_by_one_token() -> None:
    packing = pack(np.array([10], np.int32), 4)
    pieces = sorted(zip(packing.piece_start.tolist(), packing.piece_length.tolist(), strict=True))
    assert pieces == [(0, 4), (3, 4), (6, 4)]
    assert packing.targets == 9
    eleven = pack(np.array([11], np.int32), 4)
    assert max(zip(eleven.piece_start.tolist(), eleven.piece_length.tolist(), strict=True)) == (9, 2)


def test_conversations_are_not_cut() -> None:
    lengths = np.array([10, 3, 4, 0, 1], np.int32)
    packing = pack(lengths, 4, whole=True)
    pieces = sorted(zip(packing.piece_document.tolist(), packing.piece_length.tolist(), strict=True))
    assert pieces == [(0, 4), (1, 3), (2, 4)]
    assert not packing.piece_start.any()
    assert packing.rows == 3
    with pytest.raises(ValueError, match="nothing to train on: 1 documents"):
        pack(lengths, 4, np.array([3]), whole=True)


def test_conversations_without_a_target_in_their_row_are_left_out(tmp_path: Path) -> None:
    tokenizer = Tokenizer.train(["zz"], vocab_size=292)  # a token per byte
    path = write_chats(tmp_path / "chats.jsonl", [("q", "a"), ("q" * 30, "a"), ("q", "a" * 30), ("q" * 9, "a")])
    shards = tokenise([path], tokenizer, tmp_path, rows="sft")
    first = int(shards.first_targets[3])
    for width, expected in ((first, [0, 2]), (first + 1, [0, 2, 3]), (200, [0, 1, 2, 3])):
        assert learnable(shards, width).tolist() == expected
        packing = pack_shards(shards, width)
        assert sorted(packing.piece_document.tolist()) == expected
        assert packing.fingerprint == pack_shards(shards, width, np.arange(4)).fingerprint
    assert pack_shards(shards, 40, np.array([1, 2])).piece_document.tolist() == [2]
    with pytest.raises(ValueError, match="nothing to train on"):
        pack_shards(shards, 5)


def test_plain_text_is_packed_in_pieces(tmp_path: Path) -> None:
    tokenizer = Tokenizer.train(["zz"], vocab_size=292)
    shards = tokenise([write_rows(tmp_path / "rows.jsonl", ["a" * 30, "b"])], tokenizer, tmp_path)
    assert pack_shards(shards, 8).fingerprint == pack(shards.lengths, 8).fingerprint
    assert learnable(shards, 8).tolist() == [0, 1]
    one = np.array([1])
    assert pack_shards(shards, 8, one).fingerprint == pack(shards.lengths, 8, one).fingerprint


def test_a_choice_of_documents_keeps_their_numbers() -> None:
    packing = pack(np.array([2, 3, 4, 5], np.int32), 8, np.array([1, 3]))
    assert sorted(packing.piece_document.tolist()) == [1, 3]
    assert packing.fingerprint != pack(np.array([2, 3, 4, 5], np.int32), 8, np.array([1, 2])).fingerprint


def test_fingerprint_is_of_the_content() -> None:
    lengths = np.array([2, 3, 4, 5], np.int32)
    assert pack(lengths, 8).fingerprint == pack(lengths.copy(), 8).fingerprint
    assert pack(lengths, 8).fingerprint != pack(lengths, 9).fingerprint


def test_a_million_documents_in_seconds() -> None:
    lengths = np.random.default_rng(0).integers(2, 2000, 1_000_000).astype(np.int32)
    begin = time.process_time()
    packing = pack(lengths, 340)
    assert time.process_time() - begin < 3
    assert packing.utilisation > 0.99


def test_refuses_what_holds_no_target() -> None:
    with pytest.raises(ValueError, match="max_seq_len = 1: at least 2"):
        pack(np.array([4], np.int32), 1)
    with pytest.raises(ValueError, match="nothing to train on: 2 documents"):
        pack(np.array([1, 1], np.int32), 4)


def test_order_depends_on_seed_and_epoch_alone() -> None:
    assert order(5, 0, 0).tolist() == order(5, 0, 0).tolist()
    different = {tuple(order(50, seed, epoch).tolist()) for seed in range(3) for epoch in range(3)}
    assert len(different) == 9
    assert all(sorted(rows) == list(range(50)) for rows in different)


def test_order_means_the_same_for_ever() -> None:
    assert order(8, seed=42, epoch=1).tolist() == [1, 0, 2, 5, 7, 3, 6, 4]


def test_order_is_well_mixed() -> None:
    rows = order(10_000, 1, 0)
    assert abs(np.corrcoef(np.arange(10_000), rows)[0, 1]) < 0.03
    assert abs(np.corrcoef(rows, order(10_000, 1, 1))[0, 1]) < 0.03


def test_rows_in_the_order_of_the_file_hold_near_documents() -> None:
    lengths = np.random.default_rng(0).integers(0, 40, 20_000, np.int32)
    packing = pack_in_order(lengths, 64)
    assert packing.row_block is not None
    loose = pack(lengths, 64)
    assert sorted(packing.piece_document.tolist()) == sorted(loose.piece_document.tolist())  # nothing is lost
    assert packing.utilisation > 0.98
    documents = [packing.piece_document[a:b] for a, b in pairwise(packing.row_offsets.tolist())]
    for block in range(packing.row_block[-1]):
        now, after = (
            np.concatenate([documents[row] for row in np.flatnonzero(packing.row_block == n)])
            for n in (block, block + 1)
        )
        assert now.max() < after.min()
    assert np.bincount(packing.row_block).max() <= BLOCK_ROWS + 2
    assert packing.fingerprint != loose.fingerprint
    read = order(packing.rows, 3, 0, packing.row_block)
    assert sorted(read.tolist()) == list(range(packing.rows))
    assert (np.diff(packing.row_block[read]) >= 0).all()
    assert read.tolist() != sorted(read.tolist())  # shuffled among neighbours
    assert read.tolist() != order(packing.rows, 3, 1, packing.row_block).tolist()


def test_few_documents_in_order_and_none() -> None:
    few = pack_in_order(np.array([3, 1, 0, 5], np.int32), 8)
    assert few.row_block is not None
    assert few.row_block.tolist() == [0]
    conversations = pack_in_order(np.array([30, 3, 4], np.int32), 8, whole=True)
    assert sorted(conversations.piece_length.tolist()) == [3, 4, 8]
    with pytest.raises(ValueError, match="nothing to train on"):
        pack_in_order(np.array([1, 0], np.int32), 8)
