"""The stages that learn by trying, as runs from settings to their end."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import minimind.checkpoints.checkpoint as checkpoints
from jobs import paths
from jobs.runs.directory import RunDirectory
from jobs.stages.recipe import trial_recipe
from jobs.stages.spec import RunSpec
from jobs.text.prepare import prepare
from jobs.training.build import Built, build
from jobs.training.run import resolve, resume, start
from minimind.checkpoints import folders as checkpoint_folders
from minimind.device.distributed import Parallel
from minimind.device.limit import MemoryLimit
from minimind.events import metric_series
from minimind.memory.trace import trace
from minimind.training.attempts import Attempts
from minimind.training.loop import train
from minimind.training.policy import JudgedBatch, PolicyBatch
from minimind.training.train_state import TrainState
from minimind.training.trial_steps import run_trial_steps
from tests.ranks import run_ranks
from tests.small import Screen, end_of, kill_at, small_spec
from tests.toys import RecordingHooks, assert_same

QUESTIONS = str(paths.checkout() / "data" / "samples" / "rl.jsonl")
STEPS = 5

SPREAD = '[{"is": "language", "language": "en"}]'
"""A reward that what a model of a few steps writes differs in."""

TERMS = '[{"is": "language", "language": "en"}, {"is": "length", "least": 5, "slack": 8, "weight": 0.5}]'

RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "grpo": ("grpo", {}),
    "grpo-twice": ("grpo", {"stage__passes": 2}),
    "grpo-held": ("grpo", {"stage__loss__kl": 0.1, "adapter": '{"rank": 2}'}),
    "grpo-apart": (
        "grpo",
        {"stage__rewards": TERMS, "stage__separate": True, "stage__learn_cut": False, "stage__max_new_tokens": 24},
    ),
    "spo": ("spo", {}),
    "spo-mean": ("spo", {"stage__memory": "mean", "stage__rewards": TERMS}),
    "ppo": ("ppo", {}),
    "ppo-twice": ("ppo", {"stage__passes": 2, "stage__loss__per": "answer"}),
}
"""Run -> its stage and settings. Their weights are those of a run `small`."""


def spec_of(run: str, /, **settings: Any) -> RunSpec:
    stage, own = RUNS[run]
    usual = {"name": run, "init_from": "small", "loop__epochs": 9, "data__path": QUESTIONS}
    every = {"loop__max_steps": STEPS, "loop__save_interval": 1, "loop__keep_last": 99, "loop__batch_size": 4}
    trying: dict[str, Any] = {"stage__rewards": SPREAD, "stage__max_new_tokens": 12, "optim__learning_rate": 0.01}
    if stage == "grpo":
        trying["stage__group_size"] = 4
    return small_spec(stage, **{**usual, **every, **trying, **own, **settings})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with all runs, each with a checkpoint of every step."""
    home = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIMIND_HOME", str(home))
        runs = [start(small_spec(loop__max_steps=30), Screen())]
        runs += [start(spec_of(name), Screen()) for name in RUNS]
    assert {run.state().word for run in runs} == {"SUCCEEDED"}, [run.state() for run in runs]
    return home


