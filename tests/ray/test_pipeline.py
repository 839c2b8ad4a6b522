"""The pipeline as a job of Ray, killed in each of its stages: submitted again it ends as if it never was."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs import paths
from jobs.cluster import local as cluster
from jobs.cluster import submit
from jobs.runs.directory import RunDirectory
from tests.conftest import at_home
from tests.ray.killing import driver, kill_cluster, until, until_steps
from tests.small import CHATS, SAMPLES, end_of, pipeline_settings

ROWS = {"pretrain": SAMPLES, "sft": CHATS, "dpo": CHATS.with_name("dpo.jsonl")}
STAGES = list(ROWS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    for stage, rows in ROWS.items():
        (folder / f"{stage}.jsonl").write_bytes(rows.read_bytes())
    return folder


def asked(folder: Path, **settings: object) -> list[str]:
    """The arguments of a pipeline whose stages have enough steps to be killed among."""
    more = {"loop.max_steps": 150, "loop.epochs": 40, "loop.save_interval": 9, "loop.eval_interval": None}
    values = pipeline_settings(STAGES, more | settings)
    given = (part for path, value in values.items() if value is not None for part in ("--set", f"{path}={value}"))
    return ["pipeline", "--name", "p", "--data", str(folder), "--model", "tiny", "--until", STAGES[-1], *given]


@pytest.mark.timeout(600)
def test_killed_in_each_stage_it_ends_in_the_same_weights(tmp_path: Path, folder: Path) -> None:
    reference = tmp_path / "reference"
    subprocess.run(
        [sys.executable, "-m", "jobs", *asked(folder)],
        cwd=paths.checkout(),
        check=True,
        capture_output=True,
        timeout=280,
        env={**os.environ, "MINIMIND_HOME": str(reference), "OMP_NUM_THREADS": "1"},
    )
    as_a_job = {"scaling.workers": 1, "scaling.cpus_per_worker": 1, "eval.suites": '["language"]'}
    argv = asked(folder, **as_a_job)
    home = tmp_path / "home"
    names = ("tokenizer", *STAGES)
    tokenizer, pretrain, sft, dpo = runs = [RunDirectory(home / "runs" / f"p-{name}") for name in names]
    moments: list[tuple[Callable[[], None], bool]] = [
        (lambda: until(tokenizer.path.exists, "the tokenizer"), False),
        (lambda: until_steps(pretrain, 1, 20), False),
        (lambda: until_steps(pretrain, 2, 20), True),
        (lambda: until_steps(sft, 1, 20), False),
        (lambda: until(lambda: sft.exists and sft.state().word == "SUCCEEDED", "the evaluation of SFT"), False),
        (lambda: until_steps(dpo, 1, 20), True),
    ]
    with at_home(home):
        try:
            for moment, everything in moments:
                cluster.ensure()
                submit.submit("p", argv, kind="pipeline")
                moment()
                if everything:
                    kill_cluster()
                else:
                    driver("pipeline").kill()
                until(lambda: not any(run.is_running for run in runs), "the runs to be free")
            cluster.ensure()
            log: list[str] = []
            assert submit.follow(submit.submit("p", argv, kind="pipeline"), log.append) == "SUCCEEDED", "".join(log)
        finally:
            cluster.stop()
    for run in runs[1:]:
        assert end_of(run) == end_of(RunDirectory(reference / "runs" / run.name)), run.name
        assert list(run.path.glob("evals/language@*.jsonl")), run.name
    assert "What came of it" in "".join(log)
