"""From a RunSpec to training processes: in this one, or as Ray Train workers that are restarted when they die."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
import torch
from ray import train as ray_train
from ray.train.torch import TorchTrainer, get_device

from data.prepare import Pipeline
from jobs import WORKER_ENVIRONMENT, paths
from jobs.cluster.access import ClusterError
from jobs.cluster.capacity import most_cpus, places, require_room
from jobs.cluster.machine import is_network_folder
from jobs.cluster.ray_private import found_no_room
from jobs.fit.card import Card, here, this_card, worker_share
from jobs.runs.directory import RunDirectory, RunStateError, RunTakenError
from jobs.stages.spec import RunSpec
from jobs.text.cluster_encode import encode_on_cluster
from jobs.text.prepare import Prepared
from jobs.training.nodes import (
    Tell,
    collectives,
    machines,
    require_shared,
    reservations_returned,
    smallest_card,
    wait_for_room,
)
from jobs.training.worker import work
from minimind.checkpoints import folders as checkpoint_folders
from minimind.device.distributed import Parallel
from minimind.language import say

LEASE_S = 120.0
"""Longer than NFS servers keep the locks of a client that says nothing (usually 90 seconds)."""


def connect() -> None:
    """Join the Ray cluster of the job that this process is, or the local one; nothing if already joined.

    Raises ClusterError if there is none.
    """
    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS")  # Ray sets it for a job; without it Ray would look for any cluster at all
    if not address:
        raise ClusterError(
            say(
                "this process is not part of a Ray cluster. Submit it as a job (`minimind train ...`, or "
                '`ray job submit` after `minimind cluster start` and `eval "$(minimind cluster env)"`), '
                "or train without Ray: --workers 0"
            )
        )
    require_answer(address)
    try:
        ray.init(
            address=address,
            # Ray Train's helper actors look for a cluster once more: in vain for ten seconds, or find another one.
            runtime_env={"env_vars": {"RAY_ADDRESS": address}},
            log_to_driver=False,
            logging_level=logging.WARNING,
        )
    except ConnectionError as error:
        raise ClusterError(_nobody(address)) from error


_GRPC_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""How a client of gRPC begins: with a frame of settings, number 4, which the server answers with one of its own."""


