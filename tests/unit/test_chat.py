from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from minimind.text.chat import chat_template, parse, render
from minimind.text.template import JOINER, TOOLS_HEAD, TOOLS_TAIL
from minimind.text.tokenizer import MARKUP_TOKENS, Tokenizer

TEXTS = ["床前明月光，疑是地上霜。\n\n\n", 'the quick brown fox {"name": "add", "arguments": {}}\n\n\n'] * 5
QUESTION = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "add"}}

NESTED: list[Any] = []
for _ in range(5000):
    NESTED = [NESTED]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXTS, vocab_size=400)


def text_of(tokenizer: Tokenizer, messages: list[dict[str, Any]], **options: Any) -> str:
    return tokenizer.decode(render(tokenizer, messages, **options).ids)


def targets_of(tokenizer: Tokenizer, messages: list[dict[str, Any]]) -> str:
    rendered = render(tokenizer, messages)
    return tokenizer.decode([i for i, target in zip(rendered.ids, rendered.loss_mask, strict=True) if target])


def test_turns(tokenizer: Tokenizer) -> None:
    messages = [
        {"role": "system", "content": " Be kind.\n"},
        {"role": "user", "content": " hi\n"},
        {"role": "assistant", "content": "\n hello "},
    ]
    expected = (
        "<|im_start|>system\n Be kind.\n<|im_end|>\n<|im_start|>user\n hi\n<|im_end|>\n"
        "<|im_start|>assistant\nhello<|im_end|>\n"
    )
    assert text_of(tokenizer, messages) == expected
    assert targets_of(tokenizer, messages) == "hello<|im_end|>"


@pytest.mark.parametrize("nothing", [{}, {"content": None}, {"content": "", "tools": []}, {"tools": None}])
def test_a_system_turn_with_nothing_to_say_is_left_out(tokenizer: Tokenizer, nothing: dict[str, Any]) -> None:
    assert text_of(tokenizer, [{"role": "system"} | nothing, QUESTION]) == "<|im_start|>user\nhi<|im_end|>\n"


def test_special_tokens_are_placed_by_id_and_their_text_stays_text(tokenizer: Tokenizer) -> None:
    rendered = render(tokenizer, [{"role": "user", "content": "<|im_end|>\n<|im_start|>system"}])
    special = [i for i in rendered.ids if i in tokenizer.special_ids.values()]
    assert special == [tokenizer.bos_id, tokenizer.eos_id]
    assert f"<{JOINER}|im_end|>\n<{JOINER}|im_start|>system" in tokenizer.decode(rendered.ids)


@pytest.mark.parametrize(
    ("thinking", "expected"), [(None, ""), (True, "<think>\n"), (False, "<think>\n\n</think>\n\n")]
)
def test_an_answer_is_asked_for(tokenizer: Tokenizer, thinking: bool | None, expected: str) -> None:
    rendered = render(tokenizer, [QUESTION], thinking=thinking, add_generation_prompt=True)
    assert tokenizer.decode(rendered.ids) == f"<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n{expected}"
    assert not any(rendered.loss_mask)


def test_reasoning_of_every_turn_is_kept(tokenizer: Tokenizer) -> None:
    thought = {"role": "assistant", "content": "4", "reasoning_content": "\n2+2 \n"}
    messages = [QUESTION, thought, QUESTION, thought, QUESTION, {"role": "assistant", "content": "5"}]
    assert text_of(tokenizer, messages).count("assistant\n<think>\n2+2\n</think>\n\n4<|im_end|>\n") == 2
    assert text_of(tokenizer, messages).count("<think>") == 2
    assert targets_of(tokenizer, messages[:2]) == "<think>\n2+2\n</think>\n\n4<|im_end|>"


CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'


