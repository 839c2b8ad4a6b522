"""Whether the term that says what is right can read the right answers of the data: where it gives these less than full
marks no answer to their prompts is ever right, and that is better known before anything is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

from minimind.language import say
from minimind.rewards.terms import TERMS, Attempt, Checked, Elsewhere, Match, Term, Unjudged
from minimind.training.signal import RIGHT

MAY_BE_UNREADABLE = 0.1
"""A larger share of right answers that the term cannot read is worth a warning."""

MOST_ASKED = 1000
"""So many right answers tell what the others are like: a file may have a million."""

BY_REFERENCE = ("contains", "exact", "number")
"""Terms that compare with right answers, to be named in place of one that cannot read them."""


def is_asked(term: Term) -> bool:
    """Whether right answers tell anything of a term: it compares with them, or reads their text. One that looks at form
    or length, and one that is judged elsewhere, may well want something else of an answer than a row has.
    """
    return not isinstance(term, Elsewhere) and (term.needs_reference or isinstance(term, Match | Checked))


def require_readable(term: Term, name: str, right: Sequence[Attempt], where: str) -> str:
    """A warning where a part of the right answers is not right by a term, "" where all is well. Tags that it reads
    between are no matter: rows have answers without.

    name: of the term. right: attempts that say what their rows call right. where: these stand, such as their file.

    Raises ValueError where the term compares with right answers, and gives none of them full marks.
    """
    if not right or not is_asked(term):
        return ""
    whole = term.model_copy(update={"tag": None})
    scores = whole.scores(right)
    wrong = [not score >= RIGHT for score in scores]
    if not any(wrong):
        return ""
    one, score = next(compress(right, wrong)), next(compress(scores, wrong))
    told = {
        "where": where,
        "name": name,
        "count": len(right),
        "wrong": sum(wrong),
        "question": one.answer.prompt[:80],
        "answer": one.reference[:80],
        "why": score.reason if isinstance(score, Unjudged) else say("it calls that wrong"),
    }
    if not term.needs_reference:
        if not all(wrong):
            return ""
        return say(
            "{where}: the reward {name}, which says what is right, does not compare with right answers, and calls all "
            "{count} wrong that were looked at, such as {answer!r} to {question!r}. That is as it should be only where "
            "you want something else of an answer than the rows have.",
            **told,
        )
    if all(wrong):
        raise ValueError(
            say(
                "{where}: the reward {name}, which says what is right, can read none of the right answers, of which "
                "{count} were looked at: no answer would ever be right. To {question!r} the right answer is "
                "{answer!r}: {why}. Name another term first, such as {others}, or rows whose right answers it can read",
                **told,
                others=", ".join(other for other in BY_REFERENCE if not isinstance(term, TERMS[other])),
            )
        )
    if sum(wrong) <= MAY_BE_UNREADABLE * len(right):
        return ""
    return say(
        "{where}: by the reward {name}, which says what is right, {wrong} of {count} right answers that were looked at "
        "are not right, so no answer to their prompts ever is. To {question!r} the right answer is {answer!r}: {why}. "
        "Leave such rows out, or name another term first.",
        **told,
    )


def spread(count: int) -> range:
    """Which of so many rows are asked about: MOST_ASKED at most, from all over."""
    return range(0, count, max(1, -(-count // MOST_ASKED)))
