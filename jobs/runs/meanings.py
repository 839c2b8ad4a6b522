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


def metrics_of(stage: str) -> Mapping[str, Metric]:
    """Name -> what it means in a run of this stage. A stage's own metrics are there where it has been loaded."""
    return METRICS if stage in LEARN_TOKENS else {**METRICS, **OWN_LOSS}
