"""A model behind an endpoint: what comes of trouble, and that it is asked what a checkpoint is asked."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from fastapi import Response
from fastapi.responses import JSONResponse

from jobs import paths
from jobs.endpoints import endpoint
from jobs.endpoints.endpoint import (
    Endpoint,
    EndpointError,
    GarbledError,
    Pace,
    QuestionRefusedError,
    RefusedError,
)
from jobs.endpoints.reply import read_reply
from jobs.evaluation import suites
from jobs.evaluation.remote import RemoteExaminee
from jobs.runs import evals
from minimind.language import speaking
from tests.endpoints import Answer, said, served
from tests.small import Screen

BODIES = [{"messages": [{"role": "user", "content": str(number)}]} for number in range(20)]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "WAIT_S", 0.01)


def echo(body: dict[str, Any]) -> Response:
    return said(f"{body['model']}: {body['messages'][-1]['content']}")


def calling(arguments: str) -> dict[str, Any]:
    return {"content": None, "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}


def words(answer: dict[str, Any], seconds: float) -> str:
    return str(answer["choices"][0]["message"]["content"])


def held(asked: list[int], seconds: float = 2) -> Answer:
    """Answers that come late."""

    async def answer(body: dict[str, Any]) -> Response:
        asked.append(1)
        await asyncio.sleep(seconds)
        return echo(body)

    return answer


def test_answers_come_in_the_order_of_the_questions() -> None:
    with served(echo, "only") as url:
        told: list[int] = []
        found = Endpoint(f"{url}/v1/").chat(BODIES, words, lambda: told.append(1))
        assert found == [f"only: {n}" for n in range(20)]
        assert len(told) == 20
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
        assert len(Endpoint(url, "m").chat(BODIES, words)) == 20
    assert set(counts.values()) == {3}


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (lambda body: JSONResponse({"error": {"message": "no key"}}, 401), "refuses: HTTP 401: no key"),
        (lambda body: JSONResponse({"error": {"message": "no credit"}}), "refuses: no credit"),
        (lambda body: JSONResponse({"object": "error", "message": "too long"}, 400), "refuses: HTTP 400: too long"),
        (lambda body: JSONResponse({"detail": "Not Found"}, 404), "refuses: HTTP 404: Not Found"),
        (lambda body: JSONResponse({"error": "odd"}, 500), "does not answer: HTTP 500: odd"),
        (lambda body: Response("<html>", 404), "refuses: HTTP 404: <html>"),
        (lambda body: Response("<html>"), "its answer is no JSON object"),
        (lambda body: JSONResponse([1]), "its answer is no JSON object"),
        (lambda body: JSONResponse({"choices": []}), "the answer to question . is not as OpenAI's are: IndexError"),
    ],
)
def test_what_does_not_help_is_said(answer: Answer, complaint: str) -> None:
    with served(answer) as url, pytest.raises(EndpointError, match=complaint):
        Endpoint(url, "m").chat(BODIES[:3], words)


def test_a_stream_asks_as_it_may_and_goes_on_after_a_failure() -> None:
    taken: list[int] = []
    come: list[int] = []

    def asking() -> Iterator[dict[str, Any] | None]:
        for number, body in enumerate(BODIES):
            while number - len(come) >= 2:  # two under way at most, whatever --at_once allows
                yield None
            taken.append(number)
            yield body

    def odd(body: dict[str, Any]) -> Response:
        return echo(body) if body["messages"][0]["content"] != "5" else JSONResponse({"detail": "too long"}, 413)

    found: dict[int, str | EndpointError] = {}
    with served(odd) as url:
        for number, answer in Endpoint(url, "m", at_once=8).stream(asking(), words):
            assert len(taken) - len(come) <= 2
            found[number] = answer
            come.append(number)
    assert taken == list(range(20))
    assert sorted(found) == taken
    assert isinstance(found.pop(5), QuestionRefusedError)
    assert found == {number: f"m: {number}" for number in taken if number != 5}


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (lambda body: JSONResponse({"error": "no"}, 400), QuestionRefusedError),
        (lambda body: JSONResponse({"error": "no"}, 422), QuestionRefusedError),
        (lambda body: JSONResponse({"error": "no"}, 401), RefusedError),
        (lambda body: JSONResponse({"error": "no"}, 404), RefusedError),
        (lambda body: Response("<html>"), GarbledError),
        (lambda body: JSONResponse({"choices": []}), GarbledError),
        (lambda body: JSONResponse({"error": "no"}, 503), EndpointError),
        (lambda body: JSONResponse({"error": "no"}), EndpointError),
    ],
)
def test_failures_of_one_question_and_of_all(answer: Answer, kind: type[EndpointError]) -> None:
    with served(answer) as url:
        ((_, found),) = Endpoint(url, "m").stream(BODIES[:1], words)
    assert type(found) is kind


def inside(**choice: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Fo"}, **choice}]}


@pytest.mark.parametrize(
    "failure",
    [
        Response("error code: 524", 524),  # Cloudflare's, before many endpoints
        JSONResponse({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, 529),
        Response("\n\n\n", media_type="application/json"),  # lines that keep a connection, and nothing after them
        JSONResponse({"error": {"message": "Provider returned error", "code": 502}}),
        JSONResponse({"error": {"message": "Rate limit exceeded", "code": "429"}}),
        JSONResponse(inside(finish_reason="error", error={"code": 502, "message": "Upstream idle timeout"})),
        JSONResponse(inside(finish_reason="error")),
        JSONResponse(inside(finish_reason="network_error")),
        JSONResponse({"choices": [{"error": {"message": "Provider returned error", "code": 429}}]}),
    ],
)
def test_what_fails_after_a_server_has_begun_to_answer_is_asked_again(failure: Response) -> None:
    asked: list[int] = []

    def once(body: dict[str, Any]) -> Response:
        asked.append(1)
        return failure if len(asked) == 1 else echo(body)

    with served(once) as url:
        assert Endpoint(url, "m", at_once=1).chat(BODIES[:2], words) == ["m: 0", "m: 1"]
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (
            JSONResponse({"error": {"message": "Insufficient credits", "code": 402}}),
            RefusedError,
            "Insufficient credits",
        ),
        (JSONResponse({"error": {"message": "too long", "code": 400}}), QuestionRefusedError, "too long"),
        (
            JSONResponse({"error": {"message": "No.", "code": 403, "metadata": {"flagged_input": "..."}}}, 403),
            QuestionRefusedError,
            "HTTP 403: No.",
        ),
        (JSONResponse({"error": {"message": "Your account was flagged"}}, 403), RefusedError, "account was flagged"),
        (JSONResponse({"error": {"message": ""}}), EndpointError, "refuses: $"),
    ],
)
def test_whom_a_refusal_is_of(answer: Response, kind: type[EndpointError], said: str) -> None:
    with served(lambda body: answer) as url:
        ((_, found),) = Endpoint(url, "m").stream(BODIES[:1], words)
    assert type(found) is kind
    assert re.search(said, str(found))


def test_an_answer_is_utf8_whatever_its_header_says() -> None:
    body = json.dumps(inside(finish_reason="stop"), ensure_ascii=False).replace("Fo", "四").encode()
    answers = [Response(body, media_type="text/plain"), Response(b"\xef\xbb\xbf" + body, media_type="text/html")]
    with served(lambda body: answers.pop()) as url:
        assert Endpoint(url, "m", at_once=1).chat(BODIES[:2], words) == ["四", "四"]


def test_a_pace_is_kept_by_whoever_asks() -> None:
    pace = Pace(120)
    assert [pace.wait_s(now) for now in (100.0, 100.0, 100.25, 103.0, 103.0)] == [0.0, 0.5, 0.75, 0.0, 0.5]
    assert {Pace(None).wait_s(5.0) for _ in range(3)} == {0.0}


def test_every_try_waits_for_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[float] = []

    def turn(self: Pace, now_s: float) -> float:
        turns.append(now_s)
        return 0.0

    monkeypatch.setattr(Pace, "wait_s", turn)
    with served(lambda body: JSONResponse({"error": "busy"}, 503)) as url, pytest.raises(EndpointError):
        Endpoint(url, "m").chat(BODIES[:1], words)
    assert len(turns) == endpoint.TRIES


def test_what_goes_wrong_in_a_thread_is_not_lost_and_speaks_the_callers_language() -> None:
    def told() -> None:
        raise OSError("no place to draw a bar")

    with served(echo) as url:
        with pytest.raises(OSError, match="no place to draw a bar"):
            Endpoint(url, "m").chat(BODIES, words, told)
        with speaking("zh"), pytest.raises(EndpointError, match="个问题的回答不符合 OpenAI 的格式"):
            Endpoint(url, "m").chat(BODIES, lambda answer, seconds: answer["nothing"])
        assert len(Endpoint(url, "m").chat(BODIES, words)) == 20


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
        with pytest.raises(EndpointError, match=r"HTTP 503: gone. 40 answers had come; nothing was kept"):
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
        (calling('{"a": 1}'), "", (("f", '{"a": 1}'),)),
        (calling("{broken"), "{broken", ()),
        ({"content": [{"type": "text", "text": "4"}, {"type": "image"}]}, "4", ()),
        ({"content": "<think>hm</think>\n\n4"}, "4", ()),
        (None, "", ()),
        ({"tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]}, "", (("f", '{"a": 1}'),)),
    ],
)
def test_what_comes_in_our_words(message: dict[str, Any] | None, text: str, calls: tuple[tuple[str, str], ...]) -> None:
    reply = read_reply({"choices": [{"message": message}]}, 1.0)
    assert (reply.text, reply.calls, reply.finish) == (text, calls, "stop")


@pytest.mark.parametrize(
    "choice", [3, {"message": {"tool_calls": [1]}}, {"message": 5}, {"message": {"content": 5}}, {"message": "text"}]
)
def test_an_answer_that_is_not_as_openais_are(choice: Any) -> None:
    said = r"127.0.0.1:\d+/v1: the answer to question 1 is not as OpenAI's are"
    odd = JSONResponse({"choices": [choice]})
    with served(lambda body: odd) as url, pytest.raises(EndpointError, match=said):
        Endpoint(url, "m", at_once=1).chat(BODIES, read_reply)


@pytest.mark.parametrize(
    ("given", "kept", "name"),
    [
        ("http://h", "http://h/v1", "m (h)"),
        ("http://h/v1/", "http://h/v1", "m (h)"),
        ("https://h:8/api/paas/v4", "https://h:8/api/paas/v4", "m (h:8/api/paas/v4)"),
        ("http://h/v1/chat/completions", "http://h/v1", "m (h)"),
        ("https://h/api/chat/completions/", "https://h/api", "m (h/api)"),
        ("https://h/v1beta/openai/", "https://h/v1beta/openai", "m (h/v1beta/openai)"),
        ("http://h/plain/v1", "http://h/plain/v1", "m (h/plain)"),
    ],
)
def test_addresses_as_makers_give_them(given: str, kept: str, name: str) -> None:
    endpoint = Endpoint(given, "m")
    assert (endpoint.url, endpoint.name) == (kept, name)


@pytest.mark.parametrize("url", ["http://me:secret@h/v1", "http://h/v1?api_key=secret", "ftp://h", "http:///v1"])
def test_no_address_holds_a_password(url: str) -> None:
    with pytest.raises(EndpointError, match="an endpoint is http://HOST:PORT/PATH") as caught:
        Endpoint(url, "m")
    assert "secret" not in str(caught.value)


def test_the_limit_under_its_newer_name() -> None:
    bodies = [{**body, "max_tokens": 7} for body in BODIES]
    taken: list[int] = []

    def newer(body: dict[str, Any]) -> Response:
        if "max_tokens" in body:
            return JSONResponse({"error": {"message": "use max_completion_tokens instead"}}, 400)
        taken.append(body["max_completion_tokens"])
        return echo(body)

    with served(newer) as url:
        assert len(Endpoint(url, "m").chat(bodies, words)) == 20
    assert taken == [7] * 20


def test_a_server_that_says_nothing_is_not_waited_for_long() -> None:
    asked: list[int] = []
    with served(held(asked)) as url, pytest.raises(EndpointError, match="does not answer: ReadTimeout"):
        Endpoint(url, "m", at_once=1, answer_s=0.2).chat(BODIES[:1], words)
    assert len(asked) == endpoint.SILENT_TRIES


def test_an_interruption_does_not_wait_for_what_is_asked() -> None:
    asked: list[int] = []
    with served(held(asked, 8)) as url:
        asking = Endpoint(url, "m", at_once=2)
        threading.Timer(0.3, lambda: signal.raise_signal(signal.SIGINT)).start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            asking.chat(BODIES, words)
        assert time.monotonic() - began < 4


def test_until_when_a_server_asks_to_wait() -> None:
    soon = formatdate(time.time() + 30, usegmt=True)
    assert 25 < endpoint._seconds(soon) <= 30
    assert (endpoint._seconds("7"), endpoint._seconds(None), endpoint._seconds("x")) == (7.0, 0.0, 0.0)


def test_its_log_has_what_a_checkpoints_has(home: Path) -> None:
    with served(echo) as url:
        log = suites.put(suites.load(["skills"])[0], RemoteExaminee(Endpoint(url, "m/odd name")), Screen())
    assert log.path.parent == paths.home() / "evals"
    assert log.path.name.startswith("skills@m-odd-name-127.0.0.1-")
    again = evals.read(log.path)
    assert (again.summary["n"], again.summary["run"], again.summary["step"]) == (150, None, None)
    json.dumps(again.summary, allow_nan=False)
