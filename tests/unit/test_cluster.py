from __future__ import annotations

import os
import re
import secrets
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from jobs import __main__ as cli
from jobs import paths
from jobs.cluster import access, capacity, processes
from jobs.cluster import local as cluster
from jobs.cluster.access import Cluster, ClusterError
from jobs.runs.directory import RunDirectory
from jobs.training import launch
from jobs.training.nodes import Machine
from tests.small import small_spec

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
    capacity.require_room(workers, gpus, cpus, nodes=nodes)


def test_check_says_what_is_wanted_what_is_there_and_what_is_allowed() -> None:
    with pytest.raises(ValueError, match="workers = 3") as caught:
        capacity.require_room(3, nodes=[{"CPU": 2.0, "memory": 1.0}])
    assert str(caught.value) == (
        "workers = 3: every worker needs 1 CPU on one machine; the cluster has 2 CPU and 0 GPU on 1 machine, which "
        "is room for 2. Allowed: up to --workers 2; --workers 0 to run in this process, without Ray's workers."
    )


def test_check_counts_per_machine() -> None:
    with pytest.raises(ValueError, match="2 CPU and 1 GPU on one machine; .* 2 CPU and 1 GPU on 2 machines"):
        capacity.require_room(1, 1, 2, nodes=[{"CPU": 2.0}, {"GPU": 1.0}])


def test_check_explains_a_gpu_that_ray_does_not_see() -> None:
    with pytest.raises(ValueError, match=r"PyTorch sees 1 GPU here, but Ray counts them with NVML.*nvidia-smi"):
        capacity.require_room(1, 1, nodes=[{"CPU": 8.0}], gpus_seen=1)
    with pytest.raises(ValueError, match="--workers 0") as caught:
        capacity.require_room(1, 1, nodes=[{"CPU": 8.0}], gpus_seen=0)
    assert "NVML" not in str(caught.value)


def test_environment_carries_what_the_ray_commands_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "intranet")
    variables = access.environment(OURS)
    assert variables["RAY_AUTH_MODE"] == "token"
    assert variables["RAY_API_SERVER_ADDRESS"] == variables["RAY_DASHBOARD_ADDRESS"] == OURS.dashboard_url
    assert variables["RAY_ADDRESS"] == OURS.address
    assert variables["RAY_AUTH_TOKEN_PATH"] == "/a b/token"
    assert variables["NO_PROXY"] == variables["no_proxy"] == "intranet,127.0.0.1,localhost"
    assert (Path(variables["PATH"].split(os.pathsep)[0]) / "ray").is_file()


def test_a_cluster_keeps_nothing_of_ours_from_its_shell() -> None:
    shell = {"MINIMIND_API_KEY": "k", "MINIMIND_LANG": "zh", "RAY_ADDRESS": "a:1", "NCCL_DEBUG": "INFO", "PATH": "/bin"}
    assert cluster._inherited(shell) == {"NCCL_DEBUG": "INFO", "PATH": "/bin"}


def test_environment_of_a_cluster_elsewhere_leaves_proxies_alone() -> None:
    variables = access.environment(Cluster("", "http://head:8265", None, ours=False))
    assert variables.keys() == {"PATH", "RAY_AUTH_MODE", "RAY_API_SERVER_ADDRESS", "RAY_DASHBOARD_ADDRESS"}


