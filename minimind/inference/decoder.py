"""A model and its KV cache: pieces of several texts go in at a time, logits come out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from minimind.inference.cache import KVCache, Piece
from minimind.inference.native import NativeStep, supports
from minimind.network.model import MiniMind, Places, rotary_tables


class Decoder:
    """A model that continues the texts in the slots of its cache.

    native: whether decode.c computes, where it can run this model; None is yes if it can. It gives the same numbers as
    PyTorch but for rounding. What it computes for a token depends on the text before it alone, to the last bit: not on
    how the text was cut into pieces, nor on what else is computed at the same time. PyTorch's products round
    differently for another number of rows.
    """

    def __init__(self, model: MiniMind, slots: int, context_tokens: int, native: bool | None = None) -> None:
        self._model = model
        weight = model.model.embed_tokens.weight
        self._device = weight.device
        self.cache = KVCache(model.config, slots, context_tokens, weight.dtype, weight.device)
        positions_1S = torch.arange(context_tokens, device=weight.device)[None]
        self._cos_1S1E, self._sin_1S1E = rotary_tables(model.config, positions_1S)
        self._wanted = native
        self.refresh()

    def refresh(self) -> None:
        """To be called when the model's weights were replaced, not only changed in place.

        Raises ValueError where native was asked for and cannot be.
        """
        can = self._wanted is not False and supports(self._model)
        if self._wanted and not can:
            raise ValueError("native = True: this model cannot run in decode.c here; take None")
        tables = (self._cos_1S1E[0, :, 0], self._sin_1S1E[0, :, 0])
        self._native = NativeStep(self._model, self.cache, *tables) if can else None

    @property
    def vocab_size(self) -> int:
        """How many logits there are after a token."""
        return self._model.config.vocab_size

    @property
    def native(self) -> bool:
        """Whether decode.c computes."""
        return self._native is not None

    @torch.inference_mode()
    def extend(self, pieces: Sequence[Piece]) -> Tensor:
        """fp32 logits [W, V] after the tokens that the pieces want them for. Every piece has a slot of its own.

        Raises ValueError for pieces that do not lie in the cache, or tokens outside the vocabulary.
        """
        self._require(pieces)
        if self._native is not None:
            return self._native(pieces)
        hidden = self._single_tokens(sorted((p for p in pieces if len(p.tokens) == 1), key=lambda p: p.slot))
        hidden |= {piece.slot: self._several_tokens(piece) for piece in pieces if len(piece.tokens) > 1}
        wanted_WD = torch.cat([hidden[piece.slot][len(piece.tokens) - piece.logits :] for piece in pieces])
        return self._model.logits(wanted_WD).float()

    def _require(self, pieces: Sequence[Piece]) -> None:
        """C, and a GPU, would read and write wherever they are told to: this is the last place that can look."""
        slots, context_tokens = self.cache.slots, self.cache.context_tokens
        vocab_size = self._model.config.vocab_size
        for piece in pieces:
            count = len(piece.tokens)
            if not (
                0 <= piece.slot < slots
                and 0 <= piece.place < piece.place + count <= context_tokens
                and 0 <= piece.logits <= count
            ):
                raise ValueError(
                    f"a piece of {count} tokens and {piece.logits} logits for slot {piece.slot}, from place "
                    f"{piece.place} on: the cache has {slots} slots of {context_tokens} tokens"
                )
            if not 0 <= min(piece.tokens) <= max(piece.tokens) < vocab_size:
                raise ValueError(
                    f"a piece for slot {piece.slot} has token ids from {min(piece.tokens)} to {max(piece.tokens)}: "
                    f"allowed are 0 to {vocab_size - 1}"
                )
        if not pieces or len({piece.slot for piece in pieces}) < len(pieces):
            raise ValueError(
                f"pieces for slots {[piece.slot for piece in pieces]}: give one or more, no two for one slot"
            )

    def _single_tokens(self, pieces: Sequence[Piece]) -> dict[int, Tensor]:
        """Hidden states [1, D] by slot, computed together. pieces: in the order of their slots."""
        if not pieces:
            return {}
        slots, places = [piece.slot for piece in pieces], [piece.place for piece in pieces]
        place_B = torch.tensor(places, device=self._device)
        tokens_B1 = torch.tensor([piece.tokens for piece in pieces], device=self._device)
        cos_B11E, sin_B11E = self._cos_1S1E[0, place_B, None], self._sin_1S1E[0, place_B, None]
        cached = Places(cos_B11E, sin_B11E, self.cache.extend_many(slots, places))
        return dict(zip(slots, self._model(tokens_B1, cached=cached), strict=True))

    def _several_tokens(self, piece: Piece) -> Tensor:
        """Hidden states [T, D]."""
        places = slice(piece.place, piece.place + len(piece.tokens))
        attends = self.cache.extend_one(piece.slot, piece.place, len(piece.tokens))
        tokens_1T = torch.tensor([piece.tokens], device=self._device)
        cached = Places(self._cos_1S1E[:, places], self._sin_1S1E[:, places], attends)
        return cast(Tensor, self._model(tokens_1T, cached=cached))[0]
