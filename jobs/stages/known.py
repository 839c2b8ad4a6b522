"""What a frozen model says of a stage's rows, where it is not to be in memory while that trains: asked once before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from data.row_values import RowValues, Values, row_values
from data.rows import Rows
from jobs import paths
from jobs.stages.spec import RunSpec
from jobs.stages.stage import Asking, Corpus, WeightSource
from minimind.device.distributed import Parallel
from minimind.network.model import MiniMind
from minimind.training.batch import Batch
from minimind.training.precision import Precision

KNOWN = "known"
"""The folder of the cache where it is kept."""


def with_known(
    corpus: Corpus,
    spec: RunSpec,
    asking: Asking,
    weights: WeightSource,
    parallel: Parallel,
    precision: Precision,
    progress: Callable[[str, int, int], None],
) -> Corpus:
    """The corpus with what the model says of its rows: computed, or found in the cache.

    progress: told, on every rank, of which role is asked, of how much is there and of how much there will be.
    """
    device = parallel.device
    loaded: list[MiniMind] = []

    def compute(batch: Batch) -> tuple[torch.Tensor, Values]:
        if not loaded:  # where all is known already it need not be
            loaded.append(weights.role(asking.role).to(device))
        row_N, values = answered(asking, loaded[0], batch.to(device), precision)
        return torch.bincount(row_N, minlength=len(batch.rows)), values

    def of(rows: Rows[Any]) -> RowValues:
        return row_values(
            paths.cache() / KNOWN,
            rows,
            {"model": weights.fingerprint(asking.role), "dtype": precision.name, **asking.identity},
            compute,
            batch_size=spec.loop.batch_size,
            parallel=parallel,
            progress=partial(progress, asking.role),
        )

    training, held_out = asking.rows(corpus)
    return replace(corpus, known=(of(training), of(held_out)))


@torch.no_grad()
def answered(asking: Asking, model: MiniMind, batch: Batch, precision: Precision) -> tuple[torch.Tensor, Values]:
    """What the model says of a batch that is on its device."""
    with precision.autocast():
        return asking.ask(model, batch)
