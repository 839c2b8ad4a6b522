"""Conversations of every shape that a client or a file may bring, as hypothesis strategies."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from minimind.text.tokenizer import SPECIAL_TOKENS

WHITE = ["\n", "  ", "\t ", "\r\n", "\u3000", "\x1c", "\x85"]
NEAR_TAGS = ["\u2060", "<", "<\u2060", "<\u2060think>", "<|im_", "end|>", "<|spare1|>", "<|buffer", "think>"]
OTHERS = ["{", '"', "\\", "'s", "0", "e\u0301", "\U0001f600", "月光", "the quick fox"]

texts = st.lists(
    st.one_of(st.sampled_from(WHITE + NEAR_TAGS + OTHERS), st.sampled_from(SPECIAL_TOKENS), st.text(max_size=8)),
    max_size=6,
).map("".join)

names = st.one_of(st.sampled_from(["add", "天气", 'a"b', "<tool_call>"]), texts.filter(bool))

json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=5,
)
json_objects = st.dictionaries(texts, json_values, max_size=3)


@st.composite
def arguments(draw: st.DrawFn) -> Any:
    """An object, its JSON written in some way, or nothing."""
    value = draw(json_objects)
    written = [value, json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1), None, ""]
    return draw(st.sampled_from(written))


@st.composite
def tool_calls(draw: st.DrawFn) -> dict[str, Any]:
    """A call in either shape."""
    call = {"name": draw(names), "arguments": draw(arguments())}
    if draw(st.booleans()):
        return call
    return {"id": "call_1", "type": "function", "function": call}


@st.composite
def tools(draw: st.DrawFn) -> dict[str, Any]:
    """A tool in either shape."""
    tool = {"name": draw(names), "description": draw(texts), "parameters": draw(json_objects)}
    return tool if draw(st.booleans()) else {"type": "function", "function": tool}


@st.composite
def assistant_messages(draw: st.DrawFn, calls: int = 2) -> dict[str, Any]:
    """An answer with up to `calls` tool calls; any field may be null, empty or absent."""
    fields = {
        "content": draw(st.none() | texts),
        "reasoning_content": draw(st.none() | texts),
        "tool_calls": draw(st.none() | st.just("") | st.lists(tool_calls(), max_size=calls)),
    }
    left_out = draw(st.sets(st.sampled_from(sorted(fields))))
    return {"role": "assistant"} | {name: value for name, value in fields.items() if name not in left_out}


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Up to four exchanges, with or without a system turn and results of tools, cut off after any turn of a user on."""
    messages: list[dict[str, Any]] = []
    if draw(st.booleans()):
        own = draw(st.none() | st.just("") | st.lists(tools(), max_size=2))
        messages.append({"role": "system", "content": draw(st.none() | texts), "tools": own})
    first = len(messages) + 1
    for _ in range(draw(st.integers(1, 4))):
        messages.append({"role": "user", "content": draw(st.none() | texts)})
        messages.append(draw(assistant_messages()))
        results = draw(st.integers(0, 3))
        if results:
            messages += [{"role": "tool", "content": draw(texts)} for _ in range(results)]
            messages.append(draw(assistant_messages()))
    return messages[: draw(st.integers(first, len(messages)))]
