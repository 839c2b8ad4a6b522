from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from pydantic import ValidationError

from service import chat_api
from service.schemas import IGNORED, MANY, MAX_DEPTH, MAX_PARTS, UNSUPPORTED, ChatRequest, CompletionRequest

USER = {"role": "user", "content": "hi"}
CALL: dict[str, Any] = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def chat(**fields: Any) -> ChatRequest:
    return ChatRequest.model_validate({"model": "m", "messages": [USER], **fields})


def text(**fields: Any) -> CompletionRequest:
    return CompletionRequest.model_validate({"model": "m", "prompt": "hi", **fields})


def tool(**function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", **function}}


def test_null_is_the_default_everywhere() -> None:
    nothing = {name: None for name in ChatRequest.model_fields if name not in ("model", "messages")}
    assert chat(**nothing) == chat()
    assert text(**{name: None for name in CompletionRequest.model_fields if name not in ("model", "prompt")}) == text()


@pytest.mark.parametrize("name", sorted(IGNORED))
def test_what_cannot_change_an_answer_is_passed_over(name: str) -> None:
    assert chat(**{name: "anything"}) == chat()


@pytest.mark.parametrize("name", sorted(UNSUPPORTED))
def test_what_would_change_it_is_refused_unless_it_asks_for_nothing(name: str) -> None:
    for harmless in (None, [], {}, *UNSUPPORTED[name][1]):
        assert chat(**{name: harmless}) == chat()
    with pytest.raises(ValidationError):
        chat(**{name: {"something": "else"}})


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": "5"},
        {"max_tokens": 5.5},
        {"max_tokens": True},
        {"max_tokens": 3, "max_completion_tokens": 4},
        {"temperature": float("nan")},
        {"temperature": -0.1},
        {"top_p": -0.1},
        {"top_p": 1.1},
        {"n": 129},
        {"n": 10**30},
        {"seed": 2**63},
        {"stop": ""},
        {"stop": ["a", ""]},
        {"stream_options": {"include_usage": True}},
        {"stream": True, "stream_options": {"usage": True}},
        {"messages": []},
        {"messages": [{"role": "assistant"}]},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"messages": [{**USER, "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        {"tools": [tool(parameters={"type": "array"})]},
        {"tools": [tool(parameters={"properties": []})]},
        {"tools": [tool(parameters={"properties": {"a": 1}})]},
        {"tools": [tool(parameters={"required": ["a"]})]},
        {"tools": [tool(parameters={"required": "a"})]},
        {"tools": [tool(name="with space")]},
        {"tools": [tool(), tool()]},
        {"tools": [{"type": "retrieval"}]},
        {"tool_choice": "required"},
        {"tool_choice": {"type": "function", "function": {"name": "g"}}, "tools": [tool()]},
        {"chat_template_kwargs": {"enable_thinking": "yes"}},
        {"chat_template_kwargs": {"enable_thinking": True}, "enable_thinking": False},
        {"open_thinking": True, "reasoning_effort": "none"},
        {"reasoning_effort": "high"},
        {"parallel_tool_calls": "no"},
        {"temprature": 0.5},
        {"messages": [{**USER, "mood": "good"}]},
        {"messages": [{**USER, "type": "image"}]},
        {"messages": [USER, {"role": "assistant", "reasoning": "a", "reasoning_content": "b", "content": "c"}, USER]},
        {"messages": [USER, {"role": "assistant", "tool_calls": [CALL, CALL]}]},
        {"messages": [USER, {"role": "assistant", "content": None, "refusal": "no"}, USER]},
        {"model": ""},
    ],
)
def test_bad_chats(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        chat(**fields)


def test_minus_one_is_no_limit() -> None:
    for body in (chat(max_tokens=-1), chat(max_completion_tokens=-1), chat(max_tokens=-1, max_completion_tokens=-1)):
        assert chat_api._of_chat(body).max_tokens is None
    assert chat_api._of_texts(text(max_tokens=-1)).max_tokens is None
    assert chat_api._of_texts(text()).max_tokens == 16
    assert chat_api._of_chat(chat(top_k=-1)).top_k == 0
    assert chat_api._of_chat(chat()).top_k is None


def test_no_alternatives_need_no_logprobs() -> None:
    assert chat_api._of_chat(chat(logprobs=False, top_logprobs=0)).logprobs is None
    with pytest.raises(ValidationError, match="needs logprobs = true"):
        chat(top_logprobs=1)


def test_whole_numbers_are_numbers() -> None:
    assert chat(temperature=1, top_p=1).temperature == 1
    assert chat(stop="x").stops == ("x",)
    assert chat(stop=["x", "y"]).stops == ("x", "y")
    assert chat().stops == ()


def test_prompts_of_every_shape() -> None:
    assert text(prompt=["a", "b"]).prompts == ["a", "b"]
    assert text(prompt=[1, 2]).prompts == [[1, 2]]
    assert text(prompt=[[1, 2], [3]]).prompts == [[1, 2], [3]]
    bad: Any
    for bad in ("", [], [""], [[]], [1, "a"], [-1], 5, {"a": 1}):
        with pytest.raises(ValidationError):
            text(prompt=bad)
    with pytest.raises(ValidationError, match="65 prompts times n = 2"):
        text(prompt=["a"] * 65, n=2)
    with pytest.raises(ValidationError, match="echo"):
        text(max_tokens=0)
    assert text(max_tokens=0, echo=True).max_tokens == 0


def test_what_no_text_can_hold_is_named_with_its_place() -> None:
    with pytest.raises(ValidationError) as half:
        chat(messages=[USER, {"role": "user", "content": "ab\ud800"}])
    assert half.value.errors()[0]["ctx"]["field"] == "messages[1].content"
    assert "character 2 is half a surrogate pair" in half.value.errors()[0]["msg"]
    with pytest.raises(ValidationError, match="half a surrogate"):
        chat(tools=[tool(parameters={"properties": {"\udc00": {}}})])
    with pytest.raises(ValidationError, match="no JSON number"):
        chat(tools=[tool(parameters={"properties": {"a": {"minimum": float("inf")}}})])
    deep: dict[str, Any] = {}
    for _ in range(MAX_DEPTH):
        deep = {"properties": deep}
    with pytest.raises(ValidationError, match=f"more than {MAX_DEPTH} deep"):
        chat(tools=[tool(parameters=deep)])
    with pytest.raises(ValidationError, match=f"one list or object more than {MAX_PARTS}"):
        chat(tools=[tool(parameters={"properties": {"a": {"enum": [{}] * MAX_PARTS}}})])


def test_a_path_is_not_written_for_every_part_of_a_body() -> None:
    many: list[list[int]] = [[] for _ in range(20_000)]
    tracemalloc.start()
    try:
        chat(metadata={"k" * 5_000: many})
        assert tracemalloc.get_traced_memory()[1] < 20e6  # a path for each: 100 MB
    finally:
        tracemalloc.stop()
    with pytest.raises(ValidationError) as wrong:
        chat(metadata={"a": [{}, {"é": [1.0, float("nan")]}]})
    assert wrong.value.errors()[0]["ctx"]["field"] == "metadata.a[1].é[1]"


NULLS = {"refusal": None, "annotations": None, "audio": None, "function_call": None, "tool_calls": None}


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": "hello", **NULLS},  # the official client's model_dump()
        {"role": "assistant", "content": "hello", **NULLS, "annotations": [], "parsed": None},
        {"role": "assistant", "content": "hello", "parsed": {"answer": 1}, "provider_specific_fields": {"a": 1}},
        {"role": "assistant", "content": "hello", "future": None, "more": [], "others": {}},
        {"role": "assistant", "content": "hello", "type": "text", "id": "msg_1"},
        {"role": "assistant", "content": [{"type": "text", "text": "hello", "cache_control": {"type": "ephemeral"}}]},
        {
            "role": "assistant",
            "content": "hello",
            "reasoning": None,
            "reasoning_content": None,
            "reasoning_details": [],
        },
    ],
)
def test_what_clients_make_of_an_answer_is_the_answer(message: dict[str, Any]) -> None:
    [_, read, _] = chat(messages=[USER, message, USER]).messages
    assert read.role == "assistant"
    plain = {"role": "assistant", "content": "hello", "reasoning_content": "", "tool_calls": []}
    assert chat_api.plain_message(read) == plain


