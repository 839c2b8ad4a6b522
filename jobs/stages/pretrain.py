"""The pretrain stage: predict every next token of plain text.

Measured: its optimizer settings (`bench/time_to_loss.py`; docs/benchmarks.md holds the figures).
"""

from __future__ import annotations

from typing import Literal

from jobs.stages import supervised
from jobs.stages.sampling import writing
from jobs.stages.spec import DataConfig, RunSpec, StageSettings
from jobs.stages.stage import DEFAULT_MODEL, Stage
from minimind.network.model import MODEL_PRESETS
from minimind.text.tokenizer import Tokenizer
from minimind.training.optim import OptimConfig
from minimind.training.recipe import LoopConfig


class PretrainConfig(StageSettings):
    """Pretraining has no settings of its own: its data, model and loop say it all."""

    kind: Literal["pretrain"] = "pretrain"


def pretrain(size: str = DEFAULT_MODEL) -> RunSpec:
    """Pretraining of a model of `MODEL_PRESETS`, on rows that the user names."""
    small = size == "tiny"
    return RunSpec(
        name="pretrain",
        model=MODEL_PRESETS[size],
        stage=PretrainConfig(),
        # CJK characters by themselves help a small model to recall what it read; see docs/benchmarks.md.
        data=DataConfig(path="data/stock/pretrain.jsonl", max_seq_len=256 if small else 512, split_cjk=small),
        optim=OptimConfig(learning_rate=6e-3 if small else 3e-3),
        loop=LoopConfig(batch_size=8, accumulation_steps=1 if small else 4),
    )


def beginning(tokenizer: Tokenizer, text: str) -> list[int]:
    """The token ids after which a model that has learnt plain text continues `text`."""
    return [tokenizer.bos_id, *tokenizer.encode(text)]


STAGE = Stage(
    title="learn language from plain text: predict every next token",
    rows="pretrain",
    settings=PretrainConfig,
    preset=pretrain,
    continues=False,
    prompt=beginning,
    sampling=writing,
    models=supervised.models,
    objective=supervised.objective,
    data=supervised.data,
    worst=supervised.worst,
    closed_form=True,
    replays=True,
)
