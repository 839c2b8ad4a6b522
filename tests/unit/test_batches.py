from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data.batches import OrderedBatches, in_order
from data.pack import Packing, order, pack, pack_shards
from data.prepare import tokenise
from data.rows import PackedRows
from data.shards import TokenShards
from minimind.text.tokenizer import Tokenizer
from minimind.training.batch import TokenBatch
from tests.small import write_chats

WIDTH = 24
NARROW = 26


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> TokenShards:
    folder = tmp_path_factory.mktemp("collate")
    texts = [f"{i:03} " + "abcdefgh" * (i % 9) for i in range(60)]
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return tokenise([folder / "a.jsonl"], Tokenizer.train(["zz"], vocab_size=292), folder / "out")


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> TokenShards:
    """Conversations of one answer or two, all of which begin before NARROW and some of which end behind it."""
    folder = tmp_path_factory.mktemp("chats")
    rows = [(f"{i:03}", "ab" * (i % 9), "and", "c" * (i % 5 + 1))[: 2 + i % 2 * 2] for i in range(30)]
    path = write_chats(folder / "a.jsonl", rows)
    return tokenise([path], Tokenizer.train(["zz"], vocab_size=292), folder / "out", rows="sft")


@pytest.fixture(scope="module")
def packing(shards: TokenShards) -> Packing:
    return pack(shards.lengths, WIDTH)


Packed = tuple[TokenShards, Packing]


def source(
    shards: TokenShards, packing: Packing, beside: Packed | None = None, **settings: Any
) -> OrderedBatches[TokenBatch]:
    rows = PackedRows(shards, packing, settings.pop("pad_id", 0), beside)
    return OrderedBatches(rows, **({"batch_size": 2, "seed": 3} | settings))


def collate(shards: TokenShards, packing: Packing, rows: Sequence[int], pad_id: int) -> TokenBatch:
    return PackedRows(shards, packing, pad_id).batch(rows)


def rows_of(batches: list[TokenBatch]) -> list[int]:
    return [row for batch in batches for row in batch.rows]


def drain(batches: OrderedBatches[TokenBatch], count: int) -> list[list[TokenBatch]]:
    steps = []
    while not batches.done:
        steps.append(batches.take(count))
    return steps


def same(one: list[TokenBatch], other: list[TokenBatch]) -> bool:
    return len(one) == len(other) and all(
        a.rows == b.rows and all(torch.equal(getattr(a, name), getattr(b, name)) for name in vars(a) if name != "rows")
        for a, b in zip(one, other, strict=True)
    )


def test_a_batch_holds_its_documents(shards: TokenShards, packing: Packing) -> None:
    batch = collate(shards, packing, list(range(packing.rows)), pad_id=77)
    assert batch.tokens_BT.shape == batch.loss_mask_BT.shape == batch.segment_BT.shape == (packing.rows, WIDTH)
    assert (batch.tokens_BT.dtype, batch.segment_BT.dtype) == (torch.int64, torch.int32)
    assert batch.loss_mask_BT.dtype == torch.bool
    assert batch.real_tokens == packing.tokens
    assert int(batch.loss_mask_BT.sum()) == packing.targets == shards.tokens - len(shards)
    assert (batch.tokens_BT[batch.segment_BT == 0] == 77).all()
    assert not batch.loss_mask_BT[batch.segment_BT == 0].any()
    for row in range(packing.rows):
        segments = batch.segment_BT[row].numpy()
        for number, piece in enumerate(range(packing.row_offsets[row], packing.row_offsets[row + 1]), start=1):
            at = np.flatnonzero(segments == number)
            assert at.tolist() == list(range(at[0], at[0] + packing.piece_length[piece]))
            start = packing.piece_start[piece]
            document = shards.document(packing.piece_document[piece])
            assert batch.tokens_BT[row, at].tolist() == document[start : start + len(at)].tolist()
            assert batch.loss_mask_BT[row, at].tolist() == [False] + [True] * (len(at) - 1)


def test_the_targets_of_conversations_are_what_the_shards_name(chats: TokenShards) -> None:
    for width in (NARROW, 60):
        packing = pack_shards(chats, width)
        batch = collate(chats, packing, list(range(packing.rows)), pad_id=0)
        learnt = 0
        for row in range(packing.rows):
            for number, piece in enumerate(range(packing.row_offsets[row], packing.row_offsets[row + 1]), start=1):
                at = np.flatnonzero(batch.segment_BT[row].numpy() == number)
                document = packing.piece_document[piece]
                wanted = np.zeros(chats.lengths[document], np.bool_)
                for begin, end in chats.targets(document):
                    wanted[begin:end] = True
                assert batch.tokens_BT[row, at].tolist() == chats.document(document)[: len(at)].tolist()
                assert batch.loss_mask_BT[row, at].tolist() == wanted[: len(at)].tolist()
                learnt += int(wanted[: len(at)].sum())
        assert int(batch.loss_mask_BT.sum()) == learnt > 0


