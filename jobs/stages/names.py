"""The names of the stages, the rows of their table: loading that takes seconds, for it loads PyTorch; this takes none."""

from __future__ import annotations

STAGE_NAMES = ("pretrain", "sft", "lora")
"""Each is the name of a file beside this one."""
