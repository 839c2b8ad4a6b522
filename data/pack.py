"""Documents into rows of fixed width: best-fit decreasing, and the order in which an epoch reads the rows.

Of plain text nothing is thrown away: a document longer than a row is cut into pieces that overlap by one token. The
first token of a piece is context and never a target, so every token but a document's first is predicted exactly once.
A conversation is not cut, for half of one has no question to its answer: what is longer than a row loses its end.
"""

from __future__ import annotations

import bisect
import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from data.shards import TokenShards
from minimind.language import say
from minimind.training.answers import shared_tokens

Ints = NDArray[np.int64]

BLOCK_ROWS = 64
"""Rows in a stretch of a file that is read in its order: enough to pack them well, few beside a run's."""


@dataclass(frozen=True)
class Packing:
    """Which piece of which document lies in which row. Row r holds the pieces row_offsets[r] to row_offsets[r + 1].

    row_offsets: [rows + 1]. piece_document: the document's number in its shards; piece_start: its first token there;
    piece_length: tokens. max_seq_len: the width of a row, in tokens. row_block: where rows are to be read in the
    order of the file, which stretch of it each is of, ascending; None: in any order.
    """

    row_offsets: Ints
    piece_document: Ints
    piece_start: Ints
    piece_length: Ints
    max_seq_len: int
    row_block: Ints | None = None

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.row_offsets) - 1

    @property
    def tokens(self) -> int:
        """Real tokens in all rows; the one that two pieces share counts twice."""
        return int(self.piece_length.sum())

    @property
    def targets(self) -> int:
        """Tokens of plain text that are predicted in one epoch: all but the first of each piece."""
        return self.tokens - len(self.piece_length)

    @property
    def utilisation(self) -> float:
        """Share of the positions of all rows that hold a real token."""
        return self.tokens / (self.rows * self.max_seq_len)

    @cached_property
    def fingerprint(self) -> str:
        """sha256, in hex, of all of it: two packings with the same one have the same rows."""
        digest = hashlib.sha256(str(self.max_seq_len).encode())
        for array in (self.row_offsets, self.piece_document, self.piece_start, self.piece_length):
            digest.update(array.tobytes())
        if self.row_block is not None:
            digest.update(self.row_block.tobytes())
        return digest.hexdigest()


def pack_shards(
    shards: TokenShards, max_seq_len: int, documents: Ints | None = None, *, in_order: bool = False
) -> Packing:
    """Pack documents as their kind asks for: plain text in pieces; conversations whole, those without a target before
    `max_seq_len` left out. Otherwise as `pack`, or `pack_in_order`.
    """
    how = pack_in_order if in_order else pack
    if not shards.conversations:
        return how(shards.lengths, max_seq_len, documents)
    chosen = learnable(shards, max_seq_len)
    if documents is not None:
        chosen = documents[np.isin(documents, chosen)]
    return how(shards.lengths, max_seq_len, chosen, whole=True)


def learnable(shards: TokenShards, max_seq_len: int) -> Ints:
    """The numbers of the rows whose every document has a target among its first `max_seq_len` tokens, ascending."""
    return np.flatnonzero(_have_targets(shards, max_seq_len).all(1))


def paired(shards: TokenShards, max_seq_len: int) -> Ints:
    """Those of the `learnable` rows, ascending, whose documents are not the same as far as there is room, and both of
    which have a target in a turn that ends behind what both begin with: what both say alike is the prompt of a pair.
    """

    def tells_apart(row: int) -> bool:
        documents = (2 * row, 2 * row + 1)
        texts = [shards.document(document)[:max_seq_len] for document in documents]
        shared = shared_tokens(texts)
        for document, text in zip(documents, texts, strict=True):
            spans = np.minimum(shards.targets(document), len(text))
            if not ((spans[:, 0] < spans[:, 1]) & (spans[:, 1] > shared)).any():
                return False
        return not np.array_equal(texts[0], texts[1])

    rows = learnable(shards, max_seq_len)
    return rows[np.array([tells_apart(row) for row in rows.tolist()], dtype=np.bool_)]


def labelled(shards: TokenShards, max_seq_len: int) -> Ints:
    """The numbers of the rows one of whose documents has a target among its first `max_seq_len` tokens, ascending: of
    labelled answers the other document is empty.
    """
    return np.flatnonzero(_have_targets(shards, max_seq_len).any(1))


def whole(shards: TokenShards, max_seq_len: int) -> Ints:
    """The numbers of the rows whose every document has a target and is at most `max_seq_len` tokens long, ascending."""
    fits = _have_targets(shards, max_seq_len) & (shards.lengths <= max_seq_len).reshape(-1, shards.documents_per_row)
    return np.flatnonzero(fits.all(1))


def _have_targets(shards: TokenShards, max_seq_len: int) -> NDArray[np.bool_]:
    """[rows, documents of each]."""
    documents = shards.first_targets < np.minimum(shards.lengths, max_seq_len)
    return documents.reshape(-1, shards.documents_per_row)


