"""A model behind an endpoint: what comes of trouble, and that it is asked what a checkpoint is asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from jobs import paths
from jobs.evaluation import remote, suites
from jobs.evaluation.remote import RemoteExaminee
from jobs.runs import evals
from jobs.serving import endpoint
from jobs.serving.endpoint import Endpoint, EndpointError
from tests.browser.scripted import listening
from tests.small import Screen

Answer = Callable[[dict[str, Any]], Response]
BODIES = [{"messages": [{"role": "user", "content": str(number)}]} for number in range(20)]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "WAIT_S", 0.01)


@contextmanager
def served(answer: Answer, *models: str) -> Iterator[str]:
    """The address of a server whose chat completions are these."""
    app = FastAPI(openapi_url=None)

    @app.get("/v1/models")
    def list_models() -> dict[str, Any]:
        return {"data": [{"id": name} for name in models]}

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        return answer(await request.json())

    with listening(app) as there:
        yield there.address


def said(text: str | None, **message: Any) -> JSONResponse:
    choice = {"message": {"content": text, **message}, "finish_reason": "stop"}
    return JSONResponse({"choices": [choice], "usage": {"completion_tokens": 3}})


def echo(body: dict[str, Any]) -> Response:
    return said(f"{body['model']}: {body['messages'][-1]['content']}")


def calling(arguments: str) -> dict[str, Any]:
    return {"content": None, "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}


def test_answers_come_in_the_order_of_the_questions() -> None:
    with served(echo, "only") as url:
        told: list[int] = []
        found = Endpoint(f"{url}/v1/").chat(BODIES, told.append)
        assert [one["choices"][0]["message"]["content"] for one in found] == [f"only: {n}" for n in range(20)]
        assert sorted(told) == list(range(20))
    with (
        served(echo, "a", "b") as url,
        pytest.raises(EndpointError, match="the models a, b: name one, as .*#MODEL"),
    ):
        Endpoint(url)


def test_what_may_help_is_tried_again() -> None:
    counts: dict[str, int] = {}

    def busy(body: dict[str, Any]) -> Response:
        what = body["messages"][0]["content"]
        counts[what] = counts.get(what, 0) + 1
        if counts[what] < 3:
            return JSONResponse({"error": {"message": "busy"}}, 429 if counts[what] == 1 else 503, {"Retry-After": "x"})
        return echo(body)

    with served(busy) as url:
        assert len(Endpoint(url, "m").chat(BODIES)) == 20
    assert set(counts.values()) == {3}


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (
            lambda body: JSONResponse({"error": {"message": "no such key"}}, 401),
            "does not answer: HTTP 401: no such key",
        ),
        (lambda body: JSONResponse({"error": "odd"}, 500), "does not answer: HTTP 500: odd"),
        (lambda body: Response("<html>", 404), "does not answer: HTTP 404: <html>"),
        (lambda body: Response("<html>"), "its answer is no JSON object"),
        (lambda body: JSONResponse([1]), "its answer is no JSON object"),
        (lambda body: JSONResponse({"choices": []}), "an answer without choices"),
    ],
)
def test_what_does_not_help_is_said(answer: Answer, complaint: str) -> None:
    with served(answer) as url, pytest.raises(EndpointError, match=complaint):
        Endpoint(url, "m").chat(BODIES[:3])


def test_nobody_is_there() -> None:
    with pytest.raises(EndpointError, match=r"127.0.0.1:9/v1/models does not answer: ConnectionError"):
        Endpoint("http://127.0.0.1:9/v1")


def test_an_endpoint_that_stops_in_the_middle_leaves_no_log(home: Path) -> None:
    lock, count = threading.Lock(), 0

    def stops(body: dict[str, Any]) -> Response:
        nonlocal count
        with lock:
            count += 1
            return echo(body) if count <= 40 else JSONResponse({"error": {"message": "gone"}}, 503)

    with served(stops) as url:
        examinee = RemoteExaminee(Endpoint(url, "m"))
        with pytest.raises(EndpointError, match=r"HTTP 503: gone. 4\d answers had come; nothing was kept|40 answers"):
            suites.put(suites.load(["skills"])[0], examinee, Screen())
    assert not list((paths.home()).rglob("*.jsonl"))


def test_only_answers_can_be_asked_of_it(home: Path) -> None:
    with served(echo) as url:
        examinee = RemoteExaminee(Endpoint(url, "m"))
        assert suites.fitting(examinee) == ["skills"]
        with pytest.raises(ValueError, match="grammar asks how likely texts are, which no endpoint says"):
            suites.put(suites.load(["grammar"])[0], examinee, Screen())


@pytest.mark.parametrize(
    ("message", "text", "calls"),
    [
        ({"content": "x", "reasoning_content": "y"}, "x", ()),
        (
            {"content": None, "tool_calls": [{"function": {"name": "f", "arguments": '{"a": 1}'}}]},
            "",
            (("f", '{"a": 1}'),),
        ),
        ({"content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{broken"}}]}, "{broken", ()),
    ],
)
def test_what_comes_in_our_words(message: dict[str, Any], text: str, calls: tuple[tuple[str, str], ...]) -> None:
    reply = remote._reply({"choices": [{"message": message}]}, 1.0)
    assert (reply.text, reply.calls, reply.finish) == (text, calls, "stop")


@pytest.mark.parametrize(
    "answer", [{"choices": [{}]}, {"choices": [3]}, {"choices": [{"message": {"tool_calls": [1]}}]}]
)
def test_an_answer_that_is_not_as_openais_are(answer: dict[str, Any]) -> None:
    with pytest.raises(EndpointError, match="an answer that is not as OpenAI's are"):
        remote._reply(answer, 1.0)


def test_its_log_has_what_a_checkpoints_has(home: Path) -> None:
    with served(echo) as url:
        log = suites.put(suites.load(["skills"])[0], RemoteExaminee(Endpoint(url, "m/odd name")), Screen())
    assert log.path.parent == paths.home() / "evals"
    assert log.path.name.startswith("skills@m-odd-name-127.0.0.1-")
    again = evals.read(log.path)
    assert (again.summary["n"], again.summary["run"], again.summary["step"]) == (150, None, None)
    json.dumps(again.summary, allow_nan=False)
