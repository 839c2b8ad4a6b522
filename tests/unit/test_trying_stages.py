"""The stages that learn by trying, as runs from settings to their end."""

from __future__ import annotations

import gc
import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial, partialmethod
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import psutil
import pytest
import torch

from data.batches import OrderedBatches
from jobs import paths
from jobs.fit.card import named_card
from jobs.fit.needs import Needs
from jobs.fit.plan import Planner
from jobs.fit.view import show_plan
from jobs.runs.directory import RunDirectory
from jobs.runs.progress import RunProgress
from jobs.stages import trying
from jobs.stages.origin import new_spec
from jobs.stages.recipe import trial_recipe
from jobs.stages.spec import RunSpec
from jobs.stages.trying import TermJudge, writing
from jobs.text.prepare import prepare, require_files
from jobs.training.build import Built, build
from jobs.training.run import resolve, resume, start
from minimind.checkpoints import folders as checkpoint_folders
from minimind.config import override
from minimind.device.distributed import Parallel
from minimind.device.limit import MemoryLimit
from minimind.events import metric_series, read_events
from minimind.inference.engine import Engine
from minimind.memory.trace import trace
from minimind.network.model import MOST_GRAPHS, MiniMind
from minimind.training import attempts, rollout
from minimind.training.attempts import Attempts, Judge, Verdict
from minimind.training.loop import train
from minimind.training.policy import JudgedBatch, PolicyBatch, token_values, value_loss
from minimind.training.rollout import Written
from minimind.training.train_state import TrainState
from minimind.training.trial_steps import run_trial_steps
from tests.ranks import run_ranks
from tests.small import (
    CHATS,
    Screen,
    end_of,
    home_with,
    kill_at,
    run_of,
    small_spec,
    train_state,
    write_chats,
    write_rows,
)
from tests.toys import RecordingHooks, assert_same

QUESTIONS = str(paths.checkout() / "data" / "samples" / "rl.jsonl")
STEPS = 5

SPREAD = '[{"is": "language", "language": "en"}]'
"""A reward that what a model of a few steps writes differs in."""

TERMS = '[{"is": "language", "language": "en"}, {"is": "length", "least": 5, "slack": 8, "weight": 0.5}]'

PARTLY = '[{"is": "language", "language": "en", "weight": 0.5}, {"is": "number", "weight": 0.5}]'
"""A reward of which a term cannot judge answers to some of the questions: those whose right answer has no number."""

RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "grpo": ("grpo", {}),
    "grpo-twice": ("grpo", {"stage__passes": 2, "data__mix": 0.3}),
    "grpo-held": ("grpo", {"stage__loss__kl": 0.1, "adapter": '{"rank": 2}'}),
    "grpo-apart": (
        "grpo",
        {"stage__rewards": TERMS, "stage__separate": True, "stage__learn_cut": False, "stage__max_new_tokens": 24},
    ),
    "spo": ("spo", {}),
    "spo-mean": ("spo", {"stage__memory": "mean", "stage__rewards": TERMS, "stage__first_answers": 2}),
    "ppo": ("ppo", {}),
    "ppo-own": ("ppo", {"stage__critic": "own", "stage__loss__kl": 0.1, "stage__kl_in": "reward"}),
    "spo-part": ("spo", {"stage__rewards": PARTLY}),
    "ppo-part": ("ppo", {"stage__rewards": PARTLY}),
    "ppo-thrice": (
        "ppo",
        {"stage__passes": 3, "stage__stop_kl": 10.0, "stage__loss__per": "answer"}
        | {"data__mix": 0.5, "data__chats_path": str(CHATS)},
    ),
}
"""Run -> its stage and settings. Their weights are those of a run `small`."""


