"""The machines of the Ray cluster that this process has joined: what they have, what they see, and waiting for them."""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import psutil
import ray
import torch
from ray.exceptions import RayError, RayTaskError
from ray.train.backend import Backend
from ray.train.torch import TorchConfig
from ray.util import get_node_ip_address
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from jobs.cluster.access import ClusterError
from jobs.cluster.capacity import places
from jobs.cluster.local import running
from jobs.cluster.ray_private import torch_backend
from jobs.fit.card import Card, this_card
from jobs.training.probe import probe_folder
from minimind.language import say

T = TypeVar("T")
Tell = Callable[[str], None]

PATIENCE_S = 10.0
"""After so long it is said what is waited for."""

ANSWER_S = 120.0
"""How long a machine may take to start a process and answer."""

COLLECTIVE_S = 300
"""How long one rank waits for another before the run is started again: longer than a checkpoint takes on a slow disk.
That a machine has lost its power Ray says sooner."""


@dataclass(frozen=True)
class Machine:
    """A living node. name: as people know it. resources: all it has, as Ray counts ("CPU", "GPU")."""

    node_id: str
    name: str
    resources: Mapping[str, float]


def machines() -> list[Machine]:
    """The living nodes of the cluster."""
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return [
        Machine(node["NodeID"], f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})", node["Resources"])
        for node in nodes
        if node["Alive"]
    ]


def smallest_card(
    vram: str | None, workers: int, cpus: float, gpus: float, tell: Tell, look: Callable[..., Card | str] | None = None
) -> Card:
    """The least that any of the run's workers gets: a look at one GPU of every machine that has some, or at its memory.

    vram: as `this_card` takes it. cpus, gpus: what each worker reserves. tell: told what is waited for. look: what is
    run on each machine, `look_at_card` unless a test has another.

    A machine whose GPUs are all taken is left out where the others have room for the run; where they have not, the run
    waits here. Raises ValueError, in words, where Ray counts a GPU that PyTorch does not see.
    """
    look = look or look_at_card
    if gpus:
        wait_for_room(workers, {"CPU": cpus, "GPU": gpus}, tell)
    there = [machine for machine in machines() if places([machine.resources], cpus, gpus)]
    if not there:
        raise ClusterError(say("the machine that had room for this run has just left the cluster (`ray status`)"))
    asked: dict[Any, Machine] = {}
    for machine in there:
        share = min(1.0, gpus) if gpus else 1 / min(workers, places([machine.resources], cpus))
        task = _on(machine, look, num_gpus=min(1.0, gpus))
        asked[task.remote(vram, "cuda" if gpus else "cpu", share)] = machine
    found: list[tuple[Machine, Card]] = []
    waiting = dict(asked)
    # For all of them at first; then for as many as the run needs. To start a process may take as long as that.
    ready, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=PATIENCE_S)
    while True:
        for ref in ready:
            machine = waiting.pop(ref)
            card = _answer(ref, machine)
            if isinstance(card, str):
                raise ValueError(card)
            found.append((machine, card))
        if not waiting or places([machine.resources for machine, _ in found], cpus, gpus) >= workers:
            break
        ready, _ = ray.wait(list(waiting), timeout=ANSWER_S)
        if not ready:  # somebody took between what was free before
            tell(_waiting_for(workers, cpus, gpus))
    for ref, machine in waiting.items():
        ray.cancel(ref)
        tell(say("{name} is busy or slow, and not needed: its card was not looked at.", name=machine.name))
    least = min((card for _, card in found), key=lambda card: card.tensor_bytes)
    return replace(least, bf16=all(card.bf16 for _, card in found))


def look_at_card(vram: str | None, kind: str, share: float) -> Card | str:
    """The device of the machine where this runs; in words, why there is none. kind: "cuda" or "cpu"."""
    if kind == "cuda" and not torch.cuda.is_available():
        version = say("PyTorch here is {version}", version=torch.__version__)
        return say(
            "Ray counts a GPU on {gethostname}, and PyTorch sees none. Likely causes: a PyTorch for "
            "CPUs only ({version}; install one with CUDA there); a driver that does not work or is "
            "too old for it (what does `nvidia-smi` say? After an update restart the machine; on "
            "WSL2, `wsl --shutdown`); a Ray that was started with --num-gpus where there is no GPU, "
            "or with CUDA_VISIBLE_DEVICES set. To train on CPUs: --set scaling.gpus_per_worker=0",
            gethostname=socket.gethostname(),
            version=version,
        )
    return this_card(vram, device=torch.device(kind, 0) if kind == "cuda" else torch.device(kind), share=share)


