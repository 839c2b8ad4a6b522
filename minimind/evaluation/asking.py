"""The ways to ask a model: how likely it finds a text, and what it answers. All of them through the one engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from minimind.inference.completion import Completion, RequestEvent, completion
from minimind.inference.engine import Engine
from minimind.inference.sampling import SamplingParams
from minimind.language import say
from minimind.text.chat import StreamParser, ends_in_thought, render
from minimind.text.tokenizer import Tokenizer


class AskingError(ValueError):
    """One of many texts or conversations cannot be asked. place: which, from 0 in their order."""

    def __init__(self, place: int, problem: str) -> None:
        super().__init__(problem)
        self.place = place


Progress = Callable[[int], None]
"""Told of each request that has ended how many tokens it took."""


@dataclass(frozen=True, slots=True)
class Likelihood:
    """How likely a model finds a text after another. logprob: in nats, of all its tokens together."""

    logprob: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model said. calls: name and arguments as they were written. tokens: all that it wrote, the end included.

    logprob: of the tokens, in nats; both None where a server does not say. seconds: from when its prompt was begun
    until its end, beside the other requests.
    """

    text: str
    thinking: str
    calls: tuple[tuple[str, str], ...]
    finish: str
    tokens: int | None
    logprob: float | None
    seconds: float


def continuation_ids(tokenizer: Tokenizer, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """The ids of a text behind <bos>, and of what continues it, cut as lm-eval cuts them: both are encoded as one, and
    white space at the end of the context belongs to the continuation.
    """
    return continuations_ids(tokenizer, [(context, continuation)])[0]


def continuations_ids(tokenizer: Tokenizer, texts: Sequence[tuple[str, str]]) -> list[tuple[list[int], list[int]]]:
    """The same of many contexts, each with what continues it."""
    words = [context.rstrip() for context, _ in texts]
    contexts = list(dict.fromkeys(words))
    before = dict(zip(contexts, tokenizer.encode_batch(contexts), strict=True))
    whole = tokenizer.encode_batch([context + continuation for context, continuation in texts])
    return [
        ([tokenizer.bos_id, *before[start]], ids[len(before[start]) :]) for start, ids in zip(words, whole, strict=True)
    ]


def likelihoods(
    engine: Engine, texts: Sequence[tuple[Sequence[int], Sequence[int]]], progress: Progress = lambda tokens: None
) -> list[Likelihood]:
    """How likely the second of each pair of ids is after the first, which is not empty.

    Pairs that begin alike cost least where they follow each other. Where both are too long together, the first loses
    its beginning. Raises AskingError for a continuation that is empty or alone too long.
    """
    whole = []
    for place, (before, after) in enumerate(texts):
        room = engine.context_tokens - len(after)
        if not after or room < 1:
            problem = say(
                "a text of {count} tokens cannot be scored: 1 to {most} can",
                count=len(after),
                most=engine.context_tokens - 1,
            )
            raise AskingError(place, problem)
        kept = list(before[-room:])
        whole.append(([*kept, *after], len(kept)))
    return [Likelihood(sum(logprobs), len(logprobs)) for logprobs in engine.score(whole, progress)]


def windows(ids: Sequence[int], bos_id: int, context_tokens: int) -> Iterator[tuple[list[int], list[int]]]:
    """A text of any length as pairs for `likelihoods` that hold each of its ids once as second: in pieces of half the
    context, each behind as much of the text as there is room for.
    """
    if len(ids) < context_tokens:
        yield [bos_id], list(ids)
        return
    step = context_tokens // 2
    whole = [bos_id, *ids]
    for start in range(1, len(whole), step):
        stop = min(len(whole), start + step)
        yield whole[max(0, stop - context_tokens) : start], whole[start:stop]


def replies(
    engine: Engine,
    tokenizer: Tokenizer,
    conversations: Sequence[Sequence[Mapping[str, Any]]],
    params: SamplingParams | Sequence[SamplingParams],
    tools: Sequence[Sequence[Mapping[str, Any]]] | None = None,
    progress: Progress = lambda tokens: None,
) -> list[Reply]:
    """What the model answers to each conversation. tools: what it may call in each, in OpenAI's form.

    An answer has the room that its prompt leaves, at most its max_tokens. Raises AskingError for a conversation that
    the chat template refuses, or that leaves no room; ValueError for a model that writes no numbers.
    """
    offered = tools or [()] * len(conversations)
    asked = [params] * len(conversations) if isinstance(params, SamplingParams) else params
    prompts, fitting = [], []
    for place, (messages, of_it, how) in enumerate(zip(conversations, offered, asked, strict=True)):
        try:
            prompts.append(render(tokenizer, messages, of_it, add_generation_prompt=True).ids)
            fitting.append(_fitting(engine, prompts[-1], how))
        except ValueError as error:
            raise AskingError(place, str(error)) from None
    found = []
    for prompt, (done, seconds) in zip(prompts, _completed(engine, prompts, fitting, progress), strict=True):
        parser = StreamParser(tokenizer, thinking=ends_in_thought(tokenizer, prompt))
        parts = [delta for token_id in done.token_ids for delta in parser.push(token_id)] + parser.finish()
        found.append(
            Reply(
                text="".join(part.text for part in parts if part.kind == "content"),
                thinking="".join(part.text for part in parts if part.kind == "reasoning"),
                calls=tuple((part.name or "", part.text) for part in parts if part.kind == "tool_call"),
                finish=done.finish,
                tokens=len(done.token_ids),
                logprob=sum(done.logprobs),
                seconds=seconds,
            )
        )
    return found


def _fitting(engine: Engine, prompt: Sequence[int], params: SamplingParams) -> SamplingParams:
    room = engine.context_tokens - len(prompt)
    if room < 1:
        raise ValueError(
            say(
                "a prompt of {count} tokens leaves no room for an answer: {most} fit",
                count=len(prompt),
                most=engine.context_tokens,
            )
        )
    return replace(params, max_tokens=min(room, params.max_tokens))


def _completed(
    engine: Engine, prompts: Sequence[Sequence[int]], params: Sequence[SamplingParams], progress: Progress
) -> list[tuple[Completion, float]]:
    """Whole answers in the order of the prompts, each with its seconds."""
    events: dict[int, list[RequestEvent]] = {}
    begun: dict[int, float] = {}
    ended: dict[int, float] = {}
    order = [engine.add(prompt, how) for prompt, how in zip(prompts, params, strict=True)]
    sizes = dict(zip(order, map(len, prompts), strict=True))
    try:
        while engine.busy:
            now = time.perf_counter()
            for event in engine.step():
                if event.error:
                    raise ValueError(event.error)
                begun.setdefault(event.request, now)
                events.setdefault(event.request, []).append(event)
                if event.finish is not None:
                    ended[event.request] = time.perf_counter()
                    progress(sizes[event.request] + event.written_tokens)
    finally:
        for request in order:
            engine.cancel(request)
    return [(completion(events[request]), ended[request] - begun[request]) for request in order]
