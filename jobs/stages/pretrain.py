"""The pretrain stage: predict every next token of plain text."""

from __future__ import annotations

from typing import Literal

from minimind.config import Config
from minimind.tokenizer import Tokenizer


class PretrainConfig(Config):
    """Pretraining has no settings of its own: its data, model and loop say it all."""

    kind: Literal["pretrain"] = "pretrain"


def beginning(tokenizer: Tokenizer, text: str) -> list[int]:
    """The token ids after which a model that has learnt plain text continues `text`."""
    return [tokenizer.bos_id, *tokenizer.encode(text)]
