"""What a setting may be in a sweep, as plain data; and spaces that a user writes down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from minimind.config import Config, explain


class Choices(Config):
    """One of these values. In a file: `[1, 2, 4]`."""

    choices: tuple[Any, ...] = Field(min_length=1)

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values that must all be allowed."""
        return self.choices


class Largest(Config):
    """The largest of these that fits the card: what is only to be as large as it may. For batch_size alone. In a file:
    `{"largest": [1, 2, 4]}`.
    """

    largest: tuple[int, ...] = Field(min_length=1)

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values that must all be allowed."""
        return self.largest


class LogUniform(Config):
    """Any number from low to high, each factor as likely as another. In a file: `{"low": 1e-4, "high": 1e-2}`."""

    low: float = Field(gt=0)
    high: float

    @model_validator(mode="after")
    def _ascending(self) -> LogUniform:
        if self.high <= self.low:
            raise ValueError(f"high = {self.high} must be more than low = {self.low}")
        return self

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values that must all be allowed."""
        return self.low, self.high


Space = dict[str, Choices | Largest | LogUniform]
"""Dotted path of a setting -> what it may be."""


def read_space(path: Path) -> Space:
    """The space in a JSON file, by dotted paths. Raises ValueError that says what a file may hold."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"space {path} cannot be read: {error}") from None
    if not isinstance(content, dict) or not content:
        raise ValueError(
            f'space {path}: it holds one object, dotted path -> values, such as {{"loop.batch_size": [1, 2, 4], '
            '"optim.learning_rate": {"low": 1e-4, "high": 1e-2}}'
        )
    return {name: _distribution(path, name, value) for name, value in content.items()}


def _distribution(path: Path, name: str, value: Any) -> Choices | Largest | LogUniform:
    try:
        if isinstance(value, dict) and "largest" in value:
            return Largest.model_validate(value)
        return Choices(choices=tuple(value)) if isinstance(value, list) else LogUniform.model_validate(value)
    except ValidationError as error:
        raise ValueError(
            f"space {path}, {name} = {value!r}: a list of values, or a range of numbers such as "
            f'{{"low": 1e-4, "high": 1e-2}}\n{explain(error)}'
        ) from None
