"""The whole HTTP application over a backend: API, health, metrics, the page, and who may come in."""

from __future__ import annotations

import hmac
import json
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from fastapi import FastAPI, Request, Response
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import cookie_parser
from starlette.responses import FileResponse, JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs.endpoints.keys import API_KEY
from jobs.paths import stock_folder
from jobs.runs.reports import list_reports, page_of
from jobs.serving.ports import is_loopback
from minimind.language import speaking
from service import chat_api, errors
from service.backend import Backend, Status
from service.errors import ApiError
from service.metrics import CONTENT_TYPE, MeteredBackend, Metrics
from service.schemas import unknown_field
from service.settings import Settings

UI = Path(__file__).parent / "ui"
MAX_BODY_BYTES = 8 * 1024 * 1024

_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".woff2": "font/woff2",
    ".json": "application/json",
}
"""Said here, for what the system's own table says differs from machine to machine."""

PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

REPORT_HEADERS = PAGE_HEADERS | {
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'"
}
"""A report holds its style in itself, and what models wrote: nothing in it is to run, or to reach anything."""

REPORTS_COOKIE = "minimind_reports"
"""A link brings no key. Who has listed the reports with the key may open them: the browser keeps this for it."""

_PUBLIC = ("/", "/healthz", "/ui/")
"""What needs no key: the page, which asks for one, and whether the server lives."""


def create(backend: Backend, settings: Settings) -> FastAPI:
    """The application."""
    metrics, door = Metrics(), Door(settings)
    backend = MeteredBackend(backend, metrics)
    app = FastAPI(title="MiniMind", version="1", docs_url=None, redoc_url=None)
    errors.install(app, unknown_field)
    app.include_router(chat_api.router(backend))

    @app.get("/healthz")
    async def healthz(request: Request) -> dict[str, object]:
        """Whether requests can be answered; to who may ask them, which models are in memory."""
        there = await backend.status()
        if not door.knows(request.scope):
            return {"status": "ok"}
        return {"status": "ok", "models": [model.model for model in there.models]}

    @app.get("/metrics")
    async def show_metrics() -> Response:
        """Numbers for Prometheus."""
        try:
            there: Status | None = await backend.status()
        except ApiError:
            there = None
        return Response(metrics.text(there), media_type=CONTENT_TYPE)

    @app.get("/ui/topics.json", include_in_schema=False)
    async def topics() -> dict[str, list[dict[str, object]]]:
        """What the stock data teaches, in both languages, with questions to try."""
        try:
            text = (stock_folder() / "topics.json").read_text("utf-8")
        except FileNotFoundError:
            return {"topics": []}
        shown = ("language", "title_zh", "title_en", "examples")
        return {"topics": [{name: topic[name] for name in shown} for topic in json.loads(text)["topics"]]}

    @app.get("/reports", include_in_schema=False)
    async def reports() -> Response:
        """Which reports of two checkpoints there are, the newest first, and below what address."""
        found = [asdict(row) for row in list_reports()]
        response = JSONResponse({"reports": found}, headers={"Cache-Control": "no-store"})
        if door.pass_word:
            response.set_cookie(REPORTS_COOKIE, door.pass_word, httponly=True, samesite="strict")
        return response

    @app.get("/reports/{name}/{lang}", include_in_schema=False)
    async def report(name: str, lang: Literal["en", "zh"]) -> FileResponse:
        """A report as a page."""
        found = next((row for row in list_reports() if row.name == name), None)
        if found is None:
            raise HTTPException(404)
        return FileResponse(page_of(found.folder, lang), media_type="text/html", headers=REPORT_HEADERS)

    files = {file.relative_to(UI).as_posix(): file for file in UI.rglob("*") if file.suffix in _TYPES}

    @app.get("/", include_in_schema=False)
    @app.get("/ui/{path:path}", include_in_schema=False)
    async def page(path: str = "index.html") -> FileResponse:
        """The chat page and what it is made of."""
        if path not in files:
            raise HTTPException(404)
        return FileResponse(files[path], media_type=_TYPES[files[path].suffix], headers=PAGE_HEADERS)

    app.add_middleware(Guarded, door=door, metrics=metrics)
    return app