def test_exports_are_understood_by_a_shell() -> None:
    done = subprocess.run(
        ["bash", "-c", 'eval "$1"; printf "%s|" "$RAY_AUTH_TOKEN_PATH" "$RAY_API_SERVER_ADDRESS" "$PATH"', "-"]
        + [access.exports(OURS)],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    token, address, path, _ = done.stdout.split("|")
    assert (token, address) == ("/a b/token", OURS.dashboard_url)
    assert path.endswith(":/usr/bin:/bin")


def test_token_is_found_where_ray_looks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert access.token_path() == Path.home() / ".ray" / "auth_token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    assert access.token_path() == tmp_path / "token"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "other")
    assert access.token_path() is None


def test_a_cluster_keeps_its_token_whatever_the_shell_has_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret\n")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "other")
    own, given = (Cluster("", "http://head:8265", path, ours=True) for path in (file, None))
    assert (access.token(own), access.token(given)) == ("secret", "other")
    assert access.environment(own)["RAY_AUTH_TOKEN"] == ""
    assert "RAY_AUTH_TOKEN" not in access.environment(given)


@pytest.mark.parametrize("content", [None, "\n"])
def test_a_missing_token_is_explained(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ClusterError, match=f"no Ray token in {file}.*minimind cluster start"):
        access.token(Cluster("", "http://head:8265", file, ours=True))
    with pytest.raises(ClusterError, match="no Ray token in RAY_AUTH_TOKEN"):
        access.token(Cluster("", "http://head:8265", None, ours=True))


def test_sharing_names_the_token_and_what_may_go_wrong() -> None:
    text = access.sharing(OURS)
    assert "/a b/token" in text
    assert "chmod 600" in text
    assert "ray_cluster.yaml" in text


def test_refused_says_whose_token_is_wrong() -> None:
    assert "minimind cluster stop" in access.refused(OURS)
    assert "Copy the token" in access.refused(Cluster("", "http://head:8265", None, ours=False))


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


def test_a_token_that_others_can_read_is_mended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret")
    file.chmod(0o644)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    said: list[str] = []
    access.make_token(said.append)
    assert file.stat().st_mode & 0o777 == 0o600
    assert said == [f"{file} could be read by others on this machine; now by you alone."]
    assert file.read_text() == "secret"


def test_the_lock_of_the_ports_lies_where_nobody_else_can_make_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    lock = cluster._ports_lock()
    assert lock.is_relative_to(tmp_path / "cache")
    assert lock.parent.stat().st_mode & 0o777 == 0o700


CLUSTERS: dict[str, tuple[list[dict[str, float]], int | None, tuple[int, float, int]]] = {
    "two machines without a GPU": ([{"CPU": 8}, {"CPU": 8}], None, (1, 0, 8)),
    "two machines without a GPU, two workers": ([{"CPU": 8}, {"CPU": 8}], 2, (2, 0, 8)),
    "a head, and a box with a GPU": ([{"CPU": 4}, {"CPU": 8, "GPU": 1}], None, (1, 1, 8)),
    "a box with two GPUs, and one without": ([{"CPU": 16, "GPU": 2}, {"CPU": 8}], None, (2, 1, 8)),
    "two boxes, 8 and 16 CPU": ([{"CPU": 8, "GPU": 1}, {"CPU": 16, "GPU": 1}], None, (2, 1, 8)),
    "two equal boxes": ([{"CPU": 8, "GPU": 1}, {"CPU": 8, "GPU": 1}], None, (2, 1, 8)),
    "KubeRay, a head without CPUs": (
        [{"CPU": 0}, {"CPU": 4, "GPU": 1}, {"CPU": 4, "GPU": 1}],
        None,
        (2, 1, 4),
    ),
    "KubeRay, a head with one CPU": ([{"CPU": 1}, {"CPU": 3, "GPU": 1}], None, (1, 1, 3)),
    "a laptop": ([{"CPU": 2}], None, (1, 0, 2)),
}


@pytest.mark.parametrize("title", CLUSTERS)
def test_the_defaults_find_room_on_ordinary_clusters(title: str, monkeypatch: pytest.MonkeyPatch) -> None:
    there, workers, expected = CLUSTERS[title]
    monkeypatch.setattr(launch, "machines", lambda: [Machine(f"{i}", f"{i}", node) for i, node in enumerate(there)])
    scaling = launch.resolve_scaling(small_spec(scaling__workers=workers or "null")).scaling
    assert (scaling.workers, scaling.gpus_per_worker, scaling.cpus_per_worker) == expected


NODES = st.lists(
    st.fixed_dictionaries({"CPU": st.integers(0, 32).map(float)}, optional={"GPU": st.integers(1, 4).map(float)}),
    min_size=1,
    max_size=5,
)


@given(
    nodes=NODES,
    workers=st.integers(1, 12),
    gpus=st.sampled_from([0, 0.1, 0.25, 1 / 3, 0.5, 1, 2, 4]),
    cpus=st.integers(1, 40),
)
def test_what_check_advises_it_accepts(nodes: list[dict[str, float]], workers: int, gpus: float, cpus: int) -> None:
    try:
        capacity.require_room(workers, gpus, cpus, nodes=nodes)
    except ValueError as error:
        asked = {"workers": workers, "gpus_per_worker": gpus, "cpus_per_worker": cpus}
        for name, value in re.findall(r"--(?:set scaling\.)?(\w+)[ =]([0-9]+)", str(error)):
            if (name, value) == ("workers", "0"):
                continue
            changed = asked | {name: int(value)}
            if name == "gpus_per_worker":  # on CPUs, with the share that is then left open
                changed["cpus_per_worker"] = capacity.most_cpus(nodes, workers)
            capacity.require_room(**changed, nodes=nodes)
    else:
        assert sum(node["CPU"] for node in nodes) >= workers * cpus


@given(nodes=NODES, workers=st.integers(1, 12), gpus=st.sampled_from([0, 0.5, 1]))
def test_workers_get_the_most_cpus_that_find_room(nodes: list[dict[str, float]], workers: int, gpus: float) -> None:
    most = capacity.most_cpus(nodes, workers, gpus)
    assert capacity.places(nodes, most, gpus) >= workers or most == 1
    assert capacity.places(nodes, most + 1, gpus) < workers


def test_a_tenth_of_a_gpu_goes_into_it_ten_times() -> None:
    assert capacity.places([{"CPU": 64.0, "GPU": 1.0}], 1, 0.1) == 10
    assert capacity.places([{"CPU": 64.0, "GPU": 1.0}], 1, 0.333333) == 3
    with pytest.raises(ValueError, match="gpus_per_worker = 1.5: a part of one GPU, or whole ones"):
        capacity.require_room(1, 1.5, nodes=[{"CPU": 8.0, "GPU": 2.0}])


class Parts:
    """Processes that look like those of a cluster."""

    def __init__(self, mark: str) -> None:
        titles = {
            "gcs": "/x/ray/core/src/ray/gcs/gcs_server",
            "raylet": "/x/ray/core/src/ray/raylet/raylet",
            "dashboard": "/x/ray/dashboard/dashboard.py",
            "training": "ray::RayTrainWorker",
        }
        self.of = {
            name: subprocess.Popen(
                ["bash", "-c", f"exec -a '{title}' sleep 120"],
                env={**os.environ, processes.MARK: mark},
                start_new_session=True,
            )
            for name, title in titles.items()
        }

    def end(self, *names: str) -> None:
        for name in names:
            self.of[name].kill()
            self.of[name].wait()

    def alive(self) -> set[str]:
        return {name for name, process in self.of.items() if process.poll() is None}


@pytest.fixture
def parts(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Parts]:
    """A cluster that is up, as far as its state file and the list of processes say."""
    monkeypatch.setattr(cluster, "_DYING_S", 0)
    mark = f"test{os.getpid():012x}"
    cluster._write_state(cluster._State(mark, "127.0.0.1:6379", "http://127.0.0.1:1", None, {}, ready=True))
    parts = Parts(mark)
    end = time.monotonic() + 20
    while cluster._condition(cluster._read_state()) != "alive":  # type: ignore[arg-type]  # it has just been written
        assert time.monotonic() < end
    yield parts
    parts.end(*parts.alive())


@pytest.mark.skipif(sys.platform != "linux", reason="made-up processes are told apart by /proc")
def test_a_cluster_without_its_dashboard_is_left_alone(parts: Parts, capsys: pytest.CaptureFixture[str]) -> None:
    assert cluster.find() is not None
    parts.end("dashboard")
    run = RunDirectory(paths.runs() / "mine")
    run.create({"name": "mine", "stage": {"kind": "pretrain"}})
    with run.hold():
        (run.path / ".lock").write_text(f"process {parts.of['training'].pid} on {socket.gethostname()}")
        for call in (cluster.find, cluster.ensure):
            with pytest.raises(ClusterError, match=r"takes no new jobs\. Still training on it: mine \(.*left alone"):
                call()
        assert cluster.training() == ["mine"]
        for verb in ("stop", "status", "start"):
            assert cli.minimind(["cluster", verb]) == 1
        said = capsys.readouterr()
        assert "These train on it and would end: mine" in said.out
        assert "minimind cluster stop --yes" in said.out
        assert "Still training on it: mine" in said.err
        assert parts.alive() == {"gcs", "raylet", "training"}
        parts.end("gcs", "raylet")  # the training itself is enough to be left alone
        with pytest.raises(ClusterError, match="Still training on it: mine"):
            cluster.find()
    assert cluster.find() is None
    assert parts.alive() == {"training"}
    assert cli.minimind(["cluster", "stop"]) == 0
    assert parts.alive() == set()
    assert not cluster.state_path().exists()


@pytest.mark.skipif(sys.platform != "linux", reason="made-up processes are told apart by /proc")
def test_no_run_in_a_broken_cluster_is_said_too(parts: Parts) -> None:
    parts.end("raylet")
    with pytest.raises(ClusterError, match="No run is training on it: minimind cluster stop, then"):
        cluster.find()
    assert cluster.stop()


def test_a_start_that_was_cut_off_is_no_cluster(home: Path) -> None:
    cluster._write_state(cluster._State("0" * 16, "127.0.0.1:6379", "http://127.0.0.1:1", None, {}))
    assert cluster.find() is None


def test_machines_that_share_a_folder_have_a_cluster_each(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = cluster.state_path()
    monkeypatch.setattr(socket, "gethostname", lambda: "other.box/1")
    assert cluster.state_path() != own
    assert cluster.state_path() == home / "cluster-other.box_1.json"


def test_a_job_of_another_cluster_starts_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    for call in (cluster.find, cluster.ensure):
        with pytest.raises(ClusterError, match=r"the Ray cluster at 10\.0\.0\.1:6379 \(RAY_ADDRESS\).*export RAY_API"):
            call()
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://10.0.0.1:8265")
    found = cluster.find()
    assert found is not None
    assert (found.address, found.ours) == ("10.0.0.1:6379", False)


def test_rays_folder_lies_in_a_private_one_and_leaves_room_for_sockets() -> None:
    mark = secrets.token_hex(8)
    folder = cluster._temporary(mark)
    try:
        assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
        longest = folder / "session_2026-12-31_23-59-59_999999_4194304" / "sockets" / "plasma_store.99"
        assert len(os.fsencode(longest)) <= 107
        with pytest.raises(ClusterError, match="cannot be made: File exists"):
            cluster._temporary(mark)
    finally:
        folder.parent.rmdir()


@pytest.mark.parametrize("mode", [None, "disabled"])
def test_a_cluster_that_asks_for_no_token_gets_no_server(mode: str | None) -> None:
    with pytest.raises(
        ValueError, match=f"RAY_AUTH_MODE = '{mode or ''}' on this cluster: whoever reaches.*auth_token"
    ):
        access.require_token({} if mode is None else {"RAY_AUTH_MODE": mode})
    access.require_token({"RAY_AUTH_MODE": "token"})


@pytest.mark.skipif(sys.platform != "linux", reason="made-up processes are told apart by /proc")
def test_a_cluster_that_was_dying_is_started_again(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_ANSWER_S", 0)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    with pytest.raises(ClusterError, match="does not answer: minimind cluster stop"):
        cluster.ensure()
    new = access.Cluster("127.0.0.1:1", "http://127.0.0.1:2", None, ours=True)

    def ask_the_dying(there: access.Cluster, within_s: float) -> bool:
        parts.end(*parts.alive())
        return False

    monkeypatch.setattr(cluster, "_answers", ask_the_dying)
    monkeypatch.setattr(cluster, "_start", lambda say: new)
    assert cluster.ensure() is new
