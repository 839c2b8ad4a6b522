"""Who computes what in the next step of an engine, and which slot of the KV cache holds what. No tensors here.

A request gets a slot when one is free. What a slot holds is kept until it is needed, so a prompt that begins like an
earlier one, as all of a group and the turns of a conversation do, is computed from where they part.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from minimind.inference.completion import PromptToken
from minimind.inference.sampling import SamplingParams
from minimind.inference.stop_strings import StopStrings

SHARED_TOKENS = 16
"""Beginnings shorter than this are computed again: copying them takes as long."""


@dataclass(eq=False, slots=True)
class Request:
    """A request on its way.

    cached: how many of its tokens, prompt first, have their keys in its slot. sound: whether the logits after the last
    of them were finite, so that all the keys are.
    """

    id: int
    prompt: list[int]
    params: SamplingParams
    seed: int
    written: list[int] = field(default_factory=list)
    slot: int = -1
    cached: int = 0
    sound: bool = False
    stop_strings: StopStrings | None = None
    prompt_logprobs: list[PromptToken] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece [start, stop) of a request's prompt to compute. source: the slot to copy what comes before from."""

    request: Request
    start: int
    stop: int
    source: int | None


class Scheduler:
    """Who computes what in the next step, first come, first served."""

    def __init__(self, slots: int, prefill_tokens: int) -> None:
        self.prefill_tokens = prefill_tokens
        self.waiting: deque[Request] = deque()
        self.running: list[Request | None] = [None] * slots
        self._held: list[list[int]] = [[] for _ in range(slots)]
        self._free = list(range(slots))  # the longest unused first

    def plan(self) -> tuple[list[Chunk], list[Request]]:
        """The chunks of prompts to compute, one of a request, and the requests to write one token each, by slot.

        A step begins no further chunk once it has `prefill_tokens` tokens of prompts, so that a long one does not keep
        the others waiting. A prompt that begins like one in this step waits for the next. Requests get slots here,
        but nothing counts as computed before `commit`: without it the same is planned again.
        """
        writing = [request for request in self.running if request is not None and request.written]
        chunks: list[Chunk] = []
        budget = self.prefill_tokens
        while budget > 0 and (next_one := self._to_prefill(chunks)) is not None:
            request, start, source = next_one
            stop = min(len(request.prompt), start + self.prefill_tokens)
            chunks.append(Chunk(request, start, stop, source))
            budget -= stop - start
        return chunks, writing

    def commit(self, chunks: Sequence[Chunk], writing: Sequence[Request]) -> None:
        """All of a plan has been computed."""
        for chunk in chunks:
            self._held[chunk.request.slot] = chunk.request.prompt[: chunk.stop]
            chunk.request.cached = chunk.stop
        for request in writing:
            self._held[request.slot].append(request.written[-1])
            request.cached += 1

    def release(self, request: Request) -> None:
        """The request has ended, or never began; its slot is free. What is there is kept if it is sound."""
        if request.slot < 0:
            self.waiting.remove(request)
            return
        self.running[request.slot] = None
        self._free.append(request.slot)
        if not request.sound:
            self._held[request.slot] = []

    def forget(self) -> None:
        """Forget what the free slots hold."""
        for slot in self._free:
            self._held[slot] = []

    def _to_prefill(self, chunks: Sequence[Chunk]) -> tuple[Request, int, int | None] | None:
        """The next request to compute a chunk of, from where on, and the slot to copy what comes before from."""
        planned = {chunk.request.slot: chunk for chunk in chunks}
        for request in self.running:
            if request is not None and request.cached < len(request.prompt) and request.slot not in planned:
                return request, request.cached, None
        if not self.waiting or not self._free:
            return None
        request = self.waiting[0]
        # Also by what this step is going to put there.
        held = list(self._held)
        for slot, chunk in planned.items():
            held[slot] = chunk.request.prompt[: chunk.stop]
        slot, source, shared = self._place(request, held)
        if source in planned:
            return None
        self.waiting.popleft()
        self._free.remove(slot)
        self.running[slot] = request
        request.slot = slot
        if source != slot:  # it counts when it has been copied
            self._held[slot] = []
            return request, shared, source
        self._held[slot] = request.prompt[:shared]
        request.cached = shared
        return request, shared, None

    def _place(self, request: Request, all_held: Sequence[list[int]]) -> tuple[int, int, int]:
        """The slot for a request, the slot that holds its beginning, and how much of it."""
        shared = [0] * len(all_held)
        if request.params.prompt_logprobs is None:
            # At least the last token of a prompt is computed, for its logits.
            shared = [_common(held, request.prompt[:-1]) for held in all_held]
        best = max(self._free, key=shared.__getitem__)
        if shared[best] < SHARED_TOKENS:
            best = self._free[0]
        source = max(range(len(shared)), key=shared.__getitem__)
        if shared[source] < SHARED_TOKENS:
            return best, best, 0
        return best, best if shared[best] == shared[source] else source, shared[source]


def _common(left: list[int], right: list[int]) -> int:
    """How many tokens two texts have in common at their beginnings."""
    length = min(len(left), len(right))
    if left[:length] == right[:length]:
        return length
    return next(index for index in range(length) if left[index] != right[index])
