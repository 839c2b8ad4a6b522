"""The suite of skills: each row tells right answers from wrong ones, and kinds and languages are balanced."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from jobs import paths
from minimind.evaluation.checkers import Answer, Check, parse_check, score
from minimind.evaluation.diagnostics import diagnose
from minimind.text.chat import require_renderable

KINDS = (
    "answering",
    "summarising",
    "rewriting",
    "translating",
    "format",
    "arithmetic",
    "stopping",
    "language",
    "memory",
    "tools",
)
Row = dict[str, Any]


def read(file: Path) -> list[Row]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


SUITE = read(paths.checkout() / "data" / "suites" / "skills.jsonl")
ANSWERS = {answer["id"]: answer for answer in read(Path(__file__).parent / "skills_answers.jsonl")}
every_row = pytest.mark.parametrize("row", SUITE, ids=lambda row: row["id"])


def checks(row: Row) -> list[Check]:
    return [parse_check(check) for check in row["checks"]]


def answered(row: Row, given: str | dict[str, Any]) -> Answer:
    """An answer of the fixtures to the last question of a row."""
    prompt = row["messages"][-1]["content"]
    if isinstance(given, str):
        return Answer(given, "stop", (), prompt)
    return Answer("", "tool_calls", tuple((name, arguments) for name, arguments in given["calls"]), prompt)


def passes(row: Row, given: str | dict[str, Any]) -> bool:
    return score(checks(row), answered(row, given))[0] == 1


@every_row
def test_the_right_answer_passes_and_the_wrong_one_does_not(row: Row) -> None:
    own = ANSWERS[row["id"]]
    right = answered(row, own["right"])
    missed = [check for check, holds in zip(row["checks"], score(checks(row), right)[1], strict=True) if not holds]
    assert missed == []
    assert not passes(row, own["wrong"])
    assert diagnose(right, language=None, max_tokens_reached=False) == ()


@every_row
def test_no_row_is_passed_without_an_answer(row: Row) -> None:
    """Silence, and an answer that would do for another question of most kinds."""
    assert not passes(row, "")
    assert not passes(row, "\n")
    assert not passes(row, "。")


def test_an_echo_of_the_question_passes_nothing() -> None:
    assert [row["id"] for row in SUITE if passes(row, row["messages"][-1]["content"])] == []


@pytest.mark.parametrize(
    "text", ["Yes.", "No.", "是的。", "好的。", "Hello! How can I help you?", "你好！有什么可以帮你？"]
)
def test_one_answer_for_all_gains_next_to_nothing(text: str) -> None:
    assert sum(passes(row, text) for row in SUITE) <= 5


def test_the_answer_to_another_question_rarely_passes() -> None:
    """Of one kind and one language; two sums may have one result."""
    pairs = [
        (row, ANSWERS[other["id"]]["right"])
        for row in SUITE
        for other in SUITE
        if row["id"] != other["id"] and (row["kind"], row["language"]) == (other["kind"], other["language"])
    ]
    assert sum(passes(row, right) for row, right in pairs) < 0.03 * len(pairs)


def test_ids_are_unique_and_all_have_answers() -> None:
    ids = [row["id"] for row in SUITE]
    assert len(ids) == len(set(ids))
    assert set(ids) == ANSWERS.keys()
    assert all(row["id"].startswith(f"{row['language']}-") for row in SUITE)


def test_kinds_and_languages_are_balanced() -> None:
    assert len(SUITE) >= 140
    counts = Counter((row["kind"], row["language"]) for row in SUITE)
    assert set(counts) == {(kind, language) for kind in KINDS for language in ("en", "zh")}
    for kind in KINDS:
        assert counts[kind, "en"] >= 6
        assert abs(counts[kind, "en"] - counts[kind, "zh"]) <= 1
    languages = Counter(row["language"] for row in SUITE)
    assert abs(languages["en"] - languages["zh"]) <= 2


@every_row
def test_a_row_is_a_short_conversation_that_a_model_can_be_asked(row: Row) -> None:
    assert row.keys() - {"tools"} == {"id", "language", "kind", "messages", "checks"}
    assert row["messages"][-1]["role"] == "user"
    require_renderable([*row["messages"], {"role": "assistant", "content": "."}])
    for message in row["messages"]:
        assert len(message["content"].split()) < 60
        assert len(message["content"]) < 300
    assert ("tools" in row) == (row["kind"] == "tools")
    called = {check["name"] for check in row["checks"] if check["is"] == "call"}
    assert called <= {tool["function"]["name"] for tool in row.get("tools", [])}
