from __future__ import annotations

import pytest

from minimind.memory.allocator import (
    MIB,
    ROUND_BYTES,
    Allocator,
    OutOfMemory,
    Replay,
    TensorEvent,
    replay,
    smallest,
    smallest_limit,
)


def born(*sizes: float) -> list[TensorEvent]:
    """Tensors 0, 1, ... of so many MiB."""
    return [(number, int(size * MIB)) for number, size in enumerate(sizes)]


@pytest.mark.parametrize(
    ("size", "allocated", "reserved"),
    [
        (1, 512, 2 * MIB),
        (513, 1024, 2 * MIB),
        (MIB, MIB, 2 * MIB),
        (MIB + 1, MIB + 512, 20 * MIB),
        (10 * MIB - 512, 10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB, 10 * MIB),
        (11 * MIB, 12 * MIB, 12 * MIB),  # no more than 1 MiB is left over: that is not split off
        (12 * MIB + 1, 12 * MIB + 512, 14 * MIB),
    ],
)
def test_a_request_is_rounded_and_its_segment_is_that_of_its_size(size: int, allocated: int, reserved: int) -> None:
    assert replay([(0, size)]) == Replay(allocated, reserved)


def test_what_a_request_leaves_serves_the_next() -> None:
    assert replay(born(5, 5, 5, 5)).peak_reserved == 20 * MIB
    assert replay(born(0.5, 0.5, 0.5, 0.5)).peak_reserved == 2 * MIB
    assert replay(born(5, 5, 5, 5, 2)).peak_reserved == 40 * MIB


def test_small_requests_do_not_take_large_blocks() -> None:
    assert replay([*born(20), (0, 0), (1, 512)]).peak_reserved == 22 * MIB


def test_the_smallest_block_that_is_large_enough_is_taken() -> None:
    allocator = Allocator()
    wide, narrow = allocator.allocate(30 * MIB), allocator.allocate(24 * MIB)
    allocator.release(wide)
    allocator.release(narrow)
    assert allocator.allocate(23 * MIB).address == narrow.address
    assert allocator.allocate(25 * MIB).address == wide.address


@pytest.mark.parametrize("order", [(0, 2, 1), (0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_freed_neighbours_become_one_block(order: tuple[int, ...]) -> None:
    freed = [(number, 0) for number in order]
    assert replay([*born(5, 5, 10), *freed, (3, 20 * MIB)]) == Replay(20 * MIB, 20 * MIB)


def test_free_segments_are_given_back_before_memory_runs_out() -> None:
    events = [*born(20), (0, 0), (1, 24 * MIB)]
    assert replay(events).peak_reserved == 44 * MIB
    assert replay(events, limit=24 * MIB) == Replay(24 * MIB, 24 * MIB)


def test_a_segment_with_one_tensor_left_is_not_given_back() -> None:
    events = [*born(5, 15), (1, 0), (2, 24 * MIB)]
    assert replay(events, limit=40 * MIB).failed_at == 3
    assert replay(events, limit=44 * MIB).failed_at is None


def test_an_allocator_says_that_it_is_full_and_stays_usable() -> None:
    allocator = Allocator(limit=4 * MIB)
    first = allocator.allocate(512)
    with pytest.raises(OutOfMemory):
        allocator.allocate(3 * MIB)
    allocator.release(first)
    assert allocator.allocate(MIB).size == MIB


def test_an_expandable_range_grows_where_a_segment_would_be_added() -> None:
    events = [*born(24), (0, 0), (1, 44 * MIB)]
    assert replay(events).peak_reserved == 68 * MIB
    assert replay(events, expandable=True).peak_reserved == 60 * MIB


def test_an_expandable_range_gives_back_pages_in_its_middle_and_takes_them_again() -> None:
    allocator = Allocator(limit=100 * MIB, expandable=True)
    held = [allocator.allocate(20 * MIB) for _ in range(5)]
    for block in held[1:3]:
        allocator.release(block)
    allocator.give_back()
    assert allocator.reserved == 60 * MIB
    again = allocator.allocate(40 * MIB)
    assert allocator.reserved == 100 * MIB
    assert again.address == held[1].address


def test_the_block_that_can_grow_is_taken_last() -> None:
    allocator = Allocator(expandable=True)
    first, _, last = (allocator.allocate(20 * MIB) for _ in range(3))
    allocator.release(first)
    allocator.release(last)
    assert allocator.allocate(18 * MIB).address == first.address


def test_the_smallest_limit_is_enough_and_less_is_not() -> None:
    events = [*born(20, 12, 20), (0, 0), (2, 0), (3, 24 * MIB), (1, 0), (4, 30 * MIB)]
    limit = smallest_limit(events)
    assert limit < replay(events).peak_reserved
    assert replay(events, limit).failed_at is None
    assert replay(events, limit - ROUND_BYTES).failed_at is not None


def test_smallest_finds_the_first_number_of_many() -> None:
    assert [smallest(lambda n, first=first: n >= first, 3, 9) for first in (0, 3, 7, 9)] == [3, 3, 7, 9]  # type: ignore[misc]
