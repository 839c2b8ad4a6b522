"""What `minimind serve` asks of Ray Serve, and what it refuses before it does."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs import paths
from jobs.serving import ports
from jobs.serving import server as serving
from service.settings import Settings


def config(environment: dict[str, str] | None = None, **flags: Any) -> Any:
    return serving.application(serving.ServeFlags(**flags), environment or {})


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
    assert "a-long-key" not in str(asked)  # Ray writes all of it into a log that everybody may read
    assert variables(asked)["MINIMIND_HOME"] == str(home)
    assert "PATH" not in variables(asked)
    assert asked["http_options"] == {"host": "0.0.0.0", "port": 81}


def test_without_flags_it_is_what_serve_config_yaml_says(home: Path) -> None:
    written = yaml.safe_load((paths.checkout() / "serve_config.yaml").read_text("utf-8"))
    asked = config()
    applied = asked["applications"][0]["runtime_env"]
    assert {name for name, value in applied["env_vars"].items() if not value} == {
        *(f"MINIMIND_SERVE_{name.upper()}" for name in serving.Asked.model_fields),
        "MINIMIND_API_KEY",
        "MINIMIND_API_KEY_FILE",
    }
    applied["env_vars"] = {name: value for name, value in applied["env_vars"].items() if value}
    variables(written).pop("MINIMIND_SERVE_SLOTS")
    variables(written).update(MINIMIND_HOME=str(home), PYTHONPATH=str(paths.checkout()))
    assert asked == written


def test_what_a_server_may_be_told_is_what_its_replicas_take() -> None:
    theirs = {name: field.metadata for name, field in Settings.model_fields.items() if name != "api_key"}
    assert {name: field.metadata for name, field in serving.Asked.model_fields.items()} == theirs
    for value in ("auto", "float32", "bfloat16", "int8"):
        assert Settings.read({"MINIMIND_SERVE_DTYPE": value}).dtype == serving.Asked(dtype=value).dtype


@pytest.mark.parametrize(
    ("flags", "environment", "words"),
    [
        ({"slots": "0"}, {}, r"^--slots = '0': Input should be greater than or equal to 1"),
        ({"slots": "many"}, {}, r"^--slots = 'many': Input should be a valid integer"),
        ({"dtype": "fp8"}, {}, r"^--dtype = 'fp8': Input should be 'auto', "),
        ({"context": "5"}, {}, r"^--context = '5': .*16"),
        ({"memory_gb": -1.0}, {}, r"^--memory_gb = '-1000000000': Input should be greater than 0"),
        ({"memory_gb": float("nan")}, {}, r"^--memory_gb = 'nan'"),
        ({}, {"MINIMIND_SERVE_QUEUE": "-1"}, r"^MINIMIND_SERVE_QUEUE = '-1'"),
        ({}, {"MINIMIND_SERVE_SLOT": "4"}, r"^MINIMIND_SERVE_SLOT: there is no such setting; .*MINIMIND_SERVE_SLOTS"),
        ({}, {"MINIMIND_API_KEY": "short"}, "MINIMIND_API_KEY: a key has at least 8 characters, this one has 5"),
        ({}, {"MINIMIND_API_KEY": "我的密钥一二三四五"}, "MINIMIND_API_KEY: .*ASCII"),
        ({}, {"MINIMIND_API_KEY": "with\x01control"}, "MINIMIND_API_KEY: .*ASCII"),
    ],
)
def test_what_no_server_can_have_is_refused_here(
    home: Path, flags: dict[str, Any], environment: dict[str, str], words: str
) -> None:
    with pytest.raises(ValueError, match=words) as told:
        config(environment, **flags)
    assert environment.get("MINIMIND_API_KEY", "never said") not in str(told.value)
    assert list(home.iterdir()) == []


def test_what_the_clusters_shell_had_does_not_come_back(home: Path) -> None:
    inherited = {
        "MINIMIND_API_KEY": "the-key-of-last-week",
        "MINIMIND_SERVE_SLOTS": "4",
        "MINIMIND_SERVE_DTYPE": "int8",
    }
    settings = Settings.read(inherited | variables(config()))
    assert (settings.api_key, settings.slots, settings.dtype) == (None, 16, "auto")
    settings = Settings.read(inherited | variables(config({"MINIMIND_API_KEY": "the-key-of-today\r"})))
    assert settings.api_key == "the-key-of-today"


def test_a_key_lies_in_a_file_of_its_own_that_this_user_alone_can_read(home: Path) -> None:
    first = variables(config({"MINIMIND_API_KEY": "a-long-key"}))["MINIMIND_API_KEY_FILE"]
    assert Path(first).read_text() == "a-long-key"
    assert Path(first).stat().st_mode & 0o777 == 0o600
    assert variables(config({"MINIMIND_API_KEY": "a-long-key"}))["MINIMIND_API_KEY_FILE"] == first
    second = variables(config({"MINIMIND_API_KEY": "another-key"}))["MINIMIND_API_KEY_FILE"]
    assert second != first  # else Serve would see nothing to change
    serving._forget_keys(but=second)
    assert [str(path) for path in home.iterdir()] == [second]


def test_what_changes_of_a_running_server_is_said(home: Path) -> None:
    first = config(slots="4", dtype="int8")
    running = {"applications": {"minimind": {"deployed_app_config": first["applications"][0]}}}
    again = config({"MINIMIND_API_KEY": "a-long-key"}, slots="8", context="64")
    assert serving.changes(running, again) == [
        "--slots: 8 (before: 4)",
        "--context: 64 (before: the default)",
        "--dtype: the default (before: int8)",
        "MINIMIND_API_KEY: another one",
    ]
    assert serving.changes(running, first) == serving.changes({}, first) == []


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
        ports.require_key(host, None)
    ports.require_key("0.0.0.0", "a-long-key")
    for host in ("0.0.0.0", "192.168.1.5", "example.org", "::"):
        with pytest.raises(ValueError, match=f"--host {host}: .*MINIMIND_API_KEY"):
            ports.require_key(host, "")


def test_a_port_that_is_taken_is_told_with_its_holder() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(ValueError, match=rf"port {port} of 127.0.0.1 .*process {os.getpid()}\).*--port {port + 1}"):
            ports.require_port_free("127.0.0.1", port)
    ports.require_port_free("127.0.0.1", port)
    for wrong in (0, -1, 70_000):
        with pytest.raises(ValueError, match=f"--port {wrong}: a port is a number from 1 to 65535"):
            ports.require_port_free("127.0.0.1", wrong)
    with pytest.raises(ValueError, match="port 80 of 203.0.113.9 cannot be used"):
        ports.require_port_free("203.0.113.9", 80)


def test_addresses_to_open() -> None:
    assert ports.url("127.0.0.1", 8000) == "http://127.0.0.1:8000"
    assert ports.url("0.0.0.0", 8000) == "http://127.0.0.1:8000"
    assert ports.url("::1", 1) == "http://[::1]:1"


def test_without_a_cluster_there_is_no_server(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    assert serving.running_url() is None
    assert not serving.stop()
