"""A stage is one file and one row: tests/toy_stage.py is the file, and here is what follows from it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F

import minimind.checkpoints.checkpoint as checkpoints
from data.pack import learnable
from data.shards import TokenShards
from jobs import paths
from jobs.__main__ import main
from jobs.fit.card import this_card
from jobs.fit.needs import step_kind
from jobs.fit.plan import Planner
from jobs.runs.directory import RunDirectory
from jobs.runs.references import find_weights
from jobs.runs.show import show
from jobs.stages.origin import new_spec
from jobs.stages.recipe import trial_recipe
from jobs.stages.spec import RunSpec
from jobs.stages.stage import ModelSource, Stage
from jobs.stages.table import STAGES
from jobs.text.prepare import Prepared, prepare
from jobs.training.build import build
from jobs.training.run import resolve, resume, start
from jobs.training.worker import work
from minimind.checkpoints import folders as checkpoint_folders
from minimind.checkpoints.manifest import read_manifest
from minimind.config import override
from minimind.device.distributed import Parallel
from minimind.device.limit import MemoryLimit
from minimind.events import METRICS, metric_series, read_events
from minimind.memory.trace import trace
from minimind.network.model import MiniMind
from minimind.network.score import ScoreModel
from minimind.text.tokenizer import Tokenizer
from minimind.training.answers import AnswerBatch
from minimind.training.loop import train
from minimind.training.objectives import Loss, Models, Objective
from minimind.training.recipe import GeneratingSource, Recipe
from minimind.training.train_state import TrainState
from minimind.training.trial_steps import run_trial_steps
from service.catalog import Catalog
from tests.ranks import run_ranks
from tests.small import SAMPLES, SETTINGS, Screen, kill_at, small_spec
from tests.toy_stage import WrittenPairs, last_token
from tests.toy_stage_main import NAME, add_row
from tests.toys import RecordingHooks, assert_same
from tests.unit.service.conftest import serving

PAIRS = SAMPLES.with_name("dpo.jsonl")
STEPS = 6

GIVEN: dict[str, Any] = {
    path: value for path, value in SETTINGS.items() if not path.startswith(("model.", "eval."))
} | {
    "name": "pref",
    "init_from": "small",
    "roles.reference": "other@best",
    "data.path": str(PAIRS),
    "data.limits.max_bad_turns": 99,
    "data.max_seq_len": 64,
    "eval.fraction": 0.2,
    "eval.sample_tokens": 4,
    "loop.max_steps": STEPS,
    "loop.save_interval": 1,
    "loop.eval_interval": 1,
    "loop.keep_last": 99,
}


def flags(**settings: Any) -> list[str]:
    given = GIVEN | {name.replace("__", "."): value for name, value in settings.items()}
    return [part for path, value in given.items() if value is not None for part in ("--set", f"{path}={value}")]


def toy_spec(**settings: Any) -> RunSpec:
    given = GIVEN | {name.replace("__", "."): value for name, value in settings.items()}
    return new_spec(NAME, {path: value for path, value in given.items() if value is not None})


@pytest.fixture(scope="module", autouse=True)
def _row() -> Iterator[None]:
    known = set(METRICS)
    add_row()
    yield
    del STAGES[NAME]
    for name in set(METRICS) - known:
        del METRICS[name]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with first weights, references of the same and of another shape, and a run of the stage."""
    home = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIMIND_HOME", str(home))
        patch.setenv("MINIMIND_LANG", "en")
        runs = [start(small_spec(loop__max_steps=2), Screen())]
        runs.append(start(small_spec(name="other", seed=7, loop__max_steps=2), Screen()))
        runs.append(start(small_spec(name="wide", model__hidden_size=64, loop__max_steps=1), Screen()))
        assert main(["train", NAME, *flags()]) == 0
    assert {run.state().word for run in runs} == {"SUCCEEDED"}
    return home


def run_of(home: Path, name: str = "pref") -> RunDirectory:
    return RunDirectory(home / "runs" / name)


