"""A run done again: the same bits, or in words what differs."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs import __main__ as cli
from jobs import paths
from jobs.commands import job
from jobs.experiment.facts import facts_of
from jobs.experiment.reproduce import compare, told, weights_by_step
from jobs.runs.directory import RunDirectory
from jobs.training.run import start
from minimind.events import EventLog
from minimind.language import speaking
from tests.conftest import at_home
from tests.shell import Shell
from tests.small import Screen, kill_at, small_spec, write_rows

TEXTS = [f"{word} is a word, and so are {word}s and {word}ing." for word in ("one", "two", "three", "four")] * 12
SHORT: dict[str, Any] = {"model__vocab_size": 300, "loop__max_steps": 4, "eval__sample_tokens": 2}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a run, one that began with its weights, and one with another seed."""
    folder = tmp_path_factory.mktemp("made")
    home = folder / "home"
    home.mkdir()
    with at_home(home) as patch:
        patch.setenv("MINIMIND_LANG", "en")
        data = str(write_rows(home / "data" / "words.jsonl", TEXTS))
        start(small_spec(name="mother", data__path=data, **SHORT), Screen())
        start(small_spec(name="child", data__path=data, init_from="mother@4", **SHORT), Screen())
        start(small_spec(name="other", data__path=data, seed=7, **SHORT), Screen())
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it for one test: paths below a home are relative, so it can be moved."""
    copy = tmp_path / "home"
    shutil.copytree(made, copy)
    monkeypatch.setenv("MINIMIND_HOME", str(copy))
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    return copy


@pytest.fixture
def shell(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("COLUMNS", "200")
    return Shell(capsys)


def run(name: str) -> RunDirectory:
    return RunDirectory.find(paths.runs(), name)


def test_the_same_seed_on_the_same_machine_gives_the_same_bits(shell: Shell) -> None:
    assert shell(cli.minimind, "reproduce", "child") == 0
    assert "The same bits: child and child-again have the same weights at all 2 steps" in shell.out
    again = run("child-again")
    assert weights_by_step(facts_of(again)) == weights_by_step(facts_of(run("child")))
    assert again.began_with["repeats"] == {"run": "child", "id": run("child").identity}
    assert again.began_with["weights"] == run("child").began_with["weights"] != {}
    assert again.spec() == run("child").spec() | {"name": "child-again"}
    assert facts_of(again).environment["command"] == "minimind reproduce child --name child-again"


def test_a_repetition_that_died_goes_on(shell: Shell) -> None:
    assert shell(cli.main, "reproduce", "mother", "--name", "twin") == 0
    kill_at(run("twin"), 2)
    assert shell(cli.main, "reproduce", "mother", "--name", "twin") == 0
    assert "The same bits" in shell.out
    assert [event["step"] for event in facts_of(run("twin")).attempts] == [0, 2]
    assert shell(cli.main, "reproduce", "mother", "--name", "twin") == 0  # has ended: compared once more


def test_a_repetition_that_ended_early_is_not_the_same(home: Path) -> None:
    early = replace(
        facts_of(run("child")),
        events=[event for event in facts_of(run("child")).events if event.get("step", 0) <= 2],
        run=RunDirectory(home / "runs" / "nothing"),
    )
    result = compare(facts_of(run("child")), early)
    assert not result.same
    (line,) = told(result, "child", "early")
    assert "The same bits up to step 2, but not to the end: child went on to step 4, which early has not saved." in line


def test_the_tokenizer_is_the_runs_own(shell: Shell, home: Path) -> None:
    shutil.rmtree(paths.cache())
    assert shell(cli.main, "reproduce", "mother") == 0
    assert "No --tokenizer given: training one" not in shell.out
    assert run("mother-again").began_with["tokenizer"] == run("mother").began_with["tokenizer"]


def test_runs_that_differ_are_told_apart_at_their_first_checkpoint(home: Path) -> None:
    result = compare(facts_of(run("mother")), facts_of(run("other")))
    assert not result.same
    assert (result.steps, result.first, result.environment, result.loss_from) == ((2, 4), 2, {}, 0)
    lines = "\n".join(told(result, "mother", "other"))
    assert "Nothing that was kept of the machines and the programs differs." in lines
    assert "Already the first checkpoint differs, that of step 2." in lines
    assert "train/loss at step 2: " in lines
    assert "Losses differ from step 0 on." in lines
    with speaking("zh"):
        assert "逐位不同" in told(result, "mother", "other")[0]


def test_what_differs_between_the_machines_is_named_first(home: Path) -> None:
    other = run("other")
    lines = other.events_path.read_text("utf-8").splitlines()
    event = json.loads(lines[0])
    event["environment"] |= {"torch": "1.0", "source": "another", "commit": "abc", "command": "something else"}
    other.events_path.write_text("\n".join([json.dumps(event), *lines[1:]]) + "\n", "utf-8")
    result = compare(facts_of(run("mother")), facts_of(other))
    assert result.environment.keys() == {"torch", "program"}
    assert result.environment["torch"][1] == "1.0"
    assert result.environment["program"][1] == "abc (another)"
    with other.hold(), EventLog(other.events_path) as log:
        log.note("out_of_memory", "fewer rows at once", rows_at_once=2)
    assert compare(facts_of(run("mother")), facts_of(other)).environment["out_of_memory"] == ("0", "1")
    said = told(result, "mother", "other")
    assert said[1] == "What else differs, and may be why:"
    assert said[2].startswith("  torch: ")


def test_a_later_difference_leaves_the_checkpoints_before_it_the_same(home: Path) -> None:
    again = paths.runs() / "copied"
    shutil.copytree(run("mother").path, again)
    events = again / "events.jsonl"
    last = weights_by_step(facts_of(run("mother")))[4]
    events.write_text(events.read_text("utf-8").replace(last, "0" * 64), "utf-8")
    result = compare(facts_of(run("mother")), facts_of(run("copied")))
    assert (result.first, result.loss_from) == (4, None)
    assert "of step 4; that of step 2 is still the same" in "\n".join(told(result, "mother", "copied"))


def test_steps_of_an_attempt_that_was_abandoned_are_not_compared(home: Path) -> None:
    mother = run("mother")
    with mother.hold(), EventLog(mother.events_path) as log:
        log.state("RUNNING", step=2, total_steps=4, environment={})
    shutil.rmtree(mother.checkpoints / "step_00000004")
    assert weights_by_step(facts_of(mother)).keys() == {2}


def test_a_run_from_before_events_had_the_sha256_is_compared_by_what_it_kept(home: Path) -> None:
    mother = run("mother")
    known = weights_by_step(facts_of(mother))
    mother.events_path.write_text(mother.events_path.read_text("utf-8").replace("weights_sha256", "old"), "utf-8")
    kept = weights_by_step(facts_of(mother))
    assert kept
    assert kept.items() <= known.items()


def refused(shell: Shell, name: str, *words: str, also: tuple[str, ...] = ()) -> None:
    assert shell(cli.minimind, "reproduce", name, *also) == 1
    for word in words:
        assert word in " ".join(shell.err.split())
    assert not (paths.runs() / f"{name}-again").exists()


def test_data_that_are_gone_or_changed_are_refused(shell: Shell, home: Path) -> None:
    data = home / "data" / "words.jsonl"
    write_rows(data, ["something else"])
    refused(shell, "mother", "data.path", "is not what the run 'mother' read: its sha256 is")
    data.unlink()
    refused(shell, "mother", "data.path", "is gone", run("mother").sources["data.path"])


def test_first_weights_that_are_gone_or_others_are_refused(shell: Shell, home: Path) -> None:
    spec = run("other").path
    shutil.copytree(run("mother").path, home / "kept")
    shutil.rmtree(run("mother").path)
    refused(shell, "child", "init_from = mother@4", "are gone")
    shutil.copytree(spec, paths.runs() / "mother")
    refused(shell, "child", "init_from = mother@4", "these are not the weights")


def test_what_cannot_be_repeated_is_said(shell: Shell, home: Path) -> None:
    refused(shell, "mothr", "no run 'mothr'", "mother")
    RunDirectory(paths.runs() / "begun").create(small_spec(name="begun").model_dump(mode="json"))
    refused(shell, "begun", "has not begun")
    RunDirectory(paths.runs() / "words").create({"name": "words", "stage": {"kind": "tokenizer"}})
    refused(shell, "words", "trains no model")
    spec = json.loads(run("other").spec_path.read_text("utf-8"))
    spec["loop"]["batch_size"] = 0
    run("other").spec_path.write_text(json.dumps(spec), "utf-8")
    refused(shell, "other", "is damaged", "loop.batch_size = 0")
    run("other").spec_path.write_text("{", "utf-8")
    refused(shell, "other", "cannot be read")
    refused(shell, "mother", "it is no repetition of 'mother'", also=("--name", "child"))
    shutil.rmtree(run("mother").checkpoints)
    refused(shell, "mother", "no whole checkpoint left")
    with run("child").hold():
        refused(shell, "child", "is still training")


def test_with_workers_it_becomes_a_job(shell: Shell, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = json.loads(run("mother").spec_path.read_text("utf-8"))
    spec["scaling"]["workers"] = 1
    run("mother").spec_path.write_text(json.dumps(spec), "utf-8")
    asked = []

    def submit(request: Any, *, detach: bool, console: object) -> int:
        asked.append((request, detach))
        return 0

    monkeypatch.setattr(job, "submit", submit)
    assert shell(cli.minimind, "reproduce", "mother", "--detach") == 0
    ((request, detach),) = asked
    assert (request.repeats, request.name, detach) == ("mother", "mother-again", True)
    assert request.words() == "reproduce mother --name mother-again"
