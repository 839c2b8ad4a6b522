from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data.encode import (
    ENCODINGS,
    Document,
    RowBatch,
    conversation,
    documents,
    encode_chats,
    encode_labelled,
    encode_texts,
    learnt_bytes,
    text_bytes,
)
from data.pack import pack_shards
from data.prepare import tokenise
from data.read import BadRows, RowFile
from data.schema import ChatRow, LabelledRow, Message, PreferenceRow, PretrainRow, PromptRow, Row, parse
from data.shards import TokenShards, shard_schema
from minimind.text.tokenizer import Tokenizer
from tests.small import CHATS, turns, write_chats, write_rows

SFT = ENCODINGS["sft"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["更上一层楼 the river flows"] * 3, vocab_size=320)


@pytest.fixture(scope="module")
def shards(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> TokenShards:
    """A conversation of one question, one of two, one without an answer, and one that begins with an answer."""
    rows = [turns("q", "yes"), turns("first", "更上", "then", "no"), turns("q"), turns("q", "a")[::-1]]
    path = tmp_path_factory.mktemp("encode") / "chats.jsonl"
    path.write_text("".join(json.dumps({"conversations": row}) + "\n" for row in rows))
    return tokenise([path], tokenizer, path.parent, rows="sft")


def learnt(tokenizer: Tokenizer, document: Document) -> list[str]:
    """The texts of the spans."""
    return [tokenizer.decode(document.ids[begin:end]) for begin, end in document.targets.reshape(-1, 2).tolist()]


def chat(*contents: str) -> ChatRow:
    return parse(ChatRow, {"conversations": turns(*contents)})


def test_batches_are_of_bounded_size(tmp_path: Path) -> None:
    short = write_rows(tmp_path / "short.jsonl", [f"row {number}" for number in range(3000)])
    long = write_rows(tmp_path / "long.jsonl", ["x" * 600_000] * 3)
    batches = list(ENCODINGS["pretrain"].batches([RowFile(short), RowFile(long)], BadRows().leave_out))
    assert [(batch.file, len(batch.rows)) for batch in batches] == [(0, 1024), (0, 1024), (0, 952), (1, 2), (1, 1)]
    assert batches[-1].read_bytes == short.stat().st_size + long.stat().st_size
    assert batches[1].lines[0] == 1025
    chats = write_chats(tmp_path / "chats.jsonl", [("x" * 400_000, "y" * 400_000)] * 3)
    assert [len(batch.rows) for batch in SFT.batches([RowFile(chats)], BadRows().leave_out)] == [2, 1]


def test_encode_texts_alone(tokenizer: Tokenizer) -> None:
    batch = RowBatch(file=3, lines=[7, 9], rows=["层楼", ""], read_bytes=0)
    rows = encode_texts(tokenizer, batch, shard_schema(tokenizer.vocab_size)).to_pylist()
    assert rows[0]["tokens"] == [1, *tokenizer.encode("层楼"), 2]
    assert rows[1] | {"digest": 0} == {"tokens": [1, 2], "bytes": 0, "digest": 0, "file": 3, "line": 9}
    wide = encode_texts(tokenizer, batch, shard_schema(1 << 17))
    assert wide.column("tokens").type == pa.list_(pa.uint32())
    assert wide.to_pylist() == rows


def test_encode_chats_alone(tokenizer: Tokenizer) -> None:
    batch = RowBatch(file=1, lines=[4, 6], rows=[chat("q", "yes"), chat("q", "no", "q", "yes")], read_bytes=0)
    rows = encode_chats(tokenizer, batch, SFT.schema(tokenizer)).to_pylist()
    for row, found in zip(batch.rows, rows, strict=True):
        document = conversation(tokenizer, row.conversations)
        assert (found["tokens"], found["targets"]) == (document.ids, document.targets.tolist())
    assert [(row["bytes"], row["file"], row["line"]) for row in rows] == [(3, 1, 4), (5, 1, 6)]
    assert rows[0]["digest"] != rows[1]["digest"]


def test_the_side_of_a_labelled_answer_says_its_label(tokenizer: Tokenizer, tmp_path: Path) -> None:
    rows = [{"conversations": turns("q", "yes"), "label": True}, {"conversations": turns("q", "no"), "label": False}]
    parsed = [parse(LabelledRow, row) for row in rows]
    batch = RowBatch(file=1, lines=[4, 6], rows=parsed, read_bytes=0)
    found = encode_labelled(tokenizer, batch, ENCODINGS["kto"].schema(tokenizer)).to_pylist()
    good, bad = (conversation(tokenizer, row.conversations) for row in parsed)
    assert [row["tokens"] for row in found] == [good.ids, [], [], bad.ids]
    assert [row["targets"] for row in found] == [good.targets.tolist(), [], [], bad.targets.tolist()]
    assert [(row["bytes"], row["line"]) for row in found] == [(3, 4), (0, 4), (0, 6), (2, 6)]
    assert [row["digest"] == found[0]["digest"] for row in found] == [True, True, False, False]

    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shards = tokenise([path], tokenizer, tmp_path, rows="kto")
    assert (shards.rows, shards.documents_per_row, len(shards)) == (2, 2, 4)
    assert shards.document(3).tolist() == bad.ids
    assert tokenise([path], tokenizer, tmp_path, rows="sft").folder != shards.folder  # read without their labels


def test_a_label_and_what_is_learnt_are_part_of_what_a_row_is(tokenizer: Tokenizer) -> None:
    asked, said = turns("q", "a")
    rows = [
        {"conversations": [asked, said], "label": True},
        {"conversations": [asked, said], "label": False},
        {"conversations": [asked, said, asked, said], "label": True},
        {"conversations": [asked, said, asked, {**said, "weight": 0}], "label": True},
    ]
    batch = RowBatch(0, [1, 2, 3, 4], [parse(LabelledRow, row) for row in rows], 0)
    found = encode_labelled(tokenizer, batch, ENCODINGS["kto"].schema(tokenizer)).to_pylist()
    assert len({row["digest"] for row in found}) == len(rows)


def test_what_the_assistant_says_is_learnt_and_its_end(tokenizer: Tokenizer) -> None:
    document = conversation(tokenizer, chat("first", "更上", "then", "no").conversations)
    assert learnt(tokenizer, document) == ["更上<|im_end|>", "no<|im_end|>"]
    assert document.first_target == document.ids.index(tokenizer.encode("更上")[0])
    thinking = Message(role="assistant", content="no", reasoning_content="hm")
    document = conversation(tokenizer, [Message(role="user", content="q"), thinking])
    assert learnt(tokenizer, document) == ["<think>\nhm\n</think>\n\nno<|im_end|>"]
    assert text_bytes(tokenizer, document.ids, document.targets) == len("\nhm\n\n\nno")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (PretrainRow(text="ab"), [["ab<|im_end|>"]]),
        (chat("q", "yes"), [["yes<|im_end|>"]]),
        (PromptRow(prompt="q", answer="yes"), [["yes<|im_end|>"]]),
        (parse(LabelledRow, {"prompt": "q", "completion": "yes", "label": True}), [["yes<|im_end|>"]]),
        (
            parse(PreferenceRow, {"chosen": turns("q", "yes"), "rejected": turns("q", "no")}),
            [["yes<|im_end|>"], ["no<|im_end|>"]],
        ),
    ],
)
def test_the_documents_of_every_kind_of_row(tokenizer: Tokenizer, row: Row, expected: list[list[str]]) -> None:
    assert [learnt(tokenizer, document) for document in documents(tokenizer, row)] == expected