def test_a_share_of_other_rows_is_read_among_the_own(chats: TokenShards, shards: TokenShards) -> None:
    own, other = pack_shards(chats, 60), pack_shards(shards, 60)
    batches = source(chats, own, epochs=6, beside=(shards, other), replay=0.25)
    replayed = batches.replayed_rows
    assert replayed == round(own.rows / 3)
    assert batches.total_rows == 6 * (own.rows + replayed)
    rows = [row for step in drain(batches, 3) for row in rows_of(step)]
    epochs = [rows[begin : begin + batches.epoch_rows] for begin in range(0, len(rows), batches.epoch_rows)]
    assert all(sorted(row for row in epoch if row < own.rows) == list(range(own.rows)) for epoch in epochs)
    others = [sorted(row - own.rows for row in epoch if row >= own.rows) for epoch in epochs]
    assert {len(epoch) for epoch in others} == {replayed}
    # Each epoch takes the next rows of the other text: all of it before any of it again.
    counts = np.bincount(np.concatenate(others), minlength=other.rows)
    assert counts.max() - counts.min() <= 1
    assert others[0] != others[1]


def test_replayed_rows_are_those_of_the_other_packing(chats: TokenShards, shards: TokenShards) -> None:
    own, other = pack_shards(chats, 60), pack_shards(shards, 60)
    (batch,) = source(chats, own, batch_size=own.rows, beside=(shards, other), replay=0.25).take(1)
    assert max(batch.rows) >= own.rows
    for index, row in enumerate(batch.rows):
        alone = collate(shards, other, [row - own.rows], 0) if row >= own.rows else collate(chats, own, [row], 0)
        assert torch.equal(batch.tokens_BT[index], alone.tokens_BT[0])
        assert torch.equal(batch.loss_mask_BT[index], alone.loss_mask_BT[0])


def test_what_is_read_in_order_has_its_replay_spread_evenly(shards: TokenShards, tmp_path: Path) -> None:
    path = write_chats(tmp_path / "many.jsonl", [(f"{i:04}", "answer" * (i % 4 + 1)) for i in range(900)])
    many = tokenise([path], Tokenizer.train(["zz"], vocab_size=292), tmp_path, rows="sft")
    own, other = pack_shards(many, 60, in_order=True), pack_shards(shards, 60)
    assert own.row_block is not None
    assert own.row_block[-1] >= 5
    batches = source(many, own, beside=(shards, other), replay=0.25)
    read = rows_of(batches.take(10**6))
    assert sorted(row for row in read if row < own.rows) == list(range(own.rows))
    assert (np.diff(own.row_block[[row for row in read if row < own.rows]]) >= 0).all()
    places = np.flatnonzero(np.array(read) >= own.rows)
    assert len(places) == batches.replayed_rows
    quarters = np.histogram(places, 4, (0, len(read)))[0] / len(places)
    assert (np.abs(quarters - 0.25) < 0.1).all()
    again = source(many, own, beside=(shards, other), replay=0.25)
    half = len(read) // 2
    again.load_state_dict({**batches.state_dict(), "position": half})
    assert rows_of(again.take(10**6)) == read[half:]
    with pytest.raises(ValueError, match="the choice of documents was"):
        source(many, pack_shards(many, 60), beside=(shards, other), replay=0.25).load_state_dict(batches.state_dict())


def test_a_replay_that_makes_no_sense(chats: TokenShards, shards: TokenShards) -> None:
    own, other = pack_shards(chats, 60), pack_shards(shards, 60)
    for share in (-0.1, 1.0, 1.5):
        with pytest.raises(ValueError, match=f"replay share = {share}: allowed is more than 0 and less than 1"):
            source(chats, own, beside=(shards, other), replay=share)
    with pytest.raises(ValueError, match="replayed rows of 24 tokens among rows of 60"):
        source(chats, own, beside=(shards, pack_shards(shards, WIDTH)), replay=0.5)


def test_another_replay_is_refused_and_an_older_state_has_none(chats: TokenShards, shards: TokenShards) -> None:
    own, beside = pack_shards(chats, 60), (shards, pack_shards(shards, 60))
    with_replay, without = source(chats, own, beside, replay=0.25), source(chats, own)
    older = {key: value for key, value in without.state_dict().items() if key != "replay"}
    without.load_state_dict(older)
    with_replay.load_state_dict(with_replay.state_dict())
    for batches, state in ((with_replay, older), (without, with_replay.state_dict())):
        with pytest.raises(ValueError, match=r"the text replayed by data\.mix was .* and is .* now"):
            batches.load_state_dict(state)


def test_every_row_once_per_epoch_in_its_order(shards: TokenShards, packing: Packing) -> None:
    steps = drain(source(shards, packing, epochs=2), 3)
    rows = [row for step in steps for row in rows_of(step)]
    assert rows == [*order(packing.rows, 3, 0).tolist(), *order(packing.rows, 3, 1).tolist()]
    assert len(steps) == source(shards, packing, epochs=2).total_steps(3)


