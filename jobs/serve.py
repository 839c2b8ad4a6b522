"""`minimind serve`: the endpoint and the chat page on the cluster, where they stay until `minimind serve --stop`.

The application is given to Serve by name, through the same REST interface as `serve deploy`. Nothing of it is imported
here, and no process has to stay.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import socket
from collections.abc import Mapping
from time import monotonic, sleep
from typing import Any

import psutil
import requests
from rich.console import Console

from jobs import cluster, paths
from jobs.cluster import Cluster, ClusterError
from jobs.keys import API_KEY, read_key
from jobs.words import language

APPLICATION = "minimind"
IMPORT_PATH = "service.app:app"
DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8000
START_S = 180.0

Json = dict[str, Any]


def add_parser(verbs: argparse._SubParsersAction[Any]) -> None:
    """The verb `serve`."""
    parser = verbs.add_parser("serve", help="your models behind an OpenAI-compatible endpoint, with a chat page")
    parser.add_argument("--host", default=DEFAULT_HOST, help=f"address to listen on (default: {DEFAULT_HOST})")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help=f"(default: {DEFAULT_PORT})")
    parser.add_argument("--slots", metavar="N", help="answers that one model writes at the same time")
    parser.add_argument("--context", metavar="N", help="longest prompt with its answer, in tokens")
    parser.add_argument("--dtype", help="auto, float32, bfloat16 or int8: precision of the weights")
    parser.add_argument("--memory_gb", type=float, metavar="X", help="for weights and KV caches of one replica")
    parser.add_argument("--replicas", default="1", metavar="N|MIN-MAX", help="processes with models (default: 1)")
    parser.add_argument("--stop", action="store_true", help="end the server")
    parser.set_defaults(command=serve)


def serve(args: argparse.Namespace, console: Console) -> int:
    """Start the server, or change a running one, and say where it is; with --stop end it."""
    if args.stop:
        console.print(_say("The server has ended." if stop() else "No server is running."))
        return 0
    address = start(application(args, os.environ), console)
    console.print(f"{_say('The server runs')}: [bold]{address}[/]", highlight=False)
    console.print(f"  {_say('chat page')}: {address}/")
    console.print(f"  {_say('OpenAI API')}: {address}/v1   (docs/http-api.md)")
    console.print(f"  {_say('in the terminal')}: minimind chat")
    console.print(f"  {_say('end it')}: minimind serve --stop")
    return 0


def defaults(**changes: Any) -> argparse.Namespace:
    """The flags of `minimind serve`, as they are when none is given, with changes."""
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    return argparse.Namespace(**(vars(parser.parse_args(["serve"])) | changes))


def start(config: Json, console: Console) -> str:
    """Start the server of `application`, or change a running one; gives its address once it answers.

    Raises ValueError where its address cannot be had, ClusterError where Serve does not bring it up.
    """
    host, port = config["http_options"]["host"], config["http_options"]["port"]
    require_key(host, read_key(os.environ))
    if cluster.find() is None:
        require_free(host, port)
    api = _Api(cluster.ensure(lambda line: console.print(line, style="dim")))
    running = api.details()
    if listening := _listening(running):
        if listening != (host, port):
            raise ValueError(
                f"a server of this cluster runs already, at {url(*listening)}: end it with `minimind serve --stop`, "
                f"then start it at {url(host, port)}"
            )
    else:
        require_free(host, port)
    others = sorted(set(running.get("applications", {})) - {APPLICATION})
    if others:
        raise ValueError(
            f"this cluster serves {', '.join(others)} too, which would go: put all of them into one file, as in "
            f"serve_config.yaml, and `serve deploy` that"
        )
    api.deploy(config)
    with console.status(_say("starting the server")):
        _wait(api)
    return url(host, port)


def stop() -> bool:
    """End the server of this machine's cluster. False if there is none."""
    there = cluster.find()
    if there is None or not _listening((api := _Api(there)).details()):
        return False
    api.delete()
    end = monotonic() + 60
    while _listening(api.details()) and monotonic() < end:
        sleep(0.2)
    return True


def application(args: argparse.Namespace, environment: Mapping[str, str]) -> Json:
    """What Serve is asked for, as in serve_config.yaml. Raises ValueError for a bad --replicas or key."""
    variables = {
        "MINIMIND_HOME": str(paths.home()),
        "OMP_WAIT_POLICY": "PASSIVE",
        **{name: value for name, value in environment.items() if name.startswith("MINIMIND_SERVE_")},
    }
    if key := read_key(environment):
        variables[API_KEY] = key
    given = {
        "SLOTS": args.slots,
        "CONTEXT_TOKENS": args.context,
        "DTYPE": args.dtype,
        "MEMORY_BYTES": None if args.memory_gb is None else str(int(args.memory_gb * 1e9)),
    }
    variables |= {f"MINIMIND_SERVE_{name}": value for name, value in given.items() if value is not None}
    if "working_dir_files" not in paths.checkout().parts:  # Ray's copy of a checkout goes with the job that brought it
        variables["PYTHONPATH"] = str(paths.checkout())
    return {
        "http_options": {"host": args.host, "port": args.port},
        "applications": [
            {
                "name": APPLICATION,
                "route_prefix": "/",
                "import_path": IMPORT_PATH,
                "runtime_env": {"env_vars": variables},
                "deployments": [{"name": "models", **_replicas(args.replicas)}],
            }
        ],
    }


