from __future__ import annotations

import re

import pytest

from minimind.text.chat import Delta, StreamParser, parse
from minimind.text.template import JOINER
from minimind.text.tokenizer import SPECIAL_TOKENS, Tokenizer
from tests.toys import ids_of_bytes

CALL = '\n{"name": "add", "arguments": {"a": 1}}\n'


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["the quick fox"] * 3, vocab_size=300)


def ids_of(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of a text in which special tokens are written by their names."""
    ids: list[int] = []
    for piece in re.split("(" + "|".join(map(re.escape, SPECIAL_TOKENS)) + ")", text):
        ids += [tokenizer.special_ids[piece]] if piece in SPECIAL_TOKENS else tokenizer.encode(piece)
    return ids


def deltas_of(tokenizer: Tokenizer, text: str, thinking: bool = False) -> list[Delta]:
    """What the parser gives, a delta a kind and a call, with the ids of calls taken out."""
    parser = StreamParser(tokenizer, thinking)
    merged: list[Delta] = []
    for delta in [d for token_id in ids_of(tokenizer, text) for d in parser.push(token_id)] + parser.finish():
        if merged and merged[-1].kind == delta.kind != "tool_call":
            merged[-1] = Delta(delta.kind, merged[-1].text + delta.text)
        else:
            merged.append(Delta(delta.kind, delta.text, delta.index, None, delta.name))
    return merged


def content(text: str) -> Delta:
    return Delta("content", text)


def reasoning(text: str) -> Delta:
    return Delta("reasoning", text)


def call(arguments: str, index: int = 0, name: str = "add") -> Delta:
    return Delta("tool_call", arguments, index, None, name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hello<|im_end|>", [content("hello")]),
        ("\n hello \n<|im_end|>\n", [content("hello")]),
        ("", []),
        ("<think>\nhm\n</think>\n\nso<|im_end|>", [reasoning("hm"), content("so")]),
        ("<think>\n\n</think>\n\nso", [content("so")]),
        ("<think>\nhm", [reasoning("hm")]),
        ("a\n<think>b</think>\nc", [content("a"), reasoning("b"), content("\n\nc")]),
        ("so</think> it </tool_call>is", [content("so it is")]),
        (f"so\n<tool_call>{CALL}</tool_call>", [content("so"), call('{"a": 1}')]),
        (f"<tool_call>{CALL}</tool_call>\n<tool_call>{CALL}</tool_call>", [call('{"a": 1}'), call('{"a": 1}', 1)]),
        (f"<tool_call>{CALL}<tool_call>{CALL}", [call('{"a": 1}'), call('{"a": 1}', 1)]),
        (f"<think>hm<tool_call>{CALL}</tool_call>so", [reasoning("hm"), call('{"a": 1}'), content("so")]),
        ("<think>h</tool_call>m</think>so", [reasoning("hm"), content("so")]),
        (f"<tool_call></think>{CALL}</tool_call>", [call('{"a": 1}')]),
        (f"a<tool_call>{CALL}</tool_call>b", [content("a"), call('{"a": 1}'), content("b")]),
        ("a<tool_response>b<|vision_pad|>c<|endoftext|>", [content("abc")]),
        ('<tool_call>{"name":"f","arguments":{"x": "</tool_response>" , "y":1.50 } }</tool_call>',
         [call('{"x": "" , "y":1.50 }', name="f")]),
    ],
)  # fmt: skip
def test_what_an_answer_says(tokenizer: Tokenizer, text: str, expected: list[Delta]) -> None:
    assert deltas_of(tokenizer, text) == expected


def test_a_prompt_that_opened_the_thoughts(tokenizer: Tokenizer) -> None:
    assert deltas_of(tokenizer, "hm\n</think>\n\nso", thinking=True) == [reasoning("hm"), content("so")]
    assert deltas_of(tokenizer, "<think>hm</think>so", thinking=True) == [reasoning("hm"), content("so")]


@pytest.mark.parametrize(
    "json_text",
    [
        '{"name": "add", "arguments": {"a": 1}',
        '{"name": "add", "arguments": [1]}',
        '{"name": "add", "arguments": {"a": NaN}}',
        '{"name": "", "arguments": {}}',
        '{"name": "\\ud83d", "arguments": {}}',
        '{"name": "a\nb", "arguments": {}}',
        '{"name": "add"}',
        '{"arguments": {}, "name": "add"}',
        '{"name": "add", "arguments": {"a": ' + "[" * 20_000 + "}}",
        "add(1)",
        "[]",
    ],
)
def test_a_call_that_is_none_comes_as_content(tokenizer: Tokenizer, json_text: str) -> None:
    whole = f"so\n<tool_call>\n{json_text}\n</tool_call>"
    assert deltas_of(tokenizer, whole) == [content(f"so\n\n{json_text}")]
    assert deltas_of(tokenizer, f"<tool_call>\n{json_text}") == [content(json_text)]
    assert deltas_of(tokenizer, f"<tool_call>{CALL}</tool_call>{whole}")[0] == call('{"a": 1}')


def test_tags_in_letters_are_text(tokenizer: Tokenizer) -> None:
    parser = StreamParser(tokenizer)
    text = "a <think> b </tool_call> <|im_end|>"
    deltas = [delta for token_id in tokenizer.encode(text) for delta in parser.push(token_id)]
    assert "".join(delta.text for delta in deltas + parser.finish()) == text
    broken = f"<{JOINER}think> <{JOINER}{JOINER}think> <{JOINER}other>"
    assert parse(tokenizer, tokenizer.encode(broken))["content"] == f"<think> <{JOINER}think> <{JOINER}other>"


def test_text_comes_as_soon_as_it_is_certain(tokenizer: Tokenizer) -> None:
    parser = StreamParser(tokenizer)

    def pushed(data: bytes) -> list[str]:
        return ["".join(d.text for d in parser.push(i)) for i in ids_of_bytes(tokenizer, data)]

    assert pushed(b"a") == ["a"]
    assert pushed("\U0001f600".encode()[:3]) == ["", "", ""]  # three bytes of four
    assert pushed("\U0001f600".encode()[3:]) == ["\U0001f600"]
    assert pushed(b" ") == [""]
    assert pushed(b"b") == [" b"]
    assert pushed(b"<") == [""]
    assert pushed(b"=") == ["<="]
    assert pushed(f"<{JOINER}thin".encode())[-1] == ""
    assert pushed(b"k") + pushed(b">") == ["", "<think>"]
    assert parser.push(tokenizer.eos_id) == []
    assert pushed("月".encode()[:2]) == ["", ""]
    assert parser.finish() == [content("\ufffd")]
    assert parser.finish() == []


def test_what_a_tag_interrupts_is_given_before_it(tokenizer: Tokenizer) -> None:
    half = ids_of_bytes(tokenizer, "月".encode()[:2])
    think = tokenizer.special_ids["<think>"]
    parser = StreamParser(tokenizer)
    assert [parser.push(token_id) for token_id in half] == [[], []]
    assert parser.push(think) == [content("\ufffd")]
    assert [parser.push(token_id) for token_id in tokenizer.encode("<")] == [[]]
    assert parser.push(tokenizer.special_ids["</think>"]) == [reasoning("<")]


def test_a_call_comes_whole_with_an_id_of_its_own(tokenizer: Tokenizer) -> None:
    parser = StreamParser(tokenizer)
    *body, end = ids_of(tokenizer, f"<tool_call>{CALL}</tool_call>")
    assert [delta for token_id in body for delta in parser.push(token_id)] == []
    (first,) = parser.push(end)
    assert (first.kind, first.text, first.index, first.name) == ("tool_call", '{"a": 1}', 0, "add")
    (second,) = [delta for token_id in [*body, end] for delta in parser.push(token_id)]
    assert (second.index, second.name) == (1, "add")
    assert first.id != second.id
    assert re.fullmatch("call_[0-9a-f]{32}", first.id or "")


def test_a_whole_message(tokenizer: Tokenizer) -> None:
    message = parse(tokenizer, ids_of(tokenizer, f"hm</think>so<tool_call>{CALL}</tool_call><|im_end|>"), thinking=True)
    (called,) = message.pop("tool_calls")
    assert message == {"role": "assistant", "content": "so", "reasoning_content": "hm"}
    assert called.pop("id").startswith("call_")
    assert called == {"type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}


def test_an_id_out_of_range_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="token id 300 is not in the vocabulary"):
        StreamParser(tokenizer).push(300)