def require_shared(folder: Path) -> None:
    """Refuse a cluster of several machines on which `folder` is not one and the same, and lockable, everywhere.

    A file is written here and read on every machine, and the other way round; and a lock that is held here must be
    seen there, for two runs of one name are kept apart by it. Raises ValueError that says which machine fails and what
    to do.
    """
    own = ray.get_runtime_context().get_node_id()
    others = [machine for machine in machines() if machine.node_id != own]
    if not others:
        return
    folder.mkdir(parents=True, exist_ok=True)
    word = secrets.token_hex(8)
    probe = folder / f".probe-{word}"
    names = {machine.node_id: f"{probe.name}-{number}" for number, machine in enumerate(others)}
    try:
        with probe.open("w", encoding="utf-8") as file:
            file.write(word)
            file.flush()
            os.fsync(file.fileno())
            fcntl.flock(file, fcntl.LOCK_EX)
            asked = {_on(m, probe_folder).remote(str(probe), word, names[m.node_id]): m for m in others}
            ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_S)
            if late:
                raise ClusterError(
                    say(
                        "{name} did not answer for {answer_s:.0f} s; is it up? `ray status`",
                        name=asked[late[0]].name,
                        answer_s=ANSWER_S,
                    )
                )
            problems = [(asked[ref], problem) for ref in ready if (problem := _answer(ref, asked[ref]))]
            problems += [
                (machine, say("what it writes there does not arrive here"))
                for machine in others
                if not problems and not (folder / names[machine.node_id]).exists()
            ]
    finally:
        for path in folder.glob(f".probe-{word}*"):
            path.unlink(missing_ok=True)
    if problems:
        said = "\n".join(f"  {machine.name}: {problem}" for machine, problem in problems)
        raise ValueError(
            say(
                "not every machine of the cluster shares MINIMIND_HOME = {folder}, where the run's data, "
                "checkpoints and lock lie:\n{said}\nMount one folder (NFS, for example) under the same "
                "path on all of them and start with MINIMIND_HOME set to it; or take these machines out "
                "of the cluster (`ray stop` there); or train in this process: --workers 0",
                folder=folder,
                said=said,
            )
        )


def wait_for_room(workers: int, resources: Mapping[str, float], tell: Tell) -> None:
    """Until the cluster has free what so many workers reserve, each on one machine; who has it is said once."""
    group = placement_group([dict(resources)] * workers, strategy="PACK")
    try:
        if group.wait(PATIENCE_S):
            return
        tell(_waiting_for(workers, resources.get("CPU", 0), resources.get("GPU", 0)))
        while not group.wait(60):
            pass
        tell(say("There is room now."))
    finally:
        remove_placement_group(group)


@contextmanager
def reservations_returned() -> Iterator[None]:
    """What this job reserves in the block and has not given back after it is given back, and what runs there ends.

    Ray Train 2.60 forgets workers that fail while they are started (`init_process_group`, a machine that goes away),
    and Ray keeps what an actor has reserved until its whole job ends: the next attempt would wait for room for ever.
    """
    job = ray.get_runtime_context().get_job_id()
    before = placement_group_table()
    try:
        yield
    finally:
        for group, entry in placement_group_table().items():
            if group not in before and group.endswith(job) and entry["state"] != "REMOVED":
                remove_placement_group(PlacementGroup(ray.PlacementGroupID.from_hex(group)))


def _waiting_for(workers: int, cpus: float, gpus: float) -> str:
    each = f"{cpus:g} CPU" + (f" + {gpus:g} GPU" if gpus else "")
    what = f"{workers} x ({each})" if workers > 1 else each
    if places([machine.resources for machine in machines()], cpus, gpus) < workers:
        return say("Waiting for {what}: the cluster has too few machines now (`ray status`).", what=what)
    busy = running()
    if not busy:
        return say("Waiting for {what}, which another job has.", what=what)
    return say(
        "Waiting for {what}, which {names} has; `minimind stop {first}` ends it.",
        what=what,
        names=", ".join(busy),
        first=busy[0],
    )


def use_own_interface() -> None:
    """Tell gloo and NCCL which network interface has this machine's address in the cluster.

    They would look up the machine's own name, which on Ubuntu and Debian is 127.0.1.1: a rank then waits for itself.
    What the user has set stays.
    """
    address = get_node_ip_address()  # type: ignore[no-untyped-call]
    for name, entries in psutil.net_if_addrs().items():
        if any(entry.address.partition("%")[0] == address for entry in entries):
            for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
                os.environ.setdefault(variable, name)
            return


class Collectives(TorchConfig):
    """How the ranks of a run talk to each other."""

    @property
    def backend_cls(self) -> type[Backend]:
        """What Ray Train starts on the workers."""
        return torch_backend(use_own_interface)


def collectives() -> Collectives:
    """As runs use them."""
    return Collectives(timeout_s=COLLECTIVE_S)


def _on(machine: Machine, function: Callable[..., T], *, num_gpus: float = 0) -> Any:
    """The function as a task of this machine and no other. A process of its own, so that no memory stays on a card."""
    place = NodeAffinitySchedulingStrategy(machine.node_id, soft=False)
    remote: Any = ray.remote  # its types know two of the strategies
    return remote(num_cpus=0, num_gpus=num_gpus, max_calls=1, max_retries=0, scheduling_strategy=place)(function)


def _answer(ref: Any, machine: Machine) -> Any:
    try:
        return ray.get(ref)
    except RayTaskError as error:
        if isinstance(error.cause, ValueError):  # in words already
            raise ValueError(f"{machine.name}: {error.cause}") from None
        raise
    except RayError as error:
        raise ClusterError(
            say("{name} could not be asked what it has: {error}", name=machine.name, error=error)
        ) from error
