from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data.pack import Packing, order, pack

lengths_and_width = st.tuples(st.lists(st.integers(2, 60), min_size=1, max_size=60), st.integers(2, 40))


def rows_of(packing: Packing) -> list[list[tuple[int, int, int]]]:
    pieces = list(
        zip(
            packing.piece_document.tolist(),
            packing.piece_start.tolist(),
            packing.piece_length.tolist(),
            strict=True,
        )
    )
    return [pieces[begin:end] for begin, end in pairwise(packing.row_offsets.tolist())]


@given(lengths_and_width)
def test_every_token_but_the_first_is_predicted_once(case: tuple[list[int], int]) -> None:
    lengths, width = case
    predicted: Counter[tuple[int, int]] = Counter()
    for row in rows_of(pack(np.array(lengths, np.int32), width)):
        assert row
        assert sum(length for _, _, length in row) <= width
        for document, start, length in row:
            assert length >= 2
            assert start + length <= lengths[document]
            predicted.update((document, position) for position in range(start + 1, start + length))
    assert predicted == {(document, at): 1 for document, length in enumerate(lengths) for at in range(1, length)}


@given(lengths_and_width)
def test_it_is_best_fit_decreasing(case: tuple[list[int], int]) -> None:
    lengths, width = case
    packing = pack(np.array(lengths, np.int32), width)
    room: list[int] = []
    for length in sorted(packing.piece_length.tolist(), reverse=True):
        fitting = [left for left in room if left >= length]
        if fitting:
            room.remove(min(fitting))
        room.append((min(fitting) if fitting else width) - length)
    assert sorted(room) == sorted(width - sum(length for _, _, length in row) for row in rows_of(packing))
    assert packing.rows == len(room)


@given(lengths_and_width)
def test_packing_is_deterministic(case: tuple[list[int], int]) -> None:
    lengths = np.array(case[0], np.int32)
    assert pack(lengths, case[1]).fingerprint == pack(lengths, case[1]).fingerprint


@given(st.integers(0, 300), st.integers(0, 2**63), st.integers(0, 1000))
def test_order_is_a_permutation(rows: int, seed: int, epoch: int) -> None:
    assert sorted(order(rows, seed, epoch).tolist()) == list(range(rows))
