"""What the loop feeds an objective: tensors with their shapes in their names.

Shape letters, used all over the project: B rows, T tokens, V vocabulary, D hidden, H query heads, K key/value heads,
E head width, L layers, G group size, N prompts x G.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol, Self

import torch
from torch import Tensor
from torch.nn import functional as F


class Batch(Protocol):
    """What the loop asks of a micro-batch of any stage."""

    @property
    def rows(self) -> tuple[int, ...]:
        """Which rows of the data these are."""
        ...

    @property
    def real_tokens(self) -> int:
        """How many tokens are not padding."""
        ...

    @property
    def slots(self) -> int:
        """How many tokens are computed, padding included."""
        ...

    @property
    def width(self) -> int:
        """How many tokens a row has; 0 where rows make sense only whole."""
        ...

    def to(self, device: torch.device) -> Self:
        """The same batch on another device."""
        ...

    def split(self, rows: int) -> Sequence[Self]:
        """The same rows in order, as batches of at most n each: their losses add up to that of the whole."""
        ...

    def halved(self) -> Self:
        """Each row as two of half its length; asked of batches with a width alone."""
        ...


@dataclass(frozen=True)
class Movable:
    """Base of batches, frozen dataclasses among whose fields are tensors."""

    def tensors(self) -> dict[str, Tensor]:
        """Those that are not None, by the names of their fields."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def to(self, device: torch.device) -> Self:
        """The same batch on another device."""
        moved: dict[str, Any] = {name: tensor.to(device, non_blocking=True) for name, tensor in self.tensors().items()}
        return replace(self, **moved)


@dataclass(frozen=True)
class WholeRows(Movable):
    """Base of batches whose rows make sense only whole: a frozen dataclass of tensors, all with one entry a row.

    rows: which rows of the data these are. What a stage adds are fields, and `real_tokens` where some are padding.
    """

    rows: tuple[int, ...]

    @property
    def real_tokens(self) -> int:
        """How many tokens are not padding."""
        return self.slots

    @property
    def slots(self) -> int:
        """How many token ids there are, padding included: those of all fields of int64."""
        return sum(tensor.numel() for tensor in self.tensors().values() if tensor.dtype == torch.int64)

    @property
    def width(self) -> int:
        """0: rows are not cut."""
        return 0

    def split(self, rows: int) -> list[Self]:
        """The same rows in order, as batches of at most n each."""
        parts = [slice(start, start + rows) for start in range(0, len(self.rows), rows)]
        tensors = self.tensors()
        return [
            replace(self, rows=self.rows[part], **{name: tensor[part] for name, tensor in tensors.items()})
            for part in parts
        ]

    def halved(self) -> Self:
        """Raises TypeError: rows are not cut."""
        raise TypeError(f"the rows of a {type(self).__name__} make sense only whole")


class Segmented(Movable):
    """Base of batches of packed rows. segment_BT: int32, which document of its row a token belongs to; 0 is padding."""

    tokens_BT: Tensor
    segment_BT: Tensor

    @property
    def real_tokens(self) -> int:
        """How many of the tokens are not padding."""
        return int((self.segment_BT > 0).sum())

    @property
    def slots(self) -> int:
        """How many tokens are computed, padding included."""
        return self.tokens_BT.numel()


@dataclass(frozen=True)
class TokenBatch(Segmented):
    """Packed rows of token ids. No shifted labels: the objective does the one shift there is.

    tokens_BT: int64 token ids.
    loss_mask_BT: bool, True where the token itself is to be predicted. Never True on the first token of a segment.
    segment_BT: int32, which document of its row a token belongs to: 1, 2, ...; 0 is padding. Attention stays inside a
        segment and positions restart with it.
    rows: which rows of the packed data these are, so that a bad step can name its data.
    predicted_N: int64, where in [B x T] the mask is True. Found when the batch is made, on the CPU: in the step it
        would be a shape that depends on data, for which a GPU has to be waited for.
    """

    tokens_BT: Tensor
    loss_mask_BT: Tensor
    segment_BT: Tensor
    rows: tuple[int, ...] = ()
    predicted_N: Tensor = field(default=None)  # type: ignore[assignment]  # made below where it is not given

    def __post_init__(self) -> None:
        if self.predicted_N is None:
            object.__setattr__(self, "predicted_N", predicted(self.loss_mask_BT))  # type: ignore[unreachable]  # see its default

    @property
    def context_N(self) -> Tensor:  # noqa: N802
        """int64, where in [B x T] the token before each predicted one is: whose state predicts it."""
        return self.predicted_N - 1

    @property
    def branch_BT(self) -> None:  # noqa: N802
        """Documents do not part: see `minimind.training.answers`, whose batches do."""
        return None

    def split(self, rows: int) -> list[Self]:
        """The same rows in order, as batches of at most n each."""
        if len(self.tokens_BT) <= rows:
            return [self]
        starts = range(0, len(self.tokens_BT), rows)
        return [
            type(self)(
                self.tokens_BT[start : start + rows],
                self.loss_mask_BT[start : start + rows],
                self.segment_BT[start : start + rows],
                self.rows[start : start + rows],
            )
            for start in starts
        ]

    def halved(self) -> Self:
        """Each row as two of half its length, one after the other: what is after the cut is read as a new document.

        The halves overlap by one token, so that every token is still predicted once. The second may end in padding.
        """
        half = self.tokens_BT.shape[1] // 2 + 1

        def cut(whole_BT: Tensor) -> Tensor:
            second_BT = whole_BT[:, half - 1 :]
            second_BT = F.pad(second_BT, (0, half - second_BT.shape[1]))
            return torch.stack((whole_BT[:, :half], second_BT), dim=1).flatten(0, 1)

        loss_mask_BT = cut(self.loss_mask_BT)
        loss_mask_BT[1::2, 0] = False  # predicted in the first half
        return type(self)(
            cut(self.tokens_BT), loss_mask_BT, cut(self.segment_BT), tuple(row for row in self.rows for _ in range(2))
        )

    @property
    def width(self) -> int:
        """How many tokens a row has."""
        return self.tokens_BT.shape[1]


def predicted(loss_mask_BT: Tensor) -> Tensor:
    """Where in [B x T] the mask is True, int64 [N]. The first token of a row is not among them: none is before it."""
    first_out_BT = loss_mask_BT.clone()
    first_out_BT[:, 0] = False
    return first_out_BT.flatten().nonzero()[:, 0]


def worst_batch(rows: int, width: int) -> TokenBatch:
    """A batch [rows, width] that costs as much as one can: every token that has one before it is predicted."""
    return TokenBatch(
        tokens_BT=torch.ones(rows, width, dtype=torch.int64),
        loss_mask_BT=torch.ones(rows, width, dtype=torch.bool),
        segment_BT=torch.ones(rows, width, dtype=torch.int32),
        rows=tuple(range(rows)),
        predicted_N=torch.arange(rows * width).view(rows, width)[:, 1:].flatten(),
    )
