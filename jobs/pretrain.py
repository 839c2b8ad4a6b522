"""The pretrain stage: predict every next token of plain text."""

from __future__ import annotations

from typing import Literal

from minimind.config import Config


class PretrainConfig(Config):
    """Pretraining has no settings of its own: its data, model and loop say it all."""

    kind: Literal["pretrain"] = "pretrain"
