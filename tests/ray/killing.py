"""What tests that kill share: waiting, and finding the processes of the test's own cluster."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress

import psutil

from jobs.cluster import local as cluster
from jobs.cluster import processes
from jobs.runs.directory import RunDirectory
from minimind.events import read_events


def until(true: Callable[[], bool], what: str, within_s: float = 180) -> None:
    """Wait until something is true."""
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end, f"waited {within_s} s for {what}"
        time.sleep(0.02)


def until_steps(run: RunDirectory, attempt: int, count: int) -> None:
    """Wait until attempt number `attempt` of a run has made `count` steps."""

    def there() -> bool:
        events = read_events(run.events_path)
        starts = [index for index, event in enumerate(events) if event.get("state") == "RUNNING"]
        return len(starts) == attempt and len(events) - starts[-1] > count

    until(there, f"step {count} of attempt {attempt} of {run.name}")


def driver(word: str) -> psutil.Process:
    """The process that Ray Jobs started, of this cluster and no other; word: one of its arguments."""
    for process in processes.marked(json.loads(cluster.state_path().read_text())["mark"]):
        command = process.info["cmdline"] or []
        if command[:1] and "python" in command[0] and "jobs" in command and word in command:
            return process
    raise AssertionError("no driver process found")


def kill_cluster() -> None:
    """What `ray stop --force` does, for this cluster alone."""
    for process in processes.family(json.loads(cluster.state_path().read_text())["mark"]):
        with suppress(psutil.NoSuchProcess):  # some end with the first
            process.kill()
