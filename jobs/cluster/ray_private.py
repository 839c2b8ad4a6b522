"""Ray's private names, all of them: what Ray 2.60 promises nobody and this project needs all the same.

Each says what it stands for and where it is. At another version of Ray, `tests/unit/test_ray_private.py` says which are
gone. Nothing of Ray is imported until it is asked for: most verbs need none of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.serve.context import ReplicaContext
    from ray.train.backend import Backend

COMMAND = "ray.scripts.scripts"
"""What the command `ray` runs, for `python -m`: the command itself need not be on the path. ray/scripts/scripts.py."""

GCS, RAYLET, DASHBOARD = "gcs/gcs_server", "raylet/raylet ", "dashboard/dashboard.py"
"""How command lines of a cluster's processes are known: its control store, a machine's node, its web server.
ray/_private/services.py.
"""

QUIET = {
    "RAY_metrics_report_interval_ms": "60000",
    "RAY_task_events_report_interval_ms": "0",
    "RAY_event_stats": "0",
    "EVENT_AGENT_REPORT_INTERVAL_SECONDS": "5",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # for machines in a cloud that takes them back
}
"""Ray's own bookkeeping, done less often or not at all: it takes a share of the core that trains.
`ray list tasks` and the dashboard's timeline stay empty; jobs, actors, logs and resources show as ever.
In ray_config_def.h, which is compiled in; ray/dashboard; ray/train/v2/_internal/constants.py.
"""

SERVE = {
    "RAY_SERVE_PROXY_USE_GRPC": "1",  # by default each piece of a stream becomes an object
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",  # ours does not block its loop
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
}
"""With these a stream's way through Ray Serve takes less CPU time: docs/benchmarks.md, "HTTP".
ray/serve/_private/constants.py.
"""

TUNE = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",  # the old one obeys verbose=0
}
"""A sweep says in its own words what these would. ray/tune/utils/callback.py; ray/tune/experimental/output.py."""

LOGGERS = ("ray.dashboard.modules.job.sdk", "ray.dashboard.modules.dashboard_sdk", "ray._private.runtime_env")
"""Who tells at every submission what our commands say in their own words."""

AGENT_STARTS = "No available agent"
"""What the Jobs API says as long as the agent that would start the job is not up: on a busy machine for some seconds
after the cluster is. ray/dashboard/modules/job/job_head.py.
"""

BY_VALUE: dict[str, Any] = {"_by_reference": False}
"""An option of a Serve handle: what is called streams its answers straight to the caller, without Ray's object store.
ray/serve/handle.py.
"""


def torch_backend(first: Callable[[], None]) -> type[Backend]:
    """What sets up torch's process group on the workers, each of which calls `first` before that.
    `_TorchBackend`, ray/train/torch/config.py.
    """
    from ray.train.torch.config import _TorchBackend

    class Prepared(_TorchBackend):
        def on_start(self, worker_group: Any, backend_config: Any) -> None:
            worker_group.execute(first)
            super().on_start(worker_group, backend_config)

    return Prepared


def quiet_tune() -> None:
    """Tune and its loggers say nothing from now on."""
    os.environ.update(TUNE)


def gpus_of_nvml() -> int:
    """How many GPUs Ray finds on this machine: it asks NVML. ray/_private/accelerators."""
    from ray._private.accelerators import NvidiaGPUAcceleratorManager

    return int(NvidiaGPUAcceleratorManager.get_current_node_num_accelerators())


def for_each_packed(folder: Path, see: Callable[[Path], None]) -> None:
    """Call `see` for what Ray would copy of a working directory, by .gitignore and .rayignore. Only Ray's own walk
    ignores exactly what Ray ignores. ray/_private/runtime_env/packaging.py.
    """
    from ray._private.ray_constants import get_runtime_env_default_excludes
    from ray._private.runtime_env.packaging import _dir_travel, _get_excludes

    _dir_travel(folder, [_get_excludes(folder, get_runtime_env_default_excludes())], see, include_gitignore=True)


def is_unknown(error: RuntimeError) -> bool:
    """Whether the Jobs API says that there is no such job: its client knows one type for all that the server answers.
    ray/dashboard/modules/dashboard_sdk.py.
    """
    return "status code 404" in str(error)


def found_no_room(error: Exception) -> bool:
    """Whether a training's workers never started, for what they wait for went to somebody else.
    ray/train/v2/_internal/exceptions.py.
    """
    from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError

    return isinstance(getattr(error, "controller_failure", None), WorkerGroupStartupTimeoutError)


def most_replicas(context: ReplicaContext) -> int:
    """How many replicas of a deployment there may be: its configuration says it, and nothing else does.
    ray/serve/context.py.
    """
    config = context._deployment_config
    return int(config.autoscaling_config.max_replicas if config.autoscaling_config else config.num_replicas or 1)
