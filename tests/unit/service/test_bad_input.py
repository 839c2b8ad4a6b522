"""What no client should send, over HTTP, against the real application: always an answer in words, never a 5xx."""

from __future__ import annotations

import gzip
import json
import re
from typing import Any

import httpx
import pytest

from tests import taught
from tests.unit.service.conftest import Served

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
USER = {"role": "user", "content": "hi"}
DEEP: Any = json.loads('{"properties":' * 200 + "{}" + "}" * 200)


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "taught", "messages": [USER], "max_tokens": 1, **fields}


def text(**fields: Any) -> dict[str, Any]:
    return {"model": "taught", "prompt": "hi", "max_tokens": 1, **fields}


def tool(name: str = "f", **function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **function}}


def call(arguments: str) -> dict[str, Any]:
    return {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": arguments}}


CALLS = {"role": "assistant", "tool_calls": [{**call("{}"), "id": "a"}, {**call("{}"), "id": "b"}]}
SAID = {"role": "assistant", "content": "It rains."}


def result(call_id: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": "rain"}


def post(served: Served, path: str, body: Any) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.post(served.address + path, content=content, headers={"Content-Type": "application/json"}, timeout=60)


@pytest.mark.parametrize(
    ("path", "body", "param", "words"),
    [
        (CHAT, chat(max_tokens=0), "max_tokens", "at least 1 token; -1 is as many as fit .got 0"),
        (CHAT, chat(max_tokens=-5), "max_tokens", "greater than or equal to -1 .got -5"),
        (CHAT, chat(max_tokens=10**30), "max_tokens|messages", "10{30}"),
        (TEXT, text(max_tokens=-2), "max_tokens", "greater than or equal to -1"),
        (TEXT, text(max_tokens=0), "max_tokens", "echo"),
        (TEXT, text(logprobs=-1), "logprobs", "greater than or equal to 0"),
        (CHAT, chat(n=0), "n", "greater than or equal to 1"),
        (CHAT, chat(n=10**30), "n", "less than or equal to 128"),
        (CHAT, chat(temperature=-0.5), "temperature", "greater than or equal to 0"),
        (CHAT, chat(top_p=-0.1), "top_p", "greater than or equal to 0"),
        (CHAT, chat(top_k=-2), "top_k", "greater than or equal to -1"),
        (CHAT, chat(repetition_penalty=0), "repetition_penalty", "greater than or equal to 0.01"),
        (CHAT, chat(repetition_penalty=0.001), "repetition_penalty", "greater than or equal to 0.01"),
        (CHAT, chat(seed=-(2**70)), "seed", "greater than or equal"),
        (CHAT, chat(temprature=1), "temprature", "no such field"),
        (CHAT, chat(prompt="hi"), "prompt", "no such field here; /v1/completions has it"),
        (TEXT, text(messages=[USER]), "messages", "no such field here; /v1/chat/completions has it"),
        (CHAT, chat(messages=[{**USER, "mood": "good"}]), r"messages\[0\].mood", "no such field"),
        (CHAT, chat(messages=[{**USER, "role": "boss"}]), r"messages\[0\]", "'user', 'assistant', 'tool'"),
        (CHAT, chat(messages=[USER, USER]), "messages", "turn 2 is user after user; allowed there: assistant"),
        (CHAT, chat(messages=[USER, {**USER, "role": "system"}]), "messages", "turn 2 is system after user"),
        (CHAT, chat(messages=[{**USER, "role": "tool", "tool_call_id": "1"}]), "messages", "turn 1 is tool at the beg"),
        (CHAT, chat(messages=[USER, {**USER, "role": "assistant"}]), "messages", "the last, is assistant"),
        (CHAT, chat(messages=[{**USER, "role": "system"}]), "messages", "the last, is system"),
        (CHAT, chat(messages=[]), "messages", "at least 1 item"),
        (CHAT, chat(messages=["hi"]), r"messages\[0\]", "valid dictionary"),
        (CHAT, chat(messages=[{**USER, "content": None}]), r"messages\[0\].content", "valid string"),
        (CHAT, chat(messages=[{**USER, "content": [{"type": "image_url"}]}]), r"messages\[0\].content", "'text'"),
        (CHAT, chat(messages=[USER, {"role": "assistant", "tool_calls": [call("{")]}, USER]), "messages", "not JSON"),
        (CHAT, chat(messages=[USER, {"role": "assistant", "tool_calls": [call("[]")]}, USER]), "messages", "object"),
        (CHAT, chat(tools=[tool(parameters={"type": "array"})]), "tools.*parameters", "of type 'object'"),
        (CHAT, chat(tools=[tool(parameters={"properties": {"a": 1}})]), "tools.*parameters", "JSON schemas"),
        (CHAT, chat(tools=[tool(parameters={"required": ["a"]})]), "tools.*parameters", "required names 'a'"),
        (CHAT, chat(tools=[tool("a b")]), "tools.*name", "letters"),
        (CHAT, chat(tools=[tool(), tool()]), "tools", "one name"),
        (CHAT, chat(tools=[tool(parameters=DEEP)]), "tools", "nested more than"),
        (CHAT, chat(tool_choice="required"), "tool_choice", "needs tools"),
        (CHAT, chat(stop=[f"stop {number}" for number in range(1000)]), "stop", "at most 16"),
        (CHAT, chat(stop=["x" * 100_000]), "stop", "at most 1000"),
        (CHAT, chat(messages=[{**USER, "content": "a\ud800"}]), r"messages\[0\].content", "half a surrogate pair"),
        (CHAT, chat(model="\udfff"), "model", "half a surrogate pair"),
        (TEXT, text(prompt="\ud83d"), "prompt", "half a surrogate pair"),
        (TEXT, text(prompt=["hi"] * 129), "n", "129 prompts"),
        (TEXT, text(prompt=""), "prompt", "empty"),
        (TEXT, text(prompt=[2**31]), "prompt", "less than"),
        (
            CHAT,
            chat(messages=[{**USER, "content": "word " * 20_000}]),
            "messages",
            r"512 tokens; .* has at least \d{4} tokens",
        ),
        (CHAT, chat(messages=[USER] * 10_001), "messages", "at most 10000 items"),
        (TEXT, text(prompt="法" * 33_000), "prompt", r"512 tokens; the prompt has at least \d{4} tokens"),
        (TEXT, text(prompt=[5] * 100_000), "prompt", "512 tokens; the prompt has 100000 tokens"),
        (
            CHAT,
            chat(messages=[USER, CALLS, result("zzz")]),
            r"messages\[2\].tool_call_id",
            "'zzz' is no call.* 'a', 'b'",
        ),
        (CHAT, chat(messages=[USER, CALLS, result("a"), result("a")]), r"messages\[3\].tool_call_id", "has its result"),
        (CHAT, chat(messages=[USER, CALLS, result("b")]), r"messages\[2\]", "'a' have no result; each needs one"),
        (CHAT, chat(messages=[USER, SAID, result("a")]), r"messages\[2\].tool_call_id", "no call .* its calls: none"),
        (CHAT, chat(reasoning_effort="high"), "reasoning_effort", "enable_thinking|'none'"),
        (CHAT, b"", None, "^the body is missing"),
        (CHAT, b"null", None, "dictionary|missing"),
        (CHAT, b"[" * 100_000, None, "JSON in UTF-8"),
        (CHAT, b'{"seed": ' + b"1" * 5000 + b"}", None, "numbers of a few digits"),
        (CHAT, b'{"model": "taught", "messages": [{"role": "user", "content": "\xff"}]}', None, "JSON in UTF-8"),
        (CHAT, b'{"model": "taught", "temperature": NaN, "messages": []}', "temperature", "no JSON number"),
    ],
    ids=lambda value: "" if isinstance(value, dict | bytes) else None,
)
def test_it_is_refused_with_the_field_and_the_reason(
    served: Served, path: str, body: Any, param: str | None, words: str
) -> None:
    response = post(served, path, body)
    error = response.json()["error"]
    assert (response.status_code, error["type"]) == (400, "invalid_request_error"), error
    matches(error["message"], words)
    if param is None:
        assert error["param"] is None
    else:
        matches(error["param"], param)


def test_a_compressed_body_is_refused_as_such(served: Served) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    response = httpx.post(served.address + CHAT, content=gzip.compress(b"{}"), headers=headers, timeout=60)
    assert response.status_code == 415
    matches(response.json()["error"]["message"], "Content-Encoding: gzip: send the body as it is")


def matches(value: str, pattern: str) -> None:
    assert re.search(pattern, value), f"{value!r} has no {pattern!r}"


def test_what_is_unusual_but_clear_is_answered(served: Served) -> None:
    for body in (
        chat(messages=[{**USER, "content": ""}]),
        chat(messages=[{**USER, "content": "\0 \u2028 <|im_end|> \U0001f600"}]),
        chat(messages=[{"role": "developer", "content": "Be brief."}, USER]),
        chat(tools=[], stop=[], seed=-1, n=128, logprobs=True, top_logprobs=20),
        chat(tools=[tool()], tool_choice="auto", parallel_tool_calls=True, user="me", metadata={"a": "b"}),
        chat(seed=2**63 - 1, temperature=0.000001, top_p=1e-9, min_p=1, top_k=1_000_000),
        chat(parallel_tool_calls=False, future=None, guided_json=None, min_tokens=0, skip_special_tokens=True),
        chat(messages=[USER, CALLS, result("b"), result("a")]),
        chat(messages=[USER, CALLS, USER]),
    ):
        response = post(served, CHAT, body)
        assert response.status_code == 200, response.text


def test_after_all_that_it_answers(served: Served) -> None:
    reply = served.client.chat.completions.create(
        model="taught", messages=[{"role": "user", "content": taught.CAPITAL}], temperature=0
    )
    assert reply.choices[0].message.content == "Paris."
