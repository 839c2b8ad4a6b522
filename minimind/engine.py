"""Text generation for many requests at once: token ids in, token ids out.

Continuous batching (Yu et al. 2022, "Orca"): a request gets a slot of the KV cache when one is free, its prompt is
computed in chunks between the steps of the others, and the step in which it ends gives the slot to the next one. What
a slot holds is kept until it is needed, so a prompt that begins like an earlier one, as all of a group and the turns
of a conversation do, is computed from where they part.

Scheduler decides and never touches a tensor; `Engine.step` is the only method that runs the model, once for all that is
under way. One thread calls an engine: nothing in it locks.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from minimind.cache import Piece, kv_cache_bytes
from minimind.decoder import Decoder
from minimind.model import MiniMind
from minimind.quantize import QuantizedModel, WeightType, quantized
from minimind.sampling import SamplingParams, TopLogprobs, choose, noise, penalise, token_logprobs
from minimind.tokenizer import Tokenizer

Finish = Literal["stop", "length", "cancelled", "failed"]
"""Why an answer ended: a stop id or stop string, its max_tokens, `cancel`, or an error of this request alone."""

SHARED_TOKENS = 16
"""Beginnings shorter than this are computed again: copying them takes as long."""


@dataclass(frozen=True, slots=True)
class PromptToken:
    """The log-prob of a prompt's token, None for the first, and the likeliest ones at its place."""

    logprob: float | None
    top: TopLogprobs = ()


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to one request in a step.

    token_id: the token written; None if the event brings none. The stop id that ends an answer is among them, with
        finish "stop"; tokens that belong to a stop string are not.
    logprob, top: as SamplingParams.logprobs asked. prompt: as prompt_logprobs asked, with the first event.
    finish: not None on a request's last event.
    rest: where a stop string begins in the middle of a token, the text before it.
    error: what went wrong, where finish is "failed".
    written_tokens: how many tokens were computed so far, those of a stop string included.
    """

    request: int
    token_id: int | None = None
    logprob: float | None = None
    top: TopLogprobs = ()
    finish: Finish | None = None
    rest: str = ""
    written_tokens: int = 0
    prompt: tuple[PromptToken, ...] | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer: the events of a request put together. logprobs and top are empty unless asked for."""

    token_ids: list[int]
    finish: Finish
    logprobs: list[float]
    top: list[TopLogprobs]
    rest: str
    written_tokens: int
    prompt: tuple[PromptToken, ...] | None


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
    hold: StopStrings | None = None
    prompt_logprobs: list[PromptToken] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece [start, stop) of a request's prompt to compute. source: the slot to copy what comes before from."""

    request: Request
    start: int
    stop: int
    source: int | None


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What a step found for a request: its next token, or why there is none."""

    request: Request
    token: int
    logprob: float | None = None
    top: TopLogprobs = ()
    error: str = ""


_NOT_FINITE = "the model's logits are not finite: its weights are damaged, or training has diverged"


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


class StopStrings:
    """Holds events back while their tokens may be the beginning of a stop string."""

    def __init__(self, stop: Sequence[str], tokenizer: Tokenizer) -> None:
        self._stop = [text.encode("utf-8", errors="replace") for text in stop]
        self._tokenizer = tokenizer
        self._held: list[tuple[Event, int]] = []  # and where its text ends
        self._text = b""

    def push(self, event: Event) -> list[Event]:
        """The events that may go out now, given one more; the last has a finish if a stop string ends the text."""
        assert event.token_id is not None
        self._text += self._tokenizer.decode_bytes([event.token_id])
        self._held.append((event, len(self._text)))
        found = [at for at in map(self._text.find, self._stop) if at >= 0]
        safe = min(found) if found else len(self._text) - max(map(self._overlap, self._stop))
        begun = 0
        out: list[Event] = []
        while self._held and self._held[0][1] <= safe:
            held, begun = self._held.pop(0)
            out.append(held)
        if found:
            rest = self._text[begun:safe].decode("utf-8", errors="replace")
            self._held = []
            out.append(Event(event.request, finish="stop", rest=rest, written_tokens=event.written_tokens))
        self._text = self._text[begun:]
        self._held = [(held, end - begun) for held, end in self._held]
        return out

    def flush(self) -> list[Event]:
        """What is still held, where the answer ends otherwise."""
        return [event for event, _ in self._held]

    def _overlap(self, stop: bytes) -> int:
        """How much of the end of the text is the beginning of this stop string."""
        longest = min(len(stop) - 1, len(self._text))
        return next((size for size in range(longest, 0, -1) if self._text.endswith(stop[:size])), 0)


class Engine:
    """Writes continuations of prompts with a model, up to `slots` at a time.

    model: its weights may change while no request is under way, with a call of `forget`. In float32 they are used
        where they are, else rounded into a copy. context_tokens: room for prompt and answer of each slot. tokenizer:
        needed for stop strings only. weight_type: see minimind.quantize. prefill_tokens: into pieces of so many tokens
        prompts are cut. seed: of the seeds that requests without one get; None draws it. native: see Decoder.

    kv_cache_bytes: what the cache takes, all that grows with slots and context; the function of that name in
        minimind.cache tells it beforehand.

    The same request with the same seed gets the same answer and log-probs, whatever else is under way and wherever the
    beginning of its prompt was found: to the last bit if decode.c computes, else but for rounding (see Decoder).

    An error that `step` raises, such as memory that has run out, leaves all requests as they were: the next call takes
    the same step again.

    Raises ValueError for sizes that cannot be.
    """

    def __init__(
        self,
        model: MiniMind,
        *,
        slots: int,
        context_tokens: int,
        tokenizer: Tokenizer | None = None,
        weight_type: WeightType = "float32",
        prefill_tokens: int = 256,
        seed: int | None = None,
        native: bool | None = None,
    ) -> None:
        longest = model.config.max_position_embeddings
        if not 1 <= context_tokens <= longest:
            raise ValueError(f"context_tokens = {context_tokens}: allowed is 1 to {longest}, the model's longest text")
        if slots < 1 or prefill_tokens < 1:
            raise ValueError(f"slots = {slots}, prefill_tokens = {prefill_tokens}: both must be at least 1")
        self.slots, self.context_tokens = slots, context_tokens
        self._vocab_size = model.config.vocab_size
        self._tokenizer = tokenizer
        self.kv_cache_bytes = kv_cache_bytes(model.config, slots, context_tokens, model.head_weight_VD.dtype)
        self._source, self._model = model, quantized(model, weight_type)
        self._decoder = Decoder(self._model, slots, context_tokens, native)
        self._device = model.head_weight_VD.device
        self._scheduler = Scheduler(slots, prefill_tokens)
        self._requests: dict[int, Request] = {}
        self._next_id = 0
        self._seeds = random.Random(seed)
        self._pending: list[Event] = []

    @property
    def busy(self) -> bool:
        """Whether `step` has anything to do."""
        return bool(self._requests or self._pending)

    def add(self, prompt_ids: Sequence[int], params: SamplingParams) -> int:
        """Take a request; its number stands in its events. For n answers add it n times, the prompt is computed once.

        Raises ValueError for an empty prompt, an id outside the vocabulary, a text that cannot fit, or stop strings
        where there is no tokenizer.
        """
        prompt = list(prompt_ids)
        if not prompt:
            raise ValueError("the prompt is empty: give at least one token, such as the end-of-text token")
        vocab_size = self._vocab_size
        if not 0 <= min(prompt) <= max(prompt) < vocab_size:
            raise ValueError(
                f"a prompt's token ids run from {min(prompt)} to {max(prompt)}: allowed are 0 to {vocab_size - 1}"
            )
        if len(prompt) + params.max_tokens > self.context_tokens:
            raise ValueError(
                f"the prompt has {len(prompt)} tokens and max_tokens is {params.max_tokens}, together "
                f"{len(prompt) + params.max_tokens}: the context holds {self.context_tokens}; shorten one of them"
            )
        hold = None
        if params.stop:
            if self._tokenizer is None:
                raise ValueError(f"stop = {params.stop!r}: stop strings need an engine that was given a tokenizer")
            hold = StopStrings(params.stop, self._tokenizer)
        seed = self._seeds.getrandbits(63) if params.seed is None else params.seed
        request = Request(self._next_id, prompt, params, seed, hold=hold)
        self._next_id += 1
        self._requests[request.id] = request
        self._scheduler.waiting.append(request)
        return request.id

    def cancel(self, request: int) -> None:
        """Ends a request; the next step says so. Harmless for one that has ended."""
        cancelled = self._requests.get(request)
        if cancelled is not None:
            self._end(cancelled)
            self._pending.append(Event(request, finish="cancelled", written_tokens=len(cancelled.written)))

    def forget(self) -> None:
        """To be called when the model's weights have changed: neither they nor keys of the old ones are used any more.

        Raises RuntimeError while requests are under way: they would go on with a mixture. Raises ValueError for an
        adapter that was attached since, where weights are not in float32.
        """
        self._renew(changed=True)

    def generate(
        self, prompts: Sequence[Sequence[int]], params: SamplingParams | Sequence[SamplingParams]
    ) -> list[Completion]:
        """Whole answers to prompts, in their order. params: for all, or one for each.

        Starts with `forget`, but for weights that are as they were (see QuantizedModel.is_current). Raises RuntimeError
        where an answer fails. Whatever it raises, none of its requests stays under way.
        """
        self._renew(changed=isinstance(self._model, QuantizedModel) and not self._model.is_current(self._source))
        each = [params] * len(prompts) if isinstance(params, SamplingParams) else params
        events: dict[int, list[Event]] = {}
        others, self._pending = self._pending, []  # whoever cancelled those hears of it in the next step
        try:
            for prompt, how in zip(prompts, each, strict=True):
                events[self.add(prompt, how)] = []
            while self.busy:
                for event in self.step():
                    events[event.request].append(event)
                    if event.finish == "failed":
                        raise RuntimeError(event.error)
        finally:
            for request in list(self._requests):
                self.cancel(request)
            self._pending = others
        return [completion(of_request) for of_request in events.values()]

    def _renew(self, *, changed: bool) -> None:
        """Let go of all keys. changed: and of rounded weights."""
        if self._requests:
            raise RuntimeError(
                f"{len(self._requests)} requests are under way: finish or cancel them before the weights change"
            )
        if changed and isinstance(self._model, QuantizedModel):
            self._model.follow(self._source)
        self._scheduler.forget()
        self._decoder.refresh()

    @torch.inference_mode()
    def step(self) -> list[Event]:
        """Compute the next piece of prompts and one token of every answer under way; what came of it, in order."""
        chunks, writing = self._scheduler.plan()
        scored, chosen = self._compute(chunks, writing) if chunks or writing else ([], [])
        # Whatever can fail is behind: from here on the step has been taken.
        self._scheduler.commit(chunks, writing)
        for request, of_prompt in scored:
            request.prompt_logprobs += of_prompt
        events, self._pending = self._pending, []
        for one in chosen:
            events += self._written(one)
        return events

    def _compute(
        self, chunks: Sequence[Chunk], writing: Sequence[Request]
    ) -> tuple[list[tuple[Request, list[PromptToken]]], list[_Chosen]]:
        """What a step is to find out: log-probs of prompts, and the next token of each request that gets one."""
        pieces = [Piece(request.slot, request.cached, request.written[-1:]) for request in writing]
        pieces += map(_piece, chunks)
        for request in (*writing, *(chunk.request for chunk in chunks)):
            request.sound = False
        for chunk in chunks:
            if chunk.source is not None:
                self._decoder.cache.copy(chunk.source, chunk.request.slot, chunk.start)
        logits_WV = self._decoder.extend(pieces)
        finite_W: list[bool] = logits_WV.isfinite().all(1).tolist()
        scored: list[tuple[Request, list[PromptToken]]] = []
        rows: dict[int, Request] = {}
        failed: list[Request] = []
        end = 0
        asking = [*((request, None) for request in writing), *((chunk.request, chunk) for chunk in chunks)]
        for (request, of_prompt), piece in zip(asking, pieces, strict=True):
            start, end = end, end + piece.logits
            if not all(finite_W[start:end]):
                failed.append(request)
                continue
            if of_prompt is not None and request.params.prompt_logprobs is not None:
                scored.append((request, _score(of_prompt, logits_WV[start:end])))
            if of_prompt is None or of_prompt.stop == len(request.prompt):
                rows[end - 1] = request
        chosen = self._choose(list(rows.values()), logits_WV if len(rows) == end else logits_WV[list(rows)])
        for request in rows.values():
            request.sound = True
        return scored, chosen + [_Chosen(request, 0, error=_NOT_FINITE) for request in failed]

    def _choose(self, requests: Sequence[Request], logits_BV: Tensor) -> list[_Chosen]:
        """The next token of these requests, given the logits after the last one of each."""
        if not requests:
            return []
        params = [request.params for request in requests]
        adjusted_BV = logits_BV
        if any(p.penalised for p in params):
            rows = zip(logits_BV, requests, strict=True)
            adjusted_BV = torch.stack([self._penalised(row_V, request) for row_V, request in rows])
        drawn = [0.0 if r.params.greedy else noise(r.seed, len(r.written)) for r in requests]
        tokens = choose(adjusted_BV, params, drawn)
        logprobs: list[tuple[float | None, TopLogprobs]] = [(None, ())] * len(requests)
        wanted = [row for row, p in enumerate(params) if p.logprobs is not None]
        if wanted:
            most = max(params[row].logprobs or 0 for row in wanted)
            found = token_logprobs(logits_BV[wanted], [tokens[row] for row in wanted], most)
            for row, (of_token, top) in zip(wanted, found, strict=True):
                logprobs[row] = of_token, top[: params[row].logprobs]
        return [
            _Chosen(request, token, logprob, top)
            for request, token, (logprob, top) in zip(requests, tokens, logprobs, strict=True)
        ]

    def _penalised(self, logits_V: Tensor, request: Request) -> Tensor:
        if not request.params.penalised:
            return logits_V
        written_ids = torch.tensor(request.written, dtype=torch.int64, device=self._device)
        seen_ids = torch.cat([torch.tensor(request.prompt, device=self._device), written_ids])
        return penalise(logits_V, request.params, seen_ids, written_ids)

    def _written(self, chosen: _Chosen) -> list[Event]:
        """The events that a new token brings, and the end of the request if it is its last."""
        request, params = chosen.request, chosen.request.params
        if chosen.error:
            self._end(request)
            held = request.hold.flush() if request.hold is not None else []
            last = Event(request.id, finish="failed", written_tokens=len(request.written), error=chosen.error)
            return [*held, last]
        prompt = None
        if params.prompt_logprobs is not None and not request.written:
            prompt = tuple(request.prompt_logprobs)
        if not params.max_tokens:
            self._end(request)
            return [Event(request.id, finish="length", prompt=prompt)]
        token = chosen.token
        request.written.append(token)
        stopped = token in params.stop_ids
        finish: Finish | None = "stop" if stopped else "length" if len(request.written) == params.max_tokens else None
        written = len(request.written)
        event = Event(request.id, token, chosen.logprob, chosen.top, finish, written_tokens=written, prompt=prompt)
        events = [event]
        if request.hold is not None:
            if stopped:  # a stop id is no part of the text
                events = [*request.hold.flush(), event]
            else:
                events = request.hold.push(event)
                if finish and not (events and events[-1].finish):
                    events += request.hold.flush()
        if finish or (events and events[-1].finish):
            self._end(request)
        return events

    def _end(self, request: Request) -> None:
        del self._requests[request.id]
        self._scheduler.release(request)
        if request.slot >= 0 and not request.sound:
            self._decoder.cache.clear(request.slot)  # what is no number would outlive its text: zero times it is none


def _piece(chunk: Chunk) -> Piece:
    """What to compute of a chunk: the logits after its last token if it ends the prompt, all if they are asked for."""
    tokens = chunk.request.prompt[chunk.start : chunk.stop]
    scored = chunk.request.params.prompt_logprobs is not None
    logits = len(tokens) if scored else int(chunk.stop == len(chunk.request.prompt))
    return Piece(chunk.request.slot, chunk.start, tokens, logits)


def _score(chunk: Chunk, logits_TV: Tensor) -> list[PromptToken]:
    """The log-probs of a prompt's tokens that the logits after each of a chunk's tell."""
    alternatives = chunk.request.params.prompt_logprobs
    assert alternatives is not None
    targets = chunk.request.prompt[chunk.start + 1 : chunk.stop + 1]
    found = token_logprobs(logits_TV[: len(targets)], targets, alternatives)
    first = [PromptToken(None)] if chunk.start == 0 else []
    return first + [PromptToken(logprob, top) for logprob, top in found]


def completion(events: list[Event]) -> Completion:
    """A whole answer, given all events of its request."""
    tokens = [event for event in events if event.token_id is not None]
    last = events[-1]
    assert last.finish is not None
    return Completion(
        token_ids=[event.token_id for event in tokens if event.token_id is not None],
        finish=last.finish,
        logprobs=[event.logprob for event in tokens if event.logprob is not None],
        top=[event.top for event in tokens if event.logprob is not None],
        rest=last.rest,
        written_tokens=last.written_tokens,
        prompt=events[0].prompt,
    )
