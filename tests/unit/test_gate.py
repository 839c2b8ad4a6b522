"""Runs that try and go back: by real steps of toy runs, whose plain text gets worse at a wild rate."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rich.cells import cell_len

import minimind.checkpoints.checkpoint as checkpoints
from jobs.experiment import log
from jobs.runs import samples
from jobs.runs.directory import RunDirectory
from jobs.runs.progress import show_events
from jobs.runs.references import find_weights
from jobs.runs.show import show, show_answers
from jobs.stages import trying
from jobs.stages.spec import RunSpec
from jobs.stages.trying import HeldOutJudge
from jobs.text.prepare import Prepared, prepare
from jobs.training import worker
from jobs.training.run import newest_is_best, resolve, resume, start
from jobs.training.worker import RunHooks, work
from minimind.checkpoints import folders as checkpoint_folders
from minimind.checkpoints.manifest import weights_sha256
from minimind.device.distributed import Parallel
from minimind.events import Event, metric_series, read_events
from minimind.language import speaking
from minimind.training.attempts import Attempts
from minimind.training.loop import NOTED_WHEN_EMPTY
from tests.ranks import run_ranks
from tests.small import Screen, end_of, home_with, kill_at, run_of, small_spec, train_state
from tests.unit.test_trying_stages import QUESTIONS, SPREAD, TERMS

STEPS = 10
LOOSE = 1.0
"""A share of right answers cannot fall by more."""

RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "grpo": ("grpo", {"stage__group_size": 4}),
    "grpo-twice": ("grpo", {"stage__group_size": 4, "stage__passes": 2, "stage__loss__kl": 0.01}),
    "spo": ("spo", {}),
    "ppo": ("ppo", {"stage__critic": "own"}),
}


def spec_of(run: str, /, text: float = 0.01, returns: int = 9, **settings: Any) -> RunSpec:
    stage, own = RUNS[run]
    gate = json.dumps({"right": LOOSE, "text": text, "returns": returns})
    usual: dict[str, Any] = {
        "name": run, "init_from": "small", "data__path": QUESTIONS, "optim__learning_rate": 0.01,
        "loop__max_steps": STEPS, "loop__epochs": 9, "loop__save_interval": 3, "loop__eval_interval": 2,
        "loop__keep_last": 99, "stage__rewards": SPREAD, "stage__max_new_tokens": 12, "stage__gate": gate,
    }  # fmt: skip
    return small_spec(stage, **{**usual, **own, **settings})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with all runs."""
    return home_with(tmp_path_factory.mktemp("trained"), [small_spec(loop__max_steps=30), *map(spec_of, RUNS)])


def returns(run: RunDirectory) -> list[Event]:
    return [event for event in read_events(run.events_path, {"note"}) if event["kind"] == "return"]


def weights(run: RunDirectory, step: int) -> dict[str, torch.Tensor]:
    return checkpoints.load(checkpoint_folders.folder_of(run.checkpoints, step)).weights


