"""The endpoints below /v1, OpenAI's but for scores: a request is checked, handed to the backend, and its replies are
put into words.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import aclosing, suppress
from itertools import groupby
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from pydantic_core import to_json
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from jobs.serving.model_card import ModelCard
from service import stream
from service.backend import Backend, Chat, Generation, Scoring, Texts
from service.errors import ApiError, invalid
from service.schemas import (
    NO_LIMIT,
    ChatRequest,
    CompletionRequest,
    Message,
    NamedTool,
    ScoreRequest,
    TextPart,
    ToolMessage,
)

T = TypeVar("T")

_ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"description": text, "content": {"application/json": {"schema": {"type": "object"}}}}
    for code, text in (("4XX", "what is wrong with the request"), ("5XX", "not ready yet, or a bug"))
}
_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {"description": "the answer; with stream = true server-sent events", "content": {"text/event-stream": {}}}
}


_STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""No proxy in between is to keep an answer, or to gather it: nginx would."""


def router(backend: Backend) -> APIRouter:
    """/v1/models, /v1/chat/completions, /v1/completions and /v1/scores over a backend."""
    routes = APIRouter(prefix="/v1", responses=_ERRORS)

    @routes.get("/models")
    async def list_models() -> dict[str, Any]:
        """The models that can be asked for."""
        return {"object": "list", "data": [_card(card) for card in await backend.models()]}

    @routes.get("/models/{model}")
    async def show_model(model: str) -> dict[str, Any]:
        """One model."""
        return _card(await backend.model(model))

    @routes.post("/chat/completions", responses=_ANSWER)
    async def chat(body: ChatRequest, request: Request) -> Response:
        """The next message of a conversation."""
        words = stream.ChatFormat(bool(body.logprobs))
        return await _answer(backend, request, _of_chat(body), words, body.include_usage)

    @routes.post("/completions", responses=_ANSWER)
    async def complete(body: CompletionRequest, request: Request) -> Response:
        """How texts go on."""
        words = stream.TextFormat(body.logprobs is not None)
        return await _answer(backend, request, _of_texts(body), words, body.include_usage)

    @routes.post("/scores")
    async def score(body: ScoreRequest, request: Request) -> Response:
        """How good a reward model finds the answers at the end of conversations."""
        async with aclosing(backend.generate(_of_scores(body))) as replies:
            answer = await _unless_gone(request, stream.scores(replies))
        return Response(to_json(answer), media_type="application/json")

    return routes


async def _answer(
    backend: Backend, request: Request, generation: Generation, words: stream.Format, include_usage: bool
) -> Response:
    replies = backend.generate(generation)
    try:
        first = await _unless_gone(request, stream.accepted(replies))
        if generation.stream:
            events = stream.stream(first, replies, words, include_usage=include_usage)
            return EventStream(events, media_type="text/event-stream", headers=_STREAM_HEADERS)
        answer = await _unless_gone(request, stream.whole(first, replies, words))
    except BaseException:
        await replies.aclose()
        raise
    return Response(to_json(answer), media_type="application/json")


