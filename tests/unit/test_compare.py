from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from jobs.evaluation import report
from jobs.evaluation.chart import interval, widest
from jobs.evaluation.compare import Compared, asked_otherwise, compare, facts_of, ranked
from jobs.evaluation.view import cells, show_comparison, verdict_of
from jobs.runs.evals import EvalLog
from minimind.evaluation.statistics import mcnemar, share
from minimind.language import speaking
from tests.small import Screen


def log(scores: dict[str, list[float]], *, lower: bool = False, **more: Any) -> EvalLog:
    """A log of rows in kinds; the ids run against the order of the kinds. more: of the summary."""
    rows = [(kind, score) for kind, each in scores.items() for score in each]
    records = [
        {"id": f"{len(rows) - place:03d}", "groups": {"topic": kind}, "score": score, "tokens": 1}
        for place, (kind, score) in enumerate(rows)
    ]
    summary = {
        "suite": "facts",
        "rows_sha256": "same",
        "suite_sha256": "same",
        "counted": {},
        "groups": {"topic": dict.fromkeys(scores)},
        "lower_is_better": lower,
        "how": "answer",
        "template": "same",
        **more,
    }
    return EvalLog(Path("log"), records, summary)


def compared(a: EvalLog, b: EvalLog) -> Compared:
    [found] = compare([(a, b)])
    return found


def test_of_rows_that_are_as_much_worse_those_come_first_whose_kind_is_lost() -> None:
    a = log({"lost": [1.0] * 12, "fine": [1.0] * 12})
    b = log({"lost": [0.0] * 12, "fine": [1.0] * 10 + [0.0] * 2})
    found = compared(a, b)
    kinds = [case.a["groups"]["topic"] for case in found.regressions]
    assert kinds == ["lost"] * 12 + ["fine"] * 2
    back = compared(b, a)
    assert [case.a["groups"]["topic"] for case in back.gains] == kinds


def test_what_got_worse_the_most_is_ranked_first() -> None:
    a = log({"lost": [1.0] * 12, "half": [1.0] * 20, "won": [0.0] * 12, "same": [1.0] * 9})
    b = log({"lost": [0.0] * 12, "half": [1.0] * 10 + [0.0] * 10, "won": [1.0] * 12, "same": [1.0] * 9})
    assert [finding.value for _, finding in ranked([compared(a, b)])] == ["lost", "half", "won"]
    more = log({"bad": [2.0] * 12, "good": [2.0] * 12}, lower=True)
    less = log({"bad": [4.0] * 12, "good": [1.0] * 12}, lower=True)
    assert [finding.value for _, finding in ranked([compared(more, less)])] == ["bad", "good"]
    assert [case.a["groups"]["topic"] for case in compared(more, less).regressions] == ["bad"] * 12


def test_what_was_asked_otherwise_is_said() -> None:
    a = log({"one": [1.0]})
    assert asked_otherwise([compared(a, log({"one": [0.0]}))]) == []
    changed = log({"one": [0.0]}, suite_sha256="other", template="other")
    assert asked_otherwise([compared(a, changed)]) == [
        "The two were not asked alike: facts changed in between.",
        "The two have different chat templates: a difference in answers may come from that alone.",
    ]
    assert len(asked_otherwise([compared(log({"one": [1.0]}, how="text"), changed)])) == 1


def test_rows_that_got_worse_score_less() -> None:
    """A worse text at the same score, and a row that is not counted, are none of those that the verdict counts."""
    a = log({"fine": [1.0, 0.0, 0.0], "beside": [1.0]}, counted={"topic": ["fine"]})
    b = log({"fine": [1.0, 0.0, 0.0], "beside": [0.0]}, counted={"topic": ["fine"]})
    b.records[1]["diagnoses"] = ["repeats"]
    a.records[2]["diagnoses"] = ["repeats"]
    found = compared(a, b)
    assert "every row of facts scores the same" in report.verdict([replace_model(found)])
    assert found.regressions == found.gains == []
    assert [case.a["id"] for case in found.unscored_regressions] == ["001", "003"]  # the worst first
    assert [case.a["id"] for case in found.unscored_gains] == ["002"]
    for one, other in ((a, b), (b, a)):
        other.records[0]["score"] = 0.5
        both = compared(one, other)
        assert len(both.regressions) == both.whole.comparison.worse
        assert len(both.gains) == both.whole.comparison.better
        other.records[0]["score"] = 1.0


def replace_model(found: Compared) -> Compared:
    """With what a report names."""
    return replace(found, b=replace(found.b, summary={**found.b.summary, "model": "b"}))


def test_one_row_is_no_part_and_has_no_interval() -> None:
    found = compared(log({"one": [2.0]}, lower=True), log({"one": [3.0]}, lower=True))
    assert len(found.findings) == 1  # a part of one row would only take from the tests of the others
    facts = facts_of(found.whole)
    assert json.loads(json.dumps(facts, allow_nan=False))["comparison"]["difference"]["low"] is None
    assert "? … ?" in [cell.plain for cell in cells(found.a.summary, found.whole)]
    assert widest([found]) == {False: 1e-9, True: 1.0}
    assert "range" not in interval(found.whole.comparison.difference, 1.0)
    assert "nan" not in interval(found.whole.comparison.difference, 1.0)


