"""The tools that there are, by name: {"is": NAME, ...settings}. What the model is told of one is English.

- `calculator`: arithmetic.
- `lookup`: a key in a table, a JSONL or CSV file.

A new tool is a class below `Tool`, a row in `TOOLS`, and a function that answers calls, in a file of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict, Field

from minimind.config import Config, of_kind
from minimind.language import phrase, say
from minimind.sandbox.child import Limits
from minimind.tools.lookup import TableError, read_table

_MOST_PRINTED_BYTES = 1 << 20


class Tool(Config, ABC):
    """A tool with its settings.

    name, description: what the model is told. timeout_s: seconds that a call may take, by the clock; cpu_s: of
    processor time; memory_mb: MiB of address space of the tool's process.
    """

    # A number in quotation marks, or true for 1, is a mistake.
    model_config = ConfigDict(strict=True)

    function: ClassVar[str]
    """Who answers, as module:function: called with a list of {"arguments", "settings"}, it gives for each a text or
    {"error": text}."""
    folder: ClassVar[Path] = Path(__file__).parent
    """Where that module is."""
    parameters: ClassVar[Mapping[str, Any]]
    """Its arguments, as JSON Schema."""

    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$")
    description: str = Field(min_length=1)
    timeout_s: float = Field(default=5, gt=0, le=600)
    cpu_s: int = Field(default=5, ge=1, le=600)
    memory_mb: int = Field(default=512, ge=128)

    @property
    def listed(self) -> dict[str, Any]:
        """The tool as a prompt lists it, in OpenAI's form."""
        function = {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}
        return {"type": "function", "function": function}

    @property
    def limits(self) -> Limits:
        """What a call may take."""
        return Limits(self.timeout_s, self.cpu_s, self.memory_mb, most_printed_bytes=_MOST_PRINTED_BYTES)

    @property
    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What the function is told with each call."""


def _one_text(name: str, description: str) -> dict[str, Any]:
    """The JSON Schema of a single argument that is a text."""
    return {
        "type": "object",
        "properties": {name: {"type": "string", "description": description}},
        "required": [name],
    }


class Calculator(Tool):
    """It computes what stands in `expression`: see minimind/tools/calculator.py."""

    function = "calculator:answers"
    parameters = _one_text("expression", "such as (3 + 4) * 2")

    name: str = Field(default="calculator", pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$")
    description: str = Field(default="Computes an arithmetic expression.", min_length=1)

    @property
    def settings(self) -> dict[str, Any]:
        """None."""
        return {}


class Lookup(Tool):
    """It says what stands in a row of a table. table: the file. key: the column of the keys, by default the first.
    value: the column that is the answer; by default all others.
    """

    function = "lookup:answers"
    parameters = _one_text("key", "what is looked for")

    name: str = Field(default="lookup", pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$")
    description: str = Field(default="Looks up a key in a table.", min_length=1)
    table: str = Field(min_length=1)
    key: str | None = None
    value: str | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """Where the table is, and how it is read."""
        return {"table": self.table, "key": self.key, "value": self.value}

    def require_table(self, path: Path) -> None:
        """Raise ValueError where the table is none, or lacks a column."""
        try:
            rows = read_table(path, self.key)
            if self.value is not None and not any(self.value in row for row in rows.values()):
                names = dict.fromkeys(name for row in rows.values() for name in row)
                raise TableError("value", column=self.value, names=", ".join(names))
        except TableError as error:
            problem = phrase(TABLE_PROBLEMS[error.problem]).format(**error.values)
            raise ValueError(
                say("tool {name}: {path}: {problem}", name=self.name, path=path, problem=problem)
            ) from None


TABLE_PROBLEMS = {
    "column": "line {line} has no {column!r}; it has {names}",
    "empty": "line {line} has an empty key",
    "twice": "lines {first} and {line} have the same key, {key!r}: keep one of them",
    "rows": "it has no rows",
    "columns": "line {line} has another number of columns than the first",
    "object": "line {line} is no JSON object; a table is a .csv file, or objects, one a line",
    "unreadable": "it can't be read: {error}",
    "value": "no row has {column!r}; there are {names}",
}
"""What may be wrong with a table."""

TOOLS: dict[str, type[Tool]] = {"calculator": Calculator, "lookup": Lookup}
"""What a tool may be: name -> class."""


def parse_tools(values: Sequence[object]) -> tuple[Tool, ...]:
    """Tools with their settings, validated; no two have one name.

    Raises ValueError that names a tool or a setting that there is not, the nearest, and those there are.
    """
    tools = tuple(of_kind(value, TOOLS, say("tool")) for value in values)
    names = [tool.name for tool in tools]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(say("two tools are called {name}: give one of them another name", name=twice))
    return tools
