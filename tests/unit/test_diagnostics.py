"""What is wrong with a text: each diagnosis where it belongs, and silence where a good text looks alike."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minimind.evaluation.checkers import Answer
from minimind.evaluation.diagnostics import DIAGNOSES, describe, diagnose
from minimind.language import speaking


def found(
    text: str,
    prompt: str = "",
    language: str | None = None,
    finish: str = "stop",
    thinking: str = "",
    calls: tuple[tuple[str, dict[str, Any]], ...] = (),
) -> tuple[str, ...]:
    return diagnose(Answer(text, finish, calls, prompt, thinking), language=language, max_tokens_reached=False)


POEM = """The lamp is low, the night is long,
the river sings a quiet song.
Sleep, my little one, sleep.

The boats are in, the nets are dry,
a single star is in the sky.
Sleep, my little one, sleep.

The fox is home, the owl has flown,
the moon has the wide field alone.
Sleep, my little one, sleep, sleep, sleep."""

GOOD = [
    POEM,
    "小雨轻轻下，池塘笑哈哈。\n青蛙呱呱叫，呱呱呱。\n风儿慢慢吹，柳树点点头。\n青蛙呱呱叫，呱呱呱。\n太阳出来了，彩虹挂天上。\n青蛙呱呱叫，呱呱呱。",
    "ha ha ha",
    "Ha ha ha ha ha ha!",
    "哈哈哈哈哈哈哈哈",
    " ".join(map(str, range(1, 150))),
    "1" + "0" * 100,
    "1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987",
    "0.33333333333333333333333333333333333333333333333333333333333333333333333333333333",
    "\n".join(f"{a} x {b} = {a * b}" for a in range(1, 10) for b in range(1, 10)),
    "\n".join(f"- The capital of {a} is {b}." for a, b in zip("ABCDEFGHIJKLMNOPQR", "abcdefghijklmnopqr", strict=True)),
    "| name | colour | size |\n|------|--------|------|\n| sky | blue | large |\n| leaf | green | small |",
    "very " * 3 + "good",
    "hahaha",
    "haha" * 12,
    "Hahahahahahahahahahahahahaha!",
    "ha " * 25,
    "哈" * 25,
    "啊" * 20,
    "今天在动物园里看到一只小猴子学着游客的样子戴帽子，大家都笑得停不下来，" + "哈" * 25,
    "name,passed\n" + "Tom,yes\n" * 20,
    "name\tpassed\n" + "Tom\tyes\n" * 20,
    "Here it is:\n\n| name | passed |\n|------|--------|\n" + "| Tom | yes |\n" * 20,
    "姓名,及格\n" + "小明,是\n小红,否\n" * 12,
    "The sun is warm. The sea is cold. I like them both, and so does my dog.",
    "",
]


@pytest.mark.parametrize("text", GOOD)
def test_good_texts_do_not_repeat(text: str) -> None:
    assert "repeats" not in found(text)
    assert "repeats" not in found("ok", thinking=text)


@pytest.mark.parametrize(
    "text",
    [
        "The cat sat down. " + "It was a good day. " * 10,
        "The cat sat down and looked at the sea, which was blue. " + "and the " * 20,
        "今天天气很好，我们去公园。" + "我们去公园。" * 12,
        "the the the the the the the the the the the the",
        "好的" * 15,
        "a" * 200,
        "!" * 400,
        "哈" * 60,
        "ha" * 60,
        "ha " * 60,
        "好啊" * 15,
        "name,passed\n" + "Tom,yes\n" * 100,
        "| Tom | yes |\n" * 100,
        "And then we went home, as we always do.\n" * 12,
        "小明说,今天天气很好。\n" * 12,
        " ".join(f"It was a good day and I liked the {word}." for word in ["sun", "sea", "sun"] * 12) + " The end",
    ],
)
def test_loops_repeat(text: str) -> None:
    assert "repeats" in found(text)
    assert "repeats" in found("ok", thinking=text)


def test_a_table_of_equal_rows_that_does_not_end_repeats() -> None:
    table = "name,passed\n" + "Tom,yes\n" * 20
    assert "repeats" in found(table, finish="length")


@pytest.mark.parametrize(
    ("name", "bad", "good"),
    [
        (
            "empty",
            [{"text": " \n"}, {"text": "", "thinking": "hm"}],
            [{"text": "a"}, {"text": "", "calls": (("f", {}),)}],
        ),
        ("never_ends", [{"text": "a", "finish": "length"}], [{"text": "a"}]),
        (
            "wrong_language",
            [
                {"text": "I like it very much.", "language": "zh"},
                {"text": "我喜欢。", "language": "en"},
                {"text": "北京 is 首都", "language": "en"},
            ],
            [
                {"text": "我喜欢。", "language": "zh"},
                {"text": "OK", "language": "zh"},
                {"text": "Albert Einstein", "language": "zh"},
                {"text": "可以这样写：\n```python\nprint(some words that are code)\n```", "language": "zh"},
                {"text": "I like 中.", "language": "en"},
                {"text": "42", "language": "en"},
                {"text": "I like it very much."},
            ],
        ),
        (
            "cut_character",
            [{"text": "好\ufffd"}, {"text": "a\ud83d"}, {"text": "a", "thinking": "\ufffd"}],
            [{"text": "好😀"}],
        ),
        (
            "leaked_tag",
            [
                {"text": "Hi<|im_end|>"},
                {"text": "<think>well"},
                {"text": "a", "thinking": "a <tool_call>"},
                {"text": "<|spare3|>"},
                {"text": "<think>well", "prompt": "What do you think?"},
                {"text": "Fine.<|im_end|>", "prompt": "What is <think>?"},
            ],
            [
                {"text": "a < b > c, <b>, <|x|>"},
                {"text": "<think> is a tag.", "prompt": "What is <think>?"},
                {"text": "</think> ends it.", "prompt": "What is <think>?"},
                {"text": "<|im_end|> ends a turn.", "prompt": "What ends a turn in ChatML?"},
                {"text": "<|im_end|> ends it.", "prompt": "What ends what <|im_start|> begins?"},
                {"text": "<|im_end|> ends a turn.", "prompt": "What is im_end?"},
                {"text": "In <tool_call> and </tool_call>.", "prompt": "Where does a tool_call stand?"},
            ],
        ),
        (
            "broken_call",
            [
                {"text": '<tool_call>\n{"name": "f", "arguments": {"a": }}\n</tool_call>'},
                {"text": '<tool_call>{"name": "f"'},
                {"text": '{"name": "f", "arguments": {"a": '},
                {"text": '<tool_call>{"name": "f"', "prompt": "Call the tool."},
            ],
            [
                {"text": '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'},
                {"text": '{"name": "f", "age": 3}'},
                {"text": "I call nothing."},
                {"text": "<tool_call> begins a call of a tool.", "prompt": "What is <tool_call>?"},
                {"text": '{"name": "f", "arguments": "none"}', "prompt": "As JSON: name is f, arguments are none."},
            ],
        ),
        (
            "copied_prompt",
            [
                {"text": "What is the colour of snow? It", "prompt": "What is the colour of snow?"},
                {"text": "Well: what is the colour of  snow", "prompt": "What is the colour of snow?"},
                {"text": "What is the colour of snow? " * 4, "prompt": "What is the colour of snow?"},
                {"text": "天空是什么颜色的呢？请告诉我", "prompt": "天空是什么颜色的呢？请告诉我。"},
                {
                    "text": "The old man had a small boat and a very large dog that he loved.",
                    "prompt": "In short: The old man had a small boat and a very large dog that he loved.",
                },
            ],
            [
                {"text": "Hello", "prompt": "Hello"},
                {
                    "text": "The cat sat on the mat and looked at the moon.",
                    "prompt": "The cat sat on the mat",
                },
                {"text": "从前有一只小猫，它住在山上，每天都看月亮。", "prompt": "从前有一只小猫，它住在"},
                {
                    "text": "What is snow made of?\nSnow is made of small crystals of ice that fall from clouds.",
                    "prompt": "What is snow made of?",
                },
                {"text": "The colour of snow is white.", "prompt": "What is the colour of snow?"},
                {"text": "The sun is warm.", "prompt": "Repeat this sentence: The sun is warm."},
                {"text": "She walked to school.", "prompt": "In the past tense: She walks to school."},
                {"text": "a", "prompt": "Say the letter a, please."},
            ],
        ),
        (
            "control_characters",
            [{"text": "a\x00"}, {"text": "\x1b[1m"}, {"text": "a", "thinking": "\x85"}],
            [{"text": "a\tb\r\n"}],
        ),
    ],
)
def test_each_diagnosis(name: str, bad: list[dict[str, Any]], good: list[dict[str, Any]]) -> None:
    assert [case for case in bad if name not in found(**case)] == []
    assert [case for case in good if name in found(**case)] == []


def test_a_good_answer_has_nothing_wrong() -> None:
    assert found("It is blue.", "What colour is the sky?", "en") == ()
    assert found("蓝色。", "天空是什么颜色？", "zh") == ()


def test_they_come_in_the_order_of_the_table() -> None:
    text = "<think>\x00\ufffd" + " and so on" * 50
    several = diagnose(Answer(text, "stop", (), ""), language="zh", max_tokens_reached=True)
    assert several == ("never_ends", "repeats", "wrong_language", "cut_character", "leaked_tag", "control_characters")
    assert list(several) == [name for name in DIAGNOSES if name in several]
    assert describe("empty") == "It says nothing."
    with speaking("zh"):
        assert describe("empty") == "什么也没说。"


def test_what_a_later_version_found_is_shown_by_its_name() -> None:
    for language in ("en", "zh"):
        with speaking(language):
            assert describe("talks_in_riddles") == "talks_in_riddles"


ANY_TEXT = st.text() | st.text(st.characters(codec=None)) | st.text('ab {}"<>|tool_call/think好\n', max_size=200)


@settings(deadline=None)
@given(ANY_TEXT, ANY_TEXT, ANY_TEXT, st.sampled_from(["zh", "en", "fr", None]))
def test_any_text_can_be_diagnosed(text: str, prompt: str, thinking: str, language: str | None) -> None:
    names = found(text * 3, prompt, language, thinking=thinking)
    assert set(names) <= DIAGNOSES.keys()


@settings(deadline=None)
@given(st.text(min_size=1, max_size=30), st.integers(40, 60))
def test_what_is_repeated_fifty_times_repeats(unit: str, times: int) -> None:
    """But for what has no letter, or is too short for anyone to mind."""
    if any(character.isalpha() for character in unit.strip()) and len(unit.strip()) > 1:
        assert "repeats" in found(unit * times)


LONG = 100_000


@pytest.mark.parametrize(
    "text",
    [
        "a" * LONG,
        "ab" * (LONG // 2),
        "a b " * (LONG // 4),
        "好" * LONG,
        "哈" * LONG,
        "ha" * (LONG // 2),
        "a,b" * (LONG // 3),
        "a\tb\n" * (LONG // 4),
        "| a" * (LONG // 3),
        " " * LONG + "x",
        "<tool_call>" * (LONG // 11),
        '{"name": "a", "arguments": ' + "{" * LONG,
        '<tool_call>{"name": "a", "arguments": ' + "} " * (LONG // 2) + "x",
        "`" * LONG,
        "`a\n" * (LONG // 3),
        "a.b-" * (LONG // 4),
        "\ud800" * LONG,
        "".join(chr(0x4E00 + (number * 7919) % 20_000) for number in range(LONG)),
        "a" * (LONG // 2) + "b" + "a" * (LONG // 2),
    ],
    ids=lambda text: text[:20].encode("ascii", "replace").decode(),
)
def test_long_texts_take_no_time_to_speak_of(text: str) -> None:
    """Each at most 0.2 s on one core when it was measured; in time that grows with the square it is minutes."""
    found(text, prompt=text[: LONG // 2], language="zh", thinking=text)
    found(text, prompt=text[: LONG // 2] + "c", language="en")
