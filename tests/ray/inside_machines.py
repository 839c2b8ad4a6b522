"""Tests for a process that was started with a job's environment, on a cluster of three machines of which two have a
made-up GPU; `test_machines.py` runs them in one.

Everything goes on up to the first call of CUDA: the look at the card, which says that there is none.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import ray

from jobs import paths
from jobs.cluster import local as cluster
from jobs.fit.card import Card, named_card
from jobs.runs.directory import RunDirectory, RunStateError
from jobs.sweeps import sweep
from jobs.text.prepare import prepare
from jobs.training import launch, nodes
from jobs.training import run as train
from jobs.training.request import JobRequest, SweepOptions
from minimind.checkpoints import folders as checkpoint_folders
from minimind.events import metric_series, read_events
from tests.ray.extra_node import can_hide, extra_node
from tests.small import Screen, needs_no_gpu, small_spec


@pytest.fixture(scope="module", autouse=True)
def joined() -> Iterator[int]:
    """This process as part of the cluster, to which two machines come. Gives the CPUs that each has."""
    there = cluster.find()
    assert there is not None
    launch.connect()
    cpus = int(nodes.machines()[0].resources["CPU"])
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(extra_node(there, cpus=cpus, gpus=1))
        yield cpus
        ray.shutdown()


GPU_SPEC: dict[str, Any] = {"scaling__workers": "null", "loop__max_steps": 4}


def busy(count: int) -> list[Any]:
    """Actors that have GPUs, as a training has them."""

    class Busy:
        def here(self) -> str:
            return str(ray.get_runtime_context().get_node_id())

    holder: Any = ray.remote(num_gpus=1, num_cpus=0)(Busy)
    actors = [holder.remote() for _ in range(count)]
    ray.get([actor.here.remote() for actor in actors])
    return actors


def made_up(vram: str | None, kind: str, share: float) -> Card | str:
    """Cards of 8 and 6 GB, one on each machine, of which the larger is the older one."""
    assert kind == "cuda"
    assert ray.get_gpu_ids()
    ids = sorted(node["NodeID"] for node in ray.nodes() if node["Resources"].get("GPU"))  # type: ignore[no-untyped-call]
    number = ids.index(ray.get_runtime_context().get_node_id())
    card = named_card(("8GB", "6GB")[number % 2], os="linux")
    return Card(card.name, int(card.capacity_bytes * share), card.platform, bf16=number % 2 == 1)


def test_the_defaults_take_all_gpus_and_more_are_refused(joined: int) -> None:
    scaling = launch.resolve_scaling(small_spec(**GPU_SPEC)).scaling
    assert (scaling.workers, scaling.gpus_per_worker, scaling.cpus_per_worker) == (2, 1.0, joined)
    with pytest.raises(ValueError, match="workers = 3: every worker needs 1 CPU and 1 GPU on one machine") as caught:
        launch.resolve_scaling(small_spec(scaling__workers=3))
    assert "2 GPU on 3 machines, which is room for 2. Allowed: up to --workers 2; " in str(caught.value)
    assert "--set scaling.gpus_per_worker=0 to train on CPUs" in str(caught.value)
    spread = launch.resolve_scaling(small_spec(scaling__workers=3, scaling__gpus_per_worker=0)).scaling
    assert (spread.workers, spread.gpus_per_worker, spread.cpus_per_worker) == (3, 0, joined)
    with pytest.raises(ValueError, match="gpus_per_worker = 0.5 with 2 workers: NCCL.* takes one worker per GPU"):
        launch.resolve_scaling(small_spec(scaling__workers=2, scaling__gpus_per_worker=0.5))
    trials = launch.resolve_scaling(small_spec(scaling__workers=4, scaling__gpus_per_worker=0.5), together=False)
    assert trials.scaling.workers == 4


def test_the_smallest_card_and_the_precision_of_all_count() -> None:
    said: list[str] = []
    card = nodes.smallest_card(None, 2, 1, 1.0, said.append, made_up)
    assert (card.name, card.bf16, said) == ("6.00 GB, linux", False, [])
    assert nodes.smallest_card(None, 4, 1, 0.5, said.append, made_up).capacity_bytes == 3 << 30


def test_a_machine_whose_gpu_is_busy_is_left_out_or_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "PATIENCE_S", 2.0)
    said: list[str] = []
    other = RunDirectory(paths.runs() / "other")
    other.create({"name": "other"})
    (actor,) = busy(1)
    nodes.smallest_card(None, 1, 1, 1.0, said.append, made_up)
    assert said[-1].endswith(" is busy or slow, and not needed: its card was not looked at.")

    def free(text: str) -> None:
        said.append(text)
        ray.kill(actor)

    said.clear()
    with other.hold():
        card = nodes.smallest_card(None, 2, 1, 1.0, free, made_up)
    assert card.name == "6.00 GB, linux"
    assert said[0].startswith("Waiting for 2 x (1 CPU + 1 GPU), which other has; `minimind stop other` ends it.")


def test_room_is_waited_for_in_words(joined: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "PATIENCE_S", 0.5)
    said: list[str] = []
    nodes.wait_for_room(2, {"CPU": joined, "GPU": 1}, lambda line: None)
    actors = busy(2)

    def free(text: str) -> None:
        said.append(text)
        for actor in actors:
            ray.kill(actor)

    nodes.wait_for_room(1, {"CPU": 1, "GPU": 1}, free)
    assert said[0].startswith("Waiting for 1 CPU + 1 GPU, which another job has.")
    assert said[-1].startswith("There is room now.")


NO_GPU = "Ray counts a GPU on .*, and PyTorch sees none. Likely causes: .*nvidia-smi.*--set scaling.gpus_per_worker=0"


@needs_no_gpu
def test_every_verb_comes_to_the_card_and_says_that_there_is_none() -> None:
    spec, screen = small_spec(name="fresh", **GPU_SPEC), Screen()
    with pytest.raises(ValueError, match=NO_GPU):
        train.start(spec, screen)
    assert not (paths.runs() / "fresh").exists()
    RunDirectory(paths.runs() / "half").create(spec.model_copy(update={"name": "half"}).model_dump(mode="json"))
    with pytest.raises(ValueError, match=NO_GPU):
        train.resume("half", {}, screen)
    settings = {"name": "sized", "data.path": spec.data.path}
    with pytest.raises(ValueError, match=NO_GPU):
        train.train(JobRequest(stage="pretrain", settings=settings, preset="standard"), screen)
    trials = {"name": "swept", "data.path": spec.data.path, "scaling.workers": 2}
    with pytest.raises(ValueError, match=NO_GPU):
        sweep.sweep(JobRequest(stage="pretrain", settings=trials, sweep=SweepOptions()), screen)


@needs_no_gpu
def test_workers_with_a_gpu_start_and_fail_at_nccl() -> None:
    placed = launch.resolve_scaling(small_spec(name="nccl", scaling__workers=2, scaling__max_failures=0))
    run = RunDirectory(paths.runs() / "nccl")
    run.create(placed.model_dump(mode="json"))
    with pytest.raises(RunStateError, match="(?s)the workers of run 'nccl' failed 1 times.*NCCL"):
        launch.launch(placed, prepare(placed, Screen()), run)


def kill_once(run: RunDirectory) -> None:
    """Kill the process that holds the run, as soon as there is a checkpoint."""
    while not checkpoint_folders.steps(run.checkpoints):
        time.sleep(0.02)
    os.kill(int((run.path / ".lock").read_text().split()[1]), signal.SIGKILL)


def test_workers_on_two_machines_train_together_and_survive_one_of_them(
    joined: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOO_LOG_LEVEL", "ERROR")  # goes to the workers, as all variables of gloo and NCCL
    spec = small_spec(
        name="spread",
        scaling__workers=2,
        scaling__gpus_per_worker=0,
        scaling__cpus_per_worker=joined,
        scaling__max_failures=1,
        loop__epochs=50,
        loop__max_steps=240,
        loop__save_interval=20,
        loop__eval_interval=240,
    )
    run, screen = RunDirectory(paths.runs() / "spread"), Screen()
    killer = threading.Thread(target=kill_once, args=(run,), daemon=True)
    killer.start()
    assert train.start(spec, screen).state().word == "SUCCEEDED", run.state()
    assert metric_series(run.events_path, "train/loss")[0] == list(range(1, 241))
    starts = [event for event in read_events(run.events_path, {"state"}) if event["state"] == "RUNNING"]
    assert [start["world"] for start in starts] == [2, 2]
    assert starts[1]["step"] >= 20
    assert "Workers of 'spread' died; starting again from its checkpoint of step" in screen.text
    assert "(failures without a new checkpoint: 1 of 1 allowed)" in screen.text


def test_a_cpu_plan_takes_the_smallest_machine() -> None:
    card = nodes.smallest_card(None, 3, 1, 0, print, lambda vram, kind, share: named_card("4GB", os="linux"))
    assert card.capacity_bytes == 4 << 30
    placed = launch.resolve_scaling(small_spec(scaling__workers=3, scaling__gpus_per_worker=0))
    whole = nodes.look_at_card(None, "cpu", 1.0)
    assert isinstance(whole, Card)
    assert launch.worker_card(placed).capacity_bytes == whole.capacity_bytes


def test_a_folder_that_all_machines_share_leaves_no_trace() -> None:
    nodes.require_shared(paths.home())
    assert not list(paths.home().glob(".probe-*"))


@pytest.mark.skipif(not can_hide(), reason="this user may not give a process a view of its own of the files")
def test_a_machine_that_does_not_share_the_folder_is_named() -> None:
    there = cluster.find()
    assert there is not None
    with extra_node(there, hidden=paths.home()):
        with pytest.raises(ValueError, match="not every machine of the cluster shares MINIMIND_HOME = ") as caught:
            launch.join(small_spec(scaling__workers=1, scaling__gpus_per_worker=0))
        assert str(caught.value).count("it has a folder of that name, but another one") == 1
        assert "Mount one folder" in str(caught.value)
    assert not list(paths.home().glob(".probe-*"))
    assert os.environ["MINIMIND_HOME"] == str(paths.home())
