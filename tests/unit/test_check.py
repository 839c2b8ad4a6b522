from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from data.check import EXAMPLES, PROBLEMS, CheckLimits, Issue, Report, check_file, guess_stage
from data.encode import documents
from data.schema import ChatRow, parse
from minimind.text.tokenizer import Tokenizer
from tests.small import turns

Rows = list[object]


def write(path: Path, rows: Rows) -> Path:
    """Rows as JSON; bytes as they are."""
    lines = [row if isinstance(row, bytes) else json.dumps(row, ensure_ascii=False).encode() for row in rows]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def chat(*contents: str) -> dict[str, object]:
    return {"conversations": turns(*contents)}


def test_a_clean_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"text": "x" * length} for length in range(1, 101)])
    report = check_file(path, "pretrain")
    assert (report.rows, report.bad_rows, dict(report.counts)) == (100, 0, {})
    lengths = report.lengths["characters"]
    assert (lengths.p50, lengths.p90, lengths.p99, lengths.longest) == (50, 90, 99, 100)
    assert (lengths.mean, lengths.total) == (50.5, 5050)
    report.refuse_above(CheckLimits(max_duplicates=0, max_truncated=0))


def test_every_bad_row_is_counted_and_placed(tmp_path: Path) -> None:
    rows: Rows = [
        {"text": "a"},
        b"{",
        {"text": "a"},
        b'{"text": "\xff"}',
        {"txt": "a"},
        {"text": " "},
        {"text": "b", "id": 1},
    ]
    report = check_file(write(tmp_path / "a.jsonl", rows), "pretrain")
    assert report.rows == 7
    assert report.counts == {"broken_json": 1, "not_utf8": 1, "wrong_fields": 1, "empty": 1, "duplicate": 1}
    assert report.bad_rows == 4
    assert {kind: [issue.line for issue in found] for kind, found in report.examples.items()} == {
        "broken_json": [2],
        "duplicate": [3],
        "not_utf8": [4],
        "wrong_fields": [5],
        "empty": [6],
    }
    assert report.examples["duplicate"][0].detail == "the same as line 1"
    assert report.ignored_fields == {"id": 1}


def test_conversations(tmp_path: Path) -> None:
    rows: Rows = [chat("q", "a"), chat("q"), chat("q", ""), chat("q", "a", "q2"), {"conversations": []}]
    report = check_file(write(tmp_path / "a.jsonl", rows), "sft")
    assert report.counts == {"fully_masked": 1, "empty_answer": 1, "wrong_order": 1, "empty": 1}


def test_preferences_and_prompts(tmp_path: Path) -> None:
    good, bad = chat("q", "yes")["conversations"], chat("q", "no")["conversations"]
    rows: Rows = [{"chosen": good, "rejected": bad}, {"chosen": good, "rejected": good}]
    assert check_file(write(tmp_path / "a.jsonl", rows), "dpo").counts == {"same_answers": 1}
    rows = [{"prompt": "1+1", "answer": "2"}, {"prompt": "1+1", "answer": ""}]
    assert check_file(write(tmp_path / "b.jsonl", rows), "rl").counts == {"empty_answer": 1}
    known = check_file(write(tmp_path / "c.jsonl", [chat("q", "a"), {"prompt": "1+1", "answer": "2"}]), "rl")
    assert (known.counts, known.unanswered, known.warnings()) == ({}, 0, [])
    report = check_file(write(tmp_path / "d.jsonl", [chat("q", "无"), chat("r", ""), chat("s", "a")]), "rl")
    assert (report.counts, report.unanswered) == ({}, 2)
    assert report.warnings()[0].startswith("2 of 3 rows have no right answer")


def pair(question: str, chosen: str, rejected: str) -> dict[str, object]:
    return {"chosen": turns(question, chosen), "rejected": turns(question, rejected)}


def labelled(question: str, answer: str, label: object) -> dict[str, object]:
    return {"conversations": turns(question, answer), "label": label}


def placed(report: Report) -> dict[str, list[int]]:
    return {kind: [issue.line for issue in found] for kind, found in report.examples.items()}


