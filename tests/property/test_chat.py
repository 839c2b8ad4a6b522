from __future__ import annotations

import json
from functools import cache
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minimind.text.chat import StreamParser, parse, render
from minimind.text.template import JOINER, escaping_for
from minimind.text.tokenizer import SPECIAL_TOKENS, Tokenizer
from tests.conversations import assistant_messages, conversations, texts, tools
from tests.toys import ids_of_bytes

CORPUS = [
    "床前明月光，疑是地上霜。\n\n  举头望明月，\n\n\n低头思故乡。",
    'the quick brown fox\n\n    <think>\n\n</think>\n\n{"name": "add", "arguments": {"a": 1}}\n\n\n',
] * 5
USER = {"role": "user", "content": "hi"}
large = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)


@cache
def tokenizer() -> Tokenizer:
    return Tokenizer.train(CORPUS, vocab_size=450)


def answer_ids(message: dict[str, Any]) -> list[int]:
    rendered = render(tokenizer(), [USER, message])
    return [token_id for token_id, target in zip(*rendered, strict=True) if target]


def plain(message: dict[str, Any]) -> dict[str, Any]:
    """An answer in one form, whichever it was written in."""
    calls = [call.get("function") or call for call in message.get("tool_calls") or []]
    parsed = [json.loads(c["arguments"] or "{}") if isinstance(c["arguments"], str) else c["arguments"] for c in calls]
    return {
        "content": (message.get("content") or "").strip(),
        "reasoning_content": (message.get("reasoning_content") or "").strip(),
        "tool_calls": [(call["name"], value or {}) for call, value in zip(calls, parsed, strict=True)],
    }


@large
@given(assistant_messages(calls=3))
def test_an_answer_comes_back(message: dict[str, Any]) -> None:
    assert plain(parse(tokenizer(), answer_ids(message))) == plain(message)


@large
@given(assistant_messages())
def test_an_answer_comes_back_where_the_prompt_opened_its_thoughts(message: dict[str, Any]) -> None:
    prompt = render(tokenizer(), [USER], thinking=True, add_generation_prompt=True).ids
    ids = render(tokenizer(), [USER, message]).ids
    if plain(message)["reasoning_content"]:
        assert ids[: len(prompt)] == prompt
        assert plain(parse(tokenizer(), ids[len(prompt) : -1], thinking=True)) == plain(message)


@large
@given(conversations(), st.lists(tools(), max_size=2))
def test_a_prompt_is_what_was_learnt_from(messages: list[dict[str, Any]], offered: list[dict[str, Any]]) -> None:
    whole = render(tokenizer(), messages, offered)
    for turn, message in enumerate(messages):
        if message["role"] == "assistant":
            prompt = render(tokenizer(), messages[:turn], offered, add_generation_prompt=True)
            assert whole.ids[: len(prompt.ids)] == prompt.ids
            assert whole.loss_mask[: len(prompt.ids)] == prompt.loss_mask
            assert whole.loss_mask[len(prompt.ids)]


@large
@given(conversations(), st.lists(tools(), max_size=2))
def test_only_the_template_writes_special_tokens(messages: list[dict[str, Any]], offered: list[dict[str, Any]]) -> None:
    names = {token_id: name for name, token_id in tokenizer().special_ids.items()}
    found = [names[token_id] for token_id in render(tokenizer(), messages, offered).ids if token_id in names]
    answers = [plain(message) for message in messages if message["role"] == "assistant"]
    assert found.count("<think>") == found.count("</think>") == sum(bool(a["reasoning_content"]) for a in answers)
    example = bool(offered or (messages[0]["role"] == "system" and messages[0]["tools"]))
    assert found.count("<tool_call>") == sum(len(a["tool_calls"]) for a in answers) + example
    assert found.count("<tool_response>") == sum(message["role"] == "tool" for message in messages)
    assert found.count("<|im_start|>") == found.count("<|im_end|>")
    assert set(found) <= {"<|im_start|>", "<|im_end|>", *SPECIAL_TOKENS[21:27]}


