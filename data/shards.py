"""Token shards: tokenised documents in memory-mapped Arrow files, written once, whole or not at all.

A shard folder holds `tokens-00000.arrow`, ... and, written last, `manifest.json`. A row is a document:

    tokens   list<uint16>, or uint32 where the vocabulary needs it: [bos] + the text's ids + [eos], or a conversation
             as the chat template writes it
    bytes    int32, UTF-8 length of the text that is to be learnt, what bits per byte divides by
    digest   uint64, hash of the row's content: the same content has the same one wherever it stands
    file     int32, which of the manifest's sources it comes from
    line     int64, its line there (its row in a Parquet file), from 1
    targets  list<int32>, of conversations only: flat [start, end) spans of the tokens that are to be learnt, ascending,
             never the first. Without this column all tokens but the first are

A record batch ends with the document that makes it BATCH_DOCUMENTS or BATCH_TOKENS, however the documents came to be
written: the same texts and tokenizer give the same bytes. The folder is named after its fingerprint: sha256 of the
sources' bytes, the tokenizer, the chat template where one was used, and the version of this format.
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

from minimind.language import say

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


def shards_fingerprint(sources: Sequence[Source], tokenizer_fingerprint: str, template: str = "") -> str:
    """sha256, in hex, of what decides every byte of the shards: the sources' content, in order, the tokenizer, and the
    chat template for conversations.
    """
    parts = [str(SCHEMA_VERSION), tokenizer_fingerprint, *(source.sha256 for source in sources)]
    if template:
        parts.append(template)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def shard_schema(vocab_size: int, chosen_targets: bool = False) -> pa.Schema:
    """The columns of a shard file; token ids take two bytes where the vocabulary allows. chosen_targets: with the
    column `targets`.
    """
    tokens = pa.uint16() if vocab_size <= 1 << 16 else pa.uint32()
    columns = {
        "tokens": pa.list_(tokens),
        "bytes": pa.int32(),
        "digest": pa.uint64(),
        "file": pa.int32(),
        "line": pa.int64(),
    }
    if chosen_targets:
        columns["targets"] = pa.list_(pa.int32())
    return pa.schema(columns)


class TokenShards:
    """The documents of a shard folder, in the order of their sources. Token ids are read from the mapped files.

    folder: where it lies. fingerprint: see `shards_fingerprint`. lengths: int32 [documents], tokens of each with bos
    and eos. sources: the files it was made from. skipped_rows: rows of them that could not be used. conversations:
    whether the documents name their targets. documents_per_row: how many documents, one after the other, a row of the
    sources became.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        """Use `open`."""
        self.folder = folder
        self.fingerprint: str = manifest["fingerprint"]
        self.tokenizer_fingerprint: str = manifest["tokenizer_fingerprint"]
        self.sources = [Source(**source) for source in manifest["sources"]]
        self.skipped_rows: int = manifest["skipped_rows"]
        self.documents_per_row: int = manifest.get("documents_per_row", 1)
        self._batches: list[pa.RecordBatch] = []
        for name in sorted(manifest["files"]):
            reader = pa.ipc.open_file(pa.memory_map(str(folder / name)))
            self._batches += [reader.get_batch(i) for i in range(reader.num_record_batches)]
        self._values, self._offsets = self._lists("tokens")
        self.conversations = bool(self._batches) and "targets" in self._batches[0].schema.names
        self._spans, self._span_offsets = self._lists("targets") if self.conversations else ([], [])
        self._first = np.cumsum([0, *(batch.num_rows for batch in self._batches)])
        self.lengths: NDArray[np.int32] = np.concatenate(
            [np.empty(0, np.int32), *(np.diff(offsets) for offsets in self._offsets)]
        )

    @classmethod
    def open(cls, folder: str | Path, tokenizer_fingerprint: str) -> TokenShards:
        """The shards in `folder`.

        Raises ValueError if there are none, if they are damaged or of another format, or made with another tokenizer.
        """
        folder = Path(folder).absolute()
        again = say("delete {folder} and tokenise again", folder=folder)
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ValueError(
                say("no token shards at {folder} (no {manifest} there)", folder=folder, manifest=MANIFEST)
            ) from None
        except ValueError as error:
            raise ValueError(
                say("{folder} can't be read ({error}): {again}", folder=folder / MANIFEST, error=error, again=again)
            ) from None
        if manifest.get("schema_version") != SCHEMA_VERSION:
            version = manifest.get("schema_version")
            raise ValueError(
                say(
                    "{folder}: shards of format {version}, this version reads {schema_version}: {again}",
                    folder=folder,
                    version=version,
                    schema_version=SCHEMA_VERSION,
                    again=again,
                )
            )
        if manifest["tokenizer_fingerprint"] != tokenizer_fingerprint:
            raise ValueError(
                say(
                    "{folder} was tokenised with another tokenizer: its fingerprint is "
                    "{tokenizer_fingerprint}, this one's is {tokenizer_fingerprint2}. Use the tokenizer "
                    "it was made with, or tokenise the data again with this one.",
                    folder=folder,
                    tokenizer_fingerprint=manifest["tokenizer_fingerprint"],
                    tokenizer_fingerprint2=tokenizer_fingerprint,
                )
            )
        for name, size_bytes in manifest["files"].items():
            found = (folder / name).stat().st_size if (folder / name).is_file() else None
            if found != size_bytes:
                state = say("is missing") if found is None else say("has {found} bytes", found=found)
                raise ValueError(
                    say(
                        "{folder} {state}, {size_bytes} bytes were written: {again}",
                        folder=folder / name,
                        state=state,
                        size_bytes=size_bytes,
                        again=again,
                    )
                )
        return cls(folder, manifest)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def rows(self) -> int:
        """How many rows of the sources there are."""
        return len(self) // self.documents_per_row

    @property
    def tokens(self) -> int:
        """All tokens, bos and eos included."""
        return int(self.lengths.sum(dtype=np.int64))

    def document(self, index: int) -> NDArray[np.uint16 | np.uint32]:
        """The token ids of one document, [bos] + text + [eos]: a view into the mapped file."""
        batch, row = self._at(index)
        offsets = self._offsets[batch]
        values: NDArray[np.uint16 | np.uint32] = self._values[batch][offsets[row] : offsets[row + 1]]
        return values

    def targets(self, index: int) -> NDArray[np.int32]:
        """[spans, 2]: start and end of each run of tokens of a document that is to be learnt."""
        if not self.conversations:
            return np.array([[1, self.lengths[index]]], np.int32)
        batch, row = self._at(index)
        offsets = self._span_offsets[batch]
        spans: NDArray[np.int32] = self._spans[batch][offsets[row] : offsets[row + 1]]
        return spans.reshape(-1, 2)

    @cached_property
    def target_tokens(self) -> int:
        """How many tokens are to be learnt, of all documents."""
        if not self.conversations:
            return self.tokens - len(self)
        return sum(int(spans[1::2].sum(dtype=np.int64) - spans[::2].sum(dtype=np.int64)) for spans in self._spans)

    @cached_property
    def first_targets(self) -> NDArray[np.int32]:
        """[documents], the position of the first token that is to be learnt; one past the end where there is none."""
        if not self.conversations:
            return np.ones(len(self), np.int32)
        first = self.lengths.copy()
        for spans, offsets, begin in zip(self._spans, self._span_offsets, self._first, strict=False):
            some = np.flatnonzero(np.diff(offsets))
            first[begin + some] = spans[offsets[some]]
        return first

    @cached_property
    def text_bytes(self) -> NDArray[np.int32]:
        """[documents], UTF-8 length of the text of each that is to be learnt."""
        return self._column("bytes", np.int32)

    @cached_property
    def digests(self) -> NDArray[np.uint64]:
        """[documents], hash of each text."""
        return self._column("digest", np.uint64)

    def where(self, index: int) -> tuple[str, int]:
        """The file and line that a document comes from."""
        batch, row = self._at(index)
        columns = self._batches[batch]
        return self.sources[columns.column("file")[row].as_py()].path, columns.column("line")[row].as_py()

    def _at(self, index: int) -> tuple[int, int]:
        """The batch that holds a document, and its row there."""
        batch = int(np.searchsorted(self._first, index, side="right")) - 1
        return batch, index - int(self._first[batch])

    def _lists(self, name: str) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
        """The values of a column of lists, and their offsets, batch by batch: views into the mapped files."""
        columns = [batch.column(name) for batch in self._batches]
        return [column.values.to_numpy() for column in columns], [column.offsets.to_numpy() for column in columns]

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

    def finish(
        self,
        sources: Sequence[Source],
        tokenizer_fingerprint: str,
        skipped_rows: int,
        template: str = "",
        documents_per_row: int = 1,
    ) -> None:
        """Sync everything to the disk, and the manifest last."""
        self._end_batch()
        self._end_file()
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "fingerprint": shards_fingerprint(sources, tokenizer_fingerprint, template),
            "tokenizer_fingerprint": tokenizer_fingerprint,
            "sources": [asdict(source) for source in sources],
            "documents": self.documents,
            "tokens": self.tokens,
            "skipped_rows": skipped_rows,
            "documents_per_row": documents_per_row,
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
