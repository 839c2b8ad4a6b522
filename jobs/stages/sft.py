"""The SFT stage: learn to answer, from conversations of which only what the assistant says counts. The stage `lora` is
the same with an adapter that trains in place of the weights.
"""

from __future__ import annotations

from typing import Literal

from minimind.chat import render
from minimind.config import Config
from minimind.tokenizer import Tokenizer


class SftConfig(Config):
    """Supervised fine-tuning has no settings of its own: its data, weights and adapter say it all."""

    kind: Literal["sft", "lora"] = "sft"


def question(tokenizer: Tokenizer, text: str) -> list[int]:
    """The token ids after which a model that has learnt to chat answers `text`."""
    return render(tokenizer, [{"role": "user", "content": text}], add_generation_prompt=True).ids
