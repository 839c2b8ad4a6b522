"""A model behind an OpenAI-compatible endpoint: many questions, some at once, and again where that may help."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextvars import copy_context
from email.utils import parsedate_to_datetime
from queue import Empty, SimpleQueue
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests

from jobs.endpoints.keys import read_key
from minimind.language import say

T = TypeVar("T")
Body = dict[str, Any]
Read = Callable[[dict[str, Any], float], T]
"""What is made of an answer, given it and how many seconds it took, in the thread that asked."""

TRIES = 5
"""A request is sent at most so often: its server may be starting, busy, or gone for a moment."""

SILENT_TRIES = 2
"""So often where it says nothing at all."""

WAIT_S = 1.0
"""Before the second try; each further wait is twice as long, or as long as the server asks for."""

AGAIN = (408, 425, 429)
"""What a server says that may be otherwise a moment later, beside all from 500 on, of which gateways have their own."""

OF_THE_QUESTION = (400, 413, 422)
"""What a server says of one question; all else that it refuses it refuses of any."""

BROKEN_OFF = 502
"""As which status an answer counts that came to no end. A gateway that loses a model while it writes has said 200."""

LIMIT, NEWER_LIMIT = "max_tokens", "max_completion_tokens"
"""OpenAI's names for how long an answer may be: some servers take the one, some the other."""

_CONNECT_S, _ANSWER_S = 5, 120
_MOST_WAIT_S = 60.0
_NOTICE_S = 0.1
_MOST_NAMED = 10  # of the models that an endpoint has
_HAS_VERSION = re.compile(r"/v\d+\w*(/openai)?$")
"""How the addresses of OpenAI's API end; where one does not, /v1 is added."""
_FLAGGED = re.compile(r"flagged_input|input (?:was|is|has been) flagged|requires moderation", re.IGNORECASE)
"""What stands in a refusal, with a status of its own, of a question that a moderation does not let through."""
_FAILED = ("error", "network_error")
"""How servers say that they failed while an answer was written."""


class EndpointError(ValueError):
    """An endpoint does not answer, or refuses; in words, with its address."""


class RefusedError(EndpointError):
    """It refuses whatever it is asked: a wrong key, no credit, no such model."""


class QuestionRefusedError(EndpointError):
    """It refuses this question: too long, against its rules, or with a setting that it does not know."""


class GarbledError(EndpointError):
    """What came is no answer as OpenAI's are."""


class Pace:
    """At most so many requests a minute, at equal distances; None: as many as come. Any thread may ask."""

    def __init__(self, per_minute: float | None) -> None:
        self._apart_s = 60 / per_minute if per_minute else 0.0
        self._next_s = 0.0
        self._lock = threading.Lock()

    def wait_s(self, now_s: float) -> float:
        """How long the next request has to wait, which has its turn then."""
        with self._lock:
            turn_s = max(now_s, self._next_s)
            self._next_s = turn_s + self._apart_s
        return turn_s - now_s


class Endpoint:
    """A model of a server. url: as the server's maker gives it, with or without /v1; one that ends in
    /chat/completions is taken as it is. model: None takes the only one that it has.

    at_once: how many questions it is asked at the same time. per_minute: how many requests it is sent a minute, tries
    counted. answer_s: how long it may say nothing before it is asked again. Raises EndpointError where the model is not
    there, and for an address with a password in it: what is asked is kept in files.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        key: str | None = None,
        *,
        at_once: int = 8,
        per_minute: float | None = None,
        answer_s: float = _ANSWER_S,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise EndpointError(
                say(
                    "{url!r}: an endpoint is http://HOST:PORT/PATH, without a user, a password or a query; its key "
                    "stands in MINIMIND_API_KEY",
                    url=f"{parts.scheme}://{parts.hostname or ''}…",
                )
            )
        given = url.rstrip("/")
        base = given.removesuffix("/chat/completions").rstrip("/")
        self.url = base if base != given or _HAS_VERSION.search(base) else f"{base}/v1"
        self.at_once = at_once
        self._pace, self._answer_s = Pace(per_minute), answer_s
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._threads = threading.local()
        self._limit = LIMIT
        self.model = model or self._only_model()

    @classmethod
    def named(cls, text: str, **settings: Any) -> Endpoint:
        """The endpoint that URL#MODEL names, with the key of the environment. settings: as above."""
        url, _, model = text.partition("#")
        return cls(url, model or None, read_key(os.environ), **settings)

    @property
    def name(self) -> str:
        """The model and where it is, for people."""
        parts = urlsplit(self.url)
        return f"{self.model} ({parts.netloc}{parts.path.removesuffix('/v1')})"

    def chat(self, bodies: Sequence[Body], read: Read[T], told: Callable[[], None] = lambda: None) -> list[T]:
        """What `read` makes of the chat completion for each body, in their order. told: of each that has come.

        Raises EndpointError for the first that does not come.
        """
        found: list[Any] = [None] * len(bodies)
        for place, answer in self.stream(bodies, read):
            if isinstance(answer, EndpointError):
                raise answer
            found[place] = answer
            told()
        return found

    def stream(self, bodies: Iterable[Body | None], read: Read[T]) -> Generator[tuple[int, T | EndpointError]]:
        """What `read` makes of the chat completion for each body, or why it did not come, with its number: in the order
        in which they come. What `read` raises as ValueError and the like is said with the number of the question.

        bodies: taken one by one, in the caller's thread, whenever one more may be asked; None: only after another
        answer. What is still asked where the caller stops is not waited for.
        """
        asked: SimpleQueue[tuple[int, Body] | None] = SimpleQueue()
        come: SimpleQueue[tuple[int, T | BaseException]] = SimpleQueue()
        over = threading.Event()

        def work() -> None:
            while (question := asked.get()) is not None:
                place, body = question
                try:
                    answer, seconds = self._json("POST", "/chat/completions", {"model": self.model, **body}, over)
                    come.put((place, self._read(read, answer, seconds, place)))
                except BaseException as problem:  # noqa: BLE001  # a thread's is lost: it is raised where it is waited for
                    come.put((place, problem))

        rest, place, under_way, threads, more = iter(bodies), 0, 0, 0, True
        try:
            while more or under_way:
                while more and under_way < self.at_once:
                    try:
                        body = next(rest)
                    except StopIteration:
                        more = False
                        break
                    if body is None:
                        break
                    asked.put((place, body))
                    place, under_way = place + 1, under_way + 1
                    if threads < under_way:
                        # What is said in a thread is in the caller's language: each has a copy of its context.
                        threading.Thread(target=copy_context().run, args=(work,), daemon=True).start()
                        threads += 1
                if under_way:
                    number, answer = _got(come)
                    under_way -= 1
                    if isinstance(answer, BaseException) and not isinstance(answer, EndpointError):
                        raise answer
                    yield number, answer
        finally:
            over.set()
            for _ in range(threads):
                asked.put(None)

    def _read(self, read: Read[T], answer: dict[str, Any], seconds: float, place: int) -> T:
        try:
            return read(answer, seconds)
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise GarbledError(
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
                names=_some(names) or say("(none)"),
            )
        )

    def _json(
        self, method: str, path: str, body: dict[str, Any] | None, over: threading.Event
    ) -> tuple[dict[str, Any], float]:
        """The answer, and how many seconds the try took that it came of. over: set where nobody waits any more."""
        url, wait_s, silent = self.url + path, WAIT_S, 0
        for attempt in range(1, TRIES + 1):
            problem, limit = "", self._limit
            if over.wait(self._pace.wait_s(time.monotonic())):
                break
            began = time.perf_counter()
            try:
                response = self._session().request(
                    method, url, json=_limited(body, limit), timeout=(_CONNECT_S, self._answer_s)
                )
                content = _content(response)
                trouble = _trouble(response, content)
                if trouble is None:
                    return _answer(url, content), time.perf_counter() - began
                status, problem = trouble
                if status == 400 and limit != NEWER_LIMIT and NEWER_LIMIT in problem:
                    self._limit = NEWER_LIMIT  # by which it is asked from now on
                    continue
                if status not in AGAIN and status < 500:
                    raise _kind(status, response)(say("{url} refuses: {problem}", url=url, problem=problem))
                wait_s = max(wait_s, min(_seconds(response.headers.get("Retry-After")), _MOST_WAIT_S))
            except (requests.exceptions.SSLError, requests.TooManyRedirects, requests.exceptions.InvalidURL) as error:
                raise RefusedError(say("{url} does not answer: {problem}", url=url, problem=error)) from None
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


