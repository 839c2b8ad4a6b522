"""Two checkpoints by the same rows: which is better at what, how sure that is, and which rows changed most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from jobs.runs.evals import EvalLog, Record
from minimind.evaluation import statistics
from minimind.evaluation.statistics import AMOUNTS, SHARES, Comparison, SignTest, Verdict
from minimind.language import phrase, say


@dataclass(frozen=True)
class Case:
    """A row and what both made of it. gain: of B over A, more is better. scored: it is one of the suite's score and
    scores otherwise; else the gain is that of a row beside the score, or of an answer that is as right as the other.
    """

    a: Record
    b: Record
    gain: float
    scored: bool


@dataclass(frozen=True)
class Finding:
    """One comparison of a suite, or of those of its rows that have `value` in `field`. held: whether it stands among
    all that were made of the two checkpoints, and not by itself alone.
    """

    field: str | None
    value: str
    a: float
    b: float
    comparison: Comparison
    held: bool


@dataclass(frozen=True)
class Lead:
    """In how many pairs B holds the better text further ahead of the worse one than A does, by their log-probs. held:
    whether that stands among the pairs of all suites that were compared.

    With A as DPO's reference this is the accuracy of its implicit reward (Rafailov et al. 2023, arXiv:2305.18290).
    """

    test: SignTest
    held: bool

    @property
    def verdict(self) -> Verdict:
        """B's lead is larger, better, or smaller, worse, in more pairs than chance would make it."""
        if not self.held:
            return "cannot tell"
        return "better" if self.test.more > self.test.less else "worse"


@dataclass(frozen=True)
class Compared:
    """A suite's rows of both. findings: of the whole suite first, then by group. lead: of a suite of pairs whose logs
    have the log-probs of both texts.
    """

    a: EvalLog
    b: EvalLog
    findings: tuple[Finding, ...]
    cases: tuple[Case, ...]
    lead: Lead | None = None

    @property
    def whole(self) -> Finding:
        """Of all counted rows."""
        return self.findings[0]

    @property
    def regressions(self) -> list[Case]:
        """The rows that score less, as many as the suite's comparison counts as worse: the worst first, of equal ones
        those first whose kinds got worse the most.
        """
        return self._worst([case for case in self.cases if case.scored and case.gain < 0])

    @property
    def gains(self) -> list[Case]:
        """The rows that score more, as many as the suite's comparison counts as better: the best first, of equal ones
        those first whose kinds got better the most.
        """
        return self._best([case for case in self.cases if case.scored and case.gain > 0])

    @property
    def unscored_regressions(self) -> list[Case]:
        """The rows that got worse in what the suite's score does not say: as texts, in a check of some that failed
        anyway, or as rows that are not counted. In the same order.
        """
        return self._worst([case for case in self.cases if not case.scored and case.gain < 0])

    @property
    def unscored_gains(self) -> list[Case]:
        """The rows that got better in what the suite's score does not say, likewise."""
        return self._best([case for case in self.cases if not case.scored and case.gain > 0])

    def gain_of(self, finding: Finding) -> float:
        """How much better B is by a finding of this suite: more is better, whatever the suite measures."""
        difference = finding.b - finding.a
        return -difference if self.a.summary["lower_is_better"] else difference

    def _worst(self, cases: list[Case]) -> list[Case]:
        return sorted(cases, key=lambda case: (case.gain, self._of_its_kinds(case), _surer(case), case.a["id"]))

    def _best(self, cases: list[Case]) -> list[Case]:
        return sorted(cases, key=lambda case: (-case.gain, -self._of_its_kinds(case), -_surer(case), case.a["id"]))

    def _of_its_kinds(self, case: Case) -> float:
        """What the groups of a row gained together, as far as that holds."""
        groups = case.a["groups"]
        return sum(
            self.gain_of(finding)
            for finding in self.findings[1:]
            if finding.held and finding.field is not None and groups.get(finding.field) == finding.value
        )


def compare(pairs: Sequence[tuple[EvalLog, EvalLog]]) -> list[Compared]:
    """Each suite's two logs. What holds is decided over all suites together, over all groups, and over the leads of all
    suites of pairs (Holm), so that many tests do not find something by chance.

    Raises ValueError where two logs are not of the same rows.
    """
    made = [(a, b, _findings(a, b), _lead(a, b)) for a, b in pairs]
    wholes = iter(statistics.levels([findings[0].comparison.p for _, _, findings, _ in made]))
    groups = iter(statistics.levels([one.comparison.p for _, _, findings, _ in made for one in findings[1:]]))
    leads = iter(statistics.levels([lead.p for *_, lead in made if lead is not None]))
    return [
        Compared(
            a,
            b,
            (replace(whole, held=next(wholes)), *(replace(group, held=next(groups)) for group in rest)),
            tuple(_cases(a, b)),
            None if lead is None else Lead(lead, next(leads)),
        )
        for a, b, (whole, *rest), lead in made
    ]


def facts_of(finding: Finding) -> dict[str, Any]:
    """A finding for JSON: None is an end of an interval that nothing is known of."""
    facts = asdict(finding)
    facts["comparison"]["difference"] = finding.comparison.difference.known()
    return facts


def margin(record: Record) -> float | None:
    """Of a pair: by how many nats the better text is likelier than the worse one; None of other rows, and of a log
    without log-probs.

    Not of a choice: the wrong one of several that comes nearest may be another one for each model.
    """
    if "good" not in record or "logprobs" not in record:
        return None
    good, bad = record["logprobs"]
    return float(good) - float(bad)


