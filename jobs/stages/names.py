"""The names of the stages: the rows of their table, which loads PyTorch and so takes seconds; this does not."""

from __future__ import annotations

STAGE_NAMES = ("pretrain", "sft", "lora", "dpo", "kto", "reward", "distill", "ppo", "grpo", "spo")
"""Each is the name of a file beside this one."""
