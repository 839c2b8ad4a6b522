"""The base of every configuration, and the one way to change a value in it: a dotted path."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError


class Config(BaseModel):
    """Frozen; unknown keys are refused; defaults are validated like any other value."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


C = TypeVar("C", bound=Config)


def override(config: C, changes: Mapping[str, Any]) -> C:
    """A copy of `config` with the values at dotted paths replaced, and everything validated again.

    `changes` maps a path such as ``optim.weight_decay`` to a value. A text is read as JSON where that works
    (``0.1``, ``true``, ``null``, ``[1, 2]``) and taken as text where it does not, as a command line gives it.

    Raises ValueError that lists every bad path (with its nearest neighbours) and every bad value at once.
    """
    tree = config.model_dump()
    problems: list[str] = []
    for path, value in changes.items():
        node: Any = tree
        parts = path.split(".")
        for depth, part in enumerate(parts):
            if not isinstance(node, dict) or part not in node:
                problems.append(_unknown(".".join(parts[:depth]), part, path, node))
                break
            if depth < len(parts) - 1:
                node = node[part]
            else:
                node[part] = _literal(value)
    if problems:
        raise ValueError("\n".join(problems))
    try:
        return type(config).model_validate(tree)
    except ValidationError as error:
        raise ValueError(explain(error)) from None


def explain(error: ValidationError) -> str:
    """A pydantic error as lines of `path = value: what is wrong`."""
    lines = []
    for item in error.errors():
        path = ".".join(str(part) for part in item["loc"]) or type(error).__name__
        value = "" if item["type"] == "missing" else f" = {item['input']!r}"
        lines.append(f"{path}{value}: {item['msg'].removeprefix('Value error, ')}")
    return "\n".join(lines)


def _literal(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def _unknown(where: str, part: str, path: str, node: Any) -> str:
    names = sorted(node) if isinstance(node, dict) else []
    near = difflib.get_close_matches(part, names, n=3) or names
    inside = f"in {where!r}" if where else "at the top level"
    hint = f"names there: {', '.join(near)}" if near else f"{where!r} is a single value and has no parts"
    return f"{path}: no setting {part!r} {inside}; {hint}"