def spec_of(run: str, /, **settings: Any) -> RunSpec:
    stage, own = RUNS[run]
    usual = {"name": run, "init_from": "small", "loop__epochs": 9, "data__path": QUESTIONS}
    every = {"loop__max_steps": STEPS, "loop__save_interval": 1, "loop__keep_last": 99, "loop__batch_size": 4}
    trying: dict[str, Any] = {"stage__rewards": SPREAD, "stage__max_new_tokens": 12, "optim__learning_rate": 0.01}
    trying["stage__gate"] = "off"  # of its own: tests/unit/test_gate.py
    if stage == "grpo":
        trying["stage__group_size"] = 4
    return small_spec(stage, **{**usual, **every, **trying, **own, **settings})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with all runs, each with a checkpoint of every step."""
    return home_with(tmp_path_factory.mktemp("trained"), [small_spec(loop__max_steps=30), *map(spec_of, RUNS)])


def state_of(run: RunDirectory, step: int) -> dict[str, Any]:
    """That of what it learns from."""
    state: dict[str, Any]
    (state,) = train_state(run, step)["batches"]
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
    traced = trace(make, "cpu")
    assert traced.peak_bytes == pytest.approx(limit.peak_bytes, rel=1e-3)
    assert traced.phases()["writing"] < traced.phases()["learning"] == traced.peak_bytes


def test_a_plan_says_what_writing_takes_and_what_learning(home: Path) -> None:
    spec = spec_of("grpo", data__max_seq_len=64)
    short, long = (
        trace(partial(trial_recipe, override(spec, {"data.max_seq_len": width}), torch.float32), "cpu").phases()
        for width in (64, 256)
    )
    assert set(short) == {"writing", "learning"}
    assert long["writing"] > 2 * short["writing"]  # its cache is most of it
    screen = Screen()
    card = named_card("8GB")
    show_plan(Planner(card, Needs()).plan(spec), card, spec, screen)
    assert re.search(r"peak: \S+ \S+ while answers are written, \S+ \S+ while they are learnt", screen.text)


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


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # both from inside the compiler
@pytest.mark.filterwarnings("ignore:.*autograd.function.Function.* should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("name", ["grpo-twice", "spo", "ppo"])
@pytest.mark.slow
def test_a_compiled_policy_answers_learns_and_is_examined_as_another(
    home: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Through PyTorch's own kernels: those of inductor take a minute to compile.
    monkeypatch.setattr(MiniMind, "compile_blocks", partialmethod(MiniMind.compile_blocks, backend="eager"))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    usual: dict[str, Any] = {"loop__max_steps": 3, "optim__name": "adamw", "optim__eps": 1e-4}
    plain, compiled = (
        start(spec_of(name, name=f"compiled-{on}", loop__compile=on, **usual), Screen()) for on in (False, True)
    )
    assert plain.state().word == compiled.state().word == "SUCCEEDED"
    counters = torch._dynamo.utils.counters
    assert 0 < counters["stats"]["unique_graphs"] < MOST_GRAPHS / 2
    assert dict(counters["graph_break"]) == {}
    for metric in (
        "train/loss",
        "train/reward",
        "train/answer_tokens",
        "val/loss",
        "val/right",
        "val/pretrain_bits_per_byte",
    ):
        steps, values = metric_series(compiled.events_path, metric)
        expected = metric_series(plain.events_path, metric)
        assert steps == expected[0]
        assert values == pytest.approx(expected[1], abs=1e-4)
    # What is learnt is as likely as it was when it was drawn, without compiled blocks.
    assert max(metric_series(compiled.events_path, "train/gap")[1]) < 1e-5
    assert metric_series(compiled.events_path, "train/loss")[0] == [1, 2, 3]


@pytest.mark.parametrize("name", RUNS)
def test_how_prompts_lie_in_micro_batches_does_not_matter(home: Path, name: str) -> None:
    large, small = (
        learnt(name, str(home), Parallel(), loop__batch_size=size, loop__accumulation_steps=8 // size)
        for size in (8, 4)
    )
    require_close(large, small, 1e-5)


def test_what_is_remembered_and_what_is_not_learnt_yet_is_in_the_checkpoint(home: Path) -> None:
    for name in ("spo", "spo-mean"):
        known = [state_of(run_of(home, name), step)["credit"] for step in range(1, STEPS + 1)]
        assert [len(state["answers"]) for state in known] == sorted(len(state["answers"]) for state in known)
        assert 8 <= len(known[0]["answers"]) < len(known[-1]["answers"])
        assert known[0]["alpha"] != known[1]["alpha"]
    for name, left in (("grpo-twice", [1, 0, 1, 0, 1]), ("ppo-thrice", [2, 1, 0, 2, 1])):
        states = [state_of(run_of(home, name), step) for step in range(1, STEPS + 1)]
        assert [state["passes_left"] for state in states] == left
        assert [bool(state["set"]) for state in states] == [passes > 0 for passes in left]
        batch = PolicyBatch(**states[0]["set"][0])
        assert batch.old_M is not None
        assert (batch.value_M is None) == (name == "grpo-twice")
    assert not state_of(run_of(home, "grpo"), 2)["set"]


def test_what_is_measured_is_said_of_all_answers(home: Path) -> None:
    for name in RUNS:
        events = run_of(home, name).events_path
        for metric in ("reward", "reward_language", "answer_tokens", "cut_off", "not_judged", "entropy"):
            assert metric_series(events, f"train/{metric}")[0] == list(range(1, STEPS + 1)), (name, metric)
        assert metric_series(events, "val/right")[0] == [0, 4, 5]
        failed = metric_series(events, "train/not_judged")[1]
        if RUNS[name][1].get("stage__rewards") == PARTLY:
            assert all(0 < share < 1 for share in failed)
            assert metric_series(events, "train/not_judged_number")[1] == failed
            assert set(metric_series(events, "train/not_judged_language")[1]) == {0.0}
        else:
            assert set(failed) == {0.0}
    assert metric_series(run_of(home, "grpo-held").events_path, "train/kl")[1][0] == pytest.approx(0, abs=1e-6)
    assert metric_series(run_of(home, "grpo-held").events_path, "train/kl")[1][-1] > 0
    assert metric_series(run_of(home, "ppo-own").events_path, "train/kl")[1][-1] > 0
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


@pytest.mark.parametrize("name", RUNS)
def test_a_run_takes_no_more_than_its_plan_says_with_whatever_it_looks_at(home: Path, name: str) -> None:
    settings: dict[str, Any] = {"loop__batch_size": 1, "loop__accumulation_steps": 24, "optim__name": "adamw"}
    spec = spec_of(name, **settings)
    with MemoryLimit() as limit:
        learnt(name, str(home), Parallel(), **settings)
    # While text is learnt all micro-batches of the step are in a CPU's memory, of which a plan has one of each kind.
    held = 32 * (24 + trying.text_rows(spec)) * spec.data.max_seq_len if spec.data.mix else 0
    assert limit.peak_bytes <= trace(lambda: trial_recipe(spec, torch.float32), "cpu").peak_bytes + held


EQUAL = '[{"is": "length", "least": 0, "most": 99}]'
"""A reward that is 1 for whatever is written."""


def notes(run: RunDirectory, kind: str) -> list[str]:
    return [event["text"] for event in read_events(run.events_path, {"note"}) if event["kind"] == kind]


def test_where_all_rewards_are_equal_nothing_is_learnt_and_the_run_ends_with_what_to_do(home: Path) -> None:
    run = start(spec_of("grpo", name="even", stage__rewards=EQUAL, loop__epochs=1), Screen())
    assert run.state().word == "FAILED"
    assert "Always right, " in run.state().reason
    assert checkpoint_folders.steps(run.checkpoints) == []
    assert metric_series(run.events_path, "train/reward") == ([], [])
    assert metric_series(run.events_path, "val/reward") == ([0], [1.0])
    said = notes(run, "nothing_to_learn")
    assert [text.split(" in a row")[0] for text in said] == [
        f"after step 0: there was nothing to learn from in {count} steps" for count in (8, 16)
    ]
    few = start(spec_of("grpo", name="few", stage__rewards=EQUAL, loop__epochs=1, loop__batch_size=80), Screen())
    assert few.state().word == "FAILED"
    assert "Always right, " in few.state().reason
    assert not notes(run_of(home, "grpo"), "nothing_to_learn")


def test_a_run_with_few_steps_says_so_and_how_it_would_get_more(home: Path) -> None:
    few = start(spec_of("grpo", name="few", loop__epochs=2, loop__batch_size=20, loop__max_steps=None), Screen())
    steps = metric_series(few.events_path, "train/loss")[0][-1]
    assert 0 < steps < 10
    epochs = 2 * math.ceil(20 / steps)
    assert [text.split(" only")[0] for text in notes(few, "few_steps")] == [f"The prompts are enough for {steps} steps"]
    assert f"(--epochs {epochs})" in notes(few, "few_steps")[0]
    assert not notes(run_of(home, "grpo"), "few_steps")  # so many steps were asked for


def test_what_was_not_told_is_told_with_the_next_answers_there_is_something_to_learn_from(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every other set of answers has no signal."""
    judge, calls = TermJudge.judge, []

    def dull(self: TermJudge, written: Sequence[Written]) -> Verdict:
        verdict = judge(self, written)
        if len(written) != 32:  # held-out prompts
            return verdict
        calls.append(float(verdict.value_KA.mean()))
        even = len(self.rewards.names), len(written)
        return Verdict(np.full(even, 0.25), verdict.failed_KA) if len(calls) % 2 else verdict

    monkeypatch.setattr(TermJudge, "judge", dull)
    run = start(spec_of("grpo", name="dull"), Screen())
    steps, means = metric_series(run.events_path, "train/reward")
    assert steps == list(range(1, STEPS + 1))
    assert means == pytest.approx([(0.25 + real) / 2 for real in calls[1::2]], rel=1e-6)
    assert all(share >= 0.5 for share in metric_series(run.events_path, "train/no_signal")[1])


