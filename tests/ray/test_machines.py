"""A cluster of several machines, and GPUs that are made up: everything but the calls of CUDA."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import paths
from jobs.cluster import access
from jobs.cluster.access import Cluster


@pytest.mark.timeout(960)  # alone it takes three minutes, on a busy machine many more
def test_several_machines_as_a_job_sees_them(ray_cluster: Cluster) -> None:
    inside = str(Path(__file__).with_name("inside_machines.py"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "default", inside],  # Ray warns of what it does itself
        cwd=paths.checkout(),
        env={**os.environ, **access.environment(ray_cluster)},
        capture_output=True,
        text=True,
        timeout=940,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
