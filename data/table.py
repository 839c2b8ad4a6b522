"""Rows out of a CSV file, each with the line it begins in."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from data.read import DataError, not_utf8, utf16_error
from data.texts import is_utf16
from minimind.language import say


def read_table(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The lines of a table whose first one names its columns; blank ones are passed over. Memory is that of the file.

    Raises DataError for a file that is not UTF-8, a quotation mark that stays open, and a line that has more or fewer
    fields than the first; OSError for a file that cannot be opened.
    """
    lines = csv.reader(io.StringIO(_text(file), newline=""), strict=True)
    names: list[str] = []
    while True:
        line = lines.line_num + 1
        try:
            fields = next(lines, None)
        except csv.Error as error:
            problem = say(
                "not CSV ({error}): is a quotation mark left open, or one inside a field not written twice?",
                error=error,
            )
            raise DataError(str(file), line, "damaged_file", problem) from None
        if fields is None:
            return
        if not fields:
            continue
        if not names:
            names = _named(file, line, fields)
            continue
        if len(fields) != len(names):
            problem = say("{count} fields, where the first line names {named}", count=len(fields), named=len(names))
            raise DataError(str(file), line, "wrong_fields", problem)
        yield line, dict(zip(names, fields, strict=True))


def _named(file: Path, line: int, names: Sequence[str]) -> list[str]:
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(str(file), line, "wrong_fields", say("two columns are called {name!r}", name=twice[0]))
    return list(names)


def _text(file: Path) -> str:
    content = file.read_bytes()
    if is_utf16(content[:4]):
        raise utf16_error(file, content[:4])
    for line, part in enumerate(content.split(b"\n"), start=1):
        try:
            part.decode()
        except UnicodeDecodeError as error:
            raise DataError(str(file), line, "not_utf8", not_utf8(error, file)) from None
    return content.decode("utf-8-sig")
