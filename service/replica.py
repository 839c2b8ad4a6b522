"""ModelReplica: requests to the models in this process, and their answers, piece by piece."""

from __future__ import annotations

import asyncio
import codecs
import logging
from collections.abc import AsyncGenerator
from dataclasses import asdict

from jobs.model_card import ModelCard
from minimind.chat import Delta, StreamParser, ends_in_thought, render
from minimind.engine import Event
from minimind.sampling import SamplingParams, TopLogprobs
from minimind.tokenizer import Tokenizer
from service import errors
from service.backend import Accepted, Chat, Failure, Generation, Piece, Reply, Status, Texts, TokenProb
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

    async def generate(self, generation: Generation) -> AsyncGenerator[Reply]:
        """The replies to a request. Closing the generator gives its slots away."""
        try:
            async with self._pool.use(generation.model) as model:
                async for reply in _generate(model, generation, self._settings):
                    yield reply
        except ApiError as error:
            yield Failure(error)
        except AnswerFailedError as error:
            yield Failure(ApiError(500, str(error), code="answer_failed"))
        except EngineStoppedError as error:
            yield Failure(ApiError(503, str(error), code="engine_stopped", retry_after_s=1))
        except Exception as error:  # the replica's top: the client is told, and the log has the traceback
            logger.exception("a request to %s failed", generation.model)
            yield Failure(errors.broken(error))

    async def models(self) -> list[ModelCard]:
        """What can be asked for now."""
        return await asyncio.to_thread(self._catalog.cards)

    async def status(self) -> Status:
        """What is in memory."""
        return Status(self._name, self._settings.memory_bytes, self._pool.loaded())

    def close(self) -> None:
        """End all engines."""
        self._pool.close()


async def _generate(model: PooledModel, generation: Generation, settings: Settings) -> AsyncGenerator[Reply]:
    if isinstance(generation.prompt, Chat) and not model.found.chat:
        raise errors.continues_text(generation.model)
    prompts = await asyncio.to_thread(_encode, model.tokenizer, generation.prompt)
    for prompt in prompts:
        if len(prompt) + (1 if generation.max_tokens is None else generation.max_tokens) > model.plan.context_tokens:
            param = "messages" if isinstance(generation.prompt, Chat) else "prompt"
            raise errors.too_long(len(prompt), generation.max_tokens, model.plan.context_tokens, param)
    copies = [prompt for prompt in prompts for _ in range(generation.n)]
    if model.host.open and model.host.open + len(copies) > model.plan.slots + settings.queue:
        raise errors.queue_full(max(0, model.host.open - model.plan.slots))
    yield Accepted(generation.model, model.fingerprint, sum(map(len, prompts)))
    writers = [_Writer(model.tokenizer, generation, prompt) for prompt in copies]
    params = [_params(model, generation, len(prompt), choice) for choice, prompt in enumerate(copies)]
    ticket = model.host.submit(copies, params, stream=generation.stream)
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


def _encode(tokenizer: Tokenizer, prompt: Chat | Texts) -> list[list[int]]:
    if isinstance(prompt, Chat):
        try:
            ids = render(
                tokenizer, prompt.messages, prompt.tools, thinking=prompt.thinking, add_generation_prompt=True
            ).ids
        except ValueError as error:
            raise errors.invalid(str(error), "messages") from None
        return [ids + _forced(tokenizer, prompt)]
    begin = [tokenizer.bos_id] if prompt.begin else []
    return [begin + _ids(tokenizer, text) for text in prompt.prompts]


def _ids(tokenizer: Tokenizer, text: str | list[int]) -> list[int]:
    if isinstance(text, str):
        return tokenizer.encode(text)
    if bad := next((token_id for token_id in text if token_id >= tokenizer.vocab_size), None):
        raise errors.invalid(f"token id {bad} is not in the vocabulary of {tokenizer.vocab_size} tokens", "prompt")
    return text


def _forced(tokenizer: Tokenizer, prompt: Chat) -> list[int]:
    """How an answer begins that must be a tool call: the prompt says it already, so the model goes on with it."""
    if prompt.forced is None:
        return []
    if prompt.thinking:
        raise errors.invalid("a forced call leaves no room to think: leave enable_thinking out", "tool_choice")
    # It ends where a word ends for the tokenizer: the space belongs to what follows.
    named = f'\n{{"name": "{prompt.forced}", "arguments":' if prompt.forced else "\n"
    return [tokenizer.special_ids["<tool_call>"], *tokenizer.encode(named)]


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
        stop_ids=(model.tokenizer.eos_id, model.tokenizer.pad_id),
        stop=generation.stop,
        logprobs=generation.logprobs,
        prompt_logprobs=generation.logprobs if _echoes(generation) else None,
    )


def _echoes(generation: Generation) -> bool:
    return isinstance(generation.prompt, Texts) and generation.prompt.echo


class _Writer:
    """The events of one choice as deltas and named tokens."""

    def __init__(self, tokenizer: Tokenizer, generation: Generation, prompt: list[int]) -> None:
        self._tokenizer = tokenizer
        self._stop_ids = (tokenizer.eos_id, tokenizer.pad_id)
        self._logprobs = generation.logprobs is not None
        self._prompt = prompt
        self._written = 0
        self._begun: list[Delta] = []
        if isinstance(generation.prompt, Chat):
            self._parser: StreamParser | _PlainText = StreamParser(tokenizer, ends_in_thought(tokenizer, prompt))
            for token_id in _forced(tokenizer, generation.prompt):
                self._begun += self._parser.push(token_id)
        else:
            self._parser = _PlainText(tokenizer)
            if _echoes(generation):
                self._begun = [Delta("content", tokenizer.decode(prompt))]

    def write(self, event: Event, piece: Piece) -> None:
        """Add what an event brings."""
        if self._begun:
            piece.deltas += self._begun
            self._begun = []
        if event.prompt is not None:
            for token_id, token in zip(self._prompt, event.prompt, strict=True):
                piece.tokens.append(self._named(token_id, token.logprob, token.top))
        if event.token_id is not None and event.token_id not in self._stop_ids:
            piece.deltas += self._parser.push(event.token_id)
            if self._logprobs:
                piece.tokens.append(self._named(event.token_id, event.logprob, event.top))
        for token_id in self._tokenizer.encode(event.rest):
            piece.deltas += self._parser.push(token_id)
        piece.completion_tokens += event.written_tokens - self._written
        self._written = event.written_tokens
        if event.finish is not None:
            piece.deltas += self._parser.finish()
            piece.finish = event.finish

    def _named(self, token_id: int, logprob: float | None, top: TopLogprobs) -> TokenProb:
        best = [(self._tokenizer.decode_bytes((other,)), value) for other, value in top]
        return TokenProb(self._tokenizer.decode_bytes((token_id,)), logprob, best)


class _PlainText:
    """Token ids as text, never half a character."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> list[Delta]:
        """What a token completes."""
        return self._delta(self._decoder.decode(self._tokenizer.decode_bytes((token_id,))))

    def finish(self) -> list[Delta]:
        """What was left incomplete."""
        return self._delta(self._decoder.decode(b"", final=True))

    @staticmethod
    def _delta(text: str) -> list[Delta]:
        return [Delta("content", text)] if text else []