@pytest.fixture
def home(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it."""
    path = tmp_path / "home"
    shutil.copytree(trained, path)
    monkeypatch.setenv("MINIMIND_HOME", str(path))
    return path


def run_of(home: Path, name: str) -> RunDirectory:
    return RunDirectory(home / "runs" / name)


def train_state(run: RunDirectory, step: int) -> dict[str, Any]:
    (state,) = checkpoints.load(checkpoint_folders.folder_of(run.checkpoints, step)).train_state["batches"]
    assert isinstance(state, dict)
    return state


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.slow
def test_stopped_at_any_step_it_ends_as_if_it_had_not_been(home: Path, name: str) -> None:
    run = run_of(home, name)
    whole = end_of(run)
    for step in range(STEPS - 1, 0, -1):
        kill_at(run, step)
        assert resume(name, {}, Screen()).state().word == "SUCCEEDED"
        assert end_of(run) == whole


@pytest.mark.parametrize("name", RUNS)
def test_the_plan_is_what_real_steps_take(home: Path, name: str) -> None:
    spec = spec_of(name)

    def make() -> Any:
        return trial_recipe(spec, torch.float32)

    recipe = make()
    with MemoryLimit() as limit:
        run_trial_steps(recipe, 2)
    assert trace(make, "cpu").peak_bytes == pytest.approx(limit.peak_bytes, rel=1e-3)


def built_of(name: str, home: str, parallel: Parallel, **settings: Any) -> Built:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIMIND_HOME", home)
        spec, _ = resolve(spec_of(name, **settings), None, Screen())
        return build(spec, prepare(spec, Screen()), parallel)


def learnt(
    name: str, home: str, parallel: Parallel, **settings: Any
) -> tuple[list[torch.Tensor], list[dict[str, Any]]]:
    """What four steps of a run make of all its weights, and their metrics."""
    usual = {"loop__max_steps": 4, "optim__name": "adamw", "optim__eps": 1e-4, "scaling__workers": parallel.world}
    built = built_of(name, home, parallel, **usual | settings)
    hooks = RecordingHooks()
    train(built.recipe, TrainState(), hooks, parallel)
    weights = [parameter for model in built.recipe.models.values() for parameter in model.parameters()]
    metrics = [
        {name: value for name, value in of_step.items() if name.startswith("train/")} for of_step in hooks.metrics
    ]
    return [weight.detach().clone() for weight in weights], metrics


def shared(name: str, home: str, parallel: Parallel) -> tuple[list[torch.Tensor], list[dict[str, Any]]]:
    return learnt(name, home, parallel, loop__batch_size=2, loop__accumulation_steps=4 // parallel.world)


def require_close(one: Any, other: Any, atol: float) -> None:
    for mine, theirs in zip(one[0], other[0], strict=True):
        torch.testing.assert_close(theirs, mine, rtol=0, atol=atol)
    assert len(one[1]) == len(other[1]) == 4
    for mine, theirs in zip(one[1], other[1], strict=True):
        assert theirs == pytest.approx(mine, abs=1e-4)


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.slow
def test_two_workers_learn_and_say_what_one_does(home: Path, tmp_path: Path, name: str) -> None:
    one = shared(name, str(home), Parallel())
    for two in run_ranks(2, partial(shared, name, str(home)), tmp_path):
        require_close(one, two, 1e-5)


@pytest.mark.parametrize("name", RUNS)
def test_how_prompts_lie_in_micro_batches_does_not_matter(home: Path, name: str) -> None:
    large, small = (
        learnt(name, str(home), Parallel(), loop__batch_size=size, loop__accumulation_steps=8 // size)
        for size in (8, 4)
    )
    require_close(large, small, 1e-5)


def test_what_is_remembered_and_what_is_not_learnt_yet_is_in_the_checkpoint(home: Path) -> None:
    for name in ("spo", "spo-mean"):
        known = [train_state(run_of(home, name), step)["credit"] for step in range(1, STEPS + 1)]
        assert [len(state["answers"]) for state in known] == sorted(len(state["answers"]) for state in known)
        assert 8 <= len(known[0]["answers"]) < len(known[-1]["answers"])
        assert known[0]["alpha"] != known[1]["alpha"]
    for name in ("grpo-twice", "ppo-twice"):
        states = [train_state(run_of(home, name), step) for step in range(1, STEPS + 1)]
        assert [state["passes_left"] for state in states] == [1, 0, 1, 0, 1]
        assert [bool(state["set"]) for state in states] == [True, False, True, False, True]
        batch = PolicyBatch(**states[0]["set"][0])
        assert batch.old_M is not None
        assert (batch.value_M is None) == (name == "grpo-twice")
    assert not train_state(run_of(home, "grpo"), 2)["set"]


def test_what_is_measured_is_said_of_all_answers(home: Path) -> None:
    for name in RUNS:
        events = run_of(home, name).events_path
        for metric in ("reward", "reward_language", "answer_tokens", "cut_off", "not_judged", "entropy"):
            assert metric_series(events, f"train/{metric}")[0] == list(range(1, STEPS + 1)), (name, metric)
        assert metric_series(events, "val/right")[0] == [0, 4, 5]
        assert set(metric_series(events, "train/not_judged")[1]) == {0.0}
    assert metric_series(run_of(home, "grpo-held").events_path, "train/kl")[1][0] == pytest.approx(0, abs=1e-6)
    assert metric_series(run_of(home, "grpo-held").events_path, "train/kl")[1][-1] > 0
    assert max(metric_series(run_of(home, "grpo").events_path, "train/gap")[1]) < 1e-5


def test_a_model_learns_what_it_is_rewarded_for(home: Path) -> None:
    spec = spec_of("grpo", name="long", loop__max_steps=16, optim__learning_rate=0.003, loop__save_interval=16)
    first, *_, last = metric_series(start(spec, Screen()).events_path, "val/reward")[1]
    assert last > first + 0.1


def first_examined(built: Built) -> list[Any]:
    return [(batch.rows, batch.told) for batch in built.held_out.batches() if isinstance(batch, JudgedBatch)]


@pytest.mark.parametrize("name", ["grpo", "spo", "ppo"])
def test_what_is_measured_depends_on_the_weights_alone(home: Path, name: str) -> None:
    fresh, used = (built_of(name, str(home), Parallel()) for _ in range(2))
    source = used.recipe.batches
    assert isinstance(source, Attempts)
    before = first_examined(used)
    used.recipe.batches.take(2)
    source.generate_less()
    state, random = source.state_dict(), torch.get_rng_state()
    assert first_examined(used) == first_examined(fresh) == before
    assert_same(source.state_dict(), state)
    assert torch.equal(torch.get_rng_state(), random)
    (_, told), *_ = before
    sums = {name: (total, count) for name, total, count in told}
    rows = [row for rows, _ in before for row in rows]
    assert sums["right"][1] == sums["reward"][1] == len(rows) == len(set(rows)) > 4


def test_each_held_out_prompt_is_measured_once_on_whichever_worker(home: Path) -> None:
    whole = first_examined(built_of("grpo", str(home), Parallel()))
    parts = [first_examined(built_of("grpo", str(home), Parallel(rank, 2))) for rank in range(2)]
    rows = [[row for rows, _ in part for row in rows] for part in (whole, *parts)]
    assert sorted(rows[1] + rows[2]) == sorted(rows[0])
    assert rows[1]
    assert rows[2]
    for metric in ("reward", "right", "answer_tokens"):
        sums = [sum(total for _, told in part for name, total, _ in told if name == metric) for part in (whole, *parts)]
        assert sums[0] == pytest.approx(sums[1] + sums[2])
