"""The endpoint and the chat page on the cluster, where they stay until they are ended.

The application is given to Serve by name, through the same REST interface as `serve deploy`. Nothing of it is imported
here, and no process has to stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any, Literal

from pydantic import Field, ValidationError
from rich.console import Console

from jobs import paths
from jobs.cluster import local as cluster
from jobs.cluster.access import ClusterError
from jobs.endpoints.keys import API_KEY, API_KEY_FILE, kept_key, read_key
from jobs.serving.ports import DEFAULT_HOST, DEFAULT_PORT, require_key, require_port, require_port_free, url
from jobs.serving.rest import Json, ServeApi, listening
from minimind.config import Config, explain
from minimind.language import VARIABLE, say

APPLICATION = "minimind"
IMPORT_PATH = "service.app:app"
START_S = 180.0
PREFIX = "MINIMIND_SERVE_"

_SHORTEST_KEY = 8
_KEY_FILES = "api_key."
_FLAGS = {"slots": "--slots", "context_tokens": "--context", "dtype": "--dtype", "memory_bytes": "--memory_gb"}


@dataclass(frozen=True)
class ServeFlags:
    """What `minimind serve` may be told on its command line; texts are read by `Asked`."""

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    slots: str | None = None
    context: str | None = None
    dtype: str | None = None
    memory_gb: float | None = None
    replicas: str = "1"


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


def start(config: Json, console: Console) -> str:
    """Start the server of `application`, or change a running one; gives its address once it answers.

    Raises ValueError where its address cannot be had, ClusterError where Serve does not bring it up.
    """
    host, port = config["http_options"]["host"], config["http_options"]["port"]
    key_file = _variables(config).get(API_KEY_FILE)
    require_key(host, key_file)
    if cluster.find() is None:
        require_port_free(host, port)
    api = ServeApi(cluster.ensure(lambda line: console.print(line, style="dim")))
    running = api.details()
    if there := listening(running):
        if there != (host, port):
            raise ValueError(
                say(
                    "a server of this cluster runs already, at {url}: end it with `minimind serve --stop`, "
                    "then start it at {wanted}",
                    url=url(*there),
                    wanted=url(host, port),
                )
            )
    else:
        require_port_free(host, port)
    others = sorted(set(running.get("applications", {})) - {APPLICATION})
    if others:
        raise ValueError(
            say(
                "this cluster serves {others} too, which would go: put all of them into one file, as in "
                "serve_config.yaml, and `serve deploy` that",
                others=", ".join(others),
            )
        )
    for line in changes(running, config):
        console.print(line, style="dim")
    api.deploy(config)
    with console.status(say("starting the server")):
        _wait(api)
    _forget_keys(but=key_file)
    return url(host, port)


def stop() -> bool:
    """End the server of this machine's cluster. False if there is none."""
    there = cluster.find()
    if there is None or not listening((api := ServeApi(there)).details()):
        return False
    api.delete()
    end = monotonic() + 60
    while listening(api.details()) and monotonic() < end:
        sleep(0.2)
    _forget_keys()
    return True


def application(wanted: ServeFlags, environment: Mapping[str, str]) -> Json:
    """What Serve is asked for, as in serve_config.yaml: the flags, and below them the variables of `environment`.

    Every variable that a replica reads is given, "" for none: it would otherwise have what the shell had when the
    cluster was started. A key goes into a file, for Ray writes all variables into a log that everybody may read.

    Raises ValueError, before anything is deployed, for what no server can be told.
    """
    require_port(wanted.port)
    variables = {
        "MINIMIND_HOME": str(paths.home()),
        "OMP_WAIT_POLICY": "PASSIVE",
        VARIABLE: "en",  # programs read what it says, whatever the language of the shell
        **_settings(wanted, environment),
        API_KEY: "",
        API_KEY_FILE: str(kept_key(key, paths.make(paths.home()), _KEY_FILES)) if (key := api_key(environment)) else "",
    }
    if "working_dir_files" not in paths.checkout().parts:  # Ray's copy of a checkout goes with the job that brought it
        variables["PYTHONPATH"] = str(paths.checkout())
    return {
        "http_options": {"host": wanted.host, "port": wanted.port},
        "applications": [
            {
                "name": APPLICATION,
                "route_prefix": "/",
                "import_path": IMPORT_PATH,
                "runtime_env": {"env_vars": variables},
                "deployments": [{"name": "models", **_replicas(wanted.replicas)}],
            }
        ],
    }


