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
from typing import Any

import httpx
import openai
import psutil
import pytest
from openai.types.chat import ChatCompletionMessageParam
from rich.console import Console

from jobs import cluster, paths, processes, serve
from jobs.cluster import Cluster
from minimind.model import MiniMind
from minimind.tokenizer import Tokenizer
from tests import taught
from tests.conftest import at_home

COUNT: list[ChatCompletionMessageParam] = [{"role": "user", "content": taught.COUNT}]


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
    mark = json.loads((paths.home() / "cluster.json").read_text())["mark"]
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
    streams = []
    for seed in range(2):  # the second one is sent to the replica that the first has left free
        streams.append(
            server.client.completions.create(
                model="taught", prompt="1", n=32, max_tokens=480, temperature=2, seed=seed, stream=True
            )
        )
        next(iter(streams[-1]))
    assert all(_open_sequences(server) for _ in range(4))
    for stream in streams:
        stream.close()
    time.sleep(1)
    # One of the two replicas answers, by chance: as often as this, both have.
    assert [_open_sequences(server) for _ in range(20)] == [0] * 20


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
    expected = [_Stream(server, seed) for seed in range(4)]
    for stream in expected:
        stream.join(60)
    assert not any(stream.error for stream in expected)
    streams = []
    for seed in range(4):  # one after the other, so that the router sees which replica has less to do
        streams.append(stream := _Stream(server, seed))
        _until(lambda stream=stream: bool(stream.texts), "a stream to begin")  # type: ignore[misc]
    before[0].kill()
    for _ in range(10):
        assert _counted(server) == taught.COUNTED
    for stream in streams:
        stream.join(60)
        assert not stream.is_alive()
    lost = [stream for stream in streams if stream.error]
    assert 0 < len(lost) < len(streams)
    assert {stream.error for stream in lost} == {"replica_lost"}
    for stream, whole in zip(streams, expected, strict=True):
        if not stream.error:
            assert stream.texts == whole.texts
    _until(lambda: len(_replicas()) == 2, "the replica to come back")


class _Stream(Thread):
    """More answers than there are slots, read in a thread: their texts, and the code of the error that ended them."""

    def __init__(self, server: Server, seed: int) -> None:
        super().__init__()
        self.texts: dict[int, str] = {}
        self.error = ""
        self._server = server
        self._seed = seed
        self.start()

    def run(self) -> None:
        try:
            for chunk in self._server.client.completions.create(
                model="taught", prompt="1", n=32, max_tokens=480, temperature=2, seed=self._seed, stream=True
            ):
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
