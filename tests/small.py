"""A run that takes a second: the bundled samples, a vocabulary of 600, a model of two narrow blocks, a few steps."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import minimind.checkpoints.checkpoint as checkpoints
from jobs import paths
from jobs.runs.directory import RunDirectory
from jobs.stages.spec import RunSpec
from jobs.stages.table import STAGES
from jobs.terminal.console import Terminal
from minimind.checkpoints import folders as checkpoint_folders
from minimind.checkpoints.manifest import weights_sha256
from minimind.config import override

SAMPLES = paths.checkout() / "data" / "samples" / "pretrain.jsonl"
CHATS = SAMPLES.with_name("sft.jsonl")

needs_no_gpu = pytest.mark.skipif(
    torch.cuda.is_available(), reason="it tests what happens without a GPU, and this machine has one"
)

SETTINGS: dict[str, Any] = {
    "name": "small",
    "data.path": str(SAMPLES),
    "data.max_seq_len": 32,
    "data.num_workers": 0,
    "model.vocab_size": 600,
    "model.hidden_size": 32,
    "model.num_hidden_layers": 2,
    "loop.batch_size": 4,
    "loop.accumulation_steps": 2,
    "loop.max_steps": 8,
    "loop.log_interval": 1,
    "loop.dtype": "float32",
    "loop.save_interval": 2,
    "loop.eval_interval": 4,
    "eval.max_documents": 8,
    "eval.sample_tokens": 4,
    "eval.suites": "[]",
    "scaling.workers": 0,
}


CHAT_SETTINGS: dict[str, Any] = SETTINGS | {"data.path": str(CHATS), "data.max_seq_len": 96}


def small_spec(stage: str = "pretrain", /, **settings: Any) -> RunSpec:
    """The spec with settings changed: `small_spec(loop__epochs=2)` sets loop.epochs."""
    usual = SETTINGS if stage == "pretrain" else CHAT_SETTINGS
    return override(STAGES[stage].preset("tiny"), usual | _dotted(settings))


def small_flags(**settings: Any) -> list[str]:
    """The same as arguments of `train pretrain`; None leaves a setting out."""
    assignments = {path: value for path, value in (SETTINGS | _dotted(settings)).items() if value is not None}
    return ["--model", "tiny", *(part for path, value in assignments.items() for part in ("--set", f"{path}={value}"))]


def pipeline_settings(stages: Sequence[str], more: dict[str, Any] | None = None) -> dict[str, Any]:
    """Settings of every stage of a pipeline at toy size, by "STAGE.PATH"; more: of all of them."""
    settings = {path: value for path, value in SETTINGS.items() if path not in ("name", "data.path")}
    settings |= {"loop.max_steps": 3, "data.max_seq_len": 96} | (more or {})
    return {
        f"{stage}.{path}": value
        for stage in stages
        for path, value in settings.items()
        if stage == "pretrain" or not path.startswith("model.")
    }


def _dotted(settings: dict[str, Any]) -> dict[str, Any]:
    return {name.replace("__", "."): value for name, value in settings.items()}


def write_rows(path: Path, texts: list[str]) -> Path:
    """A pretrain file of these texts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts), "utf-8")
    return path


def write_chats(path: Path, chats: Sequence[Sequence[str]]) -> Path:
    """An sft file of these conversations: the turns of user and assistant in turn."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"conversations": turns(*contents)} for contents in chats]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def turns(*contents: str) -> list[dict[str, str]]:
    """Messages of user and assistant in turn."""
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(contents)]


class Screen(Terminal):
    """A console that is no terminal, and what was printed on it."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        super().__init__(file=self.stream, width=200)

    @property
    def text(self) -> str:
        return self.stream.getvalue()


def home_with(home: Path, specs: Iterable[RunSpec]) -> Path:
    """A home, with runs of these specs in it, each trained to its end: for a fixture `trained`."""
    from jobs.training.run import start  # and Ray with it, which takes a second to load

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIMIND_HOME", str(home))
        runs = [start(spec, Screen()) for spec in specs]
    assert {run.state().word for run in runs} == {"SUCCEEDED"}, [run.state() for run in runs]
    return home


def run_of(home: Path, name: str) -> RunDirectory:
    """The run of this name in a home."""
    return RunDirectory(home / "runs" / name)


def train_state(run: RunDirectory, step: int) -> dict[str, Any]:
    """What is in the checkpoint of a step beside weights."""
    state = checkpoints.load(checkpoint_folders.folder_of(run.checkpoints, step)).train_state
    assert state is not None
    return state


def end_of(run: RunDirectory) -> str:
    """What a run has learnt: the sha256 of its last weights."""
    return weights_sha256(checkpoint_folders.folder_of(run.checkpoints, checkpoint_folders.steps(run.checkpoints)[-1]))


def kill_at(run: RunDirectory, step: int) -> None:
    """Leave of a finished run what a kill some time after its checkpoint of `step` would have left."""
    for later in checkpoint_folders.steps(run.checkpoints):
        if later > step:
            shutil.rmtree(checkpoint_folders.folder_of(run.checkpoints, later))
    lines = run.events_path.read_text("utf-8").splitlines(keepends=True)
    run.events_path.write_text("".join(line for line in lines if '"state": "SUCCEEDED"' not in line), "utf-8")
