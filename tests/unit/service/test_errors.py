from __future__ import annotations

import json
import pickle

import anyio
import httpx
import pytest
from fastapi import FastAPI

from service import errors
from service.errors import ApiError
from service.schemas import ChatRequest, unknown_field


def test_the_shape_is_openais_and_survives_a_process_boundary() -> None:
    error = pickle.loads(pickle.dumps(ApiError(429, "wait", code="queue_full", param="n", retry_after_s=2)))
    assert error.body() == {
        "error": {"message": "wait", "type": "rate_limit_error", "param": "n", "code": "queue_full"}
    }
    response = error.response()
    assert (response.status_code, response.headers["retry-after"]) == (429, "2")


def test_half_a_surrogate_pair_can_be_told() -> None:
    assert (
        json.loads(bytes(ApiError(400, "bad \ud800", param="\udfff").response().body))["error"]["message"]
        == "bad \\ud800"
    )


def test_what_a_request_has_too_much_of_is_not_told_back() -> None:
    name = "n" * 1_000_000
    reply = post({"model": "m", "messages": [{"role": "user", "content": "hi", name: 1}], name: 2})
    assert reply.status_code == 400
    assert len(reply.content) < 10_000


def test_the_first_of_many_mistakes_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    monkeypatch.setattr(errors, "_outdoes", lambda *pair: bool(compared.append(pair)))  # type: ignore[func-returns-value]
    assert post({"model": "m", "messages": []} | {f"unknown{number}": 1 for number in range(2000)}).status_code == 400
    assert 0 < len(compared) <= errors.COMPARED**2


def test_too_long_says_both_numbers() -> None:
    assert (
        "512 tokens; the prompt has 500 tokens and 20 more were asked for, 520 together"
        in errors.too_long(500, 20, 512, "prompt").message
    )
    assert "600 tokens, which leaves none" in errors.too_long(600, None, 512, "prompt").message


def test_an_unknown_model_lists_some_of_those_there_are() -> None:
    error = errors.unknown_model("x", "there is none", [f"run{number}" for number in range(30)])
    assert "run0, run1" in error.message
    assert error.message.endswith("run19, …")
    assert "minimind train" in errors.unknown_model("x", "there is none", []).message


def application() -> FastAPI:
    app = FastAPI()
    errors.install(app, unknown_field)

    @app.post("/chat")
    async def chat(body: ChatRequest) -> str:
        if body.model == "bug":
            raise RuntimeError("secret")
        raise errors.queue_full(3)

    return app


def post(body: object) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(application(), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            if isinstance(body, bytes):
                return await client.post("/chat", content=body, headers={"Content-Type": "application/json"})
            return await client.post("/chat", json=body)

    return anyio.run(ask)


def message(**changes: object) -> dict[str, object]:
    return {"model": "m", "messages": [{"role": "user", "content": "hi"}], **changes}


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        (message(temperature="hot"), "temperature", "temperature: Input should be a valid number (got 'hot')"),
        (message(max_tokens="20"), "max_tokens", "max_tokens: Input should be a valid integer (got '20')"),
        (message(temperatur=1), "temperatur", "temperatur: there is no such field; did you mean temperature?"),
        (message(something=1), "something", "something: there is no such field"),
        (message(max_new_tokens=1), "max_new_tokens", "there is no such field; here it is max_tokens"),
        (message(thinking={"type": "disabled"}), "thinking", "chat_template_kwargs.enable_thinking"),
        (message(think=False), "think", "here it is enable_thinking"),
        (
            message(chat_template_kwargs={"thinking": False}),
            "chat_template_kwargs.thinking",
            "here it is chat_template_kwargs.enable_thinking",
        ),
        (message(messages=[{"role": "user", "content": "", "temperatur": 1}]), "messages[0].temperatur", "such field"),
        (message(logit_bias={"5": 1}), "logit_bias", "logit_bias: is not supported: biases on single tokens do"),
        (message(messages=[{"role": "user"}]), "messages[0].content", "messages[0].content: is missing"),
        (message(messages=[{"role": "boss", "content": ""}]), "messages[0]", "'user', 'assistant', 'tool'"),
        (message(stop=["a", 5]), "stop[1]", "valid string (got 5)"),
        (message(stop=["x"] * 1000), "stop", "at most 16"),
        (message(top_logprobs=2), "top_logprobs", "top_logprobs: needs logprobs = true"),
        (message(max_tokens=0), "max_tokens", "at least 1 token; -1 is as many as fit (got 0)"),
        (message(n=-1), "n", "greater than or equal to 1"),
        ({"messages": []}, "model", "model: is missing"),
        (b"{", None, "the body is not JSON"),
        (b"[" * 100_000, None, "nested a few levels"),
        (b'{"model": "\xff"}', None, "JSON in UTF-8"),
        (b"[]", None, "valid dictionary"),
    ],
)
def test_400_names_the_field(body: object, param: str | None, words: str) -> None:
    response = post(body)
    error = response.json()["error"]
    assert (response.status_code, error["type"]) == (400, "invalid_request_error"), error
    assert error["param"] == param
    assert words in error["message"]


def test_a_bug_is_told_without_its_details(caplog: pytest.LogCaptureFixture) -> None:
    response = post(message(model="bug"))
    assert response.status_code == 500
    assert response.json()["error"]["message"] == "the server failed (RuntimeError); its log says where"
    assert "secret" in caplog.text


def test_what_routes_do_not_have_is_told_in_the_same_shape() -> None:
    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(application())
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return [await client.get("/nowhere"), await client.get("/chat"), await client.post("/chat", json=message())]

    missing, wrong, busy = anyio.run(ask)
    assert (missing.status_code, wrong.status_code, busy.status_code) == (404, 405, 429)
    assert "GET /nowhere" in missing.json()["error"]["message"]
    assert wrong.json()["error"]["message"] == "/chat does not take GET"
    assert busy.headers["Retry-After"] == "2"
