"""Which rows are held out for validation: decided by their content, so that it never moves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data.shards import TokenShards
from data.texts import SHORT
from minimind.language import say

Ints = NDArray[np.int64]


def hold_out(
    shards: TokenShards, fraction: float, max_rows: int, rows: Ints | None = None, *, least: int = 0, name: str = ""
) -> tuple[Ints, Ints]:
    """(training, validation): numbers of rows, each in ascending order, out of `rows`; of all when None.

    About `fraction` of the different rows is held out, at least one and at most `max_rows`: those with the smallest
    hash. Where that is fewer than `least`, so many are, but no more than a third. Order, file names and later additions
    don't change which; a row that occurs again in the training part is left out of both, so nothing is measured on that
    was ever trained on. All documents of a row stay together.

    name: what the data is called where it cannot be split; its folder where none is given.

    Raises ValueError where that leaves nothing to train on, or for a fraction or count that makes no sense.
    """
    if not 0 < fraction < 1:
        raise ValueError(
            say(
                "validation fraction = {fraction}: allowed is more than 0 and less than 1, such as 0.01",
                fraction=fraction,
            )
        )
    if max_rows < 1:
        raise ValueError(say("validation max_documents = {max_rows}: at least 1 document is needed", max_rows=max_rows))
    if rows is None:
        rows = np.arange(shards.rows)
    all_digests = shards.digests[:: shards.documents_per_row][rows]
    digests, first = np.unique(all_digests, return_index=True)
    if len(digests) < 2:
        raise ValueError(
            say(
                "{folder}: {count} rows with {count2} different texts can't be split into "
                "training and validation: add data (a .txt is one text up to {short:,} characters), "
                "or give a validation file of its own (eval.path)",
                folder=name or shards.folder,
                count=len(rows),
                count2=len(digests),
                short=SHORT,
            )
        )
    below = int(np.searchsorted(digests, np.uint64(int(fraction * 2**64))))
    count = min(max(below, min(least, len(digests) // 3), 1), max_rows, len(digests) - 1)
    held_out = np.isin(all_digests, digests[:count])
    return rows[~held_out], rows[np.sort(first[:count])]
