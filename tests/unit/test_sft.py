"""SFT and LoRA, as runs from settings to their end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from jobs import paths
from jobs.runs.show import show
from jobs.stages.pretrain import beginning
from jobs.stages.sft import SftConfig, question
from jobs.training.request import JobRequest
from jobs.training.run import resume, start, train
from minimind.checkpoints import folders as checkpoint_folders
from minimind.checkpoints.manifest import CheckpointError, read_manifest
from minimind.config import override
from minimind.events import metric_series
from minimind.language import speaking
from minimind.text.tokenizer import Tokenizer
from tests.small import (
    CHAT_SETTINGS,
    SAMPLES,
    Screen,
    end_of,
    home_with,
    kill_at,
    run_of,
    small_spec,
    write_chats,
    write_rows,
)

RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "sft": ("sft", {}),
    "replay": ("sft", {"data__mix": 0.4}),
    "lora": ("lora", {"adapter__dropout": 0.25}),
    "adapted": ("pretrain", {"adapter": '{"rank": 2, "dropout": 0.5}'}),
}
"""Run -> its stage and settings. Their weights are those of a run `small`."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with all runs, each with a checkpoint of every step."""
    every = {"loop__max_steps": 5, "loop__save_interval": 1, "loop__keep_last": 99}
    specs = [
        small_spec(stage, name=name, init_from="small", **every, **settings) for name, (stage, settings) in RUNS.items()
    ]
    return home_with(tmp_path_factory.mktemp("trained"), [small_spec(loop__max_steps=2), *specs])


def test_prompts_are_written_as_the_stage_has_learnt() -> None:
    tokenizer = Tokenizer.train(["ab"], vocab_size=292)
    assert tokenizer.decode(question(tokenizer, "hi")) == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert beginning(tokenizer, "hi") == [tokenizer.bos_id, *tokenizer.encode("hi")]
    assert SftConfig().kind == "sft"


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.slow
def test_stopped_at_any_step_it_ends_as_if_it_had_not_been(home: Path, name: str) -> None:
    run = run_of(home, name)
    whole = end_of(run)
    for step in (4, 1, 2):
        kill_at(run, step)
        assert resume(name, {}, Screen()).state().word == "SUCCEEDED"
        assert end_of(run) == whole


def test_the_same_flags_again_resume(home: Path) -> None:
    run = run_of(home, "sft")
    whole = end_of(run)
    kill_at(run, 3)
    given = {"name": "sft", "init_from": "small", "model.hidden_size": "32", "model.num_hidden_layers": "2"}
    assert train(JobRequest(stage="sft", settings=given, model="tiny", from_resume=True), Screen()) == 0
    assert end_of(run) == whole
    with pytest.raises(ValueError, match=r"--hidden_size \(model.hidden_size\): the run has 32, asked for is 160"):
        train(JobRequest(stage="sft", settings={"name": "sft"}, model="tiny", from_resume=True), Screen())


@pytest.mark.parametrize("name", RUNS)
def test_where_it_comes_from_is_recorded(home: Path, name: str) -> None:
    run = run_of(home, name)
    assert run.spec()["init_from"] == "small@2"
    manifest = read_manifest(checkpoint_folders.folder_of(run.checkpoints, 5))
    assert (manifest["run_id"], manifest["parent_run"], manifest["parent_step"]) == (name, "small", 2)


@pytest.mark.parametrize("name", ["sft", "replay", "lora"])
def test_answers_and_forgetting_are_measured_before_and_after(home: Path, name: str) -> None:
    run = run_of(home, name)
    assert run.spec()["data"]["mix_path"] == str(SAMPLES)
    for metric in ("val/loss", "val/bits_per_byte", "val/pretrain_bits_per_byte"):
        assert metric_series(run.events_path, metric)[0] == [0, 4, 5]
    # What is measured before is what the parent measured last, on the same text; only the rows are of another width.
    before = metric_series(run.events_path, "val/pretrain_bits_per_byte")[1][0]
    assert before == pytest.approx(
        metric_series(run_of(home, "small").events_path, "val/bits_per_byte")[1][-1], rel=0.05
    )
    screen = Screen()
    show(run, screen)
    assert f"forgetting (plain text, before and after): {before:.4f} -> " in screen.text
    with speaking("zh"):
        show(run, screen)
    assert "遗忘（预训练文本，训练前后）" in screen.text


def test_pretraining_measures_no_forgetting(home: Path) -> None:
    for name in ("small", "adapted"):
        assert metric_series(run_of(home, name).events_path, "val/pretrain_bits_per_byte") == ([], [])


def test_replayed_text_is_forgotten_less(home: Path) -> None:
    def after(name: str) -> float:
        return metric_series(run_of(home, name).events_path, "val/pretrain_bits_per_byte")[1][-1]

    assert after("replay") < after("sft")


def test_samples_answer_questions(home: Path) -> None:
    samples = [json.loads(line) for line in run_of(home, "sft").samples_path.read_text("utf-8").splitlines()]
    assert [sample["prompt"] for sample in samples] == ["中国的首都是哪里？", "What is the capital of France?"]


