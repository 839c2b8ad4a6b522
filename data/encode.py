"""Rows into documents: their token ids, and which of these are to be learnt. ENCODINGS has one entry a kind of row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import chain
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from data.formats import READING
from data.pack import Packing
from data.read import LeaveOut, RowFile, read_each, read_texts
from data.schema import ChatRow, LabelledRow, Message, PreferenceRow, PretrainRow, PromptRow, Row
from data.shards import TokenShards, shard_schema
from minimind.text.chat import chat_template, render, require_renderable
from minimind.text.template import order_problem
from minimind.text.tokenizer import Tokenizer

Tool = Mapping[str, Any]
"""What can be called, as a prompt lists it: OpenAI's {"type": "function", "function": {"name", ...}}."""

BATCH_DOCUMENTS = 1024
BATCH_CHARACTERS = 1 << 20


@dataclass(frozen=True)
class RowBatch:
    """Rows of one kind in the order of their file. file: its number among the sources; lines: where each row stands.

    rows: as the kind's `Encoding.read` gives them. read_bytes: how much of all sources had been read after it, about.
    """

    file: int
    lines: list[int]
    rows: list[Any]
    read_bytes: int


@dataclass(frozen=True)
class Encoding:
    """How rows of one kind become documents.

    read: the rows of a file with their lines; what can't be used goes to `leave_out`. characters: about how much text
    a row has. encode: rows as rows of `schema`, a pure function. template: what decides the tokens of a row beside the
    tokenizer; "" for nothing. chosen_targets: whether the tokens to learn are named; else it is all but the first.
    documents_per_row: how many documents each row becomes.
    """

    read: Callable[[RowFile, LeaveOut], Iterator[tuple[int, Any]]]
    characters: Callable[[Any], int]
    encode: Callable[[Tokenizer, RowBatch, pa.Schema], pa.RecordBatch]
    template: Callable[[Tokenizer], str]
    chosen_targets: bool
    documents_per_row: int = 1

    def schema(self, tokenizer: Tokenizer) -> pa.Schema:
        """The columns of the documents."""
        return shard_schema(tokenizer.vocab_size, chosen_targets=self.chosen_targets)

    def batches(self, files: Sequence[RowFile], leave_out: LeaveOut) -> Iterator[RowBatch]:
        """The rows of files in batches of about a megabyte; none spans two files."""
        before = 0
        for number, file in enumerate(files):
            lines: list[int] = []
            rows: list[Any] = []
            characters = 0
            for line, row in self.read(file, leave_out):
                lines.append(line)
                rows.append(row)
                characters += self.characters(row)
                if len(rows) >= BATCH_DOCUMENTS or characters >= BATCH_CHARACTERS:
                    yield RowBatch(number, lines, rows, before + file.done_bytes)
                    lines, rows, characters = [], [], 0
            if rows:
                yield RowBatch(number, lines, rows, before + file.done_bytes)
            before += file.total_bytes


