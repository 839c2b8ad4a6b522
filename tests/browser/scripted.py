"""An HTTP server on loopback that answers as a test scripts it: what no model does on cue."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from jobs import paths

UI = paths.checkout() / "service" / "ui"
CSP = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'none'"
POLL_S = 0.005


@dataclass(frozen=True)
class Reasoning:
    """A piece of thinking."""

    text: str


@dataclass(frozen=True)
class Call:
    """A whole tool call in two deltas."""

    name: str
    arguments: str
    index: int = 0


@dataclass(frozen=True)
class Finish:
    """How the answer ends, where not with "stop"."""

    reason: str


@dataclass(frozen=True)
class Refusal:
    """An error instead of an answer."""

    status: int
    message: str
    retry_after_s: float | None = None


@dataclass(frozen=True)
class ErrorEvent:
    """An error event in the middle of the stream, and nothing after it."""

    message: str


class CutOff:
    """The connection breaks."""


class Gate:
    """The stream waits here until the test opens it."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.reached = threading.Event()

    def open(self) -> None:
        self.opened.set()

    def wait_reached(self) -> None:
        assert self.reached.wait(20), "the stream did not come to the gate"


Chunk = Callable[..., str]
"""A delta, and how the answer ends -> the event of one endpoint."""

Step = str | Reasoning | Call | Finish | Refusal | ErrorEvent | CutOff | Gate


class ScriptedServer:
    """`answer(...)` scripts the next answer, of any model or of one; without a script a model repeats the question.

    requests: the bodies that came, in order. hung_up: set when a client went away in the middle of a stream. decode_s:
    how long writing took, as the server says.
    """

    def __init__(self, models: list[dict[str, Any]] | None = None, key: str | None = None) -> None:
        self.models: list[dict[str, Any]] = models if models is not None else [{"id": "sft"}, {"id": "sft@200"}]
        self.topics: list[dict[str, Any]] | None = []
        self.reports: list[dict[str, Any]] = []
        self.key = key
        self.decode_s = 0.5
        self.not_ready: Refusal | None = None
        self.requests: list[dict[str, Any]] = []
        self.hung_up = threading.Event()
        self._scripts: list[tuple[str | None, tuple[Step, ...]]] = []
        self.app = self._build()

    def answer(self, *steps: Step, model: str | None = None) -> None:
        self._scripts.append((model, steps))

    def _script(self, model: str, question: str) -> tuple[Step, ...]:
        for index, (wanted, steps) in enumerate(self._scripts):
            if wanted in {None, model}:
                del self._scripts[index]
                return steps
        return (f"{model} heard: ", question)

    def _build(self) -> FastAPI:
        app = FastAPI(openapi_url=None)

        @app.get("/")
        async def page() -> Response:
            return FileResponse(UI / "index.html", headers={"Content-Security-Policy": CSP})

        @app.get("/ui/topics.json")
        async def topics() -> Response:
            return _error(Refusal(500, "damaged")) if self.topics is None else JSONResponse({"topics": self.topics})

        @app.get("/reports")
        async def reports(request: Request) -> Response:
            return self._refusal(request) or JSONResponse({"reports": self.reports})

        @app.get("/ui/{name}")
        async def file(name: str) -> Response:
            kinds = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
            return FileResponse(
                UI / Path(name).name, media_type=kinds[Path(name).suffix], headers={"Cache-Control": "no-cache"}
            )

        @app.get("/v1/models")
        async def models(request: Request) -> Response:
            if refusal := self._refusal(request):
                return refusal
            return JSONResponse({"object": "list", "data": self.models})

        @app.get("/v1/models/{name}")
        async def model(name: str) -> Response:
            return _error(Refusal(404, f"model {name!r}: there is none of this name"))

        @app.post("/v1/completions")
        async def complete(request: Request) -> Response:
            if refusal := self._refusal(request):
                return refusal
            body = await request.json()
            self.requests.append(body)
            steps = self._script(body["model"], str(body["prompt"]))
            if steps and isinstance(steps[0], Refusal):
                return _error(steps[0])
            return StreamingResponse(self._stream(steps, _text), media_type="text/event-stream")

        @app.post("/v1/chat/completions")
        async def chat(request: Request) -> Response:
            if refusal := self._refusal(request):
                return refusal
            body = await request.json()
            self.requests.append(body)
            known = [model["id"] for model in self.models]
            if body["model"] not in known:
                return _error(Refusal(404, f"no model {body['model']!r}; there are: {', '.join(known)}"))
            steps = self._script(body["model"], str(body["messages"][-1]["content"]))
            if steps and isinstance(steps[0], Refusal):
                return _error(steps[0])
            return StreamingResponse(self._stream(steps, _chunk), media_type="text/event-stream")

        return app

    def _refusal(self, request: Request) -> Response | None:
        if self.key is not None and request.headers.get("authorization") != f"Bearer {self.key}":
            return _error(Refusal(401, "a key is needed"))
        return None if self.not_ready is None else _error(self.not_ready)

    async def _stream(self, steps: tuple[Step, ...], chunk: Chunk) -> AsyncIterator[str]:
        try:
            async for event in self._play(steps, chunk):
                yield event
        except (asyncio.CancelledError, GeneratorExit):
            self.hung_up.set()
            raise

    async def _play(self, steps: tuple[Step, ...], chunk: Chunk) -> AsyncIterator[str]:
        finish, tokens = "stop", 0
        for step in steps:
            match step:
                case str():
                    yield chunk({"content": step})
                case Reasoning(text):
                    yield _chunk({"reasoning_content": text})
                case Call(name, arguments, index):
                    finish = "tool_calls"
                    head = {"index": index, "id": f"call_{index}", "type": "function"}
                    yield _chunk({"tool_calls": [{**head, "function": {"name": name, "arguments": ""}}]})
                    yield _chunk({"tool_calls": [{"index": index, "function": {"arguments": arguments}}]})
                case Finish(reason):
                    finish = reason
                case ErrorEvent(message):
                    yield _event({"error": {"message": message, "type": "server_error", "param": None, "code": None}})
                    return
                case CutOff():
                    await asyncio.sleep(0)
                    raise ConnectionAbortedError("scripted")
                case Gate():
                    step.reached.set()
                    while not step.opened.is_set():
                        await asyncio.sleep(POLL_S)
            tokens += isinstance(step, str | Reasoning | Call)
        yield chunk({}, finish)
        usage = {"prompt_tokens": 7, "completion_tokens": tokens, "total_tokens": 7 + tokens}
        yield _event({"choices": [], "usage": usage, "minimind": {"decode_s": self.decode_s}})
        yield "data: [DONE]\n\n"