def test_what_clients_make_of_a_call_is_the_call() -> None:
    streamed = {
        **CALL,
        "index": 0,
        "extra_content": {"google": {"thought_signature": "x"}},
        "function": {**CALL["function"], "parsed_arguments": {}, "future": None},
    }
    result = {"role": "tool", "tool_call_id": "a", "content": "1"}
    read = chat(messages=[USER, {"role": "assistant", "content": None, "tool_calls": [streamed]}, result])
    assert read == chat(messages=[USER, {"role": "assistant", "tool_calls": [CALL]}, result])
    # Added up by hand: only the first of a call's deltas has its type.
    added = chat(messages=[USER, {"role": "assistant", "tool_calls": [{**CALL, "type": None}]}, result])
    assert added.model_dump()["messages"][1]["tool_calls"][0]["function"] == CALL["function"]


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_thoughts_have_two_names(name: str) -> None:
    read = chat(messages=[USER, {"role": "assistant", "content": "b", name: "a"}, USER]).messages[1]
    assert read.role == "assistant"
    assert read.thoughts == "a"


def test_the_names_of_the_thinking_switch() -> None:
    assert chat().thinking is None
    for value in (True, False):
        spellings: tuple[dict[str, Any], ...] = (
            {"chat_template_kwargs": {"enable_thinking": value}},
            {"chat_template_kwargs": {"open_thinking": value}},
            {"enable_thinking": value},
            {"open_thinking": value, "enable_thinking": value, "chat_template_kwargs": {}},
        )
        for fields in spellings:
            assert chat(**fields).thinking is value
    assert chat(reasoning_effort="none").thinking is False


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": [1.5] * 100_000},
        {"prompt": [[1, "a"]] * 100_000},
        {"stop": [1] * 100_000},
        {f"field{number}": 1 for number in range(100_000)},
    ],
)
def test_a_hundred_thousand_mistakes_are_told_by_the_first(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as told:
        text(**wrong)
    assert told.value.error_count() <= MANY
    with pytest.raises(ValidationError) as told:
        chat(messages=[{"role": "user", "content": 1}] * 10_000)
    assert told.value.error_count() <= MANY
