"""Prompts out of rows of every kind, and what is refused, with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data.examples import EXAMPLES
from data.prompts import read_prompts, read_questions
from data.read import DataError


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def test_the_last_answer_is_asked_for_and_all_before_stays(tmp_path: Path) -> None:
    talk = [user("a"), assistant("b", reasoning_content="hm", weight=0), user("c")]
    file = write(
        tmp_path / "rows.jsonl",
        {"prompt": "q", "answer": "42", "id": 7},
        {"prompt": "alone", "solution": "x"},
        {"conversations": [*talk, assistant("d")]},
        {"messages": [user("open")]},
        {"prompt": [user("of messages")]},
        {"instruction": "Translate.", "input": "y", "output": "z"},
        {"conversations": [user("empty"), assistant("")]},
        {"chosen": [user("pair"), assistant("1")], "rejected": [user("pair"), assistant("2")]},
        {"prompt": "alone"},
    )
    found = read_prompts(file)
    assert [prompt.turns for prompt in found.each] == [
        (user("q"),),
        (user("alone"),),
        tuple(talk),
        (user("open"),),
        (user("of messages"),),
        (user("Translate.\ny"),),
        (user("empty"),),
        (user("pair"),),
    ]
    assert [prompt.answer for prompt in found.each] == ["42", *[None] * 7]
    assert (found.each[2].where, found.each[2].question) == (f"{file}:3", "c")
    assert (found.repeated, found.unread) == (1, {"solution": 1})


def test_a_system_turn_where_there_is_none(tmp_path: Path) -> None:
    own = {"role": "system", "content": "Own."}
    file = write(tmp_path / "rows.jsonl", {"prompt": "q"}, {"messages": [own, user("q")]})
    first, second = read_prompts(file, "Be kind.").each
    assert first.turns == ({"role": "system", "content": "Be kind."}, user("q"))
    assert second.turns == (own, user("q"))


@pytest.mark.parametrize("kind", ["sft", "tools", "dpo", "rl"])
def test_every_example_can_be_asked(tmp_path: Path, kind: str) -> None:
    assert read_prompts(write(tmp_path / "rows.jsonl", *EXAMPLES[kind])).each


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"text": "x"}, "a text asks nothing"),
        ([1], "a row is a JSON object"),
        ({"prompt": 5}, "a row needs answer and prompt"),
        ({"prompt": " "}, "the row is empty"),
        ({"other": "x"}, "the fields here are other"),
        ({"messages": [assistant("x")]}, "can't be asked: turn 1 is assistant at the beginning"),
        ({"messages": [user("a"), user(""), user("b")]}, "can't be asked: turn 2 is user after user"),
        ({"messages": [user(""), assistant("x")]}, "can't be asked: turn 1 has no content"),
    ],
)
def test_what_asks_nothing_is_refused_with_its_line(tmp_path: Path, row: Any, complaint: str) -> None:
    file = write(tmp_path / "rows.jsonl", {"prompt": "fine"}, row)
    with pytest.raises(DataError, match=rf"rows.jsonl:2: .*{complaint}"):
        read_prompts(file)


def test_a_file_without_prompts(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="it has no prompt"):
        read_prompts(write(tmp_path / "rows.jsonl"))


def test_questions_come_with_their_right_answers_and_rows(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "q", "answer": "42", "id": 7},
        {"conversations": [user("a"), assistant("b"), user("c"), assistant("d")]},
        {"messages": [user("e"), assistant("无")]},
    ]
    found = read_questions(write(tmp_path / "rows.jsonl", *rows, rows[0]))
    assert [(prompt.question, len(prompt.turns), prompt.answer, prompt.row) for prompt in found.each] == [
        ("q", 1, "42", rows[0]),
        ("c", 3, "d", rows[1]),
        ("e", 1, None, rows[2]),
    ]
    assert found.repeated == 1
    with pytest.raises(DataError, match=r"rows.jsonl:1: .*preference data"):
        read_questions(write(tmp_path / "rows.jsonl", {"chosen": [user("q")], "rejected": [user("q")]}))
