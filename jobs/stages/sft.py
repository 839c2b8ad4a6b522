"""The SFT stage: learn to answer, from conversations of which only what the assistant says counts.

Measured: the learning rate of `tiny`, in the search for the demo's recipe (docs/benchmarks.md). Not measured: larger
models, which take a tenth of pretraining's rate and two epochs, between upstream MiniMind (a fiftieth with AdamW, two
epochs) and what the small model wants (two thirds).
"""

from __future__ import annotations

from typing import Literal

from jobs.stages import replay
from jobs.stages.sampling import answering
from jobs.stages.spec import DataConfig, EvalConfig, RunSpec
from jobs.stages.stage import DEFAULT_MODEL, Stage
from minimind.network.model import MODEL_PRESETS
from minimind.text.chat import render
from minimind.text.tokenizer import Tokenizer
from minimind.training.distillation import TEACHER
from minimind.training.optim import OptimConfig
from minimind.training.recipe import LoopConfig


class SftConfig(replay.ReplaySettings):
    """What supervised fine-tuning has to be told beside its data and weights."""

    kind: Literal["sft"] = "sft"


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


def question(tokenizer: Tokenizer, text: str) -> list[int]:
    """The token ids after which a model that has learnt to chat answers `text`."""
    return render(tokenizer, [{"role": "user", "content": text}], add_generation_prompt=True).ids


STAGE = Stage(
    title="learn to answer, from conversations: all weights, on what the assistant says",
    rows="sft",
    settings=SftConfig,
    preset=sft,
    continues=True,
    prompt=question,
    sampling=answering,
    models=replay.models,
    objective=replay.objective,
    data=replay.data,
    worst=replay.worst,
    roles=(TEACHER,),
    metrics=replay.METRICS,
    closed_form=True,
    replays=True,
)
