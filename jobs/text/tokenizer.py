"""The tokenizer stage: learn a vocabulary from text. It needs no model and no workers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator
from rich.console import Console

from data.read import BadRows, iter_texts
from jobs import paths
from jobs.runs.directory import RunDirectory, require_name
from jobs.runs.references import TOKENIZER_FOLDER
from jobs.terminal.wrap import tell
from minimind.config import Config
from minimind.events import EventLog
from minimind.language import phrase, say
from minimind.text.tokenizer import SPECIAL_TOKENS, Tokenizer, compression

DATA_FILE = "data file (`minimind data fetch` brings the stock data to data/stock/)"
"""What to call a file of text that is not there."""


_MEASURED_TEXTS = 2000


class TokenizerStage(Config):
    """Names the stage in spec.json."""

    kind: Literal["tokenizer"] = "tokenizer"


class TokenizerSpec(Config):
    """One tokenizer run."""

    name: str = Field(default="tokenizer", description="name of the run and of its folder")
    stage: TokenizerStage = TokenizerStage()
    path: str = Field(
        default="data/stock/pretrain.jsonl", description="text: .jsonl, .jsonl.gz, .parquet, .txt, .md or a folder"
    )
    vocab_size: int = Field(
        default=6400, ge=len(SPECIAL_TOKENS) + 256, description="how many token ids, special ones included"
    )
    split_cjk: bool = Field(default=False, description="take each CJK character by itself")
    max_texts: int = Field(default=200_000, ge=1, description="learn from so many texts at most")
    max_bad_rows: int = Field(default=0, ge=0, description="rows that can't be used: so many may be left out")

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        return require_name(value)


TOKENIZER_FLAGS = {
    "name": "name",
    "data_path": "path",
    "vocab_size": "vocab_size",
    "split_cjk": "split_cjk",
    "max_bad_rows": "max_bad_rows",
}
"""Flag -> field."""


def run_tokenizer(spec: TokenizerSpec, console: Console, *, overwrite: bool = False) -> RunDirectory:
    """Run the stage to its end: `runs/NAME/tokenizer/` then holds the tokenizer.

    Raises ValueError for text that cannot be used, RunStateError for a name that is taken.
    """
    source = paths.existing(spec.path, phrase(DATA_FILE))
    spec = spec.model_copy(update={"path": str(source)})
    run = RunDirectory(paths.runs() / spec.name)
    run.create(spec.model_dump(mode="json"), overwrite=overwrite)
    with run.hold(), EventLog(run.events_path) as log:
        log.state("RUNNING")
        try:
            measured = learn(spec, run.path / TOKENIZER_FOLDER)
        except BaseException as error:
            log.state("FAILED", reason=str(error) or type(error).__name__)
            raise
        log.metrics(0, {f"tokenizer/{language}_chars_per_token": value for language, value in measured.items()})
        log.state("SUCCEEDED")
    names = {"zh": say("Chinese"), "en": say("English")}
    words = ", ".join(
        say("{value:.2f} characters per token in {language}", value=value, language=names[lang])
        for lang, value in measured.items()
    )
    tell(
        console,
        say(
            "Tokenizer of {vocab_size} ids in {path}: {words}.",
            vocab_size=spec.vocab_size,
            path=run.path / TOKENIZER_FOLDER,
            words=words or say("no letters"),
        ),
    )
    console.print(say("Use it with: --tokenizer {name}", name=spec.name))
    return run


def learn(spec: TokenizerSpec, folder: Path) -> dict[str, float]:
    """Train on `spec.path`, save into `folder`, and give the characters per token by language.

    Raises ValueError, with file and line, for rows beyond `spec.max_bad_rows` that can't be used.
    """
    tokenizer = Tokenizer.train(_texts(spec), spec.vocab_size, spec.split_cjk)
    tokenizer.save(folder)
    return compression(tokenizer, itertools.islice(_texts(spec), _MEASURED_TEXTS))


def _texts(spec: TokenizerSpec) -> Iterator[str]:
    return itertools.islice(iter_texts(Path(spec.path), BadRows(spec.max_bad_rows)), spec.max_texts)
