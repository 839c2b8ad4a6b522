"""/v1/scores: what a reward model says of answers, over a real server."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch
from pydantic import ValidationError

from jobs.evaluation.rewards import score_file
from jobs.runs.references import find_weights
from jobs.serving.in_process import InProcess
from jobs.serving.models import model_cards
from jobs.serving.remote import Server
from minimind.inference import reward
from minimind.inference.completion import RequestEvent
from minimind.inference.reward import Scorer
from minimind.network.model import MiniMind
from minimind.text.tokenizer import Tokenizer
from service.backend import Accepted, Failure, Scores, Scoring
from service.catalog import Catalog
from service.errors import ApiError
from service.loading import plan, weight_bytes
from service.model_pool import ModelPool
from service.replica import ModelReplica
from service.schemas import ScoreRequest, unknown_field
from tests import taught
from tests.small import turns
from tests.unit.service.conftest import SETTINGS, Served, number, open_sequences, serving, until
from tests.unit.service.test_replicas import behind_a_handle

Known = tuple[MiniMind, Tokenizer]

CALL = {"id": "a", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
CONVERSATIONS: list[list[dict[str, Any]]] = [
    turns(taught.CAPITAL, "Paris."),
    turns(taught.CAPITAL, "I cannot say, ask somebody who has been there."),
    [{"role": "system", "content": "Be short."}, *turns(taught.CAPITAL_ZH, "巴黎。")],
    [
        {"role": "user", "content": taught.PRIME},
        {"role": "assistant", "content": "Yes.", "reasoning_content": "Only 1 and 7 divide it."},
    ],
    [
        {"role": "user", "content": taught.FORECAST},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "a", "content": '{"sky": "sunny"}'},
        {"role": "assistant", "content": "It is sunny in Paris."},
    ],
]


def write_runs(home: Path, known: Known) -> None:
    """A model that writes, and a younger one that judges."""
    taught.write_run(home / "runs", "taught", *known)
    taught.write_run(home / "runs", "judge", taught.judge(known[0]), known[1])


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, known_by_heart: Known) -> Iterator[Served]:
    """A server of both."""
    home = tmp_path_factory.mktemp("judged")
    write_runs(home, known_by_heart)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIMIND_HOME", str(home))
        with serving() as there:
            yield there


def ask(served: Served, model: str = "judge", conversations: Any = (), **more: Any) -> httpx.Response:
    body = {"model": model, "conversations": conversations or CONVERSATIONS, **more}
    return httpx.post(f"{served.address}/v1/scores", json=body, timeout=60)


def test_scores_are_those_of_reward_score(judged: Served, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"conversations": one}) + "\n" for one in CONVERSATIONS), "utf-8")
    expected = score_file(find_weights("judge"), rows, "sft")
    response = ask(judged)
    assert response.status_code == 200
    told = response.json()
    tokens = [row.tokens[0] for row in expected]
    assert [one["tokens"] for one in told["data"]] == tokens
    assert [one["score"] for one in told["data"]] == pytest.approx([row.scores[0] for row in expected], rel=1e-5)
    assert len({round(one["score"], 4) for one in told["data"]}) == len(CONVERSATIONS)
    data = [{"object": "score", "index": index} for index in range(len(CONVERSATIONS))]
    assert told == {
        "object": "list",
        "model": "judge@10",
        "data": [
            one | {name: found[name] for name in ("score", "tokens")}
            for one, found in zip(data, told["data"], strict=True)
        ],
        "usage": {"prompt_tokens": sum(tokens), "total_tokens": sum(tokens)},
    }


def test_openai_s_client_asks_by_its_post(judged: Served) -> None:
    told = judged.client.post(
        "/scores", body={"model": "judge@10", "conversations": CONVERSATIONS[:1]}, cast_to=dict[str, Any]
    )
    assert [one["index"] for one in told["data"]] == [0]


@pytest.mark.parametrize(
    ("conversations", "words", "param"),
    [
        ([], "at least 1 item", "conversations"),
        ([[]], "at least 1 item", "conversations[0]"),
        ([CONVERSATIONS[0]] * 129, "at most 128 items", "conversations"),
        (
            [CONVERSATIONS[0], CONVERSATIONS[0][:1]],
            "conversations[1]: a score is that of the assistant's answer at the end; here the role at the end is ",
            "conversations[1]",
        ),
        ([[{**CONVERSATIONS[0][0], "mood": "good"}]], "there is no such field", "conversations[0][0].mood"),
        ([turns("a\ud800", "b")], "half a surrogate pair", "conversations[0][0].content"),
        (
            [CONVERSATIONS[0], [CONVERSATIONS[0][0], *CONVERSATIONS[0]]],
            "conversations[1]: messages: turn 2 is user after user; allowed there: assistant",
            "conversations[1]",
        ),
        (
            [[*CONVERSATIONS[4][:2], {**CONVERSATIONS[4][2], "tool_call_id": "b"}, CONVERSATIONS[4][3]]],
            "conversations[0][2].tool_call_id: 'b' is no call",
            "conversations[0][2].tool_call_id",
        ),
        ([CONVERSATIONS[0], turns("hi", "ja " * 400)], "conversations[1] has ", "conversations[1]"),
        ([CONVERSATIONS[0], turns("hi", "ja " * 100_000)], "conversations[1] has at least ", "conversations[1]"),
    ],
)
def test_what_is_wrong_is_told_with_its_conversation(
    judged: Served, conversations: list[Any], words: str, param: str
) -> None:
    body = json.dumps({"model": "judge", "conversations": conversations})
    headers = {"Content-Type": "application/json"}
    response = httpx.post(f"{judged.address}/v1/scores", content=body, headers=headers, timeout=60)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, param)
    assert words in error["message"]
    if " has " in words:
        assert "tokens; a score is given to 512 at most" in error["message"]
        assert error["code"] == "context_length_exceeded"


def test_unknown_fields_are_refused_as_elsewhere() -> None:
    good = {"model": "m", "conversations": CONVERSATIONS}
    assert ScoreRequest.model_validate({**good, "user": "me", "logit_bias": {}}) == ScoreRequest.model_validate(good)
    for field in ("messages", "temperature", "normalize"):
        with pytest.raises(ValidationError, match="Extra inputs"):
            ScoreRequest.model_validate({**good, field: 1})
    assert unknown_field("messages") == "there is no such field here; /v1/chat/completions has it"
    assert unknown_field("conversations") == "there is no such field here; /v1/scores has it"
    assert unknown_field("conversation").endswith("did you mean conversations?")


def test_a_model_is_refused_where_it_has_nothing_to_say(judged: Served, known_by_heart: Known) -> None:
    refused = ask(judged, "taught")
    assert refused.status_code == 400
    assert refused.json()["error"] == {
        "message": "model 'taught' writes text and gives no scores: it is asked at /v1/chat/completions; a reward "
        "model comes of `minimind train reward`",
        "type": "invalid_request_error",
        "param": "model",
        "code": "not_a_reward_model",
    }
    create: Any = judged.client.chat.completions.create, judged.client.completions.create
    asked: list[dict[str, Any]] = [{"messages": turns("hi", "ho")[:1]}, {"prompt": "hi"}]
    for call, what in zip(create, asked, strict=True):
        with pytest.raises(
            openai.BadRequestError, match="it gives scores and writes nothing; it is asked at /v1/sc"
        ) as told:
            call(model="judge", **what)
        assert (told.value.code, told.value.param) == ("not_a_language_model", "model")
    missing = ask(judged, "nobody")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")


def test_it_is_listed_last_and_offered_to_nobody_who_chats(judged: Served) -> None:
    listed = httpx.get(f"{judged.address}/v1/models").json()["data"]
    assert [(card["id"], card["minimind"]["scores"]) for card in listed] == [
        ("taught", False), ("taught@10", False), ("judge", True), ("judge@10", True)
    ]  # fmt: skip
    card = httpx.get(f"{judged.address}/v1/models/judge").json()
    about = card["minimind"]
    assert (about["stage"], about["chat"], about["stock"], about["sampling"]) == ("reward", False, False, {})
    for answerer in (Server(judged.address), InProcess()):
        assert [model.id for model in answerer.models()] == ["taught", "taught@10"]
    assert [card.id for card in model_cards(judged.runs) if card.scores] == ["judge", "judge@10"]


def test_it_counts_while_it_is_in_memory_and_gives_its_room_away(home: Path, known_by_heart: Known) -> None:
    write_runs(home, known_by_heart)
    folder = Catalog().find("judge").folder
    needs = plan(folder, SETTINGS.model_copy(update={"dtype": "int8"}))
    held = sum(tensor.nbytes for tensor in taught.judge(known_by_heart[0]).state_dict().values())
    assert (needs.bytes, needs.loading_bytes, needs.kv_bytes, needs.weight_type) == (held, held, 0, "float32")
    writer = plan(Catalog().find("taught").folder, SETTINGS)
    assert writer.weight_bytes == weight_bytes(taught.CONFIG, "float32")

    async def run() -> None:
        pool = ModelPool(Catalog(), SETTINGS.model_copy(update={"memory_bytes": writer.bytes + held - 1}))
        async with pool.use("judge", scores=True):
            assert [model.bytes for model in pool.loaded()] == [held]
            with pytest.raises(ApiError, match="no room for 'taught@10'.*while these answer: judge@10"):
                async with pool.use("taught"):
                    pass
        for name, scores in (("taught", False), ("judge", True)):
            async with pool.use(name, scores=scores):
                assert [model.model for model in pool.loaded()] == [f"{name}@10"]
        with pytest.raises(ApiError, match="writes text and gives no scores"):
            async with pool.use("taught", scores=True):
                pass
        assert [model.model for model in pool.loaded()] == ["judge@10"]  # who is refused takes nobody's room
        pool.close()

    asyncio.run(run())


def test_others_are_answered_and_counted_while_it_scores(judged: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    may_step, step = threading.Event(), Scorer.step

    def held(scorer: Scorer) -> list[RequestEvent]:
        assert may_step.wait(60)
        return step(scorer)

    monkeypatch.setattr(Scorer, "step", held)
    at_once = [CONVERSATIONS, CONVERSATIONS[:1] * 128, CONVERSATIONS[:1] * 128]
    with ThreadPoolExecutor(3) as beside:
        waiting = [beside.submit(ask, judged, "judge", conversations) for conversations in at_once]
        until(lambda: open_sequences(judged, "judge@10") == 5 + 128 + 128)
        reply = judged.client.chat.completions.create(
            model="taught", temperature=0, messages=[{"role": "user", "content": taught.CAPITAL}]
        )
        assert reply.choices[0].message.content == "Paris."
        full = ask(judged, "judge", at_once[1])
        assert (full.status_code, full.json()["error"]["code"]) == (429, "queue_full")
        may_step.set()
        told = [answer.result().json() for answer in waiting]
    assert open_sequences(judged, "judge@10") == 0
    counted = number(judged, 'minimind_prompt_tokens_total{model="judge@10"}')
    assert counted >= sum(one["usage"]["prompt_tokens"] for one in told)
    assert number(judged, 'minimind_http_responses_total{path="/v1/scores",status="200"}') >= 3


def test_a_client_that_hangs_up_ends_its_scoring(judged: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    may_step, step = threading.Semaphore(0), Scorer.step

    def held(scorer: Scorer) -> list[RequestEvent]:
        assert may_step.acquire(timeout=60)
        return step(scorer)

    assert ask(judged).status_code == 200  # it is in memory
    monkeypatch.setattr(Scorer, "step", held)
    body = {"model": "judge", "conversations": CONVERSATIONS[:1] * 128}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{judged.address}/v1/scores", json=body, timeout=1)
    until(lambda: number(judged, "minimind_http_requests_open") == 1)  # that which asks for it
    assert open_sequences(judged, "judge@10") == 128
    may_step.release()  # the step that it is in
    until(lambda: open_sequences(judged, "judge@10") == 0)


def test_texts_that_come_one_after_the_other_are_scored_together(known_by_heart: Known) -> None:
    scorer = Scorer(taught.judge(known_by_heart[0]), slots=2)
    texts = [[5, 6, 7], [8], [9, 10], [11, 12]]
    first, second, third, last = (scorer.add(ids) for ids in texts)
    scorer.cancel(second)
    scorer.cancel(second)
    assert [event.request for event in scorer.step()] == [first, third]
    [event] = scorer.step()
    assert (event.request, event.finish) == (last, "stop")
    assert event.score == pytest.approx(reward.scores(taught.judge(known_by_heart[0]), texts[-1:])[0], rel=1e-5)
    assert not scorer.busy
    for bad in ([], [1] * 100_000):
        with pytest.raises(ValueError, match=f"has {len(bad)} tokens"):
            scorer.add(bad)


def test_a_score_that_is_no_number_is_an_error_of_its_request(home: Path, known_by_heart: Known) -> None:
    broken = taught.judge(known_by_heart[0])
    torch.nn.init.constant_(broken.score.weight, float("nan"))
    taught.write_run(home / "runs", "broken", broken, known_by_heart[1])
    with serving() as served:
        told = ask(served, "broken")
    assert (told.status_code, told.json()["error"]["code"]) == (500, "answer_failed")


def test_replicas_behind_a_handle_score_as_well(home: Path, known_by_heart: Known) -> None:
    write_runs(home, known_by_heart)

    async def run() -> None:
        replica = ModelReplica(SETTINGS)
        replicas = behind_a_handle(replica)
        first, told = [reply async for reply in replicas.generate(Scoring("judge", CONVERSATIONS[:2]))]
        assert isinstance(first, Accepted)
        assert isinstance(told, Scores)
        assert (first.model, first.prompt_tokens, len(told.scores)) == ("judge@10", sum(told.tokens), 2)
        [refused] = [reply async for reply in replicas.generate(Scoring("taught", CONVERSATIONS[:2]))]
        assert isinstance(refused, Failure)
        assert refused.error.code == "not_a_reward_model"
        replica.close()

    asyncio.run(run())