def test_whoever_cannot_tell_says_how_many_rows_would() -> None:
    """What holds by itself and not beside others has the number too."""
    kinds = {f"kind {number}": [0.0] * 40 for number in range(30)}
    a, b = log(kinds), log({**kinds, "kind 3": [1.0] * 7 + [0.0] * 33})
    (part,) = [finding for finding in compared(a, b).findings if finding.value == "kind 3"]
    assert part.comparison.verdict == "better"
    assert verdict_of(part) == "cannot tell"
    assert part.comparison.needed_rows is not None
    assert part.comparison.needed_rows > 40


def pairs(margins: list[float], suite: str = "preferences", **more: Any) -> EvalLog:
    """A log of pairs: by how many nats the better text is likelier than the worse one."""
    made = log({"one": [float(margin > 0) for margin in margins]}, suite=suite, how="pair", chance=0.5, **more)
    for place, (record, margin) in enumerate(zip(made.records, margins, strict=True)):
        bad = -2.0 - place
        record |= {"good": "x", "bad": "y", "logprobs": [bad + margin, bad]}
    return made


def test_how_often_the_better_text_is_further_ahead() -> None:
    """30 pairs up, 2 down, 4 as they were: 32 of 36 where equal ones count half. No score changes, also not where the
    wrong text stays the likelier one and is so by less.
    """
    before = [8.0] * 20 + [-8.0] * 16
    after = [9.0] * 18 + [7.0] * 2 + [-6.0] * 12 + [-8.0] * 4
    found = compared(pairs(before), pairs(after, model="b"))
    assert found.whole.comparison.better == found.whole.comparison.worse == 0
    assert found.lead is not None
    test = found.lead.test
    assert (test.more, test.less, test.rows) == (30, 2, 36)
    assert test.share == share(32, 36)
    assert found.lead.verdict == "better"
    assert report.verdict([found]) == (
        "every row of preferences scores the same; b holds the better text further ahead of the worse in 88.9 % of 36 "
        "pairs of preferences (74.7 % … 95.6 %; chance 50 %)."
    )
    back = compared(pairs(after), pairs(before, model="b"))
    assert back.lead is not None
    assert back.lead.verdict == "worse"
    assert "b holds the better text less far ahead of the worse in 88.9 % of 36 pairs" in report.verdict([back])
    with speaking("zh"):
        assert "b 在偏好的 36 对里有 88.9 % 让较好的文本比较差的领先更多（74.7 % … 95.6 %" in report.verdict([found])


def test_a_lead_is_said_where_it_holds_and_says_more_than_the_score() -> None:
    few = compared(pairs([1.0] * 5), pairs([2.0] * 5, model="b"))
    assert few.lead is not None
    assert (few.lead.test.p, few.lead.verdict) == (2 / 2**5, "cannot tell")
    assert "ahead" not in report.verdict([few])
    learnt = compared(pairs([-1.0] * 30), pairs([1.0] * 30, model="b"))
    assert learnt.lead is not None
    assert learnt.lead.verdict == verdict_of(learnt.whole) == "better"
    assert "ahead" not in report.verdict([learnt])
    # p = 2 / 2**6 holds by itself, and not beside another suite that shows nothing
    (alone,) = compare([(pairs([1.0] * 6), pairs([2.0] * 6))])
    both = compare([(pairs([1.0] * 6, name), pairs([value] * 6, name)) for name, value in (("p", 2.0), ("q", 1.0))])
    assert alone.lead is not None
    assert alone.lead.held
    assert [one.lead is not None and one.lead.held for one in both] == [False, False]


def test_only_rows_that_count_have_a_lead() -> None:
    a, b = pairs([1.0] * 9), pairs([2.0] * 9)
    for one in (a, b):
        one.summary["counted"] = {"topic": ["one"]}
        one.records[0]["groups"] = {"topic": "beside"}
    lead = compared(a, b).lead
    assert lead is not None
    assert lead.test.rows == 8


def test_logs_without_logprobs_have_no_lead() -> None:
    """As of a suite of answers, and of programs that did not keep them."""
    old = pairs([1.0] * 9)
    for record in old.records:
        del record["logprobs"]
    for a, b in ((old, pairs([2.0] * 9)), (pairs([2.0] * 9), old)):
        found = compared(a, b)
        assert found.lead is None
        assert report.as_json(found)["lead"] is None
        assert "margins" not in report.case_of(found.cases[0])
    assert compared(log({"one": [1.0]}), log({"one": [0.0]})).lead is None
    choice = log({"one": [1.0] * 9}, how="choice")
    for record in choice.records:
        record["logprobs"] = [-1.0, -2.0]
    assert compared(choice, choice).lead is None


def test_leads_are_shown_and_are_in_the_json() -> None:
    facts: dict[str, Any] = {
        "title": {"en": "Pairs", "zh": "对"},
        "stage": "",
        "tokenizer": "t",
        "precision": "float32",
        "seconds": 1.0,
    }
    a, b = pairs([1.0] * 40, model="a", **facts), pairs([2.0] * 39 + [0.5], model="b", **facts)
    found = compared(a, b)
    assert report.as_json(found)["lead"] == {
        "share": asdict(share(39, 40)), "p": mcnemar(39, 1), "more": 39, "less": 1, "rows": 40, "held": True,
    }  # fmt: skip
    show_comparison([found], screen := Screen())
    for text in (screen.text, report.render([found], "md"), report.render([found], "html")):
        assert "B further ahead" in text
        assert "87.1 % … 99.6 %" in text
        assert "39 / 1" in text
    page = report.render([found], "html")
    assert page.count('class="interval"') == 2
    for record in b.records:
        del record["logprobs"]
    page = report.render([compared(a, b)], "html")
    assert page.count('class="interval"') == 1
    assert "B further ahead" not in page