def test_what_was_not_told_is_part_of_the_state(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def even(self: TermJudge, written: Sequence[Written]) -> Verdict:
        return Verdict(np.full((1, len(written)), 0.25), np.arange(len(written))[None] == 0)

    one, other = (cast(Attempts, built_of("grpo", str(home), Parallel()).recipe.batches) for _ in range(2))
    with monkeypatch.context() as patch:
        patch.setattr(TermJudge, "judge", even)
        assert one.take(2) == one.take(2) == []
    state = one.state_dict()
    assert {name: (total, count) for name, total, count in state["untold"]} == {
        "reward": (16.0, 64), "reward_language": (16.0, 64), "answer_tokens": (pytest.approx(744, abs=24), 64),
        "cut_off": (pytest.approx(60, abs=4), 64), "not_judged": (2.0, 64), "no_signal": (16, 16),
        "not_judged_language": (2.0, 64),
        "repetition": (pytest.approx(64 * 0.05, abs=64 * 0.05), 64),
    }  # fmt: skip
    other.load_state_dict(state)
    for found, again in zip(one.attempt(2), other.attempt(2), strict=True):
        assert found.told == again.told
        assert_same(found.tensors(), again.tensors())
    assert one.state_dict()["untold"] == ()
    counts = [{name: count for name, _, count in batch.told} for batch in other._set]
    assert [of_batch.get("reward") for of_batch in counts] == [96, None]


@pytest.mark.parametrize("name", ["spo", "ppo"])
def test_equal_rewards_stop_no_run_of_single_answers(home: Path, name: str) -> None:
    run = start(spec_of(name, name="even", stage__rewards=EQUAL), Screen())
    assert run.state().word == "SUCCEEDED"
    assert metric_series(run.events_path, "train/reward") == ([1, 2, 3, 4, 5], [1.0] * STEPS)


@pytest.mark.parametrize("name", ["grpo", "spo", "ppo"])
def test_prompts_may_leave_room_for_one_token(home: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / "short.jsonl"
    rows = [{"prompt": f"{word}?", "answer": word} for word in "abcdefghijklmnopqrstuvwxyz0123456789"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    free = built_of(name, str(home), Parallel(), data__path=str(path))
    (batch,) = cast(Attempts, free.recipe.batches).prompts.take(1)
    assert len(set(batch.length_B.tolist())) == 1
    width = int(batch.length_B[0]) + 1
    terms = '[{"is": "stopped"}]'
    settings: dict[str, Any] = {"data__path": str(path), "data__max_seq_len": width, "stage__rewards": terms}
    run = start(spec_of(name, name="short", **settings), Screen())
    if name == "grpo":  # no answer of one token has ended
        assert "No prompt of 252 has signal" in run.state().reason
    else:
        assert run.state().word == "SUCCEEDED", run.state()
    assert set(metric_series(run.events_path, "train/answer_tokens")[1]) <= {1.0}
    assert set(metric_series(run.events_path, "val/answer_tokens")[1]) == {1.0}


@pytest.mark.parametrize("name", ["grpo", "spo", "ppo"])
def test_where_every_answer_is_cut_off_and_none_of_these_is_learnt_nothing_is(
    home: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trying, "writing", lambda *given: replace(writing(*given), stop_id=600))  # there is none such
    run = start(spec_of(name, name="cut", stage__learn_cut=False, loop__epochs=1), Screen())
    assert run.state().word == "SUCCEEDED"
    assert end_of(run) == end_of(run_of(home, "small"))
    assert notes(run, "nothing_to_learn")
    assert metric_series(run.events_path, "val/cut_off") == ([0], [1.0])
    learning = start(spec_of(name, name="learning"), Screen())
    assert metric_series(learning.events_path, "train/cut_off") == ([1, 2, 3, 4, 5], [1.0] * STEPS)


def test_settings_that_cannot_work_are_refused(home: Path) -> None:
    wrong: dict[str, tuple[str, dict[str, Any]]] = {
        r"stage.group_size = 1.*greater than or equal to 2": ("grpo", {"stage__group_size": 1}),
        r"stage: rewards = from 0 to 1.5 .* Say --set stage.memory=mean": ("spo", {"stage__rewards": TERMS}),
        r"stage: rewards = from -1 to 1 .* Say --set stage.memory=mean": (
            "spo", {"stage__rewards": '[{"is": "exact"}, {"is": "repetition"}]'},
        ),
        r"the scores of a reward model have no bounds.* Say --set stage.memory=mean": (
            "spo", {"stage__rewards": '[{"is": "exact"}, {"is": "reward_model"}]'},
        ),
        r"stage: rewards = from 0 to 2 ": (
            "spo", {"stage__rewards": '[{"is": "exact"}, {"is": "judge", "url": "http://a", "model": "m"}]'},
        ),
        r"clip_high = 0.28: of cispo": ("grpo", {"stage__loss__surrogate": "cispo"}),
        r"dual_clip = 10.0: cispo has its own bound, clip_high": (
            "spo", {"stage__loss__surrogate": "cispo", "stage__loss__clip_high": 5},
        ),
        r"stage.max_new_tokens = 0": ("ppo", {"stage__max_new_tokens": 0}),
        r"stage.passes = 0": ("ppo", {"stage__passes": 0}),
        r"5 terms of the kind exact: at most 4": ("grpo", {"stage__rewards": json.dumps([{"is": "exact"}] * 5)}),
    }  # fmt: skip
    for message, (name, settings) in wrong.items():
        with pytest.raises(ValueError, match=message):
            spec_of(name, **settings)
    cispo = {"stage__loss__surrogate": "cispo", "stage__loss__clip_high": 5, "stage__loss__dual_clip": None}
    assert start(spec_of("spo", name="cispo", **cispo), Screen()).state().word == "SUCCEEDED"


def test_what_only_punishes_cannot_say_what_is_right_in_a_new_run(home: Path) -> None:
    """One that is there, and goes on, may have such a reward."""
    punishing = {"stage.rewards": '[{"is": "overlong", "buffer": 8}, {"is": "exact"}]'}
    for name, settings, said in (
        ("grpo", punishing, "overlong is 0 at most, and what says whether an answer is right gives 1"),
        ("ppo", {"stage.truth": '{"is": "repetition"}'}, "repetition is 0 at most"),
    ):
        with pytest.raises(ValueError, match=f"{said}.*: name another term first"):
            new_spec(name, {"init_from": "none"} | settings)
    assert spec_of("grpo", stage__rewards=punishing["stage.rewards"]).stage.kind == "grpo"
    told = {"init_from": "none", "stage.truth": '{"is": "exact"}'} | punishing
    assert new_spec("grpo", told).stage.kind == "grpo"


def own_reward(tmp_path: Path, body: str, *before: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Settings for a function of the user's, behind other terms."""
    (tmp_path / "own_rewards.py").write_text(f"import os, time\ndef score(attempts):\n    {body}\n")
    terms = [*before, {"is": "python", "function": "own_rewards:score", **more}]
    return {"stage__rewards": json.dumps(terms), "stage__code_path": str(tmp_path)}


@pytest.mark.parametrize(
    ("body", "more"),
    [
        ("raise RuntimeError('no')", {}),
        ("time.sleep(60)", {"timeout_s": 0.3}),
        ("os._exit(3)", {}),
        ("return [float('nan')] * len(attempts)", {}),
    ],
)
def test_what_a_users_function_cannot_judge_is_counted(
    home: Path, tmp_path: Path, body: str, more: dict[str, Any]
) -> None:
    beside = own_reward(tmp_path, body, *json.loads(SPREAD), **more)
    run = start(spec_of("grpo", name="own", **beside, loop__max_steps=2), Screen())
    assert run.state().word == "SUCCEEDED"
    assert metric_series(run.events_path, "train/not_judged") == ([1, 2], [1.0, 1.0])
    assert metric_series(run.events_path, "train/reward_python") == ([1, 2], [0.0, 0.0])
    assert metric_series(run.events_path, "val/not_judged")[1][0] == 1.0
    first, *more_often = notes(run, "not_judged")
    assert "the reward python could not judge 32 of 32 answers" in first
    assert "own_rewards:score" in first
    assert len(more_often) == 1  # twice as many
    (alarm,) = [text for text in notes(run, "alarm") if "could not judge" in text]
    assert "The reward python could not judge 100 % of the answers" in alarm
    assert "own_rewards:score" in alarm
    # Where nobody can say what is right there is nothing to measure by either.
    own = own_reward(tmp_path, body, **more)
    alone = start(spec_of("grpo", name="alone", **own, loop__max_steps=2), Screen())
    assert alone.state().word == "FAILED"
    assert "the reward python, which says what is right, could judge none of the first" in alone.state().reason


@pytest.mark.parametrize("name", ["grpo", "spo", "ppo"])
def test_what_judges_may_be_away_when_a_run_goes_on(home: Path, tmp_path: Path, name: str) -> None:
    own = own_reward(tmp_path, "return [len(one['answer']) % 5 / 4 for one in attempts]")
    run = start(spec_of(name, name="on", loop__epochs=1, loop__max_steps=3, **own), Screen())
    assert run.state().word == "SUCCEEDED", run.state()
    kill_at(run, 2)
    own_reward(tmp_path, "return [None] * len(attempts)")
    resumed = resume("on", {}, Screen())
    assert resumed.state().word == "SUCCEEDED", resumed.state()
    assert "the reward python could not judge" in notes(run, "not_judged")[0]


def test_a_run_of_groups_without_signal_ends_with_what_to_do(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "PROMPTS_WITHOUT_SIGNAL", 8)
    run = start(spec_of("grpo", name="hopeless", stage__rewards='[{"is": "exact"}]', loop__max_steps=None), Screen())
    assert run.state().word == "FAILED"
    assert "No prompt of 8 has signal" in run.state().reason
    assert "Never right, 8 prompts: too hard. More SFT comes first" in run.state().reason


def test_rewards_of_a_users_function_that_cannot_be_counted_end_a_run_of_spo_with_a_sentence(
    home: Path, tmp_path: Path
) -> None:
    own = own_reward(tmp_path, "return [2.5] * len(attempts)")
    run = start(spec_of("spo", name="wide", **own), Screen())
    assert run.state().word == "FAILED"
    assert "a reward of 2.5: memory = counts is for rewards from 0 to 1. Set stage.memory=mean" in run.state().reason
    mean = start(spec_of("spo", name="mean", **own, stage__memory="mean"), Screen())
    assert mean.state().word == "SUCCEEDED"


def test_user_code_ends_with_what_it_was_asked_by(home: Path, tmp_path: Path) -> None:
    own = own_reward(tmp_path, f"open('pids', 'a').write(f'{{os.getpid()}} '); {SAME}")
    built = built_of("grpo", str(home), Parallel(), **own)
    built.recipe.batches.take(1)
    list(built.held_out.batches())
    pids = {int(pid) for pid in (tmp_path / "pids").read_text().split()}
    assert len(pids) == 1
    (pid,) = pids
    assert psutil.pid_exists(pid)
    del built
    gc.collect()
    assert not psutil.pid_exists(pid)


SAME = "return [1] * len(attempts)"


def run_short(patch: pytest.MonkeyPatch, most: int, *, tried: bool = False) -> None:
    """Let memory run out where more answers than these are written at once. tried: also where that is only tried."""
    worst = rollout.worst_writing

    def require(slots: int) -> None:
        if slots > most:
            raise torch.OutOfMemoryError("no room for so many")

    def engine(*given: Any, slots: int, **how: Any) -> Engine:
        require(slots)
        return Engine(*given, slots=slots, **how)

    def worst_writing(policy: MiniMind, how: rollout.Writing, slots: int) -> None:
        if tried:
            require(slots)
        worst(policy, how, slots)

    patch.setattr(rollout, "Engine", engine)
    patch.setattr(rollout, "worst_writing", worst_writing)


@pytest.mark.parametrize("name", ["grpo", "grpo-twice", "spo", "ppo"])
def test_where_memory_runs_out_fewer_answers_are_written_at_once_and_they_are_the_same(
    home: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    free, usual = learnt(name, str(home), Parallel())
    run_short(monkeypatch, 4)
    with MemoryLimit(1 << 34):
        short, metrics = learnt(name, str(home), Parallel())
    require_close((free, usual), (short, metrics), 1e-5)


def test_a_run_that_was_short_of_memory_stays_on_its_rung(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_short(monkeypatch, 4, tried=True)
    run = start(spec_of("grpo", name="tight", memory__vram="4GB"), Screen())
    assert run.state().word == "SUCCEEDED", run.state()
    said = notes(run, "out_of_memory")
    assert [text.split(": ")[1] for text in said] == [
        f"at most {count} answers are written at once from now on" for count in (8, 4)
    ]
    assert state_of(run, 3)["slots"] == 4
    assert end_of(run) == end_of(run_of(home, "grpo"))


def one_is_short(home: str, parallel: Parallel) -> tuple[list[torch.Tensor], list[dict[str, Any]]]:
    with pytest.MonkeyPatch.context() as patch, MemoryLimit(1 << 34):
        if parallel.rank == 1:
            run_short(patch, 8)
        return shared("spo", home, parallel)


@pytest.mark.slow
def test_where_one_worker_runs_short_both_try_again(home: Path, tmp_path: Path) -> None:
    one = shared("spo", str(home), Parallel())
    for two in run_ranks(2, partial(one_is_short, str(home)), tmp_path):
        require_close(one, two, 1e-5)


EXACT = '[{"is": "exact"}, {"is": "stopped", "weight": 0.5}]'


def test_answers_are_judged_beside_the_right_one_of_their_row(home: Path) -> None:
    source = cast(Attempts, built_of("grpo", str(home), Parallel(), stage__rewards=EXACT).recipe.batches)
    judge = cast(TermJudge, source.judge)
    prompts = [(row, judge.rows.batch([row]).prompts()[0]) for row in (0, 5)]
    rights = [judge.rows.right(row) for row, _ in prompts]
    written = [
        Written(row, prompt + own, len(prompt), [0.0] * len(own), finished, 12)
        for row, prompt in prompts
        for own, finished in ((rights[0], True), (rights[1], True), (rights[0][:-1], False), (rights[0][:-2], False))
    ]
    verdict = judge.judge(written)
    assert verdict.value_KA.tolist() == [[1, 0, 1, 0, 0, 1, 0, 0], [1, 1, 0, 0, 1, 1, 0, 0]]
    assert verdict.failed_K.tolist() == [0, 0]
    assert judge.weight_K.tolist() == [1.0, 0.5]
    attempt = judge.attempt(written[2])
    row = json.loads(Path(QUESTIONS).read_text("utf-8").splitlines()[int(judge.rows.chosen[0])])
    assert (attempt.answer.prompt, attempt.reference) == (row["prompt"], row["answer"])
    assert (attempt.answer.text, attempt.answer.finish) == (row["answer"], "length")
    assert (attempt.tokens, attempt.room) == (len(rights[0]) - 1, 12)


def test_held_out_answers_are_the_likeliest_and_right_by_the_first_term(home: Path) -> None:
    built = built_of("grpo-apart", str(home), Parallel(), stage__max_new_tokens=6)
    source = cast(Attempts, built.recipe.batches)
    (batch,) = [batch for batch in built.held_out.batches() if isinstance(batch, JudgedBatch)]
    examining = cast(TermJudge, cast(Any, built.held_out.batches).args[2])
    asked = [(row, examining.rows.batch([row]).prompts()[0]) for row in batch.rows]
    texts = []
    for row, prompt in asked:
        ids = list(prompt)
        while len(ids) < len(prompt) + 6 and ids[-1] != source.writer.how.stop_id:
            with torch.no_grad():
                ids.append(int(built.policy.logits(built.policy(torch.tensor([ids])))[0, -1].argmax()))
        own = len(ids) - len(prompt)
        texts.append(Written(row, ids, len(prompt), [0.0] * own, ids[-1] == source.writer.how.stop_id, 6))
    value_KA = examining.judge(texts).value_KA
    right_K = [int((value_A == 1).sum()) for value_A in value_KA]
    assert right_K[0] != right_K[1]
    sums = {name: total for name, total, _ in batch.told}
    assert sums["right"] == right_K[0]
    assert sums["reward"] == pytest.approx((value_KA[0] + 0.5 * value_KA[1]).sum())
    assert sums["answer_tokens"] == sum(len(one.own) for one in texts)
    assert {count for name, _, count in batch.told} == {len(texts)}


def test_what_is_written_depends_on_how_far_the_run_is(home: Path) -> None:
    source = cast(Attempts, built_of("grpo", str(home), Parallel()).recipe.batches)
    asked = [(row, source.prompts.take(1)[0].prompts()[0]) for row in (3, 4)]
    there, again, later = (
        [[one.tokens for one in group] for group in source.writer.write(position, asked)] for position in (8, 8, 16)
    )
    assert there == again != later
    assert all(len({tuple(tokens) for tokens in group}) > 1 for group in there)


def test_the_loss_of_ppo_is_that_of_its_policy_and_a_share_of_its_critics(home: Path) -> None:
    settings: dict[str, Any] = {"stage__value_weight": 0.25, "stage__loss__per": "constant"}
    built, spec = built_of("ppo", str(home), Parallel(), **settings), spec_of("ppo", **settings)
    (batch, *_), models = cast(Attempts, built.recipe.batches).attempt(1), built.recipe.models
    assert batch.room == 12
    whole, of_policy = built.recipe.objective(models, batch), trying.objective(spec)(models, batch)
    of_critic = value_loss(token_values(models, batch), batch, 0.2, "constant")
    assert of_critic.total.item() > 0
    assert whole.total.item() == pytest.approx(of_policy.total.item() + 0.25 * of_critic.total.item())
    assert whole.weight == of_policy.weight
    assert whole.metrics.keys() == of_policy.metrics.keys() | of_critic.metrics.keys()


def test_replayed_text_is_measured_and_read_on_and_on(home: Path) -> None:
    run = run_of(home, "grpo-twice")
    losses = metric_series(run.events_path, "train/replayed_loss")[1]
    assert len(losses) == STEPS
    assert all(0 < loss < 10 for loss in losses)
    rows = trying.text_rows(spec_of("grpo-twice"))
    assert rows == round(8 * 0.3 / 0.7)
    positions = [state_of(run, step)["text"]["position"] for step in range(1, STEPS + 1)]
    assert positions == [rows * step for step in range(1, STEPS + 1)]


def test_text_that_is_measured_on_alone_is_not_replayed(home: Path, tmp_path: Path) -> None:
    held_out = write_rows(
        tmp_path / "held.jsonl", [f"A text about fox number {at} and nothing else." for at in range(9)]
    )
    unknown = {"init_from": "none", "data__tokenizer": "small", "data__chats_path": str(CHATS)}
    built = built_of("grpo", str(home), Parallel(), data__mix=0.3, eval__pretrain_path=str(held_out), **unknown)
    beside = cast(Attempts, built.recipe.batches).beside
    assert beside is not None
    assert cast(OrderedBatches[Any], beside.text).rows.beside == 0
    assert built.text is not None


def test_conversations_that_were_taught_in_longer_rows_are_left_out(home: Path, tmp_path: Path) -> None:
    chats = write_chats(tmp_path / "chats.jsonl", [["hello", "yes, you"]] * 9 + [["word " * 100, "too late"]])
    spec, screen = spec_of("grpo", data__mix=0.3, data__chats_path=str(chats)), Screen()
    prepared = prepare(resolve(spec, None, screen)[0], screen)
    assert "data.chats_path" in prepared.sources
    assert "; 1 of which nothing can be learnt in 96 tokens left out" in " ".join(screen.text.split())
    texts = spec_of("grpo", data__mix=0.3, data__chats_path=str(write_rows(tmp_path / "texts.jsonl", ["A text."])))
    with pytest.raises(ValueError, match="conversations for data.chats_path: .*texts.jsonl:1: this is plain text"):
        require_files(texts)
    write_chats(chats, [["word " * 100, "too late"]])
    with pytest.raises(ValueError, match="chats.jsonl: of none of 1 conversations can anything be learnt in 96 tokens"):
        prepare(resolve(spec, None, screen)[0], screen)


def test_a_state_from_before_there_was_replay_is_gone_on_from(home: Path) -> None:
    spec = spec_of("spo")
    source = build(spec, prepare(spec, Screen()), Parallel()).recipe.batches
    state = state_of(run_of(home, "spo"), 2)
    source.load_state_dict({name: value for name, value in state.items() if name not in ("units", "text")})
    assert_same(source.state_dict(), state | {"units": 0})


def test_a_line_of_a_validation_fits_a_terminal(home: Path) -> None:
    screen = Screen()
    with RunProgress(screen) as shown:
        for event in read_events(run_of(home, "grpo").events_path):
            shown.update(event)
    (line, *_) = [line for line in screen.text.splitlines() if "validation" in line]
    assert "right" in line
    assert len(line) <= 80


def test_prompts_are_drawn_until_there_are_enough_groups_with_signal(home: Path) -> None:
    source = cast(Attempts, built_of("grpo", str(home), Parallel(), stage__draws=3).recipe.batches)
    judge, draws = source.judge, []

    def judged(written: Sequence[Written]) -> Verdict:
        draws.append([one.row for one in written])
        verdict = judge.judge(written)
        return verdict if len(draws) > 1 else replace(verdict, value_KA=np.zeros_like(verdict.value_KA))

    source.judge = cast(Judge, SimpleNamespace(names=judge.names, weight_K=judge.weight_K, judge=judged))
    batches = source.attempt(1)
    assert 2 <= len(draws) <= 3, "the first draw has no signal"
    learnt = {row for batch in batches for row in batch.rows}
    assert learnt
    assert not learnt & set(draws[0])
    assert source.prompts.position == 4 * len(draws)
    told = {name: (total, count) for name, total, count in batches[0].told}
    assert told["no_signal"][1] == 4 * len(draws)
    assert told["no_signal"][0] >= 4


@pytest.mark.parametrize(("least", "stops"), [(1e9, False), (1e-9, True)])
def test_a_policy_that_has_moved_too_far_makes_no_more_passes(home: Path, least: float, stops: bool) -> None:
    built = built_of("ppo-thrice", str(home), Parallel(), stage__stop_kl=least)
    source = cast(Attempts, built.recipe.batches)
    first = source.attempt(1)
    with torch.no_grad():
        built.policy.model.norm.weight.mul_(1.1)
    second = source.attempt(1)
    assert (second[0].rows != first[0].rows) is stops
    assert source.prompts.position == (8 if stops else 4)
    if stops:
        assert ("stopped", 1.0, 1.0) in second[0].told
