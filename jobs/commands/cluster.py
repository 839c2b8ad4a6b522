"""`cluster`: the Ray cluster of this machine."""

from __future__ import annotations

import argparse
import sys

from rich.console import Console

from jobs.commands.arguments import Parser, add_switch
from jobs.commands.program import Program
from minimind.language import say


def add_cluster(parser: Parser, program: Program) -> None:
    """What to do with it."""
    parser.add_argument(
        "action", choices=["start", "stop", "status", "env"], help=say("env prints export lines for `eval`")
    )
    add_switch(parser, "yes", say("stop: also while runs train on it, without asking"))
    parser.set_defaults(command=cluster)


def cluster(args: argparse.Namespace, program: Program, console: Console) -> int:
    """Start it, end it, say whether it runs, or how Ray's own commands reach it."""
    from jobs.cluster import access, local

    match args.action:
        case "start":
            found = local.ensure(console.print)
            console.print(access.sharing(found))
        case "stop":
            return _stop(args.yes, console)
        case "env":
            sys.stdout.write(access.exports(local.ensure()) + "\n")
        case _:
            if there := local.find():
                console.print(say("Running: {url}", url=there.dashboard_url))
                return 0
            console.print(say("Not running. Start it: minimind cluster start"))
            return 1
    return 0


def _stop(yes: bool, console: Console) -> int:
    from jobs.cluster import local

    if (names := local.training()) and not yes:
        console.print(say("These train on it and would end: {names}", names=", ".join(names)))
        console.print(say("Each can go on from its last checkpoint, with `minimind resume NAME`."))
        if not console.is_terminal or console.input(say("End them? [y/N] "), markup=False).strip().lower() != "y":
            console.print(say("Nothing was stopped. To end them all the same: minimind cluster stop --yes"))
            return 1
    console.print(say("Stopped.") if local.stop() else say("No cluster that was started here is running."))
    return 0
