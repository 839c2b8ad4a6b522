from __future__ import annotations

import os
import re
import signal
import socket
from contextlib import ExitStack
from pathlib import Path
from threading import Thread

import pytest
from ray import train as ray_train
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError
from ray.train.v2.api.exceptions import ControllerError

from jobs.cluster.access import ClusterError
from jobs.runs.directory import RunDirectory, RunStateError
from jobs.training import launch
from jobs.training.run import resume, start
from minimind.checkpoints import folders as checkpoint_folders
from minimind.checkpoints.manifest import MANIFEST
from minimind.events import EventLog
from tests.small import Screen, end_of, small_spec


def test_without_workers_nothing_is_asked_of_a_cluster(home: object) -> None:
    spec = small_spec(scaling__workers=0)
    assert launch.resolve_scaling(spec) == spec
    assert launch.pipeline() is None


def test_without_a_cluster_the_ways_to_one_are_named(home: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ClusterError, match="not part of a Ray cluster.*minimind cluster start.*--workers 0"):
        launch.connect()


class Interrupting(Screen):
    """Sends this process a signal when the first step is shown."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number, self.sent = number, False

    def print(self, *objects: object, **options: object) -> None:
        super().print(*objects, **options)  # type: ignore[arg-type]
        if re.search(r"step +1/", " ".join(map(str, objects))) and not self.sent:
            self.sent = True
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_cleanly_and_the_run_goes_on_later(
    home: object, number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)
    settings = {"loop__max_steps": 60, "loop__save_interval": 100, "loop__eval_interval": 100}
    run = start(small_spec(**settings), Interrupting(number))
    assert run.state().word == "STOPPED"
    (stopped,) = checkpoint_folders.steps(run.checkpoints)
    assert 1 <= stopped < 60
    assert "Stopping at the next step" in capfd.readouterr().err
    assert signal.getsignal(number) is before
    if number == signal.SIGTERM:
        whole = end_of(start(small_spec(name="whole", **settings), Screen()))
        assert resume("small", {}, Screen()).state().word == "SUCCEEDED"
        assert end_of(run) == whole


@pytest.mark.parametrize("words", [(), ("RUNNING", "SUCCEEDED")], ids=["before the first step", "after the last event"])
def test_a_signal_at_the_edges_of_a_run_fails_nothing(home: Path, words: tuple[str, ...]) -> None:
    run = RunDirectory(home / "runs" / "mine")
    run.create({"stage": {"kind": "pretrain"}})
    with EventLog(run.events_path) as log:
        for word in words:
            log.state(word)
    with launch._stop_on_signal(run):
        os.kill(os.getpid(), signal.SIGTERM)
    assert run.stop_requested()


class Failed(ray_train.TrainingFailedError):
    """What Ray Train raises when workers die."""


def test_failures_count_only_without_a_new_checkpoint(home: Path) -> None:
    run = RunDirectory(home / "runs" / "night")
    said: list[str] = []
    attempts = []

    def attempt() -> None:
        attempts.append(1)
        if len(attempts) <= 20:  # each gets one checkpoint further
            folder = checkpoint_folders.folder_of(run.checkpoints, len(attempts))
            folder.mkdir(parents=True)
            (folder / MANIFEST).write_text("{}")
            raise Failed("Training failed due to worker errors:\n[Rank 0]:\nworker died")

    launch.until_done(attempt, run, 1, said.append)
    assert len(attempts) == 21
    assert said[-1] == (
        "Workers of 'night' died; starting again from its checkpoint of step 20 (failures without a new checkpoint: "
        "1 of 1 allowed). worker died"
    )


def test_failures_without_a_new_checkpoint_end_the_run(home: Path) -> None:
    run = RunDirectory(home / "runs" / "stuck")
    said: list[str] = []

    def attempt() -> None:
        raise Failed("no luck")

    with pytest.raises(RunStateError, match="'stuck' failed 3 times without a new checkpoint.*resume stuck.*no luck"):
        launch.until_done(attempt, run, 2, said.append)
    assert [line.partition(" (")[0] for line in said] == [
        "Workers of 'stuck' died; starting again from the beginning"
    ] * 2


def test_workers_that_found_no_room_are_no_failure(home: Path) -> None:
    attempts = []

    def attempt() -> None:
        attempts.append(1)
        if len(attempts) < 10:
            raise ControllerError(WorkerGroupStartupTimeoutError(1))

    launch.until_done(attempt, RunDirectory(home / "runs" / "late"), 0, lambda line: None)
    assert len(attempts) == 10


def test_an_address_where_nobody_listens_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ClusterError, match=f"no Ray cluster answers at {address}, which RAY_ADDRESS names"):
        launch.connect()


@pytest.mark.parametrize("says", [None, b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_what_listens_and_is_no_cluster_is_named(says: bytes | None) -> None:
    """says: what it answers; None for nothing, while the line stays open."""
    with ExitStack() as open_ones, socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            there = open_ones.enter_context(listener.accept()[0])
            if says is not None:
                there.recv(1)
                there.sendall(says)
                there.shutdown(socket.SHUT_RDWR)

        thread = Thread(target=answer)
        thread.start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(
            ClusterError, match=f"what listens at {address}, which RAY_ADDRESS names, is no Ray cluster"
        ):
            launch.require_answer(address, within_s=0.2)
        thread.join()


@pytest.mark.parametrize("address", ["auto", "local", "head", "head:", ":6379", "head:port"])
def test_an_address_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ClusterError, match=f"RAY_ADDRESS = '{address}': host:port of one cluster is wanted"):
        launch.connect()


def test_the_users_variables_for_the_network_reach_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCCL_IB_DISABLE", "1")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth7")
    variables = launch._worker_environment()
    assert variables["NCCL_IB_DISABLE"] == "1"
    assert variables["GLOO_SOCKET_IFNAME"] == "eth7"
    assert variables["OMP_WAIT_POLICY"] == os.environ["OMP_WAIT_POLICY"]
