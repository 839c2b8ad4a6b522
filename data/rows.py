"""Rows of token shards by number, as the batches that a stage trains on."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from data.pack import Packing, pack, pack_in_order
from data.shards import TokenShards
from minimind.language import say
from minimind.training.answers import Answer, AnswerBatch, answer_batch, shared_tokens, tree_tokens
from minimind.training.batch import Batch, TokenBatch
from minimind.training.replay import ReplayBatch
from minimind.training.rollout import PromptBatch

Ints = NDArray[np.int64]
B_co = TypeVar("B_co", bound=Batch, covariant=True)


class Rows(Protocol[B_co]):
    """Numbered rows that `data.batches.OrderedBatches` reads.

    count: its own rows, each read once an epoch. beside: further rows, of other text, numbered behind its own. block:
    which stretch of its file each own row is of, ascending, where they are to be read in that order; None: in any.
    """

    count: int
    beside: int
    block: Ints | None

    def identity(self) -> dict[str, Any]:
        """What the numbers stand for: equal where they stand for the same rows. Plain values, kept in checkpoints."""
        ...

    def batch(self, rows: Sequence[int]) -> B_co:
        """The rows of these numbers, in this order."""
        ...


class PackedRows:
    """Rows of a packing; behind them those of another one, for replay.

    pad_id: token id of unused positions.
    """

    def __init__(
        self, shards: TokenShards, packing: Packing, pad_id: int = 0, beside: tuple[TokenShards, Packing] | None = None
    ) -> None:
        """Raises ValueError where both packings are not of the same width."""
        if beside is not None and beside[1].max_seq_len != packing.max_seq_len:
            raise ValueError(
                say(
                    "replayed rows of {replayed} tokens among rows of {width}: pack alike",
                    replayed=beside[1].max_seq_len,
                    width=packing.max_seq_len,
                )
            )
        self.shards, self.packing, self.pad_id = shards, packing, pad_id
        self._beside = beside
        self.count, self.beside = packing.rows, beside[1].rows if beside else 0
        self.block = packing.row_block

    def identity(self) -> dict[str, Any]:
        """The data, the width, the choice of documents, and the text beside."""
        beside = f"{self._beside[0].fingerprint} {self._beside[1].fingerprint}" if self._beside else None
        return {
            "data": self.shards.fingerprint,
            "max_seq_len": self.packing.max_seq_len,
            "packing": self.packing.fingerprint,
            "replay": beside,
        }

    def batch(self, rows: Sequence[int]) -> TokenBatch:
        """The rows of these numbers, each `max_seq_len` wide."""
        shape = (len(rows), self.packing.max_seq_len)
        tokens_BT = np.full(shape, self.pad_id, np.int64)
        segment_BT = np.zeros(shape, np.int32)
        loss_mask_BT = np.zeros(shape, np.bool_)
        for i, (shards, packing, row) in enumerate(map(self._source, rows)):
            begin, end = packing.row_offsets[row], packing.row_offsets[row + 1]
            at = 0
            for segment, piece in enumerate(range(begin, end), start=1):
                document = packing.piece_document[piece]
                start, length = packing.piece_start[piece], packing.piece_length[piece]
                stop = at + length
                tokens_BT[i, at:stop] = shards.document(document)[start : start + length]
                segment_BT[i, at:stop] = segment
                for first, last in np.clip(shards.targets(document) - start, 0, length):
                    loss_mask_BT[i, at + max(first, 1) : at + last] = True  # the first token has none before it
                at = stop
        return TokenBatch(
            torch.from_numpy(tokens_BT), torch.from_numpy(loss_mask_BT), torch.from_numpy(segment_BT), tuple(rows)
        )

    def _source(self, row: int) -> tuple[TokenShards, Packing, int]:
        if self._beside is None or row < self.count:
            return self.shards, self.packing, row
        return *self._beside, row - self.count


class ReplayRows:
    """Packed rows whose batches tell what is replayed: rows from beside stand last in them."""

    def __init__(self, rows: PackedRows) -> None:
        self._rows = rows
        self.count, self.beside, self.block = rows.count, rows.beside, rows.block

    def identity(self) -> dict[str, Any]:
        """That of the rows."""
        return self._rows.identity()

    def batch(self, rows: Sequence[int]) -> ReplayBatch:
        """The rows of these numbers, the stage's own first."""
        own = [row for row in rows if row < self.count]
        replayed = [row for row in rows if row >= self.count]
        return ReplayBatch(**vars(self._rows.batch([*own, *replayed])), replayed=len(replayed))


