"""A model behind an OpenAI-compatible endpoint: many questions, some at once, and again where that may help."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from contextvars import copy_context
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests

from minimind.language import say

T = TypeVar("T")

TRIES = 5
"""A request is sent at most so often: its server may be starting, busy, or gone for a moment."""

SILENT_TRIES = 2
"""So often where it says nothing at all."""

WAIT_S = 1.0
"""Before the second try; each further wait is twice as long, or as long as the server asks for."""

AGAIN = (408, 429, 500, 502, 503, 504)
"""What a server says that may be otherwise a moment later."""

LIMIT, NEWER_LIMIT = "max_tokens", "max_completion_tokens"
"""OpenAI's names for how long an answer may be: some servers take the one, some the other."""

_TIMEOUT_S = (5, 120)
_MOST_WAIT_S = 60.0
_HAS_VERSION = re.compile(r"/v\d+\w*(/openai)?$")
"""How the addresses of OpenAI's API end; where one does not, /v1 is added."""


class EndpointError(ValueError):
    """An endpoint does not answer, or refuses; in words, with its address."""


class Endpoint:
    """A model of a server. url: as the server's maker gives it, with or without /v1 or /chat/completions. model: None
    takes the only one that it has.

    at_once: how many questions it is asked at the same time. Raises EndpointError where the model is not there, and for
    an address with a password in it: what is asked is kept in files.
    """

    def __init__(self, url: str, model: str | None = None, key: str | None = None, *, at_once: int = 8) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise EndpointError(
                say(
                    "{url!r}: an endpoint is http://HOST:PORT/PATH, without a user, a password or a query; its key "
                    "stands in MINIMIND_API_KEY",
                    url=f"{parts.scheme}://{parts.hostname or ''}…",
                )
            )
        base = url.rstrip("/").removesuffix("/chat/completions").rstrip("/")
        self.url = base if _HAS_VERSION.search(base) else f"{base}/v1"
        self.at_once = at_once
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._threads = threading.local()
        self._limit = LIMIT
        self.model = model or self._only_model()

    @property
    def name(self) -> str:
        """The model and where it is, for people."""
        parts = urlsplit(self.url)
        return f"{self.model} ({parts.netloc}{parts.path.removesuffix('/v1')})"

    def chat(
        self,
        bodies: Sequence[dict[str, Any]],
        read: Callable[[dict[str, Any], float], T],
        told: Callable[[], None] = lambda: None,
    ) -> list[T]:
        """What `read` makes of the chat completion for each body, in their order.

        read: is given the answer and how many seconds it took, in the thread that asked; what it raises as ValueError
        is said with the place of the question. told: of each that has come.

        Raises EndpointError for the first that does not come. What is still asked then, or where the caller is
        interrupted, is not waited for.
        """
        found: list[Any] = [None] * len(bodies)
        problems: list[BaseException] = []
        places = iter(range(len(bodies)))
        lock, over = threading.Lock(), threading.Event()

        def work() -> None:
            while not over.is_set():
                with lock:
                    place = next(places, None)
                if place is None:
                    return
                try:
                    body = {"model": self.model, **bodies[place]}
                    answer, seconds = self._json("POST", "/chat/completions", body, over)
                    found[place] = self._read(read, answer, seconds, place)
                    with lock:
                        told()
                except BaseException as problem:  # noqa: BLE001  # a thread's is lost: it is raised where it is waited for
                    problems.append(problem)
                    over.set()

        threads = [
            # What is said in a thread is in the caller's language: each has a copy of its context.
            threading.Thread(target=copy_context().run, args=(work,), daemon=True)
            for _ in range(min(self.at_once, len(bodies)))
        ]
        for thread in threads:
            thread.start()
        try:
            while not problems and any(thread.is_alive() for thread in threads):
                for thread in threads:
                    thread.join(0.05)
        finally:
            over.set()
        if problems:
            raise problems[0]
        return found

    def _read(
        self, read: Callable[[dict[str, Any], float], T], answer: dict[str, Any], seconds: float, place: int
    ) -> T:
        try:
            return read(answer, seconds)
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise EndpointError(
                say(
                    "{url}: the answer to question {number} is not as OpenAI's are: {error}",
                    url=self.url,
                    number=place + 1,
                    error=repr(error)[:200],
                )
            ) from None

    def _only_model(self) -> str:
        answer, _ = self._json("GET", "/models", None, threading.Event())
        found = answer.get("data") or ()
        names = [str(model["id"]) for model in found if isinstance(model, dict) and "id" in model]
        if len(names) == 1:
            return names[0]
        raise EndpointError(
            say(
                "{url} has the models {names}: name one, as {url}#MODEL",
                url=self.url,
                names=", ".join(names) or say("(none)"),
            )
        )

    def _json(
        self, method: str, path: str, body: dict[str, Any] | None, over: threading.Event
    ) -> tuple[dict[str, Any], float]:
        """The answer, and how many seconds the try took that it came of. over: set where nobody waits any more."""
        url, wait_s, silent = self.url + path, WAIT_S, 0
        for attempt in range(1, TRIES + 1):
            began, limit = time.perf_counter(), self._limit
            try:
                response = self._session().request(method, url, json=_limited(body, limit), timeout=_TIMEOUT_S)
                if response.ok:
                    return _answer(url, response), time.perf_counter() - began
                problem = f"HTTP {response.status_code}: {_said(response)}"
                if response.status_code == 400 and limit != NEWER_LIMIT and NEWER_LIMIT in problem:
                    self._limit = NEWER_LIMIT  # by which it is asked from now on
                    continue
                if response.status_code not in AGAIN:
                    raise EndpointError(say("{url} refuses: {problem}", url=url, problem=problem))
                wait_s = max(wait_s, min(_seconds(response.headers.get("Retry-After")), _MOST_WAIT_S))
            except (requests.exceptions.SSLError, requests.TooManyRedirects, requests.exceptions.InvalidURL) as error:
                raise EndpointError(say("{url} does not answer: {problem}", url=url, problem=error)) from None
            except requests.RequestException as error:
                problem = type(error).__name__
                silent += isinstance(error, requests.ReadTimeout)
            if silent == SILENT_TRIES or attempt == TRIES or over.wait(wait_s):
                break
            wait_s = min(2 * wait_s, _MOST_WAIT_S)
        raise EndpointError(say("{url} does not answer: {problem}", url=url, problem=problem))

    def _session(self) -> requests.Session:
        """One for each thread: a session is not made for several."""
        if not hasattr(self._threads, "session"):
            session = requests.Session()
            session.trust_env = False
            session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE") or True
            session.headers.update(self._headers)
            self._threads.session = session
        found: requests.Session = self._threads.session
        return found


def _limited(body: dict[str, Any] | None, limit: str) -> dict[str, Any] | None:
    """A body with the limit of its tokens under the name that the server takes."""
    if body is None or LIMIT not in body:
        return body
    return {name: value for name, value in body.items() if name != LIMIT} | {limit: body[LIMIT]}


def _answer(url: str, response: requests.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except (requests.JSONDecodeError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise EndpointError(say("{url}: its answer is no JSON object", url=url))
    if answer.get("error"):
        raise EndpointError(say("{url} refuses: {problem}", url=url, problem=_said(response)))
    return answer


def _said(response: requests.Response) -> str:
    """The server's own sentence, in whichever field, or the beginning of what it sent."""
    try:
        body = response.json()
        error = next(body[name] for name in ("error", "message", "detail") if body.get(name))
        return str(error["message"] if isinstance(error, dict) else error)[:500]
    except (ValueError, LookupError, TypeError, AttributeError, StopIteration, RecursionError):
        return response.text[:200].strip()


def _seconds(header: str | None) -> float:
    """How long Retry-After asks to wait: in seconds, or until a date."""
    try:
        return max(0.0, float(header or 0))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(header or "").timestamp() - time.time())
    except ValueError:
        return 0.0
