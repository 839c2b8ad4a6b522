"""The batches that a worker trains on, in one global order of rows that no worker count can change."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any, Generic, TypeVar

import numpy as np

from data.pack import order
from data.rows import Rows
from minimind.language import phrase, say
from minimind.training.batch import Batch

B = TypeVar("B", bound=Batch)

_MEANING = {
    "data": "the training data",
    "max_seq_len": "max_seq_len",
    "seed": "the seed",
    "packing": "the choice of documents",
    "replay": "the text replayed by data.mix",
}
"""What the parts of a source's identity are called in a sentence."""


class OrderedBatches(Generic[B]):
    """A BatchSource over rows of any kind.

    A position counts rows over all epochs, each in an order of its own. A step from position p takes the rows
    p to p + batch_size x count x world; micro-batch m of rank r begins at p + (m x world + r) x batch_size. So
    8 x 1, 4 x 2 and 2 x 4, on one worker or several, see the same rows in the same step. The state is the position
    alone: batch size and workers may change on resume and every row is still read once per epoch. The last step may
    be short, and then a rank may get fewer micro-batches, or none.

    batch_size: rows per micro-batch. num_workers: with 1 or more, a thread prepares the next step while this one is
    trained on; nothing else changes. replay: the share of all rows that an epoch reads out of those beside the rows'
    own, lest the model forget them; each epoch goes on there where the one before ended.
    """

    def __init__(
        self,
        rows: Rows[B],
        *,
        batch_size: int,
        seed: int,
        epochs: int = 1,
        rank: int = 0,
        world: int = 1,
        num_workers: int = 0,
        replay: float = 0.0,
    ) -> None:
        """Raises ValueError for a batch size, epoch count, worker count or replay that makes no sense."""
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("epochs", epochs, 1),
            ("num_workers", num_workers, 0),
        ):
            if value < least:
                raise ValueError(
                    say("{name} = {value}: at least {least} is needed", name=name, value=value, least=least)
                )
        if not 0 <= replay < 1:
            raise ValueError(
                say("replay share = {replay}: allowed is more than 0 and less than 1, such as 0.1", replay=replay)
            )
        if replay and not rows.beside:
            raise ValueError(
                say(
                    "replay share = {replay}: there are no rows beside the {count} to replay",
                    replay=replay,
                    count=rows.count,
                )
            )
        self.rows, self.replay = rows, replay
        self.replayed_rows = max(1, round(rows.count * replay / (1 - replay))) if replay else 0
        self.epoch_rows = rows.count + self.replayed_rows
        self.batch_size, self.seed, self.epochs = batch_size, seed, epochs
        self.rank, self.world = rank, world
        self.position = 0
        block = rows.block
        if block is not None:  # replayed rows are spread evenly over the stretches
            spread = np.arange(self.replayed_rows) * (block[-1] + 1) // max(1, self.replayed_rows)
            block = np.concatenate([block, spread])
        self._order = lru_cache(maxsize=2)(partial(order, self.epoch_rows, seed, block=block))  # a step may span two
        self._replay_order = lru_cache(maxsize=2)(partial(order, rows.beside, seed))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batches") if num_workers else None
        self._ahead: tuple[tuple[int, int], Future[list[B]]] | None = None

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

    def take(self, count: int) -> list[B]:
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
        return {"position": self.position, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue at the saved position. Raises ValueError where it counted other rows, or the same in another order.

        More epochs than before are fine.
        """
        mine = self._identity()
        for key in mine:
            theirs = state.get(key)  # a state from before there was replay has none
            if theirs != mine[key]:
                raise ValueError(
                    say(
                        "can't continue here: {what} was {theirs} and is {mine} now, so rows would be trained "
                        "on twice or never. Continue with what the run began with, or start a new run from "
                        "its weights.",
                        what=phrase(_MEANING.get(key, key)),
                        theirs=theirs,
                        mine=mine[key],
                    )
                )
        self.position = state["position"]

    def _identity(self) -> dict[str, Any]:
        identity = {**self.rows.identity(), "seed": self.seed}
        if "replay" in identity:
            identity["replay"] = f"{self.replay} {identity['replay']}" if self.replay else None
        return identity

    def _build(self, position: int, count: int) -> list[B]:
        batches = []
        for micro in range(count):
            begin = position + (micro * self.world + self.rank) * self.batch_size
            rows = [self._row_at(p) for p in range(begin, min(begin + self.batch_size, self.total_rows))]
            if rows:
                batches.append(self.rows.batch(rows))
        return batches

    def _row_at(self, position: int) -> int:
        epoch, index = divmod(position, self.epoch_rows)
        row = int(self._order(epoch)[index])
        if row < self.rows.count:
            return row
        times, index = divmod(epoch * self.replayed_rows + row - self.rows.count, self.rows.beside)
        return self.rows.count + int(self._replay_order(times)[index])


def in_order(rows: Rows[B], *, batch_size: int, rank: int = 0, world: int = 1) -> Iterator[B]:
    """Every row once, first to last, for validation: this rank's batches, taken in turn. Ranks may get one less."""
    for begin in range(rank * batch_size, rows.count, world * batch_size):
        yield rows.batch(range(begin, min(begin + batch_size, rows.count)))
