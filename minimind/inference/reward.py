"""The scores of a reward model: how good it finds texts, many at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from minimind.language import say
from minimind.network.score import ScoreModel

STEP_TOKENS = 4096
"""So many tokens, padding included, go through the model at once."""


@torch.inference_mode()
def scores(
    model: ScoreModel, texts: Sequence[Sequence[int]], done: Callable[[int], None] = lambda texts: None
) -> list[float]:
    """The score of each text, read at its last token. texts: token ids, of a prompt with its answer as in training.
    done: told how many more are scored.

    Raises ValueError for a text without tokens, and for one that is longer than the model's context.
    """
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
    found = [0.0] * len(texts)
    device = model.score.weight.device
    waiting = sorted(range(len(texts)), key=lambda number: len(texts[number]), reverse=True)
    while waiting:
        width = len(texts[waiting[0]])
        at_once, waiting = waiting[: max(1, STEP_TOKENS // width)], waiting[max(1, STEP_TOKENS // width) :]
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
