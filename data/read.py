"""Rows out of .jsonl, .jsonl.gz, .parquet, .txt and .md files and folders of them, each with the line it stands in."""

from __future__ import annotations

import copy
import gzip
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from shlex import quote
from typing import Any, BinaryIO, Literal, TypeVar, cast

import pyarrow as pa
import pyarrow.parquet

from data.schema import OtherStageError, PretrainRow, Row, parse
from data.texts import conversion, is_gbk, is_utf16, passages
from minimind.language import phrase, say

TEXTS = (".txt", ".md")
SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet", *TEXTS)
"""How the names of files end that can be read, in capitals or not."""

BadKind = Literal["not_utf8", "broken_json", "wrong_fields", "other_stage", "empty", "damaged_file"]
"""Why a row can't be used: its bytes, JSON, fields or stage, or because it holds nothing. Or the file it is in."""

R = TypeVar("R", bound=Row)

_MAYBE_HALF_A_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")


class DataError(ValueError):
    """A row or file that can't be used. The message begins with file and line; `line` is 0 for the whole file."""

    def __init__(self, path: str, line: int, kind: BadKind, problem: str) -> None:
        super().__init__(f"{path}:{line}: {problem}" if line else f"{path}: {problem}")
        self.path, self.line, self.kind, self.problem = path, line, kind, problem

    def __reduce__(self) -> tuple[type[DataError], tuple[str, int, BadKind, str]]:
        return DataError, (self.path, self.line, self.kind, self.problem)


class BadRows:
    """Counts the rows that can't be used and are left out, over any number of files, up to a limit.

    limit: how many may be left out; the next one is raised.
    """

    def __init__(self, limit: int = 0) -> None:
        self.limit, self.count = limit, 0

    def leave_out(self, error: DataError) -> None:
        """Count this row, or raise it as a DataError that names the limit."""
        self.count += 1
        if self.count > self.limit:
            problem = error.problem
            if self.limit:
                problem += say(" (bad row number {count}; the limit is {limit})", count=self.count, limit=self.limit)
            raise DataError(error.path, error.line, error.kind, problem)


LeaveOut = Callable[[DataError], None]
"""What to do about a row that can't be used, such as `BadRows.leave_out`."""


