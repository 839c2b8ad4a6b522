"""A server on loopback whose answers a test decides."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from tests.browser.scripted import listening

Answer = Callable[[dict[str, Any]], Response | Awaitable[Response]]


@contextmanager
def served(answer: Answer, *models: str) -> Iterator[str]:
    """The address of a server whose chat completions are these."""
    app = FastAPI(openapi_url=None)

    @app.get("/v1/models")
    def list_models() -> dict[str, Any]:
        return {"data": [{"id": name} for name in models]}

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        found = answer(await request.json())
        return found if isinstance(found, Response) else await found

    with listening(app) as there:
        yield there.address


def said(text: Any, finish: str | None = "stop", **message: Any) -> JSONResponse:
    """An answer of 7 tokens to a prompt of 10."""
    choice = {"message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}
    return JSONResponse({"choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": 7}})
