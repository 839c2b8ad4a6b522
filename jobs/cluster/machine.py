"""What this machine has to offer: memory and cores, as a container limits them; ports, shared memory, GPUs."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from jobs.cluster import ray_private
from minimind.language import say

_MIB = 1024 * 1024

DRIVER_DEVICES = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
"""Where NVIDIA's driver shows, on Linux and under WSL2."""


def free_ports(wanted: Mapping[str, int], tell: Callable[[str], None]) -> dict[str, int]:
    """Each wanted port of loopback if it is free, else another one; `tell` is told about those that users meet."""
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
            tell(say("Port {port} ({name}) is taken; using {ports}.", port=port, name=name, ports=ports[name]))
    return ports


def object_store_bytes(tell: Callable[[str], None]) -> int:
    """The size of Ray's object store in bytes: a share of the memory, as tokens and checkpoints go through files.

    `tell` is told if /dev/shm, where Ray wants to keep it, is too small.
    """
    store = min(512 * _MIB, max(100 * _MIB, memory_bytes() // 20))
    shm = Path("/dev/shm")
    if shm.is_dir() and shutil.disk_usage(shm).free < store:
        tell(
            say(
                "/dev/shm has only {free} MiB free: Ray keeps its object store in /tmp, which is slower. "
                "In a container start it with --shm-size={size}m.",
                free=shutil.disk_usage(shm).free // _MIB,
                size=2 * store // _MIB,
            )
        )
    return store


def gpus_unseen_by_ray(tell: Callable[[str], None]) -> int:
    """How many GPUs PyTorch sees where Ray, which asks NVML, sees none; 0 where they agree."""
    if not any(device.exists() for device in DRIVER_DEVICES):
        return 0
    import torch

    seen = torch.cuda.device_count()
    if not seen or ray_private.gpus_of_nvml():
        return 0
    tell(say("Ray finds no GPU (NVML did not start), PyTorch finds {seen}: telling Ray so.", seen=seen))
    return seen


_CGROUPS = Path("/sys/fs/cgroup")


def memory_bytes(cgroups: Path = _CGROUPS, own: Path = Path("/proc/self/cgroup")) -> int:
    """The memory that processes here may take, in bytes: all of the machine's, or what a container allows."""
    allowed = [
        int(text)
        for name in ("memory.max", "memory.limit_in_bytes")
        for text in _limits("memory", name, cgroups, own)
        if text.isdecimal()
    ]
    return min([psutil.virtual_memory().total, *(count for count in allowed if count)])


def cores(cgroups: Path = _CGROUPS, own: Path = Path("/proc/self/cgroup")) -> int:
    """How many threads can compute here at once: the cores this process may use, or the share a container gives.

    Half a core is one thread: a limit below it makes it slower, not more than one of them faster.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    pairs = [text.split() for text in _limits("cpu", "cpu.max", cgroups, own)]
    quotas = _limits("cpu", "cpu.cfs_quota_us", cgroups, own)
    pairs += [list(pair) for pair in zip(quotas, _limits("cpu", "cpu.cfs_period_us", cgroups, own), strict=False)]
    shares = [
        int(quota) / int(period)
        for quota, period in (pair for pair in pairs if len(pair) == 2)
        if quota.isdecimal() and period.isdecimal() and int(quota) and int(period)
    ]
    return max(1, int(min([float(usable), *shares])))


def _limits(controller: str, name: str, cgroups: Path, own: Path) -> list[str]:
    """What the files of this name tell, of this process's control group and of all above it, where there are any."""
    try:
        lines = own.read_text("utf-8").splitlines()
    except OSError:  # not Linux
        return []
    found = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        # Version 2 has one tree, version 1 one for each controller. In a container the tree begins at its own group,
        # though the path counts from the machine's.
        root = cgroups
        if controllers:
            if controller not in controllers.split(","):
                continue
            # The folder of several controllers may name them in another order; each has a link of its own.
            root = cgroups / (controllers if (cgroups / controllers).is_dir() else controller)
        place = (root / path.lstrip("/")) if ".." not in Path(path).parts else root
        for folder in (place, *place.parents):
            if not folder.is_relative_to(root):
                break
            try:
                found.append((folder / name).read_text("utf-8").strip())
            except OSError:  # a group need not have the file, and the one above need not be visible
                continue
    return found


def is_network_folder(path: Path) -> bool:
    """Whether a folder lies on another machine: its locks outlive a machine that lost power by a minute or two."""
    mounts = [mount for mount in psutil.disk_partitions(all=True) if path.absolute().is_relative_to(mount.mountpoint)]
    nearest = max(mounts, key=lambda mount: len(mount.mountpoint), default=None)
    return nearest is not None and nearest.fstype in _NETWORK


_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "fuse.glusterfs", "lustre", "fuse.sshfs"}
