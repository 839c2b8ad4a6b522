from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from jobs.fit.card import Card
from jobs.training import nodes
from jobs.training.probe import probe_folder
from tests.small import needs_no_gpu


def test_a_probe_says_what_is_wrong_with_the_folder(tmp_path: Path) -> None:
    probe = tmp_path / "home" / ".probe-a"
    assert probe_folder(str(probe), "word", "answer") == "it has no such folder"
    probe.parent.mkdir()
    assert probe_folder(str(probe), "word", "answer") == "it has a folder of that name, but another one"
    probe.write_text("other")
    assert probe_folder(str(probe), "word", "answer") == "it has a folder of that name, but another one"
    probe.write_text("word")
    assert probe_folder(str(probe), "word", "answer").startswith("it does not see locks that are held here")
    with probe.open() as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        (probe.parent / "taken").mkdir()
        assert probe_folder(str(probe), "word", "taken").startswith("it cannot use that folder (")
        assert probe_folder(str(probe), "word", "answer") == ""
    assert (probe.parent / "answer").read_text() == "word"


@needs_no_gpu
def test_a_gpu_that_only_ray_sees_is_explained() -> None:
    said = nodes.look_at_card(None, "cuda", 1.0)
    assert isinstance(said, str)
    assert "PyTorch sees none" in said
    assert torch.__version__ in said
    assert "nvidia-smi" in said
    found = nodes.look_at_card("512MB", "cpu", 1.0)
    assert isinstance(found, Card)
    assert found.capacity_bytes == 512 << 20


def test_workers_talk_through_the_interface_with_the_nodes_address(monkeypatch: pytest.MonkeyPatch) -> None:
    loopback = next(
        name
        for name, entries in psutil.net_if_addrs().items()
        if any(entry.address == "127.0.0.1" for entry in entries)
    )
    monkeypatch.setattr(nodes, "get_node_ip_address", lambda: "127.0.0.1")
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "eth7")  # the user's own
    nodes.use_own_interface()
    assert os.environ["GLOO_SOCKET_IFNAME"] == loopback
    assert os.environ["NCCL_SOCKET_IFNAME"] == "eth7"
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")
    monkeypatch.setattr(nodes, "get_node_ip_address", lambda: "203.0.113.77")  # of none: left to gloo
    nodes.use_own_interface()
    assert "GLOO_SOCKET_IFNAME" not in os.environ


def test_ranks_wait_for_each_other_for_minutes_not_for_half_an_hour() -> None:
    assert nodes.collectives().timeout_s == nodes.COLLECTIVE_S < 600


def test_each_rank_chooses_its_interface_before_it_joins_the_others() -> None:
    from ray.train.torch.config import _TorchBackend

    called: list[object] = []

    class ReachedError(Exception):
        """What comes after that is Ray's."""

    class Workers:
        def execute(self, func: Any, *_: Any, **__: Any) -> Any:
            called.append(func)

        def get_resources_per_worker(self) -> Any:
            raise ReachedError

    backend = nodes.collectives().backend_cls
    assert issubclass(backend, _TorchBackend)
    workers: Any = Workers()
    with pytest.raises(ReachedError):
        backend().on_start(workers, nodes.collectives())
    assert called[0] is nodes.use_own_interface
