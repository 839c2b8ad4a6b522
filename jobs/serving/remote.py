"""A server as an answerer: any that speaks OpenAI's protocol."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from urllib.parse import quote

import requests

from jobs.serving.answerer import CONTINUED_TOKENS, Manner, Message, Model, Part
from minimind.language import say


class Server:
    """An OpenAI-compatible server at a URL such as http://127.0.0.1:8000."""

    def __init__(self, url: str, key: str | None = None) -> None:
        self.url = (url if "://" in url else f"http://{url}").rstrip("/").removesuffix("/v1")
        self._session = requests.Session()
        self._session.trust_env = False
        if key:
            self._session.headers["Authorization"] = f"Bearer {key}"

    def models(self) -> list[Model]:
        """What writes of /v1/models. Servers of other makers say no more than the ids."""
        with closing(self._ask("GET", "/v1/models")) as response:
            try:
                cards = response.json()["data"] or ()
                return [_model(card) for card in cards if not (card.get("minimind") or {}).get("scores")]
            except (requests.JSONDecodeError, LookupError, TypeError, AttributeError):
                raise ValueError(f"{self.url}/v1/models: {say('no list of models')}") from None

    def find(self, name: str) -> Model:
        """The model of this name; of a run's @latest and @best what is said of the run."""
        run, _, which = name.partition("@")
        for model in self.models():
            if model.id == name or (which in ("latest", "best") and model.id.partition("@")[0] == run):
                return replace(model, id=name)
        with closing(self._ask("GET", f"/v1/models/{quote(name, safe='')}")) as response:
            return _model(response.json())

    def answer(self, model: str, messages: Sequence[Message], manner: Manner) -> Iterator[Part]:
        """A streamed chat completion."""
        more = {} if manner.thinking is None else {"chat_template_kwargs": {"enable_thinking": manner.thinking}}
        return self._stream("/v1/chat/completions", {"model": model, "messages": list(messages), **more}, manner)

    def go_on(self, model: str, text: str, manner: Manner) -> Iterator[Part]:
        """A streamed completion."""
        body = {"model": model, "prompt": text, "max_tokens": CONTINUED_TOKENS, "add_special_tokens": True}
        return self._stream("/v1/completions", body, manner)

    def _stream(self, path: str, body: Message, manner: Manner) -> Iterator[Part]:
        how = {} if manner.temperature is None else {"temperature": manner.temperature}
        with closing(self._ask("POST", path, {**body, **how, "stream": True})) as response:
            try:
                for line in response.iter_lines(chunk_size=1):
                    data = line.removeprefix(b"data:").strip()
                    if line.startswith(b"data:") and data != b"[DONE]":
                        yield from _parts(json.loads(data))
            except requests.RequestException:
                raise ValueError(say("the connection broke off; the answer is incomplete")) from None

    def _ask(self, method: str, path: str, body: Message | None = None) -> requests.Response:
        try:
            response = self._session.request(method, self.url + path, json=body, stream=True, timeout=(5, 600))
        except requests.RequestException:
            raise ValueError(say("no server answers at {url}: minimind serve", url=self.url)) from None
        if response.ok:
            return response
        with closing(response):
            try:
                raise ValueError(response.json()["error"]["message"])
            except (requests.JSONDecodeError, KeyError, TypeError):
                status = response.status_code
                raise ValueError(say("{url}: HTTP {status}", url=self.url + path, status=status)) from None


def _model(card: Message) -> Model:
    """A model of /v1/models."""
    more = card.get("minimind") or {}
    own = (more.get("sampling") or {}).get("temperature")
    return Model(card["id"], more.get("chat", True) is not False, own, more.get("weights", ""))


def _parts(chunk: Message) -> Iterator[Part]:
    """What an event of a stream brings. Other servers leave out what is empty, or send null."""
    if error := chunk.get("error"):
        raise ValueError(error["message"] if isinstance(error, dict) else str(error))
    for choice in chunk.get("choices") or ():
        delta = choice.get("delta") or choice
        texts = (
            ("reasoning", delta.get("reasoning_content") or delta.get("reasoning")),
            ("content", delta.get("content")),
            ("content", delta.get("text")),
        )
        for kind, text in texts:
            if text:
                yield Part(kind, text)
        for call in delta.get("tool_calls") or ():
            function = call.get("function") or {}
            yield Part("tool_call", (function.get("name") or "") + (function.get("arguments") or ""))