def encode_texts(tokenizer: Tokenizer, batch: RowBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Texts as rows of `schema`: each [bos] + ids + [eos]."""
    data = [text.encode() for text in batch.rows]
    ids = tokenizer.encode_batch(batch.rows)
    offsets = np.zeros(len(ids) + 1, np.int32)
    np.cumsum([len(document) + 2 for document in ids], out=offsets[1:])
    tokens = np.empty(offsets[-1], schema.field("tokens").type.value_type.to_pandas_dtype())
    inner = np.ones(len(tokens), np.bool_)
    for special_id, at in ((tokenizer.bos_id, offsets[:-1]), (tokenizer.eos_id, offsets[1:] - 1)):
        tokens[at] = special_id
        inner[at] = False
    tokens[inner] = np.fromiter(chain.from_iterable(ids), tokens.dtype, len(tokens) - 2 * len(ids))
    columns = [pa.ListArray.from_arrays(offsets, tokens), *_about(batch, data, [len(text) for text in data])]
    return pa.record_batch(columns, schema=schema)


def encode_chats(tokenizer: Tokenizer, batch: RowBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Conversations as rows of `schema`, by the chat template; the targets are what the assistant says.

    One that the template refuses becomes a document without tokens, which nobody trains on: `data check` counts it.
    """
    return _record_batch(tokenizer, batch, [[_written(tokenizer, row.conversations)] for row in batch.rows], schema)


def encode_questions(
    tokenizer: Tokenizer, batch: RowBatch, schema: pa.Schema, tools: Sequence[Tool] = ()
) -> pa.RecordBatch:
    """Prompts with their right answers as rows of `schema`, as `encode_chats` has conversations. tools: what can be
    called, which the prompts list.
    """
    written = [[_written(tokenizer, asked(row), tools)] for row in batch.rows]
    return _record_batch(tokenizer, batch, written, schema)


def encode_pairs(tokenizer: Tokenizer, batch: RowBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Preference rows as rows of `schema`: the chosen conversation, then the rejected one, with one digest. Where the
    template refuses either, both become documents without tokens.
    """
    pairs = [[_written(tokenizer, row.chosen), _written(tokenizer, row.rejected)] for row in batch.rows]
    whole = [pair if all(side.ids for side in pair) else [_NOTHING, _NOTHING] for pair in pairs]
    return _record_batch(tokenizer, batch, whole, schema)


def encode_labelled(tokenizer: Tokenizer, batch: RowBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Labelled rows as rows of `schema`, two each, as a pair has: the conversation stands where the chosen one would if
    its answer is good, where the rejected one would if it is bad. The other is a document without tokens.
    """
    sides = [(_written(tokenizer, row.conversations), row.label) for row in batch.rows]
    written = [[document, _NOTHING] if label else [_NOTHING, document] for document, label in sides]
    return _record_batch(tokenizer, batch, written, schema)


def _record_batch(
    tokenizer: Tokenizer, batch: RowBatch, written: Sequence[Sequence[Document]], schema: pa.Schema
) -> pa.RecordBatch:
    """The documents of each row as rows of `schema`; all of a row have its digest."""
    documents = list(chain.from_iterable(written))
    each = len(documents) // len(batch.rows)
    dtype = schema.field("tokens").type.value_type.to_pandas_dtype()
    columns = [
        _lists([np.asarray(document.ids, dtype) for document in documents]),
        *_about(
            RowBatch(batch.file, [line for line in batch.lines for _ in range(each)], documents, batch.read_bytes),
            [content for row in batch.rows for content in [_content(row)] * each],
            [text_bytes(tokenizer, document.ids, document.targets) for document in documents],
        ),
        _lists([document.targets for document in documents]),
    ]
    return pa.record_batch(columns, schema=schema)


@dataclass(frozen=True)
class Document:
    """ids: its tokens. targets: int32, flat [start, end) spans of those that are to be learnt, ascending."""

    ids: list[int]
    targets: NDArray[np.int32]

    @property
    def first_target(self) -> int | None:
        """The position of the first token to learn; None where there is none."""
        return int(self.targets[0]) if len(self.targets) else None


_NOTHING = Document([], np.empty(0, np.int32))


def documents(tokenizer: Tokenizer, row: Row, tools: Sequence[Tool] = ()) -> list[Document]:
    """What the model reads of a row of any kind: one document, or one for each of two answers. tools: what can be
    called in answer to a prompt.

    Raises ValueError for a conversation that the chat template refuses.
    """
    match row:
        case PretrainRow():
            ids = [tokenizer.bos_id, *tokenizer.encode(row.text), tokenizer.eos_id]
            return [Document(ids, np.array([1, len(ids)], np.int32))]
        case ChatRow() | LabelledRow():
            return [conversation(tokenizer, row.conversations)]
        case PreferenceRow():
            return [conversation(tokenizer, row.chosen), conversation(tokenizer, row.rejected)]
        case PromptRow():
            return [conversation(tokenizer, asked(row), tools)]
    raise TypeError(f"unknown row {type(row).__name__}")


def require_documents(row: Row) -> None:
    """Raise the ValueError that `documents` would raise for a row, without a tokenizer."""
    match row:
        case ChatRow() | LabelledRow():
            sides = [row.conversations]
        case PreferenceRow():
            sides = [row.chosen, row.rejected]
        case PromptRow():
            sides = [asked(row)]
        case _:
            return
    for messages in sides:
        special = any(message.tools or message.tool_calls for message in messages)
        # Texts alone can be written wherever their order can be, and looking at them takes longer than reading the row.
        if not messages or special or order_problem([message.role for message in messages]):
            require_renderable([message.model_dump() for message in messages])


def asked(row: PromptRow) -> list[Message]:
    """The question and its right answer as a conversation, of which only that answer is a target."""
    question, answer = Message(role="user", content=row.prompt), Message(role="assistant", content=row.answer)
    return [*(row.before or ()), question, answer]


def conversation(tokenizer: Tokenizer, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> Document:
    """A conversation as the model reads it. tools: what can be called, where it lists none itself.

    Raises ValueError for one that the chat template refuses.
    """
    lists = any(message.tools for message in messages)
    turns = [message.model_dump() | {"learn": message.learn} for message in messages]
    rendered = render(tokenizer, turns, () if lists else tools)
    edges = np.diff(np.array([False, *rendered.loss_mask, False], np.int8))
    return Document(rendered.ids, np.flatnonzero(edges).astype(np.int32))


def _written(tokenizer: Tokenizer, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> Document:
    try:
        return conversation(tokenizer, messages, tools)
    except ValueError:
        return _NOTHING


def text_bytes(tokenizer: Tokenizer, ids: ArrayLike, targets: NDArray[np.int32]) -> int:
    """UTF-8 length of the text of the targets; special tokens have none."""
    sizes_T = _sizes(tokenizer)[np.asarray(ids, np.int64)]
    return sum(int(sizes_T[start:end].sum()) for start, end in targets.reshape(-1, 2).tolist())


def learnt_bytes(tokenizer: Tokenizer, shards: TokenShards, packing: Packing) -> int:
    """UTF-8 length of the text that is predicted in one epoch: of all documents of a packing, but for lost ends."""
    documents = np.unique(packing.piece_document)
    total = int(shards.text_bytes[documents].sum(dtype=np.int64))
    if shards.conversations:
        for index in documents[shards.lengths[documents] > packing.max_seq_len]:
            lost = np.maximum(shards.targets(index), packing.max_seq_len)
            total -= text_bytes(tokenizer, shards.document(index), lost)
    return total


@lru_cache(maxsize=4)
def _sizes(tokenizer: Tokenizer) -> NDArray[np.int64]:
    """[V], how many bytes of text a token stands for."""
    special = set(tokenizer.special_ids.values())
    sizes = [0 if token in special else len(tokenizer.decode_bytes([token])) for token in range(tokenizer.vocab_size)]
    return np.array(sizes, np.int64)


def _about(batch: RowBatch, contents: list[bytes], sizes: list[int]) -> list[pa.Array]:
    """The columns bytes, digest, file and line."""
    digests = b"".join([hashlib.blake2b(content, digest_size=8).digest() for content in contents])
    return [
        pa.array(sizes, pa.int32()),
        pa.array(np.frombuffer(digests, "<u8")),
        pa.array(np.full(len(contents), batch.file, np.int32)),
        pa.array(batch.lines, pa.int64()),
    ]


def _lists(arrays: Sequence[NDArray[Any]]) -> pa.ListArray:
    offsets = np.cumsum([0, *map(len, arrays)], dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, np.concatenate(arrays))


def _no_template(tokenizer: Tokenizer) -> str:
    return ""


def _read_chats(file: RowFile, leave_out: LeaveOut) -> Iterator[tuple[int, ChatRow]]:
    return read_each(ChatRow, file, leave_out)


def _read_pairs(file: RowFile, leave_out: LeaveOut) -> Iterator[tuple[int, PreferenceRow]]:
    return read_each(PreferenceRow, file, leave_out)


def _read_labelled(file: RowFile, leave_out: LeaveOut) -> Iterator[tuple[int, LabelledRow]]:
    return read_each(LabelledRow, file, leave_out)


def _content(row: ChatRow | PreferenceRow | LabelledRow | PromptRow) -> bytes:
    """All that decides what is learnt of a row, as bytes to hash."""
    if isinstance(row, PromptRow):
        return row.model_dump_json(exclude_none=True).encode()
    messages = [*row.chosen, *row.rejected] if isinstance(row, PreferenceRow) else row.conversations
    unlearnt = [number for number, message in enumerate(messages) if not message.learn]
    return row.model_dump_json().encode() + (f" without {unlearnt}".encode() if unlearnt else b"")


def _read_questions(file: RowFile, leave_out: LeaveOut) -> Iterator[tuple[int, PromptRow]]:
    return read_each(PromptRow, file, leave_out)


def _question_characters(row: Any) -> int:
    before = sum(len(message.content) for message in row.before or ())
    return before + len(row.prompt) + len(row.answer)


def _template(tokenizer: Tokenizer) -> str:
    return f"{chat_template(tokenizer)}\nreading {READING}"


def _template_with(tokenizer: Tokenizer, tools: Sequence[Tool]) -> str:
    """Prompts that list other tools are other prompts."""
    return f"{_template(tokenizer)}\ntools {json.dumps(tools)}"


def _labelled_template(tokenizer: Tokenizer) -> str:
    """Another than for conversations: a file of these, read without its labels, becomes other documents."""
    return f"{_template(tokenizer)}\nlabels"


def _chat_characters(row: Any) -> int:
    return sum(len(m.content) + len(m.reasoning_content) for m in cast(ChatRow | LabelledRow, row).conversations)


def _pair_characters(row: Any) -> int:
    pair = cast(PreferenceRow, row)
    return sum(len(message.content) for message in (*pair.chosen, *pair.rejected))


ENCODINGS: dict[str, Encoding] = {
    "pretrain": Encoding(read_texts, len, encode_texts, _no_template, chosen_targets=False),
    "sft": Encoding(_read_chats, _chat_characters, encode_chats, _template, chosen_targets=True),
    "dpo": Encoding(_read_pairs, _pair_characters, encode_pairs, _template, chosen_targets=True, documents_per_row=2),
    "kto": Encoding(
        _read_labelled, _chat_characters, encode_labelled, _labelled_template, chosen_targets=True, documents_per_row=2
    ),
    "rl": Encoding(_read_questions, _question_characters, encode_questions, _template, chosen_targets=True),
}
"""The kinds of rows, as STAGE_ROWS calls them, that are tokenised once and for all."""


def encoding_of(rows: str, tools: Sequence[Tool] = ()) -> Encoding:
    """How rows of this kind become documents. tools: what the prompts of questions list as what can be called."""
    encoding = ENCODINGS[rows]
    if not tools:
        return encoding
    assert rows == "rl", "only prompts of questions are given tools"
    return replace(
        encoding, encode=partial(encode_questions, tools=tools), template=partial(_template_with, tools=tools)
    )
