"""`data check`: what the data doctor finds in a file, and whether a run would take it."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

from rich.console import Console

from data.check import CheckLimits, check_file, guess_stage
from data.texts import SHORT
from jobs.runs.references import tokenizer_folder
from jobs.stages.table import STAGES
from minimind.language import say
from minimind.text.tokenizer import Tokenizer


def check_data(
    path: Path,
    stage: str | None,
    console: Console,
    *,
    tokenizer: str | None = None,
    max_seq_len: int | None = None,
    held_out: Path | None = None,
    advise: bool = False,
) -> int:
    """Print what the data doctor finds in a file or folder. Gives the exit status: 1 where a run would refuse it.

    stage: for which it is read; by default that of its first row. advise: say also which command learns from it.
    """
    stage = stage or guess_stage(path) or "pretrain"
    vocabulary = Tokenizer.load(tokenizer_folder(tokenizer)) if tokenizer is not None else None
    report = check_file(path, stage, tokenizer=vocabulary, max_seq_len=max_seq_len, eval_path=held_out)
    try:
        report.refuse_above(CheckLimits(), "data.limits")
    except ValueError as error:
        if report.alike() is None:
            console.print(report.table())
        console.print(say("A run would refuse this file:\n{error}", error=error), style="red", markup=False)
        return 1
    console.print(report.table())
    if report.rows - report.bad_rows - report.counts["duplicate"] == 1 and held_out is None:
        text = report.forms.keys() == {"passages of text"}
        advice = (
            say(" A text is cut into several from {short:,} characters on, at the ends of its lines.", short=SHORT)
            if text
            else ""
        )
        problem = say("A run would refuse this file: it is one text alone, and a part must be held out to measure on.")
        console.print(problem + advice, style="red", markup=False)
        return 1
    for warning in report.warnings():
        console.print(warning, style="yellow", markup=False)
    console.print(say("Nothing stands in the way of training on it."), style="green")
    if advise:
        learner = "grpo" if stage == "rl" else stage
        weights = "--from_weight RUN " if STAGES[learner].continues else ""
        command = f"minimind train {learner} {weights}--data_path {quote(str(path))}"
        console.print(say("Next: {command}", command=command))
    return 0
