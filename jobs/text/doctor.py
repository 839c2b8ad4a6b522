"""`data check`: what the data doctor finds in a file, and whether a run would take it."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from data.check import CheckLimits, check_file
from jobs.runs.references import tokenizer_folder
from minimind.language import say
from minimind.tokenizer import Tokenizer


def check_data(
    path: Path,
    stage: str,
    console: Console,
    *,
    tokenizer: str | None = None,
    max_seq_len: int | None = None,
    held_out: Path | None = None,
) -> int:
    """Print what the data doctor finds in a file. Gives the exit status: 1 where a run would refuse the file."""
    vocabulary = Tokenizer.load(tokenizer_folder(tokenizer)) if tokenizer is not None else None
    report = check_file(path, stage, tokenizer=vocabulary, max_seq_len=max_seq_len, eval_path=held_out)
    console.print(report.table())
    try:
        report.refuse_above(CheckLimits(), "data.limits")
    except ValueError as error:
        console.print(say("A run would refuse this file:\n{error}", error=error), style="red", markup=False)
        return 1
    if report.rows - report.bad_rows - report.counts["duplicate"] == 1 and held_out is None:
        advice = say(" In a .txt a blank line stands between two texts.") if path.suffix == ".txt" else ""
        problem = say("A run would refuse this file: it is one text alone, and a part must be held out to measure on.")
        console.print(problem + advice, style="red", markup=False)
        return 1
    console.print(say("Nothing stands in the way of training on it."), style="green")
    return 0
