"""Texts into token shards, once: the reader, the encoder and the writer work at the same time, in flat memory."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
from filelock import FileLock

from data.read import BadRows, LeaveOut, RowFile, read_texts
from data.shards import ShardWriter, Source, TokenShards, shard_schema, shards_fingerprint
from minimind.tokenizer import Tokenizer
from minimind.units import size

BATCH_DOCUMENTS = 1024
BATCH_CHARACTERS = 1 << 20


@dataclass(frozen=True)
class TextBatch:
    """Texts in the order of their file. file: its number among the sources; lines: where each text stands in it.

    read_bytes: how much of all sources had been read after it, about.
    """

    file: int
    lines: list[int]
    texts: list[str]
    read_bytes: int


@dataclass(frozen=True)
class EncodedBatch:
    """Documents as rows of `shard_schema`. read_bytes: how much of all sources had been read after them, about."""

    documents: pa.RecordBatch
    read_bytes: int


Progress = Callable[[int, int, int], None]
"""Called with (bytes of the sources that are done, bytes of all of them, tokens written so far)."""

Pipeline = Callable[[Sequence[RowFile], Tokenizer, BadRows], Iterator[EncodedBatch]]
"""From files to their documents in order; on a cluster, another one than `encode_in_threads`."""


def tokenise(
    paths: Sequence[str | Path],
    tokenizer: Tokenizer,
    out_dir: str | Path,
    *,
    max_bad_rows: int = 0,
    progress: Progress | None = None,
    pipeline: Pipeline | None = None,
) -> TokenShards:
    """The shards of these pretrain files with this tokenizer, in a folder of `out_dir` named after their fingerprint.

    They are made only if they aren't there yet: same content and tokenizer, same folder. The folder appears whole or
    not at all; what an interrupted call left is made anew. Calls that ask for the same shards at once wait for each
    other. max_bad_rows: how many rows that can't be used may be left out.

    Raises ValueError for files that can't be used (DataError with file and line) or that hold no row, OSError if the
    disk is full or fails; nothing is left behind then.
    """
    files = [RowFile(path) for path in paths]
    if not files:
        raise ValueError("no data files: give at least one .jsonl, .jsonl.gz or .parquet file")
    state = [_state(file.path) for file in files]
    sources = [data_source(file.path) for file in files]
    fingerprint = shards_fingerprint(sources, tokenizer.fingerprint)
    out_dir = Path(out_dir).absolute()
    out_dir.mkdir(parents=True, exist_ok=True)
    folder = out_dir / fingerprint[:24]
    with FileLock(out_dir / f"{folder.name}.lock"):
        if not folder.exists():
            try:
                with _whole_folder(folder) as partial:
                    _write(partial, files, sources, tokenizer, BadRows(max_bad_rows), progress, pipeline)
                    for file, before in zip(files, state, strict=True):
                        if _state(file.path) != before:
                            raise ValueError(f"{file.path} changed while it was read; start again when it is complete")
            except OSError as error:
                free = size(shutil.disk_usage(out_dir).free)
                raise OSError(
                    f"tokenising into {folder} failed: {error}. {free} are free there; token shards need about as much "
                    "as the text itself. Nothing half-written was left: make room (or see to the disk) and start again."
                ) from error
    shards = TokenShards.open(folder, tokenizer.fingerprint)
    if shards.skipped_rows > max_bad_rows:
        raise ValueError(
            f"{', '.join(source.path for source in sources)}: {shards.skipped_rows} rows can't be used, "
            f"max_bad_rows = {max_bad_rows}; `data check` lists them"
        )
    return shards


def encode_in_threads(
    files: Sequence[RowFile], tokenizer: Tokenizer, bad: BadRows, num_workers: int | None = None
) -> Iterator[EncodedBatch]:
    """The pipeline on one machine: `num_workers` threads, one per core when None, each encode a batch at a time."""
    num_workers = num_workers or os.cpu_count() or 1
    schema = shard_schema(tokenizer.vocab_size)
    waiting: deque[tuple[Future[pa.RecordBatch], int]] = deque()
    with _one_core_per_call(), ThreadPoolExecutor(num_workers, thread_name_prefix="encode") as threads:
        for batch in text_batches(files, bad.leave_out):
            waiting.append((threads.submit(encode_texts, tokenizer, batch, schema), batch.read_bytes))
            if len(waiting) > num_workers + 1:
                future, read_bytes = waiting.popleft()
                yield EncodedBatch(future.result(), read_bytes)
        for future, read_bytes in waiting:
            yield EncodedBatch(future.result(), read_bytes)


def text_batches(files: Sequence[RowFile], leave_out: LeaveOut) -> Iterator[TextBatch]:
    """The texts of pretrain files in batches of about a megabyte; none spans two files."""
    before = 0
    for number, file in enumerate(files):
        lines: list[int] = []
        texts: list[str] = []
        characters = 0
        for line, text in read_texts(file, leave_out):
            lines.append(line)
            texts.append(text)
            characters += len(text)
            if len(texts) >= BATCH_DOCUMENTS or characters >= BATCH_CHARACTERS:
                yield TextBatch(number, lines, texts, before + file.done_bytes)
                lines, texts, characters = [], [], 0
        if texts:
            yield TextBatch(number, lines, texts, before + file.done_bytes)
        before += file.total_bytes


def encode_texts(tokenizer: Tokenizer, batch: TextBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The texts as rows of `shard_schema`: each [bos] + ids + [eos]. A pure function."""
    data = [text.encode() for text in batch.texts]
    ids = tokenizer.encode_batch(batch.texts)
    offsets = np.zeros(len(ids) + 1, np.int32)
    np.cumsum([len(document) + 2 for document in ids], out=offsets[1:])
    tokens = np.empty(offsets[-1], schema.field("tokens").type.value_type.to_pandas_dtype())
    inner = np.ones(len(tokens), np.bool_)
    for special_id, at in ((tokenizer.bos_id, offsets[:-1]), (tokenizer.eos_id, offsets[1:] - 1)):
        tokens[at] = special_id
        inner[at] = False
    tokens[inner] = np.fromiter(chain.from_iterable(ids), tokens.dtype, len(tokens) - 2 * len(ids))
    digests = b"".join([hashlib.blake2b(text, digest_size=8).digest() for text in data])
    columns = [
        pa.ListArray.from_arrays(offsets, tokens),
        pa.array([len(text) for text in data], pa.int32()),
        pa.array(np.frombuffer(digests, "<u8")),
        pa.array(np.full(len(data), batch.file, np.int32)),
        pa.array(batch.lines, pa.int64()),
    ]
    return pa.record_batch(columns, schema=schema)


