"""Rows into token shards, once: the reader, the encoder and the writer work at the same time, in flat memory."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from filelock import FileLock

from data.encode import Encoding, Tool, encoding_of
from data.read import BadRows, RowFile, row_files
from data.shards import ShardWriter, Source, TokenShards, shards_fingerprint
from minimind.language import say
from minimind.text.tokenizer import Tokenizer
from minimind.units import size


@dataclass(frozen=True)
class EncodedBatch:
    """Documents as rows of `shard_schema`. read_bytes: how much of all sources had been read after them, about."""

    documents: pa.RecordBatch
    read_bytes: int


Progress = Callable[[int, int, int], None]
"""Called with (bytes of the sources that are done, bytes of all of them, tokens written so far)."""

Pipeline = Callable[[Sequence[RowFile], Tokenizer, BadRows, Encoding], Iterator[EncodedBatch]]
"""From files to their documents in order; on a cluster, another one than `encode_in_threads`."""


def tokenise(
    paths: Sequence[str | Path],
    tokenizer: Tokenizer,
    out_dir: str | Path,
    *,
    rows: str = "pretrain",
    tools: Sequence[Tool] = (),
    max_bad_rows: int = 0,
    progress: Progress | None = None,
    pipeline: Pipeline | None = None,
) -> TokenShards:
    """The shards of these files with this tokenizer, in a folder of `out_dir` named after their fingerprint.

    They are made only if they aren't there yet: same content and tokenizer, same folder. The folder appears whole or
    not at all; what an interrupted call left is made anew. Calls that ask for the same shards at once wait for each
    other. paths: files, or folders of them. rows: the kind of rows, of ENCODINGS. tools: what the prompts of
    questions list as what can be called. max_bad_rows: how many rows that can't be used may be left out.

    Raises ValueError for files that can't be used (DataError with file and line) or that hold no row, OSError if the
    disk is full or fails; nothing is left behind then.
    """
    encoding = encoding_of(rows, tools)
    files = [file for path in paths for file in row_files(path)]
    if not files:
        raise ValueError(say("no data files: give at least one"))
    state = [_state(file.path) for file in files]
    sources = [data_source(file.path) for file in files]
    fingerprint = shards_fingerprint(sources, tokenizer.fingerprint, encoding.template(tokenizer))
    out_dir = Path(out_dir).absolute()
    out_dir.mkdir(parents=True, exist_ok=True)
    folder = out_dir / fingerprint[:24]
    with FileLock(out_dir / f"{folder.name}.lock"):
        if not folder.exists():
            try:
                with _whole_folder(folder) as partial:
                    _write(partial, files, sources, tokenizer, encoding, BadRows(max_bad_rows), progress, pipeline)
                    for file, before in zip(files, state, strict=True):
                        if _state(file.path) != before:
                            raise ValueError(
                                say("{path} changed while it was read; start again when it is complete", path=file.path)
                            )
            except OSError as error:
                free = size(shutil.disk_usage(out_dir).free)
                raise OSError(
                    say(
                        "tokenising into {folder} failed: {error}. {free} are free there; token shards need "
                        "about as much as the text itself. Nothing half-written was left: make room (or see "
                        "to the disk) and start again.",
                        folder=folder,
                        error=error,
                        free=free,
                    )
                ) from error
    shards = TokenShards.open(folder, tokenizer.fingerprint)
    if shards.skipped_rows > max_bad_rows:
        raise ValueError(
            say(
                "{names}: {skipped_rows} rows can't be used, max_bad_rows = {max_bad_rows}; `data check` lists them",
                names=", ".join(source.path for source in sources),
                skipped_rows=shards.skipped_rows,
                max_bad_rows=max_bad_rows,
            )
        )
    return shards


def encode_in_threads(
    files: Sequence[RowFile], tokenizer: Tokenizer, bad: BadRows, encoding: Encoding, num_workers: int | None = None
) -> Iterator[EncodedBatch]:
    """The pipeline on one machine: `num_workers` threads, one per core when None, each encode a batch at a time."""
    num_workers = num_workers or os.cpu_count() or 1
    schema = encoding.schema(tokenizer)
    waiting: deque[tuple[Future[pa.RecordBatch], int]] = deque()
    with _one_core_per_call(), ThreadPoolExecutor(num_workers, thread_name_prefix="encode") as threads:
        for batch in encoding.batches(files, bad.leave_out):
            waiting.append((threads.submit(encoding.encode, tokenizer, batch, schema), batch.read_bytes))
            if len(waiting) > num_workers + 1:
                future, read_bytes = waiting.popleft()
                yield EncodedBatch(future.result(), read_bytes)
        for future, read_bytes in waiting:
            yield EncodedBatch(future.result(), read_bytes)


def data_source(path: Path) -> Source:
    """A file as the source of shards: its path, size and the sha256 of its bytes, read at the speed of the disk."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return Source(str(path), file.tell(), digest.hexdigest())


def content_sha256(path: Path) -> str:
    """The sha256, in hex, of a file's bytes; of a folder that of its files' sha256s in their order."""
    if path.is_file():
        return data_source(path).sha256
    digests = [data_source(file.path).sha256 for file in row_files(path)]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _write(
    folder: Path,
    files: Sequence[RowFile],
    sources: Sequence[Source],
    tokenizer: Tokenizer,
    encoding: Encoding,
    bad: BadRows,
    progress: Progress | None,
    pipeline: Pipeline | None,
) -> None:
    total = sum(file.total_bytes for file in files)
    with ShardWriter(folder, encoding.schema(tokenizer)) as writer:
        for batch in (pipeline or encode_in_threads)(files, tokenizer, bad, encoding):
            writer.write(batch.documents)
            if progress is not None:
                progress(batch.read_bytes, total, writer.tokens)
        if not writer.documents:
            raise ValueError(
                say(
                    "{names}: no rows; at least one text is needed",
                    names=", ".join(source.path for source in sources),
                )
            )
        writer.finish(
            sources, tokenizer.fingerprint, bad.count, encoding.template(tokenizer), encoding.documents_per_row
        )


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