class EventStream(StreamingResponse):
    """Server-sent events. However the response ends, its source is closed, which gives the slot away."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything, as ASGI wants it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self.body_iterator.aclose()  # type: ignore[attr-defined]


async def _unless_gone(request: Request, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled if the client hangs up first (Starlette looks only during streams)."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ApiError(499, "the client hung up", code="client_gone")
        return task.result()
    finally:
        for pending in (task, gone):
            pending.cancel()
            with suppress(asyncio.CancelledError, ApiError):
                await pending


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _card(card: ModelCard) -> dict[str, Any]:
    return {
        "id": card.id,
        "object": "model",
        "created": card.created,
        "owned_by": "minimind",
        "root": card.root,
        "minimind": {
            "stage": card.stage,
            "step": card.step,
            "chat": card.chat,
            "scores": card.scores,
            "stock": card.stock,
            "parent": card.parent,
            "weights": card.weights,
            "sampling": card.sampling,
        },
    }


def _of_chat(body: ChatRequest) -> Generation:
    choice = body.tool_choice
    tools = [tool.model_dump(exclude_none=True, exclude={"function": {"strict"}}) for tool in body.tools or ()]
    forced = choice.function.name if isinstance(choice, NamedTool) else "" if choice == "required" else None
    prompt = Chat(
        messages=_plain(body.messages, "messages"),
        tools=[] if choice == "none" else tools,
        thinking=body.thinking,
        forced=forced,
        one_call=body.parallel_tool_calls is False and bool(tools) and choice != "none",
    )
    return _generation(
        body,
        prompt,
        max_tokens=body.max_completion_tokens or body.max_tokens,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
    )


def _of_texts(body: CompletionRequest) -> Generation:
    limit = 16 if body.max_tokens is None else body.max_tokens
    prompt = Texts(body.prompts, echo=bool(body.echo), begin=bool(body.add_special_tokens))
    return _generation(body, prompt, max_tokens=limit, logprobs=body.logprobs)


def _of_scores(body: ScoreRequest) -> Scoring:
    conversations = enumerate(body.conversations)
    return Scoring(body.model, [_plain(messages, f"conversations[{number}]") for number, messages in conversations])


def _generation(
    body: ChatRequest | CompletionRequest, prompt: Chat | Texts, *, max_tokens: int | None, logprobs: int | None
) -> Generation:
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
    given = {name: value for name in (*names, "n", "seed") if (value := getattr(body, name)) is not None}
    if body.top_p == 0:  # nothing but the likeliest token
        given |= {"top_p": 1.0, "temperature": 0.0}
    if body.seed == -1:  # many clients' word for none
        del given["seed"]
    if body.top_k == NO_LIMIT:
        given["top_k"] = 0
    return Generation(
        model=body.model,
        prompt=prompt,
        max_tokens=None if max_tokens == NO_LIMIT else max_tokens,
        stop=body.stops,
        logprobs=logprobs,
        stream=bool(body.stream),
        ignore_eos=bool(body.ignore_eos),
        **given,
    )


def _plain(messages: Sequence[Message], where: str) -> list[dict[str, Any]]:
    return [plain_message(message) for message in _with_results_bound(messages, where)]


def _with_results_bound(messages: Sequence[Message], where: str) -> list[Message]:
    """The messages with the results of tools in the order of the calls that they answer: the template knows no ids.
    where: the field that they stand in.

    Raises ApiError for a result of no call, two of one, and a call that is left without while others have theirs.
    """
    bound: list[Message] = []
    calls: list[str] = []
    for tools, turns in groupby(enumerate(messages), key=lambda turn: turn[1].role == "tool"):
        run = list(turns)
        if not tools:
            bound += [message for _, message in run]
            last = bound[-1]
            calls = [call.id for call in last.tool_calls or ()] if last.role == "assistant" else []
        elif bound and bound[-1].role == "assistant":
            bound += _in_order_of(calls, [(f"{where}[{place}]", turn) for place, turn in run if turn.role == "tool"])
        else:  # the order of the turns is wrong, which whoever renders them says
            bound += [message for _, message in run]
    return bound


def _in_order_of(calls: list[str], run: list[tuple[str, ToolMessage]]) -> list[ToolMessage]:
    results: dict[str, ToolMessage] = {}
    for place, result in run:
        where, answered = f"{place}.tool_call_id", result.tool_call_id
        if answered not in calls:
            there = ", ".join(map(repr, calls)) or "none"
            raise invalid(
                f"{where}: {answered!r} is no call of the assistant message before; its calls: {there}", where
            )
        if answered in results:
            raise invalid(f"{where}: {answered!r} has its result already", where)
        results[answered] = result
    if missing := [call for call in calls if call not in results]:
        place = run[0][0]
        raise invalid(
            f"{place}: of the calls before it {', '.join(map(repr, missing))} have no result; each needs one", place
        )
    return [results[call] for call in calls]


def plain_message(message: Message) -> dict[str, Any]:
    """The message in the shape that minimind.text.chat renders."""
    plain: dict[str, Any] = {
        "role": "system" if message.role == "developer" else message.role,
        "content": _text(message.content),
    }
    if message.role == "assistant":
        plain["reasoning_content"] = message.thoughts
        plain["tool_calls"] = [call.model_dump() for call in message.tool_calls or ()]
    return plain


def _text(content: str | list[TextPart] | None) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content or ())
