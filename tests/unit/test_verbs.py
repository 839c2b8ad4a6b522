"""What the verbs say and do beside training: names, sweeps, old words, and what is seen before a job is submitted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from rich.cells import cell_len

from data.prepare import content_sha256
from data.schema import STAGE_ROWS
from jobs import __main__ as cli
from jobs import paths
from jobs.cluster import local as cluster
from jobs.cluster import submit
from jobs.cluster.submit import Job
from jobs.runs.directory import RunDirectory
from jobs.stages import old_names
from jobs.stages.old_names import FLAGS_ELSEWHERE, NOT_YET, ROWS_OF, STAGES_CALLED
from jobs.stages.table import STAGES
from minimind.events import EventLog
from minimind.language import speaking
from tests.shell import Shell
from tests.small import SETTINGS, kill_at, small_flags, small_spec, write_chats, write_rows

TRAIN = ["train", "pretrain"]
SWEEP_TEXT = ["sweep", "pretrain", "--data_path", "text.jsonl"]
SWEEP = {
    "name": "swept",
    "run": {"stage": {"kind": "pretrain"}},
    "space": {"loop.batch_size": {"choices": [1, 2]}},
    "objective": "tokens_per_s",
    "budget_s": 5.0,
    "trials": 4,
}
TRIAL = {"trial": 1, "settings": {"loop.batch_size": 2}, "outcome": "measured", "tokens_per_s": 900.0}


@pytest.fixture
def shell(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    return Shell(capsys)


@pytest.fixture
def swept(home: Path) -> RunDirectory:
    """A sweep with one trial that has ended, and one that has begun."""
    folder = RunDirectory(paths.sweeps() / "swept", "sweep")
    folder.create(SWEEP)
    with folder.hold(), EventLog(folder.events_path) as log:
        log.state("RUNNING", step=0, total_steps=4, environment={})
        log.note("trial", "one", **TRIAL, bits_per_byte=3.0)
        log.note("trial_started", "two", trial=2, settings={"loop.batch_size": 1})
        log.state("STOPPED")
    return folder


def test_minimind_alone_says_what_there_is_and_what_next(shell: Shell, home: Path) -> None:
    assert shell(cli.minimind) == 0
    assert "no runs yet in" in shell.out
    assert "minimind demo" in shell.out
    RunDirectory(paths.runs() / "mine").create(small_spec(name="mine").model_dump(mode="json"))
    assert shell(cli.minimind) == 0
    assert "newest: mine  pretrain  PENDING" in shell.out
    assert "minimind train sft --from_weight RUN" in shell.out
    assert "minimind chat" not in shell.out


@pytest.mark.parametrize("name", STAGES_CALLED)
def test_upstreams_names_of_stages_are_understood_and_said(shell: Shell, name: str) -> None:
    stage = STAGES_CALLED[name]
    assert shell(cli.minimind, "train", name, "--vocab" if stage == "tokenizer" else "--batchsize", "1") == 2
    assert f"The stage {name} is called {stage} here." in shell.err
    assert f"minimind train {stage} --help" in shell.err
    assert shell(cli.minimind, f"{name}.py", "--nosuch", "1") == 2
    assert f"minimind train {stage} --help" in shell.err


def test_data_takes_upstreams_names_of_stages(shell: Shell, home: Path) -> None:
    assert shell(cli.minimind, "data", "example", "full_sft") == 0
    assert '"conversations"' in shell.out
    assert "The stage full_sft is called sft here." in shell.err
    assert shell(cli.minimind, "data", "check", "full_sft", "--stage", "full_sft") == 1
    assert f"{Path.cwd()}/full_sft: no such file" in shell.err


def test_what_is_missing_on_a_command_line_is_named_with_what_there_is(shell: Shell) -> None:
    assert shell(cli.minimind, "train") == 2
    assert f"are required: STAGE; there are tokenizer, {', '.join(STAGES)}\n" in shell.err
    assert shell(cli.minimind, "data") == 2
    assert "are required: VERB; there are fetch, check, example, show, distill, pairs, passrate\n" in shell.err
    assert shell(cli.minimind, "resume") == 2
    assert "are required: run\n" in shell.err


def test_what_is_not_there_yet_is_said(shell: Shell) -> None:
    for name, stage in NOT_YET.items():
        for words in (["train", name], ["train", f"train_{name}"], [f"train_{name}"], ["plan", name]):
            assert shell(cli.minimind, *words) == 1
            assert f"{name} is not there yet, it comes." in shell.err
            assert f"The stages there are: tokenizer, {', '.join(STAGES)}" in shell.err
            assert (f"It will be called {stage}." in shell.err) == (stage != name)
    assert shell(cli.minimind, "train", "nosuch") == 2
    assert "'nosuch'" in shell.err


def test_the_stages_that_old_names_lead_to_are_those_there_are() -> None:
    assert ("tokenizer", *STAGES) == old_names.STAGES
    assert not set(NOT_YET.values()) & set(STAGES)


def test_upstreams_way_to_talk_is_understood_and_said(shell: Shell) -> None:
    for script in ("eval_llm.py", "eval_model"):
        assert shell(cli.minimind, script, "--weight", "full_sft") == 1
        assert f"{script} is called `chat` here." in shell.err
        assert "--weight full_sft is `minimind chat sft` here." in shell.err
        assert "no run 'sft'" in shell.err


def test_a_wrong_command_line_gets_the_line_that_matters_and_no_usage(shell: Shell) -> None:
    for flag, words in FLAGS_ELSEWHERE.items():
        assert shell(cli.minimind, *TRAIN, f"--{flag}", "1") == 2
        assert f"--{flag}: no such flag; {words}" in shell.err
        assert "usage:" not in shell.err
        assert len(shell.err.splitlines()) <= 4
    assert shell(cli.minimind, *TRAIN, "--model", "60M") == 2
    assert "'60M' is no size, hidden x layers: the nearest is 64m; there are tiny (160x4), 30m (512x8)" in shell.err
    assert shell(cli.minimind, *TRAIN, "--model", "0.1b") == 2
    assert "the nearest is 123m" in shell.err


def test_resume_has_help_with_a_name_and_without(shell: Shell) -> None:
    for words in (["resume", "--help"], ["resume", "nosuch", "--help"]):
        assert shell(cli.minimind, *words) == 0
        assert shell.out.startswith("usage: minimind resume")
        assert "--detach" in shell.out


@pytest.mark.slow
def test_a_run_that_was_trained_here_is_continued_here(shell: Shell) -> None:
    assert shell(cli.main, *TRAIN, *small_flags(loop__max_steps=2)) == 0
    run = RunDirectory.find(paths.runs(), "small")
    kill_at(run, 0)
    assert shell(cli.minimind, "resume", "small") == 0
    assert run.state().word == "SUCCEEDED"
    assert not cluster.state_path().exists()


def test_a_resume_is_looked_at_before_it_is_submitted(shell: Shell, home: Path) -> None:
    RunDirectory(paths.runs() / "mine").create(small_spec(name="mine", scaling__workers=1).model_dump(mode="json"))
    for words, said in (
        (["--learning_rate", "1"], "a resumed run keeps its settings"),
        (["--batch_size", "3"], "Choose numbers whose product is 8"),
    ):
        assert shell(cli.minimind, "resume", "mine", *words) == 1
        assert said in shell.err
    with RunDirectory(paths.runs() / "mine").hold():
        assert shell(cli.minimind, "resume", "mine") == 1
        assert "is running already" in shell.err
    assert shell(cli.minimind, *TRAIN, "--name", "nosuch", "--from_resume", "1") == 1
    assert "no run 'nosuch'" in shell.err
    assert not cluster.state_path().exists()


@pytest.mark.slow
def test_the_spec_of_a_run_makes_another_one(shell: Shell, home: Path) -> None:
    (home / "rows.jsonl").write_bytes(Path(SETTINGS["data.path"]).read_bytes())
    flags = small_flags(loop__max_steps=1, data__path=str(home / "rows.jsonl"))
    assert shell(cli.main, *TRAIN, *flags) == 0
    spec = RunDirectory.find(paths.runs(), "small").spec()
    assert spec["data"]["path"] == "./rows.jsonl"
    file = str(paths.runs() / "small" / "spec.json")
    for main, name in ((cli.main, "again"), (cli.minimind, "here")):
        assert shell(main, *TRAIN, "--spec", file, "--name", name) == 0
        assert RunDirectory.find(paths.runs(), name).spec() == {**spec, "name": name}
    assert shell(cli.minimind, "train", "lora", "--spec", file, "--name", "other") == 1
    assert "stage.kind = 'pretrain': a stage is chosen by its name" in shell.err


def test_the_spec_of_a_sweep_names_what_to_take(shell: Shell, swept: RunDirectory) -> None:
    assert shell(cli.minimind, *TRAIN, "--spec", str(swept.spec_path)) == 1
    assert "is that of a sweep; the settings of its best trial are in best.json beside it" in shell.err


def test_what_a_job_would_end_with_is_said_before_it_is_submitted(
    shell: Shell, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    write_rows(home / "text.jsonl", ["a text"])
    write_chats(home / "chats.jsonl", [("q", "a")])
    (home / "gbk.jsonl").write_bytes('{"text": "床前明月光"}\n'.encode("gbk"))
    (home / "text.jsonl.json").write_text("two\nlines", "utf-8")
    (home / "empty").mkdir()
    (home / "rlaif.jsonl").write_text((home / "chats.jsonl").read_text())
    for words, said in (
        ([*TRAIN, "--data_path", "none.jsonl"], f"not found: {home}/none.jsonl"),
        ([*TRAIN, "--data_path", "empty"], f"{home}/empty: no file in this folder can be read"),
        ([*TRAIN, "--data_path", str(home)], f"train sft --from_weight RUN --data_path {home}/chats.jsonl)"),
        ([*TRAIN, "--data_path", "chats.jsonl"], f"train sft --from_weight RUN --data_path {home}/chats.jsonl)"),
        (["train", "sft", "--from_weight", "none", "--data_path", "rlaif.jsonl"], "MiniMind's file of questions"),
        ([*TRAIN, "--data_path", "gbk.jsonl"], f"{home}/gbk.jsonl:1: not UTF-8"),
        ([*TRAIN, "--data_path", "text.jsonl", "--set", "eval.path=gone.jsonl"], f"not found: {home}/gone.jsonl"),
        ([*TRAIN, "--data_path", "text.jsonl", "--tokenizer", "nosuch"], "no run 'nosuch'"),
        (["train", "tokenizer", "--data_path", "none.jsonl"], f"not found: {home}/none.jsonl"),
        (["sweep", "pretrain", "--data_path", "none.jsonl"], f"not found: {home}/none.jsonl"),
        ([*SWEEP_TEXT, "--space", "nosuch"], "space 'nosuch': there are batch, rate, rank, size, or your own"),
        ([*SWEEP_TEXT, "--space", "gone.json"], f"space not found: {home}/gone.json"),
        ([*SWEEP_TEXT, "--space", "text.jsonl.json"], "cannot be read: "),
        ([*SWEEP_TEXT, "--workers", "0"], "--workers 0: a sweep needs Ray Tune"),
        (["sweep", "pretrain", "--set", "loop.max_steps=3"], "--max_steps (loop.max_steps): a sweep decides this"),
        (["sweep", "pretrain", "--set", "loop.keep_last=3"], "loop.keep_last: a sweep decides this"),
    ):
        assert shell(cli.minimind, *words) == 1
        assert said in shell.err
        assert len(shell.err.splitlines()) <= 4
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:1")  # files may lie there, spaces do not
    assert shell(cli.minimind, *SWEEP_TEXT, "--space", "nosuch") == 1
    assert "space 'nosuch': there are" in shell.err
    assert not cluster.state_path().exists()


def test_a_sweep_has_no_flags_for_what_it_decides(shell: Shell) -> None:
    assert shell(cli.minimind, "sweep", "pretrain", "--help") == 0
    for flag in ("--max_steps", "--epochs", "--log_interval", "--save_interval", "--eval_interval"):
        assert f"{flag} " not in shell.out
    assert "trials that run at the same time" in shell.out
    assert shell(cli.minimind, "sweep", "pretrain", "--epochs", "2") == 2


def test_sweeps_are_listed_and_shown_by_their_names(shell: Shell, swept: RunDirectory) -> None:
    assert shell(cli.minimind, "runs") == 0
    assert "swept" in shell.out
    assert "STOPPED" in shell.out
    assert "1/4" in shell.out
    assert "900 tokens/s" in shell.out
    assert shell(cli.minimind, "show", "swept") == 0
    for text in ("1 / 4", "tokens_per_s", "batch_size", "begun: trial 2: batch_size=1"):
        assert text in shell.out
    assert shell(cli.minimind, "show", "swep") == 1
    assert "swept" in shell.err


def test_a_sweep_is_stopped_by_its_name(shell: Shell, swept: RunDirectory) -> None:
    assert shell(cli.minimind, "stop", "swept") == 1
    assert "the sweep 'swept' is not running, it is STOPPED" in shell.err
    with RunDirectory(swept.path).hold():
        assert shell(cli.minimind, "stop", "swept") == 0
        assert swept.stop_requested()
        assert "swept begins no more trials" in shell.out


def test_a_sweep_is_continued_by_its_name(shell: Shell, swept: RunDirectory) -> None:
    assert shell(cli.main, "resume", "swept", "--model", "tiny") == 1
    assert "--model tiny: a continued sweep keeps its model" in shell.err
    assert shell(cli.minimind, "sweep", "pretrain", "--name", "nosuch", "--from_resume", "1") == 1
    assert "no sweep 'nosuch'" in shell.err
    with RunDirectory(swept.path, "sweep").hold():
        assert shell(cli.minimind, "resume", "swept") == 1
        assert "the sweep 'swept' is running already" in shell.err


def test_a_run_may_not_have_the_name_of_a_sweep(shell: Shell, swept: RunDirectory, home: Path) -> None:
    assert shell(cli.main, *TRAIN, *small_flags(name="swept")) == 1
    assert "there is a sweep of the name 'swept'" in shell.err


def test_attach_shows_a_run_whose_job_the_cluster_has_forgotten(shell: Shell, home: Path) -> None:
    run = RunDirectory(paths.runs() / "done")
    run.create(small_spec(name="done").model_dump(mode="json"))
    assert shell(cli.minimind, "attach", "done") == 0
    assert "No job of 'done' is on the cluster" in shell.out
    assert "done   pretrain   PENDING" in shell.out
    assert shell(cli.minimind, "attach", "nosuch") == 1


def test_a_run_whose_worker_is_being_restarted_is_stopped_cleanly(
    shell: Shell, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDirectory(paths.runs() / "mine")
    run.create(small_spec(name="mine").model_dump(mode="json"))
    ended: list[str] = []

    def stop(name: str) -> str:
        ended.append(name)
        return "STOPPED"

    job = Job("mine-1", "mine", "run", "RUNNING", "", started_s=100.0, ended_s=None)
    monkeypatch.setattr("jobs.cluster.local.find", object)
    monkeypatch.setattr(submit, "jobs", lambda: [job])
    monkeypatch.setattr(submit, "stop", stop)
    with EventLog(run.events_path, lambda: 50.0) as log:
        log.state("RUNNING", step=0, total_steps=9)  # of an earlier job: this one has not begun
    assert shell(cli.minimind, "stop", "mine") == 0
    assert "mine has begun no training; its job mine-1 is STOPPED." in shell.out
    assert not run.stop_requested()
    with EventLog(run.events_path, lambda: 200.0) as log:
        log.state("RUNNING", step=0, total_steps=9)
    ended.clear()
    assert shell(cli.minimind, "stop", "mine") == 0
    assert "mine stops as soon as its workers are back" in shell.out
    assert run.stop_requested()
    assert ended == []
    assert shell(cli.minimind, "stop", "mine") == 0
    assert ended == ["mine-1"]


SCRIPT = Path(sys.executable).with_name("minimind")


@pytest.mark.skipif(not SCRIPT.exists(), reason="this environment has no script `minimind`: pip install -e .")
@pytest.mark.slow
def test_folders_on_the_path_do_not_come_before_the_programs_own(home: Path, tmp_path: Path) -> None:
    for package in ("jobs", "data", "minimind"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    (tmp_path / "data" / "check.py").write_text("raise SystemExit('another data.check')")
    variables = os.environ | {"PYTHONPATH": f"{tmp_path}", "MINIMIND_HOME": str(home)}
    line = [str(SCRIPT), "data", "check", "none.jsonl"]
    done = subprocess.run(line, env=variables, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, f"error: {tmp_path}/none.jsonl: no such file\n")


def test_what_json_says_of_a_sweep_is_read_back(swept: RunDirectory) -> None:
    content = json.loads(swept.spec_path.read_text())
    assert content["created"]["id"] == swept.identity
    assert swept.spec() == SWEEP
    assert swept.stage == "pretrain"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trian", "pretrain"], "near: train"),
        (["train", "Pretrian"], "near: pretrain"),
        (["train", "full_sfd"], "near: sft"),
        (["data\u3000check", "my.jsonl"], "an ordinary space"),
        ([*TRAIN, "\u3000--data_path", "my.jsonl"], "an ordinary space"),
        ([*TRAIN, "\u2014\u2014data_path", "my.jsonl"], "an ordinary dash"),
        ([*TRAIN, "\uff0d\uff0ddata_path", "my.jsonl"], "an ordinary dash"),
    ],
)
def test_a_slip_of_the_keyboard_is_told_by_its_name(shell: Shell, words: list[str], said: str) -> None:
    assert shell(cli.minimind, *words) == 2
    assert said in shell.err
    assert "--data_path: no such flag" not in shell.err


def test_to_attach_to_nothing_names_the_runs_there_are_before_the_cluster(shell: Shell) -> None:
    RunDirectory(paths.runs() / "mine").create({"name": "mine", "stage": {"kind": "pretrain"}})
    assert shell(cli.minimind, "attach", "mien") == 1
    assert "no run 'mien'" in shell.err
    assert "runs there: mine" in shell.err
    assert "No Ray cluster is running here" in shell.err
    RunDirectory(paths.sweeps() / "swept", "sweep").create(SWEEP)
    assert shell(cli.minimind, "attach", "swept") == 0
    assert "No job of 'swept' is on the cluster" in shell.out
    assert "swept   pretrain" in shell.out


def test_a_home_that_is_a_file_is_said_to_be_one(shell: Shell, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "a file").write_text("")
    monkeypatch.setenv("MINIMIND_HOME", str(home / "a file"))
    for words in ([], ["runs"], ["show", "x"]):
        assert shell(cli.minimind, *words) == 1
        assert "a file; set it to a folder" in shell.err
    assert shell(cli.minimind, "--help") == 0


def test_a_batch_beyond_all_sense_is_refused_in_words(shell: Shell) -> None:
    assert shell(cli.minimind, "plan", "pretrain", "--batch_size", "999999999999") == 1
    assert "--batch_size (loop.batch_size) = '999999999999': Input should be less than or equal to" in shell.err


@pytest.mark.parametrize("content", ["a\nb\n", "a"])
def test_a_short_text_file_is_one_text_which_no_run_takes(shell: Shell, home: Path, content: str) -> None:
    (home / "lines.txt").write_text(content)
    assert shell(cli.main, "data", "check", "lines.txt") == 1
    assert "one text alone" in shell.out
    assert "A text is cut into several from 1,000 characters on" in shell.out
    (home / "lines.txt").write_text(f"{'a' * 1000}\n\nb\n")
    assert shell(cli.main, "data", "check", "lines.txt") == 0


def test_the_doctor_reads_a_file_as_what_it_is_and_says_what_comes_next(shell: Shell, home: Path) -> None:
    path = write_chats(home / "my chats.jsonl", [(f"q{number}", "a") for number in range(50)])
    assert shell(cli.main, "data", "check", path.name) == 0
    assert f"{path} as sft" in shell.out
    assert "user: q0; assistant: a" in shell.out
    assert f"Next: minimind train sft --from_weight RUN --data_path '{path}'" in shell.out
    assert shell(cli.main, "data", "check", path.name, "--stage", "pretrain") == 1
    assert shell.out.count("this is conversation data: use --stage sft") == 1
    assert f"(minimind train sft --from_weight RUN --data_path '{path}')" in shell.out
    assert "allow them" not in shell.out
    assert shell(cli.main, "data", "show", path.name) == 0
    assert "q0" in shell.out
    (home / "book.txt").write_text("第一章\n")
    assert shell(cli.main, "data", "show", "book.txt") == 0
    assert "第一章" in shell.out


@pytest.mark.parametrize("stage", [*STAGE_ROWS, *ROWS_OF])
def test_the_examples_of_a_stage_are_a_file_that_the_doctor_finds_good(shell: Shell, home: Path, stage: str) -> None:
    assert shell(cli.minimind, "data", "example", stage) == 0
    assert shell.err == ""
    (home / "rows.jsonl").write_text(shell.out, "utf-8")
    assert shell(cli.main, "data", "check", "rows.jsonl") == 0
    assert f"as {ROWS_OF.get(stage, stage)}" in shell.out
    learner = {"rl": "grpo"}.get(ROWS_OF.get(stage, stage), ROWS_OF.get(stage, stage))
    assert f"Next: minimind train {learner} " in shell.out


def test_a_folder_of_notes_is_trained_on_and_it_is_said_how_it_was_read(shell: Shell, home: Path) -> None:
    (home / "notes").mkdir()
    for number in range(30):
        (home / "notes" / f"{number:02}.md").write_text(f"# Note {number}\n\nIt says {number}.\n")
    flags = small_flags(data__path="notes", model__vocab_size=300, loop__max_steps=1)
    assert shell(cli.main, *TRAIN, *flags) == 0
    assert "Checked notes: 30 rows (30 files, passages of text), nothing wrong." in shell.out
    assert shell(cli.main, *TRAIN, *flags, "--overwrite", "1") == 0
    assert "notes: 30 files, passages of text; looked at before." in shell.out
    run = RunDirectory.find(paths.runs(), "small")
    assert run.sources["data.path"] == content_sha256(home / "notes")
    (home / "notes" / "31.md").write_text("another")
    assert run.sources["data.path"] != content_sha256(home / "notes")


def finished(name: str, **settings: object) -> RunDirectory:
    """A run that has come to its end."""
    run = RunDirectory(paths.runs() / name)
    run.create(small_spec(name=name, **settings).model_dump(mode="json"))
    with run.hold(), EventLog(run.events_path, lambda: 100.0) as log:
        log.state("RUNNING", step=0, total_steps=4)
        log.metrics(4, {"train/loss": 2.5, "val/bits_per_byte": float("nan")})
        log.state("SUCCEEDED")
    return run


def test_programs_get_one_json_object(shell: Shell, swept: RunDirectory) -> None:
    finished("mine")
    assert shell(cli.minimind, "runs", "--json") == 0
    content = json.loads(shell.out)
    assert [run["name"] for run in content["runs"]] == ["mine"]
    assert content["runs"][0] | {"updated": 0} == {
        "name": "mine",
        "stage": "pretrain",
        "state": "SUCCEEDED",
        "reason": "",
        "step": 4,
        "total_steps": 4,
        "loss": 2.5,
        "bits_per_byte": None,
        "tokens_per_s": None,
        "peak_memory_bytes": None,
        "updated": 0,
    }
    (sweep,) = content["sweeps"]
    assert (sweep["name"], sweep["trials_done"], sweep["trials"], sweep["best"]) == ("swept", 1, 4, 900.0)
    assert shell(cli.minimind, "show", "mine", "--json", "1") == 0
    content = json.loads(shell.out)
    assert content["settings"] == small_spec(name="mine").model_dump(mode="json")
    assert content["metrics"]["train/loss"] == {"step": 4, "last": 2.5, "unit": "nats/token"}
    assert content["checkpoints"] == content["samples"] == []
    assert shell(cli.minimind, "show", "swept", "--json") == 0
    content = json.loads(shell.out)
    assert content["space"] == SWEEP["space"]
    assert content["results"] == [TRIAL | {"bits_per_byte": 3.0}]
    keys = (paths.checkout() / "docs" / "json.md").read_text("utf-8")
    assert not [key for key in content if f"`{key}`" not in keys]
    assert shell(cli.minimind, "plan", "pretrain", "--model", "tiny", "--vram", "2GB", "--json") == 0
    content = json.loads(shell.out)
    assert not [key for key in content if f"`{key}`" not in keys]
    assert content["plan"]["verdict"] == "fits"
    assert shell(cli.minimind, "sweep", "pretrain", "--json", "--detach") == 1
    assert "give one of them" in shell.err


def test_the_log_of_a_run_without_a_job_is_what_it_has_written(shell: Shell) -> None:
    finished("mine")
    assert shell(cli.minimind, "logs", "mine") == 0
    assert "No job of 'mine' is on the cluster." in shell.out
    assert "step 4/4 100.0%  loss 2.500" in shell.out
    assert shell(cli.minimind, "logs", "mine", "--lines", "1") == 0
    assert "SUCCEEDED" in shell.out
    assert "loss" not in shell.out
    assert shell(cli.minimind, "logs", "nosuch") == 1
    assert "no run 'nosuch'" in shell.err


def test_a_run_is_removed_if_nobody_needs_it(shell: Shell, swept: RunDirectory) -> None:
    base, child = finished("base"), finished("child", init_from="base@4")
    assert shell(cli.minimind, "rm", "base", "--yes") == 1
    assert "child began with what is in base" in shell.err
    assert base.exists
    with child.hold():
        assert shell(cli.minimind, "rm", "child", "--yes") == 1
        assert "is running already" in shell.err
    assert shell(cli.minimind, "rm", "child") == 1  # nobody is there to be asked
    assert "To remove it without being asked: minimind rm child --yes" in shell.out
    assert shell(cli.minimind, "rm", "child", "--yes", "1") == 0
    assert "Removed child" in shell.out
    assert shell(cli.minimind, "rm", "base", "--yes") == 0
    assert not list(paths.runs().iterdir())
    assert shell(cli.minimind, "rm", "swept", "--yes") == 0
    assert not swept.exists
    assert shell(cli.minimind, "rm", "base") == 1
    assert "no run 'base'" in shell.err


@pytest.mark.parametrize("words", [["runs"], ["runs", "--lang", "yy"]])
def test_a_language_that_there_is_not_is_refused_in_words(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setenv("MINIMIND_LANG", "xx")
    assert shell(cli.minimind, *words) == 1
    assert shell.err.startswith("error: ")
    assert "en, zh" in shell.err


def test_what_a_role_or_a_sweep_began_with_is_needed(shell: Shell, home: Path) -> None:
    finished("teacher"), finished("base")
    student = RunDirectory(paths.runs() / "student")
    student.create(small_spec().model_dump(mode="json") | {"name": "student", "roles": {"teacher": "teacher@4"}})
    folder = RunDirectory(paths.sweeps() / "swept", "sweep")
    folder.create(SWEEP | {"run": {"stage": {"kind": "sft"}, "init_from": "base@4"}})
    for name, other in (("teacher", "student"), ("base", "swept")):
        assert shell(cli.minimind, "rm", name, "--yes") == 1
        assert f"{other} began with what is in {name}" in shell.err


def test_a_run_that_lies_elsewhere_is_removed_there(shell: Shell, home: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "larger disk"
    elsewhere.mkdir()
    paths.runs().mkdir(parents=True)
    (paths.runs() / "mine").symlink_to(elsewhere)
    finished("mine")
    assert shell(cli.minimind, "rm", "mine", "--yes") == 0
    assert not elsewhere.exists()
    assert not list(paths.runs().iterdir())


def test_a_damaged_sweep_hides_no_other_from_programs(shell: Shell, swept: RunDirectory) -> None:
    damaged = RunDirectory(paths.sweeps() / "damaged", "sweep")
    damaged.create(SWEEP)
    damaged.spec_path.write_text("{")
    assert shell(cli.minimind, "runs", "--json") == 0
    found = {row["name"]: row for row in json.loads(shell.out)["sweeps"]}
    assert "cannot be read" in found["damaged"]["reason"]
    assert found["swept"]["trials_done"] == 1
    assert found["damaged"].keys() == found["swept"].keys()


def test_stop_waits_where_it_is_asked_to(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    run = finished("mine")
    with ExitStack() as training:
        training.enter_context(run.hold())

        def ends(_: float) -> None:
            training.close()

        monkeypatch.setattr("jobs.commands.stop.sleep", ends)
        assert shell(cli.minimind, "stop", "mine", "--wait") == 0
    assert "mine stops at its next step" in shell.out
    assert "mine has stopped. Go on: minimind resume mine" in shell.out


def test_it_speaks_the_readers_language(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIMIND_LANG", "en")  # and after the test as it was
    assert shell(cli.minimind, "--lang", "zh", "train", "pretrain", "--batchsize", "1") == 2
    assert shell.err.startswith("错误： 无法识别的参数：--batchsize 1")
    assert "--batchsize：没有这个参数；相近的有：--batch_size" in shell.err
    assert shell(cli.minimind, "train", "--lang=en", "nosuch") == 2
    assert "invalid choice: 'nosuch'" in shell.err
    assert shell(cli.minimind, "runs", "--lang", "fr") == 1
    assert "--lang fr: en, zh" in shell.err


@pytest.mark.parametrize("columns", [60, 80, 110])
@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize(
    "words",
    [
        [],
        ["train", "lora"],
        ["sweep", "sft"],
        ["plan", "pretrain"],
        ["serve"],
        ["resume"],
        ["reward", "score"],
        ["data", "check"],
        ["data", "show"],
        ["data", "passrate"],
    ],
)
def test_help_fits_the_terminal_and_breaks_no_word(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, columns: int, lang: str, words: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    with speaking(lang):
        assert shell(cli.minimind, *words, "--help") == 0
        narrow = shell.out
        monkeypatch.setenv("COLUMNS", "110")
        assert shell(cli.minimind, *words, "--help") == 0
    # A flag or a path that is longer than the line stands alone on it.
    assert [line for line in narrow.splitlines() if cell_len(line) > columns and len(line.split()) > 1] == []
    if lang == "en":
        assert narrow.split() == shell.out.split()


def test_version_is_that_of_the_checkout(shell: Shell) -> None:
    assert shell(cli.minimind, "--version") == 0
    assert shell.out == "minimind-jobs 0.1.0\n"
