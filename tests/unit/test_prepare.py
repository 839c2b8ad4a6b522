from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data.encode import ENCODINGS, Encoding
from data.prepare import EncodedBatch, data_source, encode_in_threads, tokenise
from data.read import BadRows, DataError, RowFile
from minimind.text.tokenizer import Tokenizer

TEXT = ENCODINGS["pretrain"]
TEXTS = [f"第{i}行 row number {i}. " + "更上一层楼 the river flows " * (i % 7) for i in range(3000)]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXTS[:200], vocab_size=500)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write(tmp_path / "corpus.jsonl", TEXTS)


def write(path: Path, texts: Sequence[str]) -> Path:
    lines = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_documents_are_the_texts_in_order(corpus: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    seen: list[tuple[int, int, int]] = []
    shards = tokenise([corpus], tokenizer, tmp_path / "out", progress=lambda *report: seen.append(report))
    assert len(shards) == len(TEXTS)
    for i in (0, 1, 1023, 1024, 2999):
        ids = shards.document(i).tolist()
        assert ids == [1, *tokenizer.encode(TEXTS[i]), 2]
        assert shards.where(i) == (str(corpus), i + 1)
    assert shards.text_bytes.tolist() == [len(text.encode()) for text in TEXTS]
    assert len(np.unique(shards.digests)) == len(TEXTS)
    assert shards.sources == [data_source(corpus)]
    size = corpus.stat().st_size
    assert [report[1] for report in seen] == [size] * len(seen)
    assert seen == sorted(seen)
    assert seen[-1] == (size, size, shards.tokens)
    assert not list((tmp_path / "out").glob("*.partial"))


def test_it_is_done_once(corpus: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    first = tokenise([corpus], tokenizer, tmp_path / "out")
    copy = write(tmp_path / "same content.jsonl", TEXTS)

    def never(
        files: Sequence[RowFile], tokenizer: Tokenizer, bad: BadRows, encoding: Encoding
    ) -> Iterator[EncodedBatch]:
        raise AssertionError("tokenised again")

    assert tokenise([copy], tokenizer, tmp_path / "out", pipeline=never).folder == first.folder
    other = Tokenizer.train(TEXTS[:200], vocab_size=490)
    assert tokenise([corpus], other, tmp_path / "out").folder != first.folder
    write(copy, TEXTS[1:])
    assert tokenise([copy], tokenizer, tmp_path / "out").fingerprint != first.fingerprint


def test_several_files_keep_their_order_and_lines(tokenizer: Tokenizer, tmp_path: Path) -> None:
    a, b = write(tmp_path / "a.jsonl", TEXTS[:5]), write(tmp_path / "b.jsonl", TEXTS[5:8])
    shards = tokenise([b, a], tokenizer, tmp_path / "out")
    assert [shards.where(i) for i in (0, 2, 3)] == [(str(b), 1), (str(b), 3), (str(a), 1)]
    assert [source.path for source in shards.sources] == [str(b), str(a)]
    assert tokenise([a, b], tokenizer, tmp_path / "out").fingerprint != shards.fingerprint


def test_bad_rows_are_refused_or_counted(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ["fine", "", "also fine"])
    with pytest.raises(DataError, match=r"a\.jsonl:2: the row is empty"):
        tokenise([path], tokenizer, tmp_path / "out")
    shards = tokenise([path], tokenizer, tmp_path / "out", max_bad_rows=1)
    assert (len(shards), shards.skipped_rows) == (2, 1)
    assert shards.where(1)[1] == 3
    with pytest.raises(ValueError, match="1 rows can't be used, max_bad_rows = 0"):
        tokenise([path], tokenizer, tmp_path / "out")


def test_nothing_to_tokenise(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no data files"):
        tokenise([], tokenizer, tmp_path / "out")
    with pytest.raises(ValueError, match=r"a\.jsonl: no rows; at least one text"):
        tokenise([write(tmp_path / "a.jsonl", [])], tokenizer, tmp_path / "out")
    with pytest.raises(ValueError, match="no such file"):
        tokenise([tmp_path / "b.jsonl"], tokenizer, tmp_path / "out")
    assert not [path for path in (tmp_path / "out").glob("*") if path.suffix != ".lock"]


def test_a_file_that_changes_meanwhile_is_refused(corpus: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    def meanwhile(
        files: Sequence[RowFile], tokenizer: Tokenizer, bad: BadRows, encoding: Encoding
    ) -> Iterator[EncodedBatch]:
        yield from encode_in_threads(files, tokenizer, bad, encoding)
        write(corpus, TEXTS[:-1])

    with pytest.raises(ValueError, match=r"corpus\.jsonl changed while it was read"):
        tokenise([corpus], tokenizer, tmp_path / "out", pipeline=meanwhile)
    assert not list((tmp_path / "out").glob("*[!k]"))


def test_the_same_shards_at_once_are_made_once(corpus: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    made: list[int] = []

    def counting(
        files: Sequence[RowFile], tokenizer: Tokenizer, bad: BadRows, encoding: Encoding
    ) -> Iterator[EncodedBatch]:
        made.append(1)
        yield from encode_in_threads(files, tokenizer, bad, encoding)

    threads = [
        threading.Thread(target=tokenise, args=([corpus], tokenizer, tmp_path / "out"), kwargs={"pipeline": counting})
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]


def test_a_kill_leaves_nothing_that_is_taken_for_shards(corpus: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    killed = _run_tokenise(corpus, tokenizer, tmp_path, "os.kill(os.getpid(), 9)")
    assert killed.returncode == -signal.SIGKILL
    assert [path.suffix for path in sorted((tmp_path / "out").iterdir())] == [".lock", ".partial"]
    shards = tokenise([corpus], tokenizer, tmp_path / "out")
    assert len(shards) == len(TEXTS)
    assert not list((tmp_path / "out").glob("*.partial"))


def test_a_full_disk_is_said_and_leaves_nothing(corpus: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    full = _run_tokenise(corpus, tokenizer, tmp_path, "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))")
    assert full.returncode == 1
    assert "OSError: tokenising into" in full.stderr
    assert "File too large" in full.stderr
    assert "are free there" in full.stderr
    assert [path.suffix for path in (tmp_path / "out").iterdir()] == [".lock"]
    assert len(tokenise([corpus], tokenizer, tmp_path / "out")) == len(TEXTS)


def _run_tokenise(
    corpus: Path, tokenizer: Tokenizer, tmp_path: Path, at_first_progress: str
) -> subprocess.CompletedProcess[str]:
    tokenizer.save(tmp_path / "tokenizer")
    program = f"""
import os, resource, sys
from data.prepare import tokenise
from minimind.text.tokenizer import Tokenizer
def progress(*report): {at_first_progress}
tokenise([sys.argv[1]], Tokenizer.load(sys.argv[2]), sys.argv[3], progress=progress)
"""
    command = [sys.executable, "-c", program, str(corpus), str(tmp_path / "tokenizer"), str(tmp_path / "out")]
    root = Path(__file__).parents[2]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)


def test_worker_count_changes_nothing(corpus: Path, tokenizer: Tokenizer) -> None:
    def tokens(num_workers: int) -> list[pa.RecordBatch]:
        batches = encode_in_threads([RowFile(corpus)], tokenizer, BadRows(), TEXT, num_workers)
        return [batch.documents for batch in batches]

    assert tokens(1) == tokens(4)
