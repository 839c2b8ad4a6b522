"""The stages that learn from preferences and from a teacher, as runs from settings to their end."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import minimind.checkpoints.checkpoint as checkpoints
from data.row_values import MANIFEST
from jobs import paths
from jobs.fit.card import this_card
from jobs.fit.plan import Planner
from jobs.runs.references import find_weights
from jobs.stages import distill, dpo
from jobs.stages.origin import new_spec
from jobs.stages.preferences import ReferenceSettings
from jobs.stages.recipe import asking_recipe, trial_recipe
from jobs.stages.spec import RunSpec
from jobs.stages.weights import without_numbers
from jobs.text.prepare import prepare
from jobs.training.build import build, known_bytes
from jobs.training.run import resolve, resume, start
from minimind.checkpoints import folders as checkpoint_folders
from minimind.checkpoints.manifest import CheckpointError
from minimind.device.distributed import Parallel
from minimind.device.limit import MemoryLimit
from minimind.events import metric_series, read_events
from minimind.memory.plan import judge
from minimind.memory.trace import trace
from minimind.training.loop import train
from minimind.training.train_state import TrainState
from minimind.training.trial_steps import run_trial_steps
from minimind.units import size
from tests.ranks import run_ranks
from tests.small import Screen, end_of, home_with, kill_at, run_of, small_spec
from tests.toys import RecordingHooks, assert_same

PAIRS = str(paths.checkout() / "data" / "samples" / "dpo.jsonl")
LABELS = str(paths.checkout() / "data" / "samples" / "kto.jsonl")
STEPS = 5

RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "dpo": ("dpo", {"data__path": PAIRS}),
    "cached": ("dpo", {"data__path": PAIRS, "stage__reference": "cached"}),
    "adapted": ("dpo", {"data__path": PAIRS, "adapter": '{"rank": 2, "dropout": 0.25}'}),
    "simpo": ("dpo", {"data__path": PAIRS, "stage__loss": "simpo", "stage__gamma": 0.5, "stage__sft_weight": 0.1}),
    "labelled": ("kto", {"data__path": LABELS}),
    "scores": ("reward", {"data__path": PAIRS}),
    "taught": ("distill", {"roles__teacher": "wide"}),
    "kept": ("distill", {"roles__teacher": "wide", "stage__cached": True, "stage__top_k": 16}),
    "matched": ("distill", {"roles__teacher": "wide", "stage__layers": "[[1, 2], [2, 2]]"}),
    "replayed": ("sft", {"data__mix": 0.5, "stage__replay": "teacher"}),
    "adapted-replayed": ("lora", {"data__mix": 0.5, "stage__replay": "teacher"}),
    "own": ("distill", {"roles__teacher": "wide", "stage__on_policy": True, "stage__max_new_tokens": 8}),
}
"""Run -> its stage and settings. Their weights are those of a run `small`, those of the teacher of `wide`."""


def spec_of(run: str, /, **settings: Any) -> RunSpec:
    stage, own = RUNS[run]
    every = {"loop__max_steps": STEPS, "loop__save_interval": 1, "loop__keep_last": 99, "loop__batch_size": 2}
    usual = {"name": run, "init_from": "small", "loop__epochs": 9}
    return small_spec(stage, **{**usual, **every, **own, **settings})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with all runs, each with a checkpoint of every step."""
    first = [small_spec(loop__max_steps=2), small_spec(name="wide", model__hidden_size=64, loop__max_steps=2)]
    return home_with(tmp_path_factory.mktemp("trained"), [*first, *map(spec_of, RUNS)])


def test_the_text_that_may_be_forgotten_is_what_pretraining_held_out(home: Path) -> None:
    # Of pairs a larger part is held out than of text.
    assert spec_of("dpo").eval.fraction > small_spec().eval.fraction
    forgotten = "val/pretrain_bits_per_byte"
    before = {
        metric_series(run_of(home, name).events_path, forgotten)[1][0] for name in ("dpo", "labelled", "replayed")
    }
    assert len(before) == 1


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.slow
def test_stopped_at_any_step_it_ends_as_if_it_had_not_been(home: Path, name: str) -> None:
    run = run_of(home, name)
    whole = end_of(run)
    for step in (4, 1):
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


