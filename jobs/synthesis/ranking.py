"""How good answers are: by checks of the right answer, or by whatever else gives them scores."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from data.encode import documents
from data.prompts import Prompt
from data.schema import ChatRow
from jobs.evaluation.ask import answer_of
from jobs.runs.references import Weights
from jobs.synthesis.rows import turn_of
from minimind.checkpoints.checkpoint import load_score_model
from minimind.evaluation.asking import Reply
from minimind.evaluation.checkers import Check, parse_check, score
from minimind.evaluation.numbers import last_number
from minimind.inference.reward import scores
from minimind.language import say

Rank = Callable[[Prompt, Sequence[Reply]], Sequence[float]]
"""A prompt and answers to it -> how good each of them is, the better the more. 1 is right and 0 wrong where that is
known; a pure function.
"""

BY_THE_ANSWER: dict[str, Callable[[str], Mapping[str, Any]]] = {
    "contains": lambda answer: {"any": [answer], "whole_words": True},
    "exact": lambda answer: {"any": [answer.strip()]},
    "number": lambda answer: {"value": last_number(answer)},
}
"""Checks whose arguments follow from the right answer -> how."""


def by_checks(names: Sequence[str], prompts: Sequence[Prompt]) -> Rank:
    """The share of some checks that hold: each a name of BY_THE_ANSWER, or a check in JSON as a suite's rows have it.

    Raises ValueError for what is no check, and for a prompt that has no right answer for one that needs it.
    """
    checks = {prompt.where: [_check(name, prompt) for name in names] for prompt in prompts}

    def rank(prompt: Prompt, replies: Sequence[Reply]) -> list[float]:
        return [score(checks[prompt.where], answer_of(reply, prompt.question))[0] for reply in replies]

    return rank


def by_reward(weights: Weights) -> Rank:
    """The scores of a reward model, of each answer in its conversation as the model learnt to read it.

    Raises CheckpointError for a model that gives none.
    """
    model, tokenizer = load_score_model(weights.folder)

    def rank(prompt: Prompt, replies: Sequence[Reply]) -> list[float]:
        rows = [ChatRow.model_validate({"conversations": [*prompt.turns, turn_of(reply)]}) for reply in replies]
        return scores(model, [documents(tokenizer, row)[0].ids for row in rows])

    return rank


def _check(name: str, prompt: Prompt) -> Check:
    if name.lstrip().startswith("{"):
        try:
            return parse_check(json.loads(name))
        except ValueError as error:
            raise ValueError(say("--by {name}: {problem}", name=name, problem=error)) from None
    if name not in BY_THE_ANSWER:
        raise ValueError(
            say(
                "--by {name}: allowed are {names}, by the right answer of each prompt, or a check as suites have it, "
                "such as {example}",
                name=name,
                names=", ".join(BY_THE_ANSWER),
                example='\'{"is": "language", "language": "zh"}\'',
            )
        )
    if prompt.answer is None or (name == "number" and last_number(prompt.answer) is None):
        raise ValueError(
            say(
                "{where}: --by {name} needs the right answer{a_number} beside the prompt, as in {row}",
                where=prompt.where,
                name=name,
                a_number=say(", a number,") if name == "number" else "",
                row='{"prompt": "…", "answer": "42"}',
            )
        )
    return parse_check({"is": name, **BY_THE_ANSWER[name](prompt.answer)})
