"""Replicas behind a handle: what of them is Ray's stands still here."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from jobs.serving.model_card import ModelCard
from minimind.network.model import MiniMind
from minimind.text.tokenizer import Tokenizer
from service import app, model_pool
from service.app import Replicas
from service.backend import Accepted, Chat, Failure, Generation, Reply, Status
from service.errors import ApiError
from service.loading import load
from service.replica import ModelReplica
from tests.taught import write_run
from tests.unit.service.conftest import SETTINGS

HI = Generation("a", Chat([{"role": "user", "content": "hi"}], []), max_tokens=2)


class Handle:
    """A way to a replica in this process, a moment longer than none; Ray's handle is one to another process."""

    def __init__(self, replica: ModelReplica, method: str = "") -> None:
        self._replica, self._method = replica, method

    def options(self, method_name: str, **_: Any) -> Handle:
        return Handle(self._replica, method_name)

    def remote(self, *arguments: Any) -> Any:
        if self._method == "generate":
            return Stream(self._replica.generate(*arguments))
        answer: Callable[..., Awaitable[Any]] = getattr(cast("Any", app.Models).func_or_class, self._method)
        return asyncio.ensure_future(answer(self, *arguments))


class Stream:
    """What a streaming call gives."""

    def __init__(self, replies: AsyncGenerator[Reply]) -> None:
        self._replies = replies

    async def __anext__(self) -> Reply:
        await asyncio.sleep(0.01)
        return await anext(self._replies)

    def cancel(self) -> None:
        """Nothing to end."""


@pytest.fixture
def runs(home: Path, known_by_heart: tuple[MiniMind, Tokenizer]) -> Path:
    write_run(home / "runs", "a", *known_by_heart)
    return home / "runs"


def behind_a_handle(replica: ModelReplica, **settings: Any) -> Replicas:
    return Replicas(cast("Any", Handle(replica)), SETTINGS.model_copy(update=settings))


def test_a_model_that_loads_too_long_is_being_loaded_also_behind_a_handle(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    def slow(place: Path, needs: Any) -> Any:
        assert go_on.wait(20)
        return load(place, needs)

    async def run() -> list[Reply]:
        replica = ModelReplica(SETTINGS.model_copy(update={"load_timeout_s": 0.05}))
        replies = [reply async for reply in behind_a_handle(replica, load_timeout_s=0.05).generate(HI)]
        go_on.set()
        while not (await replica.status()).models:
            await asyncio.sleep(0.01)
        replica.close()
        return replies

    monkeypatch.setattr(model_pool, "load", slow)
    [told] = asyncio.run(run())
    assert isinstance(told, Failure)
    assert (told.error.status, told.error.code) == (503, "loading")
    assert "the model 'a@10' is being loaded" in told.error.message


def test_what_a_replica_says_comes_through(runs: Path) -> None:
    async def run() -> None:
        replica = ModelReplica(SETTINGS)
        replicas = behind_a_handle(replica)
        first, *rest = [reply async for reply in replicas.generate(HI)]
        assert isinstance(first, Accepted)
        assert isinstance(rest[-1], list)
        assert rest[-1][-1].finish is not None
        replica.close()

    asyncio.run(run())


def test_a_replica_that_does_not_answer_is_told_with_how_long_it_was_waited_for(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    class Silent(Handle):
        def options(self, method_name: str, **_: Any) -> Handle:
            return self

        def remote(self, *arguments: Any) -> Any:
            return asyncio.get_running_loop().create_future()

    async def run() -> None:
        replicas = Replicas(cast("Any", Silent(ModelReplica(SETTINGS))), SETTINGS)
        ask: list[Callable[[], Awaitable[list[ModelCard] | ModelCard | Status]]]
        ask = [replicas.models, replicas.status, lambda: replicas.model("a")]
        for question in ask:
            with pytest.raises(ApiError, match="no replica has answered within 0 s") as told:
                await question()
            assert (told.value.status, told.value.code) == (503, "loading")

    for name in ("ANSWER_S", "LIST_S"):
        monkeypatch.setattr(app, name, 0.01)
    asyncio.run(run())
