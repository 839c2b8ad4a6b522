"""The tool that looks things up: a key in a table of the user's, a JSONL or a CSV file.

It runs in a process of its own, which imports this file alone: so it uses the standard library only. What is wrong with
a table `minimind.tools.kinds` puts into words.
"""

from __future__ import annotations

import csv
import json
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

Table = dict[str, dict[str, Any]]
"""Rows by their key, as `normal` writes it."""


class TableError(ValueError):
    """A table that cannot be used. problem: what is wrong, of `minimind.tools.kinds.TABLE_PROBLEMS`; values: what that
    names.
    """

    def __init__(self, problem: str, **values: Any) -> None:
        super().__init__(problem)
        self.problem, self.values = problem, values


def answers(calls: list[dict[str, Any]]) -> list[str | dict[str, str]]:
    """What stands under each call's `key`, or {"error": why there is nothing}."""
    return [_answer(call["arguments"], **call["settings"]) for call in calls]


def read_table(path: Path, key: str | None) -> Table:
    """The rows of a table: of a CSV file, whose first line has the names of its columns, or of objects, one a line.

    key: the column of the keys; None for the first. Raises TableError, and OSError where it cannot be read.
    """
    found: Table = {}
    lines: dict[str, int] = {}
    for line, row in _rows(path):
        column = key if key is not None else next(iter(row), "")
        if column not in row:
            raise TableError("column", line=line, column=column, names=", ".join(row))
        name = normal(_text(row[column]))
        if not name:
            raise TableError("empty", line=line)
        if name in found:
            raise TableError("twice", first=lines[name], line=line, key=name)
        found[name], lines[name] = row, line
    if not found:
        raise TableError("rows")
    return found


def normal(key: str) -> str:
    """A key as it is looked for: case, form in Unicode and white space at its ends do not count."""
    return unicodedata.normalize("NFC", key).strip().casefold()


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each row with its line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() == ".csv":
                reader = csv.DictReader(file)
                for row in reader:
                    if None in row or None in row.values():
                        raise TableError("columns", line=reader.line_num)
                    yield reader.line_num, row
                return
            for line, text in enumerate(file, start=1):
                if not text.strip():
                    continue
                try:
                    read = json.loads(text)
                except ValueError:
                    read = None
                if not isinstance(read, dict):
                    raise TableError("object", line=line)
                yield line, read
    except (UnicodeDecodeError, csv.Error) as error:
        raise TableError("unreadable", error=error) from None


@lru_cache(maxsize=1)
def _table(path: str, key: str | None) -> Table:
    return read_table(Path(path), key)


def _answer(arguments: dict[str, Any], table: str, key: str | None, value: str | None) -> str | dict[str, str]:
    wanted = arguments.get("key")
    if isinstance(wanted, (int, float)) and not isinstance(wanted, bool):
        wanted = str(wanted)
    if not isinstance(wanted, str) or len(arguments) > 1:
        return {"error": "one argument is needed: key, a text"}
    row = _table(table, key).get(normal(wanted))
    if row is None:
        return {"error": "there is no such key"}
    if value is not None:
        return _text(row[value]) if value in row else {"error": f"the row has no {value}"}
    column = key if key is not None else next(iter(row))
    rest = {name: part for name, part in row.items() if name != column}
    return _text(next(iter(rest.values()))) if len(rest) == 1 else json.dumps(rest, ensure_ascii=False)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
