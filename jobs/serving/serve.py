"""`minimind serve`: the endpoint and the chat page on the cluster, where they stay until `minimind serve --stop`.

The application is given to Serve by name, through the same REST interface as `serve deploy`. Nothing of it is imported
here, and no process has to stay.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Literal

import psutil
import requests
from pydantic import Field, ValidationError
from rich.console import Console
from rich.text import Text

from jobs import paths
from jobs.cluster import access
from jobs.cluster import local as cluster
from jobs.cluster.access import Cluster, ClusterError
from jobs.serving.keys import API_KEY, API_KEY_FILE, read_key
from jobs.terminal.words import language
from minimind.config import Config, explain

APPLICATION = "minimind"
IMPORT_PATH = "service.app:app"
DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8000
START_S = 180.0

_SHORTEST_KEY = 8
_KEY_FILES = "api_key."


PREFIX = "MINIMIND_SERVE_"

Json = dict[str, Any]


class Asked(Config):
    """What a server may be told, checked before it is deployed; None leaves it to the server. The replicas read it as
    `service.settings.Settings`, which allows the same.
    """

    memory_bytes: int | None = Field(default=None, gt=0)
    slots: int | None = Field(default=None, ge=1, le=1024)
    context_tokens: int | None = Field(default=None, ge=16)
    queue: int | None = Field(default=None, ge=0)
    dtype: Literal["auto", "float32", "bfloat16", "int8"] | None = None
    threads: int | None = Field(default=None, ge=1)
    load_timeout_s: float | None = Field(default=None, gt=0)


_FLAGS = {"slots": "--slots", "context_tokens": "--context", "dtype": "--dtype", "memory_bytes": "--memory_gb"}


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
    console.print(Text.assemble(f"{_say('The server runs')}: ", (address, "bold")))
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
    key_file = _variables(config).get(API_KEY_FILE)
    require_key(host, key_file)
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
    for line in changes(running, config):
        console.print(line, style="dim")
    api.deploy(config)
    with console.status(_say("starting the server")):
        _wait(api)
    _forget_keys(but=key_file)
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
    _forget_keys()
    return True


def application(args: argparse.Namespace, environment: Mapping[str, str]) -> Json:
    """What Serve is asked for, as in serve_config.yaml: the flags, and below them the variables of `environment`.

    Every variable that a replica reads is given, "" for none: it would otherwise have what the shell had when the
    cluster was started. A key goes into a file, for Ray writes all variables into a log that everybody may read.

    Raises ValueError, before anything is deployed, for what no server can be told.
    """
    require_port(args.port)
    variables = {
        "MINIMIND_HOME": str(paths.home()),
        "OMP_WAIT_POLICY": "PASSIVE",
        **_settings(args, environment),
        API_KEY: "",
        API_KEY_FILE: str(_key_file(key)) if (key := api_key(environment)) else "",
    }
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


def api_key(environment: Mapping[str, str]) -> str | None:
    """The key that clients must send; None where nobody is asked. Raises ValueError for one that not all can send."""
    key = read_key(environment)
    if key is not None and len(key) < _SHORTEST_KEY:
        raise ValueError(f"{API_KEY}: a key has at least {_SHORTEST_KEY} characters, this one has {len(key)}")
    return key


def changes(running: Json, config: Json) -> list[str]:
    """What a running server has other than what it is asked for now, a line for each setting."""
    before = running.get("applications", {}).get(APPLICATION, {}).get("deployed_app_config")
    if not before:
        return []
    old, new = _variables(before), _variables(config)
    lines = []
    for name in Asked.model_fields:
        was, is_now = (found.get(PREFIX + name.upper()) or _say("the default") for found in (old, new))
        if was != is_now:
            lines.append(f"{_named(name)}: {is_now} ({_say('before')}: {was})")
    if old.get(API_KEY_FILE) != new.get(API_KEY_FILE):
        lines.append(f"{API_KEY}: {_say('another one') if new.get(API_KEY_FILE) else _say('none')}")
    return lines


def require_key(host: str, key: str | None) -> None:
    """Raises ValueError if others than this machine could come in without a key. key: it, or the file it is in."""
    if not key and not _is_loopback(host):
        raise ValueError(
            f"--host {host}: others could use this server, so it needs a key: export MINIMIND_API_KEY=… (clients send "
            f"it as 'Authorization: Bearer …'), or keep --host {DEFAULT_HOST} and reach it through `ssh -L`"
        )


def require_port(port: int) -> None:
    """Raises ValueError for a number that no port has, or that means any port: a server has one address."""
    if not 1 <= port <= 65535:
        raise ValueError(f"--port {port}: a port is a number from 1 to 65535")


def require_free(host: str, port: int) -> None:
    """Raises ValueError that says who listens on the port, and what to do."""
    require_port(port)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
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


def _settings(args: argparse.Namespace, environment: Mapping[str, str]) -> dict[str, str]:
    """Every variable of the server's settings, "" where it is left to the server. Raises ValueError."""
    known = {PREFIX + name.upper(): name for name in Asked.model_fields}
    given = {name: value for name, value in environment.items() if name.startswith(PREFIX) and value}
    if unknown := sorted(given.keys() - known.keys()):
        raise ValueError(f"{', '.join(unknown)}: there is no such setting; there are {', '.join(known)}")
    asked: dict[str, str] = {known[name]: value for name, value in given.items()}
    flags = {"slots": args.slots, "context_tokens": args.context, "dtype": args.dtype}
    if args.memory_gb is not None:
        flags["memory_bytes"] = f"{args.memory_gb * 1e9:.0f}"
    asked |= {name: value for name, value in flags.items() if value is not None}
    try:
        Asked.model_validate(asked)
    except ValidationError as error:
        lines = [line.partition(" = ") for line in explain(error).splitlines()]
        raise ValueError(
            "\n".join(f"{_named(name) if name in flags else PREFIX + name.upper()} = {rest}" for name, _, rest in lines)
        ) from None
    return {variable: asked.get(name, "") for variable, name in known.items()}


