"""The Ray cluster on this machine: start it, find it, end it, and say what a run would wait for in vain.

Everything listens on loopback and asks for the token, because who reaches a Ray cluster runs code on it; only the
replicas of a server listen on all addresses, and ask for it too. The state file `$MINIMIND_HOME/cluster-HOST.json` lets
other shells of this machine find the cluster, and none of another machine that shares the folder. Its processes carry a
mark in their environment, so that `stop` ends these and no other cluster (`ray stop` ends them all).
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic, sleep
from typing import Literal

from filelock import FileLock

from jobs import paths
from jobs.cluster import machine, processes, ray_private
from jobs.cluster.access import Cluster, ClusterError, environment, make_token, refused, token, token_path
from jobs.cluster.processes import MARK
from jobs.runs.directory import RunDirectory
from minimind.language import say

_ANSWER_S = 5.0
_DYING_S = 5.0
_DEFAULT_PORTS = {"gcs": 6379, "dashboard": 8265, "agent": 52365, "client": 10001}
_CORE, _DASHBOARD = (ray_private.GCS, ray_private.RAYLET), ray_private.DASHBOARD


@dataclass(frozen=True)
class _State:
    """cluster-HOST.json. ready: whether it has answered once; a start that was cut off has not, and holds no work."""

    mark: str
    address: str
    dashboard_url: str
    token_path: str | None
    ports: dict[str, int]
    ready: bool = False


def find() -> Cluster | None:
    """The cluster that jobs go to, or None.

    It is the one that RAY_API_SERVER_ADDRESS names, if the user set it to something else than ours, and otherwise the
    one started here, if it is alive.

    Raises ClusterError where there is one and no way to it: ours has lost its dashboard, or this process is part of
    another cluster, of which only RAY_ADDRESS is known.
    """
    state = _read_state()
    chosen = os.environ.get("RAY_API_SERVER_ADDRESS", "").rstrip("/")
    if chosen and (state is None or chosen != state.dashboard_url):
        if not chosen.startswith(("http://", "https://")):
            raise ClusterError(
                say(
                    "RAY_API_SERVER_ADDRESS = {chosen!r}: a URL is wanted, such as http://127.0.0.1:8265.",
                    chosen=chosen,
                )
            )
        return Cluster(os.environ.get("RAY_ADDRESS", ""), chosen, token_path(), ours=False)
    joined = os.environ.get("RAY_ADDRESS", "")
    if not chosen and joined not in ("", "auto", "local") and (state is None or joined != state.address):
        raise ClusterError(
            say(
                "this process belongs to the Ray cluster at {joined} (RAY_ADDRESS). `minimind cluster "
                "start` did not make that one here, so the address of its dashboard is not known: export "
                "RAY_API_SERVER_ADDRESS=http://HEAD:8265 (HEAD: the cluster's head), or `unset "
                "RAY_ADDRESS` to use a cluster on this machine",
                joined=joined,
            )
        )
    if state is None or not state.ready:
        return None
    condition = _condition(state)
    if condition == "headless":
        raise ClusterError(_headless(state))
    return _ours(state) if condition == "alive" else None


def ensure(tell: Callable[[str], None] = lambda line: None) -> Cluster:
    """The cluster that jobs go to; starts one on this machine if there is none.

    `tell` gets lines for the user: what is started, which ports were taken, what is scarce.

    Raises ClusterError with the end of Ray's own log if it does not start.
    """
    paths.make(paths.home())
    with _lock():
        cluster = find()
        if cluster is not None and not _answers(cluster, within_s=_ANSWER_S):
            silent, cluster = cluster, find()
            if cluster is not None:
                raise ClusterError(_silent(silent))
            # It was dying: killed processes are there until they have given back their memory.
        if cluster is None:
            # Clusters of other homes start one after the other, or two would choose the same free ports.
            with FileLock(_ports_lock(), timeout=180):
                try:
                    return _start(tell)
                except ClusterError as error:
                    # Another program may have taken one of the ports between their choice and their use.
                    tell(say("{problem} Trying once more ...", problem=str(error).splitlines()[0]))
                    return _start(tell)
    return cluster


def training() -> list[str]:
    """The names of the runs and sweeps that processes of the cluster started here are training: `stop` ends them."""
    state = _read_state()
    return [] if state is None else _training(state.mark)


def running(pids: Collection[int] | None = None) -> list[str]:
    """The names of the runs and sweeps below MINIMIND_HOME that a process holds; one of these, of this machine, if
    `pids` are given.
    """
    holders = None if pids is None else {f"process {pid} on {socket.gethostname()}" for pid in pids}
    folders = [path.parent for root in (paths.runs(), paths.sweeps()) for path in sorted(root.glob("[!.]*/spec.json"))]
    held = [run for run in map(RunDirectory, folders) if run.is_running]
    return [run.name for run in held if holders is None or run.holder in holders]


def stop() -> bool:
    """End the cluster that was started here, with all its jobs. False if there was none.

    Jobs end as if the power went; a run continues from its last checkpoint. `training` names them beforehand.
    """
    if not paths.home().is_dir():
        return False
    with _lock():
        state = _read_state()
        if state is None:
            return False
        ended = processes.end(state.mark)
        shutil.rmtree(_private_folder(state.mark), ignore_errors=True)
        state_path().unlink()
        return ended


def _start(tell: Callable[[str], None]) -> Cluster:
    if sys.platform == "win32":
        raise ClusterError(say("A Ray cluster needs Linux or macOS; on Windows use WSL2."))
    old = _read_state()
    if old is not None:
        if old.ready:
            tell(say("The Ray cluster that ran here is gone; starting it again."))
        processes.end(old.mark)
        shutil.rmtree(_private_folder(old.mark), ignore_errors=True)
    make_token(tell)
    ports = machine.free_ports(_DEFAULT_PORTS | (old.ports if old else {}), tell)
    store_bytes = machine.object_store_bytes(tell)
    path = token_path()
    state = _State(
        mark=secrets.token_hex(8),
        address=f"127.0.0.1:{ports['gcs']}",
        dashboard_url=f"http://127.0.0.1:{ports['dashboard']}",
        token_path=None if path is None else str(path),
        ports=ports,
    )
    # Written before the start, so that a start that is cut off leaves nothing behind that `stop` could not end.
    _write_state(state)
    tell(
        say("Starting a Ray cluster on this machine (dashboard {dashboard_url}) ...", dashboard_url=state.dashboard_url)
    )
    command = [
        *(sys.executable, "-m", ray_private.COMMAND, "start", "--head", "--disable-usage-stats"),
        *("--node-ip-address", "127.0.0.1", "--port", str(ports["gcs"])),
        *("--dashboard-host", "127.0.0.1", "--dashboard-port", str(ports["dashboard"])),
        *("--dashboard-agent-listen-port", str(ports["agent"]), "--ray-client-server-port", str(ports["client"])),
        *("--min-worker-port", "0", "--max-worker-port", "0"),  # the kernel chooses, so none can be taken
        *("--object-store-memory", str(store_bytes)),
        "--include-log-monitor=false",  # it sends the workers' output to drivers; ours do not ask for it
        # There Ray notes which cluster its jobs belong to: in the usual place, the newest one on this machine.
        *("--temp-dir", str(_temporary(state.mark, tell))),
        *(f"--num-gpus={count}" for count in [machine.gpus_unseen_by_ray(tell)] if count),
    ]
    variables = {
        **ray_private.QUIET,
        **_inherited(os.environ),
        **environment(_ours(state)),
        MARK: state.mark,
        "MINIMIND_HOME": str(paths.home()),
        "VIRTUAL_ENV": sys.prefix,
        "PYTHONUNBUFFERED": "1",  # a job's log is followed line by line
        "PYTHONDONTWRITEBYTECODE": "",  # containers often set it; then each process compiles all that it imports
        **ray_private.SERVE,
    }
    del variables["RAY_ADDRESS"], variables["RAY_API_SERVER_ADDRESS"], variables["RAY_DASHBOARD_ADDRESS"]
    log = paths.home() / "cluster.log"
    with log.open("wb") as output:
        # A session of its own: Ctrl-C in this terminal does not reach the cluster.
        started = subprocess.run(
            command,
            env=variables,
            cwd=paths.home(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            check=False,
        )
    cluster = _ours(state)
    if started.returncode or not _answers(cluster, within_s=60):
        processes.end(state.mark)
        shutil.rmtree(_private_folder(state.mark), ignore_errors=True)
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:])
        raise ClusterError(
            say(
                "Ray did not start (exit code {returncode}); {log} ends with:\n{tail}",
                returncode=started.returncode,
                log=log,
                tail=tail,
            )
        )
    _write_state(replace(state, ready=True))
    return cluster


def _private_folder(mark: str) -> Path:
    """A folder of this user's alone, around Ray's. Ray lets everybody on the machine write into its own: who does that
    runs code as you, and reads what jobs print.
    """
    return Path("/tmp") / f"mm-{mark[:12]}"


def _temporary(mark: str, tell: Callable[[str], None] = lambda line: None) -> Path:
    """Ray's folder for logs and sockets, in a new private one. A socket's path may have 107 bytes, so names are short.

    Raises ClusterError if somebody else has made that folder.
    """
    private = _private_folder(mark)
    try:
        private.mkdir(mode=0o700)
    except OSError as error:
        raise ClusterError(
            say(
                "{private}, for Ray's sockets and logs, cannot be made: {strerror}",
                private=private,
                strerror=error.strerror,
            )
        ) from None
    return private / "r"


def _ours(state: _State) -> Cluster:
    return Cluster(
        state.address, state.dashboard_url, None if state.token_path is None else Path(state.token_path), ours=True
    )


def _answers(cluster: Cluster, within_s: float) -> bool:
    """Whether the dashboard takes our token. Raises ClusterError if it refuses it."""
    request = urllib.request.Request(
        f"{cluster.dashboard_url}/api/version", headers={"Authorization": f"Bearer {token(cluster)}"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({} if cluster.ours else None))
    end = monotonic() + within_s
    while True:
        try:
            with opener.open(request, timeout=max(within_s, 1)):
                return True
        except urllib.error.HTTPError as error:
            if error.code in (401, 403):
                raise ClusterError(refused(cluster)) from None
        except OSError:
            pass
        if monotonic() > end:
            return False
        sleep(0.1)


def _inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """What a cluster keeps of the shell that starts it. Our own variables are those of a command: a key or a language
    would stay in all jobs and servers to come.
    """
    others = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")
    return {k: v for k, v in environment.items() if k not in others and not k.startswith("MINIMIND_")}


def _silent(cluster: Cluster) -> str:
    if cluster.ours:
        return say(
            "The Ray cluster at {dashboard_url} does not answer: minimind cluster stop, then start it again.",
            dashboard_url=cluster.dashboard_url,
        )
    return say(
        "No Ray cluster answers at {dashboard_url}, which RAY_API_SERVER_ADDRESS names. `unset "
        "RAY_API_SERVER_ADDRESS RAY_ADDRESS` to use one on this machine.",
        dashboard_url=cluster.dashboard_url,
    )


def _condition(state: _State) -> Literal["alive", "headless", "gone"]:
    """headless: something of the cluster works on, and new jobs cannot reach it. One that is dying looks so too, for
    some seconds.
    """
    end = monotonic() + _DYING_S
    while (condition := _condition_now(state)) == "headless" and monotonic() < end:
        sleep(0.2)
    return condition


def _condition_now(state: _State) -> Literal["alive", "headless", "gone"]:
    commands = [" ".join((process.info["cmdline"] or [])[:3]) + " " for process in processes.marked(state.mark)]
    there = {root for root in (*_CORE, _DASHBOARD) if any(root in command for command in commands)}
    if there == {*_CORE, _DASHBOARD}:
        return "alive"
    return "headless" if there.intersection(_CORE) or _training(state.mark) else "gone"


def _headless(state: _State) -> str:
    names = _training(state.mark)
    busy = (
        say(
            "Still training on it: {names} (minimind show NAME; minimind stop NAME ends one "
            "cleanly). They are left alone. When they have ended: ",
            names=", ".join(names),
        )
        if names
        else say("No run is training on it: ")
    )
    return say(
        "The Ray cluster of this machine has lost a part of itself (perhaps its dashboard, at "
        "{dashboard_url}), so that it takes no new jobs. {busy}minimind cluster stop, then "
        "minimind cluster start.",
        dashboard_url=state.dashboard_url,
        busy=busy,
    )


def _training(mark: str) -> list[str]:
    return running({process.pid for process in processes.family(mark)})


def _ports_lock() -> Path:
    """For all homes of this user. Not in the folder for temporary files: there somebody else may have made it."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minimind"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / "ports.lock"


def _lock() -> FileLock:
    return FileLock(state_path().with_suffix(".lock"), timeout=180)


def state_path() -> Path:
    """The file about the cluster that was started on this machine. Machines that share a folder have one each."""
    host = re.sub(r"[^A-Za-z0-9.-]", "_", socket.gethostname()) or "localhost"
    return paths.home() / f"cluster-{host}.json"


def _read_state() -> _State | None:
    try:
        return _State(**json.loads(state_path().read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        raise ClusterError(
            say("{state_path} cannot be read; remove it, and start the cluster again.", state_path=state_path())
        ) from None


def _write_state(state: _State) -> None:
    partial = state_path().with_suffix(".partial")
    partial.write_text(json.dumps(asdict(state), indent=2) + "\n", encoding="utf-8")
    partial.replace(state_path())