class AnswerRows(ABC):
    """Packed rows of prompts with their answers: base of those that read pairs, and of those that read single ones.

    A row is 2 x `max_seq_len` tokens wide, so that two answers to a prompt fit, each of which is at most `max_seq_len`
    tokens long with it; what is longer loses its end. Shorter ones lie in a row together.
    """

    beside: int = 0

    def __init__(
        self, shards: TokenShards, chosen: Ints, max_seq_len: int, pad_id: int = 0, *, in_order: bool = False
    ) -> None:
        """chosen: the numbers of the rows to read, of those that a function of `data.pack` finds usable. Raises
        ValueError where the shards hold no pairs, where none are chosen, and for answers to different prompts.
        """
        if shards.documents_per_row != 2:
            raise ValueError(say("{folder}: its rows are no pairs", folder=shards.folder))
        if not len(chosen):
            raise ValueError(
                say(
                    "{folder}: no pair has both answers in its first {width} tokens",
                    folder=shards.folder,
                    width=max_seq_len,
                )
            )
        self.shards, self.chosen, self.max_seq_len, self.pad_id = shards, chosen, max_seq_len, pad_id
        lengths = np.array([self._length(place) for place in range(len(chosen))], np.int32)
        self.packing = (pack_in_order if in_order else pack)(lengths, 2 * max_seq_len, whole=True)
        self.count, self.block = self.packing.rows, self.packing.row_block

    @abstractmethod
    def answers(self, place: int) -> list[Answer]:
        """The prompt with each of its answers, of the row that stands there among the chosen ones."""

    def identity(self) -> dict[str, Any]:
        """The data, the width, and the choice of rows."""
        return {
            "data": self.shards.fingerprint,
            "max_seq_len": self.max_seq_len,
            "packing": hashlib.sha256(self.chosen.tobytes() + self.packing.fingerprint.encode()).hexdigest(),
        }

    def batch(self, rows: Sequence[int]) -> AnswerBatch:
        """The rows of these numbers."""
        offsets, places = self.packing.row_offsets, self.packing.piece_document
        prompts = [[self.answers(place) for place in places[offsets[row] : offsets[row + 1]]] for row in rows]
        return answer_batch(prompts, rows, self.packing.max_seq_len, self.pad_id)

    def _tokens(self, document: int) -> NDArray[Any]:
        """Those of a document that there is room for."""
        return self.shards.document(document)[: self.max_seq_len]

    def _answer(self, document: int, shared: int) -> Answer:
        """A prompt with its answer, of which is learnt what the assistant says in turns that end behind the `shared`
        tokens that other answers begin with as well.
        """
        tokens = self._tokens(document)
        targets = np.zeros(len(tokens), np.bool_)
        for first, last in np.minimum(self.shards.targets(document), len(tokens)):
            targets[first:last] = last > shared
        return Answer(tokens, targets)

    def _length(self, place: int) -> int:
        texts = [answer.tokens for answer in self.answers(place)]
        if not shared_tokens(texts):
            file, line = self.shards.where(2 * int(self.chosen[place]))
            raise ValueError(say("{file} line {line}: its two answers are to different prompts", file=file, line=line))
        return tree_tokens(texts)


class PairRows(AnswerRows):
    """Preference rows: of two answers to each prompt the first is the better one."""

    def answers(self, place: int) -> list[Answer]:
        """The better answer, and the worse one."""
        pair = (2 * int(self.chosen[place]), 2 * int(self.chosen[place]) + 1)
        shared = shared_tokens([self._tokens(document) for document in pair])
        return [self._answer(document, shared) for document in pair]


