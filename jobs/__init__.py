"""The job service: training stages composed on Ray Train and Ray Jobs, and the command line."""

from __future__ import annotations

import os

# An OpenMP thread that waits for the next piece of work burns its core by default. With two threads and anything else
# running on a two-core machine, a training step was seen to take 3 to 50 times as long. Must be set before torch is
# loaded; see docs/benchmarks.md.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
