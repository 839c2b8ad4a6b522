"""`stop NAME`: end a run or a sweep cleanly."""

from __future__ import annotations

import argparse
from time import monotonic, sleep

from rich.console import Console

from jobs import paths
from jobs.commands.arguments import Parser, add_switch
from jobs.commands.program import Program
from jobs.runs.directory import RunDirectory
from jobs.stages.names import STAGE_NAMES
from minimind.language import say


def add_stop(parser: Parser, program: Program) -> None:
    """Which, and whether to wait."""
    parser.add_argument("run", help=say("name of the run or the sweep"))
    add_switch(parser, "wait", say("come back when it has ended"), default=False)
    parser.set_defaults(command=stop)


def stop(args: argparse.Namespace, program: Program, console: Console) -> int:
    """Ask it to stop at its next step; what has begun no training has nothing to save, and its job is ended."""
    name: str = args.run
    folders = [RunDirectory(paths.runs() / name), RunDirectory(paths.sweeps() / name, "sweep")]
    run = next((folder for folder in folders if folder.exists), None)
    if run is None or not _asked_to_stop(run, console):
        _end_jobs(name, run, console)
    if args.wait and run is not None:
        _wait(run, console)
    return 0


def _asked_to_stop(run: RunDirectory, console: Console) -> bool:
    """Whether that is all there is to do: its process runs, and sees the wish."""
    from jobs.stages.table import STAGES

    if not run.is_running or run.stage not in STAGES:
        return False
    stopping = run.stop_requested()
    run.request_stop()
    if run.kind == "run":
        console.print(
            say(
                "{name} stops at its next step and saves a checkpoint. Go on: minimind resume {name} (when `minimind "
                "runs` says that it has stopped; stop --wait waits for it)",
                name=run.name,
            )
        )
    elif not stopping:
        console.print(
            say(
                "{name} begins no more trials; those that run go to their end. To end them too, once more. Go on: "
                "minimind resume {name}",
                name=run.name,
            )
        )
    return run.kind == "run" or not stopping


def _end_jobs(name: str, run: RunDirectory | None, console: Console) -> None:
    from jobs.cluster import local as cluster
    from jobs.cluster import submit
    from jobs.sweeps.view import named

    jobs = submit.jobs() if cluster.find() else []
    alive = [job for job in jobs if job.run == name and job.status in ("PENDING", "RUNNING")]
    if not alive:
        named(name).request_stop()
    for job in alive:
        if job.kind == "pipeline" and (stage := _running_stage(name)) is not None:
            stage.request_stop()
            console.print(
                say(
                    "The pipeline {name} stops at the next step of {stage}, with a checkpoint. The same command goes "
                    "on.",
                    name=name,
                    stage=stage.name,
                )
            )
            continue
        begun = run is not None and _has_begun(run, job.started_s)
        if run is not None and begun and not run.stop_requested():
            # Its worker has died and is being started again; that one finds the wish to stop.
            run.leave_stop()
            console.print(
                say(
                    "{name} stops as soon as its workers are back, with a checkpoint. To end its job at once: minimind "
                    "stop {name} again. Go on: minimind resume {name}",
                    name=name,
                )
            )
            continue
        status = submit.stop(job.submission_id)
        if job.kind == "pipeline":
            console.print(
                say(
                    "The pipeline {name} is {status}. The same command goes on where it was, its stage from the last "
                    "checkpoint.",
                    name=name,
                    status=status,
                )
            )
            continue
        console.print(
            say("{name} was stopping; its job {job} is {status}.", name=name, job=job.submission_id, status=status)
            if begun
            else say(
                "{name} has begun no training; its job {job} is {status}.",
                name=name,
                job=job.submission_id,
                status=status,
            )
        )


def _running_stage(pipeline: str) -> RunDirectory | None:
    """The run that a pipeline trains now; None where it does something else, which has nothing to save."""
    runs = (RunDirectory(paths.runs() / f"{pipeline}-{stage}") for stage in STAGE_NAMES)
    return next((run for run in runs if run.is_running), None)


def _wait(run: RunDirectory, console: Console) -> None:
    """Until nothing holds the run any more: a step and a checkpoint may take a while, so it is not said how long."""
    said = monotonic()
    while run.is_running:
        sleep(0.2)
        if monotonic() - said > 30:
            said = monotonic()
            console.print(
                say("Still waiting for the step and the checkpoint of {name} ...", name=run.name), style="dim"
            )
    console.print(say("{name} has stopped. Go on: minimind resume {name}", name=run.name))


def _has_begun(run: RunDirectory, started_s: float | None) -> bool:
    """Whether the run has trained since its job was started."""
    began = run.began_s()
    return run.kind == "run" and began is not None and started_s is not None and began >= started_s
