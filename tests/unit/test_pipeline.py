from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from jobs import paths
from jobs.__main__ import main
from jobs.commands import pipeline as command
from jobs.fit.needs import step_kind
from jobs.pipeline import pipeline
from jobs.pipeline.pipeline import run
from jobs.pipeline.record import Record
from jobs.pipeline.steps import STEPS, PipelineOptions
from jobs.runs.directory import RunDirectory
from jobs.runs.references import find_weights
from jobs.stages import flags
from jobs.stages.weights import without_numbers
from jobs.stock import build_samples
from jobs.training import run as runs
from minimind.checkpoints import folders as checkpoint_folders
from minimind.checkpoints.manifest import weights_sha256
from minimind.network.model import MiniMind
from tests.small import CHATS, SAMPLES, Screen, kill_at, pipeline_settings

STAGES = [step.stage for step in STEPS]


def small(**more: Any) -> dict[str, Any]:
    """Settings of every stage at toy size, of a narrower student too; nothing is evaluated but what `more` names."""
    trying = {
        "rewards": '[{"is": "language", "language": "en"}]',  # what a model of a few steps writes differs in it
        "gate": "off",  # of its own: tests/unit/test_gate.py
        "max_new_tokens": 8,
    }
    settings = {f"{stage}.stage.{path}": value for stage in ("grpo", "spo", "ppo") for path, value in trying.items()}
    settings |= {"distill.model.hidden_size": 16, "distill.model.num_hidden_layers": 1}
    return {**pipeline_settings(STAGES, more), **settings}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    shutil.copy(SAMPLES, folder / "pretrain.jsonl")
    for stage in ("sft", "lora"):
        shutil.copy(CHATS, folder / f"{stage}.jsonl")
    for name in ("dpo", "dpo_eval", "kto", "rl"):
        shutil.copy(CHATS.with_name(f"{name}.jsonl"), folder)
    return folder


def options(folder: Path, **more: Any) -> PipelineOptions:
    return PipelineOptions(**({"name": "p", "data": str(folder), "model": "tiny", "settings": small()} | more))


def test_what_a_pipeline_may_be_asked_for(folder: Path) -> None:
    assert [step.stage for step in options(folder).steps()] == STAGES
    assert [step.stage for step in options(folder, until="sft").steps()] == ["pretrain", "sft"]
    assert options(folder, until="tokenizer").steps() == []
    steps = {step.stage: step for step in STEPS}
    assert options(folder).request(steps["dpo"]).settings["eval.path"] == str(folder / "dpo_eval.jsonl")
    assert options(folder).request(steps["reward"]).settings["data.path"] == str(folder / "dpo.jsonl")
    assert options(folder).request(steps["distill"]).settings["data.path"] == str(folder / "sft.jsonl")
    plain = pipeline_settings(STAGES[:-1])
    assert [step.stage for step in options(folder, settings=plain).steps()] == STAGES[:-1]
    taught = options(folder, settings={**plain, "distill.roles.teacher": "elsewhere"})
    assert [step.stage for step in taught.steps()] == STAGES
    assert taught.request(steps["distill"]).settings["init_from"] == "p-pretrain"
    assert taught.planned(steps["distill"]).roles == {"teacher": "elsewhere"}
    assert options(folder).request(steps["spo"]).settings["data.path"] == str(folder / "rl.jsonl")
    assert options(folder).request(steps["ppo"]).settings["init_from"] == "p-sft"
    (folder / "rl.jsonl").unlink()
    (folder / "lora.jsonl").unlink()
    assert [step.stage for step in options(folder).steps()] == ["pretrain", "sft", "kto", "dpo", "reward", "distill"]
    (folder / "dpo.jsonl").unlink()
    (folder / "kto.jsonl").unlink()
    assert [step.stage for step in options(folder).steps()] == ["pretrain", "sft", "distill"]
    for wrong, said in (
        ({"until": "grope"}, "there are tokenizer, pretrain, sft, lora, kto, dpo, reward, grpo, spo, ppo, distill"),
        ({"settings": {"loop.epochs": 2}}, "--set loop.epochs: it begins with a stage"),
        ({"name": "a b"}, "a name has 1 to 100 letters"),
    ):
        with pytest.raises(ValidationError, match=said):
            options(folder, **wrong)


