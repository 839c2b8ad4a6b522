"""`resume NAME`: `train` or `sweep` with the stage that the run or the sweep has."""

from __future__ import annotations

import argparse

from rich.console import Console

from jobs.commands.arguments import Parser, add_detach
from jobs.commands.program import Program
from jobs.commands.sweep import add_sweep
from jobs.commands.train import add_train
from jobs.stages.table import STAGES
from jobs.sweeps.view import named
from minimind.language import say


def add_resume(parser: Parser, program: Program) -> None:
    """A name, and flags of `train`."""
    parser.add_argument("run", help=say("its name"))
    rest = parser.add_argument(
        "rest",
        nargs=argparse.REMAINDER,
        help=say(
            "flags of `train` that change nothing of what is learnt, such as --batch_size, --workers, --vram, "
            "--save_interval, or where a file lies now; for a sweep --trials"
        ),
    )
    rest.required = False  # there may be none; argparse would name it beside a name that is missing
    add_detach(parser, program)
    parser.set_defaults(command=resume, help=parser.print_help)


def resume(args: argparse.Namespace, program: Program, console: Console) -> int:
    """Continue it where it stopped or died."""
    if {"-h", "--help"} & set(args.rest):
        args.help()
        return 0
    run = named(args.run)
    if run.kind == "run" and run.stage not in STAGES:
        raise ValueError(
            say(
                "the run {name!r} is of the stage {stage!r}, which is not continued but done again: {program} train "
                "{stage} --name {name} --overwrite 1",
                name=run.name,
                stage=run.stage,
                program=program.name,
            )
        )
    verb, add = ("sweep", add_sweep) if run.kind == "sweep" else ("train", add_train)
    parser = Parser(prog=f"{program.name} {verb}")
    add(parser, program)
    detached = ["--detach"] if getattr(args, "detach", False) else []
    again = parser.parse_args([run.stage, "--name", args.run, "--from_resume", "1", *detached, *args.rest])
    status: int = again.command(again, program, console)
    return status
