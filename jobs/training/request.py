"""What is asked for: one frozen value, from the command line to the process that does the work.

A client makes it of flags, a Ray job is handed it as one JSON (`python -m jobs job JSON`), and `train` and `sweep` take
nothing else.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from jobs import paths
from jobs.runs.directory import is_name
from jobs.stages import flags
from jobs.stages.spec import CODE, RunSpec
from jobs.stages.stage import DEFAULT_MODEL
from jobs.stages.table import STAGES
from jobs.text.tokenizer import TOKENIZER_FLAGS, TokenizerSpec
from minimind.config import Config


class SweepOptions(Config):
    """What is asked of a sweep beside the settings of its runs; None is the sweep's own default."""

    space: str | None = None
    objective: Literal["bits_per_byte", "tokens_per_s"] | None = None
    budget_s: float | None = Field(default=None, gt=0)
    trials: int | None = Field(default=None, ge=1)

    def given(self) -> dict[str, Any]:
        """Those that are given, but for the space."""
        return {name: value for name, value in self if value is not None and name != "space"}


class JobRequest(Config):
    """One stage, trained once or, with `sweep`, many times.

    settings: dotted path -> JSON value; a text that came from a command line is read by the setting's own type. Paths
    are absolute or count from MINIMIND_HOME. model: a name in MODEL_PRESETS. preset: a share of the card, for which
    sizes are chosen that `settings` leave open. repeats: the run whose spec is run again; then `settings` have the name
    of the new run alone.
    """

    stage: str
    settings: Mapping[str, Any] = Field(default_factory=dict)
    model: str | None = None
    preset: str | None = None
    from_resume: bool = False
    overwrite: bool = False
    sweep: SweepOptions | None = None
    repeats: str | None = None

    @property
    def name(self) -> str:
        """Of the run, or of the sweep: as it was asked for, else that of the stage, as in its preset."""
        usual = self.stage
        if self.sweep is not None:
            space = Path(self.sweep.space or "batch").stem
            usual += f"-{space if is_name(space) else 'sweep'}"
        return str(self.settings.get("name") or usual)

    @property
    def rewards(self) -> list[str]:
        """What terms of a reward its settings name."""
        return terms_named(self.settings.get("stage.rewards"))

    @property
    def has_code(self) -> bool:
        """Whether what its settings have answers judged by is a function of the user's."""
        truth = self.settings.get("stage.truth")
        return "python" in (*self.rewards, *terms_named(f"[{truth}]" if isinstance(truth, str) else [truth]))

    @property
    def trains_tokenizer(self) -> bool:
        """Whether its stage is the one that is none of STAGES, for it trains no model."""
        return self.stage == "tokenizer"

    def tokenizer_spec(self) -> TokenizerSpec:
        """What the stage `tokenizer` is asked for. Raises ValueError."""
        return flags.apply(TokenizerSpec(), self.settings, TOKENIZER_FLAGS)

    @property
    def usual(self) -> RunSpec:
        """The spec that the settings change, where there are no first weights with a shape of their own."""
        return STAGES[self.stage].preset(self.model or DEFAULT_MODEL)

    def resolved(self, spec: Config) -> JobRequest:
        """The request with the values that its settings have in a spec, in JSON's types: nothing is left to be read."""
        values = spec.model_dump(mode="json")
        settings = {path: _value(values, path) for path in self.settings}
        return self.model_copy(update={"settings": settings})

    def anchored(self, folder: Path) -> JobRequest:
        """The request with its paths absolute: relative ones count from `folder`, in which the functions of a new run's
        rewards are looked for as well.
        """
        if self.trains_tokenizer:
            path = self.settings.get("path")
            settings = self.settings if path is None else {**self.settings, "path": str(paths.absolute(path, folder))}
        else:
            settings = flags.absolute(self.settings, folder)
            if self.has_code and settings.get(CODE) is None and not self.from_resume:
                settings = {**settings, CODE: str(folder)}
        return self.model_copy(update={"settings": settings})

    def words(self) -> str:
        """The command line that asks for the same, for people to read."""
        if self.repeats is not None:
            return shlex.join(["reproduce", self.repeats, "--name", self.name])
        known = TOKENIZER_FLAGS if self.trains_tokenizer else flags.ALL_FLAGS
        words = ["train" if self.sweep is None else "sweep", self.stage]
        options: dict[str, Any] = {"model": self.model, "preset": self.preset, **(dict(self.sweep or {}))}
        options |= {name: "1" for name in ("from_resume", "overwrite") if getattr(self, name)}
        for name, value in options.items():
            words += [] if value is None else [f"--{name}", str(value)]
        return shlex.join([*words, *flags.written(self.settings, known)])


def terms_named(rewards: Any) -> list[str]:
    """The names of the terms in a setting `stage.rewards`; what is wrong with them is said where they are read."""
    try:
        terms = json.loads(rewards) if isinstance(rewards, str) else rewards
        return [str(term["is"]) for term in terms or ()]
    except (ValueError, LookupError, TypeError):
        return []


def _value(tree: Any, path: str) -> Any:
    for part in path.split("."):
        tree = tree[part]
    return tree
