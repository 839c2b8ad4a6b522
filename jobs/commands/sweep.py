"""`sweep STAGE`: trials over a space of settings."""

from __future__ import annotations

import argparse

from rich.console import Console

from jobs import paths
from jobs.commands.arguments import (
    Parser,
    add_detach,
    add_json,
    add_overwrite,
    add_switch,
    positive,
    print_json,
    seconds,
)
from jobs.commands.job import do, submit
from jobs.commands.program import Program
from jobs.commands.train import files_elsewhere, look_before, request_of
from jobs.runs.directory import RunDirectory
from jobs.stages import flags
from jobs.stages.stage import DEFAULT_MODEL
from jobs.stages.table import STAGES
from jobs.sweeps.feasible import OWN, require_open, require_space, space_of
from jobs.terminal.console import Terminal
from jobs.training.request import JobRequest, SweepOptions
from minimind.language import phrase, say


def add_sweep(parser: Parser, program: Program) -> None:
    """The stages, each with its flags and those of a sweep."""
    parser.description = say(
        "Train for a given time with each of many settings, with Ray Tune, and compare. What the memory plan refuses "
        "is never started. Flags of the stage hold for every trial."
    )
    stages = parser.add_subparsers(title=say("stages"), metavar="STAGE", required=True, parser_class=Parser)
    at_once = say("trials that run at the same time (default: one per GPU, else one)")
    for name, stage in STAGES.items():
        title = phrase(stage.title)
        below = stages.add_parser(name, help=title, description=title, usage="%(prog)s [--FLAG VALUE ...]")
        own = below.add_argument_group(say("the sweep"))
        own.add_argument(
            "--space",
            metavar="NAME",
            help=say(
                "batch (rows, at the same tokens per step), rate (learning rate, schedule), rank (of an adapter), size "
                "(of the model, for pretraining), or a file of your own, FILE.json: dotted path -> values (default: "
                "batch)"
            ),
        )
        own.add_argument("--trials", type=positive, metavar="N", help=say("at most so many (default: 20)"))
        own.add_argument("--budget_s", type=seconds, metavar="X", help=say("seconds that a trial trains (default: 60)"))
        own.add_argument(
            "--objective",
            choices=["bits_per_byte", "tokens_per_s"],
            help=say("what is best; both are measured (default: bits_per_byte)"),
        )
        add_switch(own, "from_resume", say("continue the sweep of this name"))
        add_overwrite(own)
        add_detach(own, program)
        add_json(own)
        words = {**stage.words, "scaling.workers": at_once}
        flags.add_flags(below, stage.preset, DEFAULT_MODEL, without=OWN, other_words=words)
        below.set_defaults(command=sweep, stage=name)


def sweep(args: argparse.Namespace, program: Program, console: Console) -> int:
    """Search: in this process, or as a job that is followed. With --json the results are printed at the end, and all
    that is said goes to stderr.
    """
    space = args.space
    if space is not None and space.endswith(".json"):
        space = str(program.place(space))
    options = SweepOptions(space=space, objective=args.objective, budget_s=args.budget_s, trials=args.trials)
    request = request_of(args, program, options)
    detach = program.submits and args.detach
    if args.json and detach:
        raise ValueError(say("--json prints what came of it, and --detach does not wait for that: give one of them"))
    said = Terminal(stderr=True) if args.json else console
    if program.submits:
        status = submit(_look_before(request), detach=detach, console=said)
    else:
        status = do(request, said)
    if args.json:
        from jobs.sweeps.view import sweep_as_json

        print_json(sweep_as_json(RunDirectory(paths.sweeps() / request.name, "sweep")))
    return status


def _look_before(request: JobRequest) -> JobRequest:
    """The request with nothing left to be read. Raise ValueError or RunStateError for what a job would end with as soon
    as it looks.
    """
    require_open(request.settings)
    folder = RunDirectory(paths.sweeps() / request.name, "sweep")
    if request.from_resume:
        folder.require_there()
        return request
    spec = look_before(request, folder)
    space = (request.sweep or SweepOptions()).space or "batch"
    if not space.endswith(".json") or not files_elsewhere():
        require_space(spec, space_of(space, spec))
    return request.resolved(spec)
