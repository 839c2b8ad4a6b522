"""Stages that try with tools, as runs from settings to their end: a model that was shown how to look something up, and
does it half of the time, learns to do it always.
"""

from __future__ import annotations

import gc
import json
import random
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, cast

import psutil
import pytest
import torch

from data.encode import encoding_of
from data.prompts import read_questions
from jobs.evaluation.evaluate import LocalExaminee
from jobs.experiment.facts import facts_of
from jobs.runs.references import find_weights
from jobs.stages import flags
from jobs.stages.recipe import trial_recipe
from jobs.stages.spec import RunSpec
from jobs.stages.trying import TermJudge, settings
from jobs.synthesis.calling import Caller, tools_of
from jobs.synthesis.passrate import measure
from jobs.synthesis.samples import Sampling
from jobs.text.prepare import prepare
from jobs.training.build import Built, build
from jobs.training.run import resolve, resume, start
from minimind.device.distributed import Parallel
from minimind.device.limit import MemoryLimit
from minimind.events import metric_series
from minimind.memory.trace import trace
from minimind.text.chat import render
from minimind.text.tokenizer import Tokenizer
from minimind.tools.kinds import parse_tools
from minimind.tools.toolbox import Toolbox
from minimind.training.attempts import Attempts
from minimind.training.loop import train
from minimind.training.rollout import Written
from minimind.training.train_state import TrainState
from minimind.training.trial_steps import run_trial_steps
from tests.ranks import run_ranks
from tests.small import Screen, end_of, home_with, kill_at, run_of, small_spec, write_rows
from tests.toys import RecordingHooks

NAMES = ["tea", "milk", "salt", "rice", "oil", "soap", "fish", "corn", "beans", "figs"]
THERE = {name: ("yes", "no")[number % 2] for number, name in enumerate(NAMES)}
STEPS = 4


def lookup(home: Path, **more: Any) -> str:
    return json.dumps([{"is": "lookup", "description": "Is it there?", "table": str(home / "stock.csv"), **more}])


