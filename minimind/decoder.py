"""A model and its KV cache: prompts go in by chunks, then one token for each of several texts at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from minimind.cache import KVCache
from minimind.model import MiniMind, rotary_tables
from minimind.native import NativeStep, supports


class Decoder:
    """A model that continues the texts in the slots of its cache.

    native: whether tokens are written by decode.c, where it can run this model; None is yes if it can. It gives the
    same numbers but for rounding, and every text the same ones, to the last bit, whatever else is in the batch.
    """

    def __init__(self, model: MiniMind, slots: int, context_tokens: int, native: bool | None = None) -> None:
        self.model = model
        weight = model.head_weight_VD
        self._device = weight.device
        self.cache = KVCache(model.config, slots, context_tokens, weight.dtype, weight.device)
        positions_1S = torch.arange(context_tokens, device=weight.device)[None]
        self._cos_1S1E, self._sin_1S1E = rotary_tables(model.config, positions_1S)
        self._wanted = native
        self.refresh()

    def refresh(self) -> None:
        """To be called when the model's weights were replaced, not only changed in place."""
        can = self._wanted is not False and supports(self.model)
        if self._wanted and not can:
            raise ValueError("native = True: this model cannot run in decode.c here; take None")
        tables = (self._cos_1S1E[0, :, 0], self._sin_1S1E[0, :, 0])
        self._native = NativeStep(self.model, self.cache, *tables) if can else None

    @property
    def native(self) -> bool:
        """Whether decode.c writes the tokens."""
        return self._native is not None

    @torch.inference_mode()
    def prefill(self, tokens: Sequence[int], slot: int, length: int) -> Tensor:
        """Hidden states [T, D] of tokens that follow the `length` tokens of a slot."""
        places = slice(length, length + len(tokens))
        cached = self.cache.extend_one(slot, length, len(tokens))
        tokens_1T = torch.tensor([tokens], device=self._device)
        return self.model.forward_cached(tokens_1T, self._cos_1S1E[:, places], self._sin_1S1E[:, places], cached)[0]

    @torch.inference_mode()
    def write(self, tokens: Sequence[int], slots: Sequence[int], lengths: Sequence[int]) -> Tensor:
        """fp32 logits [B, V] after one token for each of `slots`, which hold `lengths` tokens. slots: ascending."""
        if self._native is not None:
            return self._native(tokens, slots, lengths)
        places_B = torch.tensor(lengths, device=self._device)
        tokens_B1 = torch.tensor(tokens, device=self._device)[:, None]
        cos_B11E, sin_B11E = self._cos_1S1E[0, places_B, None], self._sin_1S1E[0, places_B, None]
        cached = self.cache.extend_many(slots, lengths)
        return self.logits(self.model.forward_cached(tokens_B1, cos_B11E, sin_B11E, cached)[:, 0])

    @torch.inference_mode()
    def logits(self, hidden_TD: Tensor) -> Tensor:
        """fp32 logits [T, V] of hidden states."""
        return self.model.logits(hidden_TD).float()
