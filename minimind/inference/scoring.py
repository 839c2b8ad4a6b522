"""How likely texts are, many at once: nothing is written, so nobody waits for a step of another.

What all texts begin with, such as an instruction, is computed once, and so is what texts that follow each other begin
with, as the choices of a question do. The last token of a text is only guessed, so nothing is computed of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from minimind.inference.cache import Piece
from minimind.inference.decoder import Decoder
from minimind.language import phrase
from minimind.network.model import MiniMind

NOT_FINITE = "the model's logits are not finite: its weights are damaged, or training has diverged"

STEP_TOKENS = 256
"""So many tokens go through the model at once; what is computed of more does not stay in a processor's cache."""
STEP_LOGITS = 1 << 24
"""And so many logits, 64 MiB, come out of it."""

LEAST_SHARED = 4
"""Beginnings shorter than this are computed again."""


@dataclass(eq=False, slots=True)
class _Text:
    """ids: all of it. start: the place of the first token that is scored."""

    ids: list[int]
    start: int
    logprobs: list[float] = field(default_factory=list)


@dataclass(slots=True)
class _Run:
    """Tokens [place, stop) of texts that are the same there, to go into one slot."""

    slot: int
    place: int
    stop: int
    texts: Sequence[_Text]

    @property
    def first_wanted(self) -> int:
        """The first place whose logits tell anything."""
        return min(text.start for text in self.texts) - 1


def score(
    model: MiniMind,
    texts: Sequence[tuple[Sequence[int], int]],
    cache_tokens: int,
    done: Callable[[int], None] = lambda tokens: None,
    native: bool | None = None,
) -> list[list[float]]:
    """The log-prob of each token of a text from a place on, which is not its first one; texts have two tokens or more.

    cache_tokens: room for the keys of so many. done: told of each text how many tokens it has. native: see Decoder.

    Raises ValueError where the model's logits are no numbers.
    """
    if not texts:
        return []
    found = [_Text(list(ids), start) for ids, start in texts]
    longest = max(len(text.ids) for text in found) - 1
    slots = max(1, min(len(found), STEP_TOKENS, cache_tokens // longest))
    decoder = Decoder(model, slots, longest, native)
    common = _common(found)
    _compute(decoder, [_Run(0, 0, common, found)])
    decoder.cache.copy(0, slice(1, slots), common)  # it stays there: no text writes before it
    for groups in _batches(_groups(found, slots, common), slots):
        begin, rest, slot = [], [], 0
        for group, shared in groups:
            if shared:
                begin.append(_Run(slot, common, shared, group))
            rest += [_Run(slot + at, shared or common, len(text.ids) - 1, [text]) for at, text in enumerate(group)]
            slot += len(group)
        _compute(decoder, begin)
        _share(decoder, begin)
        _compute(decoder, rest)
        for group, _ in groups:
            for text in group:
                done(len(text.ids))
    return [text.logprobs for text in found]


def _common(texts: Sequence[_Text]) -> int:
    """How many tokens all texts begin with."""
    common = len(texts[0].ids) - 1
    for text in texts[1:]:
        common = _alike(texts[0].ids, text.ids, min(common, len(text.ids) - 1))
    return common if len(texts) > 1 and common >= LEAST_SHARED else 0


def _groups(texts: Sequence[_Text], most: int, common: int) -> Iterator[tuple[list[_Text], int]]:
    """Texts that follow each other and how many tokens they begin with alike, so that as many as can be are saved.

    common: so many are saved already.
    """
    group, shared = [texts[0]], len(texts[0].ids) - 1
    for text in texts[1:]:
        alike = _alike(group[0].ids, text.ids, min(shared, len(text.ids) - 1))
        saved, before = (alike - common) * len(group), (shared - common) * (len(group) - 1)
        if len(group) < most and alike - common >= LEAST_SHARED and saved >= before:
            group.append(text)
            shared = alike
        else:
            yield group, shared if len(group) > 1 else 0
            group, shared = [text], len(text.ids) - 1
    yield group, shared if len(group) > 1 else 0


def _alike(left: list[int], right: list[int], most: int) -> int:
    if left[:most] == right[:most]:
        return most
    return next(place for place in range(most) if left[place] != right[place])


def _batches(groups: Iterator[tuple[list[_Text], int]], slots: int) -> Iterator[list[tuple[list[_Text], int]]]:
    """Groups that there are slots for."""
    batch: list[tuple[list[_Text], int]] = []
    free = slots
    for group, shared in groups:
        if len(group) > free:
            yield batch
            batch, free = [], slots
        batch.append((group, shared))
        free -= len(group)
    yield batch


def _share(decoder: Decoder, begun: Sequence[_Run]) -> None:
    """Give every text of a group what was computed of their beginning, all groups at once: what is copied beyond a
    beginning is written anew before it is read.
    """
    if not begun:
        return
    sources = [run.slot for run in begun for _ in run.texts[1:]]
    targets = [run.slot + at for run in begun for at in range(1, len(run.texts))]
    decoder.cache.copy(sources, targets, max(run.stop for run in begun))


def _compute(decoder: Decoder, runs: Sequence[_Run]) -> None:
    """Put these tokens into their slots, and give the texts the log-probs that they tell."""
    waiting = [run for run in runs if run.place < run.stop]
    budget = min(STEP_TOKENS, max(1, STEP_LOGITS // decoder.vocab_size))
    while waiting:
        pieces: list[Piece] = []
        told: list[tuple[int, int, _Text]] = []  # the row of logits, the token that follows, and whose it is
        room, rows = budget, 0
        for run in waiting:
            if not room:
                break
            stop = min(run.stop, run.place + room)
            first = max(run.place, min(run.first_wanted, stop))
            pieces.append(Piece(run.slot, run.place, run.texts[0].ids[run.place : stop], stop - first))
            for place in range(first, stop):
                told += [
                    (rows + place - first, text.ids[place + 1], text) for text in run.texts if place >= text.start - 1
                ]
            rows += stop - first
            room -= stop - run.place
            run.place = stop
        waiting = [run for run in waiting if run.place < run.stop]
        _tell(decoder, pieces, told)


@torch.inference_mode()
def _tell(decoder: Decoder, pieces: Sequence[Piece], told: Sequence[tuple[int, int, _Text]]) -> None:
    logits_WV = decoder.extend(pieces)
    if not logits_WV.sum(1).isfinite().all():
        raise ValueError(phrase(NOT_FINITE))
    if told:
        places = torch.tensor([(row, token) for row, token, _ in told], device=logits_WV.device)
        found_N: list[float] = logits_WV.log_softmax(1)[places[:, 0], places[:, 1]].tolist()
        for (_, _, text), logprob in zip(told, found_N, strict=True):
            text.logprobs.append(logprob)
