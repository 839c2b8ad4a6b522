"""Complete specs for each stage and model size: where a run starts before flags change it.

The optimizer settings come from `bench/time_to_loss.py`; docs/benchmarks.md holds the figures.
"""

from __future__ import annotations

from jobs.pretrain import PretrainConfig
from jobs.spec import DataConfig, RunSpec
from minimind.loop import LoopConfig
from minimind.model import MODEL_PRESETS
from minimind.optim import OptimConfig

DEFAULT_MODEL = "30m"


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