class RowFile:
    """A data file. Iterating gives (line, content), with the content as JSON gives it, or a DataError in its place.

    Lines count from 1; in a Parquet file they are rows. Blank lines are passed over; a .txt or .md file has a row
    {"text": ...} for each of its `passages`. In the objects of a Parquet file a null is no value: there every object of
    a column has all fields, and null where it had none. Memory is that of the longest row, or of a thousand rows of a
    Parquet file. suffix: the one of SUFFIXES that says its format. total_bytes: size of the file; done_bytes and
    done_lines: how much of it has been read.

    Raises ValueError if there is no such file, and for a name that doesn't say its format.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser().absolute()
        if not self.path.is_file():
            what = say("is a folder, not a file") if self.path.is_dir() else say("no such file")
            raise ValueError(say("{name}: {value}", name=self.path, value=what))
        suffix = suffix_of(self.path.name)
        if suffix is None:
            advice = _rows_of_json(self.path) if self.path.suffix == ".json" else ""
            if self.path.suffix == ".csv":
                advice = _rows_of_csv(self.path)
            raise ValueError(
                say(
                    "{path}: unknown format; allowed are files that end in {suffixes}, and folders of them{advice}",
                    path=self.path,
                    suffixes=", ".join(SUFFIXES),
                    advice=advice,
                )
            )
        self.suffix = suffix
        self.total_bytes = self.path.stat().st_size
        self.done_bytes = self.done_lines = 0
        self._part: tuple[int, int] | None = None  # bytes from and to, or row groups

    def parts(self, size_bytes: int) -> list[RowFile]:
        """The file in parts of about this size, which may be read in different places; a gzip or text file stays whole.

        They give the same rows in the same order, but each counts its lines from 1.
        """
        if self.suffix in (".jsonl.gz", *TEXTS) or self.total_bytes <= size_bytes:
            return [self]
        if self.suffix != ".parquet":
            bounds = [*range(0, self.total_bytes, size_bytes), self.total_bytes]
            return [self._cut(begin, end, end - begin) for begin, end in pairwise(bounds)]
        try:
            with pyarrow.parquet.ParquetFile(self.path) as file:
                sizes = [file.metadata.row_group(group).total_byte_size for group in range(file.num_row_groups)]
        except (pa.ArrowException, OSError):
            return [self]  # whoever reads it says what is wrong
        parts, begin, done_bytes = [], 0, 0
        for end in range(1, len(sizes) + 1):
            if sum(sizes[begin:end]) >= size_bytes or end == len(sizes):
                end_bytes = self.total_bytes * sum(sizes[:end]) // sum(sizes)
                parts.append(self._cut(begin, end, end_bytes - done_bytes))
                begin, done_bytes = end, end_bytes
        return parts or [self]

    def _cut(self, begin: int, end: int, total_bytes: int) -> RowFile:
        part = copy.copy(self)
        part._part, part.total_bytes = (begin, end), total_bytes
        return part

    def __iter__(self) -> Iterator[tuple[int, object]]:
        self.done_bytes = self.done_lines = 0
        if self.suffix in TEXTS:
            return self._passages()
        return self._parquet() if self.suffix == ".parquet" else self._json_lines()

    def _passages(self) -> Iterator[tuple[int, object]]:
        with self.path.open("rb") as raw:
            if is_utf16(raw.peek(4)):
                yield 1, utf16_error(self.path, raw.peek(4))
                return
            for line, text in passages(self._counted(raw)):
                if isinstance(text, UnicodeDecodeError):
                    yield line, DataError(str(self.path), line, "not_utf8", not_utf8(text, self.path))
                else:
                    yield line, {"text": text}

    def _counted(self, raw: BinaryIO) -> Iterator[bytes]:
        for self.done_lines, line in enumerate(raw, start=1):
            self.done_bytes += len(line)
            yield line

    def _json_lines(self) -> Iterator[tuple[int, object]]:
        with self.path.open("rb") as raw:
            if self._part is not None:
                yield from self._json(_lines_between(raw, *self._part), raw, self._part[0])
                return
            if self.suffix != ".jsonl.gz":
                if is_utf16(raw.peek(4)):
                    yield 1, utf16_error(self.path, raw.peek(4))
                else:
                    yield from self._json(raw, raw)
                return
            with gzip.open(raw) as lines:
                try:
                    yield from self._json(lines, raw)
                except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                    raise DataError(
                        str(self.path), 0, "damaged_file", say("damaged gzip file: {error}", error=error)
                    ) from None

    def _json(self, lines: Iterable[bytes], raw: BinaryIO, begin: int = 0) -> Iterator[tuple[int, object]]:
        path = str(self.path)
        for number, line in enumerate(lines, start=1):
            self.done_bytes, self.done_lines = raw.tell() - begin, number
            text = ""
            try:
                text = line.decode("utf-8-sig" if number == 1 and not begin else "utf-8").rstrip("\r\n")
                content = json.loads(text)
            except UnicodeDecodeError as error:
                content = DataError(path, number, "not_utf8", not_utf8(error, self.path))
            except (ValueError, RecursionError) as error:
                if text.isspace() or not text:
                    continue
                at = (
                    say("{msg} (column {colno})", msg=phrase(error.msg), colno=error.colno)
                    if isinstance(error, json.JSONDecodeError)
                    else error
                )
                content = DataError(
                    path, number, "broken_json", say("broken JSON: {at}{text}", at=at, text=_meant(text))
                )
            else:
                if _MAYBE_HALF_A_PAIR.search(line) and not _encodable(content):
                    content = DataError(path, number, "not_utf8", say("a \\u escape is half a surrogate pair"))
            yield number, content

    def _parquet(self) -> Iterator[tuple[int, object]]:
        path, before = str(self.path), 0
        try:
            with pyarrow.parquet.ParquetFile(self.path) as file:
                groups = range(*(self._part or (0, file.num_row_groups)))
                rows = sum(file.metadata.row_group(group).num_rows for group in groups)
                for batch in file.iter_batches(batch_size=1024, row_groups=list(groups)):
                    yield from enumerate(_rows_of(batch, path, before), start=before + 1)
                    before += batch.num_rows
                    self.done_bytes, self.done_lines = self.total_bytes * before // rows, before
        except (pa.ArrowException, OSError) as error:
            if getattr(error, "errno", None) is not None:
                raise  # the disk failed, not the file: Arrow has an OSError without a number for a page that is damaged
            raise DataError(path, 0, "damaged_file", say("not a readable Parquet file: {error}", error=error)) from None


def row_files(path: str | Path) -> list[RowFile]:
    """The files of rows at a path: a file is itself; a folder is what lies in it and below it and can be read, in the
    order of the names, hidden files and folders left out.

    Raises ValueError for a path where there are none, and for a folder that has texts as well as files of rows: which
    of them are meant can't be seen.
    """
    folder = Path(path).expanduser().absolute()
    if not folder.is_dir():
        return [RowFile(folder)]
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in names if suffix_of(name) and not name.startswith(".")]
    files = [RowFile(file) for file in sorted(found)]
    texts = [file for file in files if file.suffix in TEXTS]
    if not files:
        inside = ", ".join(sorted(entry.name for entry in folder.iterdir())[:12])
        raise ValueError(
            say(
                "{folder}: no file in this folder can be read; allowed are files that end in "
                "{suffixes}. It holds: {inside}",
                folder=folder,
                suffixes=", ".join(SUFFIXES),
                inside=inside or say("nothing at all"),
            )
        )
    if 0 < len(texts) < len(files):
        rows = next(file for file in files if file.suffix not in TEXTS)
        raise ValueError(
            say(
                "{folder} has files of rows ({path}) and texts ({path2}): which are meant can't be "
                "seen. Name one file, or put either into a folder of its own",
                folder=folder,
                path=rows.path.relative_to(folder),
                path2=texts[0].path.relative_to(folder),
            )
        )
    return files


def suffix_of(name: str) -> str | None:
    """The one of SUFFIXES that a file's name ends in; None for another name."""
    return next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), None)