def data_source(path: Path) -> Source:
    """A file as the source of shards: its path, size and the sha256 of its bytes, read at the speed of the disk."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return Source(str(path), file.tell(), digest.hexdigest())


def _write(
    folder: Path,
    files: Sequence[RowFile],
    sources: Sequence[Source],
    tokenizer: Tokenizer,
    bad: BadRows,
    progress: Progress | None,
    pipeline: Pipeline | None,
) -> None:
    total = sum(file.total_bytes for file in files)
    with ShardWriter(folder, shard_schema(tokenizer.vocab_size)) as writer:
        for batch in (pipeline or encode_in_threads)(files, tokenizer, bad):
            writer.write(batch.documents)
            if progress is not None:
                progress(batch.read_bytes, total, writer.tokens)
        if not writer.documents:
            raise ValueError(f"{', '.join(source.path for source in sources)}: no rows; at least one text is needed")
        writer.finish(sources, tokenizer.fingerprint, bad.count)


@contextmanager
def _one_core_per_call() -> Iterator[None]:
    """Keep `tokenizers` from spreading each call over its own thread pool: whole batches, one per thread of ours, are
    a tenth faster. It offers no other way than this variable, which it looks up at every call.
    """
    name = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    os.environ[name] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into that becomes `folder` at the end of the block, or vanishes if that isn't reached."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        _sync(partial)
        partial.rename(folder)
        _sync(folder.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _sync(folder: Path) -> None:
    """Make a rename outlast a power cut. Windows can't and needn't."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
