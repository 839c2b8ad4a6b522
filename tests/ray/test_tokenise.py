"""What a job does with the cluster that it is part of: tokenising, and finding room for workers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from jobs import paths
from jobs.cluster import access
from jobs.cluster.access import Cluster


def test_tokenising_as_a_job_does(ray_cluster: Cluster) -> None:
    inside = str(Path(__file__).with_name("inside_a_job.py"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "default", inside],  # Ray Data warns of what it does itself
        cwd=paths.checkout(),
        env={**os.environ, **access.environment(ray_cluster)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
