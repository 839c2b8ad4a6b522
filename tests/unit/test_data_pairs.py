"""Pairs of a model's own samples: what is better than what, what is left out, and that the same comes out again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from data.check import CheckLimits, check_file
from data.prompts import Prompt, Prompts, read_prompts
from jobs import __main__ as cli
from jobs import paths
from jobs.evaluation.evaluate import LocalExaminee
from jobs.evaluation.rewards import score_file
from jobs.runs.references import find_weights
from jobs.synthesis import samples
from jobs.synthesis.pairs import entry_of, make_pairs
from jobs.synthesis.ranking import Rank, by_checks, by_reward
from jobs.synthesis.rows import turn_of
from jobs.synthesis.samples import Sampling
from minimind.checkpoints.manifest import CheckpointError
from minimind.evaluation.asking import Reply
from minimind.network.model import MiniMind
from minimind.network.score import ScoreModel
from minimind.text.tokenizer import Tokenizer
from tests import taught
from tests.shell import Shell
from tests.small import Screen

SAMPLING = Sampling(samples=6, temperature=1.5, max_tokens=40)
ASKED: list[dict[str, Any]] = [
    {"prompt": taught.CAPITAL, "answer": "Paris"},
    {"prompt": taught.CAPITAL_ZH, "answer": "巴黎"},
    {"prompt": taught.COUNT, "answer": "20"},
    {"prompt": taught.PRIME, "answer": "no such answer"},
]


@pytest.fixture(scope="module")
def known() -> tuple[MiniMind, Tokenizer]:
    return taught.taught()


@pytest.fixture
def model(home: Path, known: tuple[MiniMind, Tokenizer]) -> LocalExaminee:
    taught.write_run(paths.runs(), "taught", *known)
    return LocalExaminee.load(find_weights("taught"))


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Prompts:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return read_prompts(path)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1]]


def said(text: str, finish: str = "stop", thinking: str = "") -> Reply:
    return Reply(text, thinking, (), finish, 3, -1.0, 0.1)


QUESTION = Prompt("p.jsonl:1", ({"role": "user", "content": "How many?"},), "42")


def by_length(prompt: Prompt, replies: Sequence[Reply]) -> list[float]:
    return [float(len(reply.text)) for reply in replies]


def test_the_best_goes_against_the_worst() -> None:
    answers = [
        said("two"),
        said("a"),
        said("longest", thinking="Hm."),
        said("b"),
        said("also..."),
        said("x" * 99, "length"),
    ]
    entry = entry_of(QUESTION, answers, by_length)
    best = {"role": "assistant", "content": "longest", "reasoning_content": "Hm."}
    worst = {"role": "assistant", "content": "a"}
    assert entry == {
        "row": {"chosen": [*QUESTION.turns, best], "rejected": [*QUESTION.turns, worst]},
        "best": best,
        "cut_off": 1,
    }


@pytest.mark.parametrize(
    ("answers", "why", "has_best"),
    [
        ([said("It is 42."), said("42!")], "all_right", True),
        ([said("It is 41."), said("420"), said("42" * 50, "length")], "all_wrong", False),
        ([said("It is 42."), said(""), said("42", "length")], "too_few", False),
        ([said("<|im_end|> 42"), said("41")], "too_few", False),
        ([], "too_few", False),
    ],
)
def test_where_no_sample_is_better_there_is_no_pair(answers: list[Reply], why: str, has_best: bool) -> None:
    entry = entry_of(QUESTION, answers, by_checks(["contains"], [QUESTION]))
    assert (entry["why"], "best" in entry, "row" in entry) == (why, has_best, False)


def test_equally_good_is_not_all_right() -> None:
    assert entry_of(QUESTION, [said("ab"), said("cd")], by_length)["why"] == "equal"
    assert entry_of(QUESTION, [said("ab"), said("ab")], lambda prompt, replies: [0.1, 0.2])["why"] == "equal"


def score(by: Sequence[str], text: str, prompt: Prompt = QUESTION) -> float:
    return by_checks(by, [prompt])(prompt, [said(text)])[0]


def test_checks_by_the_right_answer() -> None:
    assert [score(["contains"], text) for text in ("It is 42.", "142", "forty-two")] == [1, 0, 0]
    assert [score(["exact"], text) for text in (" 42\n", "It is 42")] == [1, 0]
    assert [score(["number"], text) for text in ("forty-two", "first 42, then 7", "四十二")] == [1, 0, 1]
    assert score(["number", '{"is": "language", "language": "zh"}'], "答案是 42") == 1
    assert score(["number", '{"is": "language", "language": "zh"}'], "It is 42") == 0.5


@pytest.mark.parametrize(
    ("by", "answer", "complaint"),
    [
        ("nosuch", "42", "--by nosuch: allowed are contains, exact, number, .* or a check as suites have it"),
        ('{"is": "nosuch"}', "42", "--by .*no checker 'nosuch'"),
        ("{broken", "42", "--by {broken: "),
        ("contains", None, "p.jsonl:1: --by contains needs the right answer beside the prompt"),
        ("number", "Ottawa", "p.jsonl:1: --by number needs the right answer, a number, beside the prompt"),
    ],
)
def test_what_cannot_be_checked_is_said_before_anything_is_sampled(by: str, answer: str | None, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        by_checks([by], [Prompt("p.jsonl:1", QUESTION.turns, answer)])


def test_the_same_command_makes_the_same_files(model: LocalExaminee, tmp_path: Path) -> None:
    prompts = write(tmp_path / "prompts.jsonl", ASKED)
    rank = by_checks(["contains"], prompts.each)
    found = {}
    for name in ("a", "b"):
        out, best_of = tmp_path / f"{name}.jsonl", tmp_path / f"{name}.best.jsonl"
        record = make_pairs(model, prompts, out, SAMPLING, rank, Screen(), by=["contains"], best_of=best_of)
        found[name] = out.read_bytes(), best_of.read_bytes(), record["left_out"]
        assert {path.name for path in tmp_path.glob(f"{name}.*")} == {out.name, f"{out.name}.json", best_of.name}
    assert found["a"] == found["b"]
    assert record["left_out"].keys() >= {"all_wrong"}
    made = rows(out)
    assert made
    for row in made:
        right = next(one["answer"] for one in ASKED if one["prompt"] == row["chosen"][0]["content"])
        assert right in row["chosen"][1]["content"]
        assert right not in row["rejected"][1]["content"]
    check_file(out, "dpo").refuse_above(CheckLimits())
    check_file(best_of, "sft").refuse_above(CheckLimits())
    assert len(rows(best_of)) == record["best_rows"] == len(ASKED) - record["left_out"]["all_wrong"]
    other = tmp_path / "c.jsonl"
    make_pairs(model, prompts, other, Sampling(6, 1.5, 40, seed=1), rank, Screen(), by=["contains"])
    assert other.read_bytes() != out.read_bytes()


def test_it_goes_on_where_it_was_killed(model: LocalExaminee, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = write(tmp_path / "prompts.jsonl", ASKED)
    out = tmp_path / "pairs.jsonl"
    whole = tmp_path / "whole.jsonl"
    ranked: list[str] = []

    def rank(prompt: Prompt, replies: Sequence[Reply]) -> list[float]:
        ranked.append(prompt.question)
        if len(ranked) == 3:
            raise KeyboardInterrupt
        return by_length(prompt, replies)

    make_pairs(model, prompts, whole, SAMPLING, by_length, Screen(), by=["length"])
    monkeypatch.setattr(samples, "REQUESTS_AT_ONCE", 1)
    with pytest.raises(KeyboardInterrupt):
        make_pairs(model, prompts, out, SAMPLING, rank, Screen(), by=["length"])
    assert (tmp_path / "pairs.jsonl.part").read_bytes().count(b"\n") == 2
    make_pairs(model, prompts, out, SAMPLING, rank, Screen(), by=["length"])
    assert ranked == [one["prompt"] for one in (ASKED[0], ASKED[1], ASKED[2], ASKED[2], ASKED[3])]
    assert out.read_bytes() == whole.read_bytes()
    with pytest.raises(ValueError, match="was begun with seed = 0, and this is 5"):
        make_pairs(model, prompts, out, Sampling(6, 1.5, 40, seed=5), rank, Screen(), by=["length"])


def test_a_prompt_that_is_too_long_is_left_out_alone(model: LocalExaminee, tmp_path: Path) -> None:
    long = {"prompt": "long " * 2000, "answer": "x"}
    prompts = write(tmp_path / "prompts.jsonl", [ASKED[0], long, ASKED[1]])
    rank: Rank = by_length
    record = make_pairs(model, prompts, tmp_path / "pairs.jsonl", SAMPLING, rank, Screen(), by=["length"])
    assert record["left_out"]["unaskable"] == 1
    (left_out,) = [one for one in record["prompts_left_out"] if one["why"] == "unaskable"]
    assert left_out["where"] == f"{tmp_path}/prompts.jsonl:2"
    assert "leaves no room for an answer" in left_out["detail"]
    assert record["rows"] + sum(record["left_out"].values()) == 3


def test_a_reward_model_judges_as_it_scores_files(
    home: Path, tmp_path: Path, known: tuple[MiniMind, Tokenizer]
) -> None:
    taught.write_run(paths.runs(), "taught", *known)
    judge = ScoreModel.of(known[0])
    with torch.no_grad():
        judge.score.weight.normal_(generator=torch.Generator().manual_seed(1))
    taught.write_run(paths.runs(), "judge", judge, known[1])
    weights = find_weights("judge")
    answers = [said("42"), said("It is 41."), said("Ten.", thinking="Let me count.")]
    found = by_reward(weights)(QUESTION, answers)
    file = tmp_path / "answers.jsonl"
    write(file, [{"conversations": [*QUESTION.turns, turn_of(answer)]} for answer in answers])
    assert found == pytest.approx([one.scores[0] for one in score_file(weights, file, "sft")])
    assert len(set(found)) == 3
    with pytest.raises(CheckpointError, match="writes text and gives no scores"):
        by_reward(find_weights("taught"))


def test_the_command(
    home: Path, tmp_path: Path, known: tuple[MiniMind, Tokenizer], capsys: pytest.CaptureFixture[str]
) -> None:
    run = taught.write_run(paths.runs(), "taught", *known)
    prompts = write(tmp_path / "prompts.jsonl", [*ASKED, ASKED[0]])
    out, best_of = tmp_path / "pairs.jsonl", tmp_path / "best.jsonl"
    shell = Shell(capsys)
    words = ["data", "pairs", "taught", str(prompts.path), "--out", str(out), "--best_of", str(best_of)]
    more = ["--samples", "4", "--temperature", "0.1", "--max_tokens", "60"]
    assert shell(cli.main, *words, *more) == 0
    assert "4 prompts" in shell.out
    assert "1 rows ask what another asks" in shell.out
    assert f"left out: 3, all samples are right: {prompts.path}:1, {prompts.path}:2, {prompts.path}:3" in shell.out
    assert f"left out: 1, all samples are wrong: {prompts.path}:4" in shell.out
    assert "Most prompts are too easy for this model" in shell.out
    assert f"{best_of}: 3 rows, the best sample of each" in shell.out
    assert shell(cli.main, *words, *more, "--by", "number") == 1
    assert "prompts.jsonl:1: --by number needs the right answer, a number" in shell.err
    assert shell(cli.main, *words, "--reward", "taught", *more) == 1
    assert "writes text and gives no scores" in shell.err
    assert shell(cli.main, *words, "--temperature", "0") == 1
    assert "it takes two samples or more that can differ" in shell.err
    assert shell(cli.main, *words[:-1], str(out)) == 1
    assert "--best_of" in shell.err
    assert shell(cli.main, *words[:5], str(tmp_path / "new.jsonl"), *words[6:], *more) == 1
    assert f"{best_of} is there already" in shell.err
    assert not (tmp_path / "new.jsonl.json").exists()
    spec = json.loads(run.spec_path.read_text("utf-8")) | {"stage": {"kind": "pretrain"}}
    run.spec_path.write_text(json.dumps(spec), "utf-8")
    assert shell(cli.main, *words) == 1
    assert "taught@10 has not learnt to answer yet: SFT comes first" in shell.err
