from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from service.schemas import IGNORED, MAX_DEPTH, UNSUPPORTED, ChatRequest, CompletionRequest

USER = {"role": "user", "content": "hi"}


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
    for harmless in (None, *UNSUPPORTED[name][1]):
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
        {"top_p": 0},
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
        {"model": ""},
    ],
)
def test_bad_chats(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        chat(**fields)


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
