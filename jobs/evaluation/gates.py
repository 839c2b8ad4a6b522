"""Gates between stages: what a stage may forget at most, and what it has to reach at least.

A gate closes where the rows are sure of it: where the whole 95 % interval lies beyond the limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field

from jobs.evaluation.compare import Compared, compare
from jobs.runs.evals import EvalLog, number
from minimind.config import Config
from minimind.language import phrase, say


class Gate(Config):
    """A limit on a suite's score. least: of the score; most_worse: how much worse than before the stage, as a share of
    the score before where less is better (bits per byte), else in points of 1.
    """

    suite: str
    least: float | None = None
    most_worse: float | None = Field(default=None, ge=0)


GATES: Mapping[str, tuple[Gate, ...]] = {
    "pretrain": (Gate(suite="grammar", least=0.5),),
    "sft": (Gate(suite="language", most_worse=0.25), Gate(suite="grammar", most_worse=0.1)),
    "lora": (
        Gate(suite="language", most_worse=0.25),
        Gate(suite="grammar", most_worse=0.1),
        Gate(suite="facts", most_worse=0.1),
    ),
    **dict.fromkeys(
        ("dpo", "kto", "grpo", "spo", "ppo"),
        (
            Gate(suite="language", most_worse=0.05),
            Gate(suite="grammar", most_worse=0.1),
            Gate(suite="facts", most_worse=0.02),
        ),
    ),
    "distill": (Gate(suite="grammar", most_worse=0.1),),
}
"""Stage -> its gates. A model that has learnt no language at all guesses half of the pairs right."""


def closed(
    gates: Sequence[Gate], asked: Sequence[str], before: Sequence[EvalLog], after: Sequence[EvalLog]
) -> list[str]:
    """Why a stage is not gone on from, a sentence for each gate that is closed. before: of the weights that it began
    with, after: of those that it ended with. asked: the suites that were put to both. A gate of another suite stays
    open; one of a suite that gave no log, such as of a model that writes no numbers, is closed.
    """
    earlier, later = ({log.suite: log for log in logs} for logs in (before, after))
    reasons = []
    for gate in gates:
        found = later.get(gate.suite)
        if found is None:
            if gate.suite in asked:
                reasons.append(say("{suite} could not be asked, so nobody knows", suite=phrase(gate.suite)))
            continue
        high = found.summary["high"]
        if gate.least is not None and high is not None and float(high) < gate.least:
            reasons.append(
                say(
                    "{suite} is {score}, at least {least} is asked for: so scores what has read too little, or in "
                    "another language than the suite asks in",
                    suite=phrase(gate.suite),
                    score=number(found.summary, found.score),
                    least=number(found.summary, gate.least),
                )
            )
        if gate.most_worse is not None and gate.suite in earlier:
            (compared,) = compare([(earlier[gate.suite], found)])
            reasons += _forgotten(gate, compared)
    return reasons


def _forgotten(gate: Gate, compared: Compared) -> list[str]:
    assert gate.most_worse is not None
    difference, lower = compared.whole.comparison.difference, compared.a.summary["lower_is_better"]
    limit = gate.most_worse * compared.whole.a if lower else gate.most_worse
    surely = difference.low if lower else -difference.high
    if not surely > limit:  # also where nobody can tell, as from one row
        return []
    return [
        say(
            "{suite} went from {before} to {after}: worse by more than the {limit} that may be forgotten",
            suite=phrase(gate.suite),
            before=number(compared.a.summary, compared.whole.a),
            after=number(compared.a.summary, compared.whole.b),
            limit=number(compared.a.summary, limit),
        )
    ]
