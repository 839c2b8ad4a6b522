"""The loss of a reward model: of two answers to a prompt the better one is to get the higher score."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from minimind.training.objectives import Loss


def reward_loss(score_A: Tensor, center: float) -> Loss:
    """The summed loss of pairs by Bradley and Terry (1952), as Ouyang et al. (2022, arXiv:2203.02155) use it.

    score_A: [2 x pairs], the better answer of each pair, and after it its worse one. center: how much of the square of
    the sum of both scores is added, which decides where zero is: only the difference of scores is learnt otherwise
    (Eisenstein et al. 2023, arXiv:2312.09244).

    Metrics: accuracy, the share of pairs whose better answer has the higher score, a tie counting half; margin, by how
    much; score, the mean of all scores.
    """
    chosen_P, rejected_P = score_A[0::2], score_A[1::2]
    total = -F.logsigmoid(chosen_P - rejected_P).sum() + center * (chosen_P + rejected_P).square().sum()
    pairs = torch.full_like(total, len(chosen_P))
    with torch.no_grad():
        metrics = {
            "accuracy": ((chosen_P > rejected_P).sum() + (chosen_P == rejected_P).sum() / 2, pairs),
            "margin": ((chosen_P - rejected_P).sum(), pairs),
            "score": (score_A.sum(), 2 * pairs),
        }
    return Loss(total, pairs, metrics)