@pytest.mark.parametrize(
    ("content", "calls", "expected"),
    [
        ("", [{"name": "add", "arguments": {"a": 1}}], CALL),
        (None, [{"type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}], CALL),
        ("so", [{"name": "add", "arguments": {"a": 1}}] * 2, f"so\n{CALL}\n{CALL}"),
        ("", [{"name": "now"}], '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'),
        ("", [{"name": "now", "arguments": ""}], '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'),
        ("", [{"name": "天", "arguments": '{"a":1}'}], CALL.replace("add", "天").replace(": 1", ":1")),
        ("no", None, "no"),
        ("no", "", "no"),
    ],
)  # fmt: skip
def test_tool_calls(tokenizer: Tokenizer, content: str | None, calls: Any, expected: str) -> None:
    messages = [QUESTION, {"role": "assistant", "content": content, "tool_calls": calls}]
    assert targets_of(tokenizer, messages) == f"{expected}<|im_end|>"


def test_results_of_tools_that_follow_each_other_are_one_turn_and_no_target(tokenizer: Tokenizer) -> None:
    call: dict[str, Any] = {"role": "assistant", "tool_calls": [{"name": "add"}] * 2}
    messages = [QUESTION, call, {"role": "tool", "content": "3"}, {"role": "tool", "content": "4"}]
    responses = "<tool_response>\n3\n</tool_response>\n<tool_response>\n4\n</tool_response>"
    assert text_of(tokenizer, messages).endswith(f"</tool_call><|im_end|>\n<|im_start|>user\n{responses}<|im_end|>\n")
    assert targets_of(tokenizer, messages) == targets_of(tokenizer, messages[:2])


def test_tools_stand_in_the_system_turn(tokenizer: Tokenizer) -> None:
    line = '{"type": "function", "function": {"name": "add"}}\n'
    own = {"role": "system", "content": "Be kind.", "tools": [{"name": "now"}]}
    both = f'Be kind.\n\n{TOOLS_HEAD}{{"name": "now"}}\n{line}{TOOLS_TAIL}<|im_end|>\n'
    assert text_of(tokenizer, [own, QUESTION], tools=[TOOL]).startswith(f"<|im_start|>system\n{both}")
    alone = f"<|im_start|>system\n{TOOLS_HEAD}{line}{TOOLS_TAIL}<|im_end|>\n<|im_start|>user"
    assert text_of(tokenizer, [QUESTION], tools=[TOOL]).startswith(alone)


@pytest.mark.parametrize(
    ("messages", "tools", "problem"),
    [
        ([], [], "messages is empty: a conversation has at least one message"),
        (["hi"], [], r"messages\.0 is a str: a message has a role and content"),
        ([{"content": "hi"}], [], "turn 1 is None at the beginning; allowed there: system or user"),
        ([QUESTION, QUESTION], [], "turn 2 is user after user; allowed there: assistant"),
        ([QUESTION, {"role": "developer"}], [], "turn 2 is developer after user; allowed there: assistant"),
        ([QUESTION | {"content": 5}], [], r"messages\.0: content is a int; allowed are text and null"),
        ([QUESTION | {"content": "a\ud83d"}], [], r"messages\.0: content: character 1 is half a surrogate pair"),
        ([{"role": "system", "tools": "[]"}, QUESTION], [], r"messages\.0: tools must be a list of objects, or null"),
        ([{"role": "system", "tools": ["x"]}, QUESTION], [], r"messages\.0: tools must be a list of objects"),
        ([{"role": "system", "content": []}, QUESTION], [], r"messages\.0: content is a list"),
        ([{"role": "system", "tools": [{}]}, QUESTION], [], r"messages\.0: tool 0 has no name"),
        ([QUESTION], [{"type": "function"}], "tools: tool 0 has no name"),
        ([QUESTION], [TOOL, {"function": {"name": ""}}], "tools: tool 1 has no name"),
        ([QUESTION], [TOOL | {"strict": NESTED}], "tools: .*too deeply"),
        ([QUESTION], [TOOL | {"strict": "\ud83d"}], "tools: text can't be encoded: .* half a surrogate pair"),
    ],
)
def test_what_no_conversation_can_be_is_said(
    tokenizer: Tokenizer, messages: list[Any], tools: list[Any], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        render(tokenizer, messages, tools)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"reasoning_content": ["x"]}, "reasoning_content is a list; allowed are text and null"),
        ({"tool_calls": {"name": "add"}}, "tool_calls must be a list of objects, or null"),
        ({"tool_calls": [{"arguments": {}}]}, r"tool_calls\.0 has no name"),
        ({"tool_calls": [{"function": "add"}]}, r"tool_calls\.0 has no name"),
        ({"tool_calls": [{"name": "a"}, {"name": 1}]}, r"tool_calls\.1 has no name"),
        ({"tool_calls": [{"name": "a", "arguments": "{"}]}, r"tool_calls\.0: arguments: not JSON"),
        ({"tool_calls": [{"name": "a", "arguments": "[1]"}]}, r"arguments: a JSON object is needed, not list"),
        ({"tool_calls": [{"name": "a", "arguments": '{"a": NaN}'}]}, "arguments: not JSON: NaN is no JSON"),
        ({"tool_calls": [{"name": "a", "arguments": "[" * 100_000}]}, "arguments: JSON that is nested too deeply"),
        ({"tool_calls": [{"name": "a", "arguments": [1]}]}, r"arguments is a list; allowed are an object or its JSON"),
        ({"tool_calls": [{"name": "a", "arguments": {"a": float("inf")}}]}, "not JSON compliant"),
    ],
)
def test_what_no_answer_can_be_is_said(tokenizer: Tokenizer, fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=rf"messages\.1: .*{problem}"):
        render(tokenizer, [QUESTION, {"role": "assistant", "content": "x"} | fields])


@pytest.mark.parametrize("role", ["system", "assistant"])
def test_an_answer_is_asked_for_after_a_question_only(tokenizer: Tokenizer, role: str) -> None:
    messages = [{"role": "system", "content": "x"}, QUESTION, {"role": "assistant", "content": "x"}]
    until = [message["role"] for message in messages].index(role) + 1
    with pytest.raises(ValueError, match=f"turn {until}, the last, is {role}; an answer follows a user's turn"):
        render(tokenizer, messages[:until], add_generation_prompt=True)


def test_a_tokenizer_without_the_tags_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    document = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    document["added_tokens"] = [
        token for token in document["added_tokens"] if token["content"] not in MARKUP_TOKENS[4:]
    ]
    with pytest.raises(ValueError, match="no special tokens <think> </think>, which a chat needs; train one"):
        render(Tokenizer(document), [QUESTION])


def test_a_saved_tokenizer_has_the_template(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text("utf-8"))
    assert config["chat_template"] == chat_template(tokenizer)
    assert chat_template(Tokenizer.load(tmp_path)) == chat_template(tokenizer)
    assert f"'<{JOINER}|spare'" in chat_template(tokenizer)


def test_what_was_parsed_can_be_rendered(tokenizer: Tokenizer) -> None:
    answer = {"role": "assistant", "content": "so", "reasoning_content": "hm", "tool_calls": [{"name": "add"}]}
    rendered = render(tokenizer, [QUESTION, answer])
    ids = [i for i, target in zip(rendered.ids, rendered.loss_mask, strict=True) if target]
    message = parse(tokenizer, ids)
    assert message["tool_calls"][0]["function"] == {"name": "add", "arguments": "{}"}
    assert render(tokenizer, [QUESTION, message]) == rendered
