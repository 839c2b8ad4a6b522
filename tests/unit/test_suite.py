from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from data import suite
from data.suite import FORMS, load, read_suite

ASK = {"how": "choice"}


def write(path: Path, rows: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def declared(folder: Path, content_of_rows: Sequence[object], **more: Any) -> Path:
    """A suite file beside its rows."""
    write(folder / "mine.jsonl", content_of_rows)
    path = folder / "mine.json"
    content = {"name": "mine", "title": {"en": "Mine", "zh": "我的"}, "rows": "mine.jsonl", "ask": ASK, **more}
    path.write_text(json.dumps(content), "utf-8")
    return path


@pytest.mark.parametrize("name", suite.bundled())
def test_the_bundled_suites_can_be_read(name: str) -> None:
    found = read_suite(suite.SUITES / f"{name}.json")
    assert found.name == name
    assert set(found.title) == {"en", "zh"}
    if not found.rows.startswith("stock:"):
        rows = load(name, Path("/nowhere"))
        assert len(rows.rows) > 90
        assert rows.sha256 == load(name, Path("/nowhere")).sha256
        assert {row.groups["language"] for row in rows.rows} == {"en", "zh"}


def test_rows_of_others_are_read_as_they_are(tmp_path: Path) -> None:
    files: dict[str, list[dict[str, Any]]] = {
        "arc.jsonl": [
            {
                "id": "Mercury_7",
                "question": "Which is a gas?",
                "choices": {"text": ["iron", "air", "salt"], "label": ["A", "B", "C"]},
                "answerKey": "B",
            }
        ],
        "arc-own.jsonl": [
            {"question": {"stem": "2 + 2?"}, "choices": [], "answerKey": "1"}
            | {"question": {"stem": "2 + 2?"}, "choices": [{"text": "3", "label": "1"}, {"text": "4", "label": "2"}]}
            | {"answerKey": "2"}
        ],
        "ceval.jsonl": [
            {"id": 0, "question": "首都是哪里？", "A": "上海", "B": "北京", "C": "广州", "D": "深圳", "answer": "B"},
            {"id": 1, "question": "几月？", "A": "一", "B": "二", "C": "三", "D": "四", "answer": "D"},
        ],
        "blimp.jsonl": [
            {"sentence_good": "The cat sleeps.", "sentence_bad": "The cat sleep.", "UID": "agreement", "pairID": "0"}
        ],
    }
    for name, rows in files.items():
        write(tmp_path / name, rows)
    (tmp_path / "cmmlu.csv").write_text(",Question,A,B,C,D,Answer\n0,谁？,甲,乙,丙,丁,C\n", "utf-8")
    arc, own, ceval, blimp, cmmlu = (load("", tmp_path, tmp_path / name) for name in (*files, "cmmlu.csv"))
    assert (arc.rows[0].id, arc.rows[0].question, arc.rows[0].texts, arc.rows[0].right) == (
        "Mercury_7", "Which is a gas?", ("iron", "air", "salt"), 1,
    )  # fmt: skip
    assert (own.rows[0].question, own.rows[0].right) == ("2 + 2?", 1)
    assert [(row.id, row.right) for row in ceval.rows] == [("0", 1), ("1", 3)]
    assert blimp.rows[0].groups == {"phenomenon": "agreement"}
    assert (cmmlu.rows[0].question, cmmlu.rows[0].right) == ("谁？", 2)
    assert [rows.suite.ask.how for rows in (arc, blimp, cmmlu)] == ["choice", "pair", "choice"]
    assert cmmlu.suite.name == "cmmlu"


def test_the_stocks_questions_are_facts(tmp_path: Path) -> None:
    row = {
        "before": ["云南的简称？"], "prompt": "那么省会呢？", "answer": "昆明", "sentence": "云南的省会是昆明。",
        "topic": "capital", "language": "zh", "kind": "follow_up", "held": [],
    }  # fmt: skip
    write(tmp_path / "eval.jsonl", [row, {**row, "kind": "heldout_fact"}])
    found = load("facts", tmp_path)
    assert (found.rows[0].expected, found.rows[0].fact, found.rows[0].before) == (
        "云南的省会是昆明。", "昆明", ("云南的简称？",),
    )  # fmt: skip
    assert [found.suite.counts(row) for row in found.rows] == [True, False]


GOOD = {"question": "2 + 2?", "choices": {"text": ["3", "4"], "label": ["A", "B"]}, "answerKey": "B"}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"question": "?"}, "mine.jsonl:2: a row of this suite has"),
        (["a"], "mine.jsonl:2:"),
        (GOOD | {"answerKey": "C"}, r"mine.jsonl:2: the answer 'C' is none of the choices \['A', 'B'\]"),
        (GOOD | {"choices": {"text": ["3"], "label": ["A"]}}, "mine.jsonl:2: a choice is between two texts or more"),
        (GOOD | {"choices": {"text": ["3", ""], "label": ["A", "B"]}}, "a choice is between two texts or more"),
        (GOOD | {"question": " "}, "mine.jsonl:2: question is no text"),
        (GOOD | {"id": "1"}, "mine.jsonl:2: a second row with the id '1'"),
    ],
)
def test_a_bad_row_is_named_with_its_line(tmp_path: Path, row: object, said: str) -> None:
    path = declared(tmp_path, [GOOD, row])
    with pytest.raises(ValueError, match=said):
        load("", tmp_path, path)