class LabelledRows(AnswerRows):
    """Single answers that are good or bad, each followed by what answers another prompt: that of the row which lies
    half of them further.

    A good answer is the first document of its row, a bad one the second; the other has no tokens.
    """

    def answers(self, place: int) -> list[Answer]:
        """The answer, and after the same prompt that of another row."""
        prompt, own = self._last_turn(place)
        _, other = self._last_turn((place + len(self.chosen) // 2) % len(self.chosen))
        return [self._after(prompt, own), self._after(prompt, other)]

    def batch(self, rows: Sequence[int]) -> AnswerBatch:
        """The rows of these numbers."""
        offsets, places = self.packing.row_offsets, self.packing.piece_document
        good = [self._is_good(place) for row in rows for place in places[offsets[row] : offsets[row + 1]]]
        return replace(super().batch(rows), good_A=torch.tensor(good).repeat_interleave(2))

    def _is_good(self, place: int) -> bool:
        return bool(self.shards.lengths[2 * int(self.chosen[place])])

    def _last_turn(self, place: int) -> tuple[NDArray[Any], Answer]:
        """The prompt before the last answer that there is room for, and that answer without it."""
        document = 2 * int(self.chosen[place]) + (not self._is_good(place))
        tokens, spans = self._tokens(document), self.shards.targets(document)
        begin, end = spans[spans[:, 0] < len(tokens)][-1]
        return tokens[:begin], Answer(tokens[begin:], np.arange(begin, len(tokens)) < end)

    def _after(self, prompt: NDArray[Any], answer: Answer) -> Answer:
        tokens = np.concatenate([prompt, answer.tokens])[: self.max_seq_len]
        targets = np.concatenate([np.zeros(len(prompt), np.bool_), answer.targets])[: self.max_seq_len]
        return Answer(tokens, targets)


class PromptRows:
    """Conversations without their last answer, one a row: what a model is to answer.

    chosen: the numbers of the rows to read, of those that `data.pack.learnable` gives.
    """

    beside: int = 0
    block: Ints | None = None

    def __init__(self, shards: TokenShards, chosen: Ints, max_seq_len: int, pad_id: int = 0) -> None:
        self.shards, self.chosen, self.max_seq_len, self.pad_id = shards, chosen, max_seq_len, pad_id
        self.count = len(chosen)

    def identity(self) -> dict[str, Any]:
        """The data, the width, and the choice of rows."""
        return {
            "data": self.shards.fingerprint,
            "max_seq_len": self.max_seq_len,
            "packing": hashlib.sha256(self.chosen.tobytes()).hexdigest(),
        }

    def batch(self, rows: Sequence[int]) -> PromptBatch:
        """The prompts of these numbers."""
        prompts = [self._prompt(int(self.chosen[row])) for row in rows]
        tokens_BT = np.full((len(rows), max(map(len, prompts))), self.pad_id, np.int64)
        for place, prompt in enumerate(prompts):
            tokens_BT[place, : len(prompt)] = prompt
        return PromptBatch(tuple(rows), torch.from_numpy(tokens_BT), torch.tensor(list(map(len, prompts))))

    def right(self, row: int) -> list[int]:
        """The token ids of the answer that the data has to the prompt of this number."""
        document = int(self.chosen[row])
        begin, end = self._answer(document)
        return [int(token) for token in self.shards.document(document)[begin:end]]

    def lengths(self, most: int) -> tuple[Ints, Ints]:
        """Tokens of each prompt, and of the answer that the data has to it: `most` where it has none."""
        spans = np.array([self._answer(int(document)) for document in self.chosen], np.int64).reshape(-1, 2)
        prompt_R, answer_R = spans[:, 0], spans[:, 1] - spans[:, 0]
        return prompt_R, np.where(answer_R > 1, np.minimum(answer_R, most), most)

    def _prompt(self, document: int) -> NDArray[Any]:
        return self.shards.document(document)[: self._answer(document)[0]]

    def _answer(self, document: int) -> tuple[int, int]:
        """Where the last answer that begins within the width begins and ends."""
        spans = self.shards.targets(document)
        begin, end = spans[spans[:, 0] < self.max_seq_len][-1]
        return int(begin), int(end)