def api_key(environment: Mapping[str, str]) -> str | None:
    """The key that clients must send; None where nobody is asked. Raises ValueError for one that not all can send."""
    key = read_key(environment)
    if key is not None and len(key) < _SHORTEST_KEY:
        raise ValueError(
            say(
                "{api_key}: a key has at least {shortest_key} characters, this one has {key}",
                api_key=API_KEY,
                shortest_key=_SHORTEST_KEY,
                key=len(key),
            )
        )
    return key


def changes(running: Json, config: Json) -> list[str]:
    """What a running server has other than what it is asked for now, a line for each setting."""
    before = running.get("applications", {}).get(APPLICATION, {}).get("deployed_app_config")
    if not before:
        return []
    old, new = _variables(before), _variables(config)
    lines = []
    for name in Asked.model_fields:
        was, is_now = (found.get(PREFIX + name.upper()) or say("the default") for found in (old, new))
        if was != is_now:
            lines.append(f"{_named(name)}: {is_now} ({say('before')}: {was})")
    if old.get(API_KEY_FILE) != new.get(API_KEY_FILE):
        lines.append(f"{API_KEY}: {say('another one') if new.get(API_KEY_FILE) else say('none')}")
    return lines


def running_url() -> str | None:
    """Where the server of this machine's cluster listens, if there is one."""
    try:
        there = cluster.find()
        return url(*found) if there and (found := listening(ServeApi(there).details())) else None
    except ClusterError:
        return None


def _settings(wanted: ServeFlags, environment: Mapping[str, str]) -> dict[str, str]:
    """Every variable of the server's settings, "" where it is left to the server. Raises ValueError."""
    known = {PREFIX + name.upper(): name for name in Asked.model_fields}
    given = {name: value for name, value in environment.items() if name.startswith(PREFIX) and value}
    if unknown := sorted(given.keys() - known.keys()):
        raise ValueError(
            say(
                "{unknown}: there is no such setting; there are {known}",
                unknown=", ".join(unknown),
                known=", ".join(known),
            )
        )
    asked: dict[str, str] = {known[name]: value for name, value in given.items()}
    flags = {"slots": wanted.slots, "context_tokens": wanted.context, "dtype": wanted.dtype}
    if wanted.memory_gb is not None:
        flags["memory_bytes"] = f"{wanted.memory_gb * 1e9:.0f}"
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


def _forget_keys(but: str | None = None) -> None:
    """Remove the files of keys, but for this one."""
    for file in paths.home().glob(f"{_KEY_FILES}*"):
        if str(file) != but:
            file.unlink(missing_ok=True)


def _wait(api: ServeApi) -> None:
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
    text = "\n".join(filter(None, parts)) or say("its HTTP process is {proxies}", proxies=proxies or say("not there"))
    return say(
        "The server did not start ({get}):\n{text}", get=state.get("status", say("no answer")), text=text[-3000:]
    )


def _replicas(text: str) -> Json:
    least, dash, most = text.partition("-")
    if not least.isdecimal() or (dash and not most.isdecimal()) or int(least) < 1 or (dash and int(most) < int(least)):
        raise ValueError(
            say("--replicas {text}: a number of at least 1, or a range such as 1-4, which follows the load", text=text)
        )
    if not dash:
        return {"num_replicas": int(least)}
    return {
        "autoscaling_config": {"min_replicas": int(least), "max_replicas": int(most), "target_ongoing_requests": 16}
    }
