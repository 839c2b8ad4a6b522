"""RunSpec: everything that decides what a training run computes, as one frozen tree. It is stored as spec.json."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from data.check import CheckLimits
from data.encode import Tool
from jobs.runs.directory import require_name
from minimind.config import Config
from minimind.language import say
from minimind.network.lora import LoraConfig
from minimind.network.model import ModelConfig
from minimind.training.gate import Gate
from minimind.training.optim import OptimConfig
from minimind.training.recipe import LoopConfig
from minimind.units import parse_memory


class DataConfig(Config):
    """Which text, and how it becomes rows of tokens."""

    path: str = Field(
        description="training rows: .jsonl, .jsonl.gz or .parquet, texts: .txt or .md, or a folder of either; in a job "
        "a relative path counts from MINIMIND_HOME"
    )
    tokenizer: str | None = Field(
        default=None,
        description="a tokenizer: a run, run@step, run@best, or a folder with a slash in it (./folder); default: that "
        "of the first weights, or one of model.vocab_size ids, trained on the data and kept for the next run",
    )
    split_cjk: bool = Field(
        default=False, description="a tokenizer trained for this run takes each CJK character by itself"
    )
    max_seq_len: int = Field(
        default=512,
        ge=8,
        description="tokens per packed row; longer documents are read in pieces, longer conversations lose their end",
    )
    in_order: bool = Field(
        default=False,
        description="what stands first in the file is learnt first, and rows are shuffled only among their neighbours",
    )
    num_workers: int = Field(default=1, ge=0, description="more than 0: a thread prepares the next step meanwhile")
    limits: CheckLimits = CheckLimits()
    mix: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of the rows that are plain text, lest the model forget it; all of it is learnt, and of a "
        "conversation only the answers: where these are 30 %, 0.1 of the rows is 27 % of what is learnt, 0.2 is 45 %",
    )
    mix_path: str | None = Field(
        default=None, description="that text, also to see what is forgotten; default: what the weights learnt from"
    )
    chats_path: str | None = Field(
        default=None,
        description="conversations that a stage which learns by trying replays beside that text, as many rows of each; "
        "default: those that the weights were taught",
    )


class EvalConfig(Config):
    """What the model is measured on while it trains."""

    path: str | None = Field(default=None, description="held-out rows; default: taken out of the training rows")
    fraction: float = Field(default=0.01, gt=0, lt=1, description="share of the documents that is held out")
    least_documents: int = Field(
        default=0, ge=0, description="where that share is fewer documents, so many are, but no more than a third of all"
    )
    max_documents: int = Field(default=500, ge=1, description="at most so many documents are held out")
    pretrain_path: str | None = Field(
        default=None, description="plain text to see what is forgotten; default: held out of data.mix_path"
    )
    facts_path: str | None = Field(
        default=None,
        description="questions with right answers that the weights know, rows as for grpo: a stage that learns by "
        "trying measures at each validation what it forgets of them, and is held to it; default: facts of the stock "
        "data, where the weights were taught these",
    )
    best: str = Field(
        default="val/loss", description="the metric by which @best is chosen, and what loop.keep_best keeps"
    )
    best_is: Literal["lowest", "highest"] = Field(default="lowest", description="which value of it is the best")
    prompts: tuple[str, ...] = Field(
        default=("中国的首都是", "The capital of France is"),
        description="continued at the end of the run, into samples.jsonl",
    )
    sample_tokens: int = Field(default=60, ge=0, description="tokens per continuation; 0: none")
    suites: tuple[str, ...] | None = Field(
        default=None, description="suites for what the run ends with; default: all that fit it; []: none"
    )


class ScalingConfig(Config):
    """How many processes train together, and with what."""

    workers: int | None = Field(
        default=None,
        ge=0,
        description="Ray Train workers; 0: in this process; default: one per GPU, else one",
    )
    gpus_per_worker: float | None = Field(
        default=None, ge=0, description="default: one where the cluster has any, else none"
    )
    cpus_per_worker: int | None = Field(
        default=None, ge=1, description="default: the most that lets all workers find room"
    )
    max_failures: int = Field(
        default=3, ge=0, description="how often dead workers are started again without a new checkpoint in between"
    )


class MemoryConfig(Config):
    """How much of a device's memory a run may take."""

    vram: str | None = Field(
        default=None,
        description="take no more memory than this, such as 8GB; on a CPU the limit is emulated; default: all there is",
    )

    @field_validator("vram", mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        """In a spec a number may stand as one."""
        return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else value

    @field_validator("vram")
    @classmethod
    def _size(cls, value: str | None) -> str | None:
        if value is not None:
            parse_memory(value)
        return value


FILES = ("data.path", "data.mix_path", "data.chats_path", "eval.path", "eval.pretrain_path", "eval.facts_path")
"""Settings that are paths of files."""

CODE = "stage.code_path"
"""The folder of a user's own functions, of stages that have some."""

MAY_CHANGE = (
    "scaling",
    *FILES,
    CODE,
    "data.num_workers",
    "data.limits",
    "loop.batch_size",
    "loop.accumulation_steps",
    "loop.activation_checkpointing",
    "loop.deterministic",
    "loop.out_of_memory",
    "loop.log_interval",
    "loop.save_interval",
    "loop.eval_interval",
    "loop.keep_last",
    "loop.keep_best",
    "loop.max_bad_steps",
    "eval.prompts",
    "eval.sample_tokens",
    "eval.suites",
    "memory",
)
"""What a resumed run may change: none of it changes what is learnt, as long as the global batch and the content of the
files stay what they were. Where a run is held to a gate, how often it is measured decides what it learns.
"""

MEASURED = ("val/loss", "val/bits_per_byte", "val/pretrain_bits_per_byte")
"""What any stage may measure on held-out rows."""

NO_WEIGHTS = "none"
"""What `init_from` is where a user says that weights are to be drawn anew, for a stage that otherwise refuses that."""


class StageSettings(Config):
    """Base of the settings that a stage has of its own. kind: the name of the stage."""

    kind: str

    @property
    def does_without(self) -> tuple[str, ...]:
        """Those of the stage's roles that a run of these settings needs no model for."""
        return ()

    @property
    def held_to(self) -> Gate | None:
        """What a run is held to at its validations; None: nothing."""
        return None

    @property
    def offers(self) -> tuple[Tool, ...]:
        """What prompts list as what can be called."""
        return ()

    @property
    def files(self) -> dict[str, str]:
        """Files that it reads beside the data, by the setting that names them."""
        return {}

    def require_files(self) -> None:
        """Raise ValueError where one of them is not there, or is no such file."""

    def require_code(self) -> None:
        """Raise ValueError where a function of the user's is not there, or cannot be imported. It is imported in a
        process of its own.
        """


class RunSpec(Config):
    """One run. Sections are declared beside the code that reads them."""

    name: str = Field(description="name of the run and of its folder")
    seed: int = Field(default=42, ge=0, description="decides initial weights, row order and samples")
    model: ModelConfig
    init_from: str | None = Field(
        default=None,
        description="first weights: a run, run@step, run@best, a checkpoint folder with a slash in it (./folder), or "
        "none",
    )
    stage: SerializeAsAny[StageSettings] = Field(description="what is trained: its kind, and settings of its own")
    roles: dict[str, str] = Field(
        default_factory=dict,
        description="weights of further models that the stage uses, by role, such as teacher: named as init_from is",
    )
    data: DataConfig
    optim: OptimConfig = OptimConfig()
    loop: LoopConfig = LoopConfig()
    scaling: ScalingConfig = ScalingConfig()
    eval: EvalConfig = EvalConfig()
    memory: MemoryConfig = MemoryConfig()
    adapter: LoraConfig | None = Field(
        default=None, description="an adapter that trains in place of the weights, on any stage; {} for a usual one"
    )

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        return require_name(value)

    @field_validator("stage", mode="before")
    @classmethod
    def _of_its_kind(cls, value: Any) -> Any:
        """The settings as the stage of that name declares them."""
        from jobs.stages.table import STAGES  # whose files declare specs

        kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
        if not isinstance(kind, str) or kind not in STAGES:
            raise ValueError(say("kind = {kind!r}: there are {names}", kind=kind, names=", ".join(STAGES)))
        return STAGES[kind].settings.model_validate(value)

    @model_validator(mode="after")
    def _sections_fit(self) -> RunSpec:
        width, most = self.data.max_seq_len, self.model.max_position_embeddings
        if width > most:
            raise ValueError(
                say(
                    "data.max_seq_len = {width} is more than model.max_position_embeddings = {most}",
                    width=width,
                    most=most,
                )
            )
        if self.stage.kind == "lora" and self.adapter is None:
            raise ValueError(say("adapter = null: lora trains an adapter; the stage that trains all weights is sft"))
        from jobs.stages.table import STAGES

        stage = STAGES[self.stage.kind]
        measured = (*MEASURED, *(f"val/{name}" for name in stage.metrics))
        if self.eval.best not in measured:
            raise ValueError(
                say(
                    "eval.best = {best!r}: what {stage} measures is {names}",
                    best=self.eval.best,
                    stage=self.stage.kind,
                    names=", ".join(measured),
                )
            )
        if self.data.mix and not stage.replays:
            raise ValueError(
                say(
                    "data.mix = {mix}: {stage} replays no text; leave it out",
                    mix=self.data.mix,
                    stage=self.stage.kind,
                )
            )
        if self.data.chats_path and not (self.data.mix and stage.replays_chats):
            raise ValueError(
                say(
                    "data.chats_path = {path}: {why}; leave it out",
                    path=self.data.chats_path,
                    why=say("{stage} replays no conversations", stage=self.stage.kind)
                    if not stage.replays_chats
                    else say("nothing is replayed, data.mix = 0"),
                )
            )
        if self.eval.facts_path and stage.rows != "rl":
            raise ValueError(
                say(
                    "eval.facts_path = {path}: {stage} is not asked for facts while it trains; leave it out",
                    path=self.eval.facts_path,
                    stage=self.stage.kind,
                )
            )
        known = stage.roles
        if unknown := [role for role in self.roles if role not in known]:
            raise ValueError(
                say(
                    "roles: the stage {stage} has no {unknown}; it has {known}",
                    stage=self.stage.kind,
                    unknown=", ".join(unknown),
                    known=", ".join(known) or say("none"),
                )
            )
        return self

    @property
    def weights(self) -> str | None:
        """The checkpoint that `init_from` names, None where weights are drawn anew."""
        return None if self.init_from == NO_WEIGHTS else self.init_from

    @property
    def world(self) -> int:
        """How many processes train."""
        return max(1, self.scaling.workers or 1)

    @property
    def global_batch_size(self) -> int:
        """Rows per optimizer step, all workers together."""
        return self.loop.batch_size * self.loop.accumulation_steps * self.world


def other_results(stored: RunSpec, spec: RunSpec) -> list[str]:
    """The dotted paths of what would make the run of `spec` end otherwise than that of `stored`, global batch aside."""
    may = [path for path in MAY_CHANGE if path != "loop.eval_interval" or spec.stage.held_to is None]
    return [path for path in differences(stored.model_dump(), spec.model_dump()) if not path.startswith(tuple(may))]


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """The dotted paths at which two trees of settings differ; where only one has a key, that of the key."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [] if old == new else [path]
    found: list[str] = []
    for key in {**old, **new}:
        below = f"{path}.{key}" if path else key
        found += differences(old[key], new[key], below) if key in old and key in new else [below]
    return found