def read_each(row_type: type[R], file: RowFile, leave_out: LeaveOut) -> Iterator[tuple[int, R]]:
    """The rows of an open file with their lines."""
    for line, content in file:
        row = as_row(row_type, content, file.path, line)
        if isinstance(row, DataError):
            leave_out(row)
        else:
            yield line, row


def read_texts(file: RowFile, leave_out: LeaveOut) -> Iterator[tuple[int, str]]:
    """The texts of a pretrain file with their lines: `read_each` of PretrainRow, ten times as fast."""
    for line, content in file:
        text = content.get("text") if isinstance(content, dict) else None
        if type(text) is str and text and not text.isspace():
            yield line, text
        else:
            leave_out(cast(DataError, as_row(PretrainRow, content, file.path, line)))


def iter_texts(path: str | Path, bad: BadRows | None = None) -> Iterator[str]:
    """The texts of a pretrain file, or of the files of a folder."""
    leave_out = (bad or BadRows()).leave_out
    return (text for file in row_files(path) for _, text in read_texts(file, leave_out))


def as_row(row_type: type[R], content: object, path: Path, line: int) -> R | DataError:
    """`content` of a `RowFile` as a row, or why it can't be one."""
    if isinstance(content, DataError):
        return content
    try:
        row = parse(row_type, content)
    except OtherStageError as error:
        return DataError(str(path), line, "other_stage", error.with_command(path))
    except ValueError as error:
        return DataError(str(path), line, "wrong_fields", str(error))
    if _holds_nothing(row.model_dump()):
        return DataError(str(path), line, "empty", say("the row is empty"))
    return row


def _holds_nothing(content: Any) -> bool:
    """Whether all texts of a row, roles aside, are white space."""
    if isinstance(content, dict):
        return all(_holds_nothing(value) for key, value in content.items() if key != "role")
    if isinstance(content, list):
        return all(map(_holds_nothing, content))
    return content is None or (isinstance(content, str) and not content.strip())


def _lines_between(raw: BinaryIO, begin: int, end: int) -> Iterator[bytes]:
    """The lines that start at one of these bytes."""
    if begin:
        raw.seek(begin - 1)
        raw.readline()  # the end of a line that starts before, or the line feed of one that ends there
    while raw.tell() < end and (line := raw.readline()):
        yield line


