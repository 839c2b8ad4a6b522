"""Complete specs for each stage and model size: where a run starts before flags change it.

Measured: pretraining's optimizer settings (`bench/time_to_loss.py`; docs/benchmarks.md holds the figures); the learning
rate of `tiny` SFT, in the search for the demo's recipe there; the learning rate of `tiny` LoRA (100 steps on the
samples of that time, held-out nats per token: 1e-3 1.46, 3e-3 1.05, 1e-2 0.90; Muon with 1e-2 0.91, all weights 0.55).
Not measured: SFT of the larger models, which takes a tenth of pretraining's rate and two epochs, between upstream
MiniMind (a fiftieth with AdamW, two epochs) and what the small model wants (two thirds); their LoRA, which takes the
rate at which adapters are usually trained, some ten times that of all weights with AdamW.
"""

from __future__ import annotations

from jobs.stages.pretrain import PretrainConfig
from jobs.stages.sft import SftConfig
from jobs.stages.spec import DataConfig, EvalConfig, RunSpec
from minimind.loop import LoopConfig
from minimind.lora import LoraConfig
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


def sft(size: str = DEFAULT_MODEL) -> RunSpec:
    """Supervised fine-tuning of all weights."""
    small = size == "tiny"
    return RunSpec(
        name="sft",
        model=MODEL_PRESETS[size],
        stage=SftConfig(),
        data=DataConfig(path="data/stock/sft.jsonl", max_seq_len=256 if small else 512),
        optim=OptimConfig(learning_rate=4e-3 if small else 3e-4),
        loop=LoopConfig(batch_size=4 if small else 8, accumulation_steps=1 if small else 4, epochs=8 if small else 2),
        eval=EvalConfig(prompts=("中国的首都是哪里？", "What is the capital of France?")),
    )


def lora(size: str = DEFAULT_MODEL) -> RunSpec:
    """Supervised fine-tuning of an adapter."""
    settings = {"name": "lora", "stage": SftConfig(kind="lora"), "adapter": LoraConfig()}
    optim = OptimConfig(name="adamw", learning_rate=1e-2 if size == "tiny" else 1e-3, weight_decay=0.0)
    return sft(size).model_copy(update={**settings, "optim": optim})
