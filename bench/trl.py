"""TRL beside ours: a trainer in a process of its own, which makes steps when it is asked and waits while it is not."""

from __future__ import annotations

import sys
from pathlib import Path

# Imports below count from the checkout, not from this folder.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from jobs import paths

PYTHON = paths.checkout() / ".venv-clients" / "bin" / "python"
"""The interpreter that has TRL: `make clients` makes it."""

QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "PYTHONWARNINGS": "ignore",
}


@dataclass(frozen=True)
class Took:
    """Some steps. peak_bytes: how far memory has risen at most above what it was before the first of all. tokens:
    written, where it writes.
    """

    wall_s: float
    cpu_s: float
    peak_bytes: int = 0
    tokens: int = 0


class Peer:
    """TRL in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def __call__(self, steps: int) -> Took:
        """So many steps more."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith('{"peak_bytes"'):
                return Took(**json.loads(line))
        raise RuntimeError("TRL has ended; what it said is above")


@contextmanager
def peer(
    trainer: str,
    python: Path,
    folder: Path,
    file: Path,
    threads: int,
    settings: Mapping[str, Any],
    more: Mapping[str, str] = {},
) -> Iterator[Peer]:
    """A trainer with this checkpoint and these rows. settings: of its config. more: of its environment."""
    script = Path(__file__).with_name("trl_peer.py")
    command = [str(python), "-I", str(script), trainer, str(folder), str(file), json.dumps(settings)]
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, **QUIET, "OMP_NUM_THREADS": str(threads), "HF_HOME": home, **more}
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        ) as process:
            try:
                yield Peer(process)
            finally:
                process.kill()
