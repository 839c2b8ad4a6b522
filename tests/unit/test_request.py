"""What is asked for, on its way from a command line to the process that does the work."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from jobs import __main__ as cli
from jobs import paths
from jobs.cluster import follow
from jobs.runs import references
from jobs.runs.directory import RunDirectory
from jobs.stages.origin import new_spec
from jobs.stages.table import STAGES
from jobs.text.tokenizer import TokenizerSpec
from jobs.training.request import JobRequest, SweepOptions
from tests import taught
from tests.shell import Shell
from tests.small import CHATS, SETTINGS, small_flags, write_rows

TRAIN = ["train", "pretrain", "--model", "tiny", "--workers", "1"]


@pytest.fixture
def shell(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(home)
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    write_rows(home / "text.jsonl", [f"text {number}" for number in range(40)])
    return Shell(capsys)


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What would have been submitted, without a cluster."""
    seen: list[dict[str, Any]] = []

    def submit(name: str, argv: list[str], words: str, **how: Any) -> int:
        seen.append({"name": name, "argv": argv, "words": words, **how})
        return 0

    monkeypatch.setattr(follow, "submit_training", submit)
    return seen


def request_in(job: dict[str, Any]) -> JobRequest:
    verb, text = job["argv"]
    assert verb == "job"
    return JobRequest.model_validate_json(text)


def test_a_job_is_handed_one_value_with_jsons_types(shell: Shell, home: Path, submitted: list[dict[str, Any]]) -> None:
    flags = ["--data_path", "text.jsonl", "--batch_size", "2", "--use_compile", "1", "--learning_rate", "1e-3"]
    assert shell(cli.minimind, *TRAIN, *flags, "--set", 'eval.prompts=["a b"]', "--overwrite", "1") == 0
    (job,) = submitted
    request = request_in(job)
    assert request == JobRequest(
        stage="pretrain",
        settings={
            "data.path": str(home / "text.jsonl"),
            "loop.batch_size": 2,
            "loop.compile": True,
            "optim.learning_rate": 0.001,
            "scaling.workers": 1,
            "eval.prompts": ["a b"],
        },
        model="tiny",
        overwrite=True,
    )
    assert (job["name"], job["kind"]) == ("pretrain", "run")
    # For people: the same as flags, which ask for the same again.
    assert "--batch_size 2" in job["words"]
    assert shell(cli.minimind, *shlex.split(job["words"])) == 0
    assert request_in(submitted[1]) == request


def test_what_both_ways_ask_for_is_one_run(shell: Shell) -> None:
    settings = SETTINGS | {"loop.max_steps": 1}
    assert shell(cli.main, "train", "pretrain", *small_flags(loop__max_steps=1)) == 0
    run = RunDirectory.find(paths.runs(), "small")
    spec = run.spec()
    request = JobRequest(stage="pretrain", settings=settings, model="tiny", overwrite=True)
    assert shell(cli.main, "job", request.model_dump_json()) == 0
    assert run.spec() == spec
    assert "minimind train pretrain --model tiny --overwrite 1 --name small" in run.events_path.read_text("utf-8")


def test_a_sweep_and_a_tokenizer_go_the_same_way(shell: Shell, home: Path, submitted: list[dict[str, Any]]) -> None:
    (home / "space.json").write_text('{"optim.learning_rate": {"low": 1e-4, "high": 1e-2}}')
    sweep = ["sweep", "pretrain", "--data_path", "text.jsonl", "--trials", "3", "--space", "space.json"]
    assert shell(cli.minimind, *sweep) == 0
    request = request_in(submitted[-1])
    assert request.sweep == SweepOptions(space=str(home / "space.json"), trials=3)
    assert (request.name, submitted[-1]["kind"]) == ("pretrain-space", "sweep")
    assert submitted[-1]["words"].startswith(f"sweep pretrain --space {home}/space.json --trials 3 --data_path ")
    assert shell(cli.minimind, "train", "tokenizer", "--data_path", "text.jsonl", "--vocab_size", "300") == 0
    request = request_in(submitted[-1])
    assert request.settings == {"path": str(home / "text.jsonl"), "vocab_size": 300}
    assert submitted[-1]["words"] == f"train tokenizer --data_path {home}/text.jsonl --vocab_size 300"
    assert shell(cli.main, *submitted[-1]["argv"]) == 0
    assert RunDirectory.find(paths.runs(), "tokenizer").spec()["vocab_size"] == 300


def test_what_is_no_request_is_refused(shell: Shell) -> None:
    for text, said in (("{", "Invalid JSON"), ('{"stag": "sft"}', "stag = 'sft': there is no such setting")):
        assert shell(cli.main, "job", text) == 1
        assert said in shell.err


