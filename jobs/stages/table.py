"""The table of stages. Adding one is one file that says what it trains and one row here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jobs.stages import presets
from jobs.stages.pretrain import beginning
from jobs.stages.sampling import answering, writing
from jobs.stages.sft import question
from jobs.stages.spec import RunSpec
from minimind.model import ModelConfig
from minimind.objectives import Objective, next_token_loss
from minimind.sampling import Sampling
from minimind.tokenizer import Tokenizer


@dataclass(frozen=True)
class Stage:
    """What makes one stage differ from another.

    title: one line for the help. rows: which row format its data has, as `data check --stage` calls it.
    preset: model size -> the complete spec that a run starts from. objective: what is minimised. prompt: the token ids
    that a sample is written after. sampling: how its models are sampled unless a request says otherwise. continues:
    whether it makes sense only on weights that have learnt something.
    """

    title: str
    rows: str
    preset: Callable[[str], RunSpec]
    objective: Objective
    prompt: Callable[[Tokenizer, str], list[int]]
    sampling: Callable[[ModelConfig], Sampling]
    continues: bool


STAGES: dict[str, Stage] = {
    "pretrain": Stage(
        title="learn language from plain text: predict every next token",
        rows="pretrain",
        preset=presets.pretrain,
        objective=next_token_loss,
        prompt=beginning,
        sampling=writing,
        continues=False,
    ),
    "sft": Stage(
        title="learn to answer, from conversations: all weights, on what the assistant says",
        rows="sft",
        preset=presets.sft,
        objective=next_token_loss,
        prompt=question,
        sampling=answering,
        continues=True,
    ),
    "lora": Stage(
        title="learn to answer with little memory: SFT of a small adapter beside frozen weights",
        rows="sft",
        preset=presets.lora,
        objective=next_token_loss,
        prompt=question,
        sampling=answering,
        continues=True,
    ),
}