def write_data(home: Path) -> None:
    """Demonstrations, of which half look it up and half guess; what is there; questions; plain text."""
    (home / "stock.csv").write_text("name,there\n" + "".join(f"{name},{there}\n" for name, there in THERE.items()))
    listed, draw = [tool.listed for tool in parse_tools(json.loads(lookup(home)))], random.Random(0)
    rows = []
    for number in range(20 * len(NAMES)):
        name, said = NAMES[number // 2 % len(NAMES)], draw.choice(("yes", "no"))
        turns: list[dict[str, Any]] = [
            {"role": "system", "content": "", "tools": listed},
            {"role": "user", "content": f"{name}?"},
        ]
        if number % 2:
            call = {"name": "lookup", "arguments": {"key": name}}
            turns += [{"role": "assistant", "content": "", "tool_calls": [call]}, {"role": "tool", "content": said}]
        rows.append({"conversations": [*turns, {"role": "assistant", "content": said}]})
    (home / "shown.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    questions = [{"prompt": f"{name}?", "answer": there} for name, there in THERE.items()]
    (home / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions))
    write_rows(home / "text.jsonl", [json.dumps(row) for row in rows])


def spec_of(home: Path, stage: str, /, **settings: Any) -> RunSpec:
    usual: dict[str, Any] = {
        "name": stage,
        "init_from": "taught",
        "data__path": str(home / "questions.jsonl"),
        "data__max_seq_len": 256,
        "data__limits__max_leaked": 99,
        "eval__path": str(home / "questions.jsonl"),
        "loop__epochs": 99,
        "loop__max_steps": STEPS,
        "loop__save_interval": 1,
        "loop__keep_last": 99,
        "loop__batch_size": 5,
        "loop__accumulation_steps": 2,
        "optim__learning_rate": 0.003,
        "stage__tools": lookup(home),
        "stage__rewards": '[{"is": "exact"}]',
        "stage__max_new_tokens": 40,
        "stage__max_calls": 2,
    }
    if stage == "grpo":
        usual["stage__group_size"] = 4
    return small_spec(stage, **(usual | settings))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the model that was shown, and short runs of the stages that try."""
    home = tmp_path_factory.mktemp("trained")
    write_data(home)
    shown = {"data__path": str(home / "shown.jsonl"), "data__max_seq_len": 256, "loop__max_steps": 300}
    shown |= {"loop__epochs": 999, "loop__save_interval": 300, "loop__eval_interval": 300}
    first = [
        small_spec(loop__max_steps=1, data__path=str(home / "text.jsonl")),
        small_spec("sft", name="taught", init_from="small", optim__learning_rate=0.01, **shown),
    ]
    return home_with(home, [*first, *(spec_of(home, stage) for stage in ("grpo", "spo", "ppo"))])


def built_of(home: Path, stage: str, parallel: Parallel | None = None, **more: Any) -> Built:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIMIND_HOME", str(home))
        spec, _ = resolve(spec_of(home, stage, **more), None, Screen())
        return build(spec, prepare(spec, Screen()), parallel or Parallel())


def source_of(built: Built) -> Attempts:
    return cast(Attempts, built.recipe.batches)


@pytest.mark.parametrize("stage", ["grpo", "spo", "ppo"])
def test_calls_are_counted_and_what_is_drawn_is_what_is_trained(home: Path, stage: str) -> None:
    events = run_of(home, stage).events_path
    steps, calls = metric_series(events, "train/tool_calls")
    assert steps == list(range(1, STEPS + 1))
    assert all(0 < count < 2 for count in calls)
    assert max(metric_series(events, "train/tool_errors")[1]) < 0.5
    assert metric_series(events, "val/tool_calls")[0]
    assert max(metric_series(events, "train/gap")[1]) < 1e-5


@pytest.mark.parametrize("stage", ["grpo", "spo", "ppo"])
@pytest.mark.slow
def test_stopped_at_any_step_it_ends_as_if_it_had_not_been(home: Path, stage: str) -> None:
    run = run_of(home, stage)
    whole = end_of(run)
    for step in (3, 1):
        kill_at(run, step)
        assert resume(stage, {}, Screen()).state().word == "SUCCEEDED"
        assert end_of(run) == whole


def test_a_model_learns_to_call(home: Path) -> None:
    spec = spec_of(home, "grpo", name="long", loop__max_steps=20, stage__group_size=8, loop__save_interval=20)
    events = start(spec, Screen()).events_path
    calls, rewards = (metric_series(events, f"train/{name}")[1] for name in ("tool_calls", "reward"))
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.1
    assert sum(calls[-5:]) / 5 > sum(calls[:5]) / 5 + 0.1


def learnt(
    home: str, stage: str, parallel: Parallel, slots: int = 16
) -> tuple[list[torch.Tensor], list[dict[str, float]]]:
    """What three steps make of all weights, and their metrics."""
    own = {"loop__batch_size": 5, "loop__accumulation_steps": 2 // parallel.world, "optim__learning_rate": 3e-4}
    built = built_of(Path(home), stage, parallel, loop__max_steps=3, optim__name="adamw", optim__eps=1e-4, **own)
    source_of(built).writer.slots = slots
    hooks = RecordingHooks()
    train(built.recipe, TrainState(), hooks, parallel)
    weights = [parameter.detach().clone() for model in built.recipe.models.values() for parameter in model.parameters()]
    return weights, [
        {name: value for name, value in metrics.items() if name.startswith("train/")} for metrics in hooks.metrics
    ]


def require_close(one: Any, other: Any) -> None:
    for mine, theirs in zip(one[0], other[0], strict=True):
        torch.testing.assert_close(theirs, mine, rtol=0, atol=1e-5)
    assert len(one[1]) == len(other[1]) == 3
    for mine, theirs in zip(one[1], other[1], strict=True):
        assert mine["train/tool_calls"] > 0
        assert theirs == pytest.approx(mine, abs=1e-4)


@pytest.mark.parametrize("stage", ["grpo", "spo", "ppo"])
@pytest.mark.slow
def test_two_workers_and_few_slots_learn_what_one_does(home: Path, tmp_path: Path, stage: str) -> None:
    one = learnt(str(home), stage, Parallel())
    require_close(one, learnt(str(home), stage, Parallel(), 3))
    for two in run_ranks(2, partial(learnt, str(home), stage), tmp_path):
        require_close(one, two)


@pytest.mark.parametrize("stage", ["grpo", "spo", "ppo"])
def test_the_plan_is_what_real_steps_take_and_no_run_takes_more(home: Path, stage: str) -> None:
    more: dict[str, Any] = {"loop__batch_size": 1, "loop__accumulation_steps": 4, "loop__max_steps": 2}
    spec = spec_of(home, stage, **more)

    def make() -> Any:
        return trial_recipe(spec, torch.float32)

    recipe = make()
    with MemoryLimit() as limit:
        run_trial_steps(recipe, 2)
    planned = trace(make, "cpu").peak_bytes
    assert planned == pytest.approx(limit.peak_bytes, rel=1e-3)
    built = built_of(home, stage, **more)
    with MemoryLimit() as limit:
        train(built.recipe, TrainState(), RecordingHooks(), Parallel())
    assert limit.peak_bytes <= planned


def test_prompts_list_the_tools_as_the_endpoint_does_and_others_are_other_data(home: Path) -> None:
    spec = spec_of(home, "grpo")
    prepared = [
        prepare(spec_of(home, "grpo", stage__tools=tools), Screen()).shards
        for tools in (lookup(home), lookup(home, description="Another."), "[]", lookup(home))
    ]
    assert len(set(prepared)) == 3
    assert prepared[0] == prepared[3]
    tokenizer = Tokenizer.load(prepare(spec, Screen()).tokenizer)
    assert encoding_of("rl").template(tokenizer) == encoding_of("rl", ()).template(tokenizer)
    built = built_of(home, "grpo")
    (batch, *_) = source_of(built).prompts.take(1)
    question = {"role": "user", "content": f"{NAMES[0]}?"}
    wanted = render(tokenizer, [question], list(settings(spec).offers), add_generation_prompt=True).ids
    judge = cast(TermJudge, source_of(built).judge)
    assert wanted in [judge.rows.batch([row]).prompts()[0] for row in range(judge.rows.count)]
    assert len(batch.prompts()) == 5


CALL = '{"is": "check", "check": {"is": "call", "name": "lookup", "arguments": {"key": "tea"}}}'


def test_the_last_turn_is_judged_and_the_calls_of_all(home: Path) -> None:
    terms = f'[{{"is": "exact"}}, {{"is": "stopped"}}, {CALL}]'
    source = source_of(built_of(home, "grpo", stage__rewards=terms))
    judge, tokenizer = cast(TermJudge, source.judge), cast(Toolbox, source.writer.tools).tokenizer
    row = next(
        row for row in range(judge.rows.count) if "tea?" in tokenizer.decode(judge.rows.batch([row]).prompts()[0])
    )
    prompt = judge.rows.batch([row]).prompts()[0]
    end, special = tokenizer.eos_id, tokenizer.special_ids
    call = [special["<tool_call>"], *tokenizer.encode('\n{"name": "lookup", "arguments": {"key": "tea"}}\n')]
    first = [*tokenizer.encode("no"), *call, special["</tool_call>"], end]
    reply = cast(Toolbox, source.writer.tools).reply(prompt, first, 1)
    assert reply is not None
    assert tokenizer.decode(reply.tokens).count("yes") == 1

    def answer(*turns: list[int], finished: bool = True) -> Written:
        tokens, told = [*prompt], []
        for number, turn in enumerate(turns):
            if number:
                told.append((len(tokens), len(tokens) + len(reply.tokens)))
                tokens += reply.tokens
            tokens += turn
        return Written(row, tokens, len(prompt), [0.0] * sum(map(len, turns)), finished, 40, tuple(told), len(told))

    yes = [*tokenizer.encode("yes"), end]
    cut = yes[:-1]
    answers = [answer(yes), answer(first, yes), answer(first, cut, finished=False), answer(first, finished=False)]
    assert judge.judge(answers).value_KA.tolist() == [[1, 1, 1, 0], [1, 1, 0, 0], [0, 1, 1, 1]]
    found = [judge.attempt(one) for one in answers]
    assert [one.answer.finish for one in found] == ["stop", "stop", "length", "length"]
    assert [one.answer.text for one in found] == ["yes", "yes", "yes", "no"]
    assert [one.answer.prompt for one in found] == ["tea?"] * 4
    assert [one.tokens for one in found] == [len(yes), len(first + yes), len(first + cut), len(first)]
    assert found[1].answer.calls == (("lookup", {"key": "tea"}),)


def test_a_table_that_says_something_else_ends_a_run_that_goes_on(home: Path) -> None:
    run = run_of(home, "grpo")
    table = home / "stock.csv"
    assert run.sources is not None
    assert facts_of(run).files["stage.tools.0.table"] == ("./stock.csv", run.sources["stage.tools.0.table"])
    kill_at(run, 2)
    before = table.read_text()
    table.write_text(before.replace("yes", "perhaps"))
    with pytest.raises(ValueError, match=r"stage\.tools\.0\.table: .*stock\.csv is not what the run 'grpo' began"):
        resume("grpo", {}, Screen())
    table.write_text(before)
    assert resume("grpo", {}, Screen()).state().word == "SUCCEEDED"


def test_tables_are_looked_for_where_they_are_named_and_before_anything_starts(home: Path, tmp_path: Path) -> None:
    spec = spec_of(home, "grpo", stage__tools='[{"is": "lookup", "table": "stock.csv"}, {"is": "calculator"}]')
    kept, _ = resolve(spec, None, Screen())
    assert [tool.get("table") for tool in settings(kept).tools] == ["./stock.csv", None]
    given = {"stage.tools": '[{"is": "lookup", "table": "a.csv"}]', "name": "x"}
    (tool,) = json.loads(flags.absolute(given, tmp_path)["stage.tools"])
    assert tool["table"] == str(tmp_path / "a.csv")
    for wrong in ("[1]", "{", "null", '"a"'):
        assert flags.absolute({"stage.tools": wrong}, tmp_path) == {"stage.tools": wrong}
    with pytest.raises(ValueError, match=r"table of the tool lookup not found: .*nowhere\.csv"):
        start(spec_of(home, "grpo", name="x", stage__tools='[{"is": "lookup", "table": "nowhere.csv"}]'), Screen())
    (home / "bad.csv").write_text("a,b\n1,2\n1,3\n")
    with pytest.raises(ValueError, match=r"tool lookup: .*bad\.csv: lines 2 and 3 have the same key, '1'"):
        start(spec_of(home, "grpo", name="x", stage__tools='[{"is": "lookup", "table": "bad.csv"}]'), Screen())
    assert not run_of(home, "x").path.exists()


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"stage__tools": '[{"is": "abacus"}]'}, "no tool 'abacus'; there are: calculator, lookup"),
        ({"stage__tools": '[{"is": "calculator"}, {"is": "calculator"}]'}, "two tools are called calculator"),
        ({"stage__max_calls": 0}, "stage.max_calls = 0"),
        ({"stage__tool_tokens": 0}, "stage.tool_tokens = 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path: Path, more: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        spec_of(tmp_path, "grpo", **more)


def test_too_few_tokens_for_what_tools_say_end_a_run_with_a_sentence(home: Path) -> None:
    run = start(spec_of(home, "grpo", name="few", stage__tool_tokens=4), Screen())
    assert run.state().word == "FAILED"
    assert "stage.tool_tokens = 4: the template's words around a tool's answer are" in run.state().reason


def test_tools_end_with_what_called_them(home: Path) -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    built = built_of(home, "grpo")
    built.recipe.batches.take(2)
    list(built.held_out.batches())
    children = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    assert len(children) == 1
    del built
    gc.collect()
    assert not [child for child in children if psutil.pid_exists(child.pid)]


def test_a_pass_rate_is_that_of_answers_that_may_call(home: Path, tmp_path: Path) -> None:
    model = LocalExaminee.load(find_weights("taught"))
    prompts = read_questions(home / "questions.jsonl")
    tools, sampling = tools_of(lookup(home), tmp_path), Sampling(samples=8, temperature=1.0, max_tokens=40)

    def measured(**more: Any) -> Any:
        return measure(model, prompts, None, sampling, ["exact"], Screen(), folder=tmp_path, **more)

    found = measured(tools=tools)
    assert (found["measured"], found["asked"]["tools"]) == (len(NAMES), json.loads(lookup(home)))
    # Who looks it up is right, and who guesses is half of the time.
    assert found["pass_at"]["1"]["value"] > 0.6
    with closing(Caller(model, tools, sampling)) as caller:
        answers = caller.ask(prompts.each, lambda tokens: None)
        assert [answer.ending for answer in caller.ask(prompts.each[3:4], lambda tokens: None)[0]] == [
            answer.ending for answer in answers[3]
        ]
    called = [answer for group in answers for answer in group if answer.answer.calls]
    assert called
    assert {name for answer in called for name, _ in answer.answer.calls} == {"lookup"}
    # Another table under the same name is asked again.
    (table,) = tools.files.values()
    Path(table).write_text(Path(table).read_text("utf-8").replace("yes", "no"), "utf-8")
    other = measured(tools=tools)
    assert other["asked"]["tables"] != found["asked"]["tables"]
    assert other["pass_at"]["1"]["value"] < found["pass_at"]["1"]["value"]
    # The prompt is what a run with these tools has.
    built = built_of(home, "grpo", Parallel())
    own = {tuple(prompt) for prompt in source_of(built).prompts.take(2)[0].prompts()}
    assert own <= {tuple(caller._ids(at, prompt)) for at, prompt in enumerate(prompts.each)}


def test_tools_of_a_pass_rate_that_are_none_are_refused(home: Path, tmp_path: Path) -> None:
    for text, complaint in {
        "{": "--tools {: not JSON",
        '[{"is": "calculater"}]': "calculater.*did you mean calculator",
        '[{"is": "lookup", "table": "nowhere.csv"}]': f"{tmp_path / 'nowhere.csv'}",
    }.items():
        with pytest.raises(ValueError, match=complaint):
            tools_of(text, tmp_path)