def test_what_is_wrong_with_pairs_is_placed_and_said(tmp_path: Path) -> None:
    rows: Rows = [
        pair("q1", "yes", "no"),
        pair("q2", "same", "same"),
        {"chosen": turns("q3", "yes"), "rejected": turns("q4", "no")},
        pair("q5", "yes", ""),
        pair("q1", "no", "yes"),
        pair("q1", "yes", "no"),
        {"chosen": [*turns("q6"), *turns("q6", "yes")], "rejected": [*turns("q6"), *turns("q6", "no")]},
    ]
    path = write(tmp_path / "a.jsonl", rows)
    report = check_file(path, "dpo")
    assert placed(report) == {
        "same_answers": [2],
        "different_prompts": [3],
        "empty_answer": [4],
        "duplicate": [6],
        "contradiction": [5, 6],
        "wrong_order": [7],
    }
    assert report.examples["contradiction"][0].detail == "the contrary of line 1: keep one of them"
    assert report.examples["empty_answer"][0].detail == "rejected: turn 2 has no content"
    with pytest.raises(
        ValueError, match=r"1 wrong_order .*1 empty_answer .*1 same_answers .*1 different_prompts"
    ) as caught:
        report.refuse_above(CheckLimits(), "data.limits")
    assert "contradiction" not in str(caught.value)  # of two that are contrary neither is learnt, and the rest is
    report.refuse_above(CheckLimits(max_bad_turns=4))
    with pytest.raises(ValueError, match=r"2 contradiction \(the contrary of a row before\); max_contradictions = 1"):
        report.refuse_above(CheckLimits(max_bad_turns=4, max_contradictions=1))


def test_a_pair_of_which_no_answer_is_read_teaches_nothing(tmp_path: Path) -> None:
    tokenizer = Tokenizer.train(["zz"], vocab_size=292)  # a token per byte
    rows: Rows = [
        pair("q", "yes", "no"),
        pair("q" * 60, "yes", "no"),
        {"chosen": turns("q", "a", "q" * 60, "yes"), "rejected": turns("q", "a", "q" * 60, "no")},
        pair("q", "same" * 20 + "yes", "same" * 20 + "no"),
        pair("q", "yes" * 30, "no"),
        {
            "chosen": turns("q", "a", "more", "yes"),
            "rejected": [*turns("q", "a", "more"), {"role": "assistant", "content": "no", "weight": 0}],
        },
    ]
    report = check_file(write(tmp_path / "a.jsonl", rows), "dpo", tokenizer=tokenizer, max_seq_len=60)
    assert placed(report) == {"fully_masked": [2, 3, 4, 6], "truncated": [5]}
    alone, later, alike, weightless = (issue.detail for issue in report.examples["fully_masked"])
    assert "the prompt alone is 79 tokens long" in alone
    assert "nothing of the answers is read" in later
    assert alike == "the first 60 tokens (max_seq_len) of both are the same, so nothing tells them apart"
    assert "an answer has weight 0, so of one side nothing is learnt" in weightless


def test_a_pair_leaks_where_its_prompt_is_measured_on(tmp_path: Path) -> None:
    held_out = write(tmp_path / "eval.jsonl", [pair("What is it?", "yes", "no")])
    for stage, row in (("dpo", pair("what is  it?", "a", "b")), ("kto", labelled("What is it?", "a", True))):
        report = check_file(write(tmp_path / "a.jsonl", [row]), stage, eval_path=held_out)
        assert placed(report)["leaked"] == [1]


def test_what_the_chat_template_refuses_on_either_side_is_found(tmp_path: Path) -> None:
    call = [turns("q")[0], {"role": "assistant", "content": "", "tool_calls": [{"arguments": {}}]}]
    rows: Rows = [{"chosen": turns("q", "a"), "rejected": call}]
    assert check_file(write(tmp_path / "a.jsonl", rows), "dpo").counts == {"unwritable": 1}
    rows = [{"conversations": call, "label": True}, labelled("q", "a", False)]
    assert check_file(write(tmp_path / "a.jsonl", rows), "kto").counts == {"unwritable": 1}


