"""What evaluations found, in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.evaluation.ask import LOST_FACT
from jobs.evaluation.compare import Compared, Finding, Lead, asked_otherwise, ranked
from jobs.runs.evals import EvalLog, number
from jobs.terminal.wrap import tell
from minimind.evaluation.diagnostics import describe
from minimind.evaluation.statistics import Comparison, Verdict
from minimind.language import language, phrase, say
from minimind.units import duration

SHOWN_GROUPS = 10
"""Of the parts of suites that differ so many are shown in the terminal."""

_STYLES = {"better": "green", "worse": "red", "cannot tell": "dim"}

_LEADS: dict[Verdict, str] = {"better": "further ahead", "worse": "less far ahead", "cannot tell": "cannot tell"}
"""What is said of the lead of the better text."""


def show_scores(logs: Sequence[EvalLog], console: Console) -> None:
    """A line for each suite: its score, how sure that is, and what guessing would score."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))
    table.add_column(say("suite"), no_wrap=True)
    for title in ("score", "95 % interval", "chance", "rows", "time"):
        table.add_column(phrase(title), justify="right", no_wrap=True)
    for log in logs:
        found = log.summary
        table.add_row(
            label(found, log.suite),
            number(found, found["score"]),
            f"{number(found, found['low'])} … {number(found, found['high'])}",
            number(found, found["chance"]) if found["chance"] is not None else "",
            str(found["n"]),
            duration(found["seconds"]),
        )
    console.print(table, soft_wrap=False)
    explain([log.summary for log in logs], console)


def label(summary: dict[str, Any], name: str) -> str:
    """A suite's name in a table, marked where less is better; `explain` says what the mark means."""
    return f"{name} ↓" if summary["lower_is_better"] else name


def explain(summaries: Sequence[dict[str, Any]], console: Console) -> None:
    """The mark that `label` makes, where one of these suites has it."""
    if any(summary["lower_is_better"] for summary in summaries):
        tell(console, say("↓ bits per byte of text that it never saw: less is better"), style="dim")


def show_groups(log: EvalLog, console: Console) -> None:
    """The score of a suite by each field its rows are known by, and what was wrong with answers as texts."""
    for field, values in log.summary["groups"].items():
        said = [f"{value} {number(log.summary, one['value'])}" for value, one in values.items()]
        console.print(Text.assemble((f"{log.suite}, {phrase(field)}: ", "bold"), ", ".join(said)))
    if log.summary["diagnoses"]:
        said = [f"{wrong_with(name)} {count}" for name, count in log.summary["diagnoses"].items()]
        console.print(Text.assemble((f"{log.suite}, {say('wrong with the text')}: ", "bold"), ", ".join(said)))


def show_comparison(compared: Sequence[Compared], console: Console) -> None:
    """B against A: suite by suite with a verdict each, then the groups that differ."""
    first = compared[0]
    names = {"A": first.a.summary["model"], "B": first.b.summary["model"]}
    console.print("\n" + "   ".join(f"{letter} = {name}" for letter, name in names.items()), style="bold")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column(say("suite"), no_wrap=True)
    for title in ("A", "B", "B - A", "95 % interval", "rows + / -"):
        table.add_column(phrase(title), justify="right", no_wrap=True)
    table.add_column(say("verdict"), no_wrap=True)
    for one in compared:
        table.add_row(label(one.a.summary, phrase(one.a.suite)), *cells(one.a.summary, one.whole))
    console.print(table, soft_wrap=False)
    explain([one.a.summary for one in compared], console)
    _show_leads(compared, console)
    for line in asked_otherwise(compared):
        console.print(line, style="yellow")
    groups = ranked(compared)
    for one, finding in groups[:SHOWN_GROUPS]:
        numbers = f"{number(one.a.summary, finding.a)} → {number(one.a.summary, finding.b)}"
        word = verdict_of(finding)
        name = f"  {phrase(one.a.suite)}, {finding.value}: {numbers} "
        console.print(Text.assemble(name, (phrase(word), _STYLES[word])), soft_wrap=True)
    if len(groups) > SHOWN_GROUPS:
        more = len(groups) - SHOWN_GROUPS
        console.print(say("  and {more} more parts differ: the report has them all", more=more), style="dim")
    for one in compared:
        if (needed := one.whole.comparison.needed_rows) is not None and verdict_of(one.whole) == "cannot tell":
            console.print(
                say(
                    "{suite}: to tell a difference of this size takes about {needed} rows; there are {rows}",
                    suite=phrase(one.a.suite),
                    needed=needed,
                    rows=one.whole.comparison.rows,
                ),
                style="dim",
            )


def _show_leads(compared: Sequence[Compared], console: Console) -> None:
    """Of suites of pairs: how often B holds the better text further ahead of the worse one than A does."""
    found = [(one, one.lead) for one in compared if one.lead is not None]
    if not found:
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))
    table.add_column(say("pairs"), no_wrap=True)
    for title in ("B further ahead", "95 % interval", "rows + / -"):
        table.add_column(phrase(title), justify="right", no_wrap=True)
    table.add_column(say("verdict"), no_wrap=True)
    for one, lead in found:
        share = [
            number(one.a.summary, end) for end in (lead.test.share.value, lead.test.share.low, lead.test.share.high)
        ]
        table.add_row(
            phrase(one.a.suite),
            share[0],
            f"{share[1]} … {share[2]}",
            f"{lead.test.more} / {lead.test.less}",
            Text(lead_verdict(lead), style=_STYLES[lead.verdict]),
        )
    console.print()
    console.print(table, soft_wrap=False)
    tell(console, what_leads_say(), style="dim", indent="")


def what_leads_say() -> str:
    """What the numbers of leads are, for whoever sees them."""
    return say("pairs in which B holds the better text further ahead of the worse than A does; chance is 50 %")


def lead_verdict(lead: Lead) -> str:
    """Where the better text is in most pairs, as far as that can be told."""
    return phrase(_LEADS[lead.verdict])


def cells(summary: dict[str, Any], finding: Finding) -> list[Text]:
    """A finding as a row of a table: A, B, the difference, its interval, rows better and worse, the verdict."""
    compared: Comparison = finding.comparison
    word = verdict_of(finding)
    difference = compared.difference.known()
    return [
        Text(number(summary, finding.a)),
        Text(number(summary, finding.b)),
        Text(number(summary, difference["value"], signed=True)),
        Text(f"{number(summary, difference['low'], signed=True)} … {number(summary, difference['high'], signed=True)}"),
        Text(f"{compared.better} / {compared.worse}"),
        Text(phrase(word), style=_STYLES[word]),
    ]


def verdict_of(finding: Finding) -> str:
    """Better and worse only where that holds among all comparisons."""
    return finding.comparison.verdict if finding.held else "cannot tell"


def wrong_with(name: str) -> str:
    """What is wrong with an answer as a text, in a sentence, by the name that the logs give it."""
    return say("The fact is not in it.") if name == LOST_FACT else describe(name)


def title_of(summary: dict[str, Any]) -> str:
    """What a suite is about, in the reader's language."""
    titles: dict[str, str] = summary["title"]
    return titles.get(language()) or next(iter(titles.values()), str(summary["suite"]))
