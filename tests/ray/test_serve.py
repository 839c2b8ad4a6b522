"""`minimind serve` on a real cluster, with two replicas, and OpenAI's client in front of it."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

import httpx
import openai
import psutil
import pytest
import torch
from openai.types.chat import ChatCompletionMessageParam
from rich.console import Console

from jobs import cluster, paths, processes, serve
from jobs.cluster import Cluster
from minimind.model import MiniMind
from minimind.tokenizer import Tokenizer
from tests import taught
from tests.conftest import at_home

T = TypeVar("T")

COUNT: list[ChatCompletionMessageParam] = [{"role": "user", "content": taught.COUNT}]

LONG: dict[str, Any] = {"model": "endless", "prompt": "1", "n": 64, "max_tokens": 480, "temperature": 0}
"""More answers than there are slots, of some seconds: a model that has learnt nothing repeats its last token."""


@dataclass(frozen=True)
class Server:
    """A server with two replicas of the run `taught`."""

    port: int
    runs: Path
    learnt: tuple[MiniMind, Tokenizer]
    client: openai.OpenAI


@pytest.fixture(scope="module")
def server(_session_cluster: tuple[Path, Cluster]) -> Iterator[Server]:
    home, _ = _session_cluster
    with at_home(home):
        learnt = taught.taught()
        taught.write_run(paths.runs(), "taught", *learnt)
        untaught = MiniMind(taught.CONFIG.model_copy(update={"hidden_size": 256, "num_hidden_layers": 6}))
        untaught.initialize(torch.Generator().manual_seed(0))
        taught.write_run(paths.runs(), "endless", untaught, learnt[1])
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        address = serve.start(_config(port), Console(quiet=True))
        assert address == f"http://127.0.0.1:{port}" == serve.running_url()
        with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=60) as client:
            yield Server(port, paths.runs(), learnt, client)
        serve.stop()


def _config(port: int) -> Any:
    args = serve.defaults(port=port, replicas="2", slots="8", context="512", dtype="float32")
    return serve.application(args, os.environ)


def _counted(server: Server, model: str = "taught") -> str | None:
    reply = server.client.chat.completions.create(model=model, messages=COUNT, temperature=0)
    return reply.choices[0].message.content


def _replicas() -> list[psutil.Process]:
    mark = json.loads(cluster.state_path().read_text())["mark"]
    return [
        process
        for process in processes.marked(mark)
        if (process.info["cmdline"] or [""])[0].startswith("ray::ServeReplica:minimind:models")
    ]


def _until(true: Callable[[], bool], what: str, within_s: float = 60) -> None:
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end, f"waited {within_s} s for {what}"
        time.sleep(0.02)


def test_it_streams(server: Server) -> None:
    stream = server.client.chat.completions.create(model="taught", messages=COUNT, temperature=0, stream=True)
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
    assert "".join(pieces) == taught.COUNTED
    assert len(pieces) > 1
    assert "<title>" in httpx.get(f"http://127.0.0.1:{server.port}/").text


def test_a_client_that_goes_away_gives_its_slots_back_within_a_second(server: Server) -> None:
    streams = _begun_on_both(
        server,
        lambda: server.client.completions.create(**LONG, stream=True),
    )
    for stream in streams:
        stream.close()
    time.sleep(1)
    # One of the two replicas answers, by chance: as often as this, both have.
    assert [_open_sequences(server) for _ in range(20)] == [0] * 20


def _begun_on_both(server: Server, begin: Callable[[], T]) -> list[T]:
    """Requests, until both replicas are at work: a question for numbers goes to one that is not, if there is one."""
    begun: list[T] = []
    while not begun or not all(_open_sequences(server) for _ in range(5)):
        assert len(begun) < 8
        begun.append(begin())
        time.sleep(1)  # the model may have to be loaded
    return begun


def _open_sequences(server: Server) -> float:
    lines = httpx.get(f"http://127.0.0.1:{server.port}/metrics").text.splitlines()
    wanted = ("minimind_sequences_running{", "minimind_sequences_waiting{")
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(wanted))


def test_a_checkpoint_that_appears_can_be_asked_for_at_once(server: Server) -> None:
    with pytest.raises(openai.NotFoundError, match="no run 'late'.*taught@10"):
        _counted(server, "late@3")
    taught.write_run(server.runs, "late", *server.learnt, steps=(3,), state="RUNNING")
    assert _counted(server, "late@3") == taught.COUNTED


def test_a_killed_replica_ends_its_own_streams_only_and_comes_back(server: Server) -> None:
    before = _replicas()
    assert len(before) == 2
    streams = _begun_on_both(server, lambda: _Stream(server))
    _until(lambda: sum(bool(stream.texts) for stream in streams) > 1, "both replicas to write")
    before[0].kill()
    for _ in range(10):
        assert _counted(server) == taught.COUNTED
    for stream in streams:
        stream.join(60)
        assert not stream.is_alive()
    lost = [stream for stream in streams if stream.error]
    assert 0 < len(lost) < len(streams)
    assert {stream.error for stream in lost} == {"replica_lost"}
    _until(lambda: len(_replicas()) == 2, "the replica to come back")
    whole = _Stream(server)
    whole.join(60)
    assert all(stream.texts == whole.texts for stream in streams if not stream.error)


class _Stream(Thread):
    """LONG, read in a thread: its texts, and the code of the error that ended them."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.texts: dict[int, str] = {}
        self.error = ""
        self._server = server
        self.start()

    def run(self) -> None:
        try:
            for chunk in self._server.client.completions.create(**LONG, stream=True):
                for choice in chunk.choices:
                    self.texts[choice.index] = self.texts.get(choice.index, "") + choice.text
        except openai.APIError as error:
            self.error = error.code or repr(error)


def test_a_second_server_is_told_who_has_the_port(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"port {server.port} of 127.0.0.1 .*by ray::ProxyActor.*, process \d+\)"):
        serve.require_free("127.0.0.1", server.port)
    with pytest.raises(ValueError, match=rf"runs already, at http://127.0.0.1:{server.port}: .*serve --stop"):
        serve.start(_config(server.port + 1), Console(quiet=True))
    with at_home(tmp_path / "other"):
        with pytest.raises(ValueError, match=f"port {server.port} of 127.0.0.1"):
            serve.start(_config(server.port), Console(quiet=True))
        assert cluster.find() is None


def test_it_ends(server: Server) -> None:
    assert serve.stop()
    assert serve.running_url() is None
    serve.require_free("127.0.0.1", server.port)
    assert not serve.stop()