class Door:
    """Who may come in.

    Without a key only this machine is answered: the connection must have come in on a loopback address, and no proxy
    may say that it hands on for somebody; the Host must be a name of this machine, for a page elsewhere can point its
    own name at 127.0.0.1; and no browser may say that another site's page asks.
    """

    def __init__(self, settings: Settings) -> None:
        self._key = settings.api_key.encode() if settings.api_key else None
        self.pass_word = hmac.new(self._key, b"reports", "sha256").hexdigest() if self._key else ""

    def _may_read(self, scope: Scope) -> bool:
        """Whether it is a report that is asked for, by a browser that has been let in before."""
        given = cookie_parser(Headers(scope=scope).get("cookie", "")).get(REPORTS_COOKIE, "")
        return scope["path"].startswith("/reports/") and hmac.compare_digest(given.encode(), self.pass_word.encode())

    def knows(self, scope: Scope) -> bool:
        """Whether a request brings the key, or none is needed."""
        scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        right = self._key is not None and hmac.compare_digest(given.strip().encode("latin-1"), self._key)
        return self._key is None or (right and scheme.lower() == "bearer")

    def require_allowed(self, scope: Scope) -> None:
        """Raises ApiError: 401 or 403 for who may not come in, 413 for a body that is said to be too large."""
        headers = Headers(scope=scope)
        public = scope["path"] in _PUBLIC[:2] or scope["path"].startswith(_PUBLIC[2])
        if self._key is None:
            server = (scope.get("server") or ("", 0))[0]
            if not is_loopback(server) or not is_loopback(_host(headers.get("host", ""))):
                raise _key_needed("it answers only on this machine (127.0.0.1, localhost)")
            if handed_on := [name for name in headers if name in _FORWARDED or name.startswith("x-forwarded-")]:
                raise _key_needed(f"it answers nobody behind a proxy (the request has the header {handed_on[0]!r})")
            if not public and headers.get("sec-fetch-site") == "cross-site":
                raise _key_needed("it does not answer pages of other sites (Sec-Fetch-Site: cross-site)")
        elif not public and not self.knows(scope) and not self._may_read(scope):
            raise ApiError(
                401,
                f"this server asks for a key: send the value of its {API_KEY} as 'Authorization: Bearer …'",
                code="invalid_api_key",
            )
        length = headers.get("content-length", "0")
        if length.isdecimal() and (len(length) > 12 or int(length) > MAX_BODY_BYTES):
            raise ApiError(413, f"a request may have {MAX_BODY_BYTES} bytes, this one has {length}")


_FORWARDED = ("forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip")


def _key_needed(why: str) -> ApiError:
    return ApiError(
        403,
        f"this server has no key, so {why}. To open it to others set {API_KEY} where it is started, and send it as "
        f"'Authorization: Bearer …'",
        code="key_needed",
    )


class Guarded:
    """ASGI middleware: lets in whom the door lets in, measures what they bring, and counts what they get. What it says
    is English, whatever the language of the shell: programs read it.

    HEAD is GET without the body, at every path.
    """

    def __init__(self, app: ASGIApp, door: Door, metrics: Metrics) -> None:
        self._app = app
        self._door = door
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, received = 499, 0
        without_body = scope["method"] == "HEAD"
        scope = {**scope, "method": "GET"} if without_body else scope

        async def counting_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif without_body:
                message = {**message, "body": b""}
            await send(message)

        async def counting_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY_BYTES:
                raise HTTPException(413, f"a request may have {MAX_BODY_BYTES} bytes")
            return message

        self._metrics.opened()
        try:
            with speaking("en"):
                self._door.require_allowed(scope)
                await self._app(scope, counting_receive, counting_send)
        except ApiError as error:
            await error.response()(scope, receive, counting_send)
        finally:
            self._metrics.closed(getattr(scope.get("route"), "path", "other"), status)


def _host(header: str) -> str:
    """The name in a Host header, without its port; HOST is host."""
    header = header.lower()
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0]
