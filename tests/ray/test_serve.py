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
from openai.types import Completion
from openai.types.chat import ChatCompletionMessageParam
from rich.console import Console

from jobs import paths
from jobs.cluster import local as cluster
from jobs.cluster import processes
from jobs.cluster.access import Cluster
from jobs.serving import ports
from jobs.serving import server as serving
from minimind.network.model import MiniMind
from minimind.text.tokenizer import Tokenizer
from tests import taught
from tests.conftest import at_home

T = TypeVar("T")

COUNT: list[ChatCompletionMessageParam] = [{"role": "user", "content": taught.COUNT}]

ENDLESS: dict[str, Any] = {
    "model": "endless",
    "prompt": "1",
    "n": 16,
    "max_tokens": 32_000,
    "temperature": 0,
    "extra_body": {"ignore_eos": True},
}
"""More answers than there are slots, each of more tokens than any machine writes while a test waits: such a stream ends
when its client goes away or its replica dies, and no sooner."""


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
        taught.write_run(paths.runs(), "endless", *learnt)  # with slots of its own
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        address = serving.start(_config(port), Console(quiet=True))
        assert address == f"http://127.0.0.1:{port}" == serving.running_url()
        with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=60) as client:
            yield Server(port, paths.runs(), learnt, client)
        serving.stop()


def _config(port: int) -> Any:
    args = serving.ServeFlags(port=port, replicas="2", slots="8", context="32768", dtype="float32")
    return serving.application(args, os.environ)


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


def test_a_client_that_goes_away_gives_its_slots_back(server: Server) -> None:
    def begin() -> openai.Stream[Completion]:
        stream: openai.Stream[Completion] = server.client.completions.create(**ENDLESS, stream=True)
        next(stream)
        return stream

    for stream in _begun_on_both(server, begin):
        stream.close()
    # One of the two replicas answers, by chance: as often as this, both have.
    _until(lambda: not any(_open_sequences(server) for _ in range(20)), "both replicas to be idle")


def _begun_on_both(server: Server, begin: Callable[[], T]) -> list[T]:
    """Requests that have begun, until both replicas are at work: a question for numbers goes to one that is not, if
    there is one.
    """
    begun: list[T] = []
    while not begun or not all(_open_sequences(server) for _ in range(5)):
        assert len(begun) < 8
        begun.append(begin())
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


def test_a_reward_model_scores(server: Server) -> None:
    taught.write_run(server.runs, "judge", taught.judge(server.learnt[0]), server.learnt[1])
    answers = [[*COUNT, {"role": "assistant", "content": text}] for text in (taught.COUNTED, "No.")]
    body = {"model": "judge", "conversations": answers}
    response = httpx.post(f"http://127.0.0.1:{server.port}/v1/scores", json=body, timeout=60)
    assert response.status_code == 200, response.text
    assert [one["index"] for one in response.json()["data"]] == [0, 1]


def test_a_killed_replica_ends_its_own_streams_only_and_comes_back(server: Server) -> None:
    before = _replicas()
    assert len(before) == 2
    streams = _begun_on_both(server, lambda: _Stream(server).begun())
    before[0].kill()
    _until(lambda: any(stream.error for stream in streams), "a client to be told")
    for _ in range(10):
        assert _counted(server) == taught.COUNTED
    so_far = {stream: stream.pieces for stream in streams}
    _until(lambda: all(stream.error or stream.pieces > so_far[stream] for stream in streams), "the others to go on")
    lost = [stream for stream in streams if stream.error]
    assert 0 < len(lost) < len(streams)
    assert {stream.error for stream in lost} == {"replica_lost"}
    for stream in streams:
        stream.leave()
    texts = [text for stream in streams for text in stream.texts.values()]
    assert all(max(texts, key=len).startswith(text) for text in texts)
    _until(lambda: len(_replicas()) == 2, "the replica to come back")
    _until(lambda: not any(_open_sequences(server) for _ in range(20)), "the others to be idle")


class _Stream(Thread):
    """ENDLESS, read in a thread: its texts, how many pieces came, and the code of the error that ended it."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.texts: dict[int, str] = {}
        self.pieces = 0
        self.error = ""
        self._leaves = False
        self._server = server
        self.start()

    def begun(self) -> _Stream:
        """The stream itself, once something has come."""
        _until(lambda: bool(self.pieces or self.error), "a stream to begin")
        return self

    def leave(self) -> None:
        """Go away with the next piece."""
        self._leaves = True
        self.join(60)
        assert not self.is_alive()

    def run(self) -> None:
        try:
            with self._server.client.completions.create(**ENDLESS, stream=True) as stream:
                for chunk in stream:
                    for choice in chunk.choices:
                        self.texts[choice.index] = self.texts.get(choice.index, "") + choice.text
                    self.pieces += 1
                    if self._leaves:
                        return
        except openai.APIError as error:
            self.error = error.code or repr(error)


def test_a_second_server_is_told_who_has_the_port(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"port {server.port} of 127.0.0.1 .*by ray::ProxyActor.*, process \d+\)"):
        ports.require_port_free("127.0.0.1", server.port)
    with pytest.raises(ValueError, match=rf"runs already, at http://127.0.0.1:{server.port}: .*serve --stop"):
        serving.start(_config(server.port + 1), Console(quiet=True))
    with at_home(tmp_path / "other"):
        with pytest.raises(ValueError, match=f"port {server.port} of 127.0.0.1"):
            serving.start(_config(server.port), Console(quiet=True))
        assert cluster.find() is None


def test_it_ends(server: Server) -> None:
    assert serving.stop()
    assert serving.running_url() is None
    ports.require_port_free("127.0.0.1", server.port)
    assert not serving.stop()