def test_a_student_of_another_shape_is_taught_by_the_pipelines_own_model(folder: Path) -> None:
    step = STEPS[-1]
    smaller = options(folder)
    request, planned = smaller.request(step), smaller.planned(step)
    assert (request.model, request.settings["init_from"], request.settings["roles.teacher"]) == (
        "tiny",
        "none",
        "p-sft",
    )
    assert request.settings["data.tokenizer"] == "p-tokenizer"
    # It is planned while its teacher is not there yet.
    shapes = without_numbers(planned)
    assert {role: model.config.hidden_size for role, model in shapes.items() if isinstance(model, MiniMind)} == {
        "policy": 16,
        "teacher": 32,
    }
    same_size = flags.apply(planned, {"model.hidden_size": 32})
    assert step_kind(planned) == step_kind(same_size)
    assert step_kind(planned) != step_kind(planned.model_copy(update={"expected": {"teacher": planned.model}}))


def test_a_folder_without_rows_or_with_two_files(folder: Path) -> None:
    (folder / "sft.jsonl").unlink()
    with pytest.raises(ValueError, match=r"has no rows for sft: a file called sft.jsonl, sft.jsonl.gz"):
        options(folder).file("sft")
    shutil.copy(SAMPLES, folder / "pretrain.txt")
    with pytest.raises(ValueError, match="has two files for pretrain: pretrain.jsonl, pretrain.txt"):
        options(folder).file("pretrain")


def test_what_is_wrong_names_the_stage_or_the_folder(folder: Path) -> None:
    wrong = options(folder, settings={**small(), "sft.loop.epoch": 2})
    with pytest.raises(ValueError, match=r"sft: loop.epoch: no setting 'epoch' in 'loop'; names there: epochs"):
        wrong.planned(STEPS[1])
    with pytest.raises(ValueError, match=r"nowhere: no such folder"):
        options(folder / "nowhere").file("pretrain")


def hashes() -> dict[str, str]:
    return {stage: weights_sha256(find_weights(f"p-{stage}").folder) for stage in STAGES}


