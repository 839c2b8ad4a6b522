"""Rows out of .jsonl, .jsonl.gz, .parquet and .txt files, one after the other, with the line each one stands in."""

from __future__ import annotations

import codecs
import copy
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, pairwise
from pathlib import Path
from shlex import quote
from typing import Any, BinaryIO, Literal, TypeVar, cast

import pyarrow as pa
import pyarrow.parquet

from data.schema import OtherStageError, PretrainRow, Row, parse

SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet", ".txt")

BadKind = Literal["not_utf8", "broken_json", "wrong_fields", "other_stage", "empty", "damaged_file"]
"""Why a row can't be used: its bytes, JSON, fields or stage, or because it holds nothing. Or the file it is in."""

_BLANK = b" \t\r\n\f\v" + codecs.BOM_UTF8  # of the mark's bytes, the first alone begins no character
_HAN = re.compile(r"[\u4e00-\u9fff]")

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
                problem += f" (bad row number {self.count}; the limit is {self.limit})"
            raise DataError(error.path, error.line, error.kind, problem)


LeaveOut = Callable[[DataError], None]
"""What to do about a row that can't be used, such as `BadRows.leave_out`."""


class RowFile:
    """A data file. Iterating gives (line, content), with the content as JSON gives it, or a DataError in its place.

    Lines count from 1; in a Parquet file they are rows. Blank lines are passed over; in a .txt file they stand between
    documents, each {"text": ...} at its first line. In the objects of a Parquet file a null is no value: there every
    object of a column has all fields, and null where it had none. Memory is that of the longest row, or of a thousand
    rows of a Parquet file. total_bytes: size of the file; done_bytes and done_lines: how much of it has been read.

    Raises ValueError if there is no such file, and for a name that doesn't say its format.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser().absolute()
        if not self.path.is_file():
            what = "is a folder, not a file" if self.path.is_dir() else "no such file"
            raise ValueError(f"{self.path}: {what}")
        if not self.path.name.endswith(SUFFIXES):
            advice = _rows_of_json(self.path) if self.path.suffix == ".json" else ""
            if self.path.suffix == ".csv":
                advice = _rows_of_csv(self.path)
            raise ValueError(
                f"{self.path}: unknown format; allowed are files that end in {', '.join(SUFFIXES)}{advice}"
            )
        self.total_bytes = self.path.stat().st_size
        self.done_bytes = self.done_lines = 0
        self._part: tuple[int, int] | None = None  # bytes from and to, or row groups

    def parts(self, size_bytes: int) -> list[RowFile]:
        """The file in parts of about this size, which may be read in different places; a gzip file stays whole.

        They give the same rows in the same order, but each counts its lines from 1.
        """
        if self.path.suffix in (".gz", ".txt") or self.total_bytes <= size_bytes:
            return [self]
        if self.path.suffix != ".parquet":
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
        if self.path.suffix == ".txt":
            return self._documents()
        return self._parquet() if self.path.suffix == ".parquet" else self._json_lines()

    def _documents(self) -> Iterator[tuple[int, object]]:
        with self.path.open("rb") as raw:
            for blank, lines in groupby(enumerate(raw, start=1), lambda numbered: not numbered[1].strip(_BLANK)):
                document = list(lines)
                self.done_bytes, self.done_lines = raw.tell(), document[-1][0]
                if not blank:
                    yield document[0][0], self._document(document)

    def _document(self, lines: list[tuple[int, bytes]]) -> object:
        texts = []
        for number, line in lines:
            try:
                texts.append(line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n"))
            except UnicodeDecodeError as error:
                return DataError(str(self.path), number, "not_utf8", _not_utf8(line, error, self.path))
        return {"text": "\n".join(texts)}

    def _json_lines(self) -> Iterator[tuple[int, object]]:
        with self.path.open("rb") as raw:
            if self._part is not None:
                yield from self._json(_lines_between(raw, *self._part), raw, self._part[0])
                return
            if self.path.suffix != ".gz":
                yield from self._json(raw, raw)
                return
            with gzip.open(raw) as lines:
                try:
                    yield from self._json(lines, raw)
                except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                    raise DataError(str(self.path), 0, "damaged_file", f"damaged gzip file: {error}") from None

    def _json(self, lines: Iterable[bytes], raw: BinaryIO, begin: int = 0) -> Iterator[tuple[int, object]]:
        path = str(self.path)
        for number, line in enumerate(lines, start=1):
            self.done_bytes, self.done_lines = raw.tell() - begin, number
            text = ""
            try:
                text = line.decode("utf-8-sig" if number == 1 and not begin else "utf-8").rstrip("\r\n")
                content = json.loads(text)
            except UnicodeDecodeError as error:
                content = DataError(path, number, "not_utf8", _not_utf8(line, error, self.path))
            except (ValueError, RecursionError) as error:
                if text.isspace() or not text:
                    continue
                at = f"{error.msg} (column {error.colno})" if isinstance(error, json.JSONDecodeError) else error
                content = DataError(path, number, "broken_json", f"broken JSON: {at}{_meant(text)}")
            else:
                if _MAYBE_HALF_A_PAIR.search(line) and not _encodable(content):
                    content = DataError(path, number, "not_utf8", "a \\u escape is half a surrogate pair")
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
            raise DataError(path, 0, "damaged_file", f"not a readable Parquet file: {error}") from None


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
    """The texts of a pretrain file."""
    return (text for _, text in read_texts(RowFile(path), (bad or BadRows()).leave_out))


def as_row(row_type: type[R], content: object, path: Path, line: int) -> R | DataError:
    """`content` of a `RowFile` as a row, or why it can't be one."""
    if isinstance(content, DataError):
        return content
    try:
        row = parse(row_type, content)
    except OtherStageError as error:
        return DataError(str(path), line, "other_stage", str(error))
    except ValueError as error:
        return DataError(str(path), line, "wrong_fields", str(error))
    if _holds_nothing(row.model_dump()):
        return DataError(str(path), line, "empty", "the row is empty")
    return row


