from __future__ import annotations

import shutil
import socket
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from ray._private.accelerators import NvidiaGPUAcceleratorManager

from jobs.cluster import machine

MIB = 1024 * 1024


def test_taken_ports_are_replaced_and_named() -> None:
    lines: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as other:
        port, hidden = taken.getsockname()[1], other.getsockname()[1]
        chosen = machine.free_ports({"dashboard": port, "agent": hidden}, lines.append)
        assert chosen["dashboard"] != port
        assert chosen["agent"] != hidden
    assert lines == [f"Port {port} (dashboard) is taken; using {chosen['dashboard']}."]
    assert machine.free_ports(chosen, lines.append) == chosen
    assert len(lines) == 1


@pytest.mark.parametrize(
    ("memory_mib", "store_mib", "shared_mib"), [(1024, 100, 200), (8192, 409, 819), (65536, 512, 1024)]
)
def test_the_object_store_takes_a_share_of_the_memory(
    monkeypatch: pytest.MonkeyPatch, memory_mib: int, store_mib: int, shared_mib: int
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=memory_mib * MIB))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 64 * MIB))
    lines: list[str] = []
    assert machine.object_store_bytes(lines.append) // MIB == store_mib
    assert "/dev/shm has only 64 MiB free" in lines[0]
    assert f"--shm-size={shared_mib}m" in lines[0]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 2**40))
    machine.object_store_bytes(lines.append)
    assert len(lines) == 1


@pytest.mark.parametrize(
    ("driver", "ray_sees", "torch_sees", "unseen"),
    [(True, 0, 2, 2), (True, 2, 2, 0), (True, 0, 0, 0), (False, 0, 0, 0)],
)
def test_gpus_that_ray_does_not_find_are_counted_and_told(
    driver: bool, ray_sees: int, torch_sees: int, unseen: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path / "nvidiactl"
    if driver:
        device.touch()
    monkeypatch.setattr(machine, "DRIVER_DEVICES", (device,))
    monkeypatch.setattr(NvidiaGPUAcceleratorManager, "get_current_node_num_accelerators", lambda: ray_sees)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: torch_sees)
    lines: list[str] = []
    assert machine.gpus_unseen_by_ray(lines.append) == unseen
    assert len(lines) == bool(unseen)


def test_a_container_limits_memory_and_cores(tmp_path: Path) -> None:
    own, tree = tmp_path / "cgroup", tmp_path / "fs"
    group = tree / "pods" / "mine"
    group.mkdir(parents=True)
    own.write_text("0::/pods/mine\n")
    whole, all_cores = psutil.virtual_memory().total, machine.cores(tree, own)
    assert machine.memory_bytes(tree, own) == whole
    (group / "memory.max").write_text("max\n")
    (group / "cpu.max").write_text("max 100000\n")
    assert (machine.memory_bytes(tree, own), machine.cores(tree, own)) == (whole, all_cores)
    (tree / "pods" / "memory.max").write_text(f"{64 * MIB}\n")  # of the group above
    (group / "cpu.max").write_text("150000 100000\n")
    assert (machine.memory_bytes(tree, own), machine.cores(tree, own)) == (64 * MIB, 1)
    (group / "memory.max").write_text(f"{32 * MIB}\n")
    (group / "cpu.max").write_text("50000 100000\n")
    assert (machine.memory_bytes(tree, own), machine.cores(tree, own)) == (32 * MIB, 1)
    own.write_text("0::/elsewhere/of/the/host\n")  # in a container the tree begins at its own group
    (tree / "memory.max").write_text(f"{16 * MIB}\n")
    assert machine.memory_bytes(tree, own) == 16 * MIB
    assert machine.memory_bytes(tree, tmp_path / "none") == whole


def test_the_older_control_groups_count_too(tmp_path: Path) -> None:
    own, tree = tmp_path / "cgroup", tmp_path / "fs"
    own.write_text("4:memory:/docker/a\n2:cpu,cpuacct:/docker/a\n1:cpuset:/\n")
    (tree / "memory").mkdir(parents=True)
    (tree / "cpu,cpuacct").mkdir()
    (tree / "memory" / "memory.limit_in_bytes").write_text(f"{48 * MIB}\n")
    (tree / "cpu,cpuacct" / "cpu.cfs_quota_us").write_text("100000\n")
    (tree / "cpu,cpuacct" / "cpu.cfs_period_us").write_text("100000\n")
    assert (machine.memory_bytes(tree, own), machine.cores(tree, own)) == (48 * MIB, 1)
    (tree / "cpu").symlink_to("cpu,cpuacct")
    limits = machine._limits("cpu", "cpu.cfs_quota_us", tree, own)
    own.write_text("4:memory:/docker/a\n2:cpuacct,cpu:/docker/a\n1:cpuset:/\n")  # as some kernels list them
    assert machine._limits("cpu", "cpu.cfs_quota_us", tree, own) == limits == ["100000"]
    (tree / "cpu,cpuacct" / "cpu.cfs_quota_us").write_text("-1\n")
    (tree / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert machine.memory_bytes(tree, own) == psutil.virtual_memory().total
    assert machine.cores(tree, own) >= 1


def test_a_folder_on_another_machine_is_known_by_its_mount(monkeypatch: pytest.MonkeyPatch) -> None:
    mount = namedtuple("mount", "mountpoint fstype")
    mounts = [mount("/", "ext4"), mount("/home/me", "nfs4"), mount("/home/me/local", "ext4")]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **options: mounts)
    found = [machine.is_network_folder(Path(path)) for path in ("/data", "/home/me/runs", "/home/me/local/runs")]
    assert found == [False, True, False]
