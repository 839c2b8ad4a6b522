"""From a RunSpec to training processes: in this one, or as Ray Train workers that are restarted when they die."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch
from ray import train as ray_train
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from data.prepare import Pipeline
from jobs import WORKER_ENVIRONMENT
from jobs.card import Card, here, this_card, worker_share
from jobs.cluster import ClusterError, check
from jobs.prepare import Prepared
from jobs.runs import RunDirectory, RunStateError, RunTakenError
from jobs.spec import RunSpec
from jobs.tokenise import encode_on_cluster
from jobs.worker import work
from minimind.distributed import Parallel


def connect() -> None:
    """Join the Ray cluster of the job that this process is, or the local one; nothing if already joined.

    Raises ClusterError if there is none.
    """
    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS")  # Ray sets it for a job; without it Ray would look for any cluster at all
    if not address:
        raise ClusterError(
            "this process is not part of a Ray cluster. Submit it as a job (`minimind train ...`, or `ray job submit` "
            'after `minimind cluster start` and `eval "$(minimind cluster env)"`), or train without Ray: --workers 0'
        )
    try:
        ray.init(
            address=address,
            # Ray Train's helper actors look for a cluster once more: in vain for ten seconds, or find another one.
            runtime_env={"env_vars": {"RAY_ADDRESS": address}},
            log_to_driver=False,
            logging_level=logging.WARNING,
        )
    except ConnectionError as error:
        raise ClusterError(
            f"no Ray cluster answers at {address}, which RAY_ADDRESS names; start one: minimind cluster start"
        ) from error


def resolve_scaling(spec: RunSpec) -> RunSpec:
    """The spec with the number of workers, GPUs and CPUs that this cluster gives, where it left them open.

    Raises ValueError, in words, for what the cluster could never give: Ray would wait for it for ever.
    """
    scaling = spec.scaling
    if scaling.workers == 0:
        return spec
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    gpus, cpus = (int(sum(node.get(name, 0) for node in nodes)) for name in ("GPU", "CPU"))
    workers = scaling.workers or max(1, gpus)
    gpus_per_worker = scaling.gpus_per_worker if scaling.gpus_per_worker is not None else float(gpus >= workers)
    cpus_per_worker = scaling.cpus_per_worker or max(1, cpus // workers)
    check(workers, gpus_per_worker, cpus_per_worker, nodes=nodes, gpus_seen=torch.cuda.device_count())
    resolved = scaling.model_copy(
        update={"workers": workers, "gpus_per_worker": gpus_per_worker, "cpus_per_worker": cpus_per_worker}
    )
    return spec.model_copy(update={"scaling": resolved})


def worker_card(spec: RunSpec) -> Card:
    """The device that one worker of a run gets: the run's scaling is decided, and this process has joined the cluster.

    Where workers take GPUs, a task of the cluster looks at one: this process may stand on a machine that has none.
    """
    vram, scaling = spec.memory.vram, spec.scaling
    if not scaling.workers:
        return this_card(vram)
    if scaling.gpus_per_worker:
        share = worker_share(scaling, torch.device("cuda"))
        look = ray.remote(num_gpus=share)(partial(this_card, vram, share=share))
        found: Card = ray.get(look.remote())
        return found
    cpu = torch.device("cpu")
    return this_card(vram, device=cpu, share=worker_share(scaling, cpu))


def pipeline() -> Pipeline | None:
    """How text becomes tokens: with Ray Data where this process has joined a cluster of several machines."""
    if not ray.is_initialized() or sum(node["Alive"] for node in ray.nodes()) < 2:  # type: ignore[no-untyped-call]
        return None
    return encode_on_cluster


def launch(spec: RunSpec, prepared: Prepared, run: RunDirectory) -> None:
    """Train, and come back when the run has ended; its events say how."""
    if spec.scaling.workers == 0:
        with _stop_on_signal(run):
            work(spec, prepared, run, Parallel(device=here()))
        return
    trainer = TorchTrainer(
        _train_worker,
        train_loop_config={
            "spec": spec.model_dump(mode="json"),
            "prepared": prepared.model_dump(mode="json"),
            "run": str(run.path),
        },
        torch_config=TorchConfig(backend=_backend(spec)),
        scaling_config=ray_train.ScalingConfig(
            num_workers=spec.world,
            use_gpu=bool(spec.scaling.gpus_per_worker),
            resources_per_worker=_resources(spec),
        ),
        run_config=ray_train.RunConfig(  # type: ignore[call-arg]  # its type is still that of Train V1
            name=run.name,
            storage_path=str(run.path.parent),
            failure_config=ray_train.FailureConfig(max_failures=spec.scaling.max_failures),
            worker_runtime_env={"env_vars": {name: os.environ[name] for name in WORKER_ENVIRONMENT}},
        ),
    )
    try:
        trainer.fit()
    except ray_train.TrainingFailedError as error:
        raise RunStateError(
            f"the workers of run {run.name!r} failed more than {spec.scaling.max_failures} times "
            f"(--set scaling.max_failures=N allows more). Its checkpoints are in {run.checkpoints}; when the cause is "
            f"gone, go on with `minimind resume {run.name}`. The last failure: {error}"
        ) from error


def _backend(spec: RunSpec) -> str | None:
    """How workers add up gradients; None: as Ray chooses, NCCL for GPUs. NCCL refuses two workers on one GPU."""
    return "gloo" if 0 < (spec.scaling.gpus_per_worker or 0) < 1 else None


def _resources(spec: RunSpec) -> dict[str, float]:
    wanted = {"CPU": float(spec.scaling.cpus_per_worker or 1), "GPU": float(spec.scaling.gpus_per_worker or 0)}
    return {name: amount for name, amount in wanted.items() if amount}


def _train_worker(config: dict[str, Any]) -> None:
    spec = RunSpec.model_validate(config["spec"])
    # Ray gives a worker one OpenMP thread for each CPU only when it sets the variable itself.
    torch.set_num_threads(spec.scaling.cpus_per_worker or 1)
    context = ray_train.get_context()
    parallel = Parallel(context.get_world_rank(), context.get_world_size(), get_device())
    # To start workers anew would not help: whoever waits for this run finds the same, and says it.
    with suppress(RunTakenError):
        work(spec, Prepared.model_validate(config["prepared"]), RunDirectory(Path(config["run"])), parallel)


@contextmanager
def _stop_on_signal(run: RunDirectory) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM asks for a clean stop at the next step; a second one ends the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: Any) -> None:
        signal.signal(number, before[signal.Signals(number)])
        os.write(2, b"\nStopping at the next step; the checkpoint is written first. Once more to end at once.\n")
        run.leave_stop()  # whether the run is not yet, or no longer, training is not looked at: neither may fail here

    for number in before:
        signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
