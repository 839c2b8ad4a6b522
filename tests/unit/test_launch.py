from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

import minimind.checkpoint as checkpoints
from jobs import launch
from jobs.cluster import ClusterError
from jobs.runs import RunDirectory
from jobs.train import resume, start
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
        if "step 1/" in " ".join(map(str, objects)) and not self.sent:
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
    (stopped,) = checkpoints.steps(run.checkpoints)
    assert 1 <= stopped < 60
    assert "Stopping at the next step" in capfd.readouterr().err
    assert signal.getsignal(number) is before
    if number == signal.SIGTERM:
        whole = end_of(start(small_spec(name="whole", **settings), Screen()))
        assert resume("small", {}, Screen()).state().word == "SUCCEEDED"
        assert end_of(run) == whole


@pytest.mark.parametrize(("gpus", "backend"), [(None, None), (0, None), (1, None), (2, None), (0.5, "gloo")])
def test_workers_that_share_a_gpu_do_not_add_up_with_nccl(gpus: float | None, backend: str | None) -> None:
    spec = small_spec(scaling__workers=2, scaling__gpus_per_worker=gpus)
    assert launch._backend(spec) == backend


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
