"""Preferences out of a model's own samples: of each prompt the best answer against the worst.

Rejection sampling: DPO learns such pairs on-policy, and SFT the best of N (Llama 2, Touvron et al. 2023,
arXiv:2307.09288, section 3.2.3).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from data.check import fault
from data.prompts import Prompt, Prompts
from jobs import paths
from jobs.evaluation.evaluate import SLOTS, LocalExaminee
from jobs.runs.evals import write_parts
from jobs.synthesis.journal import Entry, Journal, lines
from jobs.synthesis.ranking import Rank
from jobs.synthesis.rows import known, summed, turn_of
from jobs.terminal.counting import counting
from minimind.evaluation.asking import AskingError, Progress, Reply, replies
from minimind.inference.sampling import SamplingParams
from minimind.language import say

REQUESTS_AT_ONCE = 4 * SLOTS
"""Samples between two entries of the journal: enough to keep the engine's slots full."""


@dataclass(frozen=True)
class Sampling:
    """How often each prompt is answered, and how."""

    samples: int = 8
    temperature: float = 1.0
    max_tokens: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples < 2 or self.temperature <= 0:
            raise ValueError(
                say(
                    "samples = {samples}, temperature = {temperature}: pairs need two samples or more that can differ, "
                    "so a temperature above 0",
                    samples=self.samples,
                    temperature=self.temperature,
                )
            )


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
                _sample(model, prompts.each, sampling, rank, journal, lambda tokens: tell())
        finally:
            if best_of is not None and len(journal):
                write_parts(best_of, lines(_best_rows(prompts, journal)))
            journal.keep(_summed(prompts, journal), finished=len(journal) == len(prompts.each))
        return journal.record


def _sample(
    model: LocalExaminee,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    rank: Rank,
    journal: Journal,
    progress: Progress,
) -> None:
    left = [number for number in range(len(prompts)) if number not in journal]
    size = max(1, REQUESTS_AT_ONCE // sampling.samples)
    for start in range(0, len(left), size):
        chunk = left[start : start + size]
        while chunk:
            try:
                said = _asked(model, [prompts[number] for number in chunk], sampling, progress)
            except AskingError as error:  # this one alone: the others are asked without it
                number = chunk.pop(error.place // sampling.samples)
                journal.add(number, {"why": "unaskable", "detail": str(error)})
                for _ in range(sampling.samples):
                    progress(0)
                continue
            for number, answers in zip(chunk, said, strict=True):
                journal.add(number, entry_of(prompts[number], answers, rank))
            break


def _asked(
    model: LocalExaminee, prompts: Sequence[Prompt], sampling: Sampling, progress: Progress
) -> list[list[Reply]]:
    """So many answers to each prompt."""
    stop_ids = (model.tokenizer.eos_id, model.tokenizer.pad_id)
    each = [(prompt, sample) for prompt in prompts for sample in range(sampling.samples)]
    params = [
        SamplingParams(
            sampling.max_tokens,
            temperature=sampling.temperature,
            seed=_seed(sampling.seed, prompt, sample),
            stop_ids=stop_ids,
            logprobs=0,
        )
        for prompt, sample in each
    ]
    found = replies(model.engine, model.tokenizer, [prompt.turns for prompt, _ in each], params, progress=progress)
    return [found[start : start + sampling.samples] for start in range(0, len(found), sampling.samples)]


def _seed(seed: int, prompt: Prompt, sample: int) -> int:
    """Of the prompt itself: wherever it stands, and whatever stands beside it, its samples are the same."""
    text = json.dumps([seed, prompt.turns, sample], sort_keys=True)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big")


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
