from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest

from minimind.model import MiniMind
from minimind.tokenizer import Tokenizer
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
    replica: ModelReplica
    client: openai.OpenAI


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
        replica = ModelReplica(SETTINGS)
        with listening(create(replica, SETTINGS)) as there:  # noqa: SIM117
            with openai.OpenAI(base_url=f"{there.address}/v1", api_key="none", max_retries=0, timeout=60) as client:
                yield Served(there.address, home / "runs", replica, client)
        replica.close()


@pytest.fixture
def client(served: Served) -> openai.OpenAI:
    """OpenAI's own client."""
    return served.client
