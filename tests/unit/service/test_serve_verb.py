"""What `minimind serve` asks of Ray Serve, and what it refuses before it does."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs import paths, serve
from service.settings import Settings


def config(environment: dict[str, str] | None = None, **flags: Any) -> Any:
    return serve.application(serve.defaults(**flags), environment or {})


def variables(asked: Any) -> Any:
    return asked["applications"][0]["runtime_env"]["env_vars"]


def test_flags_reach_the_settings_of_the_replicas(home: Path) -> None:
    asked = config(
        {"MINIMIND_API_KEY": "a-long-key", "MINIMIND_SERVE_QUEUE": "5", "MINIMIND_SERVE_SLOTS": "1", "PATH": "/bin"},
        slots="3",
        context="99",
        dtype="int8",
        memory_gb=1.5,
        host="0.0.0.0",
        port=81,
    )
    settings = Settings.read(variables(asked))
    assert (settings.slots, settings.context_tokens, settings.dtype, settings.queue) == (3, 99, "int8", 5)
    assert (settings.memory_bytes, settings.api_key) == (1_500_000_000, "a-long-key")
    assert variables(asked)["MINIMIND_HOME"] == str(home)
    assert "PATH" not in variables(asked)
    assert asked["http_options"] == {"host": "0.0.0.0", "port": 81}


def test_without_flags_it_is_what_serve_config_yaml_says(home: Path) -> None:
    written = yaml.safe_load((paths.checkout() / "serve_config.yaml").read_text("utf-8"))
    asked = config()
    variables(written).pop("MINIMIND_SERVE_SLOTS")
    variables(written).update(MINIMIND_HOME=str(home), PYTHONPATH=str(paths.checkout()))
    assert asked == written


@pytest.mark.parametrize(
    ("text", "deployment"),
    [
        ("3", {"num_replicas": 3}),
        ("1-4", {"autoscaling_config": {"min_replicas": 1, "max_replicas": 4, "target_ongoing_requests": 16}}),
    ],
)
def test_replicas_are_a_number_or_follow_the_load(home: Path, text: str, deployment: Any) -> None:
    assert config(replicas=text)["applications"][0]["deployments"] == [{"name": "models", **deployment}]


@pytest.mark.parametrize("text", ["0", "-1", "many", "4-1", "1-", "-", "1.5"])
def test_other_replicas_are_refused(home: Path, text: str) -> None:
    with pytest.raises(ValueError, match=f"--replicas {text}: .*such as 1-4"):
        config(replicas=text)


def test_an_open_address_needs_a_key() -> None:
    for host in ("127.0.0.1", "localhost", "::1"):
        serve.require_key(host, None)
    serve.require_key("0.0.0.0", "a-long-key")
    for host in ("0.0.0.0", "192.168.1.5", "example.org", "::"):
        with pytest.raises(ValueError, match=f"--host {host}: .*MINIMIND_API_KEY"):
            serve.require_key(host, "")


def test_a_port_that_is_taken_is_told_with_its_holder() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(ValueError, match=rf"port {port} of 127.0.0.1 .*process {os.getpid()}\).*--port {port + 1}"):
            serve.require_free("127.0.0.1", port)
    serve.require_free("127.0.0.1", port)
    with pytest.raises(ValueError, match="--port 70000: a port is"):
        serve.require_free("127.0.0.1", 70_000)
    with pytest.raises(ValueError, match="port 80 of 203.0.113.9 cannot be used"):
        serve.require_free("203.0.113.9", 80)


def test_addresses_to_open() -> None:
    assert serve.url("127.0.0.1", 8000) == "http://127.0.0.1:8000"
    assert serve.url("0.0.0.0", 8000) == "http://127.0.0.1:8000"
    assert serve.url("::1", 1) == "http://[::1]:1"


def test_without_a_cluster_there_is_no_server(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    assert serve.running_url() is None
    assert not serve.stop()