@pytest.mark.parametrize(("batch_size", "count", "world"), [(8, 1, 1), (4, 2, 1), (2, 4, 1), (4, 1, 2), (1, 2, 4)])
def test_how_a_step_is_cut_changes_no_row_of_it(
    shards: TokenShards, packing: Packing, batch_size: int, count: int, world: int
) -> None:
    ranks = [
        drain(source(shards, packing, batch_size=batch_size, rank=rank, world=world), count) for rank in range(world)
    ]
    whole = [rows_of(step) for step in drain(source(shards, packing, batch_size=8), 1)]
    assert [sorted(row for step in steps for row in rows_of(step)) for steps in zip(*ranks, strict=True)] == [
        sorted(rows) for rows in whole
    ]
    in_turn = [
        [
            row
            for micro in range(count)
            for steps in ranks
            for row in (rows_of(steps[0])[micro * batch_size :][:batch_size])
        ]
    ]
    assert in_turn == whole[:1]


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_one_two_one_workers_see_every_row_once(
    shards: TokenShards, packing: Packing, chats: TokenShards, share: float
) -> None:
    beside = (chats, pack_shards(chats, WIDTH)) if share else None
    seen: list[int] = []
    whole = source(shards, packing, beside, replay=share)
    state = whole.state_dict()
    for world, batch_size, steps in ((1, 2, 2), (2, 3, 1), (1, 2, 99)):
        ranks = [
            source(shards, packing, batch_size=batch_size, rank=rank, world=world, beside=beside, replay=share)
            for rank in range(world)
        ]
        for batches in ranks:
            batches.load_state_dict(state)
        for _ in range(steps):
            seen += [row for batches in ranks if not batches.done for row in rows_of(batches.take(2))]
        assert len({batches.done for batches in ranks}) == 1
        state = ranks[0].state_dict()
    assert [row for row in sorted(seen) if row < packing.rows] == list(range(packing.rows))
    assert sorted(seen) == sorted(row for step in drain(whole, 2) for row in rows_of(step))


def test_the_last_step_is_short_and_all_ranks_are_done_together(shards: TokenShards, packing: Packing) -> None:
    ranks = [source(shards, packing, batch_size=packing.rows - 1, rank=rank, world=3) for rank in range(3)]
    last = [batches.take(1) for batches in ranks]
    assert [[len(batch.rows) for batch in step] for step in last] == [[packing.rows - 1], [1], []]
    assert all(batches.done for batches in ranks)
    assert [batches.take(1) for batches in ranks] == [[], [], []]


def test_a_thread_ahead_changes_nothing(shards: TokenShards, packing: Packing) -> None:
    plain, ahead = source(shards, packing, epochs=3), source(shards, packing, epochs=3, num_workers=1)
    counts = [2, 2, 1, 3, 3, 2]
    for step, count in enumerate(counts):
        assert same(plain.take(count), ahead.take(count))
        assert plain.state_dict() == ahead.state_dict()
        if step == 3:  # going back must not serve what was prepared for the way ahead
            for batches in (plain, ahead):
                batches.load_state_dict(batches.state_dict() | {"position": 1})
    assert all(same(a, b) for a, b in zip(drain(plain, 2), drain(ahead, 2), strict=True))


def test_resume_gives_what_would_have_come(shards: TokenShards, packing: Packing) -> None:
    batches = source(shards, packing, epochs=2)
    batches.take(3)
    state = json.loads(json.dumps(batches.state_dict()))
    resumed = source(shards, packing, epochs=5, num_workers=1)
    resumed.load_state_dict(state)
    assert same(batches.take(3), resumed.take(3))


@pytest.mark.parametrize("key", ["data", "max_seq_len", "seed", "packing"])
def test_another_order_of_rows_is_refused(shards: TokenShards, packing: Packing, key: str) -> None:
    batches = source(shards, packing)
    with pytest.raises(ValueError, match="was other and is .* rows would be trained on twice or never"):
        batches.load_state_dict(batches.state_dict() | {key: "other"})


def test_settings_that_make_no_sense(shards: TokenShards, packing: Packing) -> None:
    wrong: list[dict[str, Any]] = [{"batch_size": 0}, {"epochs": 0}, {"num_workers": -1}]
    for setting in wrong:
        ((name, value),) = setting.items()
        with pytest.raises(ValueError, match=f"{name} = {value}: at least"):
            source(shards, packing, **setting)


@pytest.mark.parametrize("world", [1, 2, 5])
def test_validation_reads_every_row_once(shards: TokenShards, packing: Packing, world: int) -> None:
    ranks = [list(in_order(PackedRows(shards, packing), batch_size=3, rank=rank, world=world)) for rank in range(world)]
    assert sorted(row for batches in ranks for row in rows_of(batches)) == list(range(packing.rows))
    assert max(map(len, ranks)) - min(map(len, ranks)) <= 1
    assert same(ranks[0][:1], [collate(shards, packing, range(3), 0)])


def test_reading_ahead_is_stopped_once_and_changes_no_batch(shards: TokenShards, packing: Packing) -> None:
    plain, ahead = source(shards, packing), source(shards, packing, num_workers=1)
    assert not plain.stop_reading_ahead()
    for stops in (True, False):
        assert ahead.take(1)[0].rows == plain.take(1)[0].rows
        assert ahead.stop_reading_ahead() == stops
    assert ahead.take(1)[0].rows == plain.take(1)[0].rows
