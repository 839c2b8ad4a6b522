"""Keys and values of the tokens so far, kept by slot, and attention over them.

A slot is room for one text. Each layer has one tensor for its keys and one for its values, allocated once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from minimind.network.attention import Attend
from minimind.network.model import ModelConfig


def kv_cache_bytes(config: ModelConfig, slots: int, context_tokens: int, dtype: torch.dtype = torch.float32) -> int:
    """What a KVCache of this size takes, to the byte."""
    numbers = config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    return 2 * numbers * slots * context_tokens * dtype.itemsize


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens that continue the text in a slot from `place` on. logits: the number of tokens, the last ones, after which
    logits are wanted.
    """

    slot: int
    place: int
    tokens: Sequence[int]
    logits: int = 1


class KVCache:
    """Room for `slots` texts of up to `context_tokens` tokens.

    keys, values: a tensor [slots, K, context_tokens, E] for each layer. `nbytes` is what `kv_cache_bytes` says.
    """

    def __init__(
        self, config: ModelConfig, slots: int, context_tokens: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        shape = (slots, config.num_key_value_heads, context_tokens, config.head_dim)
        # Zeros: a masked place has weight zero, and zero times whatever was in the memory might not be zero.
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.num_hidden_layers)]
        self.values = [torch.zeros_like(keys) for keys in self.keys]
        self.slots, self.context_tokens = slots, context_tokens

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        return sum(tensor.nbytes for tensor in (*self.keys, *self.values))

    def copy(self, source: int | list[int], target: int | slice | list[int], tokens: int) -> None:
        """Slot `target`, or several, gets the first `tokens` places of slot `source`, or each those of its own."""
        for tensor in (*self.keys, *self.values):
            tensor[target, :, :tokens] = tensor[source, :, :tokens]

    def clear(self, slot: int) -> None:
        """Zeros again, where what a slot holds may be no numbers."""
        for tensor in (*self.keys, *self.values):
            tensor[slot] = 0

    def extend_one(self, slot: int, start: int, tokens: int) -> Iterator[Attend]:
        """Attention, layer by layer, of a batch of one row: `tokens` more tokens of a slot that holds `start`."""
        mask_TS = None
        if start:
            index = torch.arange(start + tokens, device=self.keys[0].device)
            later_TS = index > index[start:, None]
            mask_TS = torch.zeros_like(later_TS, dtype=self.keys[0].dtype).masked_fill_(later_TS, -math.inf)
        for keys, values in zip(self.keys, self.values, strict=True):
            yield partial(_extend_one, keys[slot], values[slot], start, mask_TS)

    def extend_many(self, slots: Sequence[int], lengths: Sequence[int]) -> Iterator[Attend]:
        """Attention, layer by layer, of a batch with one more token of each of `slots`, which hold `lengths`.

        slots: ascending. Neighbouring slots are computed together, over keys up to the longest.
        """
        device = self.keys[0].device
        slot_B, length_B = torch.tensor(slots, device=device), torch.tensor(lengths, device=device)
        runs = []
        for rows in _runs(slots):
            longest = max(lengths[rows]) + 1
            mask_R11S = None
            if min(lengths[rows]) + 1 < longest:
                unused_RS = torch.arange(longest, device=device) > length_B[rows, None]
                mask_RS = torch.zeros_like(unused_RS, dtype=self.keys[0].dtype).masked_fill_(unused_RS, -math.inf)
                mask_R11S = mask_RS[:, None, None]
            runs.append((rows, slice(slots[rows.start], slots[rows.stop - 1] + 1), longest, mask_R11S))
        for keys, values in zip(self.keys, self.values, strict=True):
            yield partial(_extend_many, keys, values, slot_B, length_B, runs)


Run = tuple[slice, slice, int, Tensor | None]
"""Rows of the batch, their slots, the longest text among them, and a mask if there is a shorter one."""


def _runs(slots: Sequence[int]) -> list[slice]:
    """Rows whose slots are neighbours."""
    starts = [row for row in range(len(slots)) if row == 0 or slots[row] != slots[row - 1] + 1]
    return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], len(slots)], strict=True)]


def _extend_one(
    keys_KSE: Tensor,
    values_KSE: Tensor,
    start: int,
    mask_TS: Tensor | None,
    q_1THE: Tensor,
    k_1TKE: Tensor,
    v_1TKE: Tensor,
) -> Tensor:
    stop = start + q_1THE.shape[1]
    keys_KSE[:, start:stop] = k_1TKE[0].transpose(0, 1)
    values_KSE[:, start:stop] = v_1TKE[0].transpose(0, 1)
    keys, values = keys_KSE[None, :, :stop], values_KSE[None, :, :stop]
    out_1HTE = F.scaled_dot_product_attention(
        q_1THE.transpose(1, 2), keys, values, attn_mask=mask_TS, is_causal=mask_TS is None, enable_gqa=True
    )
    return out_1HTE.transpose(1, 2)


def _extend_many(
    keys_NKSE: Tensor,
    values_NKSE: Tensor,
    slot_B: Tensor,
    length_B: Tensor,
    runs: Sequence[Run],
    q_B1HE: Tensor,
    k_B1KE: Tensor,
    v_B1KE: Tensor,
) -> Tensor:
    keys_NKSE[slot_B, :, length_B] = k_B1KE[:, 0]
    values_NKSE[slot_B, :, length_B] = v_B1KE[:, 0]
    outputs = [
        _attend_one(q_B1HE[rows], keys_NKSE[slots, :, :longest], values_NKSE[slots, :, :longest], mask)
        for rows, slots, longest, mask in runs
    ]
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def _attend_one(q_B1HE: Tensor, keys_BKSE: Tensor, values_BKSE: Tensor, mask_B11S: Tensor | None) -> Tensor:
    """Attention of one token per row: the query heads that share keys take the place of queries, unmasked."""
    batch, _, heads, width = q_B1HE.shape
    q_BKGE = q_B1HE.reshape(batch, keys_BKSE.shape[1], -1, width)
    out_BKGE = F.scaled_dot_product_attention(q_BKGE, keys_BKSE, values_BKSE, attn_mask=mask_B11S)
    return out_BKGE.reshape(batch, 1, heads, width)