def test_it_is_told_where_length_decides_which_answer_is_better(tmp_path: Path) -> None:
    rows: Rows = [pair(f"q{i}", "long" * 9, "short") for i in range(30)]
    rows += [pair(f"r{i}", "short", "long" * 9) for i in range(10)]
    report = check_file(write(tmp_path / "a.jsonl", rows), "dpo")
    (warning,) = report.warnings()
    assert "taking the longer one is right in 75% of all cases" in warning
    assert "28 characters on average against 13" in warning
    report.refuse_above(CheckLimits())  # told, not refused: it may be meant
    screen = io.StringIO()
    Console(width=200, file=screen).print(report.table())
    assert "28 characters on average against 13; the better one is longer in 75 %" in screen.getvalue()
    turned: Rows = [{"chosen": row["rejected"], "rejected": row["chosen"]} for row in rows if isinstance(row, dict)]
    (warning,) = check_file(write(tmp_path / "b.jsonl", turned), "dpo").warnings()
    assert "taking the shorter one is right in 75%" in warning
    even = check_file(write(tmp_path / "c.jsonl", [*rows[:10], *rows[30:]]), "dpo")
    assert (even.warnings(), even.bias and even.bias.longer) == ([], 0.5)
    again = check_file(write(tmp_path / "d.jsonl", [rows[0]] * 30), "dpo")
    assert again.warnings() == []  # thirty times the same pair are one


def test_labels_are_counted_and_what_they_lack_is_said(tmp_path: Path) -> None:
    rows: Rows = [labelled(f"q{i}", "a", i % 2 == 0) for i in range(4)]
    rows += [labelled("q0", "a", False), labelled("q1", "a", "good"), labelled("q2", "a", True)]
    report = check_file(write(tmp_path / "a.jsonl", rows), "kto")
    assert placed(report) == {"wrong_fields": [6], "duplicate": [7], "contradiction": [5]}
    assert "label = 'good': write true for a good answer" in report.examples["wrong_fields"][0].detail
    assert (report.labels, report.warnings()) == ({True: 2, False: 3}, [])
    screen = io.StringIO()
    Console(width=200, file=screen).print(report.table())
    assert "2 good, 3 bad" in screen.getvalue()


@pytest.mark.parametrize("label", [True, False])
def test_answers_of_one_label_alone_are_refused(tmp_path: Path, label: bool) -> None:
    report = check_file(write(tmp_path / "a.jsonl", [labelled(f"q{i}", "a", label) for i in range(3)]), "kto")
    with pytest.raises(ValueError, match=f"all 3 answers are labelled {str(label).lower()}: add some of the other"):
        report.refuse_above(CheckLimits())
    assert report.warnings() == []


@pytest.mark.parametrize(("bad", "told"), [(3, False), (4, True)])
def test_rare_labels_are_told(tmp_path: Path, bad: int, told: bool) -> None:
    rows: Rows = [labelled("q", "a", True), *(labelled(f"q{i}", "a", False) for i in range(bad))]
    warnings = check_file(write(tmp_path / "a.jsonl", rows), "kto").warnings()
    assert [warning.split(":")[0] for warning in warnings] == ["1 answers are good and 4 bad"] * told


def test_the_lengths_of_good_and_bad_answers_are_compared(tmp_path: Path) -> None:
    rows: Rows = [labelled(f"q{i}", "a" * (9 if i % 2 else 3), bool(i % 2)) for i in range(40)]
    (warning,) = check_file(write(tmp_path / "a.jsonl", rows), "kto").warnings()
    assert "taking the longer one is right in 100% of all cases" in warning


def test_lengths_in_tokens(tmp_path: Path) -> None:
    tokenizer = Tokenizer.train(["zz"], vocab_size=292)  # a token per byte
    path = write(tmp_path / "a.jsonl", [{"text": "x" * 8}, {"text": "x" * 9}])
    report = check_file(path, "pretrain", tokenizer=tokenizer, max_seq_len=10)
    assert report.lengths["tokens"].longest == 11
    assert [issue.line for issue in report.examples["cut"]] == [2]
    report.refuse_above(CheckLimits(max_truncated=0))
    chats = write(tmp_path / "b.jsonl", [chat("q", "a"), chat("q", "a" * 50), chat("q" * 50, "a")])
    report = check_file(chats, "sft", tokenizer=tokenizer, max_seq_len=40)
    assert {kind: [issue.line for issue in found] for kind, found in report.examples.items()} == {
        "truncated": [2],
        "fully_masked": [3],
    }
    with pytest.raises(ValueError, match="1 truncated .*max_truncated = 0"):
        report.refuse_above(CheckLimits(max_truncated=0, max_bad_turns=1))


