"""What the linter's contracts cannot say: a rule about a part of a package."""

from __future__ import annotations

import subprocess
import sys


def test_the_service_never_loads_ray_train() -> None:
    modules = "service.app, service.web, service.replica"
    code = f"import sys, {modules}; print([name for name in sys.modules if name.startswith('ray.train')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
