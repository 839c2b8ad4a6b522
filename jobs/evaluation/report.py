"""Two checkpoints side by side as a page that holds everything in itself, and as Markdown: verdict, scores, bad cases.

What a model wrote may be anything: the template escapes markup, and `visible` shows what would steer a page.
"""

from __future__ import annotations

import difflib
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from jobs import paths
from jobs.evaluation.chart import curves, interval, widest
from jobs.evaluation.compare import (
    Case,
    Compared,
    Finding,
    Lead,
    asked_otherwise,
    differ,
    facts_of,
    lead_facts,
    margin,
    ranked,
)
from jobs.evaluation.texts import cell, quoted, visible
from jobs.evaluation.view import lead_verdict, title_of, verdict_of, what_leads_say, wrong_with
from jobs.runs import evals, reports
from jobs.runs.directory import RunDirectory
from jobs.runs.meanings import LEARN_TOKENS
from minimind.events import all_series, read_events
from minimind.language import language, phrase, say, speaking
from minimind.units import duration, memory

_KINDS = ("html", "md")

CASES = 12
"""How many regressions and gains of a suite are shown; the logs hold them all."""

MOST_COMPARED = 40_000
"""Pieces of one answer times those of the other, up to which each difference is looked for."""

EXCERPT = 160
"""Characters of a text whose bits per byte were asked, which tell the reader which one it is."""

_WORD = re.compile(r"[^\W_]+|\s+|.", re.DOTALL)
_CJK = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")


@dataclass(frozen=True)
class Side:
    """One of the two: what it is, and what its run says of itself."""

    letter: str
    name: str
    stage: str
    facts: tuple[tuple[str, str], ...]
    curve: tuple[tuple[int, ...], tuple[float, ...]]


def write(compared: Sequence[Compared], *, chosen: bool = False) -> list[Path]:
    """`report.<language>.html` and `.md` in both languages, and `report.json` with what was found. Gives the paths of
    the pages, those of the reader's language first.

    chosen: the suites were; then it has a folder of its own, for it is not the report of all that fit the models.

    Raises ValueError where the disk does not take them; older ones stay then.
    """
    a, b = (str(summary["model"]) for summary in (compared[0].a.summary, compared[0].b.summary))
    folder = reports.folder_of(a, b, [one.a.suite for one in compared] if chosen else ())
    written, verdicts = [], {}
    first = language()
    for lang in (first, "en" if first == "zh" else "zh"):
        with speaking(lang):
            written += [evals.write_text(folder / f"report.{lang}.{kind}", render(compared, kind)) for kind in _KINDS]
            verdicts[lang] = verdict(compared)
    facts = {"a": a, "b": b, "time": time.time(), "verdict": verdicts, "suites": [as_json(one) for one in compared]}
    evals.write_text(folder / reports.FACTS, json.dumps(facts, ensure_ascii=False, allow_nan=False) + "\n")
    return written


def as_json(one: Compared) -> dict[str, Any]:
    """A comparison for programs; docs/json.md has the keys."""
    return {
        "suite": one.a.suite,
        "a": str(one.a.path),
        "b": str(one.b.path),
        "findings": [_finding_as_json(finding) for finding in one.findings],
        "lead": lead_facts(one.lead),
        "regressions": [case.a["id"] for case in one.regressions],
        "gains": [case.a["id"] for case in one.gains],
    }


def _finding_as_json(finding: Finding) -> dict[str, Any]:
    """With one verdict: the one that holds among all comparisons."""
    content = facts_of(finding)
    del content["comparison"]["verdict"]
    return {**content, "verdict": verdict_of(finding)}


def render(compared: Sequence[Compared], kind: str) -> str:
    """The report in the reader's language. kind: "html" or "md"."""
    a, b = (_side(letter, [log.summary for log in logs]) for letter, logs in _logs(compared))
    environment = templates(Path(__file__).parent)

    def show_case(one: Compared, case: Case) -> Markup | str:
        shown = environment.get_template(f"case.{kind}.jinja").render(case=case_of(case), summary=one.a.summary)
        return Markup(shown) if kind == "html" else shown

    return environment.get_template(f"report.{kind}.jinja").render(
        show_case=show_case,
        reach=widest(compared),
        a=a,
        b=b,
        compared=compared,
        verdict=verdict(compared),
        curves=Markup(curves([(a.letter, *a.curve), (b.letter, *b.curve)])),
        otherwise=asked_otherwise(compared),
        settings=_different_settings(compared[0]),
        same_tokenizer=not differ(*(one["tokenizer"] for one in (compared[0].a.summary, compared[0].b.summary))),
        both_here=all(one["precision"] for one in (compared[0].a.summary, compared[0].b.summary)),
        style=Markup((paths.checkout() / "service" / "ui" / "theme.css").read_text("utf-8")),
        lang=language(),
        date=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        cases_shown=CASES,
    )


