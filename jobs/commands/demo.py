"""`demo`: raw text to a model that chats, with stock data."""

from __future__ import annotations

import argparse
import shlex

from rich.console import Console

from jobs.commands.arguments import Parser, add_detach, add_switch
from jobs.commands.program import Program
from minimind.language import say


def add_demo(parser: Parser, program: Program) -> None:
    """Its two switches."""
    add_switch(parser, "fresh", say("forget an earlier demo"))
    add_switch(parser, "keep", say("leave the server running at the end"), default=True)
    add_detach(parser, program)
    parser.set_defaults(command=demo)


def demo(args: argparse.Namespace, program: Program, console: Console) -> int:
    """Make it: in this process, or as a job that is followed."""
    from jobs.demo.demo import RUN, run

    if not program.submits:
        return run(console, fresh=args.fresh, keep=args.keep)
    from jobs.cluster.follow import submit_training

    argv = ["demo", "--fresh", str(int(args.fresh)), "--keep", str(int(args.keep))]
    return submit_training(RUN, argv, shlex.join(argv), detach=args.detach, console=console)
