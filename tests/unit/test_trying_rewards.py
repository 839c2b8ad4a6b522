"""Rewards that are judged elsewhere: by a reward model, a model behind an endpoint, a user's own functions."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from fastapi import Response
from fastapi.responses import JSONResponse

from jobs import paths
from jobs.commands.job import KEY_FILES, key_of_judges
from jobs.endpoints import endpoint
from jobs.endpoints.endpoint import EndpointError
from jobs.endpoints.judge import JudgeScorer
from jobs.endpoints.keys import API_KEY, API_KEY_FILE, read_key
from jobs.evaluation.rewards import score_file
from jobs.pipeline.forecast import forecast
from jobs.runs.directory import RunDirectory
from jobs.runs.references import find_weights
from jobs.stages.origin import new_spec
from jobs.stages.recipe import trial_recipe
from jobs.stages.stage import Answers
from jobs.stages.table import STAGES
from jobs.stages.trying import TermJudge
from jobs.text.prepare import prepare
from jobs.training.build import corpus_of
from jobs.training.run import resolve, resume, start
from minimind.checkpoints import folders as checkpoint_folders
from minimind.checkpoints.checkpoint import load
from minimind.checkpoints.manifest import CheckpointError, weights_sha256
from minimind.device.distributed import Parallel
from minimind.device.limit import MemoryLimit
from minimind.evaluation.checkers import Answer
from minimind.events import metric_series
from minimind.memory.trace import trace
from minimind.network.model import MiniMind
from minimind.network.score import ScoreModel
from minimind.rewards.model import ModelScorer
from minimind.rewards.terms import Attempt, Ending, Judge, Unjudged, parse_term
from minimind.text.chat import parse, render
from minimind.text.tokenizer import Tokenizer
from minimind.training.attempts import Attempts
from minimind.training.rollout import Written
from minimind.training.trial_steps import run_trial_steps
from tests import taught
from tests.endpoints import said, served
from tests.ranks import run_ranks
from tests.small import Screen, end_of, home_with, kill_at, run_of, small_spec
from tests.unit.test_trying_stages import QUESTIONS, SPREAD, built_of, learnt, notes, require_close, spec_of

BOTH = json.dumps([*json.loads(SPREAD), {"is": "reward_model", "weight": 0.5}])
SCORED: dict[str, Any] = {"stage__rewards": BOTH, "roles__reward_model": "judge"}
KEY = "sk-4f0c2a9911"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a run `small`, a reward model `judge` on its weights, and two runs of policies that it scores."""
    pairs = str(paths.checkout() / "data" / "samples" / "dpo.jsonl")
    judge = {"name": "judge", "init_from": "small", "data__path": pairs, "optim__learning_rate": 0.01}
    specs = [
        small_spec(loop__max_steps=30),
        small_spec("reward", **judge),
        spec_of("grpo", name="grpo-scored", **SCORED),
        spec_of("ppo", name="ppo-scored", stage__critic="own", **SCORED),
    ]
    return home_with(tmp_path_factory.mktemp("trained"), specs)


@pytest.fixture
def home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Without the user's key."""
    for name in (API_KEY, API_KEY_FILE):
        monkeypatch.delenv(name, raising=False)
    return home


def test_a_reward_model_reads_what_reward_score_has_it_read(home: Path, tmp_path: Path) -> None:
    source = cast(Attempts, built_of("grpo", str(home), Parallel(), **SCORED).recipe.batches)
    judge = cast(TermJudge, source.judge)
    rows = [json.loads(line) for line in Path(QUESTIONS).read_text("utf-8").splitlines()]
    stop, written, conversations = source.writer.how.stop_id, [], []
    for number, (text, finished) in enumerate((("2", True), ("北京 & Paris", True), ("cut", False), ("", True))):
        row = rows[int(judge.rows.chosen[number])]
        prompt = judge.rows.batch([number]).prompts()[0]
        own = [*judge.tokenizer.encode(text), *([stop] if finished else [])]
        written.append(Written(number, prompt + own, len(prompt), [0.0] * len(own), finished, 12))
        turns = [*(row.get("before") or ()), {"role": "user", "content": row["prompt"]}]
        conversations.append({"conversations": [*turns, {"role": "assistant", "content": text}]})
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in conversations), "utf-8")
    expected = [one.scores[0] for one in score_file(find_weights("judge"), file, "sft")]
    verdict = judge.judge(written)
    assert verdict.value_KA[1] == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert len(set(expected)) == len(expected)
    assert verdict.failed_K.tolist() == [0, 0]
    # The same answer has the same score beside whatever others: else there would be a difference to learn from.
    again = judge.judge([*written, *written[::-1]]).value_KA[1]
    assert again[:4].tolist() == again[4:][::-1].tolist()


