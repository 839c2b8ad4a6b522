"""Token shards: tokenised documents in memory-mapped Arrow files, written once, whole or not at all.

A shard folder holds `tokens-00000.arrow`, ... and, written last, `manifest.json`. A row is a document:

    tokens  list<uint16>, or uint32 where the vocabulary needs it: [bos] + the text's ids + [eos]
    bytes   int32, UTF-8 length of the text, what bits per byte divides by
    digest  uint64, hash of the text: the same text has the same one wherever it stands
    file    int32, which of the manifest's sources it comes from
    line    int64, its line there (its row in a Parquet file), from 1

A record batch ends with the document that makes it BATCH_DOCUMENTS or BATCH_TOKENS, however the documents came to be
written: the same texts and tokenizer give the same bytes. The folder is named after its fingerprint: sha256 of the
sources' bytes, the tokenizer and the version of this format.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
BATCH_DOCUMENTS = 1024
BATCH_TOKENS = 1 << 19
_FILE_BYTES = 512 << 20


@dataclass(frozen=True)
class Source:
    """A file that documents came from: its absolute path then, its size, and the sha256 of its bytes."""

    path: str
    size_bytes: int
    sha256: str


def shards_fingerprint(sources: Sequence[Source], tokenizer_fingerprint: str) -> str:
    """sha256, in hex, of what decides every byte of the shards: the sources' content, in order, and the tokenizer."""
    parts = [str(SCHEMA_VERSION), tokenizer_fingerprint, *(source.sha256 for source in sources)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def shard_schema(vocab_size: int) -> pa.Schema:
    """The columns of a shard file; token ids take two bytes where the vocabulary allows."""
    tokens = pa.uint16() if vocab_size <= 1 << 16 else pa.uint32()
    return pa.schema(
        {"tokens": pa.list_(tokens), "bytes": pa.int32(), "digest": pa.uint64(), "file": pa.int32(), "line": pa.int64()}
    )


class TokenShards:
    """The documents of a shard folder, in the order of their sources. Token ids are read from the mapped files.

    folder: where it lies. fingerprint: see `shards_fingerprint`. lengths: int32 [documents], tokens of each with bos
    and eos. sources: the files it was made from. skipped_rows: rows of them that could not be used.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        """Use `open`."""
        self.folder = folder
        self.fingerprint: str = manifest["fingerprint"]
        self.tokenizer_fingerprint: str = manifest["tokenizer_fingerprint"]
        self.sources = [Source(**source) for source in manifest["sources"]]
        self.skipped_rows: int = manifest["skipped_rows"]
        self._batches: list[pa.RecordBatch] = []
        for name in sorted(manifest["files"]):
            reader = pa.ipc.open_file(pa.memory_map(str(folder / name)))
            self._batches += [reader.get_batch(i) for i in range(reader.num_record_batches)]
        columns = [batch.column("tokens") for batch in self._batches]
        self._values = [column.values.to_numpy() for column in columns]
        self._offsets = [column.offsets.to_numpy() for column in columns]
        self._first = np.cumsum([0, *(len(column) for column in columns)])
        self.lengths: NDArray[np.int32] = np.concatenate(
            [np.empty(0, np.int32), *(np.diff(offsets) for offsets in self._offsets)]
        )

    @classmethod
    def open(cls, folder: str | Path, tokenizer_fingerprint: str) -> TokenShards:
        """The shards in `folder`.

        Raises ValueError if there are none, if they are damaged or of another format, or made with another tokenizer.
        """
        folder = Path(folder).absolute()
        again = f"delete {folder} and tokenise again"
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ValueError(f"no token shards at {folder} (no {MANIFEST} there)") from None
        except ValueError as error:
            raise ValueError(f"{folder / MANIFEST} can't be read ({error}): {again}") from None
        if manifest.get("schema_version") != SCHEMA_VERSION:
            version = manifest.get("schema_version")
            raise ValueError(f"{folder}: shards of format {version}, this version reads {SCHEMA_VERSION}: {again}")
        if manifest["tokenizer_fingerprint"] != tokenizer_fingerprint:
            raise ValueError(
                f"{folder} was tokenised with another tokenizer: its fingerprint is "
                f"{manifest['tokenizer_fingerprint']}, this one's is {tokenizer_fingerprint}. Use the tokenizer it was "
                "made with, or tokenise the data again with this one."
            )
        for name, size_bytes in manifest["files"].items():
            found = (folder / name).stat().st_size if (folder / name).is_file() else None
            if found != size_bytes:
                state = "is missing" if found is None else f"has {found} bytes"
                raise ValueError(f"{folder / name} {state}, {size_bytes} bytes were written: {again}")
        return cls(folder, manifest)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def tokens(self) -> int:
        """All tokens, bos and eos included."""
        return int(self.lengths.sum(dtype=np.int64))

    def document(self, index: int) -> NDArray[np.uint16 | np.uint32]:
        """The token ids of one document, [bos] + text + [eos]: a view into the mapped file."""
        batch = int(np.searchsorted(self._first, index, side="right")) - 1
        row = index - int(self._first[batch])
        offsets = self._offsets[batch]
        values: NDArray[np.uint16 | np.uint32] = self._values[batch][offsets[row] : offsets[row + 1]]
        return values

    @cached_property
    def text_bytes(self) -> NDArray[np.int32]:
        """[documents], UTF-8 length of each text."""
        return self._column("bytes", np.int32)

    @cached_property
    def digests(self) -> NDArray[np.uint64]:
        """[documents], hash of each text."""
        return self._column("digest", np.uint64)

    def where(self, index: int) -> tuple[str, int]:
        """The file and line that a document comes from."""
        batch = int(np.searchsorted(self._first, index, side="right")) - 1
        row = index - int(self._first[batch])
        columns = self._batches[batch]
        return self.sources[columns.column("file")[row].as_py()].path, columns.column("line")[row].as_py()

    def _column(self, name: str, dtype: type[np.generic]) -> NDArray[Any]:
        return np.concatenate([np.empty(0, dtype), *(batch.column(name).to_numpy() for batch in self._batches)])


class ShardWriter:
    """Writes record batches of `shard_schema` into the files of a folder. A context manager.

    `finish` must be called for the folder to become shards: it writes the manifest.
    """

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.folder, self.schema = folder, schema
        self.documents = self.tokens = 0
        self._batch: list[pa.RecordBatch] = []
        self._batch_documents = self._batch_tokens = 0
        self._files: dict[str, int] = {}
        self._sink: BinaryIO | None = None
        self._writer: Any = None

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sink is not None:  # left open by an error, and the folder is thrown away with it
            self._sink.close()

    def write(self, batch: pa.RecordBatch) -> None:
        """Append documents. Raises OSError if the disk is full or fails."""
        offsets = batch.column("tokens").offsets.to_numpy()
        self.documents += batch.num_rows
        self.tokens += int(offsets[-1] - offsets[0])
        start = 0
        while start < batch.num_rows:
            full = int(np.searchsorted(offsets, offsets[start] + BATCH_TOKENS - self._batch_tokens))
            end = min(full, start + BATCH_DOCUMENTS - self._batch_documents, batch.num_rows)
            self._batch.append(batch.slice(start, end - start))
            self._batch_documents += end - start
            self._batch_tokens += int(offsets[end] - offsets[start])
            if self._batch_documents >= BATCH_DOCUMENTS or self._batch_tokens >= BATCH_TOKENS:
                self._end_batch()
            start = end

    def finish(self, sources: Sequence[Source], tokenizer_fingerprint: str, skipped_rows: int) -> None:
        """Sync everything to the disk, and the manifest last."""
        self._end_batch()
        self._end_file()
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "fingerprint": shards_fingerprint(sources, tokenizer_fingerprint),
            "tokenizer_fingerprint": tokenizer_fingerprint,
            "sources": [asdict(source) for source in sources],
            "documents": self.documents,
            "tokens": self.tokens,
            "skipped_rows": skipped_rows,
            "files": self._files,
        }
        with (self.folder / MANIFEST).open("w", encoding="utf-8") as file:
            json.dump(manifest, file, ensure_ascii=False, indent=2)
            file.flush()
            os.fsync(file.fileno())

    def _end_batch(self) -> None:
        if not self._batch:
            return
        if self._sink is None:
            self._sink = (self.folder / f"tokens-{len(self._files):05d}.arrow").open("wb")
            self._writer = pa.ipc.new_file(self._sink, self.schema)
        self._writer.write_batch(pa.concat_batches(self._batch))
        self._batch = []
        self._batch_documents = self._batch_tokens = 0
        if self._sink.tell() >= _FILE_BYTES:
            self._end_file()

    def _end_file(self) -> None:
        if self._sink is None:
            return
        self._writer.close()
        self._sink.flush()
        os.fsync(self._sink.fileno())
        self._files[Path(self._sink.name).name] = self._sink.tell()
        self._sink.close()
        self._sink = None
