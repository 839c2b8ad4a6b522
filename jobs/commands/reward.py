"""`reward`: what a reward model says of answers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from jobs.commands.arguments import Parser, add_rows_of, add_switch, print_json
from jobs.commands.program import Program
from jobs.stages.old_names import ROWS_OF
from jobs.terminal.console import Terminal
from minimind.language import phrase, say

if TYPE_CHECKING:
    from jobs.evaluation.rewards import Scored, Summary

BEHIND = 5
"""So many of the pairs are named whose better answer is furthest behind."""


def add_reward(parser: Parser, program: Program) -> None:
    """The verbs below it."""
    verbs = parser.add_subparsers(metavar="VERB", required=True, parser_class=Parser)
    score = verbs.add_parser(
        "score", help=say("the score of every answer of a file, and of pairs how often the better one is ahead")
    )
    score.add_argument(
        "file",
        help=say("conversations, pairs of answers, or answers with a label; {counting}", counting=program.counting),
    )
    score.add_argument(
        "--weight",
        metavar="RUN",
        default="reward",
        help=say("the reward model: a run, run@step or run@best (default: reward)"),
    )
    add_rows_of(score, ("sft", "dpo", "kto"), say("(default: that of the first row)"))
    score.add_argument(
        "-o", "--output", metavar="FILE", help=say("write the score of every answer into this file, as JSON lines")
    )
    add_switch(score, "json", say("one JSON object in place of the table"))
    score.set_defaults(command=score_rows)


def score_rows(args: argparse.Namespace, program: Program, console: Console) -> int:
    """Scores of a file's answers."""
    from jobs.evaluation.rewards import score_file, summary
    from jobs.runs.evals import write_text
    from jobs.runs.references import find_weights

    weights = find_weights(program.place_reference(args.weight) or "")
    screen = Terminal(stderr=True) if args.json else console
    columns = (TextColumn(say("scoring")), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, transient=True) as bar:
        task = bar.add_task("", total=None)
        scored = score_file(
            weights,
            program.place(args.file),
            ROWS_OF.get(args.stage, args.stage),
            lambda done, every: bar.update(task, completed=done, total=every),
        )
    if args.output is not None:
        lines = "".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in scored)
        path = write_text(program.place(args.output), lines)
        screen.print(say("Scores: {path}", path=path), soft_wrap=True)
    found = summary(scored)
    if args.json:
        pairs = {name: {"pairs": count, "ahead": right.known()} for name, (count, right) in found.pairs.items()}
        print_json({"model": weights.name, **found.spread, "pairs": pairs, "labels": found.labels})
        return 0
    show(found, console)
    show_behind(scored, console)
    return 0


def show(found: Summary, console: Console) -> None:
    """What the scores come to; of pairs, how often the better answer is ahead, and whether its length decides that."""
    answers = say("{answers} answers, mean score {mean:.3f}, from {low:.3f} to {high:.3f}", **found.spread)
    console.print(answers)
    if found.labels:
        line = say(
            "{good} good ones, mean {mean_good:.3f}; {bad} bad ones, mean {mean_bad:.3f}. Of a good and a bad one "
            "drawn at random the good one is ahead in {ahead:.1%}",
            **found.labels,
        )
        console.print(line)
    if not found.pairs:
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))
    table.add_column(say("the better answer is"), no_wrap=True)
    for title in ("pairs", "ahead", "95 % interval"):
        table.add_column(phrase(title), justify="right", no_wrap=True)
    for name, (pairs, right) in found.pairs.items():
        interval = f"{100 * right.low:.1f} … {100 * right.high:.1f} %"
        table.add_row(phrase(name), str(pairs), f"{100 * right.value:.1f} %", interval)
    console.print(table, soft_wrap=False)


def show_behind(scored: Sequence[Scored], console: Console) -> None:
    """The pairs whose better answer is furthest behind."""
    behind = sorted((one for one in scored if one.margin < 0), key=lambda one: one.margin)[:BEHIND]
    for one in behind:
        where = say("{file} line {line}", file=one.file, line=one.line)
        console.print(say("{where}: the better answer is {by:.3f} behind", where=where, by=-one.margin), soft_wrap=True)