def scorer_of(most: int = 64, at_once: int = 2) -> tuple[ModelScorer, list[tuple[int, int]]]:
    """A scorer of a small model, and what it lets the model compute at once."""
    tokenizer = Tokenizer.train(["abc def"] * 9, vocab_size=300)
    config = taught.CONFIG.model_copy(update={"vocab_size": 300, "max_position_embeddings": most})
    model = taught.judge(MiniMind(config))
    drawn = torch.Generator().manual_seed(0)
    for parameter in model.parameters():  # else what comes before the last token hardly counts
        torch.nn.init.normal_(parameter, std=0.2, generator=drawn)
    seen: list[tuple[int, int]] = []
    scores = model.scores

    def watched(tokens_BT: torch.Tensor, *more: Any, **how: Any) -> torch.Tensor:
        seen.append((tokens_BT.shape[0], tokens_BT.shape[1]))
        return scores(tokens_BT, *more, **how)

    model.scores = watched  # type: ignore[method-assign]  # of this model alone
    return ModelScorer(model, tokenizer, 40, lambda: at_once), seen


def attempt(text: str, before: Sequence[int] = (5, 6, 7)) -> Attempt:
    turn = {"role": "assistant", "content": text}
    return Attempt(Answer(text, "stop", (), "q"), "", 3, 12, Ending(before, turn))


def test_what_a_reward_model_computes_at_once_is_what_the_plan_counts() -> None:
    scorer, seen = scorer_of()
    scorer.worst()
    (planned,) = seen
    assert planned == (2, 44)
    seen.clear()
    found = scorer([attempt("a" * number) for number in range(20)])
    assert len(set(found)) == 20
    assert max(rows * width for rows, width in seen) <= math.prod(planned)


def test_an_answer_is_written_as_the_end_of_its_conversation() -> None:
    texts = [json.dumps([messages, tools], ensure_ascii=False) for messages, tools, _ in taught.CONVERSATIONS]
    tokenizer = Tokenizer.train(texts, vocab_size=600)
    scorer = ModelScorer(taught.judge(MiniMind(taught.CONFIG)), tokenizer, 900, lambda: 1)
    for messages, tools, _ in taught.CONVERSATIONS:
        ids, mask = render(tokenizer, messages, tools)
        last = messages[-1]
        start = len(render(tokenizer, messages[:-1], tools, add_generation_prompt=True).ids)
        assert mask[start]
        answered = Answer(last["content"], "stop", (), "", "")
        own = parse(tokenizer, ids[start:])
        for turn in (last, own):
            assert scorer._text(Attempt(answered, "", 1, 1, Ending(ids[:start], turn))) == tuple(ids)


def test_what_is_too_long_for_a_reward_model_is_not_judged() -> None:
    scorer, _ = scorer_of(most=48)
    short, long = scorer([attempt("a"), attempt("a", range(60))])
    assert math.isfinite(short)
    assert isinstance(long, Unjudged)
    assert "the model reads 48" in long.reason


@pytest.mark.parametrize("name", ["grpo", "ppo"])
def test_runs_with_a_reward_model_say_what_it_said_and_keep_which_it_was(home: Path, name: str) -> None:
    run = run_of(home, f"{name}-scored")
    for metric in ("train/reward_reward_model", "val/reward_reward_model", "train/reward_language"):
        assert metric_series(run.events_path, metric)[1], metric
    parts, weights = (
        [metric_series(run.events_path, f"train/reward{which}")[1] for which in whichs]
        for whichs in (("_language", "_reward_model"), ("",))
    )
    assert weights[0] == pytest.approx([one + 0.5 * two for one, two in zip(*parts, strict=True)], rel=1e-6)
    judge = find_weights("judge")
    newest, _ = checkpoint_folders.newest(run.checkpoints)
    assert newest is not None
    reference = load(newest, weights_only=True).references["reward_model"]
    assert (reference.run_id, reference.weights_sha256) == ("judge", weights_sha256(judge.folder))
    assert run.began_with["weights"]["roles.reward_model"] == weights_sha256(judge.folder)
    assert run.spec()["roles"] == {"reward_model": judge.name}
    assert set(load(newest, weights_only=True).roles) == ({"critic"} if name == "ppo" else set())