@pytest.mark.parametrize("name", ["cached", "kept"])
def test_the_plan_of_asking_beforehand_is_what_that_takes(home: Path, name: str) -> None:
    spec = spec_of(name)
    with MemoryLimit() as limit:
        run_trial_steps(asking_recipe(spec, torch.float32), 2)
    assert trace(lambda: asking_recipe(spec, torch.float32), "cpu").peak_bytes == pytest.approx(
        limit.peak_bytes, rel=1e-3
    )


def test_a_teacher_that_has_no_room_to_be_asked_is_refused(home: Path) -> None:
    start(small_spec(name="huge", model__hidden_size=512, model__num_hidden_layers=4, loop__max_steps=1), Screen())
    spec = spec_of("kept", name="wrong", roles__teacher="huge", memory__vram="20MB")
    planner = Planner(this_card("20MB"))
    assert judge(planner.need(spec), 20 << 20, planner.card.platform).verdict == "fits"
    with pytest.raises(ValueError, match="by the teacher that is asked about the rows: a smaller one needs less"):
        start(spec, Screen())
    assert planner.fits(spec_of("kept", name="fits", memory__vram="20MB"))


def learnt(name: str, home: str, parallel: Parallel) -> list[torch.Tensor]:
    """What two steps of a run make of its weights, on so many ranks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIMIND_HOME", home)
        each = {"scaling__workers": parallel.world, "loop__accumulation_steps": 4 // parallel.world}
        spec = spec_of(name, loop__max_steps=2, loop__batch_size=1, optim__name="adamw", **each)
        spec, _ = resolve(spec, None, Screen())
        built = build(spec, prepare(spec, Screen()), parallel)
        train(built.recipe, TrainState(), RecordingHooks(), parallel)
    return [parameter.detach().clone() for parameter in built.policy.parameters()]


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.slow
def test_two_workers_learn_what_one_does(home: Path, tmp_path: Path, name: str) -> None:
    if name == "adapted":
        pytest.skip("each worker draws its own dropout")
    two = run_ranks(2, partial(learnt, name, str(home)), tmp_path)
    one = learnt(name, str(home), Parallel())
    for mine, *others in zip(one, *two, strict=True):
        for other in others:
            torch.testing.assert_close(other, mine, rtol=1e-3, atol=1e-5)


def test_a_cached_reference_gives_the_same_numbers(home: Path) -> None:
    for metric in ("train/loss", "val/loss", "val/accuracy", "val/kl"):
        live, cached = (metric_series(run_of(home, name).events_path, metric) for name in ("dpo", "cached"))
        assert cached[0] == live[0]
        assert cached[1] == pytest.approx(live[1], abs=1e-5)
    assert len(list((home / "cache" / "known").iterdir())) == 4  # rows to train on and held-out ones, of two runs


def test_a_cache_that_is_gone_is_computed_again_of_the_weights_that_the_run_began_with(home: Path) -> None:
    run = run_of(home, "cached")
    whole = end_of(run)
    kill_at(run, 2)
    shutil.rmtree(home / "cache" / "known")
    assert resume("cached", {}, Screen()).state().word == "SUCCEEDED"
    assert end_of(run) == whole


def test_what_is_kept_of_a_teacher_is_said_before_and_is_no_more_than_that(home: Path) -> None:
    shutil.rmtree(home / "cache" / "known")
    screen = Screen()
    start(spec_of("kept", name="said", loop__max_steps=1), screen)
    (line,) = [line for line in screen.text.splitlines() if line.startswith("Besides, up to ")]
    spec, _ = resolve(spec_of("kept"), None, Screen())
    most = known_bytes(spec, prepare(spec, Screen()))
    assert size(most) in line
    tensors = [load_file(part) for part in (home / "cache" / "known").rglob("*.safetensors")]
    kept = sum(each[name].numel() * each[name].element_size() for each in tensors for name in ("ids", "logprobs"))
    assert 0.5 * most < kept <= most  # what is behind max_seq_len is not kept


@pytest.mark.slow
def test_killed_while_it_caches_it_ends_as_if_it_had_not_been(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import os, signal, sys, data.row_values as values\n"
        "from jobs.training.run import start; from tests.small import Screen\n"
        "from tests.unit.test_preference_stages import spec_of\n"
        "sync, written = values.sync, []\n"
        "def killed(path):\n"
        "    written.append(path)\n"
        "    if len(written) == 4: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    sync(path)\n"
        "values.sync, values.PART_ROWS = killed, 2\n"
        "start(spec_of('cached', name='killed'), Screen())"
    )
    shutil.rmtree(home / "cache" / "known")
    command, environment = [sys.executable, "-c", program], os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, cwd=paths.checkout(), capture_output=True, timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    (folder,) = (home / "cache" / "known").iterdir()
    assert "part-00000.safetensors" in {part.name for part in folder.iterdir()}
    assert MANIFEST not in {part.name for part in folder.iterdir()}
    monkeypatch.setattr("data.row_values.PART_ROWS", 2)
    assert resume("killed", {}, Screen()).state().word == "SUCCEEDED"
    assert not list((home / "cache" / "known").rglob("*.partial"))
    assert_same(end_of(run_of(home, "killed")), end_of(run_of(home, "cached")))


def test_other_weights_have_a_cache_of_their_own(home: Path) -> None:
    start(spec_of("cached", name="again", loop__max_steps=1), Screen())
    assert len(list((home / "cache" / "known").iterdir())) == 4
    start(small_spec(name="other", seed=7, loop__max_steps=1), Screen())
    start(spec_of("cached", name="later", loop__max_steps=1, init_from="other"), Screen())
    assert len(list((home / "cache" / "known").iterdir())) == 6


def test_a_reference_may_be_another_run_but_not_one_of_other_tokens(home: Path) -> None:
    run = start(spec_of("dpo", name="held", roles__reference="wide", loop__max_steps=1), Screen())
    assert metric_series(run.events_path, "val/kl")[1][0] > 0
    start(small_spec(name="words", model__vocab_size=500, loop__max_steps=1), Screen())
    for name, role in (("dpo", "reference"), ("taught", "teacher")):
        settings = {"init_from": "small", f"roles.{role}": "words"}
        with pytest.raises(ValueError, match=rf"roles.{role} = words .*[0-9a-f]{{64}}.*[0-9a-f]{{64}}"):
            new_spec(RUNS[name][0], settings)


def test_a_reward_model_is_one_that_others_load_and_no_model_to_talk_with(home: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    folder = find_weights("scores").folder
    peer = AutoModelForSequenceClassification.from_pretrained(folder)
    assert type(peer).__name__ == "Qwen3ForSequenceClassification"
    model, _ = checkpoints.load_score_model(folder)
    tokens_BT = torch.arange(1, 13).view(2, 6)
    with torch.no_grad():
        theirs_B = peer(tokens_BT).logits[:, 0]
        torch.testing.assert_close(model.scores(tokens_BT)[:, -1], theirs_B, rtol=1e-4, atol=1e-5)
    with pytest.raises(CheckpointError, match="is a reward model: it gives scores .* and writes nothing"):
        new_spec("sft", {"init_from": "scores"})
    with pytest.raises(CheckpointError, match="is a reward model"):
        start(spec_of("taught", name="wrong", roles__teacher="scores"), Screen())
    with pytest.raises(CheckpointError, match="writes text and gives no scores: .*`minimind train reward`"):
        checkpoints.load_score_model(find_weights("small").folder)
    assert not run_of(home, "scores").samples_path.exists()
    with pytest.raises(ValueError, match="a reward model trains all of its weights"):
        start(spec_of("scores", name="wrong", adapter="{}"), Screen())


def test_pairs_that_are_too_long_are_left_out_of_a_reward_model_and_counted(home: Path) -> None:
    said = {}
    for name in ("dpo", "scores"):
        screen = Screen()
        spec, _ = resolve(spec_of(name, data__max_seq_len=48, data__limits__max_bad_turns=99), None, screen)
        prepare(spec, screen)
        (said[name],) = [line for line in screen.text.splitlines() if line.startswith("Data: dpo.jsonl")]
    assert "longer than 48 tokens lose their end" in said["dpo"]
    assert "longer than 48 tokens left out" in said["scores"]
    assert "lose their end" not in said["scores"]


def test_the_settings_of_a_stage_are_checked_against_each_other() -> None:
    wrong: dict[str, tuple[str, dict[str, Any]]] = {
        "loss = sigmoid has no gamma": ("dpo", {"stage__gamma": 0.5}),
        "loss = hinge has no label_smoothing": ("dpo", {"stage__loss": "hinge", "stage__label_smoothing": 0.1}),
        "loss = simpo has no reference that could be cached": (
            "dpo", {"stage__loss": "simpo", "stage__reference": "cached"},
        ),
        r"stage.beta = 0.*greater than 0": ("dpo", {"stage__beta": 0}),
        r"alpha.*less than or equal to 1": ("taught", {"stage__alpha": 1.5}),
        r"temperature.*greater than 0": ("taught", {"stage__temperature": 0}),
        "on_policy = True: not with cached, for what the student writes is not known": ("own", {"stage__cached": True}),
        "alpha = 0.5: with on_policy it is 0, for what the student writes is no": ("own", {"stage__alpha": 0.5}),
        "max_new_tokens = 8: it is for on_policy alone": ("taught", {"stage__max_new_tokens": 8}),
        "layer_weight = 2.0: no layers are matched": ("taught", {"stage__layer_weight": 2.0}),
        "data.mix = 0.1: reward replays no text": ("scores", {"data__mix": 0.1}),
        r"stage.top_k = 0.*greater than or equal to 1": ("kept", {"stage__top_k": 0}),
        "top_k = 5: it is for cached alone: a teacher in memory tells of all tokens": ("taught", {"stage__top_k": 5}),
        "layers = .*: not with cached, which keeps of the teacher its": ("kept", {"stage__layers": "[[1, 1]]"}),
    }  # fmt: skip
    for message, (name, settings) in wrong.items():
        with pytest.raises(ValueError, match=message):
            spec_of(name, **settings)


def test_settings_have_the_defaults_that_suit_them(home: Path) -> None:
    losses = {name: dpo.settings(spec_of("dpo", stage__loss=name)).preference_loss for name in ("sigmoid", "simpo")}
    assert (losses["sigmoid"].beta, losses["simpo"].beta, losses["simpo"].gamma) == (0.1, 2.0, 1.0)
    given = dpo.settings(spec_of("simpo", stage__beta=3.0, stage__gamma=0.0)).preference_loss
    assert (given.beta, given.gamma) == (3.0, 0.0)
    usual = {"init_from": "small", "roles.teacher": "wide"}
    own = {"stage.on_policy": True}
    taught, on_policy, named, together = (
        new_spec("distill", usual | more)
        for more in ({}, own, own | {"optim.learning_rate": 0.5}, own | {"loop.batch_size": 128})
    )
    assert on_policy.optim.learning_rate == pytest.approx(0.3 * taught.optim.learning_rate)
    assert on_policy.global_batch_size == 64
    assert named.optim.learning_rate == 0.5
    assert together.loop.accumulation_steps == 1
    assert new_spec("distill", usual | own | {"loop.batch_size": 33}).global_batch_size == 66
    assert new_spec("distill", usual | own | {"loop.accumulation_steps": 2}).loop.accumulation_steps == 2


def test_what_cannot_be_taught_is_refused_before_anything_runs(home: Path) -> None:
    with pytest.raises(ValueError, match="distill needs a teacher: name it with --teacher RUN"):
        new_spec("distill", {"init_from": "small"})
    with pytest.raises(ValueError, match=r"hidden states of \[9\]: this model has 0 \(the embedding\) to 2"):
        start(spec_of("matched", name="wrong", stage__layers="[[9, 2]]"), Screen())
    with pytest.raises(ValueError, match="stage.top_k = 600: there are 600 tokens; take fewer"):
        start(spec_of("kept", name="wrong", stage__top_k=600), Screen())
    with pytest.raises(ValueError, match=r"data.mix = 0.3: a cached teacher has not read the text that is replayed"):
        start(spec_of("kept", name="wrong", data__mix=0.3), Screen())
    with pytest.raises(ValueError, match=r"data.mix = 0.3: on policy the student writes all that it learns from"):
        start(spec_of("own", name="wrong", data__mix=0.3), Screen())
    with pytest.raises(ValueError, match="roles.reference = wide@2: this loss has no reference"):
        start(spec_of("simpo", name="wrong", roles__reference="wide"), Screen())
    with pytest.raises(ValueError, match=r"stage.replay = teacher: no text is replayed, data.mix = 0"):
        start(spec_of("replayed", name="wrong", data__mix=0.0), Screen())
    with pytest.raises(ValueError, match="stage.replay = teacher: weights that are drawn anew have nothing to keep"):
        without_numbers(spec_of("replayed", init_from="none"))
    assert not (home / "runs" / "wrong").exists()


def test_a_student_on_policy_learns_from_what_it_writes(home: Path) -> None:
    run = run_of(home, "own")
    divergences = metric_series(run.events_path, "train/divergence")[1]
    assert len(divergences) == STEPS
    assert metric_series(run.events_path, "train/loss")[1] == pytest.approx(divergences)  # alpha is 0, beta 1


def test_better_answers_that_become_less_likely_are_told_of(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "from -1.00 to -1.50 nats per token" in dpo.remark({"chosen_logprob": -1.0}, {"chosen_logprob": -1.5})
    assert not dpo.remark({"chosen_logprob": -1.0}, {"chosen_logprob": -0.5})
    monkeypatch.setattr(dpo, "FALL", -99.0)  # whatever has become of them
    run = start(spec_of("dpo", name="far"), Screen())
    was, *_, now = metric_series(run.events_path, "val/chosen_logprob")[1]
    (note,) = [event for event in read_events(run.events_path, {"note"}) if event["kind"] == "remark"]
    assert f"from {was:.2f} to {now:.2f} nats per token" in note["text"]
    assert "sft_weight" in note["text"]


def test_a_validation_on_a_handful_of_pairs_is_told_of(home: Path) -> None:
    (note,) = [
        event for event in read_events(run_of(home, "dpo").events_path, {"note"}) if event["kind"] == "few_held_out"
    ]
    assert re.search(r"Validation has only \d pairs of answers to measure on: its numbers tell little", note["text"])
    assert "few_held_out" not in {event["kind"] for event in read_events(run_of(home, "taught").events_path, {"note"})}


def test_a_student_that_goes_away_from_its_teacher_is_told_of() -> None:
    assert "1.39 nats per token then, 2.20 now" in distill.remark({"divergence": 1.39}, {"divergence": 2.2})
    assert not distill.remark({"divergence": 1.39}, {"divergence": 1.2})


def test_how_far_a_model_drifts_on_replayed_text_is_measured(home: Path) -> None:
    drifts = metric_series(run_of(home, "replayed").events_path, "train/drift")[1]
    assert drifts
    assert all(drift > 0 for drift in drifts[1:])


def test_a_run_that_began_with_a_role_it_does_without_goes_on(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReferenceSettings, "does_without", ())
    run = start(spec_of("simpo", name="older"), Screen())
    monkeypatch.undo()
    monkeypatch.setenv("MINIMIND_HOME", str(home))
    kill_at(run, 2)
    assert resume("older", {}, Screen()).state().word == "SUCCEEDED"
    assert end_of(run) == end_of(run_of(home, "simpo"))


def test_a_run_needs_the_models_of_those_roles_that_its_settings_use(home: Path) -> None:
    needs = {name: set(prepare(resolve(spec_of(name), None, Screen())[0], Screen()).role_folders) for name in RUNS}
    assert needs["simpo"] == needs["scores"] == set()
    assert needs["replayed"] == {"teacher"}
    assert needs["cached"] == {"reference"}
    assert needs["taught"] == {"teacher"}


def test_a_line_of_a_validation_fits_a_terminal(home: Path) -> None:
    from jobs.runs.progress import RunProgress

    screen = Screen()
    with RunProgress(screen) as shown:
        for event in read_events(run_of(home, "dpo").events_path):
            shown.update(event)
    (line, *_) = [line for line in screen.text.splitlines() if "validation" in line]
    assert "accuracy" in line
    assert "chosen_reward" not in line


def test_specs_keep_what_a_stage_was_told(home: Path) -> None:
    for name in RUNS:
        stored = json.loads(run_of(home, name).spec_path.read_text("utf-8"))
        assert RunSpec.model_validate(run_of(home, name).spec()).stage.kind == stored["stage"]["kind"] == RUNS[name][0]
    assert checkpoint_folders.steps(run_of(home, "dpo").checkpoints) == list(range(STEPS + 1))[1:]
