"""What needs no cluster of submitting jobs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.cluster import submit
from jobs.cluster.access import Cluster

THERE = Cluster("127.0.0.1:6379", "http://127.0.0.1:8265", None, ours=False)


def test_what_others_put_into_the_environment_meanwhile_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "mine")
    monkeypatch.delenv("OF_ANOTHER_THREAD", raising=False)
    before = dict(os.environ)
    with submit._addressed(THERE):
        assert os.environ["RAY_ADDRESS"] != "mine"
        monkeypatch.setenv("OF_ANOTHER_THREAD", "1")
    assert dict(os.environ) == {**before, "OF_ANOTHER_THREAD": "1"}


class Taken:
    """Ray's client, as it answers where others submit under the same name in the same second."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.known: list[str] = []
        self.given: dict[str, Any] = {}

    def submit_job(self, **given: Any) -> str:
        self.given = given
        name = str(given["submission_id"])
        if self.times:
            self.times -= 1
            self.known.append(name)
            raise RuntimeError(f"Request failed with status code 500: Job with submission_id {name} already exists.")
        return name

    def list_jobs(self) -> list[Any]:
        return [SimpleNamespace(submission_id=name) for name in self.known]


def submitted(monkeypatch: pytest.MonkeyPatch, client: Any, tmp_path: Path) -> str:
    @contextmanager
    def connected() -> Iterator[Any]:
        yield client

    monkeypatch.setattr(submit, "_client", connected)
    return submit.submit("mine", ["train"], tmp_path, kind="sweep")


def test_a_name_that_others_take_in_the_same_second_gets_a_number(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    client = Taken(2)
    assert submitted(monkeypatch, client, tmp_path) == f"{client.known[0]}-3"
    assert client.known[1] == f"{client.known[0]}-2"
    assert client.given["metadata"] == {"run": "mine", "kind": "sweep"}


def test_a_cluster_that_is_still_starting_is_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Starting(Taken):
        def submit_job(self, **given: Any) -> str:
            if self.times:
                self.times -= 1
                raise RuntimeError("Request failed with status code 500: No available agent to submit job, please ...")
            return super().submit_job(**given)

    slept: list[float] = []
    monkeypatch.setattr(submit, "sleep", slept.append)
    assert submitted(monkeypatch, Starting(3), tmp_path).startswith("mine-")
    assert len(slept) == 3
    monkeypatch.setattr(submit, "_AGENT_STARTS_S", -1)
    with pytest.raises(RuntimeError, match="No available agent"):
        submitted(monkeypatch, Starting(1), tmp_path)


def test_other_refusals_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Refusing(Taken):
        def list_jobs(self) -> list[Any]:
            return []

    with pytest.raises(RuntimeError, match="status code 500"):
        submitted(monkeypatch, Refusing(1), tmp_path)
