"""Distilling from a teacher behind an endpoint: what is kept, what is left out, and that it may be killed anywhere."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fastapi import Response
from fastapi.responses import JSONResponse

from data.check import CheckLimits, check_file
from data.prepare import tokenise
from data.prompts import Prompts, read_prompts
from jobs import __main__ as cli
from jobs import paths
from jobs.endpoints import endpoint
from jobs.endpoints.endpoint import Endpoint, EndpointError
from jobs.synthesis.distill import Asking, Distilled, about_tokens, body_of, distill
from jobs.synthesis.journal import Journal
from minimind.text.tokenizer import Tokenizer
from tests.endpoints import Answer, said, served
from tests.shell import Shell
from tests.small import Screen

COUNT = 12
SETTINGS = Asking(max_tokens=50)

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setattr(endpoint, "WAIT_S", 0.01)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture
def prompts(tmp_path: Path) -> Prompts:
    """Questions 0 to 11."""
    return read_prompts(write(tmp_path / "prompts.jsonl", [{"prompt": f"question {n}"} for n in range(COUNT)]))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "made" / "rows.jsonl"


class Teacher:
    """Answers each question as `odd` has it, else with its own words; asked: how often each has come."""

    def __init__(self, **odd: Answer) -> None:
        self.odd = {name.removeprefix("q"): answer for name, answer in odd.items()}
        self.asked: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []

    def __call__(self, body: dict[str, Any]) -> Any:
        question = body["messages"][-1]["content"]
        self.asked[question] += 1
        self.bodies.append(body)
        odd = self.odd.get(question.removeprefix("question "))
        return odd(body) if odd is not None else said(f"answer to {question}")


def run(url: str, prompts: Prompts, out: Path, asking: Asking = SETTINGS, **settings: Any) -> Distilled:
    more = {name: settings.pop(name) for name in ("budget_tokens", "licence") if name in settings}
    return distill(Endpoint(url, "m", **settings), prompts, out, asking, Screen(), **more)


def rows(out: Path) -> list[list[dict[str, Any]]]:
    """The conversations of the file; each line is whole."""
    content = out.read_bytes()
    assert content.endswith(b"\n") or not content
    return [json.loads(line)["conversations"] for line in content.split(b"\n")[:-1]]


def numbers(out: Path) -> list[int]:
    return [int(turns[0]["content"].removeprefix("question ")) for turns in rows(out)]


def files(out: Path) -> set[str]:
    return {path.name for path in out.parent.iterdir()} if out.parent.exists() else set()


def test_answers_become_rows_in_the_order_of_the_prompts(prompts: Prompts, out: Path) -> None:
    async def late(body: dict[str, Any]) -> Response:
        while teacher.asked["question 11"] == 0:
            await asyncio.sleep(0.01)
        return said("late")

    teacher = Teacher(q0=late)
    with served(teacher) as url:
        done = run(url, prompts, out, Asking(50, 0.5, 7), licence="CC0")
        assert done.is_finished
        assert run(url, prompts, out, Asking(50, 0.5, 7)) == done  # a licence is not lost where it is not given again
    assert numbers(out) == list(range(COUNT))
    assert rows(out)[0][1] == {"role": "assistant", "content": "late"}
    assert set(teacher.asked.values()) == {1}
    expected = {"model": "m", "max_tokens": 50, "temperature": 0.5, "seed": 7}
    assert teacher.bodies[3] == expected | {
        "messages": [{"role": "user", "content": teacher.bodies[3]["messages"][0]["content"]}]
    }
    assert files(out) == {"rows.jsonl", "rows.jsonl.json"}
    record = json.loads(out.with_name("rows.jsonl.json").read_text("utf-8"))
    assert record == done.record
    assert (record["licence"], record["rows"], record["tokens"], record["finished"]) == ("CC0", COUNT, COUNT * 17, True)


def test_what_an_answer_holds_is_kept_and_learnt(tmp_path: Path, out: Path) -> None:
    odd = "one\ntwo\u2028three\u0085 \U0001f600 e\u0301"
    call = {"id": "x", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
    teacher = Teacher(
        lines=lambda body: said(odd),
        thought=lambda body: said("Four.", reasoning_content="Two\nand two."),
        tags=lambda body: said("<think>\nHm.\n</think>\n\nFive."),
        called=lambda body: said(None, "tool_calls", tool_calls=[call]),
        parts=lambda body: said([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
        chunks=lambda body: said(
            [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}, {"type": "text", "text": "Six."}]
        ),
    )
    asked = write(
        tmp_path / "prompts.jsonl",
        [
            {"prompt": "lines", "answer": "1"},
            {"conversations": [{"role": "user", "content": "thought"}, {"role": "assistant", "content": "old"}]},
            {"prompt": "tags"},
            {
                "messages": [
                    {"role": "system", "content": "", "tools": [WEATHER]},
                    {"role": "user", "content": "called"},
                ]
            },
            {"prompt": "parts"},
            {"prompt": "chunks"},
        ],
    )
    with served(teacher) as url:
        assert run(url, read_prompts(asked), out).is_finished
    assert [turns[-1] for turns in rows(out)] == [
        {"role": "assistant", "content": odd},
        {"role": "assistant", "content": "Four.", "reasoning_content": "Two\nand two."},
        {"role": "assistant", "content": "Five.", "reasoning_content": "Hm."},
        {"role": "assistant", "content": "", "tool_calls": [{"name": "weather", "arguments": {"city": "Paris"}}]},
        {"role": "assistant", "content": "ab"},
        {"role": "assistant", "content": "Six.", "reasoning_content": "Hm."},
    ]
    report = check_file(out, "sft")
    report.refuse_above(CheckLimits())
    assert (report.rows, report.counts, report.ignored_fields) == (6, {}, {})
    shards = tokenise([out], Tokenizer.train([odd], 400), tmp_path / "shards", rows="sft")
    assert all(len(shards.targets(number)) for number in range(6))


def test_earlier_turns_are_asked_with_and_stay(tmp_path: Path, out: Path) -> None:
    talk = [
        {"role": "user", "content": "Is it sunny?"},
        {"role": "assistant", "content": "", "tool_calls": [{"name": "weather", "arguments": {"city": "Paris"}}]},
        {"role": "tool", "content": "yes"},
        {"role": "assistant", "content": "Yes.", "reasoning_content": "It says yes.", "weight": 0},
        {"role": "user", "content": "Sure?"},
    ]
    row = {"conversations": [*talk, {"role": "assistant", "content": "old"}], "tools": [WEATHER]}
    teacher = Teacher()
    with served(teacher) as url:
        run(url, read_prompts(write(tmp_path / "prompts.jsonl", [row])), out)
    function = {"name": "weather", "arguments": '{"city": "Paris"}'}
    assert teacher.bodies[0]["messages"] == [
        talk[0],
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "call_0", "type": "function", "function": function}],
        },
        {"role": "tool", "content": "yes", "tool_call_id": "call_0"},
        {"role": "assistant", "content": "Yes."},
        talk[4],
    ]
    assert teacher.bodies[0]["tools"] == [WEATHER]
    system = {"role": "system", "content": "", "tools": [WEATHER]}
    assert rows(out) == [[system, *talk, {"role": "assistant", "content": "answer to Sure?"}]]


def refusal(status: int, message: str) -> Answer:
    return lambda body: JSONResponse({"error": {"message": message}}, status)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda body: said(""), "empty"),
        (lambda body: said(None), "empty"),
        (lambda body: said(" \n", reasoning_content="hm"), "empty"),
        (lambda body: said("The answer is", "length"), "cut_off"),
        (lambda body: said("The", "insufficient_system_resource"), "cut_off"),
        (lambda body: said("", "content_filter"), "filtered"),
        (lambda body: said(None, refusal="I can't."), "filtered"),
        (refusal(400, "triggered the content management policy"), "filtered"),
        (refusal(400, "Input data may contain inappropriate content."), "filtered"),
        (refusal(400, "系统检测到输入或生成内容可能包含不安全或敏感内容"), "filtered"),
        (refusal(403, "m requires moderation. Your input was flagged"), "filtered"),
        (refusal(400, "maximum context length is 8"), "refused"),
        (lambda body: Response("<html>"), "garbled"),
        (lambda body: Response(b'{"choices": [{"messa'), "garbled"),
        (lambda body: JSONResponse({"choices": []}), "garbled"),
        (lambda body: JSONResponse({"usage": None}), "garbled"),
        (lambda body: said(5), "garbled"),
        (lambda body: said({"text": "x"}), "garbled"),
        (lambda body: JSONResponse({"choices": [{"message": "x"}]}), "garbled"),
        (lambda body: Response(bytes(said("half a @").body).replace(b"@", b"\\ud83d")), "unfit"),
        (lambda body: said("a <|im_end|> of its own"), "unfit"),
        (lambda body: said("<think>no end"), "unfit"),
        (lambda body: said("", tool_calls=[{"function": {"name": "f", "arguments": "{broken"}}]), "unfit"),
    ],
)
def test_what_is_no_answer_to_learn_is_left_out_with_its_line(
    prompts: Prompts, out: Path, answer: Answer, why: str
) -> None:
    teacher = Teacher(q4=answer)
    with served(teacher) as url:
        done = run(url, prompts, out, at_once=1)
        assert run(url, prompts, out) == done
    assert done.is_finished
    assert numbers(out) == [number for number in range(COUNT) if number != 4]
    assert done.record["left_out"] == {why: 1}
    (left_out,) = done.record["prompts_left_out"]
    assert (left_out["where"], left_out["why"]) == (f"{prompts.path}:5", why)
    assert teacher.asked["question 4"] == 1
    check_file(out, "sft").refuse_above(CheckLimits())


def test_many_prompts_that_a_teacher_does_not_take_are_no_reason_to_end(prompts: Prompts, out: Path) -> None:
    teacher = Teacher(**{f"q{number}": refusal(413, "too long") for number in range(3, 9)})
    with served(teacher) as url:
        done = run(url, prompts, out, at_once=1)
    assert (done.is_finished, done.record["left_out"]) == (True, {"refused": 6})
    assert numbers(out) == [0, 1, 2, 9, 10, 11]


def busy(body: dict[str, Any]) -> Response:
    return JSONResponse({"error": {"message": "too many"}}, 429)


async def silent(body: dict[str, Any]) -> Response:
    await asyncio.sleep(1.5)
    return said("too late")


@pytest.mark.parametrize(
    ("answer", "said_of_it"),
    [(busy, "HTTP 429: too many"), (silent, "ReadTimeout"), (lambda body: Response("<html>"), "no JSON object")],
)
def test_a_teacher_that_keeps_failing_ends_it_and_all_so_far_is_kept(
    prompts: Prompts, out: Path, answer: Answer, said_of_it: str
) -> None:
    teacher = Teacher(**{f"q{number}": answer for number in range(5, COUNT)})
    with served(teacher) as url:
        with pytest.raises(
            EndpointError, match=f"{said_of_it}.*5 of 12 prompts are done and kept; the same command goes"
        ):
            run(url, prompts, out, at_once=1, answer_s=0.2)
        assert numbers(out) == list(range(5))
        assert teacher.asked["question 8"] == 0  # it ends after three in a row
        teacher.odd.clear()
        assert run(url, prompts, out).is_finished
    assert numbers(out) == list(range(COUNT))
    assert {teacher.asked[f"question {number}"] for number in range(5)} == {1}


def test_a_prompt_without_an_answer_is_asked_again_the_next_time(prompts: Prompts, out: Path) -> None:
    teacher = Teacher(q1=busy, q11=busy)
    with served(teacher) as url:
        done = run(url, prompts, out, at_once=1)
        assert done.unanswered == (f"{prompts.path}:2", f"{prompts.path}:12")
        assert not done.is_finished
        assert numbers(out) == [0, *range(2, 11)]
        teacher.odd.clear()
        assert run(url, prompts, out).is_finished
    assert numbers(out) == list(range(COUNT))
    assert {teacher.asked[f"question {number}"] for number in range(2, 11)} == {1}


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_teacher_that_refuses_all_leaves_nothing_behind(prompts: Prompts, out: Path, status: int) -> None:
    teacher = Teacher(**{f"q{number}": refusal(status, "no") for number in range(COUNT)})
    with served(teacher) as url:
        with pytest.raises(EndpointError, match=f"refuses: HTTP {status}: no$"):
            run(url, prompts, out, at_once=1)
        assert sum(teacher.asked.values()) == (3 if status == 400 else 1)
        assert files(out) == set()
        teacher.odd.clear()
        assert run(url, prompts, out, Asking(99)).is_finished  # so other settings are no other file's


def test_a_file_goes_on_only_as_it_was_begun(prompts: Prompts, out: Path, tmp_path: Path) -> None:
    others = read_prompts(write(tmp_path / "others.jsonl", [{"prompt": "another"}]))
    with_system = read_prompts(prompts.path, "Be kind.")
    with served(Teacher()) as url, served(Teacher()) as other:
        run(url, prompts, out, budget_tokens=200, at_once=1)
        kept = {path.name: path.read_bytes() for path in out.parent.iterdir()}
        for teacher, asked, asking, differs in (
            (url, prompts, Asking(51), "max_tokens = 50, and this is 51"),
            (url, prompts, Asking(50, temperature=1.0), "temperature = null, and this is 1.0"),
            (url, prompts, Asking(50, seed=3), "seed = null, and this is 3"),
            (url, others, SETTINGS, "prompts.sha256 = "),
            (url, with_system, SETTINGS, 'prompts.system = null, and this is "Be kind."'),
            (other, prompts, SETTINGS, "teacher.url = "),
        ):
            with pytest.raises(ValueError, match=f"was begun with {differs}"):
                run(teacher, asked, out, asking)
        assert {path.name: path.read_bytes() for path in out.parent.iterdir()} == kept
        moved = Path(prompts.path).rename(tmp_path / "moved.jsonl")
        assert run(url, read_prompts(moved), out).is_finished
        out.unlink()
        with pytest.raises(ValueError, match="rows.jsonl is gone; remove .*rows.jsonl.json to make everything anew"):
            run(url, read_prompts(moved), out)


def test_a_file_of_somebody_else_stays(prompts: Prompts, out: Path) -> None:
    out.parent.mkdir()
    out.write_text("mine\n")
    with served(Teacher()) as url:
        with pytest.raises(ValueError, match="is there already, and was not begun by this command; name another --out"):
            run(url, prompts, out)
        assert files(out) == {"rows.jsonl"}
        with pytest.raises(ValueError, match="a file that ends in .jsonl"):
            run(url, prompts, out.with_suffix(".json"))
        with Journal.open(out.with_name("held.jsonl"), {}), pytest.raises(ValueError, match="made by another process"):
            run(url, prompts, out.with_name("held.jsonl"))


def test_what_was_killed_before_anything_came_binds_nobody(prompts: Prompts, out: Path) -> None:
    out.parent.mkdir()
    asked = {"teacher": {"url": "http://gone/v1", "model": "m"}}
    out.with_name("rows.jsonl.json").write_text(json.dumps({"format": 1, "asked": asked, "finished": False}), "utf-8")
    out.with_name("rows.jsonl.part").write_bytes(b'{"number": 0, "ro')
    with served(Teacher()) as url:
        assert run(url, prompts, out).is_finished
    assert numbers(out) == list(range(COUNT))


def test_a_damaged_journal_is_said_and_stays(prompts: Prompts, out: Path) -> None:
    part = out.with_name("rows.jsonl.part")
    with served(Teacher()) as url:
        run(url, prompts, out, budget_tokens=100)
        part.write_bytes(b"no entry\n" + part.read_bytes())
        kept = part.read_bytes()
        with pytest.raises(ValueError, match="rows.jsonl.part:1: not an entry of this program"):
            run(url, prompts, out)
        assert part.read_bytes() == kept
        part.unlink()
        with pytest.raises(ValueError, match="rows.jsonl.part is gone"):
            run(url, prompts, out)
        out.with_name("rows.jsonl.json").write_text("{}")
        with pytest.raises(ValueError, match="rows.jsonl.json is no record of this program"):
            run(url, prompts, out)


def test_the_budget_is_never_exceeded_and_can_be_raised(prompts: Prompts, out: Path) -> None:
    most = about_tokens(body_of(prompts.each[0], SETTINGS)) + 50  # more than the 17 that an answer takes
    teacher = Teacher()
    with served(teacher) as url:
        done = run(url, prompts, out, budget_tokens=most - 1)
        assert (done.record, done.needed_tokens, files(out)) == ({}, most, set())
        budget = 4 * 17 + most
        done = run(url, prompts, out, budget_tokens=budget, at_once=8)
        assert (numbers(out), done.record["tokens"], done.needed_tokens) == (list(range(5)), 5 * 17, 5 * 17 + most)
        assert run(url, prompts, out, budget_tokens=budget) == done  # nothing is asked
        assert sum(teacher.asked.values()) == 5
        done = run(url, prompts, out, budget_tokens=1000)
        assert (done.is_finished, done.record["tokens"], done.needed_tokens) == (True, COUNT * 17, None)
    assert set(teacher.asked.values()) == {1}


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": "many"}, {"prompt_tokens": True}, [1]])
def test_tokens_are_estimated_where_nobody_counts_them(prompts: Prompts, out: Path, usage: Any) -> None:
    choice = {"message": {"content": "你好" * 30}, "finish_reason": "stop"}
    answer = JSONResponse({"choices": [choice], "usage": usage})
    with served(lambda body: answer) as url:
        record = run(url, prompts, out).record
    assert record["tokens_estimated_of"] == COUNT
    assert record["tokens"] > COUNT * 60  # a token for each character at least


CHILD = """
import sys
from jobs import __main__ as cli
from jobs.endpoints import endpoint
endpoint.WAIT_S = 0.01
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_it_may_be_killed_at_any_moment(prompts: Prompts, out: Path, home: Path) -> None:
    opened = threading.Event()
    hold = {f"q{number}": held_until(opened) for number in (3, 7)}
    teacher = Teacher(**hold)
    part = out.with_name("rows.jsonl.part")
    with served(teacher) as url:
        words = ["data", "distill", str(prompts.path), "--teacher", f"{url}#m", "--out", str(out), "--at_once", "2"]
        child = subprocess.Popen([sys.executable, "-c", CHILD, *words], cwd=paths.checkout())
        try:
            end = time.monotonic() + 60
            while not part.exists() or part.read_bytes().count(b"\n") < 6:  # 3 and 7 take both places
                assert child.poll() is None
                assert time.monotonic() < end
                time.sleep(0.02)
        finally:
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
        opened.set()
        assert files(out) == {"rows.jsonl.json", "rows.jsonl.part"}
        with part.open("ab") as file:
            file.write(b'{"number": 3, "row": {"conversa')  # what a kill in the middle of a line leaves
        assert run(url, prompts, out, Asking(1024)).is_finished
    assert numbers(out) == list(range(COUNT))
    assert files(out) == {"rows.jsonl", "rows.jsonl.json"}
    again = {question for question, times in teacher.asked.items() if times > 1}
    assert again <= {"question 3", "question 7"}  # those alone were under way