def test_what_the_chat_template_refuses_is_found_with_and_without_a_tokenizer(tmp_path: Path) -> None:
    tokenizer = Tokenizer.train(["zz"], vocab_size=292)
    call = {"role": "assistant", "content": "", "tool_calls": [{"arguments": {}}]}
    rows: Rows = [chat("q", "a"), {"conversations": [{"role": "user", "content": "q"}, call]}, chat("q", "a", "q")]
    path = write(tmp_path / "a.jsonl", rows)
    for report in (check_file(path, "sft"), check_file(path, "sft", tokenizer=tokenizer)):
        assert report.counts == {"unwritable": 1, "wrong_order": 1}
        assert "has no name" in report.examples["unwritable"][0].detail
    with pytest.raises(ValueError, match=r"1 wrong_order .*1 unwritable .*max_bad_turns = 0"):
        report.refuse_above(CheckLimits())


def test_the_length_of_a_conversation_is_that_of_its_document(tmp_path: Path) -> None:
    tokenizer = Tokenizer.train(["zz"], vocab_size=292)
    row = {"conversations": [{"role": "system", "content": "s"}, *turns("q", "a", "q", "a")]}
    report = check_file(write(tmp_path / "a.jsonl", [row]), "sft", tokenizer=tokenizer)
    (document,) = documents(tokenizer, parse(ChatRow, row))
    assert report.lengths["tokens"].longest == len(document.ids)


@pytest.mark.parametrize(
    "held_out", [{"prompt": "What  is it?", "answer": "x"}, chat("what is it?", "y"), {"text": "What is it?"}]
)
def test_leaks_into_the_evaluation_file(tmp_path: Path, held_out: object) -> None:
    eval_path = write(tmp_path / "eval.jsonl", [held_out])
    rows: Rows = [chat("Else?", "a"), chat("What is it?", "a")]
    report = check_file(write(tmp_path / "a.jsonl", rows), "sft", eval_path=eval_path)
    assert report.examples["leaked"] == [Issue("leaked", str(tmp_path / "a.jsonl"), 2, "What is it?")]
    with pytest.raises(ValueError, match="1 leaked"):
        report.refuse_above(CheckLimits())


def test_a_bad_row_in_the_evaluation_file_is_raised(tmp_path: Path) -> None:
    eval_path = write(tmp_path / "eval.jsonl", [{"question": "?"}])
    path = write(tmp_path / "a.jsonl", [{"text": "a"}])
    with pytest.raises(ValueError, match=r"eval\.jsonl:1: a row needs answer and prompt, the fields here are question"):
        check_file(path, "pretrain", eval_path=eval_path)


def test_refusal_says_what_where_and_how_to_allow_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [b"{", {"text": "a"}, b"{", {"text": ""}])
    report = check_file(path, "pretrain")
    with pytest.raises(ValueError, match=r"a\.jsonl, 4 rows for pretrain") as caught:
        report.refuse_above(CheckLimits(max_bad_rows=2), section="data.limits")
    message = str(caught.value)
    assert "2 broken_json (not JSON), 1 empty (no text at all); max_bad_rows = 2" in message
    assert "--set data.limits.max_bad_rows=3" in message
    assert f"{path}:1: broken JSON" in message
    assert f"{path}:4: the row is empty" in message
    report.refuse_above(CheckLimits(max_bad_rows=3))
    report.refuse_above(CheckLimits(max_bad_rows=None))


def test_nothing_usable_is_always_refused(tmp_path: Path) -> None:
    for rows in ([], [b"{"]):
        report = check_file(write(tmp_path / "a.jsonl", [*rows]), "pretrain")
        with pytest.raises(ValueError, match="no row that can be used"):
            report.refuse_above(CheckLimits(max_bad_rows=None))


