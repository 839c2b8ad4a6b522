from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from jobs.evaluation import report
from jobs.evaluation.chart import interval, widest
from jobs.evaluation.compare import Compared, asked_otherwise, compare, facts_of, ranked
from jobs.evaluation.view import cells, verdict_of
from jobs.runs.evals import EvalLog


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
    assert "no difference at all in facts" in report.verdict([replace_model(found)])
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
    assert "range" not in interval(found.whole, 1.0)
    assert "nan" not in interval(found.whole, 1.0)


def test_whoever_cannot_tell_says_how_many_rows_would() -> None:
    """What holds by itself and not beside others has the number too."""
    kinds = {f"kind {number}": [0.0] * 40 for number in range(30)}
    a, b = log(kinds), log({**kinds, "kind 3": [1.0] * 7 + [0.0] * 33})
    (part,) = [finding for finding in compared(a, b).findings if finding.value == "kind 3"]
    assert part.comparison.verdict == "better"
    assert verdict_of(part) == "cannot tell"
    assert part.comparison.needed_rows is not None
    assert part.comparison.needed_rows > 40
