"""Runs that were never trained: their files, as a run leaves them."""

from __future__ import annotations

import json
from typing import Any

from jobs import paths
from jobs.runs import evals
from jobs.runs.directory import RunDirectory
from minimind.events import EventLog
from tests.small import small_spec

ENVIRONMENT = {"torch": "2.13.0", "device": "cpu", "cpu": "A CPU", "threads": "2", "commit": "abc", "dtype": "float32"}


def write_run(name: str, stage: str = "pretrain", /, *, at: float = 1000.0, **settings: Any) -> RunDirectory:
    """A run of two attempts, 10 and 20 seconds long with an hour between them."""
    run = RunDirectory(paths.runs() / name)
    spec = small_spec(stage, name=name, **settings)
    run.create(
        spec.model_dump(mode="json"),
        sources={"data.path": "5" * 64},
        began_with={"tokenizer": "7" * 64, "weights": {}},
    )
    now = at
    with EventLog(run.events_path, clock=lambda: now) as log:
        typed = {"typed": f"minimind train {stage} --name {name}", "command": "the same"}
        log.state("RUNNING", step=0, total_steps=8, world=1, environment=ENVIRONMENT | typed)
        now += 10
        log.metrics(4, {"train/loss": 5.0, "val/loss": 5.5, "perf/tokens_per_s": 100.0})
        now += 3600
        log.state("RUNNING", step=4, total_steps=8, world=1, environment=ENVIRONMENT | {"torch": "2.14.0"})
        now += 20
        log.metrics(
            8,
            {
                "train/loss": 4.0,
                "train/tokens": 9000,
                "val/loss": 4.5,
                "val/bits_per_byte": 1.5,
                "perf/tokens_per_s": 300.0,
                "perf/peak_memory_bytes": 2**30,
            },
        )
        log.state("SUCCEEDED")
    content = json.loads(run.spec_path.read_text("utf-8"))
    content["created"]["time"] = at
    run.spec_path.write_text(json.dumps(content), "utf-8")
    run.write_plan({"needed_bytes": 3 * 2**29, "capacity_bytes": 2**33})
    sample = {"step": 8, "prompt": "Hello", "continuation": "=1|<b>\n\x1b[31mred"}
    run.samples_path.write_text(json.dumps(sample) + "\n", "utf-8")
    return run


def write_scores(run: RunDirectory) -> None:
    summary: dict[str, Any] = {"suite": "grammar", "step": 8, "score": 0.75, "low": 0.7, "high": 0.8, "n": 300}
    summary |= {"chance": 0.5, "lower_is_better": False, "title": {"en": "grammar of a sentence", "zh": "语法"}}
    summary |= {"how": "pair", "model": f"{run.name}@8", "seconds": 1.0, "time": 2.0}
    summary |= {"groups": {}, "metrics": {}, "diagnoses": {}}
    evals.write(evals.folder_of(run) / "grammar@8.jsonl", [], summary)


def checkpoint(run: RunDirectory, step: int = 8) -> None:
    """A folder that counts as a checkpoint; nothing in it is read for a card."""
    (run.checkpoints / f"step_{step:08d}").mkdir(parents=True)
