"""What a frozen model says of rows, kept on disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import data.row_values
from data.row_values import LOCK, MANIFEST, RowsWithValues, RowValues, Values, row_values
from data.rows import Ints
from minimind.device.distributed import Parallel
from minimind.training.batch import WholeRows
from tests.ranks import run_ranks

IDENTITY = {"model": "abc", "dtype": "float32"}


@dataclass(frozen=True)
class Counted(WholeRows):
    said_M: Tensor | None = None


class Rows:
    """Row r has r % 4 values, r, r + 1/4, ..."""

    beside = 0
    block: Ints | None = None

    def __init__(self, count: int = 150, name: str = "rows") -> None:
        self.count, self.name = count, name

    def identity(self) -> dict[str, Any]:
        return {"data": self.name}

    def batch(self, rows: Sequence[int]) -> Counted:
        return Counted(tuple(rows))


def expected(rows: Sequence[int]) -> Tensor:
    return torch.tensor([row + part / 4 for row in rows for part in range(row % 4)])


class Model:
    """Says what is expected, and counts how many rows it was asked about."""

    def __init__(self, dies_after: int | None = None) -> None:
        self.asked, self.dies_after = 0, dies_after

    def __call__(self, batch: Counted) -> tuple[Tensor, Values]:
        self.asked += len(batch.rows)
        if self.dies_after is not None and self.asked > self.dies_after:
            raise KeyboardInterrupt
        values = expected(batch.rows)
        return torch.tensor([row % 4 for row in batch.rows]), {"one": values, "two": torch.stack([values] * 2, 1)}


def made(folder: Path, model: Model, rows: Rows | None = None, parallel: Parallel | None = None) -> RowValues:
    return row_values(
        folder, rows or Rows(), IDENTITY, model, batch_size=7, parallel=parallel or Parallel(), progress=lambda *_: None
    )


def test_values_are_computed_once_and_read_in_any_order(tmp_path: Path) -> None:
    model = Model()
    values = made(tmp_path, model)
    assert model.asked == 150
    rows = [149, 3, 64, 0, 63]
    assert torch.equal(values.of(rows)["one"], expected(rows))
    assert values.of(rows)["two"].shape == (len(expected(rows)), 2)
    again = Model()
    assert torch.equal(made(tmp_path, again).of(rows)["one"], expected(rows))
    assert again.asked == 0


def test_a_batch_carries_the_values_of_its_rows(tmp_path: Path) -> None:
    rows = RowsWithValues(Rows(), made(tmp_path, Model()), lambda batch, values: Counted(batch.rows, values["one"]))
    assert (rows.count, rows.block, rows.identity()) == (150, None, Rows().identity())
    said = rows.batch([5, 66]).said_M
    assert said is not None
    assert torch.equal(said, expected([5, 66]))


def test_whoever_is_killed_goes_on_with_the_next_part(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path, Model(dies_after=100))
    again = Model()
    assert torch.equal(made(tmp_path, again).of(range(150))["one"], expected(range(150)))
    assert again.asked == 150 - 64


def test_values_of_other_rows_or_of_another_model_are_other_values(tmp_path: Path) -> None:
    made(tmp_path, Model())
    other = Model()
    made(tmp_path, other, Rows(name="others"))
    assert other.asked == 150
    (mine, _) = sorted(tmp_path.iterdir(), key=lambda folder: folder.stat().st_mtime)
    with pytest.raises(ValueError, match="are of other rows, or of another model: delete .*computed again"):
        RowValues(mine, {**IDENTITY, "model": "xyz", "rows": Rows().identity()})


@pytest.mark.parametrize("harm", ["damaged", "gone", "unreadable"])
def test_damaged_values_are_refused(tmp_path: Path, harm: str) -> None:
    made(tmp_path, Model())
    (folder,) = tmp_path.iterdir()
    part = folder / "part-00001.safetensors"
    if harm == "damaged":
        content = bytearray(part.read_bytes())
        content[-1] ^= 1
        part.write_bytes(content)
    elif harm == "gone":
        part.unlink()
    else:
        (folder / MANIFEST).write_text(json.dumps({"format": 1}), "utf-8")
    with pytest.raises(ValueError, match=f"the values in {folder} can't be read .*delete {folder}, and they are"):
        made(tmp_path, Model())


def test_a_full_disk_is_said_and_what_is_there_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = data.row_values._write

    def full(path: Path, content: bytes) -> None:
        if path.name == "part-00001.safetensors":
            raise OSError(28, "No space left on device")
        write(path, content)

    monkeypatch.setattr(data.row_values, "_write", full)
    with pytest.raises(OSError, match=r"failed: .*No space left on device\. What was computed is kept: make room"):
        made(tmp_path, Model())
    (folder,) = tmp_path.iterdir()
    assert {file.name for file in folder.iterdir()} == {LOCK, "part-00000.safetensors"}
    monkeypatch.undo()
    again = Model()
    made(tmp_path, again)
    assert again.asked == 150 - 64


def test_a_part_that_could_not_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        data.row_values._write(tmp_path / "x", b"abc")
    assert [file.name for file in tmp_path.iterdir()] == ["x"]


def share(folder: Path, parallel: Parallel) -> tuple[int, int]:
    """How many parts there are, and how many rows this rank asked its model about."""
    model = Model()
    return len(made(folder, model, parallel=parallel).parts), model.asked


def test_ranks_compute_a_share_each(tmp_path: Path) -> None:
    folder = tmp_path / "known"
    found = run_ranks(2, partial(share, folder), tmp_path)
    assert found == [(3, 64 + 22), (3, 64)]
    assert torch.equal(made(folder, Model()).of(range(150))["one"], expected(range(150)))


def alone(folder: Path, parallel: Parallel) -> bool:
    """Whether a run of its own gets the values, however many others compute the same."""
    rows = Rows(64 * 50)
    values = made(folder, Model(), rows).of(range(rows.count))["one"]
    return torch.equal(values, expected(range(rows.count)))


def test_runs_that_compute_the_same_values_at_once_are_not_in_each_others_way(tmp_path: Path) -> None:
    assert run_ranks(2, partial(alone, tmp_path / "known"), tmp_path) == [True, True]
