from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
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
        ({"question": "?"}, "mine.jsonl:2: a row has the fields question; of this suite it has"),
        (["a"], "mine.jsonl:2:"),
        (GOOD | {"answerKey": "C"}, r"mine.jsonl:2: the answer 'C' is none of the choices \['A', 'B'\]"),
        (GOOD | {"choices": {"text": ["3"], "label": ["A"]}}, "mine.jsonl:2: a choice is between two texts or more"),
        (GOOD | {"choices": {"text": ["3", ""], "label": ["A", "B"]}}, "a choice is between two texts or more"),
        (GOOD | {"question": " "}, "mine.jsonl:2: question is no text"),
        (GOOD | {"id": "1"}, "mine.jsonl:2: a second row with the id '1'"),
        (GOOD | {"question": 5}, "mine.jsonl:2: question is no text: 5"),
        (GOOD | {"question": {"stem": None}}, "mine.jsonl:2: question is no text: None"),
        (GOOD | {"choices": ["3", "4"]}, r"mine.jsonl:2: choices is a list such as .*, not \['3', '4'\]"),
        (GOOD | {"choices": None}, "mine.jsonl:2: choices is .*, not None"),
        (GOOD | {"choices": {"text": 5}}, "mine.jsonl:2: choices is .*, not {'text': 5}"),
        (GOOD | {"choices": {"text": "34", "label": "AB"}}, "mine.jsonl:2: choices is .*, not "),
        (GOOD | {"choices": {"text": ["3", "4"], "label": ["A", "C", "B"]}}, "2 choices need as many different labels"),
        (GOOD | {"choices": {"text": ["3", "4"], "label": ["B", "B"]}}, "2 choices need as many different labels"),
        (
            GOOD | {"choices": {"text": ["4", "3", "4 "], "label": ["A", "C", "B"]}},
            r"mine.jsonl:2: the choices \['A', 'B'\] are the same: which is right cannot be told",
        ),
        (
            GOOD | {"choices": [{"text": str(n), "label": str(n)} for n in range(27)], "answerKey": "3"},
            "mine.jsonl:2: 27 choices: at most 26 can be asked",
        ),
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


def test_two_wrong_choices_may_be_alike(tmp_path: Path) -> None:
    """As in files of others: which is right can be told."""
    row = GOOD | {"choices": {"text": ["3", "3", "4"], "label": ["A", "C", "B"]}}
    assert load("", tmp_path, declared(tmp_path, [row])).rows[0].right == 2


TURN = {"role": "user", "content": "2 + 2?"}
CHECKED = {"messages": [TURN], "checks": [{"is": "stopped"}]}
TOOL = {"type": "function", "function": {"name": "add"}}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"name": "add", "arguments": {}}]}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            CHECKED | {"messages": [{"content": "?"}]},
            "messages.0: role = None: allowed are system, user, assistant, tool",
        ),
        (CHECKED | {"messages": [TURN | {"role": "banana"}]}, "messages.0: role = 'banana': allowed are system, user"),
        (CHECKED | {"messages": [TURN, TURN | {"role": ["user"]}]}, r"messages.1: role = \['user'\]: allowed are"),
        (CHECKED | {"messages": [TURN | {"content": 5}]}, "messages.0.content is no text: 5"),
        (CHECKED | {"messages": [TURN | {"content": ""}]}, "messages.0.content is no text: ''"),
        (CHECKED | {"messages": ["2 + 2?"]}, r"messages is a list such as .*, not \['2"),
        (CHECKED | {"messages": "2 + 2?"}, "messages is a list such as .*, not '2"),
        (CHECKED | {"messages": [TURN, {"role": "assistant", "content": "4"}]}, "turn 2, the last, is assistant"),
        (CHECKED | {"messages": [TURN, TURN]}, "turn 2 is user after user; allowed there: assistant"),
        (CHECKED | {"messages": [TURN | {"weight": math.nan}]}, "messages hold NaN or Infinity, which are no JSON"),
        (CHECKED | {"messages": [], "prompt": 5}, "prompt is no text: 5"),
        (CHECKED | {"tools": 5}, "tools is a list such as .*, not 5"),
        (CHECKED | {"tools": {"a": 1}}, "tools is a list such as .*, not {'a': 1}"),
        (CHECKED | {"tools": ["a"]}, r"tools is a list such as .*, not \['a'\]"),
        (CHECKED | {"tools": [{"name": 5}]}, "tool 0 has no name"),
        ({"prompt": 5, "checks": [{"is": "stopped"}]}, "prompt is no text: 5"),
        ({"prompt": "?", "sentence": "!", "before": 5}, "before is a list such as .*, not 5"),
        ({"prompt": "?", "sentence": "!", "before": "abc"}, "before is a list such as .*, not 'abc'"),
        ({"prompt": "?", "sentence": "!", "before": ["a", 5]}, r"before is a list such as .*, not \['a', 5\]"),
        ({"prompt": "?", "sentence": "!", "answer": 5}, "answer is no text: 5"),
        ({"prompt": "?", "answer": 5}, "answer is no text: 5"),
    ],
)
def test_a_question_that_cannot_be_asked_is_named_with_its_line(tmp_path: Path, row: object, said: str) -> None:
    path = declared(tmp_path, [CHECKED, row], ask={"how": "answer"})
    with pytest.raises(ValueError, match=rf"mine.jsonl:2: .*{said}"):
        load("", tmp_path, path)


