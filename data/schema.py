"""The rows that files hold, one class per stage. The formats are MiniMind's, so its public files work unchanged.

Fields that no stage reads (an id, a score) are ignored; `data check` lists them.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from minimind.config import explain


def _from_json_text(value: Any) -> Any:
    """MiniMind's files hold tools and tool calls as JSON inside a string; null and "" mean none."""
    if value is None or value == "":
        return []
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error})") from None


def _text_or_none(value: Any) -> Any:
    return "" if value is None else value


Text = Annotated[str, BeforeValidator(_text_or_none)]
JsonObjects = Annotated[list[dict[str, Any]], BeforeValidator(_from_json_text)]


class Row(BaseModel):
    """A row of a data file."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class PretrainRow(Row):
    """A document: {"text": ...}."""

    text: str


class Message(Row):
    """One turn of a conversation. tools: what may be called, on a system turn. tool_calls: on an assistant turn."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Text = ""
    reasoning_content: Text = ""
    tools: JsonObjects = Field(default_factory=list)
    tool_calls: JsonObjects = Field(default_factory=list)


class ChatRow(Row):
    """A conversation to learn from: {"conversations": [{role, content, ...}, ...]}."""

    conversations: list[Message]


class PreferenceRow(Row):
    """Two conversations that differ in their last answer: {"chosen": [...], "rejected": [...]}."""

    chosen: list[Message]
    rejected: list[Message]


class PromptRow(Row):
    """A question and its exact answer, for reinforcement learning: {"prompt": ..., "answer": ...}."""

    prompt: str
    answer: str


STAGE_ROWS: dict[str, type[Row]] = {"pretrain": PretrainRow, "sft": ChatRow, "dpo": PreferenceRow, "rl": PromptRow}
"""Which rows a stage reads."""


R = TypeVar("R", bound=Row)


def parse(row_type: type[R], content: object) -> R:
    """`content`, as JSON gives it, as a row. Raises ValueError that says what is wrong with which field."""
    if not isinstance(content, dict):
        raise ValueError(f"a row is a JSON object with {_fields(row_type)}, this is a {type(content).__name__}")
    try:
        return row_type.model_validate(content)
    except ValidationError as error:
        problem = explain(error).replace("\n", "; ")
    if not required_fields(row_type) <= content.keys():
        here = ", ".join(map(str, content)) or "none"
        others = [stage for stage, other in STAGE_ROWS.items() if required_fields(other) <= content.keys()]
        hint = f"; this looks like a row for stage {others[0]}" if others else ""
        problem = f"a row needs {_fields(row_type)}, the fields here are {here}{hint}"
    raise ValueError(problem)


def required_fields(row_type: type[Row]) -> set[str]:
    """The names of the fields that a row must have."""
    return {name for name, field in row_type.model_fields.items() if field.is_required()}


def _fields(row_type: type[Row]) -> str:
    return " and ".join(sorted(required_fields(row_type)))
