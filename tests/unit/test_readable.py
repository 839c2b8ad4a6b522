"""What is wrong with a reward is found before a run: right answers that it cannot read, code that is not there."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from data.prompts import read_questions
from jobs import paths
from jobs.commands.train import look_before
from jobs.evaluation.evaluate import LocalExaminee
from jobs.runs.directory import RunDirectory
from jobs.runs.references import find_weights
from jobs.stages.table import STAGES
from jobs.synthesis.passrate import measure
from jobs.synthesis.samples import Sampling
from jobs.text.prepare import prepare
from jobs.training.build import build, corpus_of
from jobs.training.request import JobRequest
from jobs.training.run import resolve, start
from minimind.device.distributed import Parallel
from minimind.evaluation.checkers import Answer
from minimind.rewards.readable import MOST_ASKED, require_readable, spread
from minimind.rewards.terms import Attempt, parse_term
from tests import taught
from tests.small import Screen, small_spec

NUMBER: dict[str, Any] = {"is": "number"}


def right(*texts: str) -> list[Attempt]:
    return [Attempt(Answer(text, "stop", (), f"q{at}"), text, 1, 1) for at, text in enumerate(texts)]


def warned(term: dict[str, Any], *texts: str) -> str:
    return require_readable(parse_term(term), term["is"], right(*texts), "rows.jsonl")


def test_a_term_that_can_read_no_right_answer_is_refused_with_what_to_do() -> None:
    said = (
        r"rows.jsonl: the reward number, .* can read none of the right answers, of which 2 were looked at: .*"
        r"To 'q0' the right answer is 'Paris': the right answer 'Paris' has no number. Name another term first, "
        r"such as contains, exact, or rows"
    )
    with pytest.raises(ValueError, match=said):
        warned(NUMBER, "Paris", "Rome")
    with pytest.raises(ValueError, match="'': the row has no right answer to compare with"):
        warned({"is": "contains"}, "", "")


def test_a_part_that_cannot_be_read_is_a_warning_from_one_in_ten_on() -> None:
    nine = [str(at) for at in range(9)]
    assert warned(NUMBER, *nine, "Paris") == ""
    said = warned(NUMBER, *nine, "Paris", "Rome")
    assert "by the reward number, which says what is right, 2 of 11 right answers" in said
    assert "To 'q9' the right answer is 'Paris': the right answer 'Paris' has no number." in said


@pytest.mark.parametrize(
    "term",
    [
        {"is": "exact"},
        {"is": "contains", "tag": "answer"},
        {"is": "match", "pattern": "<b>.*</b>|P"},
        {"is": "match", "pattern": "Paris", "tag": "answer"},
        {"is": "format"},
        {"is": "stopped"},
        {"is": "length", "least": 9},
        {"is": "python", "function": "a:b"},
        {"is": "judge", "url": "http://a", "model": "m", "question": "{answer} {reference}"},
    ],
)
def test_what_reads_right_answers_or_looks_elsewhere_is_no_matter(term: dict[str, Any]) -> None:
    assert warned(term, "Paris", "Rome") == ""


def test_what_compares_with_no_right_answer_may_want_something_else_and_is_only_warned_of() -> None:
    assert "calls all 2 wrong that were looked at, such as 'Paris' to 'q0'" in warned(
        {"is": "match", "pattern": "[0-9]"}, "Paris", "Rome"
    )
    assert warned({"is": "check", "check": {"is": "contains", "any": ["x"]}}, "Paris")


def test_of_many_rows_some_from_all_over_are_asked_about() -> None:
    assert list(spread(3)) == [0, 1, 2]
    assert list(spread(0)) == []
    many = spread(10 * MOST_ASKED + 1)
    assert len(many) <= MOST_ASKED
    assert many[-1] > 9 * MOST_ASKED


def write(path: Path, answers: Sequence[str]) -> Path:
    rows = [{"prompt": f"What is {at} of {path.name}?", "answer": answer} for at, answer in enumerate(answers)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def test_a_run_whose_reward_can_read_nothing_is_refused_before_it_has_a_folder(home: Path, tmp_path: Path) -> None:
    start(small_spec(loop__max_steps=1), Screen())
    usual: dict[str, Any] = {"init_from": "small", "loop__batch_size": 4, "stage__max_new_tokens": 4}
    usual |= {"loop__max_steps": 1, "stage__gate": "off", "stage__rewards": '[{"is": "number"}]'}
    truth = {"stage__rewards": '[{"is": "stopped"}]', "stage__truth": '{"is": "number"}'}
    words, mixed = (
        write(tmp_path / "w.jsonl", ["Paris", "Rome"] * 9),
        write(tmp_path / "m.jsonl", ["7", "8", "Paris"] * 9),
    )
    for own in ({}, truth):
        with pytest.raises(ValueError, match=r"w.jsonl: the reward number.* can read none of the right answers"):
            start(small_spec("grpo", name="none", data__path=str(words), **{**usual, **own}), Screen())
    assert not (home / "runs" / "none").exists()
    with pytest.raises(ValueError, match=r"w.jsonl: the reward number"):
        start(small_spec("grpo", name="out", data__path=str(mixed), eval__path=str(words), **usual), Screen())
    screen = Screen()
    run = start(small_spec("spo", name="some", data__path=str(mixed), eval__fraction=0.4, **usual), screen)
    assert run.state().word == "SUCCEEDED", run.state()
    assert "m.jsonl: by the reward number, which says what is right," in " ".join(screen.text.split())


def test_of_few_prompts_more_are_held_out_and_it_is_said_how_many(home: Path, tmp_path: Path) -> None:
    start(small_spec(loop__max_steps=1), Screen())
    rows = write(tmp_path / "rows.jsonl", [f"word{at}" for at in range(60)])
    usual: dict[str, Any] = {"init_from": "small", "data__path": str(rows), "eval__max_documents": 500}

    def held(**settings: Any) -> tuple[int, int]:
        spec, _ = resolve(small_spec("grpo", name="few", **usual, **settings), None, Screen())
        screen = Screen()
        prepared = prepare(spec, screen)
        data = STAGES["grpo"].data(spec, corpus_of(prepared), {}, Parallel())
        said = re.search(r"Prompts: (\d+) to learn from, (\d+) held out", " ".join(screen.text.split()))
        assert said is not None
        assert data.held_out.rows == int(said[2])
        assert data.batches.total_steps(1) == -(-int(said[1]) // spec.loop.batch_size)
        return int(said[1]), int(said[2])

    assert held() == (40, 20)
    assert held(eval__least_documents=10) == (50, 10)
    learnt, few = held(eval__least_documents=0)
    assert (learnt + few, few < 15) == (60, True)


def test_a_pass_rate_that_would_be_0_whatever_is_answered_is_refused(home: Path, tmp_path: Path) -> None:
    taught.write_run(paths.runs(), "taught", *taught.taught())
    model = LocalExaminee.load(find_weights("taught"))
    sampling = Sampling(samples=2, temperature=1.0, max_tokens=4)

    def measured(answers: Sequence[str]) -> str:
        screen = Screen()
        prompts = read_questions(write(tmp_path / "rows.jsonl", answers))
        measure(model, prompts, None, sampling, ["number"], screen, folder=tmp_path)
        return " ".join(screen.text.split())

    with pytest.raises(ValueError, match=r"rows.jsonl: the reward number.* can read none of the right answers"):
        measured(["Paris", "Rome"])
    assert "1 of 3 right answers that were looked at are not right" in measured(["1", "Paris", "2"])


@pytest.mark.parametrize("setting", ["stage.rewards", "stage.truth"])
def test_code_that_is_not_there_is_found_when_a_run_is_asked_for(home: Path, tmp_path: Path, setting: str) -> None:
    start(small_spec(loop__max_steps=1), Screen())
    folder = tmp_path / "own"
    folder.mkdir()
    where = folder / "my_rewards.py"
    where.write_text("def score(answers):\n    open('called', 'w')\n    return [1.0] * len(answers)\n")

    def ask(function: str, **more: Any) -> None:
        term = {"is": "python", "function": function}
        own = {setting: json.dumps([term] if setting == "stage.rewards" else term), "init_from": "small", **more}
        request = JobRequest(stage="grpo", settings={"data.path": str(rows), **own})
        look_before(request.anchored(folder), RunDirectory(home / "runs" / "grpo"))

    rows = write(tmp_path / "rows.jsonl", ["Paris", "Rome"])
    ask("my_rewards:score")
    assert not list(folder.glob("called"))
    for function, said in {
        "my_rewards:scores": rf"{where} has no function 'scores' \(did you mean score\?\)",
        "my_reward:score": rf"there is no module 'my_reward' in {folder} or PYTHONPATH \(did you mean my_rewards\?\)",
    }.items():
        with pytest.raises(ValueError, match=rf"term python: function = '{function}': {said}.* stage.code_path=FOLDER"):
            ask(function)
    with pytest.raises(ValueError, match=f"stage.code_path = {tmp_path / 'nowhere'}: there is no such folder"):
        ask("my_rewards:score", **{"stage.code_path": str(tmp_path / "nowhere")})


def test_a_worker_looks_for_code_before_anything_is_written(home: Path, tmp_path: Path) -> None:
    start(small_spec(loop__max_steps=1), Screen())
    (tmp_path / "own.py").write_text("")
    own = {"stage__rewards": '[{"is": "python", "function": "own:score"}]', "stage__code_path": str(tmp_path)}
    rows = write(tmp_path / "rows.jsonl", ["Paris", "Rome"])
    spec, _ = resolve(small_spec("grpo", name="own", init_from="small", data__path=str(rows), **own), None, Screen())
    prepared = prepare(spec, Screen())
    with pytest.raises(ValueError, match=rf"{tmp_path / 'own.py'} has no function 'score'.* stage.code_path=FOLDER"):
        build(spec, prepared, Parallel())
