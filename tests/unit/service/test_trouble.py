"""A busy server, a slow one, clients that misbehave, and checkpoints that come, break and go: over HTTP."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from minimind.checkpoints import folders as checkpoint_folders
from minimind.checkpoints.manifest import WEIGHTS
from minimind.inference.engine import Engine
from minimind.language import language
from minimind.network.model import MiniMind
from minimind.text.tokenizer import Tokenizer
from service import model_pool
from service.loading import load, plan
from tests import taught
from tests.unit.service.conftest import SETTINGS, Served, open_sequences, serving, until

COUNT: list[ChatCompletionMessageParam] = [{"role": "user", "content": taught.COUNT}]


@pytest.fixture
def runs(home: Path, known_by_heart: tuple[MiniMind, Tokenizer]) -> Path:
    for name in ("a", "b"):
        taught.write_run(home / "runs", name, *known_by_heart)
    return home / "runs"


def counted(served: Served, model: str = "a") -> str | None:
    reply = served.client.chat.completions.create(model=model, messages=COUNT, temperature=0)
    return reply.choices[0].message.content


def folder(runs: Path, name: str) -> Path:
    return checkpoint_folders.folder_of(runs / name / "checkpoints", 10)


def test_a_full_queue_is_429_with_when_to_come_again(runs: Path, engines_may_step: threading.Event) -> None:
    with serving(SETTINGS.model_copy(update={"slots": 1, "queue": 2})) as served:
        ask = served.client.with_options(timeout=60).chat.completions.create
        stream = ask(model="a", messages=COUNT, temperature=0, n=3, stream=True)
        with pytest.raises(openai.RateLimitError, match="2 answers wait already") as told:
            ask(model="a", messages=COUNT)
        assert (told.value.code, told.value.response.headers["Retry-After"]) == ("queue_full", "2")
        engines_may_step.set()
        assert len(list(stream)) > 1
        assert counted(served) == taught.COUNTED


def test_while_a_model_loads_it_is_503_and_others_answer(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()

    def slow(place: Path, needs: Any) -> Any:
        assert go_on.wait(60)
        return load(place, needs)

    with serving(SETTINGS.model_copy(update={"load_timeout_s": 0.2})) as served:
        until(lambda: _answers(served, "b"))
        monkeypatch.setattr(model_pool, "load", slow)
        with pytest.raises(openai.InternalServerError, match="'a@10' is being loaded") as told:
            counted(served)
        assert (told.value.status_code, told.value.code) == (503, "loading")
        assert told.value.response.headers["Retry-After"] == "5"
        assert counted(served, "b") == taught.COUNTED
        go_on.set()
        until(lambda: _answers(served, "a"))


def _answers(served: Served, model: str) -> bool:
    with suppress(openai.InternalServerError):  # not yet
        return counted(served, model) == taught.COUNTED
    return False


def test_a_checkpoint_that_appears_can_be_asked_for_at_once(
    runs: Path, known_by_heart: tuple[MiniMind, Tokenizer]
) -> None:
    with serving() as served:
        with pytest.raises(openai.NotFoundError):
            counted(served, "late@latest")
        run = taught.write_run(runs, "late", *known_by_heart, steps=(1,), state="RUNNING")
        assert counted(served, "late@latest") == taught.COUNTED
        taught.write_checkpoint(run, 2, *known_by_heart)
        assert counted(served, "late@2") == taught.COUNTED
        assert {"late@latest", "late@1", "late@2"} <= {model.id for model in served.client.models.list()}


def test_the_least_recently_used_makes_room(runs: Path) -> None:
    needs = plan(folder(runs, "a"), SETTINGS).bytes
    with serving(SETTINGS.model_copy(update={"memory_bytes": int(1.5 * needs)})) as served:
        for name in ("a", "b", "a"):
            assert counted(served, name) == taught.COUNTED
            assert httpx.get(f"{served.address}/healthz").json() == {"status": "ok", "models": [f"{name}@10"]}


def test_a_damaged_and_a_deleted_checkpoint_are_told_to_those_who_ask_for_them(runs: Path) -> None:
    weights = folder(runs, "b") / WEIGHTS
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with serving() as served:
        with pytest.raises(openai.InternalServerError, match="'b@10' cannot be loaded: .*sha256") as told:
            counted(served, "b")
        assert (told.value.code, told.value.param) == ("model_damaged", "model")
        assert counted(served) == taught.COUNTED
        stream = served.client.chat.completions.create(model="a", messages=COUNT, temperature=0, stream=True)
        shutil.rmtree(runs / "a")
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == taught.COUNTED
        with pytest.raises(openai.NotFoundError, match="model 'a'"):
            counted(served)


def test_it_speaks_english_in_a_chinese_shell(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder(runs, "b") / WEIGHTS).write_bytes(b"")
    for name in ("MINIMIND_LANG", "LC_ALL", "LC_MESSAGES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    assert language() == "zh"
    unordered: list[ChatCompletionMessageParam] = [*COUNT, {"role": "system", "content": "hi"}]
    with serving() as served:
        ask = served.client.chat.completions.create
        with pytest.raises(openai.BadRequestError, match="turn 2 is system after user; allowed there: assistant"):
            ask(model="a", messages=unordered)
        with pytest.raises(
            openai.InternalServerError, match=r"model 'b' cannot be loaded|'b@10' cannot be loaded"
        ) as told:
            ask(model="b", messages=COUNT)
        assert told.value.message.isascii(), told.value.message
        for absent in ("a@99", "a@best", "nobody"):
            with pytest.raises(openai.NotFoundError, match=f"model '{absent}'") as missing:
                ask(model=absent, messages=COUNT)
            assert missing.value.message.isascii(), missing.value.message
    assert language() == "zh"


def test_an_engine_that_fails_is_an_error_event_and_the_next_request_works(
    runs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    step, steps = Engine.step, iter(range(1000))

    def failing(engine: Engine) -> Any:
        if next(steps) == 5:
            raise RuntimeError("out of everything")
        return step(engine)

    monkeypatch.setattr(Engine, "step", failing)
    with serving() as served:
        stream = served.client.chat.completions.create(model="a", messages=COUNT, temperature=0, stream=True)
        with pytest.raises(openai.APIError, match="the engine failed"):
            list(stream)
        assert counted(served) == taught.COUNTED
    assert "out of everything" in caplog.text


def test_200_connections_at_once_are_all_answered(runs: Path) -> None:
    async def ask(address: str) -> list[str]:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=address, limits=limits, timeout=120) as client:
            body = {"model": "a", "messages": COUNT, "temperature": 0, "max_tokens": 12}
            replies = await asyncio.gather(*(client.post("/v1/chat/completions", json=body) for _ in range(200)))
        return [reply.json()["choices"][0]["message"]["content"] for reply in replies]

    with serving() as served:
        answers = asyncio.run(ask(served.address))
    assert len(answers) == 200
    assert set(answers) == {answers[0]}
    assert taught.COUNTED.startswith(answers[0])
    assert answers[0]


def test_clients_that_stop_reading_keep_nobody_waiting_and_no_slot(runs: Path) -> None:
    with serving() as served, silent_clients(served, 4):
        until(lambda: open_sequences(served, "a@10") > 0)
        assert counted(served) == taught.COUNTED
        until(lambda: open_sequences(served, "a@10") == 0)  # though all of them are still connected


@contextmanager
def silent_clients(served: Served, count: int) -> Iterator[None]:
    """Connections that ask for far more than sockets hold, and read none of it."""
    port = int(served.address.rpartition(":")[2])
    much = {"model": "a", "prompt": "1", "n": 16, "logprobs": 20, "temperature": 2, "max_tokens": 200, "stream": True}
    body = json.dumps(much).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    with ExitStack() as links:
        for _ in range(count):
            link = links.enter_context(socket.socket())
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            link.connect(("127.0.0.1", port))
            link.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        yield
