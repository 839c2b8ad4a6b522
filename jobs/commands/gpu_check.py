"""`gpu-check`: what is promised of a GPU, on the one that is here."""

from __future__ import annotations

import argparse

from rich.console import Console

from jobs.commands.arguments import Parser
from jobs.commands.program import Program
from minimind.language import say


def add_gpu_check(parser: Parser, program: Program) -> None:
    """Where, and where to write it down."""
    parser.add_argument(
        "--device", default="cuda", choices=["cuda", "cpu"], help=say("cpu: very small (default: cuda)")
    )
    parser.add_argument(
        "--report", default="gpu-report.md", metavar="FILE", help=say("(default: {value})", value="gpu-report.md")
    )
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.set_defaults(command=gpu_check)


def gpu_check(args: argparse.Namespace, program: Program, console: Console) -> int:
    """Measure and prove it."""
    from jobs.gpu_check import check_one, gpu_check

    if args.only is not None:
        return check_one(args.only, args.device)
    return gpu_check(args.device, console, report=program.place(args.report))
