from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from jobs.cluster import access, processes, submit
from jobs.cluster import local as cluster
from jobs.cluster.access import Cluster, ClusterError
from jobs.training import launch
from tests.conftest import at_home


def _mark() -> str:
    return str(json.loads(cluster.state_path().read_text())["mark"])


def test_the_running_cluster_is_found_again(ray_cluster: Cluster, ray_home: Path) -> None:
    launch.require_answer(ray_cluster.address)
    lines: list[str] = []
    assert cluster.ensure(lines.append) == ray_cluster
    assert cluster.find() == ray_cluster
    assert lines == []


def test_another_shell_finds_it(ray_cluster: Cluster) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from jobs.cluster import local; print(local.find())"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(ray_cluster)


def test_the_token_is_needed_and_private(ray_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ray_cluster.token_path is not None
    assert stat.S_IMODE(ray_cluster.token_path.stat().st_mode) == 0o600
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{ray_cluster.dashboard_url}/api/jobs/")
    with caught.value as refusal:
        assert refusal.code == 401
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    assert cluster.ensure() == ray_cluster  # its own token, whatever this shell has set
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", ray_cluster.dashboard_url.replace("127.0.0.1", "localhost"))
    with pytest.raises(ClusterError, match="refuses the token in RAY_AUTH_TOKEN"):
        cluster.ensure()


def test_without_a_server_everything_listens_on_loopback(ray_cluster: Cluster, ray_home: Path) -> None:
    addresses = {
        connection.laddr.ip
        for process in processes.marked(_mark())
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses
    assert addresses <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def _asking(folder: Path) -> Path:
    """A checkout whose `python -m jobs` says which cluster it is in."""
    package = folder / "checkout" / "jobs"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("import os\nprint('address', os.environ['RAY_ADDRESS'])\n")
    return package.parent


def test_a_second_cluster_survives_a_crash_and_ends_alone(ray_cluster: Cluster, ray_home: Path, tmp_path: Path) -> None:
    home = tmp_path / "second"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIMIND_HOME", str(home))
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "auth_token"))
        lines: list[str] = []
        try:
            second = cluster.ensure(lines.append)
            assert any(f"is taken; using {second.dashboard_url.rpartition(':')[2]}." in line for line in lines)
            assert second.dashboard_url != ray_cluster.dashboard_url
            token = access.token(second)

            dead = processes.marked(_mark())
            for process in dead:
                process.kill()
            psutil.wait_procs(dead, timeout=20)
            assert cluster.find() is None

            again = cluster.ensure(lines.append)
            assert "The Ray cluster that ran here is gone; starting it again." in lines
            assert again == second  # the same ports: what other shells had exported still holds
            assert access.token(again) == token
            mark = _mark()
            assert stat.S_IMODE(cluster._private_folder(mark).stat().st_mode) == 0o700
            with at_home(ray_home):  # a job belongs to the cluster that it was submitted to, not to the newest one
                log: list[str] = []
                assert submit.follow(submit.submit("which", [], _asking(tmp_path)), log.append) == "SUCCEEDED"
                assert f"address {ray_cluster.address}\n" in "".join(log)
        finally:
            assert cluster.stop()
        assert not cluster._private_folder(mark).exists()
        assert cluster.find() is None
        assert not cluster.state_path().exists()
        assert processes.marked(mark) == []
    assert cluster.find() == ray_cluster
    assert os.environ["MINIMIND_HOME"] != str(home)