def _named(setting: str) -> str:
    return _FLAGS.get(setting, PREFIX + setting.upper())


def _variables(config: Json) -> dict[str, str]:
    """The environment of the replicas, in what Serve is or was asked for."""
    applications = config.get("applications", [config])
    found: dict[str, str] = applications[0].get("runtime_env", {}).get("env_vars", {})
    return found


def _key_file(key: str) -> Path:
    """The file below MINIMIND_HOME that holds the key, for this user alone; one that holds it already is kept, so that
    nothing has changed. Its name says nothing of the key.
    """
    folder = paths.make(paths.home())
    for file in folder.glob(f"{_KEY_FILES}*"):
        if file.read_text("utf-8") == key:
            return file
    file = folder / f"{_KEY_FILES}{secrets.token_hex(4)}"
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        stream.write(key)
    return file


def _forget_keys(but: str | None = None) -> None:
    """Remove the files of keys, but for this one."""
    for file in paths.home().glob(f"{_KEY_FILES}*"):
        if str(file) != but:
            file.unlink(missing_ok=True)


class _Api:
    """Serve's REST interface on the cluster's dashboard."""

    def __init__(self, there: Cluster) -> None:
        self._there = there
        self._url = f"{there.dashboard_url}/api/serve/applications/"
        self._session = requests.Session()
        self._session.trust_env = not there.ours  # a proxy for the web is none for loopback
        self._session.headers["Authorization"] = f"Bearer {access.token(there)}"

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
            raise ClusterError(access.refused(self._there))
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
    "the default": "默认值",
    "before": "之前",
    "another one": "已更换",
    "none": "无",
    "No server is running.": "没有正在运行的服务。",
    "The server has ended.": "服务已停止。",
}


def _say(text: str) -> str:
    return _ZH[text] if language() == "zh" else text
