"""`plan`: whether a stage fits a card."""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console

from jobs.commands.arguments import Parser, add_json, add_switch, print_json
from jobs.commands.program import Program
from jobs.commands.train import add_preset
from jobs.stages import flags
from jobs.stages.stage import DEFAULT_MODEL
from jobs.stages.table import STAGES
from jobs.terminal.console import Terminal
from minimind.language import phrase, say


def add_plan(parser: Parser, program: Program) -> None:
    """The stages, each with its flags; the table of all of them; measuring this machine."""
    parser.description = say(
        "Where the memory of a training step goes and whether it fits, from the shapes alone: nothing is trained. "
        "Without --vram for the device that is here."
    )
    add_switch(parser, "table", say("for every stage and model, the largest batch_size on 4, 6, 8 and 12 GB"))
    add_switch(parser, "calibrate", say("measure this machine's GPU, so that plans are exact"))
    parser.set_defaults(command=plan_all)
    stages = parser.add_subparsers(title=say("stages"), metavar="STAGE", parser_class=Parser)
    for name, stage in STAGES.items():
        title = phrase(stage.title)
        below = stages.add_parser(name, help=title, description=title, usage="%(prog)s [--FLAG VALUE ...]")
        groups = flags.add_flags(below, stage.preset, DEFAULT_MODEL)
        memory = groups["memory"]
        add_preset(memory)
        memory.add_argument(
            "--system",
            choices=["linux", "wsl2", "windows"],
            help=say("where the card of --vram is (default: as here)"),
        )
        memory.add_argument("--card", metavar="NAME", help=say('forecast the time on a card, such as "RTX 3050"'))
        add_json(groups["run"])
        add_switch(memory, "measure", say("make a few real steps here: their peak, and a forecast of the time"))
        below.set_defaults(command=plan_stage, stage=name)


def plan_stage(args: argparse.Namespace, program: Program, console: Console) -> int:
    """Whether the stage fits."""
    from jobs.fit.view import plan_stage as stage_plan
    from jobs.fit.view import show_stage, stage_as_json

    for whole in ("table", "calibrate"):
        if getattr(args, whole):
            raise ValueError(
                say("plan --{whole} is of no single stage: leave {stage!r} out", whole=whole, stage=args.stage)
            )
    settings = flags.absolute(flags.changes(args), program.place("."))
    how: dict[str, Any] = {"model": args.model, "budget": args.preset, "system": args.system}
    if args.json:
        found = stage_plan(args.stage, settings, Terminal(stderr=True), **how)
        print_json(stage_as_json(found))
        return int(found.plan.verdict == "does not fit")
    return show_stage(args.stage, settings, console, **how, speed_of=args.card, measured=args.measure)


def plan_all(args: argparse.Namespace, program: Program, console: Console) -> int:
    """What is of no single stage."""
    if args.table:
        from jobs.fit.view import what_fits

        console.print(what_fits(console), soft_wrap=False)
        return 0
    if args.calibrate:
        from jobs.fit.measure import calibrate

        calibrate(console)
        return 0
    raise ValueError(say("plan: name a stage, or --table, or --calibrate; see minimind plan --help"))
