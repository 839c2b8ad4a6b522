"""The stages that learn by trying, killed as an operating system kills: in the middle of whatever they do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import minimind.checkpoints.checkpoint as checkpoints
from jobs import paths
from jobs.__main__ import main
from jobs.runs.directory import RunDirectory
from jobs.training.request import JobRequest
from minimind.checkpoints import folders as checkpoint_folders
from minimind.events import all_series, read_events
from tests.small import CHAT_SETTINGS, end_of, home_with, run_of, small_spec, train_state
from tests.toys import assert_same

STEPS = 6

STAGES: dict[str, dict[str, Any]] = {
    "grpo": {"stage.group_size": 4, "data.mix": 0.3},
    "spo": {},
    # Attempts of before the kill are learnt from behind it.
    "ppo": {"stage.passes": 3, "stage.stop_kl": 10.0},
}

KILLS = {
    "answers to step 4": ("minimind.training.attempts:Attempts.attempt", 4, "minimind.inference.engine:Engine.step", 5),
    "update of step 6": ("minimind.training.optim:Combined.step", 4, "minimind.training.optim:orthogonalize", 3),
    "checkpoint of step 6": ("minimind.checkpoints.checkpoint:save", 1, "minimind.checkpoints.checkpoint:sync", 3),
}
"""What is going on -> where `killed_main` kills. Each process but the first goes on with what the one before left."""

LEFT = {"answers to step 4": [2], "update of step 6": [2, 4], "checkpoint of step 6": [2, 4]}
"""The checkpoints that are whole then."""


def request_of(stage: str, name: str) -> JobRequest:
    own = {"name": name, "init_from": "small", "data.path": str(paths.checkout() / "data" / "samples" / "rl.jsonl")}
    loop = {"loop.epochs": 9, "loop.max_steps": STEPS, "loop.keep_last": 9}
    loop |= {"loop.save_interval": 2, "loop.eval_interval": 2}  # it is measured again where it goes on
    trying = {
        "stage.rewards": '[{"is": "language", "language": "en"}]',  # what a model of a few steps writes differs in it
        "stage.gate": "off",
        "stage.max_new_tokens": 12,
        "optim.learning_rate": 0.01,
    }
    usual = {path: value for path, value in CHAT_SETTINGS.items() if not path.startswith("model.")}
    return JobRequest(stage=stage, settings=usual | own | loop | trying | STAGES[stage])


def words(request: JobRequest) -> list[str]:
    return ["job", request.model_dump_json(exclude_defaults=True)]


def killed(request: JobRequest, when: str) -> None:
    """Train in a process of its own, until that is killed."""
    moment = [str(part) for part in KILLS[when]]
    command = [sys.executable, "-m", "tests.killed_main", *moment, *words(request)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, cwd=paths.checkout(), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == -signal.SIGKILL, (when, done.stdout[-3000:], done.stderr[-3000:])


def sound_steps(run: RunDirectory) -> list[int]:
    """The steps whose checkpoints are whole, to the last byte."""
    sound = []
    for step in checkpoint_folders.steps(run.checkpoints):
        checkpoints.load(checkpoint_folders.folder_of(run.checkpoints, step))
        sound.append(step)
    return sound


def curves(run: RunDirectory) -> dict[str, Any]:
    """All that was measured of what it learnt, by step."""
    series = all_series(read_events(run.events_path, {"metrics", "state"}))
    return {metric: points for metric, points in series.items() if metric.startswith(("train/", "val/"))}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the weights that all begin with."""
    return home_with(tmp_path_factory.mktemp("trained"), [small_spec(loop__max_steps=30)])


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.slow
def test_killed_while_it_writes_learns_or_saves_it_ends_as_if_it_had_not_been(home: Path, stage: str) -> None:
    assert main(words(request_of(stage, stage))) == 0
    whole = run_of(home, stage)

    name = f"{stage}-killed"
    run = run_of(home, name)
    request, again = request_of(stage, name), JobRequest(stage=stage, settings={"name": name}, from_resume=True)
    for when in KILLS:
        killed(request, when)
        assert sound_steps(run) == LEFT[when]
        request = again
    assert list(run.checkpoints.glob("*.partial"))  # half a checkpoint
    assert main(words(again)) == 0
    assert run.state().word == "SUCCEEDED"

    assert sound_steps(run) == sound_steps(whole) == [2, 4, 6]
    assert end_of(run) == end_of(whole)
    for step in (2, 4, 6):
        state = train_state(whole, step)
        assert_same(train_state(run, step), state)
        (batches,) = state["batches"]
        assert bool(batches["set"]) == (stage == "ppo" and step < STEPS)
        assert ("answers" in batches["credit"]) == (stage == "spo")
    assert curves(run) == curves(whole)
