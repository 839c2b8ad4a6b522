"""Preferences out of a model's own samples: of each prompt the best answer against the worst.

Rejection sampling: DPO learns such pairs on-policy, and SFT the best of N (Llama 2, Touvron et al. 2023,
arXiv:2307.09288, section 3.2.3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from data.check import fault
from data.prompts import Prompt, Prompts
from jobs import paths
from jobs.evaluation.evaluate import LocalExaminee
from jobs.runs.evals import write_parts
from jobs.synthesis.journal import Entry, Journal, lines
from jobs.synthesis.ranking import Rank
from jobs.synthesis.rows import known, summed, turn_of
from jobs.synthesis.samples import Sampling, sample
from jobs.terminal.counting import counting
from minimind.evaluation.asking import Reply
from minimind.language import say


def make_pairs(
    model: LocalExaminee,
    prompts: Prompts,
    out: Path,
    sampling: Sampling,
    rank: Rank,
    console: Console,
    *,
    by: Sequence[str],
    best_of: Path | None = None,
) -> Mapping[str, Any]:
    """Sample a model, and write a row {"chosen", "rejected"} for each prompt of which some samples are better than
    others, in the order of the prompts. Gives the record: see docs/data.md.

    rank: what is better; by: what it is called. best_of: a file for SFT with the best sample of each prompt. What has
    been done is kept when it is ended and started again, and the same arguments make the same files.

    Raises ValueError for files that were begun otherwise, and a model that writes no numbers.
    """
    if best_of is not None and (best_of == out or best_of.suffix != ".jsonl"):
        raise ValueError(say("--best_of {path}: it is to be another file that ends in .jsonl", path=best_of))
    asked = {
        "model": {"name": model.name, "checkpoint": model.checkpoint, "device": model.device},
        "prompts": known(prompts),
        **asdict(sampling),
        "by": list(by),
        "best_of": paths.kept(str(best_of)) if best_of is not None else None,
    }
    with Journal.open(out, asked, prompts=paths.kept(str(prompts.path))) as journal:
        if journal.is_finished:
            return journal.record
        if best_of is not None and best_of.exists() and not len(journal):
            raise ValueError(
                say("{there} is there already, and was not begun by this command; name another --out", there=best_of)
            )
        total, done = (count * sampling.samples for count in (len(prompts.each), len(journal)))
        try:
            with counting(say("{model} is sampled", model=model.name), total, console, done=done) as tell:
                sample(model, prompts.each, sampling, partial(entry_of, rank=rank), journal, lambda tokens: tell())
        finally:
            if best_of is not None and len(journal):
                write_parts(best_of, lines(_best_rows(prompts, journal)))
            journal.keep(_summed(prompts, journal), finished=len(journal) == len(prompts.each))
        return journal.record


def entry_of(prompt: Prompt, answers: Sequence[Reply], rank: Rank) -> Entry:
    """What is kept of the samples of a prompt: a `row`, or `why` there is none; `best`, the best of them as a turn, but
    where all are wrong; `cut_off`, how many were.

    Only answers that end by themselves and that SFT could learn are compared; of equally good ones the first counts.
    """
    whole = [reply for reply in answers if reply.finish != "length"]
    turns = [turn_of(reply) for reply in whole]
    fit = [not fault("sft", {"conversations": [*prompt.turns, turn]}) for turn in turns]
    usable = [(reply, turn) for reply, turn, fits in zip(whole, turns, fit, strict=True) if fits]
    counts = {"cut_off": len(answers) - len(whole)}
    if len(usable) < 2:
        return {"why": "too_few", "detail": f"{len(usable)} / {len(answers)}", **counts}
    scores = list(rank(prompt, [reply for reply, _ in usable]))
    best, worst = (usable[scores.index(score)][1] for score in (max(scores), min(scores)))
    if max(scores) == min(scores) or best == worst:
        why = {1.0: "all_right", 0.0: "all_wrong"}.get(max(scores), "equal")
        return {"why": why, "detail": "", **({} if why == "all_wrong" else {"best": best}), **counts}
    row = {"chosen": [*prompt.turns, best], "rejected": [*prompt.turns, worst]}
    return {"row": row, "best": best, **counts}


def _best_rows(prompts: Prompts, journal: Journal) -> list[dict[str, Any]]:
    return [
        {"conversations": [*prompts.each[number].turns, entry["best"]]}
        for number, entry in journal.entries()
        if "best" in entry
    ]


def _summed(prompts: Prompts, journal: Journal) -> dict[str, Any]:
    """What the record says of all samples."""
    entries = [entry for _, entry in journal.entries()]
    return {
        **summed(prompts, journal),
        "best_rows": sum("best" in entry for entry in entries),
        "samples_cut_off": sum(entry.get("cut_off", 0) for entry in entries),
    }
