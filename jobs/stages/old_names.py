"""Names that users of MiniMind's scripts and handbook bring along: what they are called here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import pairwise

from jobs.stages.names import STAGE_NAMES
from minimind.language import say

STAGES = ("tokenizer", *STAGE_NAMES)
"""What can be trained."""

VERBS_TOO = ("reward",)
"""Stages whose name is a verb as well, which does something else."""

STAGES_CALLED = {
    "full_sft": "sft",
    "train_tokenizer": "tokenizer",
    "train_pretrain": "pretrain",
    "train_full_sft": "sft",
    "train_sft": "sft",
    "train_lora": "lora",
    "train_dpo": "dpo",
    "train_kto": "kto",
    "train_reward": "reward",
    "train_reward_model": "reward",
    "reward_model": "reward",
    "rlhf": "dpo",
    "train_distill": "distill",
    "train_distillation": "distill",
    "distillation": "distill",
    "distill_reason": "distill",
    "train_ppo": "ppo",
    "train_grpo": "grpo",
    "train_spo": "spo",
    "rlaif": "ppo",
    "reason": "grpo",
}
"""Stage as upstream calls it -> stage here."""

_COMING = {"agent": "agent"}
"""Stage that comes, as upstream or anybody calls it -> as it will be called."""

NOT_YET = {called: stage for called, stage in _COMING.items() if stage not in STAGE_NAMES}
"""Those of them that are not here yet."""

ROWS_OF = {
    "tokenizer": "pretrain",
    "lora": "sft",
    "reward": "dpo",
    "distill": "sft",
    "ppo": "rl",
    "grpo": "rl",
    "spo": "rl",
}
"""Stage -> the stage whose rows it reads, for those that have none of their own."""


def stages_reading(kinds: Collection[str]) -> list[str]:
    """The stages that read rows of these kinds, those that give the kinds their names first."""
    return [*kinds, *(stage for stage, rows in ROWS_OF.items() if rows in kinds)]


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
    "reward_model_path": "it is --reward_model, a run of the stage reward",
}
"""Flag of upstream, or of other trainers -> what does it here."""

_SCRIPTS = {
    **{name: ["train", stage] for name, stage in STAGES_CALLED.items()},
    **{key: ["chat"] for key in ("eval_llm", "eval_model")},
    **{key: ["serve"] for key in ("web_demo", "serve_openai_api")},
    "convert_model": ["convert"],
}
"""Script or verb of upstream -> the verb here."""


def known_words(argv: Sequence[str], tell: Callable[[str], None]) -> list[str]:
    """The command line with upstream's names of scripts, stages and models replaced by those here; `tell` is told
    which. Raises ValueError for a stage that comes.
    """
    words = list(argv)
    if not words:
        return words
    script = words[0].removesuffix(".py")
    if script.removeprefix("train_") in NOT_YET and script not in _SCRIPTS:
        raise ValueError(_comes(script.removeprefix("train_")))
    if script in _SCRIPTS or (script in STAGES and script not in VERBS_TOO):
        words[:1] = _SCRIPTS.get(script, ["train", script])
        here = " ".join(words[: len(words) - len(argv) + 1])
        tell(say("{name} is called `{here}` here.", name=argv[0], here=here))
    if words[0] in ("train", "sweep", "plan") and len(words) > 1:
        stage = words[1].removesuffix(".py")
        if stage in STAGES_CALLED:
            words[1] = STAGES_CALLED[stage]
            tell(say("The stage {name} is called {here} here.", name=stage, here=words[1]))
        elif stage.removeprefix("train_") in NOT_YET:
            raise ValueError(_comes(stage.removeprefix("train_")))
    if words[0] == "data":
        for place, (before, stage) in enumerate(pairwise(words), 1):
            if before in ("--stage", "example") and stage in STAGES_CALLED:
                words[place] = here = STAGES_CALLED[stage]
                tell(say("The stage {name} is called {here} here.", name=stage, here=here))
    if words[0] == "chat" and "--weight" in words[:-1]:
        place = words.index("--weight")
        model = words[place + 1]
        words[place : place + 2] = []
        words.insert(1, STAGES_CALLED.get(model, model))
        tell(say("--weight {name} is `minimind chat {here}` here.", name=model, here=words[1]))
    return words


def _comes(name: str) -> str:
    stage = NOT_YET[name]
    called = "" if stage == name else say(" It will be called {stage}.", stage=stage)
    return say(
        "{name} is not there yet, it comes.{called} The stages there are: {stages}; README.md says what is next",
        name=name,
        called=called,
        stages=", ".join(STAGES),
    )
