"""`minimind` alone: what there is, what runs and where, and what to do next."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from jobs import paths
from jobs.commands.program import Program
from minimind.language import say

_DONE_ANEW = ("pretrain", "tokenizer", "?")
"""Stages whose models have not learnt to answer."""


def home(program: Program, console: Console) -> int:
    """Print it. Gives the exit status."""
    from jobs.cluster import local as cluster
    from jobs.cluster.access import ClusterError
    from jobs.runs.directory import list_runs
    from jobs.runs.show import state_text
    from jobs.serving.server import running_url

    rows = list_runs(paths.runs())
    if rows:
        newest = rows[0]
        line = (
            say("{name}: {value}", name=say("newest"), value=""),
            (newest.name, "bold"),
            f"  {newest.stage}  ",
            state_text(newest.state),
        )
        console.print(Text.assemble(*line))
    else:
        console.print(say("no runs yet in {folder}", folder=paths.runs()))
    try:
        there = cluster.find()
        where = there.dashboard_url if there else say("none is running")
    except ClusterError as error:
        there, where = None, str(error)
    console.print(say("{name}: {value}", name=say("cluster"), value=where))
    url = (running_url() if there else None) or say("none is running")
    console.print(say("{name}: {value}", name=say("server"), value=url))
    console.print()
    taught = any(row.state.word == "SUCCEEDED" and row.stage not in _DONE_ANEW for row in rows)
    steps = next_steps(bool(rows), taught)
    width = max(len(command) for command, _ in steps)
    for command, what in steps:
        if width + 5 + 24 <= console.width:
            console.print(f"  {program.name} {command:<{width}}   {what}")
        else:
            console.print(f"  {program.name} {command}\n      {what}")
    return 0


def next_steps(trained: bool, taught: bool) -> list[tuple[str, str]]:
    """The next three commands, and where all others are listed. trained: whether there is a run; taught: one that has
    learnt to answer.
    """
    if taught:
        steps = [
            ("chat", say("talk with it")),
            ("serve", say("a page to talk with it")),
            ("train pretrain --data_path FILE", say("learn language from text")),
        ]
    elif trained:
        steps = [
            ("runs", say("how far it is")),
            ("data check FILE --stage sft", say("is your own data ready?")),
            ("train sft --from_weight RUN --data_path FILE", say("teach a model to answer")),
        ]
    else:
        steps = [
            ("demo", say("raw text to a model that chats, in some minutes")),
            ("data check FILE", say("is your own data ready?")),
            ("train pretrain --data_path FILE", say("learn language from text")),
        ]
    return [*steps, ("--help", say("everything else"))]