def verdict(compared: Sequence[Compared]) -> str:
    """What changed, in a sentence or two."""
    names = {word: [one for one in compared if verdict_of(one.whole) == word] for word in ("better", "worse")}
    b = compared[0].b.summary["model"]
    said = []
    what = {
        word: say(", ").join(
            say("{what} ({change})", what=title_or_name(one), change=_change(one)) for one in names[word]
        )
        for word in names
    }
    if names["better"]:
        said.append(say("{b} is better at {what}", b=b, what=what["better"]))
    if names["worse"]:
        said.append(say("{b} is worse at {what}", b=b, what=what["worse"]))
    unsure = [one for one in compared if verdict_of(one.whole) == "cannot tell"]
    same = [one for one in unsure if not one.whole.comparison.better and not one.whole.comparison.worse]
    if same:
        said.append(say("every row of {what} scores the same", what=say(", ").join(map(title_or_name, same))))
    if rest := [one for one in unsure if one not in same]:
        said.append(say("these rows cannot tell about {what}", what=say(", ").join(map(title_or_name, rest))))
    if parts := [(one, part) for one, part in ranked(compared) if one in unsure and verdict_of(part) == "worse"]:
        worst = [
            say("{what} ({change})", what=f"{title_or_name(one)} · {part.value}", change=_change_of(one, part))
            for one, part in parts[:3]
        ]
        said.append(say("worse in parts of them: {what}", what=say(", ").join(worst)))
    said += [_lead(one, one.lead) for one in compared if one.lead and _adds(one, one.lead)]
    return say("; ").join(said) + say(".")


def _adds(one: Compared, lead: Lead) -> bool:
    """Whether the leads say more than the scores: they hold, and the scores do not say the same."""
    return lead.held and lead.verdict != verdict_of(one.whole)


def _lead(one: Compared, lead: Lead) -> str:
    """The lead of the better text in a sentence, said of the greater part of the pairs."""
    b, suite, found = one.b.summary["model"], title_or_name(one), lead.test.share
    further = lead.test.more > lead.test.less
    ends = (found.value, found.low, found.high) if further else (1 - found.value, 1 - found.high, 1 - found.low)
    share, low, high = (evals.number(one.a.summary, end) for end in ends)
    reach = say("{low} … {high}; chance 50 %", low=low, high=high)
    values = {"b": b, "suite": suite, "share": share, "rows": lead.test.rows, "interval": reach}
    if further:
        return say(
            "{b} holds the better text further ahead of the worse in {share} of {rows} pairs of {suite} ({interval})",
            **values,
        )
    return say(
        "{b} holds the better text less far ahead of the worse in {share} of {rows} pairs of {suite} ({interval})",
        **values,
    )


def _change(one: Compared) -> str:
    return _change_of(one, one.whole)


def _change_of(one: Compared, finding: Finding) -> str:
    value = finding.comparison.difference.value
    if one.a.summary["lower_is_better"]:
        return say("{value} bits per byte", value=f"{value:+.3f}")
    return say("{value} points of 100", value=f"{100 * value:+.1f}")


def title_or_name(one: Compared) -> str:
    """What a suite is called in a sentence."""
    return phrase(one.a.suite)


def case_of(case: Case) -> dict[str, Any]:
    """A case as the template shows it: what was asked, both answers with their differences marked, what is wrong."""
    a, b = case.a, case.b
    shown: dict[str, Any] = {"id": a["id"], "groups": a["groups"], "gain": case.gain, "a_score": a["score"]}
    shown |= {"b_score": b["score"], "a_wrong": a.get("diagnoses", []), "b_wrong": b.get("diagnoses", [])}
    if "answer" in a:
        talk = a["prompt"]
        shown |= {
            "before": [visible(f"{turn['role']}: {turn.get('content') or ''}") for turn in talk[:-1]],
            "prompt": visible(str(talk[-1].get("content") or "")),
            "expected": visible(str(a["expected"])) if a.get("expected") else "",
            "said": [_said(a), _said(b)],
        }
    elif "good" in a:
        margins = [margin(record) for record in (a, b)]
        shown |= {"prompt": visible(a["good"]), "bad": visible(a["bad"])}
        shown |= {} if None in margins else {"margins": margins}
    elif "choices" in a:
        shown |= {"prompt": visible(a["prompt"]), "choices": [visible(text) for text in a["choices"]]}
        shown |= {"right": a["right"], "a_chosen": a["chosen"], "b_chosen": b["chosen"]}
    else:
        text = a["prompt"]
        shown |= {"prompt": visible(text if len(text) <= EXCERPT else f"{text[:EXCERPT]} …"), "is_excerpt": True}
    return shown


def _said(record: dict[str, Any]) -> str:
    calls = "".join(f"\n[{name}({arguments})]" for name, arguments in record.get("calls", ()))
    return f"{record['answer']}{calls}".strip("\n")


