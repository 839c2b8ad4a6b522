"""What a frozen model says of rows: computed once, kept on disk, read beside the rows.

A folder of values holds `part-00000.safetensors`, ..., the values of PART_ROWS rows each, and, written last,
`manifest.json`, which says what they are of and what the sha256 of each part is. A part is there whole or not at all,
so whoever is killed goes on with the next.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from filelock import FileLock
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from data.rows import Ints, Rows
from minimind.checkpoints.manifest import sha256_of, sync
from minimind.device.distributed import Parallel
from minimind.language import say
from minimind.training.batch import Batch

B = TypeVar("B", bound=Batch)

FORMAT = 1
MANIFEST = "manifest.json"
LOCK = ".lock"
PART_ROWS = 64
_OFFSETS = "offsets"

Values = dict[str, Tensor]
"""Values by name, each [values, ...], those of a row one after the other."""

Compute = Callable[[B], tuple[Tensor, Values]]
"""(how many values each row of a batch has, the values), on any device."""


class RowValues:
    """The values of numbered rows."""

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        """Raises ValueError where they are not there, damaged, or of something else than `identity` says."""
        again = say("delete {folder}, and they are computed again", folder=folder)
        try:
            manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
            known = manifest["format"], manifest["identity"]
            self.parts = [folder / name for name in manifest["parts"]]
            for part, sha256 in zip(self.parts, manifest["parts"].values(), strict=True):
                if sha256_of(part) != sha256:
                    raise ValueError(say("{part} is damaged", part=part))
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(
                say("the values in {folder} can't be read ({error}): {again}", folder=folder, error=error, again=again)
            ) from None
        if known != (FORMAT, _plain(identity)):
            raise ValueError(
                say(
                    "the values in {folder} are of other rows, or of another model: {again}", folder=folder, again=again
                )
            )
        # safetensors has no types; what is opened is mapped, and read where it is asked for.
        self._open: list[Any] = [safe_open(part, framework="pt") for part in self.parts]
        self._offsets: list[Tensor] = [part.get_tensor(_OFFSETS) for part in self._open]
        self.names = tuple(name for name in self._open[0].keys() if name != _OFFSETS)  # noqa: SIM118  # no mapping

    def of(self, rows: Sequence[int]) -> Values:
        """The values of these rows, in this order."""
        found: dict[str, list[Tensor]] = {name: [] for name in self.names}
        for row in rows:
            part, place = divmod(row, PART_ROWS)
            begin, end = self._offsets[part][place : place + 2].tolist()
            for name in self.names:
                found[name].append(self._open[part].get_slice(name)[begin:end])
        return {name: torch.cat(tensors) for name, tensors in found.items()}


class RowsWithValues(Generic[B]):
    """Rows whose batches carry what a frozen model says of them. add: a batch, the values of its rows -> with them."""

    beside: int = 0

    def __init__(self, rows: Rows[B], values: RowValues, add: Callable[[B, Values], B]) -> None:
        self.rows, self.values, self._add = rows, values, add
        self.count = rows.count
        self.block: Ints | None = rows.block

    def identity(self) -> dict[str, Any]:
        """That of the rows: whose values they carry does not change which they are."""
        return self.rows.identity()

    def batch(self, rows: Sequence[int]) -> B:
        """The rows of these numbers, in this order, with their values."""
        return self._add(self.rows.batch(rows), self.values.of(rows))


def row_values(
    root: Path,
    rows: Rows[B],
    identity: Mapping[str, Any],
    compute: Compute[B],
    *,
    batch_size: int,
    parallel: Parallel,
    progress: Callable[[int, int], None],
) -> RowValues:
    """The values of all rows, in a folder of `root`: computed where they are not there, each rank its share of the
    parts.

    identity: what the values depend on beside the rows: the model, the precision. batch_size: rows computed at once.
    progress: told of the parts that are there, and of how many there will be.

    Raises ValueError for a folder that is damaged, OSError where the disk is full; what is there by then is kept.
    """
    whole = {**identity, "rows": rows.identity()}
    folder = root / hashlib.sha256(json.dumps(_plain(whole), sort_keys=True).encode()).hexdigest()[:24]
    if all(parallel.gather((folder / MANIFEST).exists())):
        return RowValues(folder, whole)

    def begin() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if parallel.rank == 0:  # for all ranks: another run may compute the same values
            held.enter_context(FileLock(folder / LOCK))

    def end() -> None:
        if parallel.rank == 0:
            parts = {part.name: sha256_of(part) for part in _parts(folder, rows.count)}
            manifest = {"format": FORMAT, "identity": _plain(whole), "parts": parts}
            _write(folder / MANIFEST, json.dumps(manifest, indent=1).encode())

    with ExitStack() as held:
        _together(parallel, folder, begin)
        _together(parallel, folder, lambda: _compute_parts(folder, rows, compute, batch_size, parallel, progress))
        _together(parallel, folder, end)
    return RowValues(folder, whole)


def _together(parallel: Parallel, folder: Path, work: Callable[[], None]) -> None:
    """Work of all ranks, each of which goes on when all are done. Raises OSError on all of them where one has it."""
    problem = ""
    try:
        work()
    except OSError as error:
        problem = say(
            "writing what a model says of the rows into {folder} failed: {error}. What was computed is kept: "
            "make room, or set MINIMIND_HOME to another disk, and start again.",
            folder=folder,
            error=error,
        )
    if problem := next(filter(None, parallel.gather(problem)), ""):
        raise OSError(problem)


def _compute_parts(
    folder: Path,
    rows: Rows[B],
    compute: Compute[B],
    batch_size: int,
    parallel: Parallel,
    progress: Callable[[int, int], None],
) -> None:
    parts = _parts(folder, rows.count)
    for number in range(parallel.rank, len(parts), parallel.world):
        if parts[number].exists():
            continue
        numbers = range(number * PART_ROWS, min((number + 1) * PART_ROWS, rows.count))
        counts: list[int] = []
        found: dict[str, list[Tensor]] = {}
        for start in range(0, len(numbers), batch_size):
            count, values = compute(rows.batch(numbers[start : start + batch_size]))
            counts += count.tolist()
            for name, tensor in values.items():
                found.setdefault(name, []).append(tensor.cpu())
        offsets = torch.from_numpy(np.cumsum([0, *counts]))
        tensors = {name: torch.cat(pieces) for name, pieces in found.items()}
        _write(parts[number], save({_OFFSETS: offsets, **tensors}))
        progress(min(number + parallel.world, len(parts)), len(parts))


def _parts(folder: Path, rows: int) -> list[Path]:
    return [folder / f"part-{number:05d}.safetensors" for number in range(-(-rows // PART_ROWS))]


def _write(path: Path, content: bytes) -> None:
    """A file that is there whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_bytes(content)
        sync(partial)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    if os.name == "posix":
        sync(path.parent)


def _plain(value: Mapping[str, Any]) -> Any:
    """As JSON gives it back."""
    return json.loads(json.dumps(value))
