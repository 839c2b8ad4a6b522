from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from data.batches import OrderedBatches, in_order
from data.pack import learnable
from data.prepare import tokenise
from data.rows import PairRows
from data.shards import TokenShards
from minimind.text.tokenizer import Tokenizer
from tests.small import turns, write_chats

TOKENIZER = Tokenizer.train(["zz"], vocab_size=292)
WIDTH = 64


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> TokenShards:
    """Ten pairs: in the eighth the worse answer, in the ninth both begin behind WIDTH; the last is longer."""
    folder = tmp_path_factory.mktemp("pairs")
    asked = [f"{n:02}" for n in range(7)] + ["q", "q" * 90, "08"]
    good = ["ab" * (n + 1) for n in range(7)] + ["a", "a", "c" * 90]
    bad = ["ba"] * 7 + ["b", "b", "d" * 3]
    rows = [{"chosen": turns(q, g), "rejected": turns(q, b)} for q, g, b in zip(asked, good, bad, strict=True)]
    rows[7]["rejected"] = turns("z" * 80, "b")
    path = folder / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return tokenise([path], TOKENIZER, folder / "out", rows="dpo")


def test_a_pair_has_its_better_answer_first_and_nothing_but_answers_is_learnt(pairs: TokenShards) -> None:
    rows = PairRows(pairs, np.arange(7), WIDTH, pad_id=5)
    batch = rows.batch([2, 6])
    sides = batch.sides
    assert batch.rows == (2, 6)
    assert sides.rows == (2, 2, 6, 6)
    assert sides.tokens_BT.shape == (4, int(pairs.lengths[12]))  # as wide as the longest of them
    for place, document in enumerate((4, 5, 12, 13)):
        length = int(pairs.lengths[document])
        assert sides.tokens_BT[place, :length].tolist() == pairs.document(document).tolist()
        assert sides.tokens_BT[place, length:].tolist() == [5] * (sides.width - length)
        assert sides.segment_BT[place].tolist() == [1] * length + [0] * (sides.width - length)
        learnt = sides.tokens_BT[place][sides.loss_mask_BT[place]]
        answer = ("abababab"[:6], "ba", "ab" * 7, "ba")[place]
        assert TOKENIZER.decode(learnt.tolist()).removesuffix("<|im_end|>") == answer
    assert sides.predicted_N.tolist() == sides.loss_mask_BT.flatten().nonzero()[:, 0].tolist()


def test_what_is_too_long_loses_its_end_and_what_has_no_answer_left_is_not_read(pairs: TokenShards) -> None:
    chosen = learnable(pairs, WIDTH)
    assert chosen.tolist() == [*range(7), 9]
    rows = PairRows(pairs, chosen, WIDTH)
    assert rows.count == len(chosen)
    batch = rows.batch([rows.count - 1])
    assert batch.sides.width == WIDTH
    assert batch.real_tokens == WIDTH + int(pairs.lengths[19])
    assert bool(batch.sides.loss_mask_BT[0, -1])


def test_pairs_are_read_in_the_one_order_of_all_rows(pairs: TokenShards) -> None:
    rows = PairRows(pairs, np.arange(7), WIDTH)
    batches = OrderedBatches(rows, batch_size=2, seed=3)
    taken = [batch for _ in range(4) for batch in batches.take(1)]
    assert sorted(row for batch in taken for row in batch.rows) == list(range(7))
    state = OrderedBatches(rows, batch_size=2, seed=3)
    state.take(2)
    again = OrderedBatches(rows, batch_size=2, seed=3)
    again.load_state_dict(state.state_dict())
    assert torch.equal(again.take(1)[0].sides.tokens_BT, taken[2].sides.tokens_BT)
    assert [batch.rows for batch in in_order(rows, batch_size=3)] == [(0, 1, 2), (3, 4, 5), (6,)]
    other = OrderedBatches(PairRows(pairs, np.arange(6), WIDTH), batch_size=2, seed=3)
    with pytest.raises(ValueError, match="the choice of documents was"):
        other.load_state_dict(state.state_dict())


def test_rows_that_are_no_pairs_and_no_rows_are_refused(pairs: TokenShards, tmp_path: Path) -> None:
    chats = tokenise([write_chats(tmp_path / "a.jsonl", [("q", "a")])], TOKENIZER, tmp_path / "out", rows="sft")
    with pytest.raises(ValueError, match="its rows are no pairs"):
        PairRows(chats, np.arange(1), WIDTH)
    with pytest.raises(ValueError, match="no pair has both answers in its first 64 tokens"):
        PairRows(pairs, np.arange(0), WIDTH)
