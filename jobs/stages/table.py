"""The table of stages. Adding one is one file that says what it trains and one row here."""

from __future__ import annotations

from jobs.stages import lora, pretrain, sft
from jobs.stages.stage import Stage
from minimind.events import declare

STAGES: dict[str, Stage] = {
    "pretrain": pretrain.STAGE,
    "sft": sft.STAGE,
    "lora": lora.STAGE,
}

for _stage in STAGES.values():
    declare(_stage.metrics)