def end_of(run: RunDirectory) -> dict[str, Any]:
    """All that a run has come to: weights, optimizer, source, random states."""
    folder = checkpoint_folders.folder_of(run.checkpoints, checkpoint_folders.steps(run.checkpoints)[-1])
    loaded = checkpoints.load(folder)
    return {"weights": loaded.weights, "train_state": loaded.train_state}


def counted(make: Any) -> int:
    """The most bytes that two steps of the recipe hold at once."""
    recipe = make()
    with MemoryLimit() as limit:
        run_trial_steps(recipe, 2)
    peak_bytes: int = limit.peak_bytes
    return peak_bytes


def test_the_plan_is_what_real_steps_take(home: Path) -> None:
    spec = toy_spec(roles__reference="wide")

    def make() -> Recipe:
        return trial_recipe(spec, torch.float32)

    planned = trace(make, "cpu")
    assert planned.peak_bytes == pytest.approx(counted(make), rel=1e-3)
    wide = checkpoints.load_model(find_weights("wide").folder)[0]
    assert planned.breakdown()["reference"] == 4 * wide.parameter_count()
    plan = Planner(this_card("4GB")).plan(spec)
    assert plan.verdict == "fits"


def test_what_the_source_computes_is_planned_where_it_takes_most(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = trace(lambda: trial_recipe(toy_spec(), torch.float32), "cpu").peak_bytes

    def greedy(spec: RunSpec, models: Models) -> None:
        policy = models["policy"]
        assert isinstance(policy, MiniMind)
        last_token(policy, 300, spec.data.max_seq_len)

    with monkeypatch.context() as patch:
        patch.setitem(STAGES, NAME, replace(STAGES[NAME], worst_take=greedy))

        def make() -> Recipe:
            return trial_recipe(toy_spec(), torch.float32)

        planned = trace(make, "cpu").peak_bytes
        assert planned > 2 * usual
        assert planned == pytest.approx(counted(make), rel=1e-3)


def test_a_step_is_known_by_what_decides_its_memory(home: Path) -> None:
    kinds = {
        step_kind(spec)
        for spec in (
            toy_spec(),
            toy_spec(roles__reference="wide"),
            toy_spec(stage__answer_tokens=7),
            small_spec("sft", init_from="small"),
        )
    }
    assert len(kinds) == 4
    assert step_kind(toy_spec(roles__reference="small")) == step_kind(toy_spec())


def test_it_is_measured_judged_and_kept_by_its_own_metric(home: Path) -> None:
    run = run_of(home)
    steps, accuracies = metric_series(run.events_path, "val/accuracy")
    assert steps == list(range(STEPS + 1))
    assert all(0 <= value <= 1 for value in accuracies)
    assert metric_series(run.events_path, "train/accuracy")[0] == list(range(1, STEPS + 1))
    assert not metric_series(run.events_path, "val/bits_per_byte")[0]
    best = max(steps[1:], key=lambda step: (accuracies[step], -step))
    assert find_weights("pref@best").folder == checkpoint_folders.folder_of(run.checkpoints, best)
    assert len(set(accuracies)) > 1
    kept = start(toy_spec(name="kept", loop__keep_last=1, loop__keep_best=1), Screen())
    assert set(checkpoint_folders.steps(kept.checkpoints)) == {best, STEPS}
    with pytest.raises(ValueError, match=r"'val/acc': what toy_preference measures is val/loss, .*val/accuracy"):
        toy_spec(eval__best="val/acc")
    bytes_of_text = start(toy_spec(name="wrong", eval__best="val/bits_per_byte"), Screen())
    assert bytes_of_text.state().word == "FAILED"
    assert "what is measured on held-out rows is val/accuracy, val/loss" in bytes_of_text.state().reason


@pytest.mark.slow
def test_killed_in_the_middle_it_ends_as_if_it_had_not_been(home: Path) -> None:
    program = (
        "import os, signal, sys; from tests.toy_stage import WrittenPairs; from tests import toy_stage_main as toy\n"
        "take, steps = WrittenPairs.take, []\n"
        "def killed(self, count):\n"
        "    steps.append(count)\n"
        "    if len(steps) == 4: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return take(self, count)\n"
        "WrittenPairs.take = killed\n"
        "toy.add_row()\n"
        "sys.exit(toy.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, "train", NAME, *flags(name="killed")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, cwd=paths.checkout(), capture_output=True, timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    run = run_of(home, "killed")
    assert checkpoint_folders.steps(run.checkpoints) == [1, 2, 3]
    (state,) = end_of(run)["train_state"]["batches"]
    assert len(state["made"]) == 1  # killed in the middle of what the source had made
    assert main(["train", NAME, "--from_resume", "1", "--name", "killed"]) == 0
    assert run.state().word == "SUCCEEDED"
    assert_same(end_of(run), end_of(run_of(home)))


@pytest.mark.parametrize("init_from", ["small", "none"])
def test_first_weights_stay_the_reference_of_a_run_that_goes_on(home: Path, init_from: str) -> None:
    settings: dict[str, Any] = {"init_from": init_from, "roles__reference": None}
    if init_from == "none":
        shape = {path: value for path, value in SETTINGS.items() if path.startswith("model.")}
        settings |= {"data__tokenizer": "small", **shape}
    run = start(toy_spec(name="first", **settings), Screen())
    assert run.state().word == "SUCCEEDED"
    assert metric_series(run.events_path, "val/loss")[1][0] == pytest.approx(0.6931, abs=1e-4)  # both are the same
    whole = end_of(run)
    for step in (3, 4):
        kill_at(run, step)
        assert resume("first", {}, Screen()).state().word == "SUCCEEDED"
        assert_same(end_of(run), whole)


def test_a_role_that_is_not_declared_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STAGES, NAME, replace(STAGES[NAME], roles=()))
    with pytest.raises(AssertionError, match="uses the role reference: add it to `roles`"):
        Planner(this_card()).need(toy_spec(roles__reference=None))


def test_a_run_keeps_its_reference(home: Path) -> None:
    run = run_of(home)
    assert run.spec()["roles"] == {"reference": "other@2"}  # pinned
    manifest = read_manifest(checkpoint_folders.folder_of(run.checkpoints, 3))
    assert (manifest["references"]["reference"]["run_id"], manifest["references"]["reference"]["step"]) == ("other", 2)
    kill_at(run, 3)
    with pytest.raises(ValueError, match=r"roles.reference: the run has 'other@2', asked for is 'small@2'"):
        resume("pref", {"roles.reference": "small@2"}, Screen())
    start(small_spec(name="other", seed=8, loop__max_steps=2), Screen(), overwrite=True)
    assert resume("pref", {}, Screen()).state().word == "FAILED"
    assert "roles.reference was step 2 of the run 'other' in" in run.state().reason
    assert "with other weights now; a run keeps its models" in run.state().reason
    shutil.rmtree(run_of(home, "other").path)
    with pytest.raises(ValueError, match="other@2"):
        resume("pref", {}, Screen())


def test_a_reference_is_refused_before_anything_starts(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no run 'nobody' at .*; runs there: other, "):
        start(toy_spec(name="n", roles__reference="nobody"), Screen())
    with pytest.raises(ValueError, match=r"roles: the stage toy_preference has no teacher; it has reference"):
        toy_spec(name="n", roles__teacher="other")
    strange = start(small_spec(name="strange", model__vocab_size=500, loop__max_steps=1), Screen())
    assert strange.state().word == "SUCCEEDED"
    with pytest.raises(ValueError, match=r"roles.reference = strange has another tokenizer: .* [0-9a-f]{64}"):
        start(toy_spec(name="n", roles__reference="strange"), Screen())
    assert not run_of(home, "n").exists


def test_a_reference_in_a_folder_is_kept_relative_to_the_home(home: Path) -> None:
    folder = checkpoint_folders.folder_of(run_of(home, "other").checkpoints, 2)
    spec, _ = resolve(toy_spec(roles__reference=str(folder)), None, Screen())
    assert (
        spec.roles["reference"] == "./" + folder.relative_to(home).as_posix()
        or not Path(spec.roles["reference"]).is_absolute()
    )
    assert find_weights(spec.roles["reference"]).folder == folder


def test_an_adapter_trains_beside_the_reference_and_may_be_one(home: Path) -> None:
    every: dict[str, Any] = {"loop__max_steps": 2, "adapter": '{"rank": 2}'}
    run = start(toy_spec(name="adapted", **every), Screen())
    assert run.state().word == "SUCCEEDED"
    assert read_manifest(checkpoint_folders.folder_of(run.checkpoints, 2))["base"]["run_id"] == "small"
    against = start(
        toy_spec(name="against", init_from="adapted", roles__reference="adapted", loop__max_steps=2), Screen()
    )
    assert against.state().word == "SUCCEEDED"
    assert metric_series(against.events_path, "val/loss")[1][0] == pytest.approx(0.6931, abs=1e-4)


def test_lists_show_it(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["runs"]) == 0
    assert NAME in capsys.readouterr().out
    best = find_weights("pref@best").folder
    screen = Screen()
    show(run_of(home), screen)
    assert "val/accuracy   " in screen.text  # a curve of its own
    assert "share of what is to be preferred" in screen.text
    table = screen.text.partition("\ncheckpoints\n")[2].splitlines()
    assert table[0].split() == ["step", "size", "val/accuracy"]
    marked = [line.split()[0] for line in table if line.endswith("best so far") or ", best so far" in line]
    assert [checkpoint_folders.folder_of(run_of(home).checkpoints, int(step)) for step in marked] == [best]
    # Where stages are not loaded nobody knows what their metrics mean; that there are some is seen all the same.
    for name in ("train/accuracy", "val/accuracy"):
        monkeypatch.delitem(METRICS, name)
    assert find_weights("pref@best").folder == best
    screen = Screen()
    show(run_of(home), screen)
    assert "val/accuracy   " in screen.text


def test_its_validations_are_told_as_they_come(home: Path) -> None:
    screen = Screen()
    start(toy_spec(name="told", loop__max_steps=1), screen)
    (line,) = [line for line in screen.text.splitlines() if "1/1" in line and "validation" in line]
    assert re.search(r"loss \d\.\d{4}  accuracy \d\.\d{4}$", line.rstrip())


def test_it_is_listed_and_served_as_any_model(home: Path) -> None:
    card = next(card for card in Catalog().cards() if card.id == "pref")
    assert (card.stage, card.chat, card.parent) == (NAME, True, "small@2")
    with serving() as served:
        assert {"pref", f"pref@{STEPS}"} <= {model.id for model in served.client.models.list()}
        answer = served.client.chat.completions.create(
            model="pref@best", max_tokens=4, messages=[{"role": "user", "content": "中国的首都是哪里？"}]
        )
    assert answer.usage is not None
    assert 0 < answer.usage.completion_tokens <= 4


def test_its_rows_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(PAIRS), "--stage", "dpo"]) == 0
    assert "Nothing stands in the way of training on it." in capsys.readouterr().out