def _chunk(delta: dict[str, Any], finish: str | None = None) -> str:
    return _event({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def _text(delta: dict[str, Any], finish: str | None = None) -> str:
    return _event({"choices": [{"index": 0, "text": delta.get("content", ""), "finish_reason": finish}]})


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"


def _error(refusal: Refusal) -> Response:
    wait = {} if refusal.retry_after_s is None else {"Retry-After": str(refusal.retry_after_s)}
    body = {"error": {"message": refusal.message, "type": "error", "param": None, "code": None}}
    return JSONResponse(body, refusal.status, headers=wait)


class Listening:
    """`app` behind a free port of loopback. `stop()` takes it away, `start()` brings it back there."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._port = 0
        self._thread: threading.Thread | None = None
        self.start()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)

    def start(self) -> None:
        """Listen, if it does not."""
        if self._thread is not None:
            return
        listener = socket.create_server(("127.0.0.1", self._port))
        self._port = listener.getsockname()[1]
        self.address = f"http://127.0.0.1:{self._port}"
        config = uvicorn.Config(
            self._serve, interface="asgi3", log_level="critical", lifespan="off", ws="none", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]})
        self._thread.start()

    def stop(self) -> None:
        """Hang up."""
        if self._thread is None:
            return
        self._server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive(), "the server did not end"
        self._thread = None


@contextmanager
def listening(app: ASGIApp) -> Iterator[Listening]:
    server = Listening(app)
    try:
        yield server
    finally:
        server.stop()