def _got(queue: SimpleQueue[T]) -> T:
    """What comes next. An interruption that another thread received is noticed between two waits only."""
    while True:
        try:
            return queue.get(timeout=_NOTICE_S)
        except Empty:
            continue


def _limited(body: dict[str, Any] | None, limit: str) -> dict[str, Any] | None:
    """A body with the limit of its tokens under the name that the server takes."""
    if body is None or LIMIT not in body:
        return body
    return {name: value for name, value in body.items() if name != LIMIT} | {limit: body[LIMIT]}


def _some(names: Sequence[str]) -> str:
    """Some of the names of models, without the steps that `minimind serve` has of each beside it."""
    whole = [name for name in names if name.partition("@")[0] not in names or "@" not in name]
    return ", ".join(whole[:_MOST_NAMED]) + (", …" if len(whole) > _MOST_NAMED else "")


def _content(response: requests.Response) -> Any:
    """The JSON that came; None for anything else. It is in UTF-8, whatever a header says."""
    try:
        return json.loads(response.content)
    except (ValueError, RecursionError):
        return None


def _trouble(response: requests.Response, content: Any) -> tuple[int, str] | None:
    """As which status a response counts that is no answer, 0 where nobody says, and why it is none; None for one that
    may be an answer. Where a server has said 200 already, what went wrong stands inside, at the top or in a choice.
    """
    if not response.ok:
        return response.status_code, f"HTTP {response.status_code}: {_said(content, response.text)}"
    if not response.content.strip():
        return BROKEN_OFF, say("nothing came")
    if not isinstance(content, dict):
        return None
    if content.get("error"):
        return _status(content["error"], 0), _said(content, "")
    choices = content.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    error, finish = choice.get("error"), choice.get("finish_reason")
    if finish in _FAILED or (error and finish is None):
        return _status(error, BROKEN_OFF), _said(choice, str(finish))
    return None


def _status(error: Any, otherwise: int) -> int:
    """The HTTP status that an error tells as its code."""
    code = error.get("code") if isinstance(error, dict) else None
    return int(code) if isinstance(code, int | str) and re.fullmatch(r"[45]\d\d", str(code)) else otherwise


def _kind(status: int, response: requests.Response) -> type[EndpointError]:
    """What a refusal is of."""
    if not status:
        return EndpointError
    of_one = status in OF_THE_QUESTION or _FLAGGED.search(response.text)
    return QuestionRefusedError if of_one else RefusedError


def _answer(url: str, content: Any) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise GarbledError(say("{url}: its answer is no JSON object", url=url))
    return content


def _said(content: Any, otherwise: str) -> str:
    """The server's own sentence, in whichever field, or the beginning of what it sent."""
    try:
        error = next(content[name] for name in ("error", "message", "detail") if content.get(name))
        return str(error["message"] if isinstance(error, dict) else error)[:500]
    except (LookupError, TypeError, AttributeError, StopIteration):
        return otherwise[:200].strip()


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
