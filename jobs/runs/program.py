"""Which program does the work, and how it was called: what a run keeps of both."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
from pathlib import Path

from jobs import paths

COMMIT, TYPED = "MINIMIND_COMMIT", "MINIMIND_TYPED"
"""What a job is told in its environment: its folder is a copy without .git, and nobody typed its command line."""


def program() -> dict[str, str]:
    """Which program this is, for a RUNNING event: the commit, and a hash of the sources for where there is none."""
    return {"commit": commit(), "source": _source_sha256()[:12]}


def commit() -> str:
    """The checkout's commit, "+changes" if files differ from it; in a job that of the checkout it was copied from.
    "unknown" where there is no .git.
    """
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+changes", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return os.environ.get(COMMIT, "unknown")


def typed() -> str:
    """The command line of this program as a person typed it, also in the job that it became; "" where this process was
    not called by it, such as in a notebook.
    """
    if (told := os.environ.get(TYPED)) is not None:
        return told
    called = Path(sys.argv[0])
    if called.parts[-2:] == ("jobs", "__main__.py"):
        return f"python -m jobs {shlex.join(sys.argv[1:])}"
    return f"minimind {shlex.join(sys.argv[1:])}" if called.name in ("minimind", "minimind.exe") else ""


def told_to_jobs() -> dict[str, str]:
    """The environment variables by which a job knows what only its submitter can see."""
    return {COMMIT: commit(), TYPED: typed()}


def _source_sha256() -> str:
    """Of the program's own files: says whether two runs ran the same program, also where there is no .git."""
    root = paths.checkout()
    digest = hashlib.sha256()
    for package in ("data", "jobs", "minimind", "tune_spaces"):
        for file in sorted((root / package).rglob("*.py")):
            content = file.read_bytes()
            digest.update(f"{file.relative_to(root).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()
