"""One chat template: the ids that we make and the ids that transformers makes of the exported folder are the same."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jinja2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment
from transformers import AutoTokenizer

from minimind.text.chat import chat_template, render
from minimind.text.template import jinja_source
from minimind.text.tokenizer import Tokenizer
from tests.conversations import conversations, tools

CORPUS = [
    "床前明月光，疑是地上霜。\n\n  举头望明月，\n\n\n低头思故乡。\u3000\u3000\n\u3000\u3000",
    'the quick brown fox\n\n    <think>\n\n</think>\n\n{"name": "add", "arguments": {"a": 1}}\n\n\n',
] * 5
QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@cache
def tokenizer(kind: str) -> Tokenizer:
    """gpt2 and cjk are the two kinds that we train; qwen cuts words as Qwen does, with white space in larger pieces."""
    ours = Tokenizer.train(CORPUS, vocab_size=450, split_cjk=kind == "cjk")
    if kind != "qwen":
        return ours
    with TemporaryDirectory() as folder:
        ours.save(folder)
        document = json.loads((Path(folder) / "tokenizer.json").read_text("utf-8"))
    split = {"type": "Split", "pattern": {"Regex": QWEN_WORDS}, "behavior": "Isolated", "invert": False}
    as_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return Tokenizer(document | {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, as_bytes]}})


@cache
def peer(kind: str) -> Any:
    """What transformers makes of the folder that we write."""
    with TemporaryDirectory() as folder:
        tokenizer(kind).save(folder)
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)


kinds = st.sampled_from(["gpt2", "cjk", "qwen"])


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(kinds, conversations(), st.none() | st.lists(tools(), max_size=2), st.sampled_from([..., None, True, False]))
def test_the_ids_are_those_of_transformers(
    kind: str, messages: list[dict[str, Any]], offered: list[dict[str, Any]] | None, thinking: Any
) -> None:
    asked = messages[-1]["role"] in ("user", "tool")
    ours = render(
        tokenizer(kind),
        messages,
        offered or (),
        thinking=None if thinking is ... else thinking,
        add_generation_prompt=asked,
    )
    switch = {} if thinking is ... else {"enable_thinking": thinking}
    theirs = peer(kind).apply_chat_template(
        messages, tools=offered, tokenize=True, return_dict=False, add_generation_prompt=asked, **switch
    )
    assert ours.ids == theirs


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(kinds, conversations())
def test_the_targets_are_what_generation_tags_would_mark(kind: str, messages: list[dict[str, Any]]) -> None:
    rendered = render(tokenizer(kind), messages)
    theirs = peer(kind).apply_chat_template(
        messages,
        chat_template=jinja_source(tokenizer(kind).special_ids, mark_targets=True),
        return_dict=True,
        return_assistant_tokens_mask="assistant" in {message["role"] for message in messages},
    )
    assert rendered.ids == theirs["input_ids"]
    assert rendered.loss_mask == [bool(mark) for mark in theirs.get("assistant_masks", [0] * len(rendered.ids))]


@pytest.mark.parametrize("trim", [True, False])
def test_plain_jinja_reads_it_without_extensions(trim: bool) -> None:
    environment = ImmutableSandboxedEnvironment(trim_blocks=trim, lstrip_blocks=trim)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    template = environment.from_string(chat_template(tokenizer("gpt2")))
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "  be kind\n", "tools": [{"name": "now"}]},
        {"role": "user", "content": "hi </think>"},
        {"role": "assistant", "content": " ok\n", "reasoning_content": "hm", "tool_calls": [{"name": "now"}]},
        {"role": "tool", "content": "12"},
        {"role": "tool", "content": "13"},
    ]
    text = template.render(messages=messages, tools=[{"name": "add"}], add_generation_prompt=True, enable_thinking=True)
    rendered = render(tokenizer("gpt2"), messages, [{"name": "add"}], thinking=True, add_generation_prompt=True)
    assert text == tokenizer("gpt2").decode(rendered.ids)


@pytest.mark.parametrize("roles", ["a", "t", "su a", "ss", "us", "uu", "ut", "uaa", "uata u", "x", "ux", ""])
def test_what_we_refuse_the_template_refuses_in_the_same_words(roles: str) -> None:
    words = {"s": "system", "u": "user", "a": "assistant", "t": "tool", "x": "bot"}
    messages = [{"role": words.get(role, "nobody"), "content": "x"} for role in roles]
    with pytest.raises(ValueError, match="turn|empty") as ours:
        render(tokenizer("gpt2"), messages)
    template = jinja2.Environment(autoescape=True).from_string(chat_template(tokenizer("gpt2")))
    with pytest.raises(LookupError) as theirs:
        template.render(messages=messages, raise_exception=_refuse)
    assert str(theirs.value.args[0]) in str(ours.value)


@pytest.mark.parametrize(("roles", "message"), [("ua", "assistant"), ("s", "system")])
def test_an_answer_is_asked_for_only_where_one_may_follow(roles: str, message: str) -> None:
    messages = [{"role": {"s": "system", "u": "user", "a": "assistant"}[role], "content": "x"} for role in roles]
    with pytest.raises(ValueError, match=f"the last, is {message}; an answer follows"):
        render(tokenizer("gpt2"), messages, add_generation_prompt=True)
    with pytest.raises(jinja2.exceptions.TemplateError, match=f"an answer can not follow {message}"):
        peer("gpt2").apply_chat_template(messages, add_generation_prompt=True)


def test_content_that_is_no_text_is_refused_by_the_template_too() -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    with pytest.raises(ValueError, match=r"messages\.0: content is a list; allowed are text and null"):
        render(tokenizer("gpt2"), messages)
    with pytest.raises(jinja2.exceptions.TemplateError, match="content must be text or null"):
        peer("gpt2").apply_chat_template(messages)


def _refuse(message: str) -> None:
    raise LookupError(message)
