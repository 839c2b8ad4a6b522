"""A model behind an OpenAI-compatible endpoint: many questions, some at once, and again where that may help."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import requests

from minimind.language import say

TRIES = 5
"""A request is sent at most so often: its server may be starting, busy, or gone for a moment."""

WAIT_S = 1.0
"""Before the second try; each further wait is twice as long, or as long as the server asks for."""

AGAIN = (408, 429, 500, 502, 503, 504)
"""What a server says that may be otherwise a moment later."""

_TIMEOUT_S = (5, 600)
_MOST_WAIT_S = 60.0


class EndpointError(ValueError):
    """An endpoint does not answer, or refuses; in words, with its address."""


class Endpoint:
    """A model of a server. url: with or without /v1. model: None takes the only one that it has.

    at_once: how many questions it is asked at the same time. Raises EndpointError where the model is not there.
    """

    def __init__(self, url: str, model: str | None = None, key: str | None = None, *, at_once: int = 8) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        self.at_once = at_once
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._threads = threading.local()
        self.model = model or self._only_model()

    @property
    def name(self) -> str:
        """The model and where it is, for people."""
        return f"{self.model} ({urlsplit(self.url).netloc or self.url})"

    def chat(self, bodies: Sequence[dict[str, Any]], told: Callable[[int], None] = lambda place: None) -> list[Any]:
        """The chat completion for each body, in their order. told: of each that has come, by its place.

        Raises EndpointError for the first that does not come; what was asked at the same time is waited for.
        """
        failed = threading.Event()

        def ask(place: int) -> Any:
            if failed.is_set():
                return None
            try:
                answer = self._json("POST", "/v1/chat/completions", {"model": self.model, **bodies[place]})
                if not answer.get("choices"):
                    raise EndpointError(say("{url}: an answer without choices", url=self.url))
            except BaseException:
                failed.set()
                raise
            told(place)
            return answer

        with ThreadPoolExecutor(self.at_once) as pool:
            return list(pool.map(ask, range(len(bodies))))

    def _only_model(self) -> str:
        found = self._json("GET", "/v1/models", None).get("data") or ()
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

    def _json(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        wait_s, problem = WAIT_S, ""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(wait_s)
                wait_s = min(2 * wait_s, _MOST_WAIT_S)
            try:
                response = self._session().request(method, self.url + path, json=body, timeout=_TIMEOUT_S)
                if response.ok:
                    answer = response.json()
                    if isinstance(answer, dict):
                        return answer
                    raise EndpointError(say("{url}: its answer is no JSON object", url=self.url + path))
            except requests.JSONDecodeError:
                raise EndpointError(say("{url}: its answer is no JSON object", url=self.url + path)) from None
            except requests.RequestException as error:
                problem = type(error).__name__
                continue
            problem = f"HTTP {response.status_code}: {_said(response)}"
            if response.status_code not in AGAIN:
                break
            wait_s = max(wait_s, min(_seconds(response.headers.get("Retry-After")), _MOST_WAIT_S))
        raise EndpointError(say("{url} does not answer: {problem}", url=self.url + path, problem=problem))

    def _session(self) -> requests.Session:
        """One for each thread: a session is not made for several."""
        if not hasattr(self._threads, "session"):
            self._threads.session = requests.Session()
            self._threads.session.trust_env = False
            self._threads.session.headers.update(self._headers)
        session: requests.Session = self._threads.session
        return session


def _said(response: requests.Response) -> str:
    """The server's own sentence, or the beginning of what it sent."""
    try:
        error = response.json()["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, LookupError, TypeError):
        return response.text[:200].strip()


def _seconds(header: str | None) -> float:
    try:
        return max(0.0, float(header or 0))
    except ValueError:
        return 0.0
