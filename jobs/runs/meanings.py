"""What the numbers of a run mean, for those who show them."""

from __future__ import annotations

from collections.abc import Mapping

from minimind.events import METRICS, Metric

LEARN_TOKENS = ("pretrain", "sft", "lora")
"""Stages whose loss is the cross-entropy of tokens; what others declare is known where stages are loaded, which takes
seconds."""

OWN_LOSS = {
    "train/loss": Metric("", "loss of the stage, by its formula in docs/stages.md", "lower"),
    "val/loss": Metric("", "the same on held-out rows", "lower"),
}
"""What the loss of any other stage is: it may be of pairs, and in no unit."""

TRY = ("grpo", "spo", "ppo")
"""Stages that learn by trying."""

TRIED_LOSS = {
    "train/loss": Metric("", "loss of the stage, by its formula in docs/stages.md; near 0 whatever is learnt", None),
    "val/loss": Metric("", "minus the mean reward of the likeliest answers to held-out prompts", "lower"),
}
"""What their loss is."""


def metrics_of(stage: str) -> Mapping[str, Metric]:
    """Name -> what it means in a run of this stage. A stage's own metrics are there where it has been loaded."""
    if stage in LEARN_TOKENS:
        return METRICS
    return {**METRICS, **(TRIED_LOSS if stage in TRY else OWN_LOSS)}
