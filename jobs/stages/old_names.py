"""Names that users of MiniMind's scripts and handbook bring along: what they are called here."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from itertools import pairwise

from minimind.model import MODEL_PRESETS

STAGES_CALLED = {
    "full_sft": "sft",
    "train_tokenizer": "tokenizer",
    "train_pretrain": "pretrain",
    "train_full_sft": "sft",
    "train_sft": "sft",
    "train_lora": "lora",
}
"""Stage as upstream calls it -> stage here."""

NOT_YET = ("dpo", "ppo", "grpo", "spo", "rlhf", "rlaif", "reason", "distillation", "distill_reason", "agent")
"""Stages of upstream that are not here."""

ROWS_OF = {
    "tokenizer": "pretrain",
    "lora": "sft",
    "distillation": "sft",
    "ppo": "rl",
    "grpo": "rl",
    "spo": "rl",
}
"""Stage -> the stage whose rows it reads, for those that have none of their own."""

FLAGS_ELSEWHERE = {
    "weight": "weights to begin with are --from_weight RUN; a model to talk with: minimind chat RUN",
    "load_from": "weights to begin with are --from_weight RUN",
    "tokenizer_path": "it is --tokenizer, a run or ./folder",
    "save_dir": "runs lie in $MINIMIND_HOME/runs; another place: export MINIMIND_HOME=/there",
    "out_dir": "runs lie in $MINIMIND_HOME/runs; another place: export MINIMIND_HOME=/there",
    "save_weight": "a run is named with --name",
    "device": "a GPU is taken where there is one; none: --set scaling.gpus_per_worker=0",
    "use_wandb": "curves: minimind show RUN; for TensorBoard they lie in the run's folder",
    "wandb_project": "curves: minimind show RUN; for TensorBoard they lie in the run's folder",
    "use_moe": "mixtures of experts are not there yet",
    "ddp": "processes that train together: --workers N",
    "lr": "it is --learning_rate",
}
"""Flag of upstream, or of other trainers -> what does it here."""

_SCRIPTS = {**{name: ["train", stage] for name, stage in STAGES_CALLED.items()}, "eval_llm": ["chat"]}
_SIZES = {"tiny": 2.0, **{name: float(name[:-1]) for name in MODEL_PRESETS if name != "tiny"}}


def known_words(argv: Sequence[str], say: Callable[[str], None]) -> list[str]:
    """The command line with upstream's names of scripts and stages replaced by those here; says which. Raises
    ValueError for a stage of upstream that is not here.
    """
    words = list(argv)
    if not words:
        return words
    script = words[0].removesuffix(".py")
    if script in _SCRIPTS or script in ("pretrain", "sft", "lora"):
        words[:1] = _SCRIPTS.get(script, ["train", script])
        say(f"{argv[0]} is called `{' '.join(words[: len(words) - len(argv) + 1])}` here.")
    if words[0] in ("train", "sweep", "plan") and len(words) > 1:
        stage = words[1].removesuffix(".py")
        if stage in STAGES_CALLED:
            words[1] = STAGES_CALLED[stage]
            say(f"The stage {stage} is called {words[1]} here.")
        script = stage
    if words[0] == "data":
        for place, (before, stage) in enumerate(pairwise(words), 1):
            if before in ("--stage", "example") and (here := STAGES_CALLED.get(stage)):
                words[place] = here
                say(f"The stage {stage} is called {here} here.")
    if (missing := script.removeprefix("train_")) in NOT_YET:
        raise ValueError(
            f"{missing} is not there yet. The stages there are: tokenizer, pretrain, sft, lora; README.md says what is "
            "next"
        )
    return words


def model_size(text: str) -> str:
    """A name in MODEL_PRESETS, for argparse. Raises ArgumentTypeError with the nearest ones."""
    if (name := text.lower()) in MODEL_PRESETS:
        return name
    there = {name: f"{name} ({model.hidden_size}x{model.num_hidden_layers})" for name, model in MODEL_PRESETS.items()}
    near = ""
    if number := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([mb])?", name):
        millions = float(number[1]) * (1000 if number[2] == "b" else 1)
        nearest = min(_SIZES, key=lambda size: abs(_SIZES[size] - millions))
        near = f"the nearest is {nearest}; "
    raise argparse.ArgumentTypeError(
        f"{text!r} is no size, hidden x layers: {near}there are {', '.join(there.values())}; any other by "
        "--hidden_size and --num_hidden_layers"
    )