def test_where_length_decides_it_is_said_before_a_run(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    row = '{{"prompt": "q{number}", "chosen": "the longer one", "rejected": "short"}}\n'
    path.write_text("".join(row.format(number=number) for number in range(20)))
    screen = Screen()
    prepare(resolve(toy_spec(data__path=str(path)), None, screen)[0], screen)
    assert "Length gives the better answer away: taking the longer one is right in 100%" in " ".join(
        screen.text.split()
    )
    assert main(["data", "check", str(path)]) == 0


def test_pairs_are_counted_as_pairs(home: Path) -> None:
    screen = Screen()
    prepare(resolve(toy_spec(data__max_seq_len=48, data__limits__max_bad_turns=99), None, screen)[0], screen)
    width, rows = 48, len(PAIRS.read_text("utf-8").splitlines())
    shards = TokenShards.open(prepared(toy_spec())[1].shards, Tokenizer.load(find_weights("small").folder).fingerprint)
    kept = learnable(shards, width)
    long = sum(bool((shards.lengths[2 * row : 2 * row + 2] > width).any()) for row in kept)
    (line,) = [line for line in screen.text.splitlines() if line.startswith("Data: dpo.jsonl")]
    assert line.startswith(f"Data: dpo.jsonl: {rows} pairs of answers, ")
    assert f"; {long} longer than {width} tokens lose their end" in line
    assert f"; {rows - len(kept)} of which nothing can be learnt in {width} tokens left out" in line
    assert 0 < len(kept) < rows
    assert long


def with_critic(stage: Stage) -> Stage:
    """The stage with a second model that trains: it learns to tell which of two answers is the better one."""

    def models(spec: RunSpec, weights: ModelSource) -> dict[str, nn.Module]:
        return {**stage.models(spec, weights), "critic": ScoreModel.of(weights.policy())}

    def objective(spec: RunSpec) -> Objective:
        preference = stage.objective(spec)

        def both(models: Models, batch: AnswerBatch) -> Loss:
            loss, critic = preference(models, batch), models["critic"]
            assert isinstance(critic, ScoreModel)
            score_A = critic.scores(batch.tokens_BT, batch.segment_BT, batch.branch_BT).flatten()[batch.last_A]
            return replace(loss, total=loss.total - F.logsigmoid(score_A[0::2] - score_A[1::2]).sum())

        return both

    return replace(stage, models=models, objective=objective)


def test_a_second_model_that_trains_is_saved_and_goes_on_as_if_it_had_not_stopped(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(STAGES, NAME, with_critic(STAGES[NAME]))
    with pytest.raises(ValueError, match=r"optim.lr_scale names reference; what trains here is policy, critic"):
        trial_recipe(toy_spec(optim__lr_scale='{"reference": 2.0}'), torch.float32)
    planned = trace(lambda: trial_recipe(toy_spec(), torch.float32), "cpu")
    assert planned.peak_bytes == pytest.approx(counted(lambda: trial_recipe(toy_spec(), torch.float32)), rel=1e-3)
    run = start(toy_spec(name="two", optim__lr_scale='{"critic": 0.5}'), Screen())
    assert run.state().word == "SUCCEEDED"
    folders = [checkpoint_folders.folder_of(run.checkpoints, step) for step in (1, STEPS)]
    early, late = (checkpoints.load(folder).roles["critic"] for folder in folders)
    assert all(not torch.equal(early[name], late[name]) for name in ("score.weight", "model.embed_tokens.weight"))
    whole = end_of(run), late
    kill_at(run, 3)
    assert resume("two", {}, Screen()).state().word == "SUCCEEDED"
    assert_same((end_of(run), checkpoints.load(folders[1]).roles["critic"]), whole)


def prepared(spec: RunSpec) -> tuple[RunSpec, Prepared]:
    spec, _ = resolve(spec, None, Screen())
    return spec, prepare(spec, Screen())


def steps_of(spec: RunSpec, made: Prepared, prompts_at_once: int | None = None) -> tuple[Recipe, RecordingHooks]:
    """The steps of a run on the lowest rung of its ladder. prompts_at_once: None for as many as a batch has."""
    built = build(spec, made, Parallel())
    recipe = built.recipe
    assert isinstance(recipe.batches, WrittenPairs)
    if prompts_at_once is not None:
        recipe.batches.rows_at_once = prompts_at_once
    hooks = RecordingHooks()
    train(recipe, TrainState(rows_at_once=1, checkpointing=True), hooks, Parallel())
    return recipe, hooks


SHORT: dict[str, Any] = {"loop__batch_size": 32, "loop__accumulation_steps": 1, "loop__max_steps": 2}


@pytest.mark.slow
def test_where_writing_runs_out_of_memory_less_is_written_at_once(home: Path) -> None:
    spec, made = prepared(toy_spec(**SHORT))
    with MemoryLimit(1 << 40) as standing:
        expected, _ = steps_of(spec, made, 8)
    with MemoryLimit(standing.peak_bytes):
        recipe, hooks = steps_of(spec, made)
    assert [text for text, _ in hooks.notes] == [
        f"out of memory after step 0: answers are written for {count} prompts at once" for count in (16, 8)
    ]
    assert hooks.steps("log") == [1, 2]
    assert_same(recipe.models["policy"].state_dict(), expected.models["policy"].state_dict())


@pytest.mark.slow
def test_a_limit_in_the_middle_makes_the_same_batches_again(home: Path) -> None:
    """Memory runs out in a take, not where the worst is tried: whatever had been made by then is made again."""
    spec, made = prepared(toy_spec(**SHORT))
    expected, _ = steps_of(spec, made)
    built = build(spec, made, Parallel())
    source = built.recipe.batches
    assert isinstance(source, WrittenPairs)
    assert isinstance(source, GeneratingSource)
    write, calls = source._with_own_answers, []

    def short(batch: Any) -> Any:
        calls.append(source.rows_at_once)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("made up")
        return write(batch)

    source._with_own_answers = short  # type: ignore[method-assign]
    hooks = RecordingHooks()
    with MemoryLimit(1 << 40):
        train(built.recipe, TrainState(rows_at_once=1, checkpointing=True), hooks, Parallel())
    assert calls == [32, 32, 16, 16]
    assert len(hooks.notes) == 1
    assert hooks.steps("log") == [1, 2]
    assert_same(built.recipe.models["policy"].state_dict(), expected.models["policy"].state_dict())


def both(parallel: Parallel, spec: RunSpec, made: Prepared, home: Path) -> dict[str, Any]:
    """A run of two workers, and the same once more from the middle of what they had made."""
    add_row()
    os.environ["MINIMIND_HOME"] = str(home)
    run = run_of(home, spec.name)
    work(spec, made, run, parallel)
    whole = end_of(run)
    dist.barrier()
    if parallel.rank == 0:
        kill_at(run, 3)
    dist.barrier()
    work(spec, made, run, parallel)
    assert_same(end_of(run), whole)
    states = whole["train_state"]["batches"]
    return {"weights": whole["weights"], "ranks": len(states)}


@pytest.mark.slow
def test_two_workers_train_as_one_and_each_keeps_what_it_has_made(home: Path, tmp_path: Path) -> None:
    tame = {"optim__name": "adamw", "optim__eps": 1e-4, "optim__learning_rate": 1e-3, "loop__accumulation_steps": 2}
    one = start(toy_spec(name="one", **tame), Screen())
    spec, made = prepared(toy_spec(name="two", **tame | {"loop__accumulation_steps": 1, "scaling__workers": 2}))
    run = run_of(home, "two")
    run.create(spec.model_dump(mode="json"))
    first, _ = run_ranks(2, partial(both, spec=spec, made=made, home=home), tmp_path)
    assert first["ranks"] == 2
    expected = end_of(one)["weights"]
    start_of = checkpoints.load(find_weights("small").folder).weights
    moved = sum(float((expected[key] - start_of[key]).square().sum()) for key in expected)
    apart = sum(float((expected[key] - first["weights"][key]).square().sum()) for key in expected)
    assert apart < 1e-3**2 * moved
    kill_at(run, 3)
    alone = override(spec, {"scaling.workers": 1, "loop.accumulation_steps": 2})
    work(alone, made, run, Parallel())
    assert run.state().word == "FAILED"
    assert "so it goes on with as many: --workers 2" in run.state().reason
    assert read_events(run.events_path)
