"""The endpoints of OpenAI's API: a request is checked, handed to the backend, and its replies are put into words."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from pydantic_core import to_json
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from jobs.model_card import ModelCard
from service import stream
from service.backend import Backend, Chat, Generation, Texts
from service.errors import ApiError, unknown_model
from service.schemas import ChatRequest, CompletionRequest, Message, NamedTool, TextPart

T = TypeVar("T")

_ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"description": text, "content": {"application/json": {"schema": {"type": "object"}}}}
    for code, text in (("4XX", "what is wrong with the request"), ("5XX", "not ready yet, or a bug"))
}
_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {"description": "the answer; with stream = true server-sent events", "content": {"text/event-stream": {}}}
}


def router(backend: Backend) -> APIRouter:
    """/v1/models, /v1/chat/completions and /v1/completions over a backend."""
    routes = APIRouter(prefix="/v1", responses=_ERRORS)

    @routes.get("/models")
    async def list_models() -> dict[str, Any]:
        """The models that can be asked for."""
        return {"object": "list", "data": [_card(card) for card in await backend.models()]}

    @routes.get("/models/{model}")
    async def show_model(model: str) -> dict[str, Any]:
        """One model."""
        cards = await backend.models()
        for card in cards:
            if card.id == model:
                return _card(card)
        raise unknown_model(model, "there is none of this name", [card.id for card in cards])

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

    return routes


async def _answer(
    backend: Backend, request: Request, generation: Generation, words: stream.Format, include_usage: bool
) -> Response:
    replies = backend.generate(generation)
    try:
        first = await _unless_gone(request, stream.accepted(replies))
        if generation.stream:
            events = stream.stream(first, replies, words, include_usage=include_usage)
            return EventStream(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
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
        messages=[_message(message) for message in body.messages],
        tools=[] if choice == "none" else tools,
        thinking=body.chat_template_kwargs.enable_thinking if body.chat_template_kwargs else None,
        forced=forced,
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


def _generation(
    body: ChatRequest | CompletionRequest, prompt: Chat | Texts, *, max_tokens: int | None, logprobs: int | None
) -> Generation:
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
    given = {name: value for name in (*names, "n", "seed") if (value := getattr(body, name)) is not None}
    return Generation(
        model=body.model,
        prompt=prompt,
        max_tokens=max_tokens,
        stop=body.stops,
        logprobs=logprobs,
        stream=bool(body.stream),
        **given,
    )


def _message(message: Message) -> dict[str, Any]:
    """The message in the shape that minimind.chat renders."""
    plain: dict[str, Any] = {
        "role": "system" if message.role == "developer" else message.role,
        "content": _text(message.content),
    }
    if message.role == "assistant":
        plain["reasoning_content"] = message.reasoning_content or ""
        plain["tool_calls"] = [call.model_dump() for call in message.tool_calls or ()]
    return plain


def _text(content: str | list[TextPart] | None) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content or ())
