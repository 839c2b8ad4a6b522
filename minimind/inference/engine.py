"""Text generation for many requests at once: token ids in, token ids out.

Continuous batching (Yu et al. 2022, "Orca"): a request gets a slot of the KV cache when one is free, its prompt is
computed in chunks between the steps of the others, and the step in which it ends gives the slot to the next one.

`minimind.inference.scheduler` decides and never touches a tensor; `Engine.step` is the only method that runs the model,
once for all that is under way. One thread calls an engine: nothing in it locks.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from minimind.inference.cache import Piece, kv_cache_bytes
from minimind.inference.completion import Completion, Finish, PromptToken, RequestEvent, completion
from minimind.inference.decoder import Decoder
from minimind.inference.quantize import QuantizedModel, WeightType, quantized
from minimind.inference.sampling import SamplingParams, TopLogprobs, choose, noise, penalise, token_logprobs
from minimind.inference.scheduler import Chunk, Request, Scheduler
from minimind.inference.scoring import NOT_FINITE, score
from minimind.inference.stop_strings import StopStrings
from minimind.network.model import MiniMind
from minimind.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What a step found for a request: its next token, or why there is none."""

    request: Request
    token: int
    logprob: float | None = None
    top: TopLogprobs = ()
    error: str = ""


class Engine:
    """Writes continuations of prompts with a model, up to `slots` at a time.

    model: its weights may change while no request is under way, with a call of `forget`. In float32 they are used
        where they are, else rounded into a copy. context_tokens: room for prompt and answer of each slot. tokenizer:
        needed for stop strings only. weight_type: see minimind.inference.quantize. prefill_tokens: prompts are cut into
        pieces of this length. seed: of the seeds that requests without one get; None draws it. native: see Decoder.

    kv_cache_bytes: what the cache takes, all that grows with slots and context; the function of that name in
        minimind.inference.cache tells it beforehand.

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
        self._native = native
        self._decoder = Decoder(self._model, slots, context_tokens, native)
        self._device = model.head_weight_VD.device
        self._scheduler = Scheduler(slots, prefill_tokens)
        self._requests: dict[int, Request] = {}
        self._next_id = 0
        self._seeds = random.Random(seed)
        self._pending: list[RequestEvent] = []

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
        stop_strings = None
        if params.stop:
            if self._tokenizer is None:
                raise ValueError(f"stop = {params.stop!r}: stop strings need an engine that was given a tokenizer")
            stop_strings = StopStrings(params.stop, self._tokenizer)
        seed = self._seeds.getrandbits(63) if params.seed is None else params.seed
        request = Request(self._next_id, prompt, params, seed, stop_strings=stop_strings)
        self._next_id += 1
        self._requests[request.id] = request
        self._scheduler.waiting.append(request)
        return request.id

    def cancel(self, request: int) -> None:
        """Ends a request; the next step says so. Harmless for one that has ended."""
        cancelled = self._requests.get(request)
        if cancelled is not None:
            self._end(cancelled)
            self._pending.append(RequestEvent(request, finish="cancelled", written_tokens=len(cancelled.written)))

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
        events: dict[int, list[RequestEvent]] = {}
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

    def score(
        self, texts: Sequence[tuple[Sequence[int], int]], done: Callable[[int], None] = lambda tokens: None
    ) -> list[list[float]]:
        """The log-prob of each token of texts from a place on; see minimind.inference.scoring. At once and beside the
        requests under way, with a cache of its own that takes as much again.
        """
        return score(self._model, texts, self.slots * self.context_tokens, done, self._native)

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
    def step(self) -> list[RequestEvent]:
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
        return scored, chosen + [_Chosen(request, 0, error=NOT_FINITE) for request in failed]

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

    def _written(self, chosen: _Chosen) -> list[RequestEvent]:
        """The events that a new token brings, and the end of the request if it is its last."""
        request, params = chosen.request, chosen.request.params
        if chosen.error:
            self._end(request)
            held = request.stop_strings.flush() if request.stop_strings is not None else []
            last = RequestEvent(request.id, finish="failed", written_tokens=len(request.written), error=chosen.error)
            return [*held, last]
        prompt = None
        if params.prompt_logprobs is not None and not request.written:
            prompt = tuple(request.prompt_logprobs)
        if not params.max_tokens:
            self._end(request)
            return [RequestEvent(request.id, finish="length", prompt=prompt)]
        token = chosen.token
        request.written.append(token)
        stopped = token in params.stop_ids
        finish: Finish | None = "stop" if stopped else "length" if len(request.written) == params.max_tokens else None
        written = len(request.written)
        event = RequestEvent(
            request.id, token, chosen.logprob, chosen.top, finish, written_tokens=written, prompt=prompt
        )
        events = [event]
        if request.stop_strings is not None:
            if stopped:  # a stop id is no part of the text
                events = [*request.stop_strings.flush(), event]
            else:
                events = request.stop_strings.push(event)
                if finish and not (events and events[-1].finish):
                    events += request.stop_strings.flush()
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
