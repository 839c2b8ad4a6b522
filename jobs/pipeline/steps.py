"""What a pipeline is made of: its options, its stages, and the files that each of them reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from data.read import SUFFIXES
from jobs import paths
from jobs.evaluation.suites import fitting_what
from jobs.paths import stock_folder
from jobs.runs.directory import require_name
from jobs.stages.origin import of_preset
from jobs.stages.spec import FILES, NO_WEIGHTS, RunSpec
from jobs.stages.stage import DEFAULT_MODEL
from jobs.stages.table import STAGES
from jobs.stages.weights import ExpectedSpec
from jobs.stock import VERSION, version_of
from jobs.training.request import JobRequest
from minimind.config import Config
from minimind.language import say


@dataclass(frozen=True)
class Step:
    """A stage of the pipeline. after: the stage whose weights it begins with. optional: left out where the data folder
    has no file for it. rows: what its file is called, its own name if not otherwise. measured: what a file of held-out
    rows is called, where the folder may have one. teacher: the stage whose model teaches it, unless another is named.
    needs: settings, or sections of them, without one of which it is left out.
    """

    stage: str
    after: str | None = None
    optional: bool = False
    rows: str = ""
    measured: str = ""
    teacher: str = ""
    needs: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """What its file is called, without an ending."""
        return self.rows or self.stage


STEPS = (
    Step("pretrain"),
    Step("sft", after="pretrain"),
    Step("lora", after="sft", optional=True),
    Step("kto", after="sft", optional=True),
    Step("dpo", after="sft", optional=True, measured="dpo_eval"),
    Step("reward", after="sft", optional=True, rows="dpo", measured="dpo_eval"),
    Step("grpo", after="sft", optional=True, rows="rl", measured="rl_eval"),
    Step("spo", after="sft", optional=True, rows="rl", measured="rl_eval"),
    Step("ppo", after="sft", optional=True, rows="rl", measured="rl_eval"),
    Step("distill", after="pretrain", rows="sft", teacher="sft", needs=("model", "roles")),
)
"""In their order. A stage that comes adds itself here."""


class PipelineOptions(Config):
    """What a pipeline is asked for. settings: "STAGE.PATH" -> value. data: a folder with pretrain.*, sft.* and, where
    there is LoRA, lora.*; None is the stock data, which is fetched.
    """

    name: str = "pipeline"
    data: str | None = None
    model: str = DEFAULT_MODEL
    preset: str | None = None
    until: str | None = None
    past_gates: bool = False
    serve: bool = False
    settings: Mapping[str, Any] = Field(default_factory=dict)

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        return require_name(value)

    @field_validator("until")
    @classmethod
    def _until(cls, value: str | None) -> str | None:
        names = ["tokenizer", *(step.stage for step in STEPS)]
        if value is not None and value not in names:
            raise ValueError(say("there are {names}", names=", ".join(names)))
        return value

    @field_validator("settings")
    @classmethod
    def _settings(cls, value: Mapping[str, Any]) -> Mapping[str, Any]:
        names = [step.stage for step in STEPS]
        if wrong := [path for path in value if path.partition(".")[0] not in names]:
            raise ValueError(
                say(
                    "--set {path}: it begins with a stage, such as sft.loop.epochs; there are {names}",
                    path=wrong[0],
                    names=", ".join(names),
                )
            )
        return value

    @property
    def from_stock(self) -> bool:
        """Whether it reads the stock data."""
        return self.data is None

    @property
    def has_data(self) -> bool:
        """Whether its data is there, or is what the user named; the stock data is fetched when it begins."""
        return not self.from_stock or version_of(self._folder) == VERSION

    @property
    def tokenizer(self) -> str:
        """The name of its tokenizer's run."""
        return f"{self.name}-tokenizer"

    def run(self, stage: str) -> str:
        """The name of a stage's run."""
        return f"{self.name}-{stage}"

    def steps(self) -> list[Step]:
        """The stages to go through: up to `until`, and of the optional ones those with data."""
        if self.until == "tokenizer":
            return []
        names = [step.stage for step in STEPS]
        wanted = STEPS if self.until is None else STEPS[: names.index(self.until) + 1]
        return [step for step in wanted if self._has(step)]

    def file(self, name: str) -> Path:
        """The file of this name, whatever it ends in. Raises ValueError where the folder has none, or two."""
        if self.has_data and not self._folder.is_dir():
            raise ValueError(say("{folder}: no such folder", folder=self._folder))
        found = self._found(name)
        if found is None:
            raise ValueError(
                say(
                    "{folder} has no rows for {stage}: a file called {names}",
                    folder=self._folder,
                    stage=name,
                    names=", ".join(f"{name}{suffix}" for suffix in SUFFIXES),
                )
            )
        return found

    def request(self, step: Step) -> JobRequest:
        """A stage as `train` takes it."""
        return JobRequest(
            stage=step.stage,
            settings=self._settings_of(step),
            model=self.model if self._after(step) is None else None,
            preset=self.preset,
        )

    def asked(self, step: Step) -> dict[str, Any]:
        """What a stage is asked for, but for where things lie: of files the content counts."""
        settings = {path: value for path, value in self._settings_of(step).items() if path not in ("name", *FILES)}
        return settings | {"model": self.model if self._after(step) is None else None, "preset": self.preset}

    def planned(self, step: Step) -> RunSpec:
        """The spec of a stage before the weights that it begins with, whose shape it will have, are there, and those of
        a stage that teaches it.
        """
        settings = {path: value for path, value in self._settings_of(step).items() if path != "init_from"}
        preset = STAGES[step.stage].preset(self.model)
        if (after := self._after(step)) is not None:
            preset = preset.model_copy(update={"model": self.planned(self._step(after)).model})
        if step.teacher and settings["roles.teacher"] == self.run(step.teacher):
            del settings["roles.teacher"]
            expected = {"teacher": self.planned(self._step(step.teacher)).model}
            preset = ExpectedSpec(**{name: getattr(preset, name) for name in RunSpec.model_fields}, expected=expected)
        try:
            return of_preset(preset, settings)
        except ValueError as error:
            raise ValueError(f"{step.stage}: {error}") from None

    def suites(self, step: Step, spec: RunSpec) -> Sequence[str]:
        """The suites that a stage will end with."""
        if not STAGES[step.stage].writes:
            return ()
        if spec.eval.suites is not None:
            return spec.eval.suites
        answers = STAGES[step.stage].rows != "pretrain"
        return fitting_what(answers=answers, stock=answers and self.from_stock)

    def _has(self, step: Step) -> bool:
        """Whether there is what a stage needs; of one that is not optional that is looked at later, and said."""
        if step.needs and not any(path.startswith(step.needs) for path in self._given(step)):
            return False
        return not step.optional or self._found(step.file) is not None

    @property
    def _folder(self) -> Path:
        return stock_folder() if self.data is None else paths.absolute(self.data)

    def _found(self, name: str) -> Path | None:
        if not self.has_data:
            return self._folder / f"{name}.jsonl"  # as it will be called
        here = [self._folder / f"{name}{suffix}" for suffix in SUFFIXES]
        found = [file for file in here if file.is_file()]
        if len(found) > 1:
            raise ValueError(
                say(
                    "{folder} has two files for {stage}: {names}",
                    folder=self._folder,
                    stage=name,
                    names=", ".join(file.name for file in found),
                )
            )
        if found:
            return found[0]
        folder = self._folder / name
        if folder.is_dir():
            return folder
        return None

    @staticmethod
    def _step(stage: str) -> Step:
        return next(step for step in STEPS if step.stage == stage)

    def _given(self, step: Step) -> dict[str, Any]:
        """What the user says of a stage."""
        parts = [(path.partition("."), value) for path, value in self.settings.items()]
        return {path: value for (stage, _, path), value in parts if stage == step.stage}

    def _after(self, step: Step) -> str | None:
        """The stage whose weights it begins with; None for one that is given a shape of its own, or no weights."""
        own = self._given(step)
        has_shape = any(path.startswith("model.") for path in own)
        return None if has_shape or own.get("init_from") == NO_WEIGHTS else step.after

    def _settings_of(self, step: Step) -> dict[str, Any]:
        settings: dict[str, Any] = {"name": self.run(step.stage), "data.path": str(self.file(step.file))}
        if step.measured and (held_out := self._found(step.measured)) is not None:
            settings["eval.path"] = str(held_out)
        if (after := self._after(step)) is not None:
            settings["init_from"] = self.run(after)
        else:
            settings |= {"data.tokenizer": self.tokenizer}
        if step.after and after is None:
            vocab_size = self.planned(self._step("pretrain")).model.vocab_size
            settings |= {"init_from": NO_WEIGHTS, "model.vocab_size": vocab_size}
        if step.teacher:
            settings["roles.teacher"] = self.run(step.teacher)
        if step.file == "sft" and self.from_stock:
            # Single questions first, conversations later; one pass holds eleven phrasings of each. See jobs.stock.
            settings |= {"data.in_order": True, "loop.epochs": 1}
        if step.stage == "sft" and self.from_stock:
            settings |= {"data.mix": 0.1}
        if step.stage == "lora" and self.from_stock:
            # A third of the usual rate, and plain text beside: few rows are not worth what was learnt before.
            settings |= {
                "data.mix": 0.2,
                "optim.learning_rate": STAGES["lora"].preset(self.model).optim.learning_rate / 3,
            }
        return settings | self._given(step)
