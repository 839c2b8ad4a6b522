"""How often a model is right: what is counted, the curriculum, and that it goes on where it was ended."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi import Response
from fastapi.responses import JSONResponse

from data.check import CheckLimits, check_file
from data.prompts import Prompt, Prompts, read_questions
from jobs import __main__ as cli
from jobs import paths
from jobs.endpoints import endpoint
from jobs.evaluation.evaluate import LocalExaminee
from jobs.evaluation.rewards import score_file
from jobs.runs.references import find_weights
from jobs.synthesis import passrate, samples
from jobs.synthesis.passrate import measure
from jobs.synthesis.samples import Sampling
from minimind.checkpoints.manifest import CheckpointError
from minimind.evaluation.asking import Reply
from minimind.evaluation.checkers import Answer
from minimind.evaluation.statistics import pass_at
from minimind.network.model import MiniMind
from minimind.rewards.judging import Rewards
from minimind.rewards.terms import Attempt, Judge, Unjudged
from minimind.text.tokenizer import Tokenizer
from tests import endpoints, taught
from tests.shell import Shell
from tests.small import Screen

SAMPLING = Sampling(samples=4, temperature=1.0, max_tokens=40)

# Answers of the model that is stood in for, by the question -> whether each of four is right.
KNOWN = {"easy": "1111", "fair": "1110", "even": "1010", "hard": "0001", "never": "0000"}


@pytest.fixture(scope="module")
def known() -> tuple[MiniMind, Tokenizer]:
    return taught.taught()


@pytest.fixture
def model(home: Path, known: tuple[MiniMind, Tokenizer]) -> LocalExaminee:
    taught.write_run(paths.runs(), "taught", *known)
    return LocalExaminee.load(find_weights("taught"))


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Prompts:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return read_questions(path)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1]]


def ready(model: LocalExaminee, prompts: Sequence[Any], sampling: Sampling, progress: Any) -> list[list[Reply]]:
    """Answers as KNOWN has them, of 3 tokens, the second of each cut off."""
    return [
        [
            Reply("yes" if right == "1" else "It is no.", "", (), "length" if at == 1 else "stop", 3, -1.0, 0.1)
            for at, right in enumerate(KNOWN[prompt.question])
        ]
        for prompt in prompts
    ]


ASKED = [{"prompt": name, "answer": "yes", "id": at} for at, name in enumerate(reversed(KNOWN))]


def test_what_is_counted(model: LocalExaminee, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "_asked", ready)
    monkeypatch.setattr(passrate, "SHOWN", 2)
    prompts, out = write(tmp_path / "rows.jsonl", ASKED), tmp_path / "out.jsonl"
    record = measure(model, prompts, out, SAMPLING, ["exact"], Screen(), folder=tmp_path)
    rights = [each.count("1") for each in KNOWN.values()]
    for k in (1, 2, 4):
        expected = sum(pass_at(4, right, k) for right in rights) / 5
        assert record["pass_at"][str(k)]["value"] == pytest.approx(expected)
    assert record["pass_at"].keys() == {"1", "2", "4"}
    assert record["pass_at"]["1"]["low"] < 0.5 < record["pass_at"]["1"]["high"]
    assert record["signal"] == {"signal": 3, "all_right": 1, "all_wrong": 1, "equal": 0}
    assert record["left_out"] == {"all_wrong": 1, "all_right": 1}
    assert (record["answer_tokens"], record["cut_off"], record["not_judged"]) == (3.0, 0.25, 0)
    assert record["reward_mean"] == record["holds"] == pytest.approx(sum(rights) / 20)
    assert [(one["question"], one["right"], one["sample"]) for one in record["hardest"]] == [
        ("never", 0, "It is no."),
        ("hard", 1, "It is no."),
    ]
    assert [(one["question"], one["right"], one["sample"]) for one in record["easiest"]] == [
        ("easy", 4, "yes"),
        ("fair", 3, "yes"),
    ]
    assert rows(out) == [
        {"prompt": "fair", "answer": "yes", "id": 3, "pass_rate": 0.75},
        {"prompt": "even", "answer": "yes", "id": 2, "pass_rate": 0.5},
        {"prompt": "hard", "answer": "yes", "id": 1, "pass_rate": 0.25},
    ]
    report = check_file(out, "rl")
    report.refuse_above(CheckLimits())
    assert report.ignored_fields == {"id": 3, "pass_rate": 3}
    again = write(out, rows(out))
    assert [prompt.row for prompt in again.each] == rows(out)


def test_the_first_term_says_what_is_right_and_all_of_them_what_has_signal(
    model: LocalExaminee, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def longer(model: LocalExaminee, prompts: Sequence[Any], sampling: Sampling, progress: Any) -> list[list[Reply]]:
        return [
            [Reply("yes, it is" if at else "no", "", (), "stop", 2 + at, -1.0, 0.1) for at in range(4)] for _ in prompts
        ]

    monkeypatch.setattr(samples, "_asked", longer)
    prompts = write(tmp_path / "rows.jsonl", ASKED[:1])
    reward = ["exact", '{"is": "contains", "weight": 0.5}']
    record = measure(model, prompts, None, SAMPLING, reward, Screen(), folder=tmp_path)
    assert (record["pass_at"]["1"]["value"], record["signal"]["signal"]) == (0.0, 1)
    assert record["reward_mean"] == pytest.approx(0.5 * 3 / 4)
    record = measure(model, prompts, None, SAMPLING, ["exact"], Screen(), folder=tmp_path)
    assert (record["signal"]["all_wrong"], record["holds"]) == (1, 0.75)
    with pytest.raises(ValueError, match="repetition is 0 at most, .*: name another term first"):
        measure(model, prompts, None, SAMPLING, ["repetition", "exact"], Screen(), folder=tmp_path)


def test_prompts_that_begin_alike(model: LocalExaminee, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(model: LocalExaminee, prompts: Sequence[Any], sampling: Sampling, progress: Any) -> list[list[Reply]]:
        return [
            [
                Reply(text, "", (), "stop", 3, -1.0, 0.1)
                for text in ("7", "7", "7", "x" if "7" in prompt.question else "7")
            ]
            for prompt in prompts
        ]

    monkeypatch.setattr(samples, "_asked", asked)
    many = [{"prompt": f"What is {number} and more?", "answer": "7"} for number in range(5, 10)]
    zh = [{"prompt": f"请问{number}是几？", "answer": "7"} for number in range(10, 16)]
    record = measure(
        model,
        write(tmp_path / "rows.jsonl", [*many, *zh, ASKED[0]]),
        None,
        SAMPLING,
        ["exact"],
        Screen(),
        folder=tmp_path,
    )
    assert record["groups"] == [
        {"begins": "请问", "prompts": 6, "pass_rate": 1.0, "signal": 0},
        {"begins": "What is", "prompts": 5, "pass_rate": 0.95, "signal": 1},
    ]


def test_it_goes_on_where_it_was_killed(model: LocalExaminee, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [
        {"prompt": taught.CAPITAL, "answer": "Paris."},
        {"prompt": taught.CAPITAL_ZH, "answer": "巴黎。"},
        {"prompt": taught.COUNT, "answer": "20"},
        {"prompt": "long " * 2000, "answer": "x"},
    ]
    prompts, sampling = write(tmp_path / "rows.jsonl", asked), Sampling(6, 1.5, 40)
    out, whole = tmp_path / "out.jsonl", tmp_path / "whole.jsonl"
    finished = measure(model, prompts, whole, sampling, ["exact"], Screen(), folder=tmp_path)
    assert finished["left_out"]["unaskable"] == 1
    assert finished["measured"] == 3
    monkeypatch.setattr(samples, "REQUESTS_AT_ONCE", 1)
    original, judged = passrate._entry_of, 0

    def entry_of(*parts: Any, **more: Any) -> Any:
        nonlocal judged
        judged += 1
        if judged == 2:
            raise KeyboardInterrupt
        return original(*parts, **more)

    monkeypatch.setattr(passrate, "_entry_of", entry_of)
    with pytest.raises(KeyboardInterrupt):
        measure(model, prompts, out, sampling, ["exact"], Screen(), folder=tmp_path)
    assert json.loads((tmp_path / "out.jsonl.json").read_text("utf-8"))["finished"] is False
    record = measure(model, prompts, out, sampling, ["exact"], Screen(), folder=tmp_path)
    assert judged == 4
    assert {**record, "asked": 0} == {**finished, "asked": 0}
    assert out.read_bytes() == whole.read_bytes()
    assert measure(model, prompts, out, sampling, ["exact"], Screen(), folder=tmp_path) == record
    assert judged == 4
    with pytest.raises(ValueError, match=r'was begun with reward = \["exact"\], and this is \["number"\]'):
        measure(model, prompts, out, sampling, ["number"], Screen(), folder=tmp_path)


def test_an_answer_that_no_term_could_judge_is_none_that_is_wrong(
    model: LocalExaminee, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "_asked", ready)
    readable = {"prompt": "even", "answer": "3"}
    prompts = write(tmp_path / "rows.jsonl", [*ASKED[:2], readable])
    record = measure(model, prompts, None, SAMPLING, ["number"], Screen(), folder=tmp_path)
    assert (record["measured"], record["left_out"]) == (1, {"not_judged": 2, "all_wrong": 1})
    assert record["pass_at"]["1"]["value"] == 0
    assert record["prompts_left_out"][0]["detail"].endswith("the right answer 'yes' has no number")


@pytest.mark.parametrize(("judged", "right"), [("111?", 3), ("0??0", 0), ("1111", 4)])
def test_an_answer_that_could_not_be_judged_is_not_known_to_be_right(judged: str, right: int) -> None:
    attempts = [Attempt(Answer("yes", "stop", (), "even", ""), "yes", 1, 1)] * len(judged)
    scores = [Unjudged("away") if score == "?" else float(score) for score in judged]
    with Rewards([Judge(url="http://127.0.0.1:1/v1", model="m")], scorers={"judge": lambda _: scores}) as rewards:
        entry = passrate._entry_of(Prompt("rows.jsonl:1", (), "yes"), attempts, rewards)
    assert (entry["right"], entry["not_judged"]) == (right, judged.count("?"))


@pytest.mark.parametrize(
    ("reward", "row", "complaint"),
    [
        ("exakt", ASKED[0], "no reward term 'exakt'"),
        ("{", ASKED[0], "not JSON"),
        ("reward_model", ASKED[0], "--reward reward_model: name the model too, with --reward_model RUN"),
        ("exact", {"messages": [{"role": "user", "content": "q"}]}, r"rows.jsonl:1: the reward exact compares"),
    ],
)
def test_what_cannot_be_judged_is_said_before_anything_is_sampled(
    model: LocalExaminee, tmp_path: Path, reward: str, row: dict[str, Any], complaint: str
) -> None:
    prompts = write(tmp_path / "rows.jsonl", [row])
    with pytest.raises(ValueError, match=complaint):
        measure(model, prompts, tmp_path / "out.jsonl", SAMPLING, [reward], Screen(), folder=tmp_path)
    assert [path.name for path in tmp_path.glob("out*")] == []


def test_the_command(
    home: Path, tmp_path: Path, known: tuple[MiniMind, Tokenizer], capsys: pytest.CaptureFixture[str]
) -> None:
    taught.write_run(paths.runs(), "taught", *known)
    file, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    asked = [{"prompt": taught.CAPITAL, "answer": "Paris"}, {"prompt": taught.CAPITAL_ZH, "answer": "巴黎"}]
    write(file, [*asked, asked[0]])
    shell = Shell(capsys)
    words = ["data", "passrate", str(file), "--weight", "taught", "--temperature", "0.1", "--samples", "4"]
    assert shell(cli.main, *words, "--reward", "exact", "-o", str(out)) == 1
    for said in (
        "2 prompts",
        "1 rows ask what another asks",
        "4 answers to each of 2 prompts, at most 64 tokens, temperature 0.1; right by exact",
        "pass@4",
        "signal: 0 of 2 prompts (0%)",
        "0 always right, 2 never right",
        "No prompt of 2 has signal",
        "Never right, 2 prompts: too hard. More SFT comes first",
        "In 100% of the answers the right one stands all the same: --reward contains",
        f"{out}: 0 rows",
    ):
        assert said in shell.out, said
    assert "minimind train" not in shell.out
    assert shell(cli.main, *words) == 0
    assert shell(cli.main, *words, "--reward", "contains") == 0
    assert "Always right, 2 prompts: too easy" in shell.out
    more = tmp_path / "more.jsonl"
    twice = '{"is": "contains", "weight": 2}'
    hot = [*words[:5], "--temperature", "1.5", "--samples", "16", "--reward", twice, "-o", str(more)]
    assert shell(cli.main, *hot) == 0
    command = f"train grpo --from_weight taught@10 --data_path {more} --epochs 600 --set 'stage.rewards=[{twice}]'"
    assert command in shell.out
    assert rows(more)
    assert shell(cli.main, *hot, "--json") == 0
    record = json.loads(shell.out)
    assert (record["rows"], record["finished"]) == (len(rows(more)), True)
    assert shell(cli.main, *words, "--samples", "1") == 1
    assert "it takes two samples or more that can differ" in shell.err
    assert shell(cli.main, *words, "--reward", "nosuch") == 1
    assert "no reward term 'nosuch'" in shell.err


REWARD = '{"is": "reward_model", "weight": 0.5}'


def test_a_reward_model_says_of_answers_what_it_says_of_rows(
    model: LocalExaminee, known: tuple[MiniMind, Tokenizer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught.write_run(paths.runs(), "judge", taught.judge(known[0]), known[1])
    judge = find_weights("judge")
    asked = [{"prompt": taught.CAPITAL, "answer": "Paris"}, {"prompt": taught.CAPITAL_ZH, "answer": "巴黎"}]
    texts = ["Paris", "I see.", "巴黎", ""]

    def written(model: LocalExaminee, prompts: Sequence[Any], sampling: Sampling, progress: Any) -> list[list[Reply]]:
        return [[Reply(text, "", (), "stop", 3, -1.0, 0.1) for text in texts] for _ in prompts]

    monkeypatch.setattr(samples, "_asked", written)
    prompts, out = write(tmp_path / "rows.jsonl", asked), tmp_path / "out.jsonl"
    reward = ["exact", REWARD]
    record = measure(model, prompts, out, SAMPLING, reward, Screen(), folder=tmp_path, reward_model=judge)
    lines = [
        {"conversations": [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": text}]}
        for row in asked
        for text in texts
    ]
    write(file := tmp_path / "scored.jsonl", lines)
    scores = [one.scores[0] for one in score_file(judge, file, "sft")]
    right = [float(text == row["answer"]) for row in asked for text in texts]
    assert record["reward_mean"] == pytest.approx(sum(right) / 8 + 0.5 * sum(scores) / 8, rel=1e-4, abs=1e-5)
    assert (record["not_judged"], record["signal"]["signal"]) == (0, 2)
    assert record["asked"]["reward_model"]["name"] == judge.name
    other = Tokenizer.train(["other words altogether"] * 9, vocab_size=300)
    config = taught.CONFIG.model_copy(update={"vocab_size": 300})
    taught.write_run(paths.runs(), "foreign", taught.judge(MiniMind(config)), other)
    for name, error, complaint in (
        ("foreign", ValueError, "--reward_model foreign@10 was made with another tokenizer"),
        ("taught", CheckpointError, "writes text and gives no scores"),
    ):
        wrong = find_weights(name)
        with pytest.raises(error, match=complaint):
            measure(model, prompts, None, SAMPLING, reward, Screen(), folder=tmp_path, reward_model=wrong)
    with pytest.raises(ValueError, match="--reward_model judge@10: no term of --reward is its score"):
        measure(model, prompts, None, SAMPLING, ["exact"], Screen(), folder=tmp_path, reward_model=judge)


def test_a_judge_is_asked_and_one_that_is_away_ends_it_with_what_is_done_kept(
    model: LocalExaminee, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "_asked", ready)
    monkeypatch.setattr(endpoint, "WAIT_S", 0.01)
    prompts, out = write(tmp_path / "rows.jsonl", ASKED), tmp_path / "out.jsonl"
    away = False

    def answer(body: dict[str, Any]) -> Response:
        text = body["messages"][0]["content"].partition("Answer:\n")[2]
        return JSONResponse({"error": "no"}, 500) if away else endpoints.said("10" if text.startswith("yes") else "0")

    with endpoints.served(answer) as url:
        reward = [json.dumps({"is": "judge", "url": url, "model": "m"})]
        usual = measure(model, prompts, out, SAMPLING, ["exact"], Screen(), folder=tmp_path)
        judged = measure(model, prompts, tmp_path / "judged.jsonl", SAMPLING, reward, Screen(), folder=tmp_path)
        for name in ("pass_at", "signal", "reward_mean", "not_judged"):
            assert judged[name] == usual[name]
        away = True
        with pytest.raises(ValueError, match="no answer to this prompt and the 2 before it .* HTTP 500"):
            measure(model, prompts, tmp_path / "away.jsonl", SAMPLING, reward, Screen(), folder=tmp_path)
        away = False
        again = measure(model, prompts, tmp_path / "away.jsonl", SAMPLING, reward, Screen(), folder=tmp_path)
    assert (again["finished"], again["measured"], again["left_out"]["not_judged"]) == (True, 3, 2)


def test_the_command_takes_a_reward_model_and_names_it_for_the_training(
    home: Path, tmp_path: Path, known: tuple[MiniMind, Tokenizer], capsys: pytest.CaptureFixture[str]
) -> None:
    taught.write_run(paths.runs(), "taught", *known)
    taught.write_run(paths.runs(), "judge", taught.judge(known[0]), known[1])
    file, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    write(file, [{"prompt": taught.CAPITAL, "answer": "Paris"}])
    shell = Shell(capsys)
    words = ["data", "passrate", str(file), "--weight", "taught", "--temperature", "1.5", "--samples", "16"]
    words += ["--reward", "contains", REWARD]
    assert shell(cli.main, *words) == 1
    assert "name the model too, with --reward_model RUN" in shell.err
    assert shell(cli.main, *words, "--reward_model", "judge", "-o", str(out)) == 0
    assert shell.out.rstrip().endswith("--reward_model judge@10")
