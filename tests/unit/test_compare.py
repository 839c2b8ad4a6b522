from __future__ import annotations

from pathlib import Path
from typing import Any

from jobs.evaluation.compare import Compared, asked_otherwise, compare, ranked
from jobs.runs.evals import EvalLog


def log(scores: dict[str, list[float]], *, lower: bool = False, **more: Any) -> EvalLog:
    """A log of rows in kinds; the ids run against the order of the kinds."""
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
