"""Following a job whose connection breaks, is quiet, or is interrupted at an unlucky moment; it needs no cluster."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.cluster import follow, submit
from jobs.cluster.access import Cluster, ClusterError
from jobs.runs.directory import RunRow, RunState

Tail = Callable[[], AsyncIterator[str]]


class Scripted:
    """A client whose log is another one at each connection; the job has ended when there are no more.

    now: seconds of a clock that goes on while somebody sleeps.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *tails: Tail) -> None:
        self.tails = list(tails)
        self.connections, self.now = 0, 1000.0
        monkeypatch.setattr(submit, "_client", self.client)
        monkeypatch.setattr(submit, "monotonic", lambda: self.now)
        monkeypatch.setattr(submit, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def tail_job_logs(self, submission_id: str) -> AsyncIterator[str]:
        self.connections += 1
        return self.tails.pop(0)()

    def get_job_info(self, submission_id: str) -> Any:
        ended = not self.tails
        return SimpleNamespace(
            submission_id=submission_id,
            metadata={"run": "mine"},
            status=SimpleNamespace(is_terminal=lambda: ended),
            message="",
            start_time=1,
            end_time=None,
        )

    @contextmanager
    def client(self) -> Iterator[Scripted]:
        yield self


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    """Ctrl-C means what it does in a terminal: a shell gives what it starts with `&` a SIGINT that is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


async def broken(*texts: str) -> AsyncIterator[str]:
    for text in texts:
        yield text
    raise RuntimeError("WebSocket connection closed unexpectedly with close code 1006")


async def whole(*texts: str) -> AsyncIterator[str]:
    for text in texts:
        yield text


@pytest.mark.parametrize("end", [broken, whole])
def test_ctrl_c_detaches_also_where_the_log_ends_in_the_same_moment(
    monkeypatch: pytest.MonkeyPatch, end: Callable[..., AsyncIterator[str]]
) -> None:
    # The text and the end of the connection have arrived together, so nothing waits between them.
    client = Scripted(monkeypatch, lambda: end("training\n"), lambda: whole("training\n"), whole)
    pieces: list[str] = []

    def interrupt(text: str) -> None:
        pieces.append(text)
        if text == "training\n":
            signal.raise_signal(signal.SIGINT)

    assert submit.follow("mine-1", interrupt) == "RUNNING"
    assert client.connections == 1
    assert pieces[-1] == "\nDetached; mine-1 runs on. Come back: minimind attach mine-1. End it: minimind stop mine\n"


def test_what_comes_again_after_a_lost_connection_is_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = "one\n", "two\nth"
    Scripted(monkeypatch, lambda: broken(texts[0]), lambda: broken(*texts), lambda: whole("one\ntwo\nthree\n"))
    pieces: list[str] = []
    submit.follow("mine-1", pieces.append)
    assert "".join(pieces) == "one\ntwo\nthree\n"


def test_a_quiet_job_is_followed_on_after_a_lost_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async def quiet() -> AsyncIterator[str]:
        client.now += 3600
        async for text in broken():
            yield text

    client = Scripted(monkeypatch, quiet, broken, quiet, broken, lambda: whole("done\n"))
    pieces: list[str] = []
    submit.follow("mine-1", pieces.append)
    assert (client.connections, pieces) == (5, ["done\n"])


def test_a_log_that_breaks_at_once_again_and_again_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Scripted(monkeypatch, *[lambda: broken("same\n")] * 1000)
    with pytest.raises(ClusterError, match="The log of mine-1 broke off"):
        submit.follow("mine-1", lambda text: None)
    assert client.now - 1000 == pytest.approx(60, abs=1)


def test_the_environment_is_as_before_at_every_moment_but_for_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:1")
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    with submit._addressed(Cluster("10.0.0.1:6379", "http://10.0.0.1:8265", None, ours=False)):
        assert os.environ["RAY_ADDRESS"] == "10.0.0.1:6379"
        os.environ["SET_MEANWHILE"] = "1"
    assert os.environ["RAY_ADDRESS"] == "elsewhere:1"
    assert "RAY_API_SERVER_ADDRESS" not in os.environ
    assert os.environ.pop("SET_MEANWHILE") == "1"


def test_a_run_whose_job_is_about_to_end_keeps_its_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job lives on for seconds after its run has stopped; only one that has not trained yet waits."""
    jobs = [submit.Job(f"of_{name}", name, "run", "RUNNING", "", 1000.0, None) for name in ("ended", "resumed", "new")]
    monkeypatch.setattr(submit, "jobs", lambda: jobs)
    monkeypatch.setattr("jobs.cluster.follow.cluster.running", dict)
    blank = RunRow("", "sft", RunState("STOPPED"), None, None, None, None, None, None, None)
    rows = [replace(blank, name="ended", updated=1005.0), replace(blank, name="resumed", updated=990.0)]
    assert {row.name: row.state.word for row in follow.with_waiting(rows)} == {
        "ended": "STOPPED",
        "resumed": "PENDING",
        "new": "PENDING",
    }
