"""A model's own answers to prompts, several to each: the same whatever stands beside a prompt and whenever asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from data.prompts import Prompt
from jobs.evaluation.evaluate import SLOTS, LocalExaminee
from jobs.synthesis.journal import Entry, Journal
from minimind.evaluation.asking import AskingError, Progress, Reply, replies
from minimind.inference.sampling import SamplingParams
from minimind.language import say

Said = TypeVar("Said")

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
                    "samples = {samples}, temperature = {temperature}: it takes two samples or more that can differ, "
                    "so a temperature above 0",
                    samples=self.samples,
                    temperature=self.temperature,
                )
            )


def sample(
    model: LocalExaminee,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    entry_of: Callable[[Prompt, Sequence[Reply]], Entry],
    journal: Journal,
    progress: Progress,
) -> None:
    """Answer the prompts that the journal does not hold, and keep what `entry_of` makes of the answers to each; of one
    that cannot be asked that it is unaskable. Raises ValueError for a model that writes no numbers.
    """

    def ask(asked: Sequence[Prompt], progress: Progress) -> list[list[Reply]]:
        return _asked(model, asked, sampling, progress)

    sample_by(ask, prompts, sampling, entry_of, journal, progress)


def sample_by(
    ask: Callable[[Sequence[Prompt], Progress], Sequence[Sequence[Said]]],
    prompts: Sequence[Prompt],
    sampling: Sampling,
    entry_of: Callable[[Prompt, Sequence[Said]], Entry],
    journal: Journal,
    progress: Progress,
) -> None:
    """The same with whatever answers prompts, several times each."""
    left = [number for number in range(len(prompts)) if number not in journal]
    size = max(1, REQUESTS_AT_ONCE // sampling.samples)
    for start in range(0, len(left), size):
        chunk = left[start : start + size]
        while chunk:
            try:
                said = ask([prompts[number] for number in chunk], progress)
            except AskingError as error:  # this one alone: the others are asked without it
                number = chunk.pop(error.place // sampling.samples)
                journal.add(number, {"why": "unaskable", "detail": str(error)})
                for _ in range(sampling.samples):
                    progress(0)
                continue
            for number, answers in zip(chunk, said, strict=True):
                journal.add(number, entry_of(prompts[number], answers))
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
            seed=seed_of(sampling.seed, prompt, sample),
            stop_ids=stop_ids,
            logprobs=0,
        )
        for prompt, sample in each
    ]
    found = replies(model.engine, model.tokenizer, [prompt.turns for prompt, _ in each], params, progress=progress)
    return [found[start : start + sampling.samples] for start in range(0, len(found), sampling.samples)]


def seed_of(seed: int, prompt: Prompt, sample: int) -> int:
    """Of the prompt itself: wherever it stands, and whatever stands beside it, its samples are the same."""
    text = json.dumps([seed, prompt.turns, sample], sort_keys=True)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big")