def held_until(opened: threading.Event) -> Answer:
    async def answer(body: dict[str, Any]) -> Response:
        while not opened.is_set():
            await asyncio.sleep(0.01)
        return said("held")

    return answer


def test_an_interruption_keeps_what_there_is(prompts: Prompts, out: Path) -> None:
    def interrupted(body: dict[str, Any]) -> Response:
        signal.raise_signal(signal.SIGINT)
        return busy(body)

    with served(Teacher(q6=interrupted)) as url:
        with pytest.raises(KeyboardInterrupt):
            run(url, prompts, out, at_once=1)
        assert numbers(out) == list(range(6))
        assert files(out) == {"rows.jsonl", "rows.jsonl.json", "rows.jsonl.part"}


def test_the_command_says_what_came_of_it(
    prompts: Prompts, out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("MINIMIND_API_KEY", "secret")
    shell = Shell(capsys)
    teacher = Teacher(q2=lambda body: said("x", "length"), q3=busy)
    with served(teacher) as url:
        words = ["data", "distill", str(prompts.path), "--teacher", f"{url}#m", "--out", str(out), "--at_once", "1"]
        assert shell(cli.main, *words, "--max_tokens", "64", "--system", "Be brief.", "--per_minute", "60000") == 1
        assert f"{prompts.path}: 12 prompts" in shell.out
        assert f"{out}: 10 rows of 11 prompts, 1 are left" in shell.out
        assert f"left out: 1, the answer was cut off (--max_tokens): {prompts.path}:3" in shell.out
        assert f"1 prompts got no answer ({prompts.path}:4): the same command asks them again" in shell.out
        assert "187 tokens of prompts and answers" in shell.out
        assert "What the answers may be used for is decided by the terms of the teacher." in shell.out
        assert rows(out)[0][0] == {"role": "system", "content": "Be brief."}
        teacher.odd.clear()
        more = ["--max_tokens", "64", "--system", "Be brief.", "--licence", "CC BY 4.0"]
        assert shell(cli.main, *words, *more, "--budget_tokens", "100") == 0
        assert "The budget is used up" in shell.out
        assert shell(cli.main, *words, *more) == 0
        assert "licence of the answers: CC BY 4.0" in shell.out
        assert f"minimind data check {out} --stage sft" in shell.out
    assert "secret" not in "".join(path.read_text("utf-8") for path in out.parent.iterdir())
    assert shell(cli.main, "data", "distill", str(prompts.path), "--out", str(out), "--teacher", "nowhere#m") == 1
    assert "--teacher 'nowhere#m' is no address, which is written URL#MODEL" in shell.err
    assert shell(cli.main, *words, "--temperature", "-1") == 2
    assert "'-1' is not a number of at least 0" in shell.err
    assert shell(cli.main, "--lang", "zh", *words, *more) == 0
    assert "回答的许可：CC BY 4.0" in shell.out
