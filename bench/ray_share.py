"""What Ray costs: the time from `ray job submit` to the first optimizer step, and the speed of training under it.

    python bench/ray_share.py [--rounds 5] [--model tiny] [--steps 60]

Each round trains the same run twice, in a process of its own without Ray (`--workers 0`) and as a Ray job with one
worker, in turn, on all cores. Speed is the median of the real tokens per second of single steps after a warm-up, from
the run's own events; the loss of speed is 1 - the ratio of both, median over rounds. A cluster is started for the
benchmark in a folder of its own and ended after it; the time to the first step is that of a cluster that is up.
"""

from __future__ import annotations

import sys
from pathlib import Path

# This folder holds a tokenize.py, which would stand in for Python's own: the checkout takes its place.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time

from rich.console import Console
from rich.table import Table

from jobs import cluster, paths
from jobs.runs import RunDirectory
from minimind.events import metric_series, read_events

WARM_UP = 10


def speed(run: RunDirectory) -> float:
    """Median real tokens per second of a finished run's steps."""
    state = run.state()
    assert state.word == "SUCCEEDED", f"{run.path}: {state}"
    return statistics.median(metric_series(run.events_path, "perf/tokens_per_s")[1][WARM_UP:])


def first_step_time(run: RunDirectory) -> float:
    """Unix time at which the first step was made."""
    rows = read_events(run.events_path, {"metrics"})
    return float(next(row["time"] for row in rows if "train/loss" in row["values"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--steps", type=int, default=60)
    args = parser.parse_args()
    console = Console(width=110)
    text = paths.checkout() / "data" / "samples" / "pretrain.jsonl"
    common = [
        *("train", "pretrain", "--model", args.model, "--data_path", str(text), "--max_steps", str(args.steps)),
        *("--epochs", "1000", "--log_interval", "1", "--save_interval", "1000000", "--eval_interval", "1000000"),
        *("--set", "eval.sample_tokens=0"),
    ]
    waits, losses = [], []
    table = Table("round", "submit to first step", "tokens/s without Ray", "tokens/s as a Ray job", "loss of speed")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MINIMIND_HOME"] = folder
        there = cluster.ensure()
        environment = {**os.environ, **cluster.environment(there)}
        try:
            for number in range(args.rounds):
                names = [f"alone{number}", f"job{number}"]
                alone = [sys.executable, "-m", "jobs", *common, "--name", names[0], "--workers", "0"]
                ray = str(Path(sys.executable).with_name("ray"))
                job = [ray, "job", "submit", "--working-dir", ".", "--", "python", "-m", "jobs", *common]
                job += ["--name", names[1], "--workers", "1"]
                started = 0.0
                for command in (alone, job) if number % 2 else (job, alone):
                    if command is job:
                        started = time.time()
                    subprocess.run(command, cwd=paths.checkout(), env=environment, check=True, capture_output=True)
                runs = [RunDirectory(Path(folder) / "runs" / name) for name in names]
                speeds = [speed(run) for run in runs]
                waits.append(first_step_time(runs[1]) - started)
                losses.append(1 - speeds[1] / speeds[0])
                cells = (f"{waits[-1]:.1f} s", f"{speeds[0]:.0f}", f"{speeds[1]:.0f}", f"{100 * losses[-1]:.1f} %")
                table.add_row(str(number), *cells)
        finally:
            cluster.stop()
    console.print(table)
    figures = {
        "submit_to_step_s": round(statistics.median(waits), 1),
        "loss_of_speed": round(statistics.median(losses), 3),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
