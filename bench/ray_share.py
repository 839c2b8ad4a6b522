"""What Ray costs: the time from `ray job submit` to the first optimizer step, and the speed of training under it.

    python bench/ray_share.py [--submits 5] [--windows 7] [--turns 4] [--turn_s 6] [--settle_s 3] [--model tiny]

The same run trains in a process of its own without Ray (`--workers 0`) and as a Ray job with one worker, each on all
cores and at the low priority that Ray gives its workers. Both are alive all the time and take turns: while one works,
the other is suspended (SIGSTOP), and with the Ray job every process of its cluster is. So both meet the same other work
on the machine. What a cluster does right after it was woken, it does not do in a run: the first `settle_s` of a turn
do not count. The loss of speed of a window is 1 - the ratio of the mean times of a step; the median over windows is
given. The time to the first step is that of a cluster that is up, median over single submissions.

On a machine whose speed changes from second to second that ratio changes with it. What Ray takes shows more steadily in
how much of the cores the training threads get: `loss_of_cores` is 1 - the ratio of their CPU seconds per second. It is
the loss of speed if a step takes the same CPU seconds with Ray as without, which `cpu_per_step` (job / alone) shows.
"""

from __future__ import annotations

import sys
from pathlib import Path

# Imports below count from the checkout, not from this folder.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import argparse
import itertools
import json
import os
import shlex
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress

import psutil
from rich.console import Console
from rich.table import Table

from jobs import paths
from jobs.cluster import access, processes
from jobs.cluster import local as cluster
from jobs.runs.directory import RunDirectory
from minimind.events import read_events

WARM_UP_STEPS = 10
RAY_NICENESS = 15


def steps_made(run: RunDirectory) -> int:
    """How many optimizer steps the run has made so far."""
    if not run.events_path.exists():
        return 0
    return len(step_times(run))


def step_times(run: RunDirectory) -> list[float]:
    """Unix times at which the optimizer steps were made."""
    return [row["time"] for row in read_events(run.events_path, {"metrics"}) if "train/loss" in row["values"]]


def step_s(run: RunDirectory, turns: list[tuple[float, float]]) -> float:
    """Mean time of the steps that were begun and ended in one of the turns, in seconds."""
    spans = itertools.pairwise(step_times(run))
    return statistics.fmean(
        end - begin for begin, end in spans if any(start <= begin and end <= stop for start, stop in turns)
    )


def training_cpu_s(process: psutil.Process, threads: int) -> float:
    """CPU seconds so far of the threads that compute: those with the most, as many as there are cores."""
    return sum(sorted((thread.user_time + thread.system_time for thread in process.threads()), reverse=True)[:threads])


def busiest(members: Iterable[psutil.Process]) -> psutil.Process:
    """The one with the most CPU seconds: of a cluster with one job, the worker that trains."""

    def seconds(member: psutil.Process) -> float:
        with suppress(psutil.NoSuchProcess):
            return sum(member.cpu_times()[:2])
        return 0.0

    return max(members, key=seconds)


def send(members: Iterable[psutil.Process], number: signal.Signals) -> None:
    """The signal to each of them that is still alive."""
    for member in members:
        with suppress(psutil.NoSuchProcess):
            member.send_signal(number)


