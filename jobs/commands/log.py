"""`log`: the training log, a row a run."""

from __future__ import annotations

import argparse
import sys

from rich.console import Console

from jobs.commands.arguments import Parser, add_json, add_switch, print_json
from jobs.commands.program import Program
from jobs.terminal.console import Terminal
from minimind.language import say


def add_log(parser: Parser, program: Program) -> None:
    """Which runs, and the form."""
    parser.add_argument("run", nargs="*", help=say("names of runs (default: all)"))
    add_switch(parser, "csv", say("the whole table, for a spreadsheet"))
    add_switch(parser, "markdown", say("the whole table, for a page"))
    add_json(parser)
    parser.set_defaults(command=log)


def log(args: argparse.Namespace, program: Program, console: Console) -> int:
    """The training log: a row a run, the oldest first."""
    from jobs.experiment import log as table

    if args.csv + args.markdown + args.json > 1:
        raise ValueError(say("--csv, --markdown and --json are three forms of the same: give one of them"))
    listed = table.entries(args.run, lambda line: Terminal(stderr=True).print(line, style="yellow"))
    if args.json:
        print_json({"runs": [table.as_json(entry) for entry in listed]})
    elif args.csv or args.markdown:
        sys.stdout.write(table.as_csv(listed) if args.csv else table.as_markdown(listed))
    else:
        table.show(listed, console)
    return 0
