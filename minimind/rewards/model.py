"""The term `reward_model`: a model's scores of answers, which it reads as `minimind reward score` has it read rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minimind.inference.reward import scores, worst_scoring
from minimind.language import say
from minimind.network.score import ScoreModel
from minimind.rewards.terms import Attempt, Unjudged
from minimind.text.chat import render
from minimind.text.tokenizer import Tokenizer

ENDING = 4
"""So many tokens the template may add to an answer that fills its room: the end of its turn, and what follows that."""


@dataclass(frozen=True, eq=False)
class ModelScorer:
    """A scorer for the term. tokenizer: of the model, and of what wrote the answers. context_tokens: how long a prompt
    with its answer may be. at_once: how many of these are scored at once, now.
    """

    model: ScoreModel
    tokenizer: Tokenizer
    context_tokens: int
    at_once: Callable[[], int]

    def __call__(self, attempts: Sequence[Attempt]) -> list[float]:
        """The score of each. Answers that are the same have the same, to the last bit, whatever they are scored with:
        else rounding would be a difference to learn from.
        """
        texts = [self._text(attempt) for attempt in attempts]
        distinct = list(dict.fromkeys(text for text in texts if not isinstance(text, Unjudged)))
        found = scores(self.model, distinct, step_tokens=self.at_once() * self._width)
        score_of = dict(zip(distinct, found, strict=True))
        return [text if isinstance(text, Unjudged) else score_of[text] for text in texts]

    def worst(self) -> None:
        """What it takes in memory, with nothing scored."""
        worst_scoring(self.model, self.at_once(), self._width)

    @property
    def _width(self) -> int:
        return self.context_tokens + ENDING

    def _text(self, attempt: Attempt) -> tuple[int, ...] | Unjudged:
        """The whole conversation, as the template writes one that ends with this answer, cut off or not."""
        if attempt.ending is None:
            raise TypeError("an attempt without its conversation")
        try:
            text = (*attempt.ending.before, *_written(self.tokenizer, attempt.ending.turn))
        except ValueError as error:
            return Unjudged(str(error))
        most = self.model.config.max_position_embeddings
        if len(text) > most:
            return Unjudged(say("it has {count} tokens; the model reads {most}", count=len(text), most=most))
        return text


def _written(tokenizer: Tokenizer, turn: Mapping[str, Any]) -> list[int]:
    """The token ids of an answer from its beginning to the end of its turn."""
    # Whatever it answers: what comes before an answer decides none of its tokens.
    written = render(tokenizer, [{"role": "user", "content": "?"}, turn])
    return written.ids[written.loss_mask.index(True) :]