def wait_for_steps(run: RunDirectory, count: int, process: subprocess.Popen[bytes], within_s: float = 300) -> None:
    """Until the run has made `count` steps. Raises SystemExit if its process ends before or it takes too long."""
    end = time.monotonic() + within_s
    while steps_made(run) < count:
        if process.poll() is not None or time.monotonic() > end:
            raise SystemExit(f"the run {run.name!r} made {steps_made(run)} of {count} steps; {run.path}")
        time.sleep(0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--submits", type=int, default=5)
    parser.add_argument("--windows", type=int, default=7)
    parser.add_argument("--turns", type=int, default=4, help="of each side in a window")
    parser.add_argument("--turn_s", type=float, default=6)
    parser.add_argument("--settle_s", type=float, default=3)
    parser.add_argument("--model", default="tiny")
    args = parser.parse_args()
    console = Console(width=110)
    text = paths.checkout() / "data" / "samples" / "pretrain.jsonl"
    train = [
        *("-m", "jobs", "train", "pretrain", "--model", args.model, "--data_path", str(text), "--epochs", "100000"),
        *("--log_interval", "1", "--save_interval", "1000000", "--eval_interval", "1000000"),
        *("--set", "eval.sample_tokens=0"),
    ]
    ray = str(Path(sys.executable).with_name("ray"))
    submit = [ray, "job", "submit", "--working-dir", ".", "--", "python", *train, "--workers", "1"]
    alone = ["nice", "-n", str(RAY_NICENESS), sys.executable, *train, "--workers", "0", "--name", "alone"]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MINIMIND_HOME"] = folder
        runs = {name: RunDirectory(Path(folder) / "runs" / name) for name in ("alone", "job")}
        there = cluster.ensure()
        environment = {**os.environ, **access.environment(there)}
        mark = json.loads(cluster.state_path().read_text("utf-8"))["mark"]
        started: list[subprocess.Popen[bytes]] = []

        def begin(command: list[str]) -> subprocess.Popen[bytes]:
            quiet = subprocess.DEVNULL
            process = subprocess.Popen(command, cwd=paths.checkout(), env=environment, stdout=quiet, stderr=quiet)
            started.append(process)
            return process

        try:
            waits = []
            for number in range(args.submits):
                submitted = time.time()
                process = begin([*submit, "--name", f"short{number}", "--max_steps", "2"])
                if process.wait():
                    raise SystemExit(f"{shlex.join(submit)} failed")
                waits.append(step_times(RunDirectory(Path(folder) / "runs" / f"short{number}"))[0] - submitted)

            job = begin([*submit, "--name", "job"])
            wait_for_steps(runs["job"], WARM_UP_STEPS, job)
            members = {"job": processes.family(mark)}
            send(members["job"], signal.SIGSTOP)
            process = begin(alone)
            wait_for_steps(runs["alone"], WARM_UP_STEPS, process)
            members["alone"] = [psutil.Process(process.pid)]
            send(members["alone"], signal.SIGSTOP)

            trainers = {name: busiest(group) for name, group in members.items()}
            cores = os.cpu_count() or 1
            table = Table(
                "window", "step alone", "as a Ray job", "loss of speed", "cores alone", "as a Ray job", "loss of cores"
            )
            losses, core_losses, cpu_ratios = [], [], []
            for window in range(args.windows):
                turns: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
                used = dict.fromkeys(runs, 0.0)
                for _ in range(args.turns):
                    for name in ("alone", "job") if window % 2 else ("job", "alone"):
                        send(members[name], signal.SIGCONT)
                        time.sleep(args.settle_s)
                        begin_s, cpu_s = time.time(), training_cpu_s(trainers[name], cores)
                        time.sleep(args.turn_s)
                        turns[name].append((begin_s, time.time()))
                        used[name] += training_cpu_s(trainers[name], cores) - cpu_s
                        send(members[name], signal.SIGSTOP)
                took = {name: step_s(run, turns[name]) for name, run in runs.items()}
                losses.append(1 - took["alone"] / took["job"])
                busy = {name: used[name] / sum(end - begin for begin, end in turns[name]) for name in runs}
                core_losses.append(1 - busy["job"] / busy["alone"])
                cpu_ratios.append(busy["job"] * took["job"] / (busy["alone"] * took["alone"]))
                steps = [f"{1000 * took[name]:.0f} ms" for name in ("alone", "job")]
                shares = [f"{busy[name]:.2f}" for name in ("alone", "job")]
                lost = [f"{100 * loss[-1]:.1f} %" for loss in (losses, core_losses)]
                table.add_row(str(window), *steps, lost[0], *shares, lost[1])
            for group in members.values():
                send(group, signal.SIGCONT)
        finally:
            for process in started:
                if process.poll() is None:
                    process.send_signal(signal.SIGCONT)
                    process.kill()
                    process.wait()
            send(processes.family(mark), signal.SIGCONT)
            cluster.stop()
    console.print(table)
    console.print("submit to first step: " + ", ".join(f"{wait:.1f} s" for wait in waits))
    figures = {
        "submit_to_step_s": round(statistics.median(waits), 1),
        "loss_of_speed": round(statistics.median(losses), 3),
        "loss_of_cores": round(statistics.median(core_losses), 3),
        "cpu_per_step": round(statistics.median(cpu_ratios), 3),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
