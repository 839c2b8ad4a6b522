"""`card`: the card of a model, for whoever is given it."""

from __future__ import annotations

import argparse
import sys

from rich.console import Console

from jobs.commands.arguments import Parser
from jobs.commands.program import Program
from minimind.language import say


def add_card(parser: Parser, program: Program) -> None:
    """Which model, and where its card goes."""
    parser.add_argument("run", help=say("a run, run@step or run@best"))
    parser.add_argument("-o", "--output", metavar="FILE", help=f"{say('write it into this file')} ({program.counting})")
    parser.set_defaults(command=card)


def card(args: argparse.Namespace, program: Program, console: Console) -> int:
    """The model card, in Markdown and in the reader's language."""
    from jobs.experiment.card import render
    from jobs.runs.evals import write_text
    from jobs.runs.references import find_weights

    text = render(find_weights(program.place_reference(args.run) or ""))
    if args.output is None:
        sys.stdout.write(text)
        return 0
    file = program.place(args.output)
    if file.is_dir():
        raise ValueError(say("{path} is a folder: name a file in it, such as {path}/README.md", path=file))
    console.print(say("Model card: {path}", path=write_text(file, text)), soft_wrap=True)
    return 0
