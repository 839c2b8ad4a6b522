"""A reward model's scores of the rows of a file, and how often they are as the rows say."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import cast

from data.check import guess_stage
from data.encode import documents
from data.read import as_row, row_files
from data.schema import STAGE_ROWS, ChatRow, LabelledRow, PreferenceRow, Row
from jobs.runs.references import Weights
from minimind.checkpoints.checkpoint import load_score_model
from minimind.evaluation.statistics import Interval, share
from minimind.inference.reward import scores
from minimind.language import say
from minimind.network.score import ScoreModel
from minimind.text.tokenizer import Tokenizer

SCORED = ("sft", "dpo", "kto")
"""The kinds of rows that have answers."""


@dataclass(frozen=True)
class Scored:
    """A row. scores: of its answer, or of its better and its worse one. tokens: how long each is with its prompt. good:
    the row's label, where it has one.
    """

    file: str
    line: int
    scores: tuple[float, ...]
    tokens: tuple[int, ...]
    good: bool | None = None

    @property
    def margin(self) -> float:
        """By how much the better answer is ahead; 0 where there is one answer alone."""
        return self.scores[0] - self.scores[-1]


@dataclass(frozen=True)
class Summary:
    """What scores come to. spread: of all answers, how many, their mean, the lowest and the highest. pairs: by a name
    for which pairs, how many there are, and the share whose better answer is ahead, a tie counting half. labels: of
    rows with labels of both kinds how many are good and bad, the mean score of each, and how often a good one is ahead
    of a bad one, over all couples of them (the area under the ROC curve); of other rows nothing.
    """

    spread: dict[str, float]
    pairs: dict[str, tuple[int, Interval]]
    labels: dict[str, float]


def score_file(
    weights: Weights, path: Path, stage: str | None, done: Callable[[int, int], None] = lambda done, all_: None
) -> list[Scored]:
    """The scores of all rows of a file or folder. stage: as which they are read; by default what the first row looks
    like. done: told how many answers are scored, of how many.

    Raises ValueError for rows that have no answer or that the chat template refuses, with file and line;
    CheckpointError for a model that gives no scores.
    """
    stage = stage or guess_stage(path)
    if stage not in SCORED:
        raise ValueError(
            say(
                "{path}: its rows have no answers to score; those of {stages} have. Name the kind with --stage",
                path=path,
                stages=", ".join(SCORED),
            )
        )
    model, tokenizer = load_score_model(weights.folder)
    texts: list[list[int]] = []
    rows: list[tuple[str, int, int, bool | None]] = []
    for file in row_files(path):
        for line, content in file:
            row = as_row(STAGE_ROWS[stage], content, file.path, line)
            if isinstance(row, ValueError):
                raise row
            try:
                written = _written(model, tokenizer, row)
            except ValueError as error:
                raise ValueError(f"{file.path}:{line}: {error}") from None
            texts += written
            rows.append((str(file.path), line, len(written), row.label if isinstance(row, LabelledRow) else None))
    if not rows:
        raise ValueError(say("{path}: it has no rows", path=path))
    finished = 0

    def told(more: int) -> None:
        nonlocal finished
        finished += more
        done(finished, len(texts))

    found = scores(model, texts, told)
    scored, at = [], 0
    for name, line, count, good in rows:
        part = slice(at, at + count)
        scored.append(Scored(name, line, tuple(found[part]), tuple(map(len, texts[part])), good))
        at += count
    return scored


def _written(model: ScoreModel, tokenizer: Tokenizer, row: Row) -> list[list[int]]:
    """The token ids of a row's answers with their prompts. Raises ValueError for what cannot be scored."""
    sides = [row.chosen, row.rejected] if isinstance(row, PreferenceRow) else [cast(ChatRow, row).conversations]
    if any(not turns or turns[-1].role != "assistant" for turns in sides):
        raise ValueError(say("it does not end in an answer, which is what gets a score"))
    written = [document.ids for document in documents(tokenizer, row)]
    longest, most = max(map(len, written)), model.config.max_position_embeddings
    if longest > most:
        raise ValueError(say("it has {count} tokens; the model reads {most}", count=longest, most=most))
    return written


def summary(scored: Sequence[Scored]) -> Summary:
    """Over all rows, and over those whose better answer is shorter, as long, and longer."""
    every = [score for one in scored for score in one.scores]
    spread = {"answers": len(every), "mean": fmean(every), "low": min(every), "high": max(every)}
    pairs = [one for one in scored if len(one.scores) == 2]
    groups = {
        "any": pairs,
        "shorter": [one for one in pairs if one.tokens[0] < one.tokens[1]],
        "as long": [one for one in pairs if one.tokens[0] == one.tokens[1]],
        "longer": [one for one in pairs if one.tokens[0] > one.tokens[1]],
    }
    ahead = {name: (len(group), _ahead(group)) for name, group in groups.items() if group}
    return Summary(spread, ahead, _by_label(scored))


def _by_label(scored: Sequence[Scored]) -> dict[str, float]:
    good, bad = (sorted(one.scores[0] for one in scored if one.good is label) for label in (True, False))
    if not (good and bad):
        return {}
    below = sum(bisect_left(bad, score) + bisect_right(bad, score) for score in good) / 2  # a tie counts half
    return {
        "good": len(good),
        "bad": len(bad),
        "mean_good": fmean(good),
        "mean_bad": fmean(bad),
        "ahead": below / (len(good) * len(bad)),
    }


def _ahead(pairs: Sequence[Scored]) -> Interval:
    ahead = sum(one.margin > 0 for one in pairs) + sum(one.margin == 0 for one in pairs) / 2
    return share(ahead, len(pairs))
