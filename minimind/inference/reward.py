"""The scores of a reward model: how good it finds texts, many at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import count, islice

import torch

from minimind.inference.completion import RequestEvent
from minimind.inference.sampling import SamplingParams
from minimind.language import say
from minimind.network.score import ScoreModel

STEP_TOKENS = 4096
"""So many tokens, padding included, go through the model at once."""

NOT_FINITE = "the model's score is no number: its weights are damaged, or training has diverged"


@torch.inference_mode()
def scores(
    model: ScoreModel,
    texts: Sequence[Sequence[int]],
    done: Callable[[int], None] = lambda texts: None,
    *,
    step_tokens: int = STEP_TOKENS,
) -> list[float]:
    """The score of each text, read at its last token. texts: token ids, of a prompt with its answer as in training.
    done: told how many more are scored. step_tokens: see STEP_TOKENS.

    Raises ValueError for a text without tokens, and for one that is longer than the model's context.
    """
    _require_lengths(model, texts)
    found = [0.0] * len(texts)
    device = model.score.weight.device
    waiting = sorted(range(len(texts)), key=lambda number: len(texts[number]), reverse=True)
    while waiting:
        width = len(texts[waiting[0]])
        most = max(1, step_tokens // width)
        at_once, waiting = waiting[:most], waiting[most:]
        tokens_BT = torch.zeros(len(at_once), width, dtype=torch.int64)
        for row, number in enumerate(at_once):
            tokens_BT[row, : len(texts[number])] = torch.tensor(texts[number])
        # What follows a text does not change its score: no token looks ahead.
        score_BT = model.scores(tokens_BT.to(device))
        last_B = torch.tensor([len(texts[number]) - 1 for number in at_once], device=device)
        for number, score in zip(at_once, score_BT.gather(1, last_B[:, None])[:, 0].tolist(), strict=True):
            found[number] = score
        done(len(at_once))
    return found


def worst_scoring(model: ScoreModel, count: int, width: int) -> None:
    """What scoring takes in memory for so many texts at once of so many tokens. From shapes alone."""
    with torch.no_grad():
        model.scores(torch.zeros(count, width, dtype=torch.int64, device=model.score.weight.device))


class Scorer:
    """Scores texts for many who ask at any time, up to `slots` texts at once, those that came first before the others.

    It is asked as an Engine is, with `busy`, `add`, `cancel` and `step`; each text has one event, with its score.
    """

    def __init__(self, model: ScoreModel, slots: int) -> None:
        self._model, self._slots = model, slots
        self._waiting: dict[int, Sequence[int]] = {}
        self._numbers = count()

    @property
    def busy(self) -> bool:
        """Whether `step` has anything to do."""
        return bool(self._waiting)

    def add(self, ids: Sequence[int], params: SamplingParams | None = None) -> int:
        """Take a text; its number stands in its event. params: an engine's, of which nothing is needed.

        Raises ValueError as `scores` does.
        """
        _require_lengths(self._model, [ids])
        number = next(self._numbers)
        self._waiting[number] = ids
        return number

    def cancel(self, request: int) -> None:
        """Forget a text; it has no event. Harmless for one that has its score."""
        self._waiting.pop(request, None)

    def step(self) -> list[RequestEvent]:
        """The scores of some texts. An error that it raises leaves all as they were."""
        at_once = dict(islice(self._waiting.items(), self._slots))
        found = scores(self._model, list(at_once.values()))
        for number in at_once:
            del self._waiting[number]
        return [
            RequestEvent(number, finish="stop", score=score)
            if math.isfinite(score)
            else RequestEvent(number, finish="failed", error=NOT_FINITE)
            for number, score in zip(at_once, found, strict=True)
        ]


def _require_lengths(model: ScoreModel, texts: Sequence[Sequence[int]]) -> None:
    most = model.config.max_position_embeddings
    for number, ids in enumerate(texts):
        if not 0 < len(ids) <= most:
            raise ValueError(
                say(
                    "text {number} has {count} tokens: a score is given to 1 to {most}",
                    number=number + 1,
                    count=len(ids),
                    most=most,
                )
            )
