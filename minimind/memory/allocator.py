"""CUDA's caching allocator as a model: what a sequence of allocations reserves on a card, and where it runs out.

A card runs out of memory by what the allocator has reserved, not by what tensors hold; pieces in between that are too
small for the next request are the difference. The rules are those of PyTorch's c10/cuda/CUDACachingAllocator.cpp, and
the constants those of c10/core/AllocatorConfig.h (2.13), with default settings and on one stream:

- A request is rounded up to 512 bytes. Up to 1 MiB it is served from the small pool, else from the large one.
- The smallest free block that is large enough is taken, the one with the lowest address among equals. What is left
  over is split off: always in the small pool, in the large one where more than 1 MiB is left.
- A freed block is merged with its free neighbours in the same segment.
- Where no block fits, a segment is reserved: 2 MiB for the small pool, 20 MiB for requests below 10 MiB, else the
  request rounded up to 2 MiB. If the limit forbids that, every segment that is free as a whole is given back first.
- With `expandable_segments:True` each pool has one range of addresses whose end is reserved as needed, in pages of
  2 MiB or 20 MiB; a block that can still grow is taken last, and free pages are given back one by one.

Segments get ascending addresses here; where a driver puts them is not known. Not measured on a GPU.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

MIB = 1 << 20
BLOCK_BYTES = 512
SMALL_BYTES = MIB
SMALL_SEGMENT_BYTES = 2 * MIB
MIDDLE_BYTES = 10 * MIB
MIDDLE_SEGMENT_BYTES = 20 * MIB
ROUND_BYTES = 2 * MIB
ADDRESS_BYTES = MIDDLE_SEGMENT_BYTES << 24
"""Addresses of one expandable range, a whole number of pages: more than any card has memory."""

TensorEvent: TypeAlias = tuple[int, int]
"""(number, n): the tensor of that number is born with n bytes, or dies where n is 0."""


@dataclass(frozen=True)
class Replay:
    """What became of a sequence of events, in bytes. peak_allocated: blocks in use; peak_reserved: segments held.

    failed_at: the index of the event that ran out of memory, None if none did.
    """

    peak_allocated: int
    peak_reserved: int
    failed_at: int | None = None


class OutOfMemory(Exception):  # noqa: N818  # as torch.OutOfMemoryError, of which this is the model
    """A request that does not fit under the limit, after everything that was free has been given back."""


class Block:
    """A piece of a segment. before, after: its neighbours there. mapped: it is backed by memory."""

    __slots__ = ("address", "after", "before", "free", "mapped", "pool", "size")

    def __init__(self, address: int, size: int, pool: _Pool, mapped: bool = True) -> None:
        self.address = address
        self.size = size
        self.pool = pool
        self.mapped = mapped
        self.free = True
        self.before: Block | None = None
        self.after: Block | None = None

    def split(self, size: int) -> Block:
        """Keep the first `size` bytes; gives the rest, as a block of its own."""
        rest = Block(self.address + size, self.size - size, self.pool, self.mapped)
        rest.before, rest.after = self, self.after
        if self.after is not None:
            self.after.before = rest
        self.after = rest
        self.size = size
        return rest

    def swallow_next(self) -> None:
        """Take over the neighbour behind."""
        after = self.after
        assert after is not None
        self.size += after.size
        self.after = after.after
        if self.after is not None:
            self.after.before = self


class _Pool:
    """Free blocks of one kind, by (size, address)."""

    def __init__(self, page: int) -> None:
        self.page = page
        self.free: list[tuple[int, int]] = []
        self.at: dict[int, Block] = {}
        self.range: Block | None = None

    def add(self, block: Block) -> None:
        insort(self.free, (block.size, block.address))
        self.at[block.address] = block

    def remove(self, block: Block) -> None:
        del self.free[bisect_left(self.free, (block.size, block.address))]
        del self.at[block.address]


class Allocator:
    """The allocator of one card. limit: the most bytes it may reserve; None: no limit."""

    def __init__(self, limit: int | None = None, expandable: bool = False) -> None:
        self.limit = limit
        self.expandable = expandable
        self.allocated = self.reserved = self.peak_allocated = self.peak_reserved = 0
        self._small = _Pool(SMALL_SEGMENT_BYTES)
        self._large = _Pool(MIDDLE_SEGMENT_BYTES)
        self._next_address = 0

    def allocate(self, size: int) -> Block:
        """A block of at least `size` bytes. Raises OutOfMemory."""
        size = max(1, -(-size // BLOCK_BYTES)) * BLOCK_BYTES
        pool = self._small if size <= SMALL_BYTES else self._large
        block = self._cached(pool, size)
        if block is None:
            if self.expandable:
                block = self._grown(pool, size)
            else:
                block = self._segment(pool, size)
        left = block.size - size
        if left >= BLOCK_BYTES if pool is self._small or self.expandable else left > SMALL_BYTES:
            pool.add(block.split(size))
        block.free = False
        self.allocated += block.size
        if self.allocated > self.peak_allocated:
            self.peak_allocated = self.allocated
        return block

    def release(self, block: Block) -> None:
        """Give a block back: it is kept for the next request."""
        self.allocated -= block.size
        self._put_back(block)

    def give_back(self) -> None:
        """Hand every segment (or page) that is free as a whole to the driver."""
        for pool in (self._small, self._large):
            for block in list(pool.at.values()):
                if self.expandable:
                    self._unmap_pages(block)
                elif block.before is None and block.after is None:
                    pool.remove(block)
                    self.reserved -= block.size

    def _put_back(self, block: Block) -> None:
        pool = block.pool
        block.free = True
        after, before = block.after, block.before
        if after is not None and after.free and after.mapped:
            pool.remove(after)
            block.swallow_next()
        if before is not None and before.free and before.mapped:
            pool.remove(before)
            before.swallow_next()
            block = before
        pool.add(block)

    def _cached(self, pool: _Pool, size: int) -> Block | None:
        index = bisect_left(pool.free, (size, -1))
        if index == len(pool.free):
            return None
        block = pool.at[pool.free[index][1]]
        if self.expandable:
            for _, address in pool.free[index + 1 :]:
                other = pool.at[address]
                if _room(other) >= _room(block):
                    break
                block = other
        pool.remove(block)
        return block

    def _reserve(self, size: int) -> bool:
        if self.limit is not None and self.reserved + size > self.limit:
            return False
        self.reserved += size
        self.peak_reserved = max(self.peak_reserved, self.reserved)
        return True

    def _segment(self, pool: _Pool, size: int) -> Block:
        if size <= SMALL_BYTES:
            wanted = SMALL_SEGMENT_BYTES
        elif size < MIDDLE_BYTES:
            wanted = MIDDLE_SEGMENT_BYTES
        else:
            wanted = -(-size // ROUND_BYTES) * ROUND_BYTES
        if not self._reserve(wanted):
            self.give_back()
            if not self._reserve(wanted):
                raise OutOfMemory
        block = Block(self._next_address, wanted, pool)
        self._next_address += wanted
        return block

    def _grown(self, pool: _Pool, size: int) -> Block:
        block = self._grow(pool, size)
        if block is None:
            self.give_back()
            block = self._grow(pool, size)
            if block is None:
                raise OutOfMemory
        return block

    def _grow(self, pool: _Pool, size: int) -> Block | None:
        """Map pages where a run of free and unmapped addresses is long enough."""
        if pool.range is None:
            pool.range = Block(0 if pool is self._small else ADDRESS_BYTES, ADDRESS_BYTES, pool, mapped=False)
        start: Block | None = pool.range
        while start is not None:
            length, block = 0, start
            while length < size and block.free:
                length += block.size
                if block.after is None:
                    break
                block = block.after
            if start.free and length >= size:
                break
            start = start.after
        assert start is not None, "the last range never ends"
        if not start.mapped:
            mapped = self._map(start, min(start.size, size))
            if mapped is None:
                return None
            start = mapped
        while start.size < size:
            assert start.after is not None
            mapped = self._map(start.after, min(start.after.size, size - start.size))
            if mapped is None:
                return None
            start = mapped
        pool.remove(start)
        return start

    def _map(self, block: Block, size: int) -> Block | None:
        """Back the first pages of an unmapped block with memory; gives the free block that they became part of."""
        page = block.pool.page
        wanted = -(-size // page) * page
        if not self._reserve(wanted):
            return None
        if wanted < block.size:
            block.split(wanted)
        block.mapped = True
        first = block.before if block.before is not None and block.before.free and block.before.mapped else block
        self._put_back(block)
        return first

    def _unmap_pages(self, block: Block) -> None:
        pool, page = block.pool, block.pool.page
        start = -(-block.address // page) * page
        end = (block.address + block.size) // page * page
        if start >= end:
            return
        pool.remove(block)
        if block.address + block.size > end:
            pool.add(block.split(end - block.address))
        if start > block.address:
            middle = block.split(start - block.address)
            pool.add(block)
            block = middle
        block.mapped = False
        self.reserved -= end - start
        if block.after is not None and not block.after.mapped:
            block.swallow_next()
        if block.before is not None and not block.before.mapped:
            block.before.swallow_next()


def _room(block: Block) -> int:
    """What a block could grow to."""
    after = block.after
    return block.size + (after.size if after is not None and not after.mapped else 0)


def replay(events: Iterable[TensorEvent], limit: int | None = None, expandable: bool = False) -> Replay:
    """Run the events through an allocator. limit: the most bytes it may reserve, as
    `torch.cuda.set_per_process_memory_fraction` sets it. expandable: as with `expandable_segments:True`.
    """
    allocator = Allocator(limit, expandable)
    held: dict[int, Block] = {}
    failed_at = None
    for index, (number, size) in enumerate(events):
        if size == 0:
            allocator.release(held.pop(number))
            continue
        try:
            held[number] = allocator.allocate(size)
        except OutOfMemory:
            failed_at = index
            break
    return Replay(allocator.peak_allocated, allocator.peak_reserved, failed_at)


def smallest_limit(events: list[TensorEvent], expandable: bool = False) -> int:
    """The fewest bytes, in steps of 2 MiB, under which the events do not run out of memory.

    Between what tensors hold and what is reserved where there is no limit, by bisection: an allocator near its limit
    gives back what is free, so less than the latter is enough.
    """
    free = replay(events, expandable=expandable)

    def fits(steps: int) -> bool:
        return replay(events, steps * ROUND_BYTES, expandable).failed_at is None

    return ROUND_BYTES * smallest(
        fits, math.ceil(free.peak_allocated / ROUND_BYTES), math.ceil(free.peak_reserved / ROUND_BYTES)
    )


def smallest(holds: Callable[[int], bool], low: int, high: int) -> int:
    """The smallest number from `low` to `high` for which something holds that holds for all larger ones, `high` too."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return high
