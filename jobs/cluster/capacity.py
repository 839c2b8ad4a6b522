"""How many workers find room on a Ray cluster. It is counted per machine: one worker stands on one machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from minimind.language import say


def places(nodes: Sequence[Mapping[str, float]], cpus_per_worker: float = 1, gpus_per_worker: float = 0) -> int:
    """How many workers of this size find room, each on one machine.

    `nodes` are the total resources of each living node, as ``[n["Resources"] for n in ray.nodes() if n["Alive"]]``.
    """
    wanted = {"CPU": cpus_per_worker, "GPU": gpus_per_worker}
    return sum(
        min((_times(node.get(name, 0), each) for name, each in wanted.items() if each), default=0) for node in nodes
    )


def most_cpus(nodes: Sequence[Mapping[str, float]], workers: int, gpus_per_worker: float = 0) -> int:
    """The most CPUs that each of so many workers can have; 1 where there is no room for them at all."""
    largest = int(max((node.get("CPU", 0) for node in nodes), default=0))
    return next((cpus for cpus in range(largest, 1, -1) if places(nodes, cpus, gpus_per_worker) >= workers), 1)


def require_room(
    workers: int,
    gpus_per_worker: float = 0,
    cpus_per_worker: float = 1,
    *,
    nodes: Sequence[Mapping[str, float]],
    gpus_seen: int | None = None,
) -> None:
    """Refuse what this cluster could never place, before Ray waits for it for ever.

    `nodes` as `places` takes them. `gpus_seen` is how many GPUs PyTorch sees on this machine, if somebody looked.

    Raises ValueError that says what is wanted, what is there and what to do; what it allows, it accepts.
    """
    if gpus_per_worker > 1 and gpus_per_worker % 1:
        raise ValueError(
            say(
                "scaling.gpus_per_worker = {gpus_per_worker:g}: a part of one GPU, or whole ones",
                gpus_per_worker=gpus_per_worker,
            )
        )
    room = places(nodes, cpus_per_worker, gpus_per_worker)
    if room >= workers:
        return
    cpus, gpus = (sum(node.get(name, 0) for node in nodes) for name in ("CPU", "GPU"))
    each = f"{cpus_per_worker:g} CPU" + (
        say(" and {gpus_per_worker:g} GPU", gpus_per_worker=gpus_per_worker) if gpus_per_worker else ""
    )
    there = (
        say("{cpus:g} CPU and {gpus:g} GPU on 1 machine", cpus=cpus, gpus=gpus)
        if len(nodes) == 1
        else say("{cpus:g} CPU and {gpus:g} GPU on {count} machines", cpus=cpus, gpus=gpus, count=len(nodes))
    )
    message = say(
        "workers = {workers}: every worker needs {each} on one machine; the cluster has {there}, "
        "which is room for {room}.",
        workers=workers,
        each=each,
        there=there,
        room=room,
    )
    ways = []
    if gpus_per_worker and not gpus and gpus_seen:
        message += say(
            " PyTorch sees {gpus_seen} GPU here, but Ray counts them with NVML, which did not start: "
            "see what `nvidia-smi` says (after a driver update, restart the machine; on WSL2, `wsl "
            "--shutdown`), then `minimind cluster stop` and `minimind cluster start`.",
            gpus_seen=gpus_seen,
        )
    else:
        if room:
            ways.append(say("up to --workers {room}", room=room))
        fewer = most_cpus(nodes, workers, gpus_per_worker)
        if fewer < cpus_per_worker and places(nodes, fewer, gpus_per_worker) >= workers:
            ways.append(f"--set scaling.cpus_per_worker={fewer}")
        if gpus_per_worker and places(nodes, 1) >= workers:
            ways.append(say("--set scaling.gpus_per_worker=0 to train on CPUs"))
        ways.append(say("--workers 0 to run in this process, without Ray's workers"))
        message += say(" Allowed: {ways}.", ways="; ".join(ways))
    raise ValueError(message)


def _times(there: float, each: float) -> int:
    """How often `each` goes into `there`, counted in ten-thousandths as Ray does."""
    return int(round(there * 10_000) // max(1, round(each * 10_000)))