def test_a_file_that_breaks_off_is_always_refused(tmp_path: Path) -> None:
    content = b"".join(b'{"text": "%d"}\n' % i for i in range(5000))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(content)[:-500])
    report = check_file(tmp_path / "a.jsonl.gz", "pretrain")
    assert report.counts["damaged_file"] == 1
    with pytest.raises(ValueError, match=r"a\.jsonl\.gz: damaged gzip file"):
        report.refuse_above(CheckLimits(max_bad_rows=None))


def test_only_the_first_examples_are_kept(tmp_path: Path) -> None:
    report = check_file(write(tmp_path / "a.jsonl", [b"{"] * 30), "pretrain")
    assert report.counts["broken_json"] == 30
    assert [issue.line for issue in report.examples["broken_json"]] == list(range(1, EXAMPLES + 1))


def test_the_report_in_json_and_in_a_table(tmp_path: Path) -> None:
    report = check_file(write(tmp_path / "a.jsonl", [{"text": "a", "id": 1}, b"{"]), "pretrain")
    content = json.loads(json.dumps(report.to_dict()))
    assert content["rows"] == 2
    assert content["counts"] == {"broken_json": 1}
    assert content["examples"]["broken_json"][0]["line"] == 2
    assert content["lengths"]["characters"]["longest"] == 1
    screen = io.StringIO()
    Console(width=200, file=screen).print(report.table())
    for text in (
        "a.jsonl as pretrain",
        "broken_json: not JSON",
        "2: broken JSON",
        "field 'id' is not used",
        "longest 1",
    ):
        assert text in screen.getvalue()


def test_limits_name_real_problems() -> None:
    assert {problem.limit for problem in PROBLEMS.values()} - {None} == set(CheckLimits.model_fields)
    assert Report("a", "sft").bad_rows == 0


def test_an_unknown_stage(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="stage 'ppo': no rows are known for it; allowed are pretrain, sft, dpo, kto, rl"
    ):
        check_file(write(tmp_path / "a.jsonl", []), "ppo")


def test_fields_that_nothing_reads_are_refused_above_their_limit(tmp_path: Path) -> None:
    row = chat("q", "a")
    marked = {"conversations": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "mood": "x"}]}
    report = check_file(write(tmp_path / "a.jsonl", [row | {"id": 1, "score": 2}, marked]), "sft")
    assert report.ignored_fields == {"id": 1, "score": 1}
    assert report.counts["unread_fields"] == 1
    with pytest.raises(
        ValueError, match=r"1 unread_fields .*--set data\.limits\.max_unread_fields=1\n.*:2: .*mood of turn 2"
    ):
        report.refuse_above(CheckLimits(), "data.limits")
    report.refuse_above(CheckLimits(max_unread_fields=1))


def test_a_file_of_another_stage_is_told_in_one_sentence(tmp_path: Path) -> None:
    report = check_file(write(tmp_path / "a.jsonl", [chat("q", str(i)) for i in range(50)]), "pretrain")
    with pytest.raises(ValueError, match="this is conversation data: use --stage sft") as caught:
        report.refuse_above(CheckLimits())
    assert str(caught.value).count("conversation data") == 1
    assert "allow them" not in str(caught.value)


def test_every_row_in_gbk_is_no_reason_to_allow_them_all(tmp_path: Path) -> None:
    report = check_file(write(tmp_path / "a.jsonl", ['{"text": "床前明月光"}'.encode("gbk")] * 3), "pretrain")
    with pytest.raises(
        ValueError, match=r"no row of 3 that can be used for pretrain: .*iconv -f GB18030 .*a\.utf8\.jsonl$"
    ) as caught:
        report.refuse_above(CheckLimits())
    assert "allow them" not in str(caught.value)


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": "not json"}]},
        {"role": "assistant", "content": "", "tool_calls": [{"arguments": {}}]},
    ],
)
def test_the_doctor_says_without_a_tokenizer_what_a_run_will_say(tmp_path: Path, message: dict[str, Any]) -> None:
    rows: Rows = [{"conversations": [{"role": "user", "content": "q"}, message]}]
    path = write(tmp_path / "a.jsonl", rows)
    tokenizer = Tokenizer.train(["zz"], vocab_size=292)
    without, with_one = check_file(path, "sft"), check_file(path, "sft", tokenizer=tokenizer)
    assert without.examples == with_one.examples
    assert without.counts == {"unwritable": 1}
    tools: Rows = [{"tools": [{}]} | chat("q", "a")]
    assert check_file(write(path, tools), "sft").counts == {"unwritable": 1}