def require_answer(address: str, within_s: float = 5.0) -> None:
    """Raise ClusterError unless a server of gRPC, as Ray's are, answers at `address`, "host:port". Ray itself would try
    for many minutes, also where something else listens.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise ClusterError(
            say(
                "RAY_ADDRESS = {address!r}: host:port of one cluster is wanted, such as 127.0.0.1:6379 "
                "(`minimind cluster env` prints it); another word may mean any cluster that is found",
                address=address,
            )
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=within_s) as there:
            if os.environ.get("RAY_USE_TLS", "").lower() in ("1", "true"):
                return
            try:
                there.sendall(_GRPC_HELLO)
                answer = there.makefile("rb").read(4)
            except OSError:  # it hangs up, or says nothing
                answer = b""
    except (OSError, OverflowError) as error:
        raise ClusterError(_nobody(address)) from error
    if answer[3:] != b"\x04":
        raise ClusterError(
            say(
                "what listens at {address}, which RAY_ADDRESS names, is no Ray cluster; host:port as "
                "`minimind cluster env` prints it is wanted (the port of the dashboard, 8265, is another "
                "one)",
                address=address,
            )
        )


def _nobody(address: str) -> str:
    return say(
        "no Ray cluster answers at {address}, which RAY_ADDRESS names; start one: minimind cluster start",
        address=address,
    )


def join(spec: RunSpec, *, together: bool = True) -> RunSpec:
    """The spec with its workers decided, and this process joined to the cluster that will run them: `connect`,
    `resolve_scaling`, and a look at whether all machines share MINIMIND_HOME.
    """
    connect()
    placed = resolve_scaling(spec, together=together)
    require_shared(paths.home())
    return placed


def resolve_scaling(spec: RunSpec, *, together: bool = True) -> RunSpec:
    """The spec with the number of workers, GPUs and CPUs that this cluster gives, where it left them open: as many
    workers as there are GPUs, and for each the most CPUs at which all of them find room.

    together: whether the workers train one model. Raises ValueError, in words, for what the cluster could never give:
    Ray would wait for it for ever.
    """
    scaling = spec.scaling
    if scaling.workers == 0:
        return spec
    nodes = [machine.resources for machine in machines()]
    gpus_per_worker = scaling.gpus_per_worker
    if gpus_per_worker is None:
        gpus_per_worker = float(any(node.get("GPU", 0) >= 1 for node in nodes))
    room = places(nodes, scaling.cpus_per_worker or 1, gpus_per_worker) if gpus_per_worker else 1
    workers = scaling.workers or max(1, room)
    if together and workers > 1 and 0 < gpus_per_worker < 1:
        raise ValueError(
            say(
                "scaling.gpus_per_worker = {gpus_per_worker:g} with {workers} workers: NCCL, through "
                "which they add up gradients, takes one worker per GPU. Allowed: whole GPUs, or "
                "--workers 1",
                gpus_per_worker=gpus_per_worker,
                workers=workers,
            )
        )
    cpus_per_worker = scaling.cpus_per_worker or most_cpus(nodes, workers, gpus_per_worker)
    require_room(workers, gpus_per_worker, cpus_per_worker, nodes=nodes, gpus_seen=torch.cuda.device_count())
    resolved = scaling.model_copy(
        update={"workers": workers, "gpus_per_worker": gpus_per_worker, "cpus_per_worker": cpus_per_worker}
    )
    return spec.model_copy(update={"scaling": resolved})


def worker_card(spec: RunSpec, tell: Tell = print) -> Card:
    """The device that one worker of a run gets, the smallest of them where they differ: the run's scaling is decided,
    and this process has joined the cluster.

    Tasks of the cluster look: this process may stand on a machine without a GPU. tell: told what is waited for. Raises
    as `smallest_card` does.
    """
    vram, scaling = spec.memory.vram, spec.scaling
    if not scaling.workers:
        return this_card(vram)
    if not scaling.gpus_per_worker and (vram is not None or len(machines()) == 1):
        cpu = torch.device("cpu")
        return this_card(vram, device=cpu, share=worker_share(scaling, cpu))
    return smallest_card(vram, scaling.workers, scaling.cpus_per_worker or 1, scaling.gpus_per_worker or 0, tell)


def pipeline() -> Pipeline | None:
    """How text becomes tokens: with Ray Data where this process has joined a cluster of several machines."""
    if not ray.is_initialized() or sum(node["Alive"] for node in ray.nodes()) < 2:  # type: ignore[no-untyped-call]
        return None
    return encode_on_cluster


def launch(spec: RunSpec, prepared: Prepared, run: RunDirectory, tell: Tell = print) -> None:
    """Train, and come back when the run has ended; its events say how. tell: told what is waited for, and of workers
    that died and are started again.

    Raises RunStateError where they die again and again, without a new checkpoint in between.
    """
    if spec.scaling.workers == 0:
        with _stop_on_signal(run):
            work(spec, prepared, run, Parallel(device=here()))
        return

    def attempt() -> None:
        with run.waiting() as show:

            def waits(text: str) -> None:
                show(text)
                tell(text)

            wait_for_room(spec.world, _resources(spec), waits)
        with reservations_returned(), _interrupt_handler_kept():
            _trainer(spec, prepared, run).fit()

    until_done(attempt, run, spec.scaling.max_failures, tell)


def until_done(attempt: Callable[[], None], run: RunDirectory, max_failures: int, tell: Tell) -> None:
    """Train until an attempt comes to its end. What counts is whether the run gets on: a failure after a new checkpoint
    is the first again, however many there were in a long night.

    Raises RunStateError after more than `max_failures` without a new checkpoint.
    """
    failures, newest = 0, _newest(run)
    while True:
        try:
            attempt()
            return
        except ray_train.TrainingFailedError as error:
            if found_no_room(error):  # somebody else was quicker
                continue
            before, newest = newest, _newest(run)
            failures = failures + 1 if newest == before else 1
            if failures > max_failures:
                raise RunStateError(
                    say(
                        "the workers of run {name!r} failed {failures} times without a new checkpoint (--set "
                        "scaling.max_failures=N allows more). Its checkpoints are in {checkpoints}; when the "
                        "cause is gone, go on with `minimind resume {name}`. The last failure: {error}",
                        name=run.name,
                        failures=failures,
                        checkpoints=run.checkpoints,
                        error=error,
                    )
                ) from error
            begin = say("the beginning") if newest is None else say("its checkpoint of step {step}", step=newest)
            tell(
                say(
                    "Workers of {name!r} died; starting again from {begin} (failures without a new "
                    "checkpoint: {failures} of {max_failures} allowed). {first_line}",
                    name=run.name,
                    begin=begin,
                    failures=failures,
                    max_failures=max_failures,
                    first_line=_first_line(error),
                )
            )


def _trainer(spec: RunSpec, prepared: Prepared, run: RunDirectory) -> TorchTrainer:
    return TorchTrainer(
        _train_worker,
        train_loop_config={
            "spec": spec.model_dump(mode="json"),
            "prepared": prepared.model_dump(mode="json"),
            "run": str(run.path),
        },
        scaling_config=ray_train.ScalingConfig(
            num_workers=spec.world,
            use_gpu=bool(spec.scaling.gpus_per_worker),
            resources_per_worker=_resources(spec),
        ),
        torch_config=collectives(),
        run_config=ray_train.RunConfig(  # type: ignore[call-arg]  # its type is still that of Train V1
            name=run.name,
            storage_path=str(run.path.parent),
            # Ray counts failures over the whole life of a run; what counts here is whether it gets on.
            failure_config=ray_train.FailureConfig(  # type: ignore[call-arg]  # as of RunConfig
                max_failures=0, controller_failure_limit=0
            ),
            worker_runtime_env={"env_vars": _worker_environment()},
        ),
    )


def _worker_environment() -> dict[str, str]:
    """What workers are told before they load torch: ours, and what the user has set for the network."""
    names = [*WORKER_ENVIRONMENT, *(name for name in os.environ if name.startswith(("NCCL_", "GLOO_", "TORCH_NCCL_")))]
    return {name: os.environ[name] for name in names}


@contextmanager
def _interrupt_handler_kept() -> Iterator[None]:
    """Ray Train leaves a handler of Ctrl-C behind: it would take the next Ctrl-C for a training that is over, and keep
    that training's controller, 400 MB, alive.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