def _holds_nothing(content: Any) -> bool:
    """Whether all texts of a row, roles aside, are white space."""
    if isinstance(content, dict):
        return all(_holds_nothing(value) for key, value in content.items() if key != "role")
    if isinstance(content, list):
        return all(map(_holds_nothing, content))
    return isinstance(content, str) and not content.strip()


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
    return (
        f". If it has one object a line, rename it to {rows.name}. A list in one .json file becomes one row a line "
        f"with: PYTHONUTF8=1 python3 -c {quote(code)} < {quote(path.name)} > {quote(rows.name)}"
    )


def _rows_of_csv(path: Path) -> str:
    """How a .csv file becomes one that can be read: a row for each line, with the first line's names as its fields."""
    rows = path.with_suffix(".jsonl")
    if rows.exists():
        rows = path.with_suffix(".rows.jsonl")
    code = "import csv, json, sys; [print(json.dumps(row, ensure_ascii=False)) for row in csv.DictReader(sys.stdin)]"
    return (
        ". A table with the names of its columns in the first line, such as text, becomes one row a line with: "
        f"PYTHONUTF8=1 python3 -c {quote(code)} < {quote(path.name)} > {quote(rows.name)}"
    )


def _meant(text: str) -> str:
    """What a line that is not JSON was perhaps meant to be, and how it is written."""
    text = text.strip()
    if text.startswith(("{“", "{”", "{‘", "{＂")):
        return '; JSON takes the straight quotes " only, not those of a word processor or an input method'
    if text.startswith("{'"):
        return '; JSON takes double quotes " only, as json.dumps(row, ensure_ascii=False) writes them'
    if text.startswith("{") and text.endswith("},"):
        return "; a row is an object alone, without a comma after it"
    if text in ("[", "{") or text.startswith("[{"):
        return "; the file looks like a JSON list or an object over many lines: each row is to stand in one line"
    if text[:1] not in ("{", "[", '"'):
        return '; a row is written {"text": "…"}; a file of plain text is to end in .txt'
    return ""


def _not_utf8(line: bytes, error: UnicodeDecodeError, path: Path) -> str:
    problem = f"not UTF-8: byte 0x{line[error.start]:02x} at position {error.start + 1} of the line"
    if line.startswith((b"\xff\xfe", b"\xfe\xff")):
        return f"{problem}; the file looks like UTF-16: save it as UTF-8"
    try:
        chinese = _HAN.search(line.decode("gb18030")) is not None
    except UnicodeDecodeError:
        return problem
    if chinese:
        name = path.name.removesuffix(path.suffix)
        problem += f"; the file looks like GBK: iconv -f GB18030 -t UTF-8 {path.name} > {name}.utf8{path.suffix}"
    return problem


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
    except UnicodeDecodeError:
        for row in range(batch.num_rows):
            try:
                columns = zip(batch.schema.names, batch, strict=True)
                yield _without_filled_in({name: column[row].as_py(maps_as_pydicts="lossy") for name, column in columns})
            except UnicodeDecodeError as error:
                yield DataError(path, before + row + 1, "not_utf8", f"not UTF-8: {error.reason}")
