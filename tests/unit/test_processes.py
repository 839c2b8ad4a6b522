from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from uuid import uuid4

import psutil
import pytest

from jobs.cluster import processes

CHILDREN = """
import os, subprocess, sys, time
if len(sys.argv) > 1:
    hidden = {name: value for name, value in os.environ.items() if name != "MINIMIND_CLUSTER"}
    subprocess.Popen([sys.executable, "-c", "import sys, time; print('up', flush=True); time.sleep(600)"], env=hidden)
else:
    print("up", flush=True)
time.sleep(600)
"""


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    children: list[subprocess.Popen[str]] = []
    yield children
    for child in children:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


def _start(started: list[subprocess.Popen[str]], mark: str, *arguments: str) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILDREN, *arguments],
        env=os.environ | {processes.MARK: mark},
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    started.append(child)
    assert child.stdout is not None
    assert child.stdout.readline() == "up\n"
    return child


def test_marked_finds_what_carries_the_mark(started: list[subprocess.Popen[str]]) -> None:
    mine, other = uuid4().hex, uuid4().hex
    child = _start(started, mine)
    _start(started, other)
    found = processes.marked(mine)
    assert [process.pid for process in found] == [child.pid]
    assert "-c" in found[0].info["cmdline"]


def test_end_takes_the_whole_session_and_nothing_else(started: list[subprocess.Popen[str]]) -> None:
    mine, other = uuid4().hex, uuid4().hex
    parent, stranger = _start(started, mine, "with a child"), _start(started, other)
    (hidden,) = psutil.Process(parent.pid).children()
    assert processes.MARK not in hidden.environ()
    assert processes.end(mine)
    assert parent.poll() is not None
    assert not hidden.is_running() or hidden.status() == psutil.STATUS_ZOMBIE
    assert stranger.poll() is None
    assert not processes.end(mine)
