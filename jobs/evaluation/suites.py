"""Which suites there are, which fit a model, and all of them put to one, with progress."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from data import suite as suites
from data.suite import Rows
from jobs import paths
from jobs.evaluation.ask import ask, requests_of
from jobs.evaluation.evaluate import Examinee, LocalExaminee, engine_of, evaluate, kept
from jobs.evaluation.remote import RemoteExaminee
from jobs.runs.directory import RunDirectory
from jobs.runs.evals import EvalLog
from jobs.runs.references import Weights
from jobs.stages.lineage import is_from_stock, learnt_to_answer
from jobs.terminal.counting import counting
from minimind.checkpoints.manifest import verify
from minimind.language import phrase, say
from minimind.network.model import MiniMind
from minimind.text.tokenizer import Tokenizer
from minimind.units import duration

SAMPLE = 32
"""Rows of a suite that say how long all of them take."""

ANSWER_TOKENS = 24
"""What a model that has learnt to answer writes for a row. One that has learnt nothing would go on to the most."""

WAYS = {"text": "bits per byte", "pair": "minimal pairs", "choice": "multiple choice", "answer": "answers"}
"""How a suite asks -> what that is called."""


def show(console: Console) -> None:
    """The bundled suites."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))
    for title in ("suite", "how", "rows", "what it shows"):
        table.add_column(phrase(title))
    for name in suites.bundled():
        found = suites.read_suite(suites.SUITES / f"{name}.json")
        try:
            count = str(len(suites.load(name, paths.stock_folder()).rows))
        except ValueError:
            count = say("not here")
        table.add_row(name, phrase(WAYS[found.ask.how]), count, found.said)
    console.print(table, soft_wrap=False)


def fitting(*models: Weights | RemoteExaminee) -> list[str]:
    """The bundled suites that say something of these models: answers are asked of those that have learnt to answer,
    facts of those that were taught them, and likelihoods of those whose weights are here.
    """
    here = [one for one in models if isinstance(one, Weights)]
    runs = [RunDirectory(paths.runs() / one.run) for one in here if one.run is not None]
    answers = any(map(learnt_to_answer, runs)) or len(runs) < len(models)
    names = fitting_what(answers=answers, stock=any(map(is_from_stock, runs)))
    if len(here) == len(models):
        return names
    return [name for name in names if suites.read_suite(suites.SUITES / f"{name}.json").ask.how == "answer"]


def fitting_what(*, answers: bool, stock: bool) -> list[str]:
    """The same of models that have learnt to answer or not, and were taught the stock data or not."""
    found = []
    for name in suites.bundled():
        suite = suites.read_suite(suites.SUITES / f"{name}.json")
        kind, _, file = suite.rows.partition(":")
        if kind == "stock" and not (stock and answers and (paths.stock_folder() / file).is_file()):
            continue
        if suite.ask.how != "answer" or answers:
            found.append(name)
    return found


def load(wanted: Sequence[str | Path]) -> list[Rows]:
    """These suites, each a bundled one's name or a file. Raises ValueError that names what is wrong and where."""
    found = [
        suites.load(one.stem, paths.stock_folder(), one)
        if isinstance(one, Path)
        else suites.load(one, paths.stock_folder())
        for one in wanted
    ]
    names = [rows.suite.name for rows in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(say("two suites are called {name}: their logs would be one file", name=twice))
    return found


def evaluate_all(
    weights: Weights,
    wanted: Sequence[Rows],
    console: Console,
    *,
    again: bool = False,
    device: torch.device | None = None,
) -> list[EvalLog]:
    """A checkpoint's logs, one of each suite; those that there are already are read, unless `again`.

    device: where it is asked, the CPU by default. Raises CheckpointError for a checkpoint that does not verify, and
    what `evaluate` raises.
    """
    verify(weights.folder)
    examinee: LocalExaminee | None = None
    logs = []
    for rows in wanted:
        found = None if again else kept(weights, rows)
        if found is None:
            examinee = examinee or LocalExaminee.load(weights, device)  # seconds, and none where all has been asked
            found = put(rows, examinee, console)
        logs.append(found)
    return logs


def put(rows: Rows, examinee: Examinee, console: Console) -> EvalLog:
    """A suite put to a model, with a bar while it takes its time and a line at its end. Raises what `evaluate` does."""
    with counting(f"{examinee.name}  {rows.suite.name}", requests_of(rows), console) as tell:
        log = evaluate(examinee, rows, lambda tokens: tell())
    console.print(
        say(
            "Evaluated {model} by {suite}: {rows} rows in {time}",
            model=examinee.name,
            suite=rows.suite.name,
            rows=len(log.records),
            time=duration(log.summary["seconds"]),
        ),
        style="dim",
    )
    return log


def expected_s(model: MiniMind, tokenizer: Tokenizer, wanted: Sequence[Rows]) -> float:
    """About how many seconds an evaluation of such a model takes here: a few rows of each suite are asked of it.

    model: of its shape; what it has learnt does not matter.
    """
    engine = engine_of(model, tokenizer)
    seconds = 0.0
    for rows in wanted:
        few = rows.rows[:: -(-len(rows.rows) // SAMPLE)]
        how = rows.suite.ask.model_copy(update={"max_tokens": min(rows.suite.ask.max_tokens, ANSWER_TOKENS)})
        began = time.perf_counter()
        ask(engine, tokenizer, replace(rows, suite=rows.suite.model_copy(update={"ask": how}), rows=few))
        seconds += (time.perf_counter() - began) * len(rows.rows) / len(few)
    return seconds
