from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import pytest

from jobs import paths
from minimind.inference.completion import RequestEvent
from minimind.inference.engine import Engine
from minimind.network.model import MiniMind
from minimind.text.tokenizer import Tokenizer
from service.replica import ModelReplica
from service.settings import Settings
from service.web import create
from tests import taught
from tests.browser.scripted import listening

SETTINGS = Settings(context_tokens=512, slots=4, queue=300, dtype="float32", threads=1)


@dataclass(frozen=True)
class Served:
    """A real application on a real port, over a real model in a real engine thread."""

    address: str
    runs: Path
    client: openai.OpenAI


@contextmanager
def serving(settings: Settings = SETTINGS) -> Iterator[Served]:
    """A server of the runs in MINIMIND_HOME."""
    key = settings.api_key or "none"
    with (
        closing(ModelReplica(settings)) as replica,
        listening(create(replica, settings)) as there,
        openai.OpenAI(base_url=f"{there.address}/v1", api_key=key, max_retries=0, timeout=60) as client,
    ):
        yield Served(there.address, paths.runs(), client)


@pytest.fixture(scope="session")
def known_by_heart() -> tuple[MiniMind, Tokenizer]:
    """The weights and the tokenizer of tests/taught.py, learnt once."""
    return taught.taught()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, known_by_heart: tuple[MiniMind, Tokenizer]) -> Iterator[Served]:
    """A server with the run `taught`, which succeeded, and the run `young`, which is not done."""
    home = tmp_path_factory.mktemp("served")
    taught.write_run(home / "runs", "taught", *known_by_heart)
    taught.write_run(home / "runs", "young", *known_by_heart, steps=(1, 2), state="RUNNING")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIMIND_HOME", str(home))
        with serving() as there:
            yield there


@pytest.fixture
def client(served: Served) -> openai.OpenAI:
    """OpenAI's own client."""
    return served.client


@pytest.fixture
def engines_may_step(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Engines stand still while it is clear."""
    go_on = threading.Event()
    step: Callable[[Engine], list[RequestEvent]] = Engine.step

    def step_when_allowed(engine: Engine) -> list[RequestEvent]:
        assert go_on.wait(60)
        return step(engine)

    monkeypatch.setattr(Engine, "step", step_when_allowed)
    yield go_on
    go_on.set()


@pytest.fixture
def steps_allowed(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Semaphore]:
    """Engines take so many steps as it is released for."""
    allowed = threading.Semaphore(0)
    step: Callable[[Engine], list[RequestEvent]] = Engine.step

    def step_when_allowed(engine: Engine) -> list[RequestEvent]:
        assert allowed.acquire(timeout=60)
        return step(engine)

    monkeypatch.setattr(Engine, "step", step_when_allowed)
    yield allowed
    allowed.release(1_000_000)


def until(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    """Wait for something to come true."""
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.005)


def number(served: Served, name: str) -> float:
    """A number at /metrics that has no labels."""
    lines = httpx.get(f"{served.address}/metrics").text.splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} "))


def open_sequences(served: Served, model: str) -> int:
    """How many sequences of a model are running or waiting."""
    lines = httpx.get(f"{served.address}/metrics").text.splitlines()
    wanted = ("minimind_sequences_running{", "minimind_sequences_waiting{")
    numbers = [line.rpartition(" ")[2] for line in lines if line.startswith(wanted) and f'"{model}"' in line]
    return int(sum(map(float, numbers)))