def require_key(host: str, key: str | None) -> None:
    """Raises ValueError if others than this machine could come in without a key."""
    if not key and not _is_loopback(host):
        raise ValueError(
            f"--host {host}: others could use this server, so it needs a key: export MINIMIND_API_KEY=… (clients send "
            f"it as 'Authorization: Bearer …'), or keep --host {DEFAULT_HOST} and reach it through `ssh -L`"
        )


def require_free(host: str, port: int) -> None:
    """Raises ValueError that says who listens on the port, and what to do."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OverflowError:
            raise ValueError(f"--port {port}: a port is a number from 0 to 65535") from None
        except OSError as error:
            raise ValueError(
                f"port {port} of {host} cannot be used ({error.strerror}{_listener(port)}): end what listens there, or "
                f"take another one, such as --port {port + 1}"
            ) from None


def url(host: str, port: int) -> str:
    """The address to open in a browser."""
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"


def running_url() -> str | None:
    """Where the server of this machine's cluster listens, if there is one."""
    try:
        there = cluster.find()
        return url(*found) if there and (found := _listening(_Api(there).details())) else None
    except ClusterError:
        return None


class _Api:
    """Serve's REST interface on the cluster's dashboard."""

    def __init__(self, there: Cluster) -> None:
        self._there = there
        self._url = f"{there.dashboard_url}/api/serve/applications/"
        self._session = requests.Session()
        self._session.trust_env = not there.ours  # a proxy for the web is none for loopback
        self._session.headers["Authorization"] = f"Bearer {cluster.token(there)}"

    def details(self) -> Json:
        return self._ask("GET")

    def deploy(self, config: Json) -> None:
        self._ask("PUT", config)

    def delete(self) -> None:
        self._ask("DELETE")

    def _ask(self, method: str, body: Json | None = None) -> Json:
        try:
            response = self._session.request(method, self._url, json=body, timeout=60)
        except requests.RequestException as error:
            raise ClusterError(
                f"The Ray cluster at {self._there.dashboard_url} does not answer ({type(error).__name__}): "
                f"minimind cluster stop, then start it again."
            ) from None
        if response.status_code in (401, 403):
            raise ClusterError(cluster.refused(self._there))
        if not response.ok:
            raise ClusterError(f"Ray Serve refuses to {method} ({response.status_code}): {response.text[-2000:]}")
        details: Json = response.json() if response.text else {}
        return details


def _wait(api: _Api) -> None:
    end = monotonic() + START_S
    while True:
        details = api.details()
        state = details.get("applications", {}).get(APPLICATION, {})
        proxies = [proxy.get("status") for proxy in details.get("proxies", {}).values()]
        if state.get("status") == "RUNNING" and "HEALTHY" in proxies:
            return
        if state.get("status") == "DEPLOY_FAILED" or monotonic() > end:
            raise ClusterError(_failed(state, proxies))
        sleep(0.3)


def _failed(state: Json, proxies: list[Any]) -> str:
    parts = [str(state.get("message", "")).strip()]
    parts += [
        f"{name}: {item['message'].strip()}" for name, item in state.get("deployments", {}).items() if item["message"]
    ]
    text = "\n".join(filter(None, parts)) or f"its HTTP process is {proxies or 'not there'}"
    return f"The server did not start ({state.get('status', 'no answer')}):\n{text[-3000:]}"


def _listening(details: Json) -> tuple[str, int] | None:
    options = details.get("http_options")
    if not options or not details.get("applications"):
        return None
    return str(options["host"]), int(options["port"])


def _replicas(text: str) -> Json:
    least, dash, most = text.partition("-")
    if not least.isdecimal() or (dash and not most.isdecimal()) or int(least) < 1 or (dash and int(most) < int(least)):
        raise ValueError(f"--replicas {text}: a number of at least 1, or a range such as 1-4, which follows the load")
    if not dash:
        return {"num_replicas": int(least)}
    return {
        "autoscaling_config": {"min_replicas": int(least), "max_replicas": int(most), "target_ongoing_requests": 16}
    }


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listener(port: int) -> str:
    """Who listens on the port, as far as this user may know."""
    names = []
    for process in psutil.process_iter(["pid", "name"]):
        try:
            listens = any(
                link.status == psutil.CONN_LISTEN and link.laddr.port == port
                for link in process.net_connections("inet")
            )
        except psutil.Error:
            continue
        if listens:
            names.append(f"{process.info['name']}, process {process.info['pid']}")
    return f", by {'; '.join(names)}" if names else ""


_ZH = {
    "starting the server": "正在启动服务",
    "The server runs": "服务已启动",
    "chat page": "聊天网页",
    "OpenAI API": "OpenAI 接口",
    "in the terminal": "在终端聊天",
    "end it": "停止服务",
    "No server is running.": "没有正在运行的服务。",
    "The server has ended.": "服务已停止。",
}


def _say(text: str) -> str:
    return _ZH[text] if language() == "zh" else text
