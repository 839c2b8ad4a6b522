"""The rows that files hold, one class per stage. The formats are MiniMind's; data.formats reads others into them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from shlex import quote
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from data.formats import read_row, stage_of
from minimind.config import explain
from minimind.language import phrase, say
from minimind.text.tokenizer import encodable


def _from_json_text(value: Any) -> Any:
    """MiniMind's files hold tools and tool calls as JSON inside a string; null and "" mean none."""
    if value is None or value == "":
        return []
    if not isinstance(value, str):
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ValueError(say("not JSON ({error})", error=error)) from None
    return found


_DEEPEST = 100
"""How many objects and lists may stand in each other. Those who write and read JSON give up at a few hundred."""


def _writable(value: Any) -> Any:
    """The value, unless it can't be written as JSON in UTF-8 again: JSON in a text can hide half a surrogate pair."""
    layer, depth = [value], 0
    while layer := [part for whole in layer for part in _parts(whole)]:
        depth += 1
        if depth > _DEEPEST:
            raise ValueError(say("is nested more than {deepest} deep", deepest=_DEEPEST))
    encodable(json.dumps(value, ensure_ascii=False))
    return value


def _parts(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _text_or_none(value: Any) -> Any:
    return "" if value is None else value


Text = Annotated[str, BeforeValidator(_text_or_none)]
JsonObjects = Annotated[list[dict[str, Any]], BeforeValidator(_from_json_text), AfterValidator(_writable)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Row(_Strict):
    """A row of a data file.

    unread: fields that say something and that nothing reads. ignored: those that only tell about the row, as an id.
    """

    unread: list[str] = Field(default_factory=list, exclude=True)
    ignored: list[str] = Field(default_factory=list, exclude=True)


class PretrainRow(Row):
    """A document: {"text": ...}."""

    text: str


class Message(_Strict):
    """One turn of a conversation. tools: what may be called, on a system turn. tool_calls: on an assistant turn. learn:
    whether an assistant's turn is learnt; one that is not is only read.
    """

    role: Literal["system", "user", "assistant", "tool"]
    content: Text = ""
    reasoning_content: Text = ""
    tools: JsonObjects = Field(default_factory=list)
    tool_calls: JsonObjects = Field(default_factory=list)
    learn: bool = Field(default=True, exclude=True)


class ChatRow(Row):
    """A conversation to learn from: {"conversations": [{role, content, ...}, ...]}."""

    conversations: list[Message]


class PreferenceRow(Row):
    """Two conversations that differ in their last answer: {"chosen": [...], "rejected": [...]}."""

    chosen: list[Message]
    rejected: list[Message]


class LabelledRow(Row):
    """A conversation whose answer is good or bad: {"conversations": [{role, content, ...}, ...], "label": true}.

    The answer is what the assistant says after the last question.
    """

    conversations: list[Message]
    label: bool


class PromptRow(Row):
    """A question and its exact answer, for reinforcement learning: {"prompt": ..., "answer": ...}.

    before: of a row that is a conversation, its turns before the question; its last answer is the right one, and "" is
    none: only such a row may do without. None of any other row.
    """

    prompt: str
    answer: str
    before: list[Message] | None = None


STAGE_ROWS: dict[str, type[Row]] = {
    "pretrain": PretrainRow,
    "sft": ChatRow,
    "dpo": PreferenceRow,
    "kto": LabelledRow,
    "rl": PromptRow,
}
"""Which rows a stage reads."""

_STAGE_OF = {rows: stage for stage, rows in STAGE_ROWS.items()}

LOOKS = {
    "pretrain": "plain text",
    "sft": "conversation data",
    "dpo": "preference data",
    "kto": "data of answers with labels",
    "rl": "data of questions and exact answers",
}


class OtherStageError(ValueError):
    """A row that is right, for another stage."""

    def __init__(self, stage: str) -> None:
        super().__init__(say("this is {looks}: use --stage {stage}", looks=phrase(LOOKS[stage]), stage=stage))
        self.stage = stage

    def with_command(self, path: Path) -> str:
        """The message, with the command that learns from the file."""
        weights = "--from_weight RUN " if self.stage != "pretrain" else ""
        learner = "grpo" if self.stage == "rl" else self.stage
        command = f"minimind train {learner} {weights}--data_path {quote(str(path))}"
        return say("{error} ({command})", error=self, command=command)


R = TypeVar("R", bound=Row)


def parse(row_type: type[R], content: object) -> R:
    """`content`, as JSON gives it, as a row. Raises ValueError that says what is wrong with which field."""
    if not isinstance(content, dict):
        advice = say(", of rows perhaps: write each of them on a line of its own") if isinstance(content, list) else ""
        raise ValueError(
            say(
                "a row is a JSON object with {fields}, this is a {type}{advice}",
                fields=_fields(row_type),
                type=type(content).__name__,
                advice=advice,
            )
        )
    own = _STAGE_OF[row_type]
    row = read_row(own, content)
    if not required_fields(row_type) <= row.keys():
        needs = say(
            "a row needs {fields}, the fields here are {names}",
            fields=_fields(row_type),
            names=", ".join(content) or say("none"),
        )
        stage = stage_of(content)
        if stage is None or stage == own:
            raise ValueError(
                say("{needs}; `minimind data example {own}` shows rows as they can be", needs=needs, own=own)
            )
        raise OtherStageError(stage)
    try:
        return row_type.model_validate(row)
    except ValidationError as error:
        raise ValueError(explain(error).replace("\n", "; ")) from None


@cache
def required_fields(row_type: type[Row]) -> frozenset[str]:
    """The names of the fields that a row must have."""
    return frozenset(name for name, field in row_type.model_fields.items() if field.is_required())


def _fields(row_type: type[Row]) -> str:
    return say(" and ").join(sorted(required_fields(row_type)))
