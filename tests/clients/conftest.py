"""What the tests of other programs share. They have an environment of their own (`make clients`) on top of ours, and
run in processes of their own.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs import paths
from tests import taught
from tests.unit.service.conftest import Served, serving

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LANGSMITH_TRACING": "false",
    "OPENAI_API_KEY": "none",
    "OMP_NUM_THREADS": "1",
}


@pytest.fixture(scope="module")
def python() -> Path:
    """The interpreter that has the clients."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("MAKE")
    }  # `make test`'s own
    made = subprocess.run(
        ["make", "-s", ".venv-clients/.installed"],
        cwd=paths.checkout(),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=800,
    )
    if made.returncode:
        said = f"{made.stdout}\n{made.stderr}".strip()
        # pip's words where no registry can be reached; a version that is not there would be named beside others.
        if "from versions: none" in said and not os.environ.get("REQUIRE_CLIENTS"):
            pytest.skip(f"the clients cannot be installed, no package registry answers: {said.splitlines()[-1]}")
        pytest.fail(f"the clients cannot be installed:\n{said[-3000:]}")
    return paths.checkout() / ".venv-clients" / "bin" / "python"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("clients")
    taught.write_run(home / "runs", "taught", *taught.taught())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIMIND_HOME", str(home))
        with serving() as there:
            yield there


def said_by(python: Path, program: str, home: Path, *arguments: str) -> Any:
    """What a program of this folder says, run with the clients' interpreter."""
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment |= OFFLINE | {"HOME": str(home), "HF_HOME": str(home)}
    command = [str(python), "-I", str(Path(__file__).with_name(program)), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280, env=environment)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-5000:]}"
    return json.loads(done.stdout.splitlines()[-1])