@pytest.mark.parametrize("name", RUNS)
def test_where_what_is_held_out_gets_worse_the_run_goes_back_and_on_at_half_the_rate(home: Path, name: str) -> None:
    run = run_of(home, name)
    told = returns(run)
    assert told
    first = told[0]
    step, good = first["step"], first["good"]
    assert good < step
    assert f"The run goes back to the weights of step {good}, and on with 0.5 times the learning rate." in first["text"]
    back, then = train_state(run, step), train_state(run, good)
    for mine, theirs in zip(weights(run, step).values(), weights(run, good).values(), strict=True):
        assert torch.equal(mine, theirs)
    assert str(back["optimizer"]) == str(then["optimizer"])
    assert back["state"]["step"] == step
    assert (back["state"]["rate"], back["state"]["returns"]) == (0.5, 1)
    assert back["batches"][0]["credit"] == then["batches"][0]["credit"]
    assert back["batches"][0]["passes_left"] == 0
    assert back["batches"][0]["prompts"]["position"] > then["batches"][0]["prompts"]["position"]
    # Steps, data and schedule go on, and curves show each step once, with what was measured before the return.
    steps, rates = metric_series(run.events_path, "train/lr")
    assert steps == list(range(1, steps[-1] + 1))
    factors = [0.5 ** sum(event["step"] < at for event in told) for at in steps]
    plain = [rate / factor for rate, factor in zip(rates, factors, strict=True)]
    assert plain == sorted(plain, reverse=True) or plain[0] < plain[1]  # it warms up first
    at, text = metric_series(run.events_path, "val/pretrain_bits_per_byte")
    assert dict(zip(at, text, strict=True))[step] > 1.01 * text[0]


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.slow
def test_killed_at_any_checkpoint_it_ends_as_if_it_had_not_been(home: Path, name: str) -> None:
    run = run_of(home, name)
    whole, told = end_of(run), [(event["step"], event["good"]) for event in returns(run)]
    for step in sorted(checkpoint_folders.steps(run.checkpoints), reverse=True)[1:]:
        kill_at(run, step)
        run.events_path.write_text(
            "".join(
                line
                for line in run.events_path.read_text("utf-8").splitlines(keepends=True)
                if '"kind": "return"' not in line
            )
        )
        assert resume(name, {}, Screen()).state().word == "SUCCEEDED"
        assert end_of(run) == whole, step
        assert [(event["step"], event["good"]) for event in returns(run)] == [pair for pair in told if pair[0] > step]


