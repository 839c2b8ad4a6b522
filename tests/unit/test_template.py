from __future__ import annotations

import jinja2
import pytest

from minimind.text.template import (
    JOINER,
    MAY_FOLLOW,
    TOOLS_HEAD,
    TOOLS_TAIL,
    Escaping,
    escaping_for,
    jinja_source,
    order_problem,
)
from minimind.text.tokenizer import MARKUP_TOKENS, SPECIAL_TOKENS

J = JOINER


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a < b, a <b> c", "a < b, a <b> c"),
        ("<think>", f"<{J}think>"),
        ("<<think>>", f"<<{J}think>>"),
        ("<|im_start|>user", f"<{J}|im_start|>user"),
        ("<tts_text_bos_single><tts_text_bos>", f"<{J}tts_text_bos_single><{J}tts_text_bos>"),
        (f"<{J}think>", f"<{J}{J}think>"),
        (f"<{J}{J}", f"<{J}{J}{J}"),
        (f"a{J}b", f"a{J}b"),
        ("<|buffer3|>", f"<{J}|buffer3|>"),
        ("<|im_<|im_end|>", f"<|im_<{J}|im_end|>"),
    ],
)
def test_names_of_special_tokens_are_broken_and_made_whole(text: str, escaped: str) -> None:
    escaping = Escaping(SPECIAL_TOKENS)
    assert escaping.escape(text) == escaped
    assert escaping.unescape(escaped) == text


def test_a_name_that_nobody_broke_stays() -> None:
    assert Escaping(SPECIAL_TOKENS).unescape(f"<think> <{J} {J}<") == f"<think> <{J} {J}<"


@pytest.mark.parametrize(
    ("text", "held"),
    [("a <", 1), (f"a <{J}", 2), (f"<{J}th", 4), (f"<{J}think>", 0), (f"<{J}{J}", 0), ("<t", 0), ("", 0), ("<<", 1)],
)
def test_what_may_be_the_beginning_of_a_broken_name(text: str, held: int) -> None:
    assert Escaping(SPECIAL_TOKENS).unfinished(text) == held


def test_numbered_names_are_broken_by_what_they_begin_with() -> None:
    many = Escaping([f"<|spare{number}|>" for number in range(5000)])
    assert len(many.replacements) == 2
    assert many.escape("<|spare4999|>") == f"<{J}|spare4999|>"


def test_tokens_with_no_inside_to_break_are_left() -> None:
    odd = Escaping(["!", "    ", "[INST]", "\\'"])
    assert odd.escape("! [INST]    \\'") == f"! [{J}INST]    \\{J}'"
    assert Escaping([]).unescape("<") == Escaping([]).escape("<") == "<"
    assert Escaping([]).unfinished("<") == 0
    template = jinja2.Environment(autoescape=False).from_string(jinja_source(["!", "[INST]", "\\'"]))
    said = template.render(messages=[{"role": "user", "content": "! [INST] \\'"}])
    assert said == f"<|im_start|>user\n! [{J}INST] \\{J}'<|im_end|>\n"


def test_an_escaping_is_made_once() -> None:
    assert escaping_for(SPECIAL_TOKENS) is escaping_for(SPECIAL_TOKENS)


def test_the_exported_template_has_no_tag_that_plain_jinja_refuses() -> None:
    assert "generation -%}" not in jinja_source(SPECIAL_TOKENS)
    marked = jinja_source(SPECIAL_TOKENS, mark_targets=True)
    assert marked.count("{%- generation -%}") == marked.count("{%- endgeneration -%}") == 1
    assert "@" not in jinja_source(SPECIAL_TOKENS) + marked


def test_the_words_about_tools_show_a_call() -> None:
    assert TOOLS_HEAD.endswith("<tools>\n")
    assert TOOLS_TAIL.startswith("</tools>")
    assert all(token in TOOLS_TAIL for token in MARKUP_TOKENS[:2])


@pytest.mark.parametrize(
    ("roles", "problem"),
    [
        (["user", "assistant", "tool", "tool", "assistant", "user"], None),
        (["system", "user"], None),
        ([], None),
        (["assistant"], "turn 1 is assistant at the beginning; allowed there: system or user"),
        (["user", "user"], "turn 2 is user after user; allowed there: assistant"),
        (["user", "assistant", "system"], "turn 3 is system after assistant; allowed there: user or tool"),
        (["bot"], "turn 1 is bot at the beginning; allowed there: system or user"),
        ([""], "turn 1 is  at the beginning; allowed there: system or user"),
    ],
)
def test_the_order_of_turns(roles: list[str], problem: str | None) -> None:
    assert order_problem(roles) == problem


def test_every_role_has_its_followers() -> None:
    assert set(MAY_FOLLOW) == {"", *(role for after in MAY_FOLLOW.values() for role in after)}
