"""`runs`, `show`, `attach`, `logs`: looking at runs and sweeps."""

from __future__ import annotations

import argparse
import difflib

from rich.console import Console

from jobs import paths
from jobs.cluster.access import ClusterError
from jobs.commands.arguments import Parser, add_json, add_switch, positive, print_json
from jobs.commands.program import Program
from jobs.runs.directory import RunDirectory, list_runs
from jobs.terminal.console import Terminal
from minimind.language import say


def add_runs(parser: Parser, program: Program) -> None:
    """Nothing but the form."""
    add_json(parser)
    parser.set_defaults(command=runs)


def runs(args: argparse.Namespace, program: Program, console: Console) -> int:
    """List all runs, those whose job waits too, and all sweeps."""
    from jobs.cluster import local as cluster
    from jobs.runs.as_json import row_as_json
    from jobs.runs.show import show_runs
    from jobs.sweeps.view import show_sweeps, sweep_rows_as_json

    rows = list_runs(paths.runs())
    try:
        if cluster.find():
            from jobs.cluster.follow import with_waiting

            rows = with_waiting(rows)
    except ClusterError as error:
        Terminal(stderr=True).print(str(error), style="dim")
    if args.json:
        print_json({"runs": [row_as_json(row) for row in rows], "sweeps": sweep_rows_as_json()})
        return 0
    show_runs(paths.runs(), rows, console)
    show_sweeps(console)
    return 0


def add_show(parser: Parser, program: Program) -> None:
    """Which, and the form."""
    parser.add_argument("run", help=say("name of the run or the sweep"))
    add_switch(parser, "samples", say("what it wrote, and nothing else: answers to held-out prompts with their worth"))
    add_json(parser)
    parser.set_defaults(command=show)


def show(args: argparse.Namespace, program: Program, console: Console) -> int:
    """All that is worth knowing of one."""
    from jobs.runs.as_json import run_as_json
    from jobs.runs.show import show, show_answers
    from jobs.sweeps.view import named, show_sweep, sweep_as_json

    found = named(args.run)
    if args.json:
        print_json(sweep_as_json(found) if found.kind == "sweep" else run_as_json(found))
    elif found.kind == "sweep":
        show_sweep(found, console)
    elif args.samples:
        show_answers(found, console)
    else:
        show(found, console)
    return 0


def add_attach(parser: Parser, program: Program) -> None:
    """Which job."""
    parser.add_argument("job", help=say("submission id, or the name of a run (its newest job)"))
    parser.set_defaults(command=attach)


def attach(args: argparse.Namespace, program: Program, console: Console) -> int:
    """Follow the job again; where there is none any more, show the run."""
    from jobs.cluster.follow import attach

    job = job_of(args.job)
    if job is not None:
        return attach(job, console)
    console.print(
        say("No job of {name!r} is on the cluster, which forgets them when it ends. The run itself:", name=args.job)
    )
    return show(argparse.Namespace(run=args.job, json=False, samples=False), program, console)


def job_of(name: str) -> str | None:
    """The newest job of this submission id or this run or sweep; None where there is none, but a folder.

    Raises ValueError or ClusterError that names what there is.
    """
    from jobs.cluster import submit

    folders = RunDirectory(paths.runs() / name), RunDirectory(paths.sweeps() / name, "sweep")
    exists = any(folder.exists for folder in folders)
    try:
        known = submit.jobs()
    except ClusterError as error:
        if exists:
            return None
        try:
            RunDirectory.find(paths.runs(), name)
        except ValueError as missing:
            raise ClusterError(
                say("{missing}. Nor can a job be looked for: {error}", missing=missing, error=error)
            ) from None
        raise
    match = [job.submission_id for job in known if name in (job.submission_id, job.run)]
    if match or exists:
        return match[0] if match else None
    names = sorted({name for job in known for name in (job.submission_id, job.run) if name})
    near = difflib.get_close_matches(name, names, n=3) or names[:5]
    raise ValueError(
        say("no job or run {name!r} on the cluster; it has: {names}", name=name, names=", ".join(near) or say("none"))
    )


def add_logs(parser: Parser, program: Program) -> None:
    """Which, how much, and whether to stay."""
    parser.add_argument("run", help=say("submission id, or the name of a run (its newest job)"))
    parser.add_argument("--lines", type=positive, default=50, metavar="N", help=say("the last lines (default: 50)"))
    add_switch(parser, "follow", say("go on with what comes, until the job ends"))
    parser.set_defaults(command=logs)


def logs(args: argparse.Namespace, program: Program, console: Console) -> int:
    """The last lines that the job has said; where there is no job, what the run has written down."""
    from jobs.cluster import submit
    from jobs.cluster.follow import attach
    from jobs.runs.progress import show_events

    job = job_of(args.run)
    if job is not None and args.follow:
        return attach(job, console, lines=args.lines)
    if job is not None:
        for line in submit.log(job).splitlines()[-args.lines :]:
            console.out(line, highlight=False)
        return 0
    console.print(
        say("No job of {name!r} is on the cluster. What it has written down itself:", name=args.run), style="dim"
    )
    from jobs.sweeps.view import named

    show_events(named(args.run), console, last=args.lines)
    return 0