def test_stopped_anywhere_it_ends_as_if_it_had_not_been(home: Path) -> None:
    run = run_of(home, "grpo-scored")
    whole = end_of(run)
    for step in (3, 1):
        kill_at(run, step)
        assert resume(run.name, {}, Screen()).state().word == "SUCCEEDED"
        assert end_of(run) == whole


def test_a_forecast_needs_no_models_and_counts_the_first_answers(home: Path) -> None:
    def expected(stage: str, **settings: Any) -> Answers | None:
        spec, _ = resolve(spec_of(stage, name="new", **settings), None, Screen())
        prepared = prepare(spec, Screen())
        assert forecast(spec, prepared, []).seconds
        return STAGES[stage].data(spec, corpus_of(prepared), {}, Parallel()).answers

    assert expected("grpo", **SCORED)
    none, some = (cast(Answers, expected("spo", stage__first_answers=count)) for count in (0, 3))
    assert none.first == 0
    assert some == replace(none, first=3 * none.written)


def test_a_run_keeps_its_reward_model(home: Path) -> None:
    run = run_of(home, "grpo-scored")
    kill_at(run, 2)
    with pytest.raises(ValueError, match=r"roles.reward_model"):
        resume(run.name, {"roles.reward_model": "judge@6"}, Screen())


@pytest.mark.parametrize("name", ["grpo", "ppo"])
def test_the_plan_counts_the_reward_model(home: Path, name: str) -> None:
    spec = spec_of(name, **SCORED)

    def make() -> Any:
        return trial_recipe(spec, torch.float32)

    recipe = make()
    with MemoryLimit() as limit:
        run_trial_steps(recipe, 2)
    planned = trace(make, "cpu").peak_bytes
    assert planned == pytest.approx(limit.peak_bytes, rel=1e-3)
    model = cast(ScoreModel, recipe.models["reward_model"])
    held = sum(parameter.numel() for parameter in model.parameters()) * 4
    assert planned >= trace(lambda: trial_recipe(spec_of(name), torch.float32), "cpu").peak_bytes + held
    with MemoryLimit() as limit:
        learnt(name, str(home), Parallel(), **SCORED)
    assert limit.peak_bytes <= planned


def shared(home: str, parallel: Parallel) -> Any:
    sizes = {"loop__batch_size": 2, "loop__accumulation_steps": 4 // parallel.world}
    return learnt("grpo", home, parallel, **SCORED, **sizes)


@pytest.mark.slow
def test_two_workers_learn_from_a_reward_model_what_one_does(home: Path, tmp_path: Path) -> None:
    one = shared(str(home), Parallel())
    for two in run_ranks(2, partial(shared, str(home)), tmp_path):
        require_close(one, two, 1e-5)


def test_what_is_no_reward_model_for_this_run_is_refused_before_anything_starts(home: Path) -> None:
    other = Tokenizer.train(["other words altogether"] * 9, vocab_size=300)
    config = taught.CONFIG.model_copy(update={"vocab_size": 300})
    taught.write_run(home / "runs", "foreign", taught.judge(MiniMind(config)), other)
    usual: dict[str, Any] = {"init_from": "small", "data.path": QUESTIONS, "stage.rewards": BOTH}
    wrong: dict[str, dict[str, Any]] = {
        r"grpo needs a reward_model: name it with --reward_model RUN, a run of the stage reward": {},
        r"nobody": {"roles.reward_model": "nobody"},
        r"roles.reward_model = small: step 30 of the run 'small' writes text and gives no scores": {
            "roles.reward_model": "small"
        },
        r"roles.reward_model = foreign has another tokenizer": {"roles.reward_model": "foreign"},
        r"roles.reward_model = judge: no term of stage.rewards is its score": {
            "stage.rewards": SPREAD,
            "roles.reward_model": "judge",
        },
        r"2 terms of the kind reward_model: at most 1": {
            "stage.rewards": '[{"is": "reward_model"}, {"is": "reward_model"}]'
        },
    }
    for message, settings in wrong.items():
        with pytest.raises((ValueError, CheckpointError), match=message):
            new_spec("grpo", {**usual, **settings})
    with pytest.raises(CheckpointError, match="roles.reference = judge: .*is a reward model"):
        new_spec("grpo", {**usual, "roles.reward_model": "judge", "roles.reference": "judge"})
    config = taught.CONFIG.model_copy(update={"max_position_embeddings": 98})
    taught.write_run(
        home / "runs", "short", taught.judge(MiniMind(config)), Tokenizer.load(find_weights("small").folder)
    )
    with pytest.raises(ValueError, match=r"data.max_seq_len = 96: the reward model reads at most 98 .* at most 94"):
        start(spec_of("grpo", name="long", **{**SCORED, "roles__reward_model": "short"}), Screen())
    assert not (home / "runs" / "long").exists()


def judged_at(url: str, **more: Any) -> Judge:
    return cast(Judge, parse_term({"is": "judge", "url": url, "model": "m", **more}))


def scored_by(url: str, *texts: str, **more: Any) -> list[float]:
    return JudgeScorer(judged_at(url, **more), {API_KEY: KEY})([attempt(text) for text in texts])


def text_in(body: dict[str, Any]) -> str:
    text: str = body["messages"][0]["content"]
    return text.partition("Answer:\n")[2].partition("\n\nHow")[0]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "WAIT_S", 0.01)