def test_a_conversation_with_tools_is_a_question(tmp_path: Path) -> None:
    row = CHECKED | {"messages": [TURN, CALL, {"role": "tool", "content": "4"}], "tools": [TOOL]}
    found = load("", tmp_path, declared(tmp_path, [row, CHECKED | {"tools": None}], ask={"how": "answer"}))
    assert [len(one.messages) for one in found.rows] == [3, 1]
    assert [one.tools for one in found.rows] == [(TOOL,), ()]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("question,A,B,answer\n?,1,2,A\n?,1,2,A,5\n", "t.csv:3: 5 fields, where the first line names 4"),
        ("question,A,B,answer\n\n?,1,2\n", "t.csv:3: 3 fields, where the first line names 4"),
        ("question,A,A,answer\n?,1,2,A\n", "t.csv:1: two columns are called 'A'"),
        ('question,A,B,answer\n"a\nb",1,2,A\n?,"1,2,B\n', "t.csv:4: not CSV .*: is a quotation mark left open"),
        (f"question,A,B,answer\n{'?' * 200_000},1,2,A\n", r"t.csv:2: not CSV \(field larger than field limit"),
        ('question,A,B,answer\n"a\nb",1,2,A\n?,1,2,C\n', "t.csv:4: the answer 'C' is none of the choices"),
        ("question,A,B,answer\n", "t.csv: no form of row that is known"),
        ("", "t.csv: no form of row that is known"),
    ],
)
def test_a_bad_line_of_a_table_is_named(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "t.csv"
    file.write_text(content, "utf-8")
    with pytest.raises(ValueError, match=said):
        load("", tmp_path, file)


def test_a_table_in_another_encoding_is_named_with_its_line(tmp_path: Path) -> None:
    content = "question,A,B,answer\n?,1,2,A\n首都是哪里？,上海,北京,B\n"
    file = tmp_path / "t.CSV"
    file.write_text(content, "gbk")
    with pytest.raises(ValueError, match=r"t.CSV:3: not UTF-8: byte 0x\w\w at position 1 .*it looks like GBK.*iconv"):
        load("", tmp_path, file)
    file.write_text(content, "utf-16")
    with pytest.raises(ValueError, match=r"t.CSV:1: not UTF-8 but UTF-16; what converts it"):
        load("", tmp_path, file)
    for encoding in ("utf-8", "utf-8-sig"):
        file.write_text(content, encoding)
        assert [row.id for row in load("", tmp_path, file).rows] == ["1", "2"]
    with pytest.raises(ValueError, match=r"the rows .*none.csv cannot be read: No such file"):
        load("", tmp_path, tmp_path / "none.csv")


def test_columns_of_parquet_that_are_no_json(tmp_path: Path) -> None:
    """A date is read as text; bytes are no text in any one way."""
    file = tmp_path / "t.parquet"
    when = datetime(2026, 1, 2, tzinfo=UTC)
    table = {"text": ["a", "b"], "at": [when, when], "price": [Decimal("1.5"), None], "topic": [when.date(), None]}
    pyarrow.parquet.write_table(pa.table(table), file)
    found = load("", tmp_path, file)
    assert [row.texts for row in found.rows] == [("a",), ("b",)]
    assert found.rows[0].groups == {"topic": "2026-01-02"}
    assert found.sha256 == load("", tmp_path, file).sha256
    pyarrow.parquet.write_table(pa.table({"text": ["a", "b"], "image": [None, b"\x89"]}), file)
    with pytest.raises(ValueError, match=r"t.parquet:2: image holds what is no text and no JSON: b'.x89'; leave that"):
        load("", tmp_path, file)


def test_blank_lines_change_no_id(tmp_path: Path) -> None:
    plain, blank = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    plain.write_text('{"text": "a"}\n{"text": "b"}\n', "utf-8")
    blank.write_text('\n{"text": "a"}\n\n\n{"text": "b"}\n', "utf-8")
    one, other = (load("", tmp_path, file) for file in (plain, blank))
    assert one.rows == other.rows
    assert [row.id for row in one.rows] == ["1", "2"]
    assert one.sha256 == other.sha256
    blank.write_text('{"text": "a"}\n\n{"text": ""}\n', "utf-8")
    with pytest.raises(ValueError, match="b.jsonl:3: text is no text"):  # the line is that of the file
        load("", tmp_path, blank)


@pytest.mark.parametrize(
    ("counted", "said"),
    [
        (
            {"kind": ["b", "c"]},
            "mine.jsonl: no row is counted: counted is kind = 'b', 'c', and the rows have kind = 'a'",
        ),
        ({"topic": ["x"]}, "counted is topic = 'x', and the rows have topic = none"),
        ({"kind": ["a"], "language": ["zh"]}, "and the rows have kind = 'a' and language = 'en'"),
        ({"kind": []}, "counted is kind = none, and the rows have kind = 'a'"),
        ({"difficulty": ["a"]}, "mine.json: counted.difficulty.*'language', 'kind', 'phenomenon'"),
    ],
)
def test_what_counts_no_row_is_refused(tmp_path: Path, counted: dict[str, list[str]], said: str) -> None:
    path = declared(tmp_path, [GOOD | {"kind": "a", "language": "en"}], counted=counted)
    with pytest.raises(ValueError, match=said):
        load("", tmp_path, path)


def test_a_mark_at_the_beginning_of_a_suite_file_is_passed_over(tmp_path: Path) -> None:
    path = declared(tmp_path, [GOOD])
    path.write_text(path.read_text("utf-8"), "utf-8-sig")
    assert load("", tmp_path, path).suite.name == "mine"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        *(
            ({"name": name}, "mine.json: name = ")
            for name in ("../../x", "<script>", "a" * 500, "x\n", "", "_a", "a/b", "中")
        ),
        *(
            ({"ask": ASK | {"choice": wrong}}, r"mine.json: ask.choice = .*: {choice} or {letter} has to stand in it")
            for wrong in ("", " ", "{question}", "{choices}")
        ),
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
    with pytest.raises(ValueError, match=r"no suite 'gramar'; there are facts, grammar, language, preferences, skills"):
        load("gramar", tmp_path)


def test_every_form_is_known_by_its_fields() -> None:
    for place, form in enumerate(FORMS):
        assert all(not other.fields <= form.fields for other in FORMS[:place])


def test_pairs_of_answers_are_asked_after_their_conversation(tmp_path: Path) -> None:
    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"}]
    rows = [
        {"prompt": "2 + 2?", "chosen": "4", "rejected": "5", "family": "fact"},
        {
            "chosen": [*talk, {"role": "assistant", "content": "4"}],
            "rejected": [*talk, {"role": "assistant", "content": "Five."}],
        },
    ]
    found = load("pairs", tmp_path, write(tmp_path / "pairs.jsonl", rows))
    assert found.suite.ask.how == "pair"
    assert [row.texts for row in found.rows] == [("4", "5"), ("4", "Five.")]
    assert [[turn["content"] for turn in row.messages] for row in found.rows] == [["2 + 2?"], ["Be brief.", "2 + 2?"]]
    assert found.rows[0].groups == {"kind": "fact"}
    wrong = {"chosen": [*talk, {"role": "assistant", "content": "4"}], "rejected": [{"role": "user", "content": "?"}]}
    with pytest.raises(ValueError, match=r"wrong.jsonl:1: both answers are to follow the same conversation"):
        load("wrong", tmp_path, write(tmp_path / "wrong.jsonl", [wrong]))