def test_a_check_that_there_is_not_is_named(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "2 + 2?"}], "checks": [{"is": "contain", "any": ["4"]}]}
    path = declared(tmp_path, [row], ask={"how": "answer"})
    with pytest.raises(ValueError, match=r"mine.jsonl:1: .*contain.*did you mean contains"):
        load("", tmp_path, path)
    wrongs: tuple[object, ...] = ([], "4", {"is": "exact"})
    for wrong in wrongs:
        path = declared(tmp_path, [row | {"checks": wrong}], ask={"how": "answer"})
        with pytest.raises(ValueError, match=r"mine.jsonl:1: checks is a list"):
            load("", tmp_path, path)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"ask": {"how": "guess"}}, r"mine.json: ask.how = 'guess'"),
        ({"asks": {}}, r"mine.json: asks.*there is no such setting"),
        ({"name": "Mine!"}, r"mine.json: name = 'Mine!'"),
        ({"rows": "none.jsonl"}, r"the suite mine needs .*none.jsonl, which is not there"),
        ({"rows": "stock:none.jsonl"}, r"not there \(`minimind data fetch` makes it\)"),
        ({"rows": "made:poems"}, r"mine.json: rows = 'made:poems': made are grammar"),
        ({"version": 0}, r"mine.json: version = 0"),
    ],
)
def test_a_bad_suite_file_is_named_with_its_field(tmp_path: Path, more: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        load("", tmp_path, declared(tmp_path, [GOOD], **more))


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xff{}")
    with pytest.raises(ValueError, match=r"a.json is not UTF-8"):
        load("", tmp_path, tmp_path / "a.json")
    (tmp_path / "b.json").write_text("{", "utf-8")
    with pytest.raises(ValueError, match=r"b.json"):
        load("", tmp_path, tmp_path / "b.json")
    with pytest.raises(ValueError, match=r"the suite .*c.json cannot be read"):
        load("", tmp_path, tmp_path / "c.json")
    with pytest.raises(ValueError, match=r"d.jsonl: no form of row that is known"):
        load("", tmp_path, write(tmp_path / "d.jsonl", [{"x": 1}]))
    with pytest.raises(ValueError, match=r"e.jsonl: no form of row that is known"):
        load("", tmp_path, write(tmp_path / "e.jsonl", []))
    with pytest.raises(ValueError, match=r"there is no suite 'gramar'; there are facts, grammar, language, skills"):
        load("gramar", tmp_path)


def test_every_form_is_known_by_its_fields() -> None:
    for place, form in enumerate(FORMS):
        assert all(not other.fields <= form.fields for other in FORMS[:place])
