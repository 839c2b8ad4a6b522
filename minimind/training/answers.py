"""Several answers to one prompt, computed together: what they have in common is computed once.

A prompt with its answers is one document of a packed row. First stands its stem, the tokens that all answers begin
with, then a branch for each: `attention.branch_attention` lets a branch look at the stem and at itself. What comes out
is what each answer by itself would give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from minimind.network.model import MiniMind
from minimind.training.batch import Segmented
from minimind.training.objectives import target_logprobs

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Answer:
    """A prompt and one answer. tokens: int [T], all of it. targets: bool [T], which of them are to be learnt."""

    tokens: NDArray[Any]
    targets: NDArray[np.bool_]


@dataclass(frozen=True)
class AnswerBatch(Segmented):
    """Rows [B, T] of prompts with their answers, A of these in all.

    rows: which rows of the data these are. tokens_BT: int64. segment_BT: int32, which prompt of its row a token belongs
    to, 1, 2, ...; 0 is padding. branch_BT: int32, which answer to it: 1, 2, ...; 0 is the stem.
    predicted_N: int64, where in [B x T] the tokens are that are to be learnt. context_N: where the one before each is.
    member_M: int64, which of N each learnt token of each answer is; those of a stem belong to all of its answers.
    answer_M: int64, ascending, which answer. last_A: int64, where in [B x T] each answer ends. known_M: float32, how
    likely another model finds these tokens, in nats, where somebody has computed that before. good_A: bool, which
    answers are good, where the data says so of each.
    """

    rows: tuple[int, ...]
    tokens_BT: Tensor
    segment_BT: Tensor
    branch_BT: Tensor
    predicted_N: Tensor
    context_N: Tensor
    member_M: Tensor
    answer_M: Tensor
    last_A: Tensor
    known_M: Tensor | None = None
    good_A: Tensor | None = None

    @property
    def answers(self) -> int:
        """How many answers there are."""
        return len(self.last_A)

    @property
    def width(self) -> int:
        """0: answers are not cut."""
        return 0

    def split(self, rows: int) -> Sequence[Self]:
        """The same rows in order, as batches of at most n each."""
        if len(self.rows) <= rows:
            return [self]
        return [self._part(start, min(start + rows, len(self.rows))) for start in range(0, len(self.rows), rows)]

    def halved(self) -> Self:
        """Raises TypeError: answers are not cut."""
        raise TypeError("answers make sense only whole")

    def _part(self, first: int, end: int) -> Self:
        """The rows from the first up to before the end."""
        width = self.tokens_BT.shape[1]
        begin, stop = first * width, end * width
        row = slice(first, end)
        inside = {
            "_N": (self.predicted_N >= begin) & (self.predicted_N < stop),
            "_A": (self.last_A >= begin) & (self.last_A < stop),
        }
        inside["_M"] = inside["_A"][self.answer_M]
        before_N, before_A = (int((at < begin).sum()) for at in (self.predicted_N, self.last_A))
        behind = {"predicted_N": begin, "context_N": begin, "last_A": begin, "member_M": before_N, "answer_M": before_A}
        parts: dict[str, Any] = {name: tensor[inside.get(name[-2:], row)] for name, tensor in self.tensors().items()}
        for name, count in behind.items():
            parts[name] = parts[name] - count
        return replace(self, rows=self.rows[row], **parts)


def shared_tokens(texts: Sequence[NDArray[Any]]) -> int:
    """How many tokens all of them begin with; of each at least one is left over."""
    first, *others = texts
    shared = min(map(len, texts)) - 1
    for other in others:
        differs = np.flatnonzero(first[:shared] != other[:shared])
        shared = int(differs[0]) if len(differs) else shared
    return shared


def tree_tokens(texts: Sequence[NDArray[Any]]) -> int:
    """How many tokens a prompt with its answers takes in a row."""
    shared = shared_tokens(texts)
    return shared + sum(len(text) - shared for text in texts)


def answer_batch(
    rows: Sequence[Sequence[Sequence[Answer]]], numbers: Sequence[int], width: int, pad_id: int = 0
) -> AnswerBatch:
    """Rows of prompts, each as its answers, as a batch `width` wide. numbers: which rows of the data these are.
    All answers to a prompt begin with the same token, and all prompts of a row fit into it.
    """
    shape = (len(rows), width)
    tokens_BT = np.full(shape, pad_id, np.int64)
    segment_BT = np.zeros(shape, np.int32)
    branch_BT = np.zeros(shape, np.int32)
    predicted: list[Ints] = []
    context: list[Ints] = []
    member: list[Ints] = []
    last: list[int] = []
    learnt = 0
    for row, prompts in enumerate(rows):
        at = 0
        for segment, answers in enumerate(prompts, start=1):
            texts = [answer.tokens for answer in answers]
            stem = shared_tokens(texts)
            begin, at = at, at + tree_tokens(texts)
            assert stem, "answers to one prompt begin with the same token"
            assert at <= width, f"row {numbers[row]}: {at} tokens in a row of {width}"
            segment_BT[row, begin:at] = segment
            tokens_BT[row, begin : begin + stem] = answers[0].tokens[:stem]
            of_stem = np.flatnonzero(answers[0].targets[:stem])
            of_stem = of_stem[of_stem > 0]
            predicted.append(row * width + begin + of_stem)
            context.append(row * width + begin + of_stem - 1)
            stem_members = np.arange(learnt, learnt + len(of_stem))
            learnt += len(of_stem)
            branch_at = begin + stem
            for branch, answer in enumerate(answers, start=1):
                own = answer.tokens[stem:]
                tokens_BT[row, branch_at : branch_at + len(own)] = own
                branch_BT[row, branch_at : branch_at + len(own)] = branch
                targets = np.flatnonzero(answer.targets[stem:])
                place = row * width + branch_at + targets
                predicted.append(place)
                context.append(np.where(targets == 0, row * width + begin + stem - 1, place - 1))
                member.append(np.concatenate([stem_members, np.arange(learnt, learnt + len(targets))]))
                learnt += len(targets)
                branch_at += len(own)
                last.append(row * width + branch_at - 1)

    def joined(parts: list[Ints]) -> Tensor:
        return torch.from_numpy(np.concatenate([np.empty(0, np.int64), *parts]))

    return AnswerBatch(
        tuple(numbers),
        torch.from_numpy(tokens_BT),
        torch.from_numpy(segment_BT),
        torch.from_numpy(branch_BT),
        joined(predicted),
        joined(context),
        joined(member),
        torch.from_numpy(np.repeat(np.arange(len(member)), [len(part) for part in member])),
        torch.tensor(last, dtype=torch.int64),
    )


def worst_answers(rows: int, max_seq_len: int, *, known: bool = False) -> AnswerBatch:
    """A batch that costs as much as one can: in each row two answers of `max_seq_len` tokens that have only their first
    in common, and of which every other one is learnt. known: with what another model says of them.
    """
    batch = worst_tree(rows, stem=1, answers=2, each=max_seq_len - 1, width=2 * max_seq_len)
    return replace(batch, known_M=torch.zeros(len(batch.member_M))) if known else batch


def worst_tree(rows: int, stem: int, answers: int, each: int, width: int, *, learnt: int | None = None) -> AnswerBatch:
    """A batch whose every row of `width` tokens has one prompt of `stem` tokens with so many answers of `each` tokens.
    learnt: how many of these are; None: all.
    """
    of_each = each if learnt is None else learnt
    count, members = rows * answers, rows * answers * of_each
    begin_RA = torch.arange(rows)[:, None] * width + stem + torch.arange(answers) * each
    predicted_RAE = begin_RA[..., None] + torch.arange(of_each)
    context_RAE = predicted_RAE - 1
    context_RAE[..., 0] = torch.arange(rows)[:, None] * width + stem - 1
    branch_BT = torch.zeros(rows, width, dtype=torch.int32)
    branches = torch.arange(1, answers + 1, dtype=torch.int32)
    branch_BT[:, stem : stem + answers * each] = branches.repeat_interleave(each, output_size=answers * each)
    return AnswerBatch(
        rows=tuple(range(rows)),
        tokens_BT=torch.ones(rows, width, dtype=torch.int64),
        segment_BT=torch.ones(rows, width, dtype=torch.int32),
        branch_BT=branch_BT,
        predicted_N=predicted_RAE.flatten(),
        context_N=context_RAE.flatten(),
        member_M=torch.arange(members),
        answer_M=torch.arange(count).repeat_interleave(of_each, output_size=members),
        last_A=begin_RA.flatten() + each - 1,
    )


def answer_states(model: MiniMind, batch: AnswerBatch) -> Tensor:
    """[N, D], the state before each token that is to be learnt."""
    hidden_BTD: Tensor = model(batch.tokens_BT, batch.segment_BT, branch_BT=batch.branch_BT)
    return hidden_BTD.flatten(0, 1)[batch.context_N]


def state_logprobs(model: MiniMind, state_ND: Tensor, batch: AnswerBatch) -> Tensor:
    """[M], how likely the model finds each learnt token of each answer, in nats. state_ND: its `answer_states`."""
    target_N = batch.tokens_BT.flatten()[batch.predicted_N]
    return target_logprobs(state_ND, model.head_weight_VD, target_N)[batch.member_M]


def answer_logprobs(model: MiniMind, batch: AnswerBatch) -> Tensor:
    """[M], how likely the model finds each learnt token of each answer, in nats."""
    return state_logprobs(model, answer_states(model, batch), batch)


def rows_of(batch: AnswerBatch) -> Tensor:
    """[A], the row that each answer stands in."""
    return batch.last_A // batch.tokens_BT.shape[1]


def summed(values_M: Tensor, batch: AnswerBatch) -> Tensor:
    """[A], the sum of the values of each answer's learnt tokens."""
    return values_M.new_zeros(batch.answers).index_add(0, batch.answer_M, values_M)