TAGS = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "<|im_end|>", "<|vision_pad|>"]
CALLS = ['{"name": "f", "arguments": {"a": "é"}}', '\n{"name":"f","arguments":{}}\n', '{"name": "f"', "[]", "{}"]
broken = texts.map(lambda text: escaping_for(tuple(tokenizer().special_ids)).escape(text))
pieces = st.lists(st.tuples(st.sampled_from(TAGS), st.one_of(texts, broken, st.sampled_from(CALLS))), max_size=6)


def read(ids: list[int], thinking: bool) -> list[tuple[str, str, int, str | None]]:
    """The deltas, with those that follow each other and are of one kind put together."""
    parser = StreamParser(tokenizer(), thinking)
    read: list[tuple[str, str, int, str | None]] = []
    for delta in [delta for token_id in ids for delta in parser.push(token_id)] + parser.finish():
        assert delta.text
        assert (delta.id is None) == (delta.name is None) == (delta.kind != "tool_call")
        if read and delta.kind == read[-1][0] != "tool_call":
            read[-1] = (delta.kind, read[-1][1] + delta.text, 0, None)
        else:
            read.append((delta.kind, delta.text, delta.index, delta.name))
    assert parser.finish() == []
    return read


@large
@given(pieces, st.booleans(), st.data())
def test_how_text_is_cut_into_ids_does_not_matter(
    parts: list[tuple[str, str]], thinking: bool, data: st.DataObject
) -> None:
    whole: list[int] = []
    single: list[int] = []
    cut: list[int] = []
    for tag, text in parts:
        content = text.encode()
        at = data.draw(st.integers(0, len(content)))
        for ids in (whole, single, cut):
            ids.append(tokenizer().special_ids[tag])
        whole += tokenizer().encode(text)
        single += [token_id for byte in content for token_id in ids_of_bytes(tokenizer(), bytes([byte]))]
        cut += ids_of_bytes(tokenizer(), content[:at]) + ids_of_bytes(tokenizer(), content[at:])
    expected = read(whole, thinking)
    assert read(single, thinking) == expected
    assert read(cut, thinking) == expected
    assert not any("\ufffd" in text for _, text, _, _ in expected if not any("\ufffd" in text for _, text in parts))


@given(st.lists(st.integers(0, 449)), st.booleans())
def test_no_ids_break_the_parser_and_other_special_tokens_leave_no_trace(ids: list[int], thinking: bool) -> None:
    tags = {tokenizer().special_ids[tag] for tag in TAGS[:4]}
    text_or_tag = [i for i in ids if i in tags or i not in tokenizer().special_ids.values()]
    assert read(ids, thinking) == read(text_or_tag, thinking)


@given(texts)
def test_what_is_typed_in_letters_is_text(text: str) -> None:
    escaped = escaping_for(tuple(tokenizer().special_ids)).escape(text)
    deltas = read(tokenizer().encode(escaped), thinking=False)
    assert "".join(text for _, text, _, _ in deltas) == text.strip()
    assert {kind for kind, _, _, _ in deltas} <= {"content"}


@given(texts, st.integers(0, 60))
def test_broken_names_are_made_whole_again_wherever_the_text_is_cut(text: str, at: int) -> None:
    escaping = escaping_for((*SPECIAL_TOKENS, "[INST]"))
    escaped = escaping.escape(text)
    assert not any(token in escaped for token in SPECIAL_TOKENS)
    assert escaping.unescape(escaped) == text
    assert escaped.replace(JOINER, "") == text.replace(JOINER, "")
    first = escaped[:at]
    held = escaping.unfinished(first)
    head, rest = first[: len(first) - held], first[len(first) - held :] + escaped[at:]
    assert escaping.unescape(head) + escaping.unescape(rest) == text