def test_shards_name_their_targets(tokenizer: Tokenizer, shards: TokenShards) -> None:
    assert shards.conversations
    for index, row in enumerate([chat("q", "yes"), chat("first", "更上", "then", "no")]):
        document = conversation(tokenizer, row.conversations)
        assert shards.document(index).tolist() == document.ids
        assert shards.targets(index).flatten().tolist() == document.targets.tolist()
    assert shards.text_bytes.tolist() == [3, 8, 0, 0]
    first = [int(shards.targets(index)[0, 0]) for index in (0, 1)]
    assert shards.first_targets.tolist() == [*first, shards.lengths[2], 0]
    assert shards.targets(2).shape == (0, 2)


def test_what_the_template_refuses_has_no_tokens_and_the_line_stays(shards: TokenShards) -> None:
    assert len(shards) == 4
    assert shards.lengths[3] == 0
    assert shards.where(3)[1] == 4
    assert sorted(pack_shards(shards, 64).piece_document.tolist()) == [0, 1]


def test_bad_rows_are_left_out_and_counted(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = write_chats(tmp_path / "chats.jsonl", [("q", "a"), ("q", "b")])
    path.write_text(path.read_text() + '{"text": "of another stage"}\n')
    with pytest.raises(ValueError, match=r"chats\.jsonl:3: this is plain text: use --stage pretrain"):
        tokenise([path], tokenizer, tmp_path, rows="sft")
    found = tokenise([path], tokenizer, tmp_path, rows="sft", max_bad_rows=1)
    assert (len(found), found.skipped_rows) == (2, 1)


def test_the_bytes_of_a_lost_end_do_not_count(tokenizer: Tokenizer, tmp_path: Path) -> None:
    rows = [("q", "a" * 30), ("q", "b")]
    found = tokenise([write_chats(tmp_path / "chats.jsonl", rows)], tokenizer, tmp_path, rows="sft")
    width = int(found.first_targets[0]) + 12
    packing = pack_shards(found, width)
    assert learnt_bytes(tokenizer, found, packing) == 12 + 1
    assert learnt_bytes(tokenizer, found, pack_shards(found, 100)) == 30 + 1
    plain = tokenise([write_rows(tmp_path / "rows.jsonl", ["a" * 30, "bb"])], tokenizer, tmp_path)
    assert learnt_bytes(tokenizer, plain, pack_shards(plain, 8)) == 32


def test_text_and_conversations_and_another_template_are_other_shards(tokenizer: Tokenizer, tmp_path: Path) -> None:
    both = {"text": "a", "conversations": turns("q", "a")}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(both) + "\n")
    plain, chats = (tokenise([path], tokenizer, tmp_path, rows=rows) for rows in ("pretrain", "sft"))
    assert plain.folder != chats.folder
    assert not plain.conversations
    assert plain.targets(0).tolist() == [[1, 3]]
    assert plain.first_targets.tolist() == [1]
    assert ENCODINGS["pretrain"].template(tokenizer) == ""
    assert "<|im_start|>" in SFT.template(tokenizer)


def test_the_samples_are_all_learnt_from(tokenizer: Tokenizer, tmp_path: Path) -> None:
    found = tokenise([CHATS], tokenizer, tmp_path, rows="sft")
    rows = len(CHATS.read_text("utf-8").splitlines())
    assert len(found) == rows > 300
    assert (found.first_targets < found.lengths).all()
    packing = pack_shards(found, 1000)
    assert np.unique(packing.piece_document).tolist() == list(range(rows))
