from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from jobs import cluster, paths
from jobs.cluster import Cluster, ClusterError

OURS = Cluster("127.0.0.1:6379", "http://127.0.0.1:8265", Path("/a b/token"), ours=True)


@pytest.fixture(autouse=True)
def _no_cluster_in_the_environment(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("workers", "gpus", "cpus", "nodes"),
    [
        (0, 0, 1, []),
        (2, 0, 1, [{"CPU": 2.0}]),
        (2, 1, 1, [{"CPU": 4.0, "GPU": 1.0}, {"CPU": 4.0, "GPU": 1.0}]),
        (4, 0.5, 1, [{"CPU": 4.0, "GPU": 2.0}]),
        (2, 1, 0, [{"GPU": 2.0}]),
    ],
)
def test_check_lets_pass_what_fits(workers: int, gpus: float, cpus: float, nodes: list[dict[str, float]]) -> None:
    cluster.check(workers, gpus, cpus, nodes=nodes)


def test_check_says_what_is_wanted_what_is_there_and_what_is_allowed() -> None:
    with pytest.raises(ValueError, match="workers = 3") as caught:
        cluster.check(3, nodes=[{"CPU": 2.0, "memory": 1.0}])
    assert str(caught.value) == (
        "workers = 3: every worker needs 1 CPU on one machine; the cluster has 2 CPU and 0 GPU on 1 machine, which "
        "is room for 2. Allowed: up to --workers 2; --workers 0 to run in this process, without Ray's workers."
    )


def test_check_counts_per_machine() -> None:
    with pytest.raises(ValueError, match="2 CPU and 1 GPU on one machine; .* 2 CPU and 1 GPU on 2 machines"):
        cluster.check(1, 1, 2, nodes=[{"CPU": 2.0}, {"GPU": 1.0}])


def test_check_explains_a_gpu_that_ray_does_not_see() -> None:
    with pytest.raises(ValueError, match=r"PyTorch sees 1 GPU here, but Ray counts them with NVML.*nvidia-smi"):
        cluster.check(1, 1, nodes=[{"CPU": 8.0}], gpus_seen=1)
    with pytest.raises(ValueError, match="--workers 0") as caught:
        cluster.check(1, 1, nodes=[{"CPU": 8.0}], gpus_seen=0)
    assert "NVML" not in str(caught.value)


def test_environment_carries_what_the_ray_commands_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "intranet")
    variables = cluster.environment(OURS)
    assert variables["RAY_AUTH_MODE"] == "token"
    assert variables["RAY_API_SERVER_ADDRESS"] == variables["RAY_DASHBOARD_ADDRESS"] == OURS.dashboard_url
    assert variables["RAY_ADDRESS"] == OURS.address
    assert variables["RAY_AUTH_TOKEN_PATH"] == "/a b/token"
    assert variables["NO_PROXY"] == variables["no_proxy"] == "intranet,127.0.0.1,localhost"
    assert (Path(variables["PATH"].split(os.pathsep)[0]) / "ray").is_file()


def test_environment_of_a_cluster_elsewhere_leaves_proxies_alone() -> None:
    variables = cluster.environment(Cluster("", "http://head:8265", None, ours=False))
    assert variables.keys() == {"PATH", "RAY_AUTH_MODE", "RAY_API_SERVER_ADDRESS", "RAY_DASHBOARD_ADDRESS"}


def test_exports_are_understood_by_a_shell() -> None:
    done = subprocess.run(
        ["bash", "-c", 'eval "$1"; printf "%s|" "$RAY_AUTH_TOKEN_PATH" "$RAY_API_SERVER_ADDRESS" "$PATH"', "-"]
        + [cluster.exports(OURS)],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    token, address, path, _ = done.stdout.split("|")
    assert (token, address) == ("/a b/token", OURS.dashboard_url)
    assert path.endswith(":/usr/bin:/bin")


def test_token_is_found_where_ray_looks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cluster.token_path() == Path.home() / ".ray" / "auth_token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    assert cluster.token_path() == tmp_path / "token"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "other")
    assert cluster.token_path() is None


def test_a_cluster_keeps_its_token_whatever_the_shell_has_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret\n")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "other")
    own, given = (Cluster("", "http://head:8265", path, ours=True) for path in (file, None))
    assert (cluster.token(own), cluster.token(given)) == ("secret", "other")
    assert cluster.environment(own)["RAY_AUTH_TOKEN"] == ""
    assert "RAY_AUTH_TOKEN" not in cluster.environment(given)


@pytest.mark.parametrize("content", [None, "\n"])
def test_a_missing_token_is_explained(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ClusterError, match=f"no Ray token in {file}.*minimind cluster start"):
        cluster.token(Cluster("", "http://head:8265", file, ours=True))
    with pytest.raises(ClusterError, match="no Ray token in RAY_AUTH_TOKEN"):
        cluster.token(Cluster("", "http://head:8265", None, ours=True))


def test_sharing_names_the_token_and_what_may_go_wrong() -> None:
    text = cluster.sharing(OURS)
    assert "/a b/token" in text
    assert "chmod 600" in text
    assert "ray_cluster.yaml" in text


def test_refused_says_whose_token_is_wrong() -> None:
    assert "minimind cluster stop" in cluster.refused(OURS)
    assert "Copy the token" in cluster.refused(Cluster("", "http://head:8265", None, ours=False))


def test_nothing_is_found_and_nothing_ended_where_nothing_runs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cluster.find() is None
    assert cluster.stop() is False
    monkeypatch.setenv("MINIMIND_HOME", str(home / "not" / "yet"))
    assert cluster.stop() is False
    assert not (home / "not").exists()


def test_the_users_choice_of_a_cluster_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://head:8265/")
    found = cluster.find()
    assert found is not None
    assert (found.dashboard_url, found.ours) == ("http://head:8265", False)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "head:8265")
    with pytest.raises(ClusterError, match="RAY_API_SERVER_ADDRESS = 'head:8265': a URL is wanted"):
        cluster.find()


def test_a_chosen_cluster_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_ANSWER_S", 0)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:1")
    with pytest.raises(ClusterError, match=r"answers at http://127\.0\.0\.1:1, which RAY_API_SERVER_ADDRESS names"):
        cluster.ensure()


def test_a_broken_state_file_is_named(home: Path) -> None:
    cluster.state_path().write_text("{")
    with pytest.raises(ClusterError, match=r"cluster-.*\.json cannot be read; remove it"):
        cluster.find()


def test_windows_is_told_about_wsl2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ClusterError, match="on Windows use WSL2"):
        cluster.ensure()


def test_ray_up_accepts_our_file() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((paths.checkout() / "ray_cluster.yaml").read_text(encoding="utf-8"))
    prepared = prepare_config(config)
    validate_config(prepared)
    assert prepared["provider"]["type"] == "local"
    starts = [line for line in prepared["head_start_ray_commands"] if "ray start" in line]
    assert len(starts) == 1
    assert "RAY_AUTH_MODE=token" in starts[0]
    assert "--dashboard-host=127.0.0.1" in starts[0]