def test_a_judge_is_asked_each_question_once_and_gives_numbers() -> None:
    asked = []

    def answer(body: dict[str, Any]) -> Response:
        asked.append(body)
        return said(f"<think>9</think>{len(text_in(body))}/10")

    with served(answer) as url:
        assert scored_by(url, "abc", "a", "abc", "") == [0.3, 0.1, 0.3, 0.0]
    assert sorted(text_in(body) for body in asked) == ["", "a", "abc"]
    assert {(body["model"], body["temperature"], body["max_tokens"]) for body in asked} == {("m", 0, 256)}


def test_what_a_judge_cannot_say_is_not_judged_and_the_others_are() -> None:
    def answer(body: dict[str, Any]) -> Response:
        return {
            "good": said("7"),
            "idle": said("I like it"),
            "refused": JSONResponse({"error": {"message": "too rude"}}, 400),
            "odd": JSONResponse({"choices": 3}),
            "cut": said("I'd give it 3 out of", "length"),
        }[text_in(body)]

    with served(answer) as url:
        good, idle, refused, odd, cut = scored_by(url, "good", "idle", "refused", "odd", "cut", at_once=1)
    assert good == 0.7
    reasons = [cast(Unjudged, score).reason for score in (idle, refused, odd, cut)]
    parts = ("'I like it'", "too rude", "is not as OpenAI's are", "cut off: raise its max_tokens, now 256")
    for reason, part in zip(reasons, parts, strict=True):
        assert part in reason


@pytest.mark.usefixtures("impatient")
def test_a_judge_that_is_gone_is_asked_no_more_of_these_answers() -> None:
    asked = []

    def broken(body: dict[str, Any]) -> Response:
        asked.append(text_in(body))
        return JSONResponse({"error": "no"}, 500)

    with served(broken) as url:
        found = scored_by(url, *map(str, range(40)), at_once=1)
    assert len(set(asked)) <= 4  # one may be under way
    assert all(isinstance(score, Unjudged) and "HTTP 500" in score.reason for score in found)
    nobody = scored_by(url, "a", "b", at_once=1)
    assert all(isinstance(score, Unjudged) and "does not answer" in score.reason for score in nobody)


def test_a_judge_that_refuses_everything_is_asked_once_and_its_key_is_not_repeated() -> None:
    asked = []

    def refuse(body: dict[str, Any]) -> Response:
        asked.append(body)
        return JSONResponse({"error": {"message": f"wrong key {KEY}"}}, 401)

    with served(refuse) as url:
        found = scored_by(url, *map(str, range(40)), at_once=1)
    assert len(asked) <= 2
    reasons = {cast(Unjudged, score).reason for score in found}
    assert all("wrong key ***" in reason for reason in reasons)


@pytest.mark.usefixtures("impatient")
def test_a_judge_that_says_nothing_is_waited_for_no_longer_than_it_may_take() -> None:
    async def hang(body: dict[str, Any]) -> Response:
        await asyncio.sleep(3)
        return said("1")

    with served(hang) as url:
        found = scored_by(url, "a", "b", timeout_s=0.2)
    assert all(isinstance(score, Unjudged) and "ReadTimeout" in score.reason for score in found)


