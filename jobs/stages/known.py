"""What a frozen model says of a stage's rows, where it is not to be in memory while that trains: asked once before."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from data.row_values import RowValues, Values, row_values
from data.rows import Rows
from jobs import paths
from jobs.stages.spec import RunSpec
from jobs.stages.stage import Computing
from minimind.network.model import MiniMind
from minimind.training.batch import Batch

B = TypeVar("B", bound=Batch)

Ask = Callable[[MiniMind, B], tuple[Tensor, Values]]
"""(the model, a batch) -> (the row of the batch that each value is of, ascending; the values)."""


def known(
    spec: RunSpec, computing: Computing, role: str, ask: Ask[B], rows: tuple[Rows[B], Rows[B]], **identity: int | float
) -> tuple[RowValues, RowValues]:
    """What the model of a role says of the rows that are trained on, and of those that are held out.

    identity: what that depends on, beside the model, the precision and the rows.
    """
    device = computing.parallel.device
    loaded: list[MiniMind] = []

    @torch.no_grad()
    def compute(batch: B) -> tuple[Tensor, Values]:
        if not loaded:  # where all is known already it need not be
            loaded.append(computing.weights.role(role).to(device))
        with computing.precision.autocast():
            row_N, values = ask(loaded[0], batch.to(device))
        return torch.bincount(row_N, minlength=len(batch.rows)), values

    def of(each: Rows[B]) -> RowValues:
        return row_values(
            paths.cache() / "known",
            each,
            {"model": computing.weights.fingerprint(role), "dtype": computing.precision.name, **identity},
            compute,
            batch_size=spec.loop.batch_size,
            parallel=computing.parallel,
            progress=partial(computing.progress, role),
        )

    training, held_out = rows
    return of(training), of(held_out)
