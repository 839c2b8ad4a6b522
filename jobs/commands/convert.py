"""`convert`: weights of others as a checkpoint."""

from __future__ import annotations

import argparse

from rich.console import Console

from jobs.commands.arguments import Parser, add_switch
from jobs.commands.program import Program
from minimind.language import say


def add_convert(parser: Parser, program: Program) -> None:
    """From where, to where."""
    parser.add_argument("source", help=say("file or folder to read; {counting}", counting=program.counting))
    parser.add_argument("target", help=say("folder to write; must not exist"))
    parser.add_argument(
        "--tokenizer",
        metavar="FOLDER",
        help=say("with the tokenizer.json that belongs to the weights (default: where the weights are)"),
    )
    add_switch(
        parser,
        "inference_rope_scaling",
        say("upstream's switch for long texts, which a .pth doesn't say; a config.json does"),
    )
    parser.set_defaults(command=convert)


def convert(args: argparse.Namespace, program: Program, console: Console) -> int:
    """Import them."""
    from jobs.convert import import_weights

    tokenizer = program.place(args.tokenizer) if args.tokenizer is not None else None
    scaling: bool = args.inference_rope_scaling
    source, target = program.place(args.source), program.place(args.target)
    import_weights(source, target, console, tokenizer=tokenizer, rope_scaling=scaling)
    return 0
