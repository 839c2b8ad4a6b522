from __future__ import annotations

import shutil
import socket
from collections import namedtuple
from types import SimpleNamespace

import psutil
import pytest

from jobs import machine

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


@pytest.mark.parametrize(("memory_mib", "store_mib"), [(1024, 100), (8192, 409), (65536, 512)])
def test_the_object_store_takes_a_share_of_the_memory(
    monkeypatch: pytest.MonkeyPatch, memory_mib: int, store_mib: int
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=memory_mib * MIB))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 64 * MIB))
    lines: list[str] = []
    assert machine.object_store_bytes(lines.append) // MIB == store_mib
    assert "/dev/shm has only 64 MiB free" in lines[0]
    assert f"--shm-size={2 * store_mib}" in lines[0] or memory_mib == 8192
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 2**40))
    machine.object_store_bytes(lines.append)
    assert len(lines) == 1


def test_ray_and_torch_agree_on_the_gpus_of_this_machine() -> None:
    import torch
    from ray._private.accelerators import NvidiaGPUAcceleratorManager

    lines: list[str] = []
    unseen = machine.gpus_unseen_by_ray(lines.append)
    assert unseen + NvidiaGPUAcceleratorManager.get_current_node_num_accelerators() == torch.cuda.device_count()
    assert bool(lines) == bool(unseen)
