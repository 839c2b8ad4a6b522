"""`minimind` against a real cluster: what trains becomes a job, and is followed, left and found again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jobs import __main__ as cli
from jobs import paths
from jobs.cluster import submit
from jobs.cluster.access import Cluster
from jobs.runs.directory import RunDirectory
from tests.small import SAMPLES, small_flags


def test_training_is_submitted_left_and_found_again(
    ray_cluster: Cluster,
    ray_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "mine.jsonl").write_bytes(SAMPLES.read_bytes())
    monkeypatch.chdir(tmp_path)  # the job runs elsewhere
    flags = small_flags(name="cli", data__path=None, scaling__workers=1, scaling__cpus_per_worker=1)
    assert cli.minimind(["train", "pretrain", *flags, "--data_path", "mine.jsonl", "--detach"]) == 0
    said = capsys.readouterr().out
    assert "It runs on its own. Watch it: minimind attach cli-" in said
    assert cli.minimind(["attach", "cli"]) == 0
    said = capsys.readouterr().out
    assert "Data: mine.jsonl: 321 documents" in said
    assert "SUCCEEDED" in said
    run = RunDirectory.find(paths.runs(), "cli")
    assert run.state().word == "SUCCEEDED"
    spec = run.spec()
    assert spec["data"]["path"] == str(tmp_path / "mine.jsonl")
    assert spec["scaling"]["workers"] == 1

    assert cli.minimind(["attach", "clj"]) == 1
    assert "no job or run 'clj' on the cluster; it has: cli" in capsys.readouterr().err


def test_a_job_that_fails_gives_an_exit_status(
    ray_cluster: Cluster, ray_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.jsonl").write_text('{"text": "fine"}\n{')
    assert cli.minimind(["train", "tokenizer", "--data_path", str(tmp_path / "broken.jsonl"), "--name", "lost"]) == 1
    said = capsys.readouterr().out
    assert said.count(f"{tmp_path}/broken.jsonl:2: broken JSON") == 1  # by the job's log, and not again
    assert "failed" in said


def test_stop_ends_a_job_that_has_not_begun_to_train(
    ray_cluster: Cluster,
    ray_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    package = tmp_path / "checkout" / "jobs"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("import time\nprint('preparing')\ntime.sleep(600)\n")
    submission_id = submit.submit("slow", ["train"], package.parent)
    monkeypatch.setenv("MINIMIND_LANG", "en")
    assert cli.minimind(["runs"]) == 0  # it has no folder yet, and is listed
    said = capsys.readouterr().out
    assert re.search(r"slow +\? +PENDING", said), said
    assert f"what for, says: minimind attach {submission_id}" in said
    assert cli.minimind(["stop", "slow"]) == 0
    assert f"slow has begun no training; its job {submission_id} is STOPPED." in capsys.readouterr().out
    assert submit.job(submission_id).status == "STOPPED"
    assert cli.minimind(["stop", "slow"]) == 1
    assert "no run 'slow'" in capsys.readouterr().err
