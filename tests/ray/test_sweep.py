"""A sweep on a real cluster, killed in the middle and continued."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs import paths
from jobs.cluster import submit
from jobs.cluster.access import Cluster
from jobs.runs.directory import RunDirectory
from jobs.stages import flags
from jobs.stages.origin import new_spec
from jobs.sweeps.feasible import OWN
from jobs.sweeps.view import begun_trials, trials_of
from tests.ray.killing import driver, until
from tests.small import small_flags


@pytest.mark.timeout(280)
def test_killed_and_continued_it_tries_each_point_that_fits_once(ray_cluster: Cluster, ray_home: Path) -> None:
    space = ray_home / "space.json"
    space.write_text(json.dumps({"data.max_seq_len": [32, 512], "loop.batch_size": [1, 2, 4, 8]}))
    settings = small_flags(
        name="swept",
        data__max_seq_len=512,
        loop__accumulation_steps=1,
        scaling__workers=None,
        scaling__cpus_per_worker=1,
        **{path.replace(".", "__"): None for path in OWN},
    )
    argv = ["sweep", "pretrain", "--space", str(space), *settings, "--vram", "4MB", "--trials", "4"]
    sweep = RunDirectory(paths.sweeps() / "swept", "sweep")

    options = ["--budget_s", "1", "--objective", "tokens_per_s"]
    first = submit.submit("swept", [*argv, *options], kind="sweep")
    assert submit.job(first).kind == "sweep"
    second = sweep.path / "trials" / "trial-002" / "events.jsonl"
    until(lambda: second.exists() or submit.job(first).status == "FAILED", "the second trial")
    assert second.exists(), submit.job(first).message
    before = trials_of(sweep)
    driver("sweep").kill()
    until(lambda: not sweep.is_running, "the sweep to be free")
    assert sweep.state().word == "FAILED"

    log: list[str] = []
    again = submit.submit("swept", ["resume", "swept"], kind="sweep")
    assert submit.follow(again, log.append) == "SUCCEEDED", "".join(log)
    trials = trials_of(sweep)
    assert sweep.state().word == "SUCCEEDED"
    numbers = [trial["trial"] for trial in trials]
    assert len(set(numbers)) == len(numbers)
    killed = {event["trial"] for event in begun_trials(sweep)}
    assert not killed & set(numbers)  # whoever was killed may still be writing: its number is not given again
    assert not any((sweep.path / "trials" / f"trial-{number:03d}").exists() for number in killed)
    assert trials[: len(before)] == before
    assert sorted(trial["settings"]["loop.batch_size"] for trial in trials) == [1, 2, 4, 8], trials
    assert {trial["outcome"] for trial in trials} <= {"measured", "ended early"}, trials
    assert {trial["settings"]["data.max_seq_len"] for trial in trials} == {32}
    assert "4 points fit, 3 are never started" in "".join(log)

    best = flags.read_settings(sweep.path / "best.json")
    spec = new_spec("pretrain", {**best, "name": "from-best"})
    assert spec.loop.batch_size * spec.loop.accumulation_steps * spec.data.max_seq_len == 2048
    fastest = max((trial for trial in trials if trial["outcome"] == "measured"), key=lambda t: float(t["tokens_per_s"]))
    assert spec.loop.batch_size == fastest["settings"]["loop.batch_size"]
    page = (sweep.path / "report.html").read_text("utf-8")
    assert "refused, never started" in page
    assert "http" not in page