def marked(a: str, b: str) -> tuple[Markup, Markup]:
    """Both texts as HTML, with <del> where only the first has it and <ins> where only the second."""
    first, second = _pieces(visible(a)), _pieces(visible(b))
    sides = (Markup(""), Markup(""))
    for kind, i, j, k, m in _differences(first, second):
        one, other = escape("".join(first[i:j])), escape("".join(second[k:m]))
        if kind == "equal":
            sides = (sides[0] + one, sides[1] + other)
        else:
            gone = Markup("<del>{}</del>").format(one) if one else Markup("")
            new = Markup("<ins>{}</ins>").format(other) if other else Markup("")
            sides = (sides[0] + gone, sides[1] + new)
    return sides


def _differences(first: list[str], second: list[str]) -> list[tuple[str, int, int, int, int]]:
    """As difflib's opcodes. Of long texts only where they begin and cease to differ: difflib takes minutes for answers
    that go round in circles.
    """
    if len(first) * len(second) <= MOST_COMPARED:
        return list(difflib.SequenceMatcher(None, first, second, autojunk=False).get_opcodes())
    shorter = min(len(first), len(second))
    start = next((n for n in range(shorter) if first[n] != second[n]), shorter)
    end = next((n for n in range(shorter - start) if first[-1 - n] != second[-1 - n]), shorter - start)
    one, other = len(first) - end, len(second) - end
    return [
        ("equal", 0, start, 0, start),
        ("replace", start, one, start, other),
        ("equal", one, len(first), other, len(second)),
    ]


def _pieces(text: str) -> list[str]:
    """Words, and single characters of Chinese: the units in which a difference is seen."""
    found: list[str] = []
    for piece in _WORD.findall(text[:4000]):
        found += list(piece) if _CJK.search(piece) else [piece]
    return found


def _logs(compared: Sequence[Compared]) -> list[tuple[str, list[evals.EvalLog]]]:
    return [("A", [one.a for one in compared]), ("B", [one.b for one in compared])]


def _side(letter: str, summaries: Sequence[dict[str, Any]]) -> Side:
    summary = summaries[0]
    facts: list[tuple[str, str]] = []
    steps: tuple[int, ...] = ()
    values: tuple[float, ...] = ()
    if summary.get("run"):
        run = RunDirectory(paths.runs() / summary["run"])
        try:
            row, series = run.row(), all_series(read_events(run.events_path))
        except (OSError, ValueError):
            return Side(letter, summary["model"], str(summary["stage"]), (), ((), ()))
        facts = [(say("step"), str(summary["step"]))]
        if row.tokens_per_s:
            facts.append((say("tokens/s"), f"{row.tokens_per_s:.0f}"))
        if row.peak_memory_bytes:
            facts.append((say("peak memory"), memory(row.peak_memory_bytes)))
        loss = say("validation loss")
        if summary["stage"] not in LEARN_TOKENS:  # of something else than tokens: not to be compared with these
            loss = say("validation loss of {stage}", stage=summary["stage"])
        for name, title in (("val/loss", loss), ("val/bits_per_byte", say("bits/byte"))):
            if series.get(name):
                facts.append((title, f"{series[name][1][-1]:.4f}"))
        found = series.get("val/bits_per_byte") or series.get("train/loss") or ([], [])
        steps, values = tuple(found[0]), tuple(found[1])
    facts.append((say("evaluated in"), duration(sum(float(one["seconds"]) for one in summaries))))
    return Side(letter, summary["model"], str(summary["stage"]), tuple(facts), (steps, values))


def _different_settings(one: Compared) -> list[tuple[str, str, str]]:
    """The settings of both runs that are not the same: dotted path, A's, B's."""
    trees = []
    for summary in (one.a.summary, one.b.summary):
        if not summary.get("run"):
            return []
        try:
            trees.append(_flat(RunDirectory(paths.runs() / summary["run"]).spec()))
        except ValueError:
            return []
    return [
        (path, str(trees[0].get(path, "")), str(trees[1].get(path, "")))
        for path in sorted(trees[0].keys() | trees[1].keys())
        if trees[0].get(path) != trees[1].get(path) and path != "name"
    ]


def _flat(tree: dict[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= _flat(value, f"{above}{name}.") if isinstance(value, dict) else {f"{above}{name}": value}
    return found


@cache
def templates(folder: Path) -> Environment:
    """The templates of a folder, which speak the reader's language. HTML is escaped, Markdown is not."""
    made = Environment(
        loader=FileSystemLoader(folder),
        autoescape=lambda name: name is not None and ".html" in name,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {
        "say": say,
        "phrase": phrase,
        "number": evals.number,
        "verdict_of": verdict_of,
        "title_of": title_of,
        "quoted": quoted,
        "cell": cell,
        "marked": marked,
        "wrong_with": wrong_with,
        "lead_verdict": lead_verdict,
        "what_leads_say": what_leads_say,
        "interval": lambda found, reach, middle=0.0: Markup(interval(found, reach, middle)),
        "visible": visible,
    }
    return made
