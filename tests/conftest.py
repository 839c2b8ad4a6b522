"""What every test shares: one torch thread, a home of its own, and one real Ray cluster for those that ask for it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from jobs.cluster import local as cluster
from jobs.cluster.access import Cluster

torch.set_num_threads(1)  # on two cores a thread pool costs more than it gives: 24 s instead of 0.4 s was seen


@pytest.fixture(autouse=True)
def _in_english(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the locale is; `speaking("zh")` asks for the other language."""
    monkeypatch.setenv("MINIMIND_LANG", "en")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home that each test of a module has a copy of: an empty one, unless the module says what is in it."""
    return tmp_path_factory.mktemp("trained")


@pytest.fixture
def home(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """MINIMIND_HOME for one test: a copy of `trained`."""
    path = tmp_path / "home"
    shutil.copytree(trained, path)
    monkeypatch.setenv("MINIMIND_HOME", str(path))
    return path


@contextmanager
def at_home(path: Path) -> Iterator[pytest.MonkeyPatch]:
    """A home with a token of its own, and no trace of the user's clusters."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_MODE"):
            patch.delenv(name, raising=False)
        patch.setenv("MINIMIND_HOME", str(path))
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(path / "auth_token"))
        yield patch


@pytest.fixture(scope="session")
def _session_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Cluster]]:
    path = tmp_path_factory.mktemp("ray") / "home"
    with at_home(path):
        started = cluster.ensure()
    yield path, started
    with at_home(path):
        cluster.stop()


@pytest.fixture
def ray_home(_session_cluster: tuple[Path, Cluster]) -> Iterator[Path]:
    """The MINIMIND_HOME of the session's cluster, set for one test. Starting it costs about ten seconds, once."""
    path, _ = _session_cluster
    with at_home(path):
        yield path


@pytest.fixture
def ray_cluster(_session_cluster: tuple[Path, Cluster], ray_home: Path) -> Cluster:
    """The session's real local Ray cluster: two CPUs or what the machine has, token, loopback."""
    return _session_cluster[1]
