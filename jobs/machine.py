"""What this machine has to offer a Ray cluster: ports, shared memory, GPUs."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

_MIB = 1024 * 1024

DRIVER_DEVICES = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
"""Where NVIDIA's driver shows, on Linux and under WSL2."""


def free_ports(wanted: Mapping[str, int], say: Callable[[str], None]) -> dict[str, int]:
    """Each wanted port of loopback if it is free, else another one; `say` is told about those that users meet."""
    ports = {}
    for name, port in wanted.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                probe.bind(("127.0.0.1", 0))
            ports[name] = probe.getsockname()[1]
        if name in ("gcs", "dashboard") and ports[name] != port:
            say(f"Port {port} ({name}) is taken; using {ports[name]}.")
    return ports


def object_store_bytes(say: Callable[[str], None]) -> int:
    """The size of Ray's object store in bytes: a share of the memory, as tokens and checkpoints go through files.

    `say` is told if /dev/shm, where Ray wants to keep it, is too small.
    """
    store = min(512 * _MIB, max(100 * _MIB, psutil.virtual_memory().total // 20))
    shm = Path("/dev/shm")
    if shm.is_dir() and shutil.disk_usage(shm).free < store:
        say(
            f"/dev/shm has only {shutil.disk_usage(shm).free // _MIB} MiB free: Ray keeps its object store in /tmp, "
            f"which is slower. In a container start it with --shm-size={2 * store // _MIB}m."
        )
    return store


def gpus_unseen_by_ray(say: Callable[[str], None]) -> int:
    """How many GPUs PyTorch sees where Ray, which asks NVML, sees none; 0 where they agree."""
    if not any(device.exists() for device in DRIVER_DEVICES):
        return 0
    import torch
    from ray._private.accelerators import NvidiaGPUAcceleratorManager

    seen = torch.cuda.device_count()
    if not seen or NvidiaGPUAcceleratorManager.get_current_node_num_accelerators():
        return 0
    say(f"Ray finds no GPU (NVML did not start), PyTorch finds {seen}: telling Ray so.")
    return seen
