"""The processes of a cluster that was started here, found by a mark in their environment: these and no others."""

from __future__ import annotations

import os
from contextlib import suppress

import psutil

from jobs.cluster import ray_private

MARK = "MINIMIND_CLUSTER"
"""The environment variable that holds the mark."""


def marked(mark: str) -> list[psutil.Process]:
    """The processes that carry `mark`; `info` holds their pid, command line and status."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "status"]):
        with suppress(psutil.Error):
            if process.info["status"] != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark:
                found.append(process)
    return found


def end(mark: str) -> bool:
    """End every process of the cluster: ask the node to end its workers, then all; kill what does not end.

    True if there was anything to end.
    """
    processes = family(mark)
    raylets = [process for process in processes if ray_private.RAYLET in " ".join(process.info["cmdline"] or ()) + " "]
    for group, patience_s in ((raylets, 5), (processes, 2)):
        for process in group:
            with suppress(psutil.Error):
                process.terminate()
        psutil.wait_procs(group, timeout=patience_s)
    for process in family(mark):
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(processes, timeout=5)
    return bool(processes)


def family(mark: str) -> list[psutil.Process]:
    """Every process of the cluster. Ray's workers overwrite their environment with their title, but they share the
    session of the ones that do not.
    """
    roots = marked(mark)
    sessions = set()
    for process in roots:
        with suppress(ProcessLookupError):
            sessions.add(os.getsid(process.pid))
    sessions.discard(os.getsid(0))
    family = {process.pid: process for process in roots}
    for process in psutil.process_iter(["pid", "cmdline", "status"]):
        with suppress(psutil.Error, ProcessLookupError):
            if process.info["status"] != psutil.STATUS_ZOMBIE and os.getsid(process.pid) in sessions:
                family[process.pid] = process
    family.pop(os.getpid(), None)
    return list(family.values())