def lead_facts(lead: Lead | None) -> dict[str, Any] | None:
    """A lead for JSON."""
    return None if lead is None else {**asdict(lead.test), "held": lead.held}


def _surer(case: Case) -> float:
    """Of a pair: by how many nats the better text gained on the worse one; 0 where that is not known."""
    a, b = margin(case.a), margin(case.b)
    return 0.0 if a is None or b is None else b - a


def differ(a: object, b: object) -> bool:
    """Whether two known values are not the same: of a model that is served some are not known."""
    return bool(a and b and a != b)


def asked_otherwise(compared: Sequence[Compared]) -> list[str]:
    """What of the asking itself was not the same for both, a sentence each: the models may be no different."""
    said = []
    alike = ("suite_sha256", "scoring")
    suites = [
        one.a.suite for one in compared if any(one.a.summary.get(name) != one.b.summary.get(name) for name in alike)
    ]
    if suites:
        names = say(", ").join(map(phrase, suites))
        said.append(say("The two were not asked alike: {suites} changed in between.", suites=names))
    if any(
        one.a.summary["how"] == "answer" and differ(one.a.summary.get("template"), one.b.summary.get("template"))
        for one in compared
    ):
        said.append(say("The two have different chat templates: a difference in answers may come from that alone."))
    a, b = (summary.get("context") for summary in (compared[0].a.summary, compared[0].b.summary))
    if differ(a, b):
        said.append(
            say("The two read {a} and {b} tokens of context: a difference in long texts may come from that.", a=a, b=b)
        )
    return said


def ranked(compared: Sequence[Compared]) -> list[tuple[Compared, Finding]]:
    """The groups that differ, of all suites: what got worse first, and of that the most. Where less is better, as bits
    per byte, by shares of what A has.
    """

    def place(one: Compared, finding: Finding) -> tuple[bool, float]:
        share = abs(finding.b - finding.a) / (abs(finding.a) if one.a.summary["lower_is_better"] else 1.0)
        return finding.comparison.verdict == "better", -share

    found = [(one, finding) for one in compared for finding in one.findings[1:] if finding.held]
    return sorted(found, key=lambda pair: place(*pair))


def _findings(a: EvalLog, b: EvalLog) -> list[Finding]:
    if (a.suite, a.summary["rows_sha256"]) != (b.suite, b.summary["rows_sha256"]):
        raise ValueError(
            say("{a} and {b} are not of the same rows: evaluate both anew with `minimind eval`", a=a.path, b=b.path)
        )
    rows = list(zip(a.records, b.records, strict=True))
    counted = [pair for pair in rows if _counts(a, pair[0])]
    parts = [
        (field, value, [pair for pair in _shown(a, field, rows) if pair[0]["groups"].get(field) == value])
        for field, values in a.summary["groups"].items()
        for value in values
    ]
    # A part of one row could never hold: as a test it would only take from the others.
    return [_finding(a, None, "", counted)] + [_finding(a, *part) for part in parts if len(part[2]) > 1]


def _shown(log: EvalLog, field: str, rows: list[tuple[Record, Record]]) -> list[tuple[Record, Record]]:
    return rows if field in log.summary["counted"] else [pair for pair in rows if _counts(log, pair[0])]


def _counts(log: EvalLog, record: Record) -> bool:
    return all(record["groups"].get(name) in values for name, values in log.summary.get("counted", {}).items())


def _finding(log: EvalLog, field: str | None, value: str, rows: Sequence[tuple[Record, Record]]) -> Finding:
    first, second = [float(a["score"]) for a, _ in rows], [float(b["score"]) for _, b in rows]
    weights = [float(a["bytes"]) for a, _ in rows] if rows and "bytes" in rows[0][0] else None
    lower = bool(log.summary["lower_is_better"])
    compared = statistics.compare(first, second, weights, lower_is_better=lower, within=AMOUNTS if lower else SHARES)
    mean_a, mean_b = (statistics.average(scores, weights) for scores in (first, second))
    return Finding(field, value, mean_a, mean_b, compared, held=False)


def _lead(a: EvalLog, b: EvalLog) -> SignTest | None:
    """Of the rows that count, where all of them have the log-probs of a pair."""
    rows = [(margin(one), margin(other)) for one, other in zip(a.records, b.records, strict=True) if _counts(a, one)]
    known = [(one, other) for one, other in rows if one is not None and other is not None]
    if not known or len(known) < len(rows):
        return None
    return statistics.sign_test(*zip(*known, strict=True))


def _cases(a: EvalLog, b: EvalLog) -> list[Case]:
    sign = -1.0 if a.summary["lower_is_better"] else 1.0
    cases = []
    for one, other in zip(a.records, b.records, strict=True):
        gain = sign * (float(other["score"]) - float(one["score"]))
        cases.append(Case(one, other, gain or _nearer(one, other), scored=bool(gain) and _counts(a, one)))
    return cases


def _nearer(a: Record, b: Record) -> float:
    """Where the score is the same: what else says that an answer got better or worse, as a small part of a point."""
    wrong = len(a.get("diagnoses", ())) - len(b.get("diagnoses", ()))
    share = float(b.get("metrics", {}).get("checks", 0.0)) - float(a.get("metrics", {}).get("checks", 0.0))
    return 0.01 * wrong + 0.1 * share