def pack(
    lengths: NDArray[np.int32], max_seq_len: int, documents: Ints | None = None, *, whole: bool = False
) -> Packing:
    """Pack documents into rows of `max_seq_len` tokens: the longest piece first, each into the fullest row it fits.

    lengths: [documents in the shards], in tokens. documents: the numbers of those to pack; all when None. whole: do not
    cut documents; what is longer than a row loses its end.
    Deterministic. Seconds for a million documents, since rows with the same room left are handled together.

    Raises ValueError for max_seq_len < 2, and when there is nothing to predict.
    """
    if max_seq_len < 2:
        raise ValueError(
            say(
                "max_seq_len = {max_seq_len}: at least 2 are needed, a token and the one it predicts",
                max_seq_len=max_seq_len,
            )
        )
    if documents is None:
        documents = np.arange(len(lengths), dtype=np.int64)
    pieces_of = _truncate if whole else _cut
    document, start, length = pieces_of(lengths[documents].astype(np.int64), max_seq_len)
    if not len(length):
        raise ValueError(
            say("nothing to train on: {count} documents, none of them with two tokens or more", count=len(documents))
        )

    by_length = np.argsort(-length, kind="stable")
    row = _best_fit(np.bincount(length, minlength=max_seq_len + 1), max_seq_len)
    by_row = np.argsort(row, kind="stable")
    piece = by_length[by_row]
    row_offsets = np.concatenate([[0], np.cumsum(np.bincount(row))])
    return Packing(row_offsets, documents[document[piece]], start[piece], length[piece], max_seq_len)


def pack_in_order(
    lengths: NDArray[np.int32], max_seq_len: int, documents: Ints | None = None, *, whole: bool = False
) -> Packing:
    """As `pack`, one stretch of the documents after the other: about BLOCK_ROWS rows each, so that a row is near in the
    reading to where its documents are in the file, and rows are still full.
    """
    if documents is None:
        documents = np.arange(len(lengths), dtype=np.int64)
    tokens = np.cumsum(np.minimum(lengths[documents], max_seq_len) if whole else lengths[documents], dtype=np.int64)
    stretch = tokens // (BLOCK_ROWS * max_seq_len)
    borders = np.flatnonzero(np.diff(stretch)) + 1
    parts = [part for part in np.split(documents, borders) if (lengths[part] > 1).any()]
    packed = [pack(lengths, max_seq_len, part, whole=whole) for part in parts or [documents]]
    row_lengths = np.concatenate([np.diff(part.row_offsets) for part in packed])
    return Packing(
        np.concatenate([[0], np.cumsum(row_lengths)]),
        np.concatenate([part.piece_document for part in packed]),
        np.concatenate([part.piece_start for part in packed]),
        np.concatenate([part.piece_length for part in packed]),
        max_seq_len,
        np.repeat(np.arange(len(packed)), [part.rows for part in packed]),
    )


def order(rows: int, seed: int, epoch: int, block: Ints | None = None) -> Ints:
    """The row numbers in the order in which an epoch reads them: a permutation that depends on these alone.

    block: which stretch each row is of; rows of an earlier stretch come first.
    A counter-based shuffle, SplitMix64 (Steele et al. 2014), so that no library's version can change what a seed means.
    """
    base = int.from_bytes(hashlib.sha256(f"row order {seed} {epoch}".encode()).digest()[:8], "little")
    z = (np.arange(1, rows + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) + np.uint64(base)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    drawn = z ^ (z >> np.uint64(31))
    return np.argsort(drawn, kind="stable") if block is None else np.lexsort((drawn, block))


def _truncate(lengths: Ints, max_seq_len: int) -> tuple[Ints, Ints, Ints]:
    """As `_cut`, but one piece a document: its beginning."""
    document = np.flatnonzero(lengths > 1)
    return document, np.zeros_like(document), np.minimum(lengths[document], max_seq_len)


def _cut(lengths: Ints, max_seq_len: int) -> tuple[Ints, Ints, Ints]:
    """Pieces as (document, start, length). All but a document's first begin with the last token of the one before."""
    step = max_seq_len - 1
    pieces = np.maximum(-(-(lengths - 1) // step), 0)
    document = np.repeat(np.arange(len(lengths)), pieces)
    first_piece = np.cumsum(pieces) - pieces
    start = (np.arange(len(document)) - first_piece[document]) * step
    return document, start, np.minimum(lengths[document] - start, max_seq_len)


def _best_fit(count_of_length: Ints, width: int) -> Ints:
    """The row of each piece, pieces taken from the longest to the shortest.

    `open_rows[room]` holds the rows with that much room left, `rooms` the rooms that have any, sorted. All rows of one
    room take as many pieces of the current length as fit before the next room is looked at: that is what best fit
    would do one by one, for a row that has just been filled further is then the fullest that still has room.
    """
    open_rows: dict[int, list[Ints]] = {}
    rooms: list[int] = []
    assigned: list[Ints] = []
    rows = 0

    def put(room: int, row_numbers: Ints) -> None:
        if room not in open_rows:
            open_rows[room] = []
            bisect.insort(rooms, room)
        open_rows[room].append(row_numbers)

    for length in np.flatnonzero(count_of_length)[::-1].tolist():
        left = int(count_of_length[length])
        while left:
            at = bisect.bisect_left(rooms, length)
            if at < len(rooms):
                room = rooms[at]
                candidates = open_rows.pop(room)
                del rooms[at]
                available = np.concatenate(candidates) if len(candidates) > 1 else candidates[0]
            else:
                room = width
                available = np.arange(rows, rows + -(-left // (width // length)), dtype=np.int64)
                rows += len(available)
            fit = room // length
            full, last = divmod(left, fit)
            filled = available[:full]
            assigned.append(np.repeat(filled, fit))
            if len(filled) and room > fit * length:
                put(room - fit * length, filled)
            left -= len(filled) * fit
            rest = available[full:]
            if len(rest) and last:
                assigned.append(np.repeat(rest[:1], last))
                left -= last
                if room > last * length:
                    put(room - last * length, rest[:1])
                rest = rest[1:]
            if len(rest):
                put(room, rest)
    return np.concatenate(assigned)