def test_where_facts_are_forgotten_it_goes_back(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = trying.fact_judge

    def forgetting(*given: Any) -> HeldOutJudge:
        judge, asked = real(*given), list[int]()

        def right(written: Sequence[Any], verdict: Any) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
            asked.append(len(written))
            every = np.ones(len(written), np.bool_)
            return (every if len(asked) == 1 else ~every), every

        monkeypatch.setattr(judge, "right", right)
        return judge

    monkeypatch.setattr(trying, "fact_judge", forgetting)
    facts = tmp_path / "facts.jsonl"
    facts.write_text("".join(json.dumps({"prompt": f"Fact {at}?", "answer": "Yes."}) + "\n" for at in range(40)))
    settings = {"name": "facts", "eval__facts_path": str(facts), "stage__max_new_tokens": 4, "loop__max_steps": 4}
    run = start(spec_of("grpo", text=9.0, returns=1, **settings), Screen())
    steps, shares = metric_series(run.events_path, "val/facts")
    assert (steps[0], shares) == (0, [1.0] + [0.0] * (len(steps) - 1))
    first, last = returns(run)
    assert (first["fall"], first["good"], last["ended"]) == ("facts", 0, True)
    assert (
        "right answers to questions of eval.facts_path fell from 100.0 to 0.0 % (a run with --set data.mix=0.1 replays"
        in first["text"]
    )
    # Every checkpoint has the first weights, and is shown as that: nothing is the best that was thrown away.
    best = find_weights("facts@best").folder
    assert weights_sha256(best) == weights_sha256(checkpoint_folders.folder_of(run.checkpoints, 0))
    assert newest_is_best(run, RunSpec.model_validate(run.spec()))
    screen = Screen()
    show(run, screen)
    assert "forgetting (facts answered right, before and after): 100.0 -> 100.0 %" in screen.text


def test_questions_that_the_weights_do_not_know_are_said_to_hold_nothing(home: Path, tmp_path: Path) -> None:
    facts = tmp_path / "unknown.jsonl"
    facts.write_text("".join(json.dumps({"prompt": f"Fact {at}?", "answer": f"Yes {at}."}) + "\n" for at in range(9)))
    settings: dict[str, Any] = {
        "eval__facts_path": str(facts),
        "eval__max_documents": 5,
        "loop__max_steps": 1,
        "name": "unknown",
    }
    run = start(spec_of("grpo", **settings), Screen())
    (said,) = [event["text"] for event in read_events(run.events_path, {"note"}) if event["kind"] == "few_facts"]
    assert "Of the 5 questions of eval.facts_path 0 are answered right: too few for the gate" in said
    long = tmp_path / "long.jsonl"
    long.write_text(json.dumps({"prompt": "Who? " * 500, "answer": "Me."}) + "\n")
    with pytest.raises(ValueError, match="long.jsonl: of none of 1 conversations can anything be learnt"):
        start(spec_of("grpo", **settings | {"eval__facts_path": str(long), "name": "long"}), Screen())


def test_where_nothing_has_signal_any_more_what_is_held_out_is_asked_and_the_run_goes_back(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps without signal do not count, so no validation would come due, and all data would be tried for nothing."""
    real, calls = Attempts._learnable, list[int]()

    def collapsed(self: Attempts, *given: Any) -> Any:
        calls.append(1)
        return ([], 0) if 3 <= len(calls) <= 2 + NOTED_WHEN_EMPTY else real(self, *given)

    def worse(self: RunHooks, state: Any) -> None:
        evaluate(self, state)
        if state.empty:
            self.validations[state.step]["val/pretrain_bits_per_byte"] = 1e9

    evaluate = RunHooks.evaluate
    monkeypatch.setattr(Attempts, "_learnable", collapsed)
    monkeypatch.setattr(RunHooks, "evaluate", worse)
    more: dict[str, Any] = {"loop__epochs": 40, "loop__max_steps": 4, "loop__eval_interval": 4, "name": "collapsed"}
    run = start(spec_of("grpo", text=9.0, **more), Screen())
    assert [(event["step"], event["good"]) for event in returns(run)] == [(2, 0)]
    assert run.state().word == "SUCCEEDED"
    assert metric_series(run.events_path, "train/loss")[0][-1] == 4  # it went on


def test_after_a_return_alarms_begin_anew(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = start(spec_of("grpo", name="anew", loop__log_interval=1, loop__max_steps=STEPS), Screen())
    notes = [event for event in read_events(run.events_path, {"note"}) if event["kind"] in ("return", *worker.ALARMS)]
    since = max(at for at, event in enumerate(notes) if event["kind"] == "return")
    back = notes[since]["step"]
    known: dict[str, Any] = {"series": {}, "raised": set(), "validations": {}}
    hooks: Any = SimpleNamespace(event_log=object(), run=run, parallel=Parallel(), **known)
    hooks._forget = partial(RunHooks._forget, hooks)
    RunHooks.recall_validations(hooks)
    assert hooks.raised == {event["cause"] for event in notes[since:] if event["kind"] != "return"}
    drawn = [steps for name, (steps, _) in hooks.series.items() if name.startswith("train/")]
    assert all(step > back for steps in drawn for step in steps)
    assert hooks.returns[back] == notes[since]["good"]


@pytest.mark.parametrize("place", ["_go_back", "_note_return", "save"])
def test_killed_while_it_goes_back_it_ends_as_if_it_had_not_been(
    home: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, told = end_of(run_of(home, "grpo")), returns(run_of(home, "grpo"))
    real, calls = getattr(RunHooks, place), list[int]()

    def killed(self: RunHooks, state: Any, *given: Any) -> None:
        went_back = state.rate < 1 or place == "_go_back"
        if went_back and not calls:
            calls.append(state.step)
            if place == "_note_return":
                real(self, state, *given)
            raise KeyboardInterrupt
        real(self, state, *given)

    shutil.rmtree(run_of(home, "grpo").path)
    monkeypatch.setattr(RunHooks, place, killed)
    with pytest.raises(KeyboardInterrupt):
        start(spec_of("grpo"), Screen())
    assert calls == [told[0]["step"]]
    run = resume("grpo", {}, Screen())
    assert run.state().word == "SUCCEEDED"
    assert end_of(run) == whole


def test_a_return_that_is_noted_and_not_made_is_made_when_the_run_goes_on(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a checkpoint is due with the validation, it holds the weights that were found worse."""
    whole = start(spec_of("grpo", name="whole", loop__save_interval=2), Screen())
    real = RunHooks._note_return

    def killed(self: RunHooks, *given: Any) -> None:
        real(self, *given)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunHooks, "_note_return", killed)
        with pytest.raises(KeyboardInterrupt):
            start(spec_of("grpo", name="cut", loop__save_interval=2), Screen())
    assert resume("cut", {}, Screen()).state().word == "SUCCEEDED"
    assert end_of(run_of(home, "cut")) == end_of(whole)


def test_after_the_last_return_the_run_ends_at_its_best_checkpoint(home: Path) -> None:
    run = start(spec_of("grpo", name="short", text=1e-6, returns=1, loop__keep_last=1, loop__keep_best=0), Screen())
    assert run.state().word == "SUCCEEDED"
    first, last = returns(run)
    assert (first["ended"], last["ended"]) == (False, True)
    assert f"ends here, after 1 returns, at its best checkpoint, that of step {last['good']}" in last["text"]
    assert checkpoint_folders.steps(run.checkpoints) == [last["good"], last["step"]]
    for mine, theirs in zip(weights(run, last["step"]).values(), weights(run, last["good"]).values(), strict=True):
        assert torch.equal(mine, theirs)
    assert last["step"] < STEPS
    whole = end_of(run)
    kill_at(run, last["step"])
    assert resume("short", {}, Screen()).state().word == "SUCCEEDED"
    assert end_of(run) == whole


def test_where_nobody_can_tell_what_is_right_nothing_goes_back(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = tmp_path / "away"
    body = f"return [None if os.path.exists({str(away)!r}) else 1.0 for one in attempts]"
    (tmp_path / "own_rewards.py").write_text(f"import os\ndef score(attempts):\n    {body}\n")
    rewards = '[{"is": "python", "function": "own_rewards:score"}]'
    real = RunHooks.evaluate

    def evaluate(self: RunHooks, state: Any) -> None:
        if state.step == 4:
            away.touch()
        real(self, state)
        away.unlink(missing_ok=True)

    monkeypatch.setattr(RunHooks, "evaluate", evaluate)
    asked: dict[str, Any] = {"stage__rewards": rewards, "stage__code_path": str(tmp_path), "loop__max_steps": 6}
    run = start(spec_of("spo", name="away", **asked, stage__gate='{"right": 0.1, "text": 9}'), Screen())
    assert run.state().word == "SUCCEEDED", run.state()
    assert metric_series(run.events_path, "val/right") == ([0, 2, 6], [1.0] * 3)
    assert metric_series(run.events_path, "val/right_known") == ([0, 2, 4, 6], [1.0, 1.0, 0.0, 1.0])
    assert returns(run) == []


def test_of_answers_that_are_not_judged_none_is_right_or_wrong(home: Path, tmp_path: Path) -> None:
    body = "return [None if number % 2 else 1.0 for number, one in enumerate(attempts)]"
    (tmp_path / "own_rewards.py").write_text(f"def score(attempts):\n    {body}\n")
    half = '{"is": "python", "function": "own_rewards:score"}'
    code: dict[str, Any] = {"stage__code_path": str(tmp_path)}
    asked: dict[str, dict[str, Any]] = {"first": {"stage__rewards": f"[{half}]"}, "truth": {"stage__truth": half}}
    for name, own in asked.items():
        run = start(spec_of("spo", name=name, loop__max_steps=1, **code, **own), Screen())
        assert run.state().word == "SUCCEEDED", run.state()
        assert set(metric_series(run.events_path, "val/right")[1]) == {1.0}
        assert metric_series(run.events_path, "val/right_known")[1] == pytest.approx([0.5] * 2, abs=0.1)
    (tmp_path / "own_rewards.py").write_text("def score(attempts):\n    return [None] * len(attempts)\n")
    run = start(spec_of("spo", name="never", **code, stage__truth=half), Screen())
    assert run.state().word == "FAILED"
    assert "the reward python, which says what is right, could judge none of the first" in run.state().reason


def test_a_run_that_goes_back_to_its_beginning_begins_with_first_answers_again(home: Path) -> None:
    asked: dict[str, Any] = {"stage__first_answers": 2, "loop__save_interval": 1, "loop__max_steps": 6}
    run = start(spec_of("spo", name="first", text=1e-9, **asked), Screen())
    assert [(event["step"], event["good"]) for event in returns(run)][:1] == [(2, 0)]
    begun = {step: train_state(run, step)["batches"][0]["credit"] for step in (0, 1, 2, 3)}
    assert [credit["begun"] for credit in begun.values()] == [False, True, False, True]
    # What was not tried since is as the first answers left it.
    untried = [row for row in range(len(begun[0]["alpha"])) if not {row} & {*begun[1]["answers"], *begun[3]["answers"]}]
    assert untried
    for name in ("alpha", "beta"):
        assert [begun[3][name][row] for row in untried] == [begun[1][name][row] for row in untried]
        assert begun[3][name] != begun[0][name]
    whole = end_of(run)
    kill_at(run, 2)
    assert resume("first", {}, Screen()).state().word == "SUCCEEDED"
    assert end_of(run) == whole


def test_without_a_gate_nothing_goes_back(home: Path) -> None:
    free = start(spec_of("grpo", name="free", stage__gate="off", loop__keep_last=1), Screen())
    assert returns(free) == []
    assert 0 not in checkpoint_folders.steps(free.checkpoints)
    assert train_state(free, STEPS)["state"]["rate"] == 1.0
    held = start(spec_of("grpo", name="held", text=9.0), Screen())
    assert end_of(held) == end_of(free)


def test_how_often_a_run_is_measured_stays_where_it_is_held_to_a_gate(home: Path) -> None:
    kill_at(run_of(home, "grpo"), 4)
    with pytest.raises(ValueError, match=r"loop\.eval_interval"):
        resume("grpo", {"loop.eval_interval": 1}, Screen())
    start(spec_of("grpo", name="free", stage__gate="off"), Screen())
    kill_at(run_of(home, "free"), 3)
    assert resume("free", {"loop.eval_interval": 1}, Screen()).state().word == "SUCCEEDED"


def worked(home: str, spec: str, prepared: str, parallel: Parallel) -> list[torch.Tensor]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIMIND_HOME", home)
        made = RunSpec.model_validate_json(spec)
        run = RunDirectory(Path(home) / "runs" / made.name)
        work(made, Prepared.model_validate_json(prepared), run, parallel)
        return list(weights(run, STEPS).values())


@pytest.mark.parametrize("name", ["grpo", "spo"])
@pytest.mark.slow
def test_two_workers_go_back_where_one_does(home: Path, tmp_path: Path, name: str) -> None:
    ends = {}
    for world in (1, 2):
        usual: dict[str, Any] = {
            "optim__name": "adamw",
            "optim__eps": 1e-4,
            "loop__batch_size": 2,
            "scaling__workers": world,
        }
        asked = spec_of(name, name=f"{name}-{world}", loop__accumulation_steps=4 // world, **usual)
        spec, _ = resolve(asked, None, Screen())
        run = run_of(home, spec.name)
        prepared = prepare(spec, Screen())
        prepared = prepared.model_copy(update={"identity": run.create(spec.model_dump(mode="json"))})
        given = str(home), spec.model_dump_json(), prepared.model_dump_json()
        if world == 1:
            ends[run.name] = [worked(*given, Parallel())]
        else:
            ends[run.name] = run_ranks(2, partial(worked, *given), tmp_path)
        assert run.state().word == "SUCCEEDED", run.state()
    one, two = (run_of(home, f"{name}-{world}") for world in (1, 2))
    assert [(event["step"], event["good"]) for event in returns(one)] == [
        (event["step"], event["good"]) for event in returns(two)
    ]
    assert returns(one)
    ((mine,), theirs) = ends.values()
    for other in theirs:
        for a, b in zip(mine, other, strict=True):
            torch.testing.assert_close(b, a, rtol=0, atol=1e-4)


def test_what_is_true_may_be_another_thing_than_the_reward(home: Path) -> None:
    settings: dict[str, Any] = {"stage__rewards": TERMS, "stage__truth": '{"is": "length", "least": 0, "most": 99}'}
    run = start(spec_of("grpo", name="true", **settings), Screen())
    assert set(metric_series(run.events_path, "val/right")[1]) == {1.0}
    assert min(metric_series(run.events_path, "val/reward_language")[1]) < 1.0
    assert not metric_series(run.events_path, "val/reward_length_2")[0]
    with pytest.raises(ValueError, match="stage.truth: no reward term 'exakt' .did you mean exact"):
        spec_of("grpo", stage__truth='{"is": "exakt"}')
    with pytest.raises(
        ValueError,
        match="judge is another model's opinion and may be wrong: what is true is",
    ):
        spec_of("grpo", stage__truth='{"is": "judge", "url": "http://127.0.0.1:1/v1", "model": "x"}')
    assert spec_of("grpo", stage__gate="off").stage.held_to is None
    with pytest.raises(ValueError, match=r"stage\.gate\.right = 2"):
        spec_of("grpo", stage__gate='{"right": 2}')


def test_answers_of_each_validation_are_kept_and_shown(home: Path) -> None:
    run = run_of(home, "grpo")
    kept = [sample for sample in samples.read(run) if samples.KEPT in sample]
    assert sorted({sample["step"] for sample in kept}) == [0, 2, 4, 6, 8, 10]
    for step in (0, 10):
        of_step = [sample for sample in kept if sample["step"] == step]
        assert [sample[samples.KEPT] for sample in of_step] == ["best", "worst", "drawn", "drawn", "drawn"]
        best, worst, *drawn = of_step
        assert best["reward"] >= max(sample["reward"] for sample in drawn)
        assert worst["reward"] <= min(sample["reward"] for sample in drawn)
        assert best.keys() == {
            "step", "prompt", "continuation", "kept", "right_answer", "terms", "reward", "right", "tokens", "finished",
        }  # fmt: skip
        assert best["terms"] == {"language": best["reward"]}
    followed = [[sample["prompt"] for sample in kept if sample["step"] == step][2:] for step in (0, 10)]
    assert followed[0] == followed[1]
    rows = {row["prompt"]: row["answer"] for row in map(json.loads, Path(QUESTIONS).read_text("utf-8").splitlines())}
    assert all(rows[sample["prompt"]] == sample["right_answer"] for sample in kept)
    assert samples.written_at_the_end(run)
    before = run.samples_path.read_text("utf-8")
    kill_at(run, 6)
    resume("grpo", {}, Screen())
    assert run.samples_path.read_text("utf-8") == before
    for language, words in (("en", ("the most reward", "right answer")), ("zh", ("奖励最高", "正确答案"))):
        screen = Screen()
        screen.width = 80
        with speaking(language):
            show_answers(run, screen)
        assert all(word in screen.text for word in words)
        assert max(map(cell_len, screen.text.splitlines())) <= 80


def test_alarms_are_noted_once_and_shown(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = start(spec_of("grpo", name="wild", stage__gate="off", loop__max_steps=9), Screen())
    noted = [event for event in read_events(run.events_path, {"note"}) if event["kind"] in worker.ALARMS]
    causes = [event["cause"] for event in noted]
    assert "cut_off" in causes  # twelve tokens are too few
    assert len(set(causes)) == len(causes)
    kill_at(run, 6)
    resume("wild", {}, Screen())
    again = [event for event in read_events(run.events_path, {"note"}) if event["kind"] in worker.ALARMS]
    assert [event["cause"] for event in again] == causes
    told = log.as_json(log.entries(["wild"], print)[0])["alarms"]
    assert [alarm["text"] for alarm in told] == [event["text"] for event in noted if event["kind"] == "alarm"]
    for look in (
        partial(show, run),
        partial(show_events, run, last=200),
        partial(log.show, log.entries(["wild"], print)),
    ):
        screen = Screen()
        look(screen)
        assert "had not ended when there was no more room" in " ".join(screen.text.split())
