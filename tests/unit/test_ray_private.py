"""Each of Ray's private names still exists in the Ray that is installed."""

from __future__ import annotations

from importlib.util import find_spec
from inspect import signature
from pathlib import Path

import pytest
import ray

from jobs.cluster import ray_private

ROOT = Path(ray.__file__).parent


def text(*files: str) -> str:
    return "\n".join((ROOT / file).read_text("utf-8") for file in files)


def test_the_processes_are_called_so() -> None:
    for name in (ray_private.GCS, ray_private.RAYLET.strip()):
        assert (ROOT / "core" / "src" / "ray" / name).is_file()
    assert (ROOT / ray_private.DASHBOARD).is_file()
    assert find_spec(ray_private.COMMAND) is not None


@pytest.mark.parametrize("switch", [*ray_private.QUIET, *ray_private.SERVE, *ray_private.TUNE])
def test_the_switch_exists(switch: str) -> None:
    compiled = switch.removeprefix("RAY_").encode()
    if switch.startswith("RAY_") and switch[4:5].islower():
        assert (
            compiled in (ROOT / "core" / "src" / "ray" / ray_private.GCS).read_bytes()
            or compiled in (ROOT / "core" / "src" / "ray" / "raylet" / "raylet").read_bytes()
        )
    else:
        folders = (ROOT / "serve", ROOT / "train", ROOT / "tune", ROOT / "air", ROOT / "dashboard", ROOT / "_private")
        assert any(switch in path.read_text("utf-8") for folder in folders for path in folder.rglob("*.py"))


def test_what_the_jobs_api_says() -> None:
    assert ray_private.AGENT_STARTS in text("dashboard/modules/job/job_head.py")
    assert "failed with status code {" in text("dashboard/modules/dashboard_sdk.py")
    assert ray_private.is_unknown(RuntimeError("Request failed with status code 404: no such job."))
    assert not ray_private.is_unknown(RuntimeError("Request failed with status code 500: oh."))
    for logger in ray_private.LOGGERS:
        assert find_spec(logger) is not None


def test_what_ray_would_copy_is_walked(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("a")
    (tmp_path / "left").write_text("b")
    (tmp_path / ".gitignore").write_text("left\n")
    seen: list[Path] = []
    ray_private.for_each_packed(tmp_path, seen.append)
    assert {path.name for path in seen if path.is_file()} >= {"a.py"}
    assert "left" not in {path.name for path in seen}


def test_gpus_are_counted() -> None:
    assert ray_private.gpus_of_nvml() >= 0


def test_the_process_group_is_set_up_by_a_class_with_a_beginning() -> None:
    from ray.train.backend import Backend

    backend = ray_private.torch_backend(print)
    (above, *_) = backend.__bases__
    assert issubclass(above, Backend)
    for kind in (backend, above):
        assert list(signature(kind.on_start).parameters) == ["self", "worker_group", "backend_config"]


def test_workers_that_never_started_are_told_apart() -> None:
    from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError, WorkerGroupStartupTimeoutError
    from ray.train.v2.api.exceptions import ControllerError

    assert ray_private.found_no_room(ControllerError(WorkerGroupStartupTimeoutError(2)))
    assert not ray_private.found_no_room(ControllerError(WorkerGroupStartupFailedError("no")))
    assert not ray_private.found_no_room(ValueError())


def test_the_options_of_a_handle_and_the_configuration_of_a_deployment() -> None:
    from ray.serve.context import ReplicaContext
    from ray.serve.handle import DeploymentHandle

    assert set(ray_private.BY_VALUE) < set(signature(DeploymentHandle.options).parameters)
    assert "_deployment_config" in signature(ReplicaContext).parameters