def test_rows_of_other_forms_leak_as_well(tmp_path: Path) -> None:
    held_out = write(tmp_path / "eval.jsonl", [{"instruction": "What is it?", "input": "", "output": "x"}])
    rows: Rows = [{"messages": [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "a"}]}]
    report = check_file(write(tmp_path / "a.jsonl", rows), "sft", eval_path=held_out)
    assert report.counts == {"leaked": 1}


def test_a_folder_is_looked_at_file_by_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"same\n" + b"\xb0\xa1 \xff\n")
    (tmp_path / "b.md").write_text("same")
    report = check_file(tmp_path, "pretrain")
    assert (report.rows, report.files, report.written(), report.first) == (3, 2, "2 files, passages of text", "same")
    assert str(report.examples["not_utf8"][0]).startswith(f"{tmp_path}/a.txt:2: not UTF-8")
    assert report.examples["duplicate"] == [
        Issue("duplicate", f"{tmp_path}/b.md", 1, f"the same as line 1 of {tmp_path}/a.txt")
    ]
    (tmp_path / "a.txt").write_text("same")
    assert check_file(tmp_path / "b.md", "pretrain", eval_path=tmp_path).counts == {"leaked": 1}


def test_it_is_said_how_rows_are_written(tmp_path: Path) -> None:
    rows = {
        "MiniMind": chat("q1", "a"),
        "OpenAI messages": {"messages": turns("q2", "a")},
        "ShareGPT": {"conversations": [{"from": "human", "value": "q3"}, {"from": "gpt", "value": "a"}]},
        "Alpaca": {"instruction": "q4", "input": "", "output": "a", "history": [["b", "c"]]},
        "prompt and completion": {"prompt": turns("q5"), "completion": [{"role": "assistant", "content": "a"}]},
    }
    report = check_file(write(tmp_path / "a.jsonl", [*rows.values(), chat("q6", "a")]), "sft")
    assert report.counts == {}
    assert report.forms == {name: 2 if name == "MiniMind" else 1 for name in rows}
    assert report.written().startswith("2 MiniMind, 1 ")
    assert check_file(write(tmp_path / "a.jsonl", [rows["Alpaca"]]), "sft").written() == "Alpaca"
    assert check_file(write(tmp_path / "b.jsonl", [{"text": "a"}]), "pretrain").written() == ""


@pytest.mark.parametrize(
    ("name", "known"), [("rlaif-mini.jsonl", True), ("agent_rl.jsonl", True), ("mine.jsonl", False)]
)
def test_upstreams_files_for_reinforcement_learning_are_known_by_name(tmp_path: Path, name: str, known: bool) -> None:
    path = write(tmp_path / name, [chat("q", "空")])
    if known:
        with pytest.raises(ValueError, match=f"{name} is MiniMind's file of questions for reinforcement learning"):
            check_file(path, "sft")
        assert check_file(path, "rl").counts == {}
    else:
        assert check_file(path, "sft").counts == {}


def test_the_stage_of_a_file_is_that_of_its_first_row(tmp_path: Path) -> None:
    for row, stage in (({"text": "a"}, "pretrain"), (chat("q", "a"), "sft"), ({"prompt": "1", "answer": "1"}, "rl")):
        assert guess_stage(write(tmp_path / "a.jsonl", [row])) == stage
    assert guess_stage(write(tmp_path / "a.jsonl", [b"{", {"text": "a"}])) is None
    assert guess_stage(write(tmp_path / "a.jsonl", [])) is None
    (tmp_path / "book.txt").write_text("a")
    assert guess_stage(tmp_path / "book.txt") == "pretrain"
