"""What `minimind` does around a job: start the cluster if there is none, submit, follow, say how it ended."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace

from rich.console import Console

from jobs import paths
from jobs.cluster import local as cluster
from jobs.cluster import submit
from jobs.runs.directory import RunDirectory, RunRow, RunState
from jobs.runs.progress import following
from jobs.runs.show import WAITING
from minimind.language import say

_END = 8192  # characters of a log: what was said in them is not said again


def submit_training(
    name: str,
    argv: Sequence[str],
    words: str,
    *,
    detach: bool,
    console: Console,
    kind: str = "run",
    variables: Mapping[str, str] | None = None,
) -> int:
    """Submit `python -m jobs ARGV` for the run, or the sweep, of this name; follow it unless `detach`. Gives the exit
    status. words: what is asked for, for people. variables: see `submit.submit`.
    """
    cluster.ensure(lambda line: console.print(line, style="dim"))
    submission_id = submit.submit(name, argv, kind=kind, variables=variables)
    console.print(say("Submitted {job}: {words}", job=submission_id, words=words), style="dim")
    if detach:
        console.print(
            say(
                "It runs on its own. Watch it: minimind attach {job}. End it: minimind stop {name}",
                job=submission_id,
                name=name,
            )
        )
        return 0
    return attach(submission_id, console)


def with_waiting(rows: list[RunRow]) -> list[RunRow]:
    """The rows of `minimind runs`, with the jobs on the cluster that are not training yet as PENDING, first.

    Raises ClusterError if the cluster does not answer.
    """
    training = cluster.running()
    waiting: dict[str, RunRow] = {}
    for job in submit.jobs():
        waits = job.status in ("PENDING", "RUNNING") and job.run and job.run not in training
        if waits and job.kind != "pipeline":  # which is no run: its stages are
            old = next((row for row in rows if row.name == job.run), RunRow(job.run, "?", RunState(""), *[None] * 7))
            if old.updated and job.started_s and old.updated > job.started_s:
                continue  # the job has trained already and is about to end: the run's own state says how it went
            said = old.state.reason if old.state.word == "PENDING" else ""
            state = RunState("PENDING", said or f"{WAITING} {job.submission_id}", job.started_s)
            waiting[job.run] = replace(old, state=state, updated=old.updated or job.started_s)
    return [*waiting.values(), *(row for row in rows if row.name not in waiting)]


def attach(submission_id: str, console: Console, *, lines: int | None = None) -> int:
    """Show a job's log from its beginning, and a progress bar where there is a terminal, until it ends. lines: of what
    it has said before only so many, the last.
    """
    job = submit.job(submission_id)
    said = "" if lines is None else submit.log(submission_id)
    skip = len(said) - len("".join(said.splitlines(keepends=True)[-lines:])) if lines else 0
    end = ""

    def write(text: str) -> None:
        nonlocal end
        end = (end + text)[-_END:]
        console.out(text, end="", highlight=False)

    # In a terminal the bar says it better than the log's progress lines would; a sweep's trials have no one bar.
    run = RunDirectory(paths.runs() / job.run)
    with following(run, console, bar_only=True) if console.is_terminal and job.kind == "run" else nullcontext():
        status = submit.follow(submission_id, write, skip)
    if status == "FAILED":
        why = next(iter(reversed(submit.job(submission_id).message.strip().splitlines())), "")
        failed = say("The job {job} failed.", job=submission_id)
        console.print(f"{failed} {'' if why in end else why}".rstrip(), style="red")
    sys.stdout.flush()
    return 0 if status in ("SUCCEEDED", "STOPPED", "RUNNING") else 1
