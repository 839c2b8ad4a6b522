"""The prompts of stages that learn by trying: which are learnt from and which held out, and what is read in them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from data.pack import learnable
from data.rows import PromptRows
from jobs.stages.division import divided
from jobs.stages.spec import RunSpec
from jobs.stages.stage import Corpus, Looked
from minimind.evaluation.checkers import Answer
from minimind.language import say
from minimind.rewards.readable import require_readable, spread
from minimind.rewards.terms import Attempt, Ending, Term
from minimind.text.chat import ends_in_thought, parse
from minimind.text.tokenizer import Tokenizer
from minimind.training.rollout import Written


def split(spec: RunSpec, corpus: Corpus) -> tuple[PromptRows, PromptRows]:
    """The prompts that are learnt from, and those that are held out."""
    width, pad_id = spec.data.max_seq_len, corpus.tokenizer.pad_id
    chosen, measured, held_out = divided(spec, corpus, learnable)
    return PromptRows(corpus.rows, chosen, width, pad_id), PromptRows(measured, held_out, width, pad_id)


def facts(spec: RunSpec, corpus: Corpus) -> PromptRows | None:
    """Questions whose answers the weights know, as many as are held out at most; None where there are none for which
    there is room.
    """
    if corpus.facts is None:
        return None
    chosen = learnable(corpus.facts, spec.data.max_seq_len)
    if len(chosen) > spec.eval.max_documents:
        chosen = chosen[np.linspace(0, len(chosen) - 1, spec.eval.max_documents).astype(np.int64)]
    return PromptRows(corpus.facts, chosen, spec.data.max_seq_len, corpus.tokenizer.pad_id) if len(chosen) else None


class AttemptReader:
    """Reads tokens of answers to prompts as what terms of a reward judge."""

    def __init__(self, rows: PromptRows, tokenizer: Tokenizer) -> None:
        self.rows, self.tokenizer = rows, tokenizer

    def attempt(self, one: Written) -> Attempt:
        """What is judged, beside the right answer of its row."""
        right = _read(self.tokenizer, one.tokens[: one.prompt], self.rows.right(one.row))
        return attempt_of(self.tokenizer, one, right["content"])

    def right_answer(self, row: int) -> Attempt:
        """As if the right answer of the data had been given."""
        (prompt,) = self.rows.batch([row]).prompts()
        own = self.rows.right(row)
        return self.attempt(Written(row, [*prompt, *own], len(prompt), [0.0] * len(own), True, len(own)))


def attempt_of(tokenizer: Tokenizer, one: Written, reference: str) -> Attempt:
    """What is judged: the last turn's text, and the calls of all turns. reference: the right answer."""
    turns = [_read(tokenizer, one.tokens[:start], one.tokens[start:end]) for start, end in one.turns]
    calls = [call["function"] for turn in turns for call in turn["tool_calls"]]
    answer = Answer(
        turns[-1]["content"],
        "stop" if one.finished else "length",
        tuple((call["name"], json.loads(call["arguments"])) for call in calls),
        _question(tokenizer, one.tokens[: one.prompt]),
        turns[-1]["reasoning_content"],
    )
    before = one.tokens[: one.turns[-1][0]]
    return Attempt(answer, reference, len(one.own), one.room, Ending(before, turns[-1]))


def _read(tokenizer: Tokenizer, context: list[int], ids: list[int]) -> dict[str, Any]:
    """What a turn says, thinks and calls."""
    return parse(tokenizer, ids, ends_in_thought(tokenizer, context))


def _question(tokenizer: Tokenizer, prompt: list[int]) -> str:
    """The text of the last turn before the answer."""
    text = tokenizer.decode(prompt)
    return text.rpartition("<|im_start|>user\n")[2].partition("<|im_end|>")[0]


def look(spec: RunSpec, corpus: Corpus, terms: Sequence[tuple[str, Term]]) -> Looked:
    """How many prompts are held out, and what there is to warn of. terms: by their names, those that say what is right.

    Raises ValueError where one of them can read no right answer.
    """
    training, examining = split(spec, corpus)
    files = [(training, spec.data.path)]
    if spec.eval.path is not None:
        files.append((examining, spec.eval.path))
    warnings = []
    for rows, where in files:
        reader = AttemptReader(rows, corpus.tokenizer)
        right = [reader.right_answer(row) for row in spread(rows.count)]
        warnings += [require_readable(term, name, right, where) for name, term in terms]
    said = say(
        "Prompts: {learnt} to learn from, {held} held out, of which each is {points:.1f} points of val/right.",
        learnt=training.count,
        held=examining.count,
        points=100 / examining.count,
    )
    return Looked([said], [text for text in warnings if text])
