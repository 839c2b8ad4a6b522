"""Tests for a process that was started with a job's environment; `test_tokenise.py` runs them in one.

Ray reads the token's place and the loopback setting when it is imported, which in other tests is too early.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
import ray

from data.encode import ENCODINGS
from data.prepare import tokenise
from data.read import BadRows, DataError, RowFile, iter_texts
from jobs.text.cluster_encode import encode_on_cluster
from jobs.training import launch
from minimind.text.tokenizer import Tokenizer
from tests.small import CHATS, SAMPLES, small_spec

PART_BYTES = 20_000
"""Small, so that a sample file is several parts."""


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(iter_texts(SAMPLES), vocab_size=400)


@pytest.fixture(scope="module", autouse=True)
def joined() -> Iterator[None]:
    """This process as part of the cluster."""
    launch.connect()
    yield
    ray.shutdown()


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_shards_are_the_same_to_the_last_byte(tokenizer: Tokenizer, tmp_path: Path) -> None:
    lines = SAMPLES.read_bytes().splitlines(keepends=True)
    broken = tmp_path / "broken.jsonl"
    # Blank lines and bad rows between good ones: their lines count, and a byte order mark does not.
    broken.write_bytes(
        b"\xef\xbb\xbf" + b"".join(lines[:150]) + b'\n{"text": \n' + b"".join(lines[150:]) + b'{"t": 1}\n'
    )
    packed = tmp_path / "packed.jsonl.gz"
    packed.write_bytes(gzip.compress(b"".join(reversed(lines))))
    table = pa.table({"text": [json.loads(line)["text"] for line in lines]})
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet", row_group_size=50)
    paths = [broken, packed, tmp_path / "rows.parquet", SAMPLES]
    assert [len(RowFile(path).parts(PART_BYTES)) > 1 for path in paths] == [True, False, True, True]

    progress: list[tuple[int, int, int]] = []
    here = tokenise(paths, tokenizer, tmp_path / "here", max_bad_rows=2)
    there = tokenise(
        paths,
        tokenizer,
        tmp_path / "there",
        max_bad_rows=2,
        progress=lambda *report: progress.append(report),
        pipeline=partial(encode_on_cluster, part_bytes=PART_BYTES),
    )
    assert (len(there), there.skipped_rows) == (4 * 321, 2)
    assert there.where(150) == (str(broken), 153)
    assert files_of(here.folder) == files_of(there.folder)
    read = [report[0] for report in progress]
    assert read == sorted(read)
    assert read[-1] == progress[-1][1] == sum(path.stat().st_size for path in paths)
    assert progress[-1][2] == there.tokens


def test_conversations_are_the_same_too(tokenizer: Tokenizer, tmp_path: Path) -> None:
    pipeline = partial(encode_on_cluster, part_bytes=PART_BYTES)
    here = tokenise([CHATS], tokenizer, tmp_path / "here", rows="sft")
    there = tokenise([CHATS], tokenizer, tmp_path / "there", rows="sft", pipeline=pipeline)
    assert there.conversations
    assert files_of(here.folder) == files_of(there.folder)


def test_the_row_that_is_one_too_many_is_named(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    good = json.dumps({"text": "a row that is long enough to fill a part quickly " * 20})
    path.write_text("\n".join([good] * 40 + ['{"text": 1}'] + [good] * 40 + ["{"] + [good] * 40 + ["[]", ""]))
    pipeline = partial(encode_on_cluster, part_bytes=PART_BYTES)
    with pytest.raises(DataError, match=rf"^{path}:82: broken JSON.*bad row number 2; the limit is 1") as caught:
        tokenise([path], tokenizer, tmp_path / "out", max_bad_rows=1, pipeline=pipeline)
    assert caught.value.line == 82
    assert not [entry for entry in (tmp_path / "out").iterdir() if entry.is_dir()]
    assert tokenise([path], tokenizer, tmp_path / "out", max_bad_rows=3, pipeline=pipeline).skipped_rows == 3


def test_files_that_cannot_be_read_are_named(tokenizer: Tokenizer, tmp_path: Path) -> None:
    packed = tmp_path / "packed.jsonl.gz"
    packed.write_bytes(gzip.compress(SAMPLES.read_bytes())[:-2000])
    with pytest.raises(DataError, match=f"{packed}: damaged gzip file"):
        tokenise([packed], tokenizer, tmp_path / "out", pipeline=encode_on_cluster)
    here_only = RowFile(SAMPLES)
    here_only.path = tmp_path / "elsewhere.jsonl"
    with pytest.raises(ValueError, match=f"{here_only.path} can't be read on the machine .*where every machine"):
        list(encode_on_cluster([here_only], tokenizer, BadRows(), ENCODINGS["pretrain"]))


def test_one_machine_needs_no_ray_data() -> None:
    assert launch.pipeline() is None


def test_what_is_left_open_is_what_the_cluster_has() -> None:
    cpus = int(ray.cluster_resources()["CPU"])  # type: ignore[no-untyped-call]
    scaling = launch.resolve_scaling(small_spec(scaling__workers="null")).scaling
    assert (scaling.workers, scaling.gpus_per_worker, scaling.cpus_per_worker) == (1, 0.0, cpus)
    scaling = launch.resolve_scaling(small_spec(scaling__workers=cpus)).scaling
    assert (scaling.workers, scaling.cpus_per_worker) == (cpus, 1)
    with pytest.raises(ValueError, match=f"workers = {cpus + 1}: every worker needs 1 CPU.*room for {cpus}"):
        launch.resolve_scaling(small_spec(scaling__workers=cpus + 1))
