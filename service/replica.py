"""ModelReplica: requests to the models in this process, and their answers, piece by piece."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from dataclasses import asdict

from jobs.serving.model_card import ModelCard
from minimind.inference.completion import RequestEvent
from minimind.inference.sampling import SamplingParams, TopLogprobs
from minimind.text.chat import Delta, ends_in_thought
from service import errors
from service.answers import ChatText, Named, PlainText, Text, watch
from service.backend import (
    Accepted,
    Asked,
    Chat,
    Failure,
    Generation,
    Piece,
    Reply,
    Scores,
    Scoring,
    Status,
    Texts,
    TokenProb,
)
from service.catalog import Catalog
from service.engine_host import AnswerFailedError, EngineStoppedError
from service.errors import ApiError
from service.model_pool import ModelPool, PooledModel
from service.settings import Settings

logger = logging.getLogger(__name__)


class ModelReplica:
    """A `Backend` in this process. Made and used in one event loop."""

    def __init__(self, settings: Settings, name: str = "local") -> None:
        self._settings = settings
        self._name = name
        self._catalog = Catalog()
        self._pool = ModelPool(self._catalog, settings)

    async def generate(self, asked: Asked) -> AsyncGenerator[Reply]:
        """The replies to a request. Closing the generator gives its slots away."""
        try:
            async with self._pool.use(asked.model, scores=isinstance(asked, Scoring)) as model:
                async for reply in _replies(model, asked, self._settings):
                    yield reply
        except ApiError as error:
            yield Failure(error)
        except AnswerFailedError as error:
            yield Failure(ApiError(500, str(error), code="answer_failed"))
        except EngineStoppedError as error:
            yield Failure(ApiError(503, str(error), code="engine_stopped", retry_after_s=1))
        except Exception as error:  # the replica's top: the client is told, and the log has the traceback
            logger.exception("a request to %s failed", asked.model)
            yield Failure(errors.broken(error))

    async def models(self) -> list[ModelCard]:
        """What can be asked for now."""
        return await asyncio.to_thread(self._catalog.cards)

    async def model(self, name: str) -> ModelCard:
        """What this name means now. Raises ApiError where it means nothing."""
        return await asyncio.to_thread(self._catalog.card, name)

    async def status(self) -> Status:
        """What is in memory."""
        return Status(self._name, self._settings.memory_bytes, self._pool.loaded())

    def close(self) -> None:
        """End all engines."""
        self._pool.close()


def _replies(model: PooledModel, asked: Asked, settings: Settings) -> AsyncGenerator[Reply]:
    return _score(model, asked, settings) if isinstance(asked, Scoring) else _generate(model, asked, settings)


async def _generate(model: PooledModel, generation: Generation, settings: Settings) -> AsyncGenerator[Reply]:
    if isinstance(generation.prompt, Chat) and not model.found.chat:
        raise errors.continues_text(generation.model)
    param = "messages" if isinstance(generation.prompt, Chat) else "prompt"
    context_tokens, limit = model.plan.context_tokens, generation.max_tokens
    least = model.prompts.least_tokens(generation.prompt)
    if least > context_tokens:  # megabytes are not cut into tokens to learn that
        raise errors.too_long(least, limit, context_tokens, param, at_least=True)
    prompts = await asyncio.to_thread(model.prompts.encode, generation.prompt)
    for prompt in prompts:
        if len(prompt) + (1 if limit is None else limit) > context_tokens:
            raise errors.too_long(len(prompt), limit, context_tokens, param)
    copies = [prompt for prompt in prompts for _ in range(generation.n)]
    _require_room(model, len(copies), settings)
    yield Accepted(generation.model, model.fingerprint, sum(map(len, prompts)))
    writers = [_Writer(model, generation, prompt) for prompt in copies]
    params = [_params(model, generation, len(prompt), choice) for choice, prompt in enumerate(copies)]
    forced = _forced(model, generation)
    watches = [watch(model.tokenizer, generation, prompt, forced) for prompt in copies]
    ticket = model.host.submit(copies, params, stream=generation.stream, watches=watches)
    try:
        still_open = len(copies)
        while still_open:
            pieces: dict[int, Piece] = {}
            for choice, event in await ticket.take():
                piece = pieces.setdefault(choice, Piece(choice))
                writers[choice].write(event, piece)
                still_open -= piece.finish is not None
                if not still_open:
                    piece.decode_s = ticket.decode_s
            yield list(pieces.values())
    finally:
        model.host.cancel(ticket)


async def _score(model: PooledModel, scoring: Scoring, settings: Settings) -> AsyncGenerator[Reply]:
    texts = await asyncio.to_thread(model.prompts.conversations, scoring.conversations, model.plan.context_tokens)
    _require_room(model, len(texts), settings)
    yield Accepted(model.found.id, model.fingerprint, sum(map(len, texts)))
    ticket = model.host.submit(texts, [SamplingParams(max_tokens=0)] * len(texts), stream=False)
    try:
        scores = {number: event.score for number, event in await ticket.take()}
    finally:
        model.host.cancel(ticket)
    yield Scores([scores[number] for number in range(len(texts))], list(map(len, texts)))


def _require_room(model: PooledModel, sequences: int, settings: Settings) -> None:
    if model.host.open and model.host.open + sequences > model.plan.slots + settings.queue:
        raise errors.queue_full(max(0, model.host.open - model.plan.slots))


def _forced(model: PooledModel, generation: Generation) -> list[int]:
    return model.prompts.forced(generation.prompt) if isinstance(generation.prompt, Chat) else []


def _params(model: PooledModel, generation: Generation, prompt_tokens: int, choice: int) -> SamplingParams:
    limit = generation.max_tokens
    sampling = asdict(model.sampling)
    sampling |= {name: asked for name in sampling if (asked := getattr(generation, name)) is not None}
    return SamplingParams(
        max_tokens=model.plan.context_tokens - prompt_tokens if limit is None else limit,
        **sampling,
        presence_penalty=generation.presence_penalty,
        frequency_penalty=generation.frequency_penalty,
        # Each of n answers has a seed of its own, or they would be one answer n times.
        seed=None if generation.seed is None else (generation.seed + choice) % 2**63,
        stop_ids=() if generation.ignore_eos else (model.tokenizer.eos_id, model.tokenizer.pad_id),
        stop=generation.stop if isinstance(generation.prompt, Texts) else (),
        logprobs=generation.logprobs,
        prompt_logprobs=generation.logprobs if _echoes(generation) else None,
    )


def _echoes(generation: Generation) -> bool:
    return isinstance(generation.prompt, Texts) and generation.prompt.echo


class _Writer:
    """The events of one choice as deltas and named tokens."""

    def __init__(self, model: PooledModel, generation: Generation, prompt: list[int]) -> None:
        tokenizer = self._tokenizer = model.tokenizer
        self._end_ids = (tokenizer.eos_id, tokenizer.pad_id)
        self._logprobs = generation.logprobs is not None
        self._prompt = prompt
        self._written = 0
        self._begun: list[Delta] = []
        self._text: Text
        if isinstance(generation.prompt, Chat):
            self._text = ChatText(
                tokenizer, generation.prompt, generation.stop, in_thought=ends_in_thought(tokenizer, prompt)
            )
            for token_id in _forced(model, generation):
                self._begun += self._text.push(token_id)
        else:
            self._text = PlainText(tokenizer)
            if _echoes(generation):
                self._begun = [Delta("content", tokenizer.decode(prompt))]
        self._names_end = isinstance(generation.prompt, Texts)
        self._named = Named(self._text)

    def write(self, event: RequestEvent, piece: Piece) -> None:
        """Add what an event brings."""
        if self._begun:
            piece.deltas += self._begun
            self._begun = []
        if event.prompt is not None:
            for token_id, token in zip(self._prompt, event.prompt, strict=True):
                piece.tokens.append(self._name(token_id, token.logprob, token.top))
        if event.token_id is not None:
            ends = event.token_id in self._end_ids
            if not ends:
                piece.deltas += self._text.push(event.token_id)
            # Evaluation harnesses count on a name for each token of a completion, its end too, which is no text.
            if self._logprobs and (not ends or self._names_end):
                piece.tokens += self._named.push(self._name(event.token_id, event.logprob, event.top, in_text=not ends))
        for token_id in self._tokenizer.encode(event.rest):
            piece.deltas += self._text.push(token_id)
        piece.completion_tokens += event.written_tokens - self._written
        self._written = event.written_tokens
        if event.finish is not None:
            piece.deltas += self._text.finish()
            piece.tokens += self._named.finish()
            piece.finish = "stop" if self._text.ended else event.finish

    def _name(self, token_id: int, logprob: float | None, top: TopLogprobs, in_text: bool = True) -> TokenProb:
        best = [(self._tokenizer.decode_bytes((other,)), value) for other, value in top]
        return TokenProb(self._tokenizer.decode_bytes((token_id,)), logprob, best, in_text)
