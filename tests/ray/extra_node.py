"""Further machines of a cluster, made up on this one: nodes with a GPU that is not there, or with other files.

Run as a program it is such a node, until its input ends.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jobs import paths
from jobs.cluster import access, processes
from jobs.cluster.access import Cluster

HIDING = ["unshare", "-Urm", "sh", "-c", 'mount -t tmpfs none "$1" && shift && exec "$@"', "-"]
"""Begins a command that sees an empty folder in place of the first argument."""


def can_hide() -> bool:
    """Whether this user may let a process see other files: Linux without the switches that forbid it."""
    command = ["unshare", "-Urm", "sh", "-c", "mount -t tmpfs none /mnt"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@contextmanager
def extra_node(there: Cluster, *, cpus: int = 1, gpus: int = 0, hidden: Path | None = None) -> Iterator[None]:
    """A further node of the cluster. Starts in about four seconds. hidden: a folder that it sees empty."""
    mark = secrets.token_hex(8)
    own = [sys.executable, str(Path(__file__)), there.address, str(cpus), str(gpus)]
    with subprocess.Popen(
        [*HIDING, str(hidden), *own] if hidden is not None else own,
        env={
            **os.environ,
            **access.environment(there),
            "RAY_AUTH_TOKEN": access.token(there),  # its file may be among what is hidden
            processes.MARK: mark,
            "PYTHONPATH": str(paths.checkout()),
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as node:
        assert node.stdout is not None
        try:
            assert node.stdout.readline() == "ready\n"
            yield
        finally:
            processes.end(mark)


def _main(address: str, cpus: str, gpus: str) -> None:
    # `ray start --address` refuses to join a cluster on loopback; this is what it does otherwise.
    from ray._private.node import Node
    from ray._private.parameter import RayParams

    free: dict[str, Any] = {"dashboard_agent_listen_port": None, "include_log_monitor": False}
    parameters = RayParams(
        gcs_address=address,
        node_ip_address="127.0.0.1",
        num_cpus=int(cpus),
        num_gpus=int(gpus),
        object_store_memory=100 << 20,
        min_worker_port=0,
        max_worker_port=0,
        node_manager_port=0,
        **free,
    )
    Node(parameters, head=False, shutdown_at_exit=True, spawn_reaper=False)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    _main(*sys.argv[1:])