def _rows_of_json(path: Path) -> str:
    """How a .json file becomes one that can be read, and takes no other's place."""
    rows = path.with_suffix(".jsonl")
    if rows.exists():
        rows = path.with_suffix(".rows.jsonl")
    code = "import json, sys; [print(json.dumps(row, ensure_ascii=False)) for row in json.load(sys.stdin)]"
    return say(
        ". If it has one object a line, rename it to {rows}. A list in one .json file becomes one row a line with: "
        "{command}",
        rows=rows.name,
        command=f"PYTHONUTF8=1 python3 -c {quote(code)} < {quote(path.name)} > {quote(rows.name)}",
    )


def _rows_of_csv(path: Path) -> str:
    """How a .csv file becomes one that can be read: a row for each line, with the first line's names as its fields."""
    rows = path.with_suffix(".jsonl")
    if rows.exists():
        rows = path.with_suffix(".rows.jsonl")
    code = "import csv, json, sys; [print(json.dumps(row, ensure_ascii=False)) for row in csv.DictReader(sys.stdin)]"
    return say(
        ". A table with the names of its columns in the first line, such as text, becomes one row a line with: "
        "{command}",
        command=f"PYTHONUTF8=1 python3 -c {quote(code)} < {quote(path.name)} > {quote(rows.name)}",
    )


def _meant(text: str) -> str:
    """What a line that is not JSON was perhaps meant to be, and how it is written."""
    text = text.strip()
    if text.startswith(("{“", "{”", "{‘", "{＂")):
        return say('; JSON takes the straight quotes " only, not those of a word processor or an input method')
    if text.startswith("{'"):
        return say('; JSON takes double quotes " only, as json.dumps(row, ensure_ascii=False) writes them')
    if text.startswith("{") and text.endswith("},"):
        return say("; a row is an object alone, without a comma after it")
    if text in ("[", "{") or text.startswith("[{"):
        return say("; the file looks like a JSON list or an object over many lines: each row is to stand in one line")
    if text[:1] not in ("{", "[", '"'):
        return say(
            '; a row is written {"text": "…"}, or as `minimind data example STAGE` shows; a file of plain text is to '
            "end in .txt"
        )
    return ""


def utf16_error(path: Path, beginning: bytes) -> DataError:
    """Why a file that begins so, in UTF-16, can't be read."""
    name = "UTF-16" if beginning[:2] in (b"\xff\xfe", b"\xfe\xff") else "UTF-16LE" if beginning[0] else "UTF-16BE"
    return DataError(
        str(path),
        1,
        "not_utf8",
        say("not UTF-8 but {name}; what converts it: {path}", name=name, path=conversion(path, name)),
    )


def not_utf8(error: UnicodeDecodeError, path: Path) -> str:
    """What is wrong with a line that isn't UTF-8, and the command that converts its file where that can be seen."""
    line: bytes = error.object
    problem = say(
        "not UTF-8: byte 0x{line:02x} at position {start} of the line", line=line[error.start], start=error.start + 1
    )
    return (
        say("{problem}; it looks like GBK; what converts it: {path}", problem=problem, path=conversion(path, "GB18030"))
        if is_gbk(line)
        else problem
    )


def _encodable(content: object) -> bool:
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _without_filled_in(row: dict[str, Any]) -> dict[str, Any]:
    """A row of a Parquet file without the nulls that fill its objects up."""
    return {name: _without_nulls(value) for name, value in row.items()}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(part) for name, part in value.items() if part is not None}
    if isinstance(value, list):
        return [_without_nulls(part) for part in value]
    return value


def _rows_of(batch: pa.RecordBatch, path: str, before: int) -> Iterator[object]:
    """The rows of a batch; `before` rows came before it. Texts in Parquet files are not always UTF-8."""
    try:
        yield from map(_without_filled_in, batch.to_pylist(maps_as_pydicts="lossy"))
    except (UnicodeDecodeError, OverflowError):
        for row in range(batch.num_rows):
            try:
                columns = zip(batch.schema.names, batch, strict=True)
                yield _without_filled_in({name: column[row].as_py(maps_as_pydicts="lossy") for name, column in columns})
            except UnicodeDecodeError as error:
                yield DataError(path, before + row + 1, "not_utf8", say("not UTF-8: {reason}", reason=error.reason))
            except OverflowError as error:
                where = say("a date or a time that Python cannot have ({reason})", reason=error)
                yield DataError(path, before + row + 1, "wrong_fields", where)
