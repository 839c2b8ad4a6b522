"""The LoRA stage: SFT of a small adapter beside weights that stay as they are.

Measured: the learning rate of `tiny` (100 steps on the samples of that time, held-out nats per token: 1e-3 1.46, 3e-3
1.05, 1e-2 0.90; Muon with 1e-2 0.91, all weights 0.55). Not measured: larger models, which take the rate at which
adapters are usually trained, some ten times that of all weights with AdamW.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from jobs.stages import sft
from jobs.stages.replay import ReplaySettings
from jobs.stages.spec import RunSpec
from jobs.stages.stage import DEFAULT_MODEL
from minimind.network.lora import LoraConfig
from minimind.training.optim import OptimConfig


class LoraStageConfig(ReplaySettings):
    """An adapter's settings stand under `adapter`: any stage may have one, this one must."""

    kind: Literal["lora"] = "lora"


def lora(size: str = DEFAULT_MODEL) -> RunSpec:
    """Supervised fine-tuning of an adapter."""
    settings = {"name": "lora", "stage": LoraStageConfig(), "adapter": LoraConfig()}
    optim = OptimConfig(name="adamw", learning_rate=1e-2 if size == "tiny" else 1e-3, weight_decay=0.0)
    return sft.sft(size).model_copy(update={**settings, "optim": optim})


STAGE = replace(
    sft.STAGE,
    title="learn to answer with little memory: SFT of a small adapter beside frozen weights",
    settings=LoraStageConfig,
    preset=lora,
)