@pytest.mark.slow
def test_it_ends_in_the_same_weights_wherever_it_broke_off(
    home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Screen()
    assert run(options(folder), screen) == 0
    for word in ("What it will take", "Stage sft", "What came of it", "minimind chat p-ppo", "accuracy"):
        assert word in screen.text
    whole = hashes()
    assert len(set(whole.values())) == len(STAGES)  # each of them has learnt something
    # Again: nothing is left to do.
    assert run(options(folder), again := Screen()) == 0
    assert again.text.count("has finished already") == len(STAGES)
    assert hashes() == whole

    # In another home it breaks off before each stage, and in the middle of SFT.
    monkeypatch.setenv("MINIMIND_HOME", str(home.parent / "second"))
    real = pipeline._stage
    for last in STAGES:

        def breaks(given: Any, step: Any, *rest: Any, last: str = last) -> Any:
            if step.stage == last:
                raise KeyboardInterrupt
            return real(given, step, *rest)

        monkeypatch.setattr(pipeline, "_stage", breaks)
        with pytest.raises(KeyboardInterrupt):
            run(options(folder), Screen())
    monkeypatch.setattr(pipeline, "_stage", real)
    assert run(options(folder), Screen()) == 0
    assert hashes() == whole


@pytest.mark.slow
def test_a_closed_gate_ends_it_unless_told(home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        pipeline, "closed", lambda gates, asked, before, after: ["language went from 1 to 9"] if before else []
    )
    asked = options(folder, until="lora", settings=small(**{"eval.suites": ["language"]}))
    assert run(asked, screen := Screen()) == 1
    assert "language went from 1 to 9" in screen.text
    assert "The pipeline ends here: a gate behind sft is closed" in screen.text
    assert not RunDirectory(paths.runs() / "p-lora").exists
    assert run(asked.model_copy(update={"past_gates": True}), screen := Screen()) == 0
    assert RunDirectory(paths.runs() / "p-lora").exists
    assert "Report: " in screen.text


def refused(asked: PipelineOptions, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        run(asked, Screen())


@pytest.mark.slow
def test_runs_of_another_pipeline_are_not_gone_on_with(home: Path, folder: Path) -> None:
    asked = options(folder, until="pretrain", settings={**small(), "pretrain.optim.weight_decay": 0.02})
    assert run(asked, Screen()) == 0

    def otherwise(**more: Any) -> PipelineOptions:
        return asked.model_copy(update=more)

    there = "the run 'p-pretrain' is there, made with "
    more = {**asked.settings, "pretrain.optim.learning_rate": 0.5}
    refused(otherwise(settings=more), rf"{there}optim.learning_rate = what is usual, not 0.5. Another --name")
    refused(otherwise(settings=small()), rf"{there}optim.weight_decay = 0.02, not what is usual")
    refused(otherwise(model="30m"), "the run 'p-tokenizer' is there, made with model = tiny, not 30m")
    refused(otherwise(preset="standard"), rf"{there}preset = what is usual, not standard")
    # The same rows elsewhere are the same rows.
    other = folder.parent / "other"
    shutil.copytree(folder, other)
    assert run(otherwise(data=str(other)), screen := Screen()) == 0
    assert "done" in screen.text
    (other / "pretrain.jsonl").write_text((other / "pretrain.jsonl").read_text("utf-8") + '{"text": "more"}\n', "utf-8")
    refused(
        otherwise(data=str(other)), "the run 'p-tokenizer' is there, made with other rows of path than there are now"
    )


@pytest.mark.slow
def test_what_is_known_of_a_pipeline_is_looked_after(home: Path, folder: Path) -> None:
    asked = options(folder, until="sft")
    assert run(asked, Screen()) == 0
    assert run(asked, Screen()) == 0
    record = Record("p")
    record.write("sft", began_with="another")
    refused(asked, "the run 'p-sft' is there, made with other first weights")
    with record.held():
        refused(asked, "the pipeline 'p' is at work already")
    for damaged in ("{", "[]", "null", '{"pretrain": 5}', '{"pretrain": {"dtype": "banana"}}'):
        record.path.write_text(damaged, "utf-8")
        refused(asked, r"p.json is damaged, or of another version: ")
    record.path.unlink()
    refused(asked, "the run 'p-tokenizer' is there, made with no record of what was asked")


@pytest.mark.slow
def test_a_stage_goes_on_with_what_it_may_be_changed_in(
    home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = options(folder, until="pretrain")
    assert run(asked, Screen()) == 0
    stage = RunDirectory(paths.runs() / "p-pretrain")
    kill_at(stage, 2)
    more = {"pretrain.loop.batch_size": 2, "pretrain.loop.accumulation_steps": 4, "pretrain.loop.keep_last": 7}
    assert run(asked.model_copy(update={"settings": {**asked.settings, **more}}), screen := Screen()) == 0
    assert "2 rows x 96 tokens x 4 accumulation" in screen.text
    assert re.search(r"\npretrain +1 ", screen.text)  # of three steps one is left, says the forecast
    assert checkpoint_folders.steps(stage.checkpoints)[-1] == 3
    # And with what was asked first again, for it makes no difference to what is done.
    assert run(asked, Screen()) == 0


def test_in_a_fresh_home_the_stock_data_is_fetched(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = PipelineOptions(name="p", model="tiny", until="tokenizer")
    before = asked.has_data
    fetched: list[Any] = []

    def fetch(console: Any) -> None:
        fetched.append(console)
        build_samples(paths.stock_folder())

    monkeypatch.setattr("jobs.demo.fetch.fetch_stock", fetch)
    assert main(["pipeline", "--model", "tiny", "--set", "sft.loop.epoch=2"]) == 1
    assert not fetched  # what is wrong with a setting is said before
    assert main(["pipeline", "--name", "p", "--model", "tiny", "--until", "tokenizer"]) == 0
    assert len(fetched) == 1
    assert (before, asked.has_data) == (False, True)
    asked_of_all = [step.stage for step in PipelineOptions().steps()]
    assert asked_of_all == [step.stage for step in STEPS][:-1]  # nobody asked for a student
    assert main(["pipeline", "--name", "p", "--model", "tiny", "--until", "tokenizer"]) == 0
    assert len(fetched) == 1


@pytest.mark.slow
def test_a_stage_that_is_stopped_ends_the_pipeline_without_an_error(
    home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = runs.start

    def stopped(spec: Any, console: Any, **more: Any) -> Any:
        monkeypatch.setattr(RunDirectory, "stop_requested", lambda self: True)
        return real(spec, console, **more)

    monkeypatch.setattr("jobs.pipeline.pipeline.start", stopped)
    asked = options(folder, until="pretrain", settings=small(**{"loop.max_steps": 30, "loop.epochs": 40}))
    assert run(asked, screen := Screen()) == 0
    assert "Stopped. The same command goes on from its last checkpoint." in screen.text
    monkeypatch.undo()
    monkeypatch.setenv("MINIMIND_HOME", str(home))
    monkeypatch.setenv("MINIMIND_LANG", "en")
    assert run(asked, screen := Screen()) == 0
    assert "What came of it" in screen.text


def test_a_setting_that_is_given_twice_or_is_none(home: Path) -> None:
    with pytest.raises(ValueError, match="sft.loop.epochs is given twice: 2 and '3'; say it once"):
        command._settings(["sft.loop.epochs=2", "sft.loop.epochs=3"])
    with pytest.raises(ValueError, match="--set 'x': write STAGE.PATH=VALUE"):
        command._settings(["x"])
