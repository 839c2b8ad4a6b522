"""How a program reaches a Ray cluster: its addresses, and the token without which nobody runs code on it."""

from __future__ import annotations

import os
import secrets
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from minimind.language import say


class ClusterError(RuntimeError):
    """The cluster is not there, does not answer, or cannot be started."""


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster.

    `address` is that of its control store (host:port, empty where only the dashboard is known), `dashboard_url` that
    of the Jobs API. `token_path` is None where the token comes from RAY_AUTH_TOKEN. `ours` says that it was started
    here and may be ended here.
    """

    address: str
    dashboard_url: str
    token_path: Path | None
    ours: bool


def environment(cluster: Cluster) -> dict[str, str]:
    """The variables with which `ray job submit` and `ray status` reach `cluster`, over those of this process.

    The literal commands need them: the Ray client neither finds another port than 8265 nor sends a token by itself.
    """
    own_bin = str(Path(sys.executable).parent)
    elsewhere = [part for part in os.environ.get("PATH", os.defpath).split(os.pathsep) if part != own_bin]
    variables = {
        "PATH": os.pathsep.join([own_bin, *elsewhere]),
        "RAY_AUTH_MODE": "token",
        "RAY_API_SERVER_ADDRESS": cluster.dashboard_url,
        "RAY_DASHBOARD_ADDRESS": cluster.dashboard_url,  # what `serve deploy` reads
    }
    if cluster.address:
        variables["RAY_ADDRESS"] = cluster.address
    if cluster.token_path is not None:
        variables["RAY_AUTH_TOKEN_PATH"] = str(cluster.token_path)
        if os.environ.get("RAY_AUTH_TOKEN"):
            variables["RAY_AUTH_TOKEN"] = ""  # it would win over the path, and is that of another cluster
    if cluster.ours:
        variables |= loopback()
    return variables


def exports(cluster: Cluster) -> str:
    """`environment` as lines for a shell: eval "$(minimind cluster env)"."""
    variables = environment(cluster)
    own_bin = variables.pop("PATH").split(os.pathsep)[0]
    lines = [f'export PATH={shlex.quote(own_bin)}:"$PATH"']
    return "\n".join(lines + [f"export {name}={shlex.quote(value)}" for name, value in variables.items()])


def token_path() -> Path | None:
    """Where Ray looks for the token: $RAY_AUTH_TOKEN_PATH, else ~/.ray/auth_token; None if RAY_AUTH_TOKEN holds it."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return None
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser().absolute()


def token(cluster: Cluster) -> str:
    """The token of `cluster`. Raises ClusterError if there is none."""
    path = cluster.token_path
    if path is None:
        text = os.environ.get("RAY_AUTH_TOKEN", "").strip()
        place = say("RAY_AUTH_TOKEN, with which the cluster was started")
    else:
        text, place = path.read_text(encoding="utf-8").strip() if path.is_file() else "", str(path)
    if not text:
        raise ClusterError(
            say(
                "There is no Ray token in {place}. `minimind cluster start` makes one; for a cluster on "
                "another machine copy its token to this place, or name the file in RAY_AUTH_TOKEN_PATH.",
                place=place,
            )
        )
    return text


def make_token(tell: Callable[[str], None]) -> None:
    """Make the token where there is none, readable by this user alone; mend a mode that lets others in."""
    path = token_path()
    if path is None:
        return
    if path.is_file() and path.read_text(encoding="utf-8").strip():
        if path.stat().st_mode & 0o077:
            try:
                path.chmod(0o600)
            except PermissionError:
                tell(
                    say(
                        "{path} can be read by others on this machine: chmod 600 {quote}",
                        path=path,
                        quote=shlex.quote(str(path)),
                    )
                )
            else:
                tell(say("{path} could be read by others on this machine; now by you alone.", path=path))
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(secrets.token_hex(32))
    tell(say("Made a Ray token in {path}.", path=path))


def sharing(cluster: Cluster) -> str:
    """How another machine gets access, in words."""
    source = "RAY_AUTH_TOKEN" if cluster.token_path is None else str(cluster.token_path)
    return say(
        "Who has the token runs code on this cluster. It is in {source}.\nA local cluster listens "
        "on this machine only: other machines cannot join it. For several machines start from\n"
        "ray_cluster.yaml, and give every one of them the same token before Ray starts "
        "there:\n    scp {source} OTHER:.ray/auth_token && ssh OTHER chmod 600 "
        ".ray/auth_token\n    export RAY_AUTH_MODE=token        # on every machine, in ~/.bashrc\n"
        "The token is not encrypted on the way: use it in a network that you trust, or through "
        "ssh -L.",
        source=source,
    )


def require_token(environment: Mapping[str, str]) -> None:
    """Raise ValueError unless the cluster asks for a token, by the environment of one of its processes: a server's
    replica listens on all addresses and unpickles what comes, so without one the whole network could run code here.
    """
    mode = environment.get("RAY_AUTH_MODE", "")
    if mode.lower() != "token":
        raise ValueError(
            say(
                "RAY_AUTH_MODE = {mode!r} on this cluster: whoever reaches a replica of the server runs "
                "code on it, so it starts only where Ray asks for a token. Use `minimind cluster start` "
                "or ray_cluster.yaml, or start Ray with RAY_AUTH_MODE=token and one token in "
                "~/.ray/auth_token on every machine",
                mode=mode,
            )
        )


def refused(cluster: Cluster) -> str:
    """What to say when the cluster does not take our token."""
    return say(
        "The Ray cluster at {dashboard_url} refuses the token in {token_path}: it was started with another one. ",
        dashboard_url=cluster.dashboard_url,
        token_path=cluster.token_path or "RAY_AUTH_TOKEN",
    ) + (
        say("minimind cluster stop, then start it again.")
        if cluster.ours
        else say("Copy the token of that cluster to this place.")
    )


def loopback() -> dict[str, str]:
    """Keeps Ray on 127.0.0.1, which it otherwise replaces by the address on the network, and a proxy out of it."""
    spared = [name for name in os.environ.get("NO_PROXY", os.environ.get("no_proxy", "")).split(",") if name]
    spared += [name for name in ("127.0.0.1", "localhost") if name not in spared]
    return {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "NO_PROXY": ",".join(spared),
        "no_proxy": ",".join(spared),
    }
