"""What a run wrote, for people to read: samples.jsonl. Continuations at its end, and answers to held-out prompts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from jobs.runs import evals
from jobs.runs.directory import RunDirectory
from minimind.language import say

if TYPE_CHECKING:
    from minimind.training.policy import Examined

KEPT = "kept"
"""The key that says why an answer to a held-out prompt is kept: best, worst or drawn."""

DRAWN = 3
"""Answers kept of each validation beside the best and the worst: to the same prompts each time, drawn at random."""

Sample = dict[str, Any]


def read(run: RunDirectory) -> list[Sample]:
    """All there are, each with "step", "prompt" and "continuation"; none where the run could not write any."""
    if not run.samples_path.exists():
        return []
    found = []
    text = run.samples_path.read_text("utf-8").rstrip("\n")
    for number, line in enumerate(text.split("\n") if text else (), start=1):  # none were asked for: an empty file
        sample = json.loads(line)
        if not isinstance(sample, dict) or not {"step", "prompt", "continuation"} <= sample.keys():
            raise ValueError(say("line {number} is no sample", number=number))
        found.append(sample)
    return found


def written_at_the_end(run: RunDirectory) -> list[Sample]:
    """Continuations of the spec's prompts."""
    return [sample for sample in read(run) if KEPT not in sample]


def write(run: RunDirectory, samples: Iterable[Sample]) -> None:
    """In place of those there are, in one move."""
    lines = [json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples]
    evals.write_parts(run.samples_path, lines)


def keep(run: RunDirectory, step: int, answers: Sequence[Examined], seed: int) -> None:
    """Keep the best, the worst and a few of the answers of a validation beside those of earlier ones. What an attempt
    of the run that was given up kept of this step or a later one goes.
    """
    earlier = [sample for sample in read(run) if sample.get(KEPT) and sample["step"] < step]
    write(run, [*earlier, *({"step": step, **_as_sample(kept, one)} for kept, one in chosen(answers, seed))])


def chosen(answers: Sequence[Examined], seed: int) -> list[tuple[str, Examined]]:
    """Which of the answers are kept, and why. Of equal ones the best and the worst are those that were drawn last, lest
    they be the same as those drawn first.
    """
    drawn = sorted(answers, key=lambda one: hashlib.blake2b(f"{seed} {one.row}".encode(), digest_size=8).digest())
    best = max(reversed(drawn), key=lambda one: one.reward)
    worst = min(reversed(drawn), key=lambda one: one.reward)
    return [("best", best), ("worst", worst), *(("drawn", one) for one in drawn[:DRAWN])]


def _as_sample(kept: str, one: Examined) -> Sample:
    return {
        "prompt": one.prompt,
        "continuation": one.answer,
        KEPT: kept,
        "right_answer": one.right_answer,
        "terms": one.terms,
        "reward": one.reward,
        "right": one.right,
        "tokens": one.tokens,
        "finished": one.finished,
    }