def test_a_run_learns_from_a_judge_and_its_folder_holds_no_key(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(API_KEY, KEY)

    def answer(body: dict[str, Any]) -> Response:
        return said(str(min(10, len(text_in(body)) % 11)))

    screen = Screen()
    with served(answer) as url:
        run = start(spec_of("grpo", name="judged", stage__rewards=json.dumps([asking(url)])), screen)
    assert run.state().word == "SUCCEEDED", run.state()
    assert "right is the first term, judge: another model's opinion" in " ".join(screen.text.split())
    assert any(value > 0 for value in metric_series(run.events_path, "train/reward_judge")[1])
    assert metric_series(run.events_path, "val/reward_judge")[1]
    assert set(metric_series(run.events_path, "train/not_judged")[1]) == {0.0}
    assert not notes(run, "not_judged")
    held = [path for path in run.path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert not held


def asking(url: str, **more: Any) -> dict[str, Any]:
    return {"is": "judge", "url": url, "model": "m", **more}


@pytest.mark.usefixtures("impatient")
def test_a_judge_that_is_away_ends_no_run_unless_it_says_what_is_right(home: Path) -> None:
    with served(lambda body: said("1")) as url:
        pass
    beside = json.dumps([*json.loads(SPREAD), asking(url, weight=0.5)])
    run = start(spec_of("grpo", name="beside", stage__rewards=beside, loop__max_steps=2), Screen())
    assert run.state().word == "SUCCEEDED", run.state()
    assert metric_series(run.events_path, "train/not_judged")[1] == [1.0, 1.0]
    assert metric_series(run.events_path, "train/reward_judge")[1] == [0.0, 0.0]
    first, second = notes(run, "not_judged")
    assert "the reward judge could not judge 32 of 32 answers" in first
    assert f"{url}/v1/chat/completions does not answer" in first
    assert "64 of 64" in second
    alone = start(spec_of("grpo", name="first", stage__rewards=json.dumps([asking(url)]), loop__max_steps=2), Screen())
    assert alone.state().word == "FAILED"
    assert "the reward judge, which says what is right, could judge none of the first" in alone.state().reason


def test_a_judge_with_a_key_that_cannot_be_read_is_said(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(API_KEY_FILE, str(home / "nowhere"))
    with pytest.raises(ValueError, match=f"{API_KEY_FILE}.*cannot be read"):
        built_of("grpo", str(home), Parallel(), stage__rewards=json.dumps([asking("http://127.0.0.1:1")]))


def test_an_address_that_is_none_is_said() -> None:
    with pytest.raises(EndpointError, match="an endpoint is"):
        JudgeScorer(judged_at("http://:80/v1"), {})


def test_a_job_has_the_key_of_its_submitter_in_a_file_of_this_user_alone(home: Path) -> None:
    variables = key_of_judges({API_KEY: KEY})
    file = Path(variables[API_KEY_FILE])
    assert KEY not in json.dumps(variables)
    assert (file.parent, file.stat().st_mode & 0o777) == (home, 0o600)
    assert read_key(variables) == KEY
    assert key_of_judges({API_KEY: KEY}) == variables
    assert len(list(home.glob(f"{KEY_FILES}*"))) == 1
    assert read_key(key_of_judges({})) is None


def test_functions_are_looked_for_where_the_spec_says(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "own.py").write_text("def score(attempts):\n    return [len(one['answer']) / 99 for one in attempts]\n")
    terms = json.dumps([{"is": "python", "function": "own:score"}])
    run = start(spec_of("grpo", name="own", stage__rewards=terms, stage__code_path=str(folder)), Screen())
    assert run.state().word == "SUCCEEDED", run.state()
    # What moved is named anew; what is no longer there is said with the machine that lacks it.
    kill_at(run, 2)
    folder.rename(home / "own")
    assert resume("own", {}, Screen()).state().word == "FAILED"
    reason = RunDirectory(run.path).state().reason
    assert f"stage.code_path = {folder}: there is no such folder on" in reason
    assert "--set stage.code_path=FOLDER" in reason
    assert resume("own", {"stage.code_path": "own/"}, Screen()).state().word == "SUCCEEDED"
    within = spec_of("grpo", name="within", stage__rewards=terms, stage__code_path=str(home / "own"))
    assert start(within, Screen()).spec()["stage"]["code_path"] == "./own"
