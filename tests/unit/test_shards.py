from __future__ import annotations

import json
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import data.shards
from data.encode import RowBatch, encode_texts
from data.shards import MANIFEST, ShardWriter, Source, TokenShards, shard_schema, shards_fingerprint
from minimind.text.tokenizer import Tokenizer

SOURCE = Source("/data/a.jsonl", 10, "5e" * 32)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["白日依山尽 the sun"] * 3, vocab_size=300)


def written(folder: Path, tokenizer: Tokenizer, batches: list[list[str]]) -> Path:
    schema = shard_schema(tokenizer.vocab_size)
    folder.mkdir()
    with ShardWriter(folder, schema) as writer:
        for texts in batches:
            writer.write(encode_texts(tokenizer, RowBatch(0, list(range(1, len(texts) + 1)), texts, 0), schema))
        writer.finish([SOURCE], tokenizer.fingerprint, skipped_rows=4)
    return folder


def test_what_is_written_is_read(tokenizer: Tokenizer, tmp_path: Path) -> None:
    shards = TokenShards.open(
        written(tmp_path / "a", tokenizer, [["白日", "依山尽"], [], ["the sun"]]), tokenizer.fingerprint
    )
    assert len(shards) == 3
    assert [tokenizer.decode(shards.document(i)[1:-1].tolist()) for i in range(3)] == ["白日", "依山尽", "the sun"]
    assert shards.lengths.dtype == np.int32
    assert shards.lengths.tolist() == [len(shards.document(i)) for i in range(3)]
    assert shards.tokens == shards.lengths.sum()
    assert shards.text_bytes.tolist() == [6, 9, 7]
    assert shards.document(0).dtype == np.uint16
    assert shards.where(2) == ("/data/a.jsonl", 1)
    assert (shards.sources, shards.skipped_rows) == ([SOURCE], 4)
    assert shards.fingerprint == shards_fingerprint([SOURCE], tokenizer.fingerprint)


def test_the_digest_is_of_the_text(tokenizer: Tokenizer, tmp_path: Path) -> None:
    shards = TokenShards.open(written(tmp_path / "a", tokenizer, [["a", "b"], ["a"]]), tokenizer.fingerprint)
    a, b, again = shards.digests.tolist()
    assert a == again != b


def test_documents_are_views_into_the_file(tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = written(tmp_path / "a", tokenizer, [["the sun " * 30_000]] * 3)
    tracemalloc.start()
    shards = TokenShards.open(folder, tokenizer.fingerprint)
    assert shards.document(1)[-1] == tokenizer.eos_id
    assert tracemalloc.get_traced_memory()[1] < 100_000 < shards.tokens
    tracemalloc.stop()
    assert not shards.document(1).flags.owndata


def test_large_sets_take_several_files(tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data.shards, "_FILE_BYTES", 1000)
    monkeypatch.setattr(data.shards, "BATCH_DOCUMENTS", 2)
    texts = [[f"the sun {i}"] for i in range(20)]
    folder = written(tmp_path / "a", tokenizer, texts)
    assert len(list(folder.glob("tokens-*.arrow"))) > 2
    shards = TokenShards.open(folder, tokenizer.fingerprint)
    assert [[tokenizer.decode(shards.document(i)[1:-1].tolist())] for i in range(20)] == texts


def test_however_documents_are_written_the_bytes_are_the_same(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data.shards, "BATCH_DOCUMENTS", 5)
    monkeypatch.setattr(data.shards, "BATCH_TOKENS", 120)
    monkeypatch.setattr(data.shards, "_FILE_BYTES", 4000)
    schema = shard_schema(tokenizer.vocab_size)
    texts = ["the sun " * (i * 7 % 11) for i in range(60)]
    everything = encode_texts(tokenizer, RowBatch(0, list(range(60)), texts, 0), schema)
    folders: list[dict[str, bytes]] = []
    for cuts in ([0, 60], [*range(61)], [0, 1, 1, 13, 14, 50, 60]):
        folder = tmp_path / str(len(folders))
        folder.mkdir()
        with ShardWriter(folder, schema) as writer:
            for begin, end in pairwise(cuts):
                writer.write(everything.slice(begin, end - begin))
            writer.finish([SOURCE], tokenizer.fingerprint, skipped_rows=0)
        folders.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert folders[0] == folders[1] == folders[2]
    assert len(folders[0]) > 2
    shards = TokenShards.open(tmp_path / "0", tokenizer.fingerprint)
    assert [tokenizer.decode(shards.document(i)[1:-1].tolist()) for i in range(60)] == texts
    batches = [len(batch) for batch in shards._batches]
    assert max(batches) == 5
    assert min(batches[:-1]) < 5  # a batch ends with the document that brings it to its tokens


def test_ids_take_two_bytes_where_they_can() -> None:
    assert shard_schema(65536).field("tokens").type == pa.list_(pa.uint16())
    assert shard_schema(65537).field("tokens").type == pa.list_(pa.uint32())


def test_the_fingerprint_is_of_content_order_and_tokenizer() -> None:
    other = Source("/elsewhere.jsonl", 10, "ab" * 32)
    moved = Source("/moved.jsonl", 10, SOURCE.sha256)
    assert shards_fingerprint([SOURCE, other], "t") == shards_fingerprint([moved, other], "t")
    assert len({shards_fingerprint([SOURCE, other], "t"), shards_fingerprint([other, SOURCE], "t")}) == 2
    assert shards_fingerprint([SOURCE], "t") != shards_fingerprint([SOURCE], "u")


def test_another_tokenizer_is_refused_with_both_fingerprints(tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = written(tmp_path / "a", tokenizer, [["a"]])
    with pytest.raises(ValueError, match=f"another tokenizer.*{tokenizer.fingerprint}, this one's is abc.*again"):
        TokenShards.open(folder, "abc")


def test_damage_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = written(tmp_path / "a", tokenizer, [["a"]])
    file, manifest = folder / "tokens-00000.arrow", folder / MANIFEST
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    with pytest.raises(
        ValueError, match=rf"{file} has {len(content) - 1} bytes, {len(content)} bytes.*delete {folder}"
    ):
        TokenShards.open(folder, tokenizer.fingerprint)
    file.unlink()
    with pytest.raises(ValueError, match="tokens-00000.arrow is missing"):
        TokenShards.open(folder, tokenizer.fingerprint)
    manifest.write_text(json.dumps({"schema_version": 99}), encoding="utf-8")
    with pytest.raises(ValueError, match="shards of format 99, this version reads 1"):
        TokenShards.open(folder, tokenizer.fingerprint)
    manifest.write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="can't be read"):
        TokenShards.open(folder, tokenizer.fingerprint)
    manifest.unlink()
    with pytest.raises(ValueError, match=f"no token shards at {folder}"):
        TokenShards.open(folder, tokenizer.fingerprint)