def _newest(run: RunDirectory) -> int | None:
    return max(checkpoint_folders.steps(run.checkpoints), default=None)


def _first_line(error: Exception) -> str:
    """The first line that is no heading, such as "Training failed due to worker errors:"."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line and not line.endswith(":")), type(error).__name__)[:300]


def _resources(spec: RunSpec) -> dict[str, float]:
    wanted = {"CPU": float(spec.scaling.cpus_per_worker or 1), "GPU": float(spec.scaling.gpus_per_worker or 0)}
    return {name: amount for name, amount in wanted.items() if amount}


def _train_worker(config: dict[str, Any]) -> None:
    spec = RunSpec.model_validate(config["spec"])
    # Ray gives a worker one OpenMP thread for each CPU only when it sets the variable itself.
    torch.set_num_threads(spec.scaling.cpus_per_worker or 1)
    context = ray_train.get_context()
    if context.get_world_rank() == 0:
        _wait_for_lease(RunDirectory(Path(config["run"])))
    parallel = Parallel(context.get_world_rank(), context.get_world_size(), get_device())
    # To start workers anew would not help: whoever waits for this run finds the same, and says it.
    with suppress(RunTakenError):
        work(spec, Prepared.model_validate(config["prepared"]), RunDirectory(Path(config["run"])), parallel)


def _wait_for_lease(run: RunDirectory) -> None:
    """On a network file system a machine that lost its power keeps its locks until the server takes them back."""
    end = time.monotonic() + LEASE_S
    while is_network_folder(run.path) and run.is_running and time.monotonic() < end:
        time.sleep(1)


@contextmanager
def _stop_on_signal(run: RunDirectory) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM asks for a clean stop at the next step; a second one ends the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    text = say("Stopping at the next step; the checkpoint is written first. Once more to end at once.")
    said = f"\n{text}\n".encode(sys.stderr.encoding or "utf-8", errors="replace")

    def ask(number: int, frame: Any) -> None:
        signal.signal(number, before[signal.Signals(number)])
        os.write(2, said)
        run.leave_stop()  # whether the run is not yet, or no longer, training is not looked at: neither may fail here

    for number in before:
        signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
