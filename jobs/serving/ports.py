"""Where a server may listen: its address, whether it is free, and whether others could come in there."""

from __future__ import annotations

import ipaddress
import socket

import psutil

from minimind.language import say

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8000


def require_key(host: str, key: str | None) -> None:
    """Raises ValueError if others than this machine could come in without a key. key: it, or the file it is in."""
    if not key and not is_loopback(host):
        raise ValueError(
            say(
                "--host {host}: others could use this server, so it needs a key: export "
                "MINIMIND_API_KEY=… (clients send it as 'Authorization: Bearer …'), or keep --host "
                "{default_host} and reach it through `ssh -L`",
                host=host,
                default_host=DEFAULT_HOST,
            )
        )


def require_port(port: int) -> None:
    """Raises ValueError for a number that no port has, or that means any port: a server has one address."""
    if not 1 <= port <= 65535:
        raise ValueError(say("--port {port}: a port is a number from 1 to 65535", port=port))


def require_port_free(host: str, port: int) -> None:
    """Raises ValueError that says who listens on the port, and what to do."""
    require_port(port)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ValueError(
                say(
                    "port {port} of {host} cannot be used ({strerror}{listener}): end what listens there, or "
                    "take another one, such as --port {other}",
                    port=port,
                    host=host,
                    strerror=error.strerror,
                    listener=_listener(port),
                    other=port + 1,
                )
            ) from None


def url(host: str, port: int) -> str:
    """The address to open in a browser."""
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"


def is_loopback(host: str) -> bool:
    """Whether the name or address stands for this machine alone. host: without a port."""
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
            names.append(say("{name}, process {pid}", name=process.info["name"], pid=process.info["pid"]))
    return say(", by {names}", names="; ".join(names)) if names else ""