def test_a_resolved_request_changes_the_spec_in_the_same_way(home: Path) -> None:
    asked = JobRequest(
        stage="pretrain", settings={"loop.epochs": "3", "init_from": "null", "data.limits.max_bad_rows": "2"}
    )
    spec = new_spec("pretrain", asked.settings)
    resolved = asked.resolved(spec)
    assert resolved.settings == {"loop.epochs": 3, "init_from": None, "data.limits.max_bad_rows": 2}
    assert new_spec("pretrain", json.loads(resolved.model_dump_json())["settings"]) == spec


def test_a_run_is_called_as_its_stage_unless_it_is_named() -> None:
    for name, stage in STAGES.items():
        assert JobRequest(stage=name).name == stage.preset("tiny").name
    assert JobRequest(stage="tokenizer").name == TokenizerSpec().name
    assert JobRequest(stage="sft", settings={"name": "mine"}).name == "mine"
    assert JobRequest(stage="sft", sweep=SweepOptions(space="/a/b.json")).name == "sft-b"
    assert JobRequest(stage="sft", sweep=SweepOptions(space="/a/我的.json")).name == "sft-sweep"  # no run may be 我的


def test_weights_are_looked_up_once(shell: Shell, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shell(cli.main, "train", "pretrain", *small_flags(loop__max_steps=1)) == 0
    seen: list[str] = []
    found = references._run_and_step

    def look(text: str) -> tuple[RunDirectory, int]:
        seen.append(text)
        return found(text)

    monkeypatch.setattr(references, "_run_and_step", look)
    given = ["--from_weight", "small", "--data_path", str(CHATS), "--max_seq_len", "96", "--max_steps", "1"]
    given += ["--set", "eval.suites=[]"]
    assert shell(cli.main, "train", "sft", "--workers", "0", *given) == 0
    assert seen == ["small"]
    assert RunDirectory.find(paths.runs(), "sft").spec()["init_from"] == "small@1"


OWN = '[{"is": "python", "function": "my_rewards:score"}]'


def test_a_job_looks_for_a_users_functions_where_it_was_called(
    shell: Shell, home: Path, submitted: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught.write_run(home / "runs", "small", *taught.taught(steps=0))
    questions = ["--data_path", str(CHATS.with_name("rl.jsonl")), "--workers", "1"]
    train = ["train", "grpo", "--from_weight", "small", "--max_seq_len", "96", *questions]
    here = tmp_path / "here"
    for folder in (here, here / "mine"):
        folder.mkdir()
        (folder / "my_rewards.py").write_text("def score(answers): pass\n")
    monkeypatch.chdir(here)

    def asked(*more: str) -> dict[str, Any]:
        assert shell(cli.minimind, *train, *more) == 0, shell.err
        return dict(request_in(submitted[-1]).settings)

    assert asked("--set", f"stage.rewards={OWN}")["stage.code_path"] == str(here)
    named = asked("--set", f"stage.rewards={OWN}", "--set", "stage.code_path=mine")
    assert named["stage.code_path"] == str(here / "mine")
    assert "stage.code_path" not in asked("--set", 'stage.rewards=[{"is": "exact"}]')
    truth = '{"is": "python", "function": "my_rewards:score"}'
    assert asked("--set", f"stage.truth={truth}")["stage.code_path"] == str(here)
    assert "stage.code_path" not in asked()
    # A run that goes on keeps its folder unless another is named; one of `python -m jobs` counts from MINIMIND_HOME.
    settings = {"stage.rewards": OWN}
    assert JobRequest(stage="grpo", settings=settings).anchored(home).settings["stage.code_path"] == str(home)
    resumed = JobRequest(stage="grpo", settings=settings, from_resume=True).anchored(here)
    assert "stage.code_path" not in resumed.settings


def test_a_job_gets_the_key_of_a_judge_and_no_other_does(
    shell: Shell, home: Path, submitted: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIMIND_API_KEY", "sk-1234567890")
    taught.write_run(home / "runs", "small", *taught.taught(steps=0))
    train = ["train", "grpo", "--from_weight", "small", "--max_seq_len", "96", "--workers", "1"]
    train += ["--data_path", str(CHATS.with_name("rl.jsonl"))]
    assert shell(cli.minimind, *train) == 0, shell.err
    terms = '[{"is": "exact"}, {"is": "judge", "url": "http://127.0.0.1:1/v1", "model": "m"}]'
    assert shell(cli.minimind, *train, "--set", f"stage.rewards={terms}") == 0, shell.err
    without, judged = submitted
    assert without["variables"] is None
    assert judged["variables"].keys() == {"MINIMIND_API_KEY", "MINIMIND_API_KEY_FILE"}
    assert "sk-1234567890" not in repr(judged)
    assert Path(judged["variables"]["MINIMIND_API_KEY_FILE"]).read_text() == "sk-1234567890"
