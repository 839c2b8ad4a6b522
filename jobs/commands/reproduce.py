"""`reproduce`: a run done again, and whether the same bits come out."""

from __future__ import annotations

import argparse

from rich.console import Console

from jobs import paths
from jobs.commands.arguments import Parser, add_detach
from jobs.commands.program import Program
from jobs.runs.directory import RunDirectory, require_name
from minimind.language import say


def add_reproduce(parser: Parser, program: Program) -> None:
    """Which run, and what its repetition is called."""
    parser.add_argument("run", help=say("its name"))
    parser.add_argument("--name", metavar="OTHER", help=say("name of the repetition (default: RUN-again)"))
    add_detach(parser, program)
    parser.set_defaults(command=reproduce)


def reproduce(args: argparse.Namespace, program: Program, console: Console) -> int:
    """Run it again: in this process, or as a job that is followed, as `train` does."""
    from jobs.commands.job import do, submit
    from jobs.commands.train import files_elsewhere
    from jobs.experiment.facts import find, spec_of
    from jobs.experiment.reproduce import ENDING, require_its_name, require_repeatable
    from jobs.training.request import JobRequest

    run = find(args.run)
    name = require_name(args.name or f"{run.name}{ENDING}")
    spec = spec_of(run)
    request = JobRequest(stage=spec.stage.kind, settings={"name": name}, repeats=run.name)
    if not program.submits or spec.scaling.workers == 0:
        return do(request, console)
    # What is wrong here would otherwise be found once the job has started.
    if not files_elsewhere():
        require_repeatable(run)
    require_its_name(run, RunDirectory(paths.runs() / name))
    return submit(request, detach=args.detach, console=console)
