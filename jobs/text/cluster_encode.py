"""Tokenising on a cluster: the same shards as on one machine, to the last byte, made by all of its CPUs with Ray Data.

Files are cut into parts; a task reads, parses and encodes one part wherever there is a CPU, and this process puts the
results in order. A part counts its lines from 1, so the lines of the parts before it are added here.
"""

from __future__ import annotations

import logging
import os
import pickle
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute

from data.encode import Encoding
from data.prepare import EncodedBatch
from data.read import BadRows, DataError, RowFile
from minimind.language import say
from minimind.text.tokenizer import Tokenizer

PART_BYTES = 16 << 20
"""About how much of a file one task reads: seconds of work, and few results at a time in this process."""


@dataclass(frozen=True)
class _Part:
    """file: its number among the sources. begin_bytes: of all sources, what comes before it."""

    rows: RowFile
    file: int
    begin_bytes: int


@dataclass(frozen=True)
class _Piece:
    """What a task gives back, several times: a batch of documents, and at last, with none, what else it has found.

    part: number of the part. read_bytes: how much of it had been read. lines: how many it has. bad: rows that can't be
    used. problem: why the rest of it can't be read.
    """

    part: int
    read_bytes: int
    documents: pa.RecordBatch | None = None
    lines: int = 0
    bad: list[DataError] = field(default_factory=list)
    problem: ValueError | None = None


def encode_on_cluster(
    files: Sequence[RowFile], tokenizer: Tokenizer, bad: BadRows, encoding: Encoding, part_bytes: int = PART_BYTES
) -> Iterator[EncodedBatch]:
    """A `data.prepare.Pipeline` on the Ray cluster that this process has joined. Every machine must see the files.

    Raises ValueError where one does not.
    """
    import ray.data  # takes a second, and only a cluster of several machines needs it

    parts = _parts(files, part_bytes)
    for name, level in (("ray.data", logging.WARNING), ("ray.data._internal.progress", logging.ERROR)):
        logging.getLogger(name).setLevel(level)  # `tokenise` reports the progress
    dataset = ray.data.range(len(parts), override_num_blocks=len(parts))
    dataset.context.execution_options.preserve_order = True
    dataset.context.enable_progress_bars = False
    task = partial(_encode_parts, parts=parts, tokenizer=tokenizer, encoding=encoding, bad_limit=bad.limit)
    encoded = dataset.map_batches(task, batch_size=None, batch_format="pyarrow")
    lines_before, last = 0, _Part(files[0], 0, 0)
    for table in encoded.iter_batches(batch_size=None, batch_format="pyarrow"):
        for piece in map(_unpack, cast(pa.Table, table).column("piece")):
            part = parts[piece.part]
            if part.file != last.file:
                lines_before = 0
            last = part
            for error in piece.bad:
                bad.leave_out(DataError(error.path, lines_before + error.line, error.kind, error.problem))
            if piece.problem is not None:
                raise piece.problem
            if piece.documents is not None:
                yield EncodedBatch(_moved(piece.documents, lines_before), part.begin_bytes + piece.read_bytes)
            lines_before += piece.lines


def _parts(files: Sequence[RowFile], part_bytes: int) -> list[_Part]:
    parts, begin_bytes = [], 0
    for number, file in enumerate(files):
        for rows in file.parts(part_bytes):
            parts.append(_Part(rows, number, begin_bytes))
            begin_bytes += rows.total_bytes
    return parts


def _encode_parts(
    numbers: pa.Table, parts: list[_Part], tokenizer: Tokenizer, encoding: Encoding, bad_limit: int
) -> Iterator[pa.Table]:
    """What a task runs: the pieces of the parts with these numbers, each pickled in a row."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a task has one CPU
    for number in numbers.column("id").to_pylist():
        for piece in _pieces(number, parts[number], tokenizer, encoding, bad_limit):
            yield pa.table({"piece": pa.array([pickle.dumps(piece, protocol=5)], pa.large_binary())})


def _pieces(number: int, part: _Part, tokenizer: Tokenizer, encoding: Encoding, bad_limit: int) -> Iterator[_Piece]:
    schema = encoding.schema(tokenizer)
    bad: list[DataError] = []

    def leave_out(error: DataError) -> None:
        if len(bad) <= bad_limit:  # one more than are allowed, so that it is raised
            bad.append(error)

    problem: ValueError | None = None
    try:
        for batch in encoding.batches([part.rows], leave_out):
            documents = encoding.encode(tokenizer, replace(batch, file=part.file), schema)
            yield _Piece(number, batch.read_bytes, documents)
    except DataError as error:
        problem = error
    except OSError as error:
        problem = ValueError(
            say(
                "{path} can't be read on the machine {node}: {error}. On a cluster, data and "
                "MINIMIND_HOME must lie where every machine reaches them under the same path, such as "
                "a shared disk",
                path=part.rows.path,
                node=platform.node(),
                error=error,
            )
        )
    yield _Piece(number, part.rows.total_bytes, lines=part.rows.done_lines, bad=bad, problem=problem)


def _unpack(value: Any) -> _Piece:
    piece: _Piece = pickle.loads(value.as_buffer())
    return piece


def _moved(documents: pa.RecordBatch, lines_before: int) -> pa.RecordBatch:
    at = documents.schema.get_field_index("line")
    lines = pa.compute.add(documents.column(at), pa.scalar(lines_before, pa.int64()))
    return documents.set_column(at, documents.schema.field(at), lines)
