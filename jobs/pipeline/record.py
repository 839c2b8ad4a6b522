"""What a pipeline knows of its stages: `pipelines/<name>.json` in MINIMIND_HOME, for it may be killed anywhere."""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Container, Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from jobs import paths
from jobs.runs import evals
from minimind.config import Config, explain
from minimind.language import say


class StageRecord(Config):
    """What a stage was begun with, and what it ended with.

    asked: its settings by dotted path, with `model` and `preset`. files: the sha256 of each file of data by its
    setting. began_with, weights: the sha256 of its first and of its last weights, "" where there are none. dtype: what
    it computes in, decided once. seconds: what it took, its evaluation included.
    """

    asked: Mapping[str, Any] = Field(default_factory=dict)
    files: Mapping[str, str] = Field(default_factory=dict)
    began_with: str = ""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    weights: str = ""
    seconds: float | None = None


_RECORDS = TypeAdapter(dict[str, StageRecord])


class Record:
    """The record of a pipeline, by stage."""

    def __init__(self, name: str) -> None:
        self.path = paths.home() / "pipelines" / f"{name}.json"
        self._name = name

    def of(self, stage: str) -> StageRecord:
        """What is known of a stage; nothing where it has not begun. Raises ValueError for a file that is damaged."""
        return self._read().get(stage, StageRecord())

    def write(self, stage: str, **known: Any) -> None:
        """Add to what is known of a stage."""
        content = self._read()
        content[stage] = StageRecord.model_validate({**dict(content.get(stage, StageRecord())), **known})
        text = json.dumps({name: one.model_dump(mode="json") for name, one in content.items()}, indent=1)
        evals.write_text(self.path, text + "\n")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """While one works, no other pipeline of this name does. Raises ValueError where one does already."""
        paths.make(self.path.parent)
        with self.path.with_suffix(".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(say("the pipeline {name!r} is at work already", name=self._name)) from None
            yield

    def _read(self) -> dict[str, StageRecord]:
        try:
            return _RECORDS.validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except ValidationError as error:
            problem = explain(error)
        except OSError as error:
            problem = str(error)
        raise ValueError(
            say(
                "{path} is damaged, or of another version: {problem}\nWithout it the pipeline's runs cannot be gone on "
                "with: take another --name, or remove it and them",
                path=self.path,
                problem=problem,
            )
        )


def require_asked(
    name: str,
    known: StageRecord,
    asked: Mapping[str, Any],
    files: Mapping[str, str],
    harmless: Container[str] = (),
) -> None:
    """Raise ValueError where the run that is there is not the one that is asked for. harmless: what may differ."""
    if not known.asked:
        raise ValueError(another_pipelines(name, say("no record of what was asked")))
    for path in {**known.asked, **asked}:
        if known.asked.get(path) != asked.get(path) and path not in harmless:
            usual = say("what is usual")
            then, now = (usual if one.get(path) is None else one[path] for one in (known.asked, asked))
            raise ValueError(another_pipelines(name, say("{path} = {then}, not {now}", path=path, then=then, now=now)))
    for path in {**known.files, **files}:
        if known.files.get(path) != files.get(path):
            raise ValueError(another_pipelines(name, say("other rows of {path} than there are now", path=path)))


def another_pipelines(name: str, what: str) -> str:
    """Why a run that is there is not gone on with, and what to do."""
    return say(
        "the run {name!r} is there, made with {what}. Another --name begins anew; or remove it and those behind it, "
        "minimind rm {name}",
        name=name,
        what=what,
    )
