"""Packed rows into the batches that a worker trains on, in one global order that no worker count can change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch

from data.pack import Packing, order
from data.shards import TokenShards
from minimind.batch import TokenBatch


@dataclass(frozen=True)
class Replay:
    """Rows of other text that are read among a source's own, lest the model forget it.

    share: of all rows that an epoch reads, more than 0 and less than 1. Each epoch goes on where the one before ended.
    """

    shards: TokenShards
    packing: Packing
    share: float

    @property
    def fingerprint(self) -> str:
        """Equal for those that give the same rows."""
        return f"{self.share} {self.shards.fingerprint} {self.packing.fingerprint}"


class PackedBatches:
    """A BatchSource over packed rows.

    A position counts rows over all epochs, each in an order of its own. A step from position p takes the rows
    p to p + batch_size x count x world; micro-batch m of rank r begins at p + (m x world + r) x batch_size. So
    8 x 1, 4 x 2 and 2 x 4, on one worker or several, see the same rows in the same step. The state is the position
    alone: batch size and workers may change on resume and every row is still read once per epoch. The last step may
    be short, and then a rank may get fewer micro-batches, or none.

    batch_size: rows per micro-batch. pad_id: token id of unused positions. num_workers: with 1 or more, a thread
    prepares the next step while this one is trained on; nothing else changes. replay: other rows among these, in the
    same global order; they are numbered behind the rows of the packing.
    """

    def __init__(
        self,
        shards: TokenShards,
        packing: Packing,
        *,
        batch_size: int,
        seed: int,
        epochs: int = 1,
        rank: int = 0,
        world: int = 1,
        pad_id: int = 0,
        num_workers: int = 0,
        replay: Replay | None = None,
    ) -> None:
        """Raises ValueError for a batch size, epoch count, worker count or replay that makes no sense."""
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("epochs", epochs, 1),
            ("num_workers", num_workers, 0),
        ):
            if value < least:
                raise ValueError(f"{name} = {value}: at least {least} is needed")
        if replay is not None and not 0 < replay.share < 1:
            raise ValueError(f"replay share = {replay.share}: allowed is more than 0 and less than 1, such as 0.1")
        if replay is not None and replay.packing.max_seq_len != packing.max_seq_len:
            raise ValueError(
                f"replayed rows of {replay.packing.max_seq_len} tokens among rows of {packing.max_seq_len}: pack alike"
            )
        self.shards, self.packing, self.replay = shards, packing, replay
        self.replayed_rows = max(1, round(packing.rows * replay.share / (1 - replay.share))) if replay else 0
        self.epoch_rows = packing.rows + self.replayed_rows
        self.batch_size, self.seed, self.epochs = batch_size, seed, epochs
        self.rank, self.world, self.pad_id = rank, world, pad_id
        self.position = 0
        block = packing.row_block
        if block is not None:  # replayed rows are spread evenly over the stretches
            spread = np.arange(self.replayed_rows) * (block[-1] + 1) // max(1, self.replayed_rows)
            block = np.concatenate([block, spread])
        self._order = lru_cache(maxsize=2)(partial(order, self.epoch_rows, seed, block=block))  # a step may span two
        self._replay_order = lru_cache(maxsize=2)(partial(order, replay.packing.rows, seed)) if replay else None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batches") if num_workers else None
        self._ahead: tuple[tuple[int, int], Future[list[TokenBatch]]] | None = None

    @property
    def total_rows(self) -> int:
        """Rows in all epochs."""
        return self.epochs * self.epoch_rows

    @property
    def done(self) -> bool:
        """True when every row of every epoch has been taken."""
        return self.position >= self.total_rows

    def total_steps(self, accumulation_steps: int) -> int:
        """Optimizer steps in all epochs, the short last one included."""
        return -(-self.total_rows // (self.batch_size * accumulation_steps * self.world))

    def take(self, count: int) -> list[TokenBatch]:
        """The micro-batches of this rank for the next step: `count`, or fewer or none where the data ends."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == (self.position, count):
            batches = ahead[1].result()
        else:
            batches = self._build(self.position, count)
        self.position = min(self.position + self.batch_size * count * self.world, self.total_rows)
        if self._thread is not None and not self.done:
            self._ahead = (self.position, count), self._thread.submit(self._build, self.position, count)
        return batches

    def stop_reading_ahead(self) -> bool:
        """Prepare nothing before it is taken; False where that was so already."""
        thread, self._thread, self._ahead = self._thread, None, None
        if thread is not None:
            thread.shutdown()
        return thread is not None

    def state_dict(self) -> dict[str, Any]:
        """The position, and what it is a position in."""
        return {
            "position": self.position,
            "data": self.shards.fingerprint,
            "max_seq_len": self.packing.max_seq_len,
            "seed": self.seed,
            "packing": self.packing.fingerprint,
            "replay": self.replay.fingerprint if self.replay else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue at the saved position. Raises ValueError where it counted other rows, or the same in another order.

        More epochs than before are fine.
        """
        mine = self.state_dict()
        for key, what in (
            ("data", "the training data"),
            ("max_seq_len", "max_seq_len"),
            ("seed", "the seed"),
            ("packing", "the choice of documents"),
            ("replay", "the text replayed by data.mix"),
        ):
            theirs = state.get(key)  # a state from before there was replay has none
            if theirs != mine[key]:
                raise ValueError(
                    f"can't continue here: {what} was {theirs} and is {mine[key]} now, so rows would be trained on "
                    "twice or never. Continue with what the run began with, or start a new run from its weights."
                )
        self.position = state["position"]

    def _build(self, position: int, count: int) -> list[TokenBatch]:
        batches = []
        for micro in range(count):
            begin = position + (micro * self.world + self.rank) * self.batch_size
            rows = [self._row_at(p) for p in range(begin, min(begin + self.batch_size, self.total_rows))]
            if rows:
                batches.append(_collate([self._source(row) for row in rows], rows, self.pad_id))
        return batches

    def _row_at(self, position: int) -> int:
        epoch, index = divmod(position, self.epoch_rows)
        row = int(self._order(epoch)[index])
        if self.replay is None or self._replay_order is None or row < self.packing.rows:
            return row
        times, index = divmod(epoch * self.replayed_rows + row - self.packing.rows, self.replay.packing.rows)
        return self.packing.rows + int(self._replay_order(times)[index])

    def _source(self, row: int) -> _Row:
        if self.replay is None or row < self.packing.rows:
            return self.shards, self.packing, row
        return self.replay.shards, self.replay.packing, row - self.packing.rows


def in_order(
    shards: TokenShards, packing: Packing, *, batch_size: int, rank: int = 0, world: int = 1, pad_id: int = 0
) -> Iterator[TokenBatch]:
    """Every row once, first to last, for validation: this rank's batches, taken in turn. Ranks may get one less."""
    for begin in range(rank * batch_size, packing.rows, world * batch_size):
        yield collate(shards, packing, range(begin, min(begin + batch_size, packing.rows)), pad_id)


def collate(shards: TokenShards, packing: Packing, rows: Sequence[int], pad_id: int) -> TokenBatch:
    """The given rows of the packing as one batch, each `max_seq_len` wide."""
    return _collate([(shards, packing, row) for row in rows], rows, pad_id)


_Row = tuple[TokenShards, Packing, int]
"""Where a row comes from."""


def _collate(sources: Sequence[_Row], rows: Sequence[int], pad_id: int) -> TokenBatch:
    shape = (len(sources), sources[0][1].max_seq_len)
    tokens_BT = np.full(shape, pad_id, np.int64)
    segment_BT = np.zeros(shape, np.int32)
    loss_mask_BT = np.zeros(shape, np.bool_)
    for i, (shards, packing, row) in enumerate(sources):
        begin, end = packing.row_offsets[row], packing.row_offsets[row + 1]
        at = 0
        for segment, piece in enumerate(range(begin, end), start=1):
            document = packing.piece_document[piece]
            start, length = packing.piece_start[piece], packing.piece_length[piece]
            stop = at + length
            tokens_BT[i, at:stop] = shards.document(document)[start : start + length]
            segment_BT[i, at:stop] = segment
            for first, last in np.clip(shards.targets(document) - start, 0, length):
                loss_mask_BT[i, at + max(first, 1) : at + last] = True  # the first token has none before it
            at = stop
    return TokenBatch(
        torch.from_numpy(tokens_BT), torch.from_numpy(loss_mask_BT), torch.from_numpy(segment_BT), tuple(rows)
    )