def test_an_adapter_alone_is_saved_and_said_what_it_saves(home: Path) -> None:
    files = {path.name for path in checkpoint_folders.folder_of(run_of(home, "lora").checkpoints, 5).iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json"} <= files
    assert "model.safetensors" not in files
    screen = Screen()
    settings = CHAT_SETTINGS | {"name": "again", "init_from": "small", "loop.max_steps": 1}
    settings = {path: value for path, value in settings.items() if not path.startswith("model.")}
    assert train(JobRequest(stage="lora", settings=settings), screen) == 0
    assert "parameters trained" in screen.text
    assert "of memory saved" in screen.text


def test_whole_weights_go_on_from_an_adapter_but_no_adapter_does(home: Path) -> None:
    run = start(small_spec("sft", name="merged", init_from="lora", loop__max_steps=1), Screen())
    assert run.state().word == "SUCCEEDED"
    assert run.spec()["data"]["mix_path"] == str(SAMPLES)  # what the parent of the parent has learnt from
    before = metric_series(run.events_path, "val/loss")[1][0]
    assert before == pytest.approx(metric_series(run_of(home, "lora").events_path, "val/loss")[1][-1], rel=1e-5)
    with pytest.raises(CheckpointError, match="an adapter needs a whole model below it"):
        start(small_spec("lora", name="twice", init_from="lora"), Screen())
    assert not run_of(home, "twice").exists


def test_an_adapter_whose_base_is_gone_is_not_resumed(home: Path, trained: Path) -> None:
    manifest = read_manifest(checkpoint_folders.folder_of(run_of(home, "lora").checkpoints, 5))
    assert manifest["base"]["run_id"] == "small"
    kill_at(run_of(home, "lora"), 3)
    shutil.rmtree(run_of(home, "small").path)
    hidden = trained / "runs" / "hidden"
    (trained / "runs" / "small").rename(hidden)
    try:
        with pytest.raises(CheckpointError, match="is an adapter for step 2 of the run 'small'"):
            resume("lora", {}, Screen())
    finally:
        hidden.rename(trained / "runs" / "small")


def test_a_text_of_its_own_is_replayed_and_measured(home: Path, tmp_path: Path) -> None:
    text = write_rows(tmp_path / "text.jsonl", [f"another text, number {number}" for number in range(40)])
    held_out = write_rows(tmp_path / "held.jsonl", ["never seen"])
    settings = {"data__mix_path": str(text), "eval__pretrain_path": str(held_out), "loop__max_steps": 1}
    screen = Screen()
    run = start(small_spec("sft", name="other", init_from="small", data__mix=0.5, **settings), screen)
    assert "Data: text.jsonl: 40 documents" in screen.text
    assert "Data: held.jsonl: 1 documents" in screen.text
    assert "Checked text.jsonl: 40 rows" in screen.text
    assert len(metric_series(run.events_path, "val/pretrain_bits_per_byte")[0]) == 2
    screen = Screen()
    start(small_spec("sft", name="only", init_from="small", **settings), screen)
    assert "text.jsonl" not in screen.text  # where nothing is replayed, held-out text is all that is needed


def test_what_cannot_be_learnt_from_is_refused_or_left_out(home: Path, tmp_path: Path) -> None:
    rows = [*((f"question {n}", f"answer {n}") for n in range(20)), ("q " * 90, "too late"), ("q", "long " * 90)]
    path = write_chats(tmp_path / "chats.jsonl", rows)
    spec = small_spec("sft", name="cut", init_from="small", data__path=str(path), loop__max_steps=1)
    with pytest.raises(ValueError, match="1 fully_masked .*max_bad_turns = 0") as caught:
        start(spec, Screen())
    assert f"{path}:21: the first answer begins after" in str(caught.value)
    screen = Screen()
    start(override(spec, {"data.limits.max_bad_turns": 1}), screen)
    assert "22 conversations" in screen.text
    assert (
        "; 1 longer than 96 tokens lose their end; 1 of which nothing can be learnt in 96 tokens left out"
        in screen.text
    )


BAD_ROWS: dict[str, tuple[str, list[dict[str, Any]], str]] = {
    "text for sft": ("sft", [{"text": "a"}], "this is plain text: use --stage pretrain"),
    "conversations for pretrain": (
        "pretrain",
        [{"conversations": [{"role": "user", "content": "q"}]}],
        "this is conversation data: use --stage sft",
    ),
    "no turns": ("sft", [{"conversations": []}], "1 empty"),
    "a question last": (
        "sft",
        [{"conversations": [{"role": r, "content": r} for r in ("user", "assistant", "user")]}],
        "turn 3, the last, is user; an answer must come last",
    ),
    "no answer": ("sft", [{"conversations": [{"role": "user", "content": "q"}]}], "no assistant turn"),
    "an empty answer": (
        "sft",
        [{"conversations": [{"role": "user", "content": "q"}, {"role": "assistant", "content": ""}]}],
        "1 empty_answer",
    ),
    "a call of nothing": (
        "sft",
        [
            {
                "conversations": [
                    {"role": "user", "content": "q"},
                    {"role": "assistant", "tool_calls": [{"arguments": {}}]},
                ]
            }
        ],
        "1 unwritable",
    ),
}


@pytest.mark.parametrize(("stage", "rows", "problem"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_bad_rows_are_refused_with_their_line(
    home: Path, tmp_path: Path, stage: str, rows: list[dict[str, Any]], problem: str
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match=f"{path}:1: |{path}, 1 rows") as caught:
        start(small_spec(stage, name="bad", init_from="small", data__path=str(path)), Screen())
    assert problem in str(caught.value)
    assert not (paths.runs() / "bad").exists()
