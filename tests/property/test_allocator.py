"""The allocator on any sequence of requests: it never holds more than it may, and forgets nothing."""

from __future__ import annotations

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from minimind.memory.allocator import (
    MIB,
    ROUND_BYTES,
    Allocator,
    Block,
    OutOfMemory,
    TensorEvent,
    replay,
    smallest_limit,
)

BYTES = st.one_of(st.integers(1, 4096), st.integers(1, 3 * MIB), st.integers(1, 48 * MIB))


@st.composite
def sequences(draw: st.DrawFn) -> list[TensorEvent]:
    """Births and deaths in any order; some tensors live to the end."""
    events: list[TensorEvent] = []
    alive: list[int] = []
    for number, size in enumerate(draw(st.lists(BYTES, min_size=1, max_size=40))):
        events.append((number, size))
        alive.append(number)
        dying = draw(st.integers(0, len(alive)))
        events += [(alive.pop(draw(st.integers(0, len(alive) - 1))), 0) for _ in range(dying)]
    return events


@given(sequences(), st.booleans(), st.integers(1, 64))
def test_allocated_is_within_reserved_is_within_the_limit(
    events: list[TensorEvent], expandable: bool, steps: int
) -> None:
    limit = steps * ROUND_BYTES
    allocator = Allocator(limit, expandable)
    held: dict[int, Block] = {}
    wanted = 0
    sizes = dict(event for event in events if event[1])
    for number, size in events:
        if size == 0:
            if number in held:
                allocator.release(held.pop(number))
                wanted -= sizes[number]
        else:
            try:
                held[number] = allocator.allocate(size)
            except OutOfMemory:
                continue
            wanted += size
        assert wanted <= allocator.allocated == sum(block.size for block in held.values())
        assert allocator.allocated <= allocator.reserved <= limit
        spans = sorted((block.address, block.address + block.size) for block in held.values())
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans)), "blocks overlap"


@given(sequences(), st.booleans(), st.randoms())
def test_when_all_is_freed_in_any_order_all_is_given_back(
    events: list[TensorEvent], expandable: bool, order: random.Random
) -> None:
    allocator = Allocator(expandable=expandable)
    held: dict[int, Block] = {}
    for number, size in events:
        if size:
            held[number] = allocator.allocate(size)
        else:
            allocator.release(held.pop(number))
    blocks = list(held.values())
    order.shuffle(blocks)
    for block in blocks:
        allocator.release(block)
    allocator.give_back()
    assert (allocator.allocated, allocator.reserved) == (0, 0)


@given(sequences(), st.booleans())
def test_the_smallest_limit_lies_between_what_is_held_and_what_is_reserved(
    events: list[TensorEvent], expandable: bool
) -> None:
    free = replay(events, expandable=expandable)
    limit = smallest_limit(events, expandable)
    assert free.peak_allocated <= limit + (1 << 20) * len(events)
    assert limit <= -(-free.peak_reserved // ROUND_BYTES) * ROUND_BYTES
    assert replay(events, limit, expandable).failed_at is None
