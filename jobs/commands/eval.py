"""`eval`: suites put to a checkpoint, and two checkpoints side by side."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from data.read import suffix_of
from jobs.commands.arguments import Parser, add_json, add_switch, print_json
from jobs.commands.program import Program
from jobs.runs.references import Weights, find_weights
from jobs.stages.old_names import STAGES_CALLED
from jobs.terminal.console import Terminal
from minimind.language import say

if TYPE_CHECKING:
    from jobs.evaluation.remote import RemoteExaminee

NICENESS = 19
"""An evaluation takes what a training beside it leaves."""


def add_eval(parser: Parser, program: Program) -> None:
    """Which checkpoint, by which suites, against which other."""
    named = say("a run, run@step, run@best, ./folder, or a model that is served, URL#MODEL")
    parser.add_argument("model", nargs="?", metavar="RUN", help=named)
    parser.add_argument("--weight", metavar="RUN", help=say("the same, as the handbook writes it: full_sft is sft"))
    parser.add_argument("--against", metavar="RUN", help=say("a second checkpoint: what is better, what is worse"))
    parser.add_argument(
        "--suite",
        nargs="+",
        metavar="NAME|FILE",
        help=say("suites that come with the project, suite files, or files of rows (default: all that fit the model)"),
    )
    parser.add_argument(
        "--device",
        choices=("cpu", "cuda"),
        default="cpu",
        help=say("where checkpoints are asked (default: cpu, which leaves the card to a training)"),
    )
    add_switch(parser, "again", say("also what has been evaluated already"))
    add_switch(parser, "list", say("the suites that there are"))
    add_json(parser)
    parser.set_defaults(command=evaluate)


def evaluate(args: argparse.Namespace, program: Program, console: Console) -> int:
    """Evaluate, and compare. Raises ValueError for what is not there or does not verify."""
    import torch

    from jobs.evaluation import report, suites, view
    from jobs.evaluation.compare import compare

    if args.list:
        suites.show(console)
        return 0
    named = args.model or args.weight
    if named is None or (args.model and args.weight):
        raise ValueError(say("which checkpoint? For example: minimind eval sft; `minimind runs` lists them"))
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    screen = Terminal(stderr=True) if args.json else console
    if args.device == "cuda" and not torch.cuda.is_available():
        raise ValueError(say("--device cuda: PyTorch sees no GPU here"))
    models = [_model(program, text) for text in (named, args.against) if text is not None]
    wanted = suites.load(suites.fitting(*models) if args.suite is None else [_suite(program, t) for t in args.suite])
    device = torch.device(args.device)
    logs = [
        suites.evaluate_all(one, wanted, screen, again=args.again, device=device)
        if isinstance(one, Weights)
        else [suites.put(rows, one, screen) for rows in wanted]
        for one in models
    ]
    if args.against is None:
        if args.json:
            print_json([{**log.summary, "file": str(log.path)} for log in logs[0]])
            return 0
        view.show_scores(logs[0], console)
        for log in logs[0]:
            view.show_groups(log, console)
        return 0
    compared = compare(list(zip(logs[1], logs[0], strict=True)))
    if args.json:
        print_json([report.as_json(one) for one in compared])
        return 0
    view.show_comparison(compared, console)
    first, *_ = report.write(compared, chosen=args.suite is not None)
    console.print(say("Report: {path}", path=first), soft_wrap=True)
    return 0


def _model(program: Program, text: str) -> Weights | RemoteExaminee:
    """A model behind an endpoint, or a checkpoint by what names it here or as the handbook calls its stage."""
    from jobs.endpoints.endpoint import Endpoint
    from jobs.evaluation.remote import RemoteExaminee

    if text.lower().startswith(("http://", "https://")):
        return RemoteExaminee(Endpoint.named(text))
    return find_weights(program.place_reference(STAGES_CALLED.get(text, text)) or "")


def _suite(program: Program, text: str) -> str | Path:
    """A suite by its name, or a file: with a slash, or called as files are, or that is there."""
    place = program.place(text)
    named_so = suffix_of(text) is not None or text.endswith((".json", ".csv"))
    return place if "/" in text or named_so or place.is_file() else text
