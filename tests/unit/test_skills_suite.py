"""The suite of skills: each row tells right answers from wrong ones, and kinds and languages are balanced."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from data.suite import load
from jobs import paths
from jobs.evaluation.ask import answers
from jobs.runs.evals import Record
from minimind.evaluation.asking import Reply
from minimind.evaluation.checkers import Answer, Check, parse_check, score
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


def records(which: str) -> list[Record]:
    """What is kept of a model that gives the right or the wrong answers."""
    rows = load("skills", Path("/nowhere"))

    def said(name: str) -> Reply:
        given = ANSWERS[name][which]
        text = given if isinstance(given, str) else ""
        calls = () if isinstance(given, str) else tuple((tool, json.dumps(value)) for tool, value in given["calls"])
        return Reply(text, "", calls, "stop", 1, 0.0, 0.0)

    return answers(lambda *_: [said(row.id) for row in rows.rows], (), rows, lambda _: None)


def test_a_right_answer_has_nothing_wrong_as_a_text() -> None:
    assert [(record["id"], record["diagnoses"]) for record in records("right") if record["diagnoses"]] == []


def test_an_answer_in_the_other_language_than_the_row_asks_for_is_found() -> None:
    found = {record["id"] for record in records("wrong") if "wrong_language" in record["diagnoses"]}
    assert found >= {f"{language}-lang-0{number}" for language in ("en", "zh") for number in (1, 2, 3, 5, 6, 7)}


def test_the_language_of_an_answer_is_the_rows_or_is_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"

    def wanted(**fields: Any) -> str | None:
        file.write_text(json.dumps({"prompt": "a?", "answer": "b", **fields}) + "\n", "utf-8")
        return load("", tmp_path, file).rows[0].answer_language

    assert wanted() is None
    assert wanted(language="zh") == "zh"
    assert wanted(language="zh", answer_language="en") == "en"
    assert wanted(language="zh", answer_language="any") is None
    with pytest.raises(ValueError, match=r'mine.jsonl:1: answer_language = .fr.: there are "zh", "en" and "any"'):
        wanted(answer_language="fr")


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
    assert row.keys() - {"tools", "answer_language"} == {"id", "language", "kind", "messages", "checks"}
    assert row["messages"][-1]["role"] == "user"
    require_renderable([*row["messages"], {"role": "assistant", "content": "."}])
    for message in row["messages"]:
        assert len(message["content"].split()) < 60
        assert len(message["content"]) < 300
    assert ("tools" in row) == (row["kind"] == "tools")
    called = {check["name"] for check in row["checks"] if check["is"] == "call"}
    assert called <= {tool["function"]["name"] for tool in row.get("tools", [])}
