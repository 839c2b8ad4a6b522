"""The job service: training stages composed on Ray Train and Ray Jobs, and the command line."""

from __future__ import annotations

import os
import platform
import sys

# An OpenMP thread that waits for the next piece of work burns its core by default. With two threads and anything else
# running on a two-core machine, a training step was seen to take 3 to 50 times as long. Must be set before torch is
# loaded; see docs/benchmarks.md.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Less memory is lost between tensors; plans for "linux" count on it. Whether WSL 2 and Windows have it is not certain.
if sys.platform == "linux" and "microsoft" not in platform.release().lower():
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")

# cuBLAS adds in a fixed order only with one of two settings of its workspace, and PyTorch refuses `loop.deterministic`
# without. 32 MiB for each of two threads, against 8: plans count them.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

WORKER_ENVIRONMENT = [
    name for name in ("OMP_WAIT_POLICY", "PYTORCH_ALLOC_CONF", "CUBLAS_WORKSPACE_CONFIG") if name in os.environ
]
"""What the processes that train must be told before they load torch."""
