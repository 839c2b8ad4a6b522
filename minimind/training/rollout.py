"""Answers that the policy writes itself while it trains: prompts -> our engine with the weights of now -> batches.

Where it may call tools, an answer has several turns: what ends in calls is answered, and the model goes on from there
in a further round. Between its turns stands what it was told, which is read and not learnt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count as counting
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from minimind.inference.cache import kv_cache_bytes
from minimind.inference.engine import Engine
from minimind.inference.sampling import SamplingParams
from minimind.language import say
from minimind.network.model import MiniMind
from minimind.training.answers import Answer, AnswerBatch, answer_batch, tree_tokens
from minimind.training.batch import WholeRows
from minimind.training.objectives import Models

SLOTS = 16
"""Answers that are written at once to begin with."""


@dataclass(frozen=True)
class PromptBatch(WholeRows):
    """Prompts, one a row. tokens_BT: int64; length_B: int64, how many of them are the prompt's."""

    tokens_BT: Tensor
    length_B: Tensor

    def prompts(self) -> list[list[int]]:
        """The token ids of each."""
        return [ids[:length] for ids, length in zip(self.tokens_BT.tolist(), self.length_B.tolist(), strict=True)]


class PromptSource(Protocol):
    """Where prompts come from: `data.batches.OrderedBatches` over rows of them is one."""

    position: int

    @property
    def done(self) -> bool:
        """True when nothing is left; the same on every rank."""
        ...

    def take(self, count: int) -> Sequence[PromptBatch]:
        """The prompts of this rank for the next step."""
        ...

    def total_steps(self, accumulation_steps: int) -> int:
        """Optimizer steps until nothing is left."""
        ...

    def stop_reading_ahead(self) -> bool:
        """Prepare nothing before it is taken; False where that was so already."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """The cursor."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where `state_dict` stood."""
        ...


@dataclass(frozen=True)
class Writing:
    """How answers are written. seed: decides them, with the prompt and how far the run is, whoever writes them.

    answers: to each prompt. max_tokens: of each, its own; fewer where prompt and answer would be longer than
    context_tokens. stop_id: the token that ends a turn, and is learnt as its last. max_calls: of tools in an answer.
    """

    seed: int
    answers: int
    max_tokens: int
    context_tokens: int
    stop_id: int
    temperature: float = 1.0
    pad_id: int = 0
    max_calls: int = 0


Spans = tuple[tuple[int, int], ...]
"""[start, end) of tokens, ascending."""


@dataclass(frozen=True)
class Reply:
    """What the policy reads after a turn that calls tools. tokens: up to where its next turn begins; none where it may
    not call any more. calls: how many were made. errors: how many of them failed.
    """

    tokens: list[int]
    calls: int
    errors: int


class Tools(Protocol):
    """Answers what the policy calls."""

    def reply(self, context: Sequence[int], turn: Sequence[int], calls_left: int) -> Reply | None:
        """To a turn that it has ended, behind this context; None where it calls nothing. The same at any time."""
        ...


@dataclass(frozen=True)
class Written:
    """An answer that the policy wrote. row: of its prompt. tokens: those of the prompt, then its own, and between these
    what it was told; prompt: how many are the prompt's. logprobs: of its own tokens as they were drawn, in nats.
    finished: whether it ended by itself, not because there was no more room, or no more calls. room: how many tokens of
    its own it could have had. told: which tokens behind the prompt are not its own: the answers of tools, with the
    template's words around them. calls: how many it made of tools. errors: how many of them failed.
    """

    row: int
    tokens: list[int]
    prompt: int
    logprobs: list[float]
    finished: bool
    room: int
    told: Spans = ()
    calls: int = 0
    errors: int = 0

    @property
    def turns(self) -> Spans:
        """Where its own tokens stand, turn by turn: one turn, where it was told nothing."""
        begins = (self.prompt, *(end for _, end in self.told))
        ends = (*(start for start, _ in self.told), len(self.tokens))
        return tuple(zip(begins, ends, strict=True))

    @property
    def own(self) -> list[int]:
        """Its own tokens, those that ended its turns among them."""
        return [token for start, end in self.turns for token in self.tokens[start:end]]

    @property
    def answer(self) -> Answer:
        """The prompt with it, of which its own tokens are to be learnt."""
        ids = np.array(self.tokens)
        targets = np.arange(len(ids)) >= self.prompt
        for start, end in self.told:
            targets[start:end] = False
        return Answer(ids, targets)


@dataclass
class _Draft:
    """An answer that is being written. number: which to its prompt."""

    row: int
    number: int
    tokens: list[int]
    prompt: int
    logprobs: list[float] = field(default_factory=list)
    finished: bool = False
    told: list[tuple[int, int]] = field(default_factory=list)
    calls: int = 0
    errors: int = 0

    def room(self, how: Writing) -> int:
        """How many tokens of its own it could have in all."""
        told = sum(end - start for start, end in self.told)
        return min(how.max_tokens, how.context_tokens - self.prompt - told)

    def left(self, how: Writing) -> int:
        """How many it may still write."""
        return self.room(how) - len(self.logprobs)

    def written(self, how: Writing) -> Written:
        """As it is now."""
        return Written(
            self.row,
            self.tokens,
            self.prompt,
            self.logprobs,
            self.finished,
            self.room(how),
            tuple(self.told),
            self.calls,
            self.errors,
        )


class Writer:
    """The policy, which answers prompts with the weights it has at the moment. slots: answers written at once. tools:
    which it may call, if any.
    """

    def __init__(self, models: Models, how: Writing, tools: Tools | None = None) -> None:
        self.models, self.how, self.tools = models, how, tools
        self.slots = SLOTS

    @property
    def policy(self) -> MiniMind:
        """The model that writes."""
        policy = self.models["policy"]
        assert isinstance(policy, MiniMind)
        return policy

    @contextmanager
    def as_it_is(self) -> Iterator[MiniMind]:
        """The policy without what is for learning: no gradients, and no dropout of an adapter."""
        policy = self.policy
        was_training = policy.training
        policy.eval()
        try:
            with torch.no_grad():
                yield policy
        finally:
            policy.train(was_training)

    def write(
        self, position: int, asked: Sequence[tuple[int, list[int]]], *, greedy: bool = False
    ) -> list[list[Written]]:
        """To each numbered prompt its answers. position: how far the run is. greedy: one, of its likeliest tokens."""
        how, answers = self.how, 1 if greedy else self.how.answers
        if not asked:
            return []
        drafts = [_Draft(row, number, list(prompt), len(prompt)) for row, prompt in asked for number in range(answers)]
        writing = drafts
        with self.as_it_is() as policy:
            engine = Engine(policy, slots=self.slots, context_tokens=how.context_tokens)
            for turn in counting():
                params = [
                    SamplingParams(
                        draft.left(how),
                        temperature=0.0 if greedy else how.temperature,
                        seed=_seed(how.seed, position, draft.row, draft.number, turn),
                        stop_ids=(how.stop_id,),
                        logprobs=0,
                    )
                    for draft in writing
                ]
                found = engine.generate([draft.tokens for draft in writing], params)
                for draft, done in zip(writing, found, strict=True):
                    draft.tokens += done.token_ids
                    draft.logprobs += done.logprobs
                    draft.finished = done.finish == "stop"
                writing = [draft for draft in writing if self._goes_on(draft)]
                if not writing:
                    break
        written = [draft.written(how) for draft in drafts]
        return [written[start : start + answers] for start in range(0, len(written), answers)]

    def _goes_on(self, draft: _Draft) -> bool:
        """Whether a draft has a further turn, for which it is told what tools answered."""
        if self.tools is None or not draft.finished:
            return False
        begin, now = draft.told[-1][1] if draft.told else draft.prompt, len(draft.tokens)
        calls_left = self.how.max_calls - draft.calls
        reply = self.tools.reply(draft.tokens[:begin], draft.tokens[begin:], calls_left)
        if reply is None:
            return False
        draft.finished = False
        draft.calls += reply.calls
        draft.errors += reply.errors
        if not reply.tokens or draft.left(self.how) < 1 or now + len(reply.tokens) >= self.how.context_tokens:
            return False
        draft.tokens += reply.tokens
        draft.told.append((now, len(draft.tokens)))
        return True

    def write_less(self) -> str:
        """Write half as many answers at once; "" where it is one already."""
        if self.slots == 1:
            return ""
        self.slots //= 2
        return say("at most {count} answers are written at once from now on", count=self.slots)

    def worst(self) -> None:
        """What writing takes in memory, with nothing written."""
        worst_writing(self.policy, self.how, self.slots)


class Rollouts:
    """A GeneratingSource: what a step trains on is written when it is taken, with the weights as they are then.

    So nothing is left over between steps, and its state is that of its prompts.
    """

    def __init__(self, prompts: PromptSource, models: Models, writing: Writing) -> None:
        self.prompts, self.writer = prompts, Writer(models, writing)

    @property
    def done(self) -> bool:
        """True when every prompt has been taken."""
        return self.prompts.done

    def total_steps(self, accumulation_steps: int) -> int:
        """Those of the prompts."""
        return self.prompts.total_steps(accumulation_steps)

    def take(self, count: int) -> list[AnswerBatch]:
        """Micro-batches of prompts with the answers to them, several prompts a row."""
        position = self.prompts.position
        batches = self.prompts.take(count)
        written = iter(self.writer.write(position, numbered(batches)))
        how = self.writer.how
        found = []
        for batch in batches:
            answers = [[one.answer for one in next(written)] for _ in batch.rows]
            found.append(in_rows(answers, batch.rows, how.context_tokens, how.pad_id)[0])
        return found

    def stop_reading_ahead(self) -> bool:
        """Whether the prompts were read ahead."""
        return self.prompts.stop_reading_ahead()

    def generate_less(self) -> str:
        """Write half as many answers at once."""
        return self.writer.write_less()

    def worst_take(self) -> None:
        """What writing takes in memory, with nothing written."""
        self.writer.worst()

    def state_dict(self) -> dict[str, Any]:
        """Where the prompts stand, and how much is written at once."""
        return {"prompts": self.prompts.state_dict(), "slots": self.writer.slots}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where `state_dict` stood."""
        self.prompts.load_state_dict(state["prompts"])
        self.writer.slots = state["slots"]


def numbered(batches: Sequence[PromptBatch]) -> list[tuple[int, list[int]]]:
    """The prompts of these batches, each with its row."""
    return [(row, prompt) for batch in batches for row, prompt in zip(batch.rows, batch.prompts(), strict=True)]


def in_rows(
    prompts: Sequence[Sequence[Answer]], numbers: Sequence[int], width: int, pad_id: int = 0
) -> tuple[AnswerBatch, list[int]]:
    """Prompts with their answers as a batch, several in a row of at most `width` tokens, or as many as the largest
    needs, and which of them stand in it, one after the other. numbers: of the prompts; a row has that of its first.
    """
    sizes = [tree_tokens([answer.tokens for answer in answers]) for answers in prompts]
    rows = _first_fit(sizes, max(*sizes, width))
    widest = max(sum(sizes[at] for at in row) for row in rows)
    texts = [[prompts[at] for at in row] for row in rows]
    batch = answer_batch(texts, [numbers[row[0]] for row in rows], widest, pad_id)
    return batch, [at for row in rows for at in row]


def worst_writing(policy: MiniMind, writing: Writing, slots: int = SLOTS) -> None:
    """What writing takes at once: the cache, and a step of all slots. From shapes alone."""
    device, dtype = policy.head_weight_VD.device, policy.head_weight_VD.dtype
    cache_bytes = kv_cache_bytes(policy.config, slots, writing.context_tokens, dtype)
    cache = torch.empty(cache_bytes, dtype=torch.uint8, device=device)
    with torch.no_grad():
        prompt_BT = torch.ones(1, min(256, writing.context_tokens), dtype=torch.int64, device=device)
        policy(prompt_BT)
        policy.logits(policy(torch.ones(slots, 1, dtype=torch.int64, device=device))).float()
    del cache


def _first_fit(sizes: Sequence[int], width: int) -> list[list[int]]:
    """Which of these lie in each row of this width: the largest first, each in the first row that has room for it."""
    rows: list[list[int]] = []
    room: list[int] = []
    for at in sorted(range(len(sizes)), key=lambda at: -sizes[at]):
        row = next((row for row, left in enumerate(room) if left >= sizes[at]), len(room))
        if row == len(room):
            rows.append([])
            room.append(width)
        rows[row].append(at)
        room[row] -= sizes[at]
    return rows


def _seed(seed: int, position: int, row: int, number: int, turn: int) -> int:
    name = f"rollout {seed} {position} {row} {number}" + (f" {turn}" if turn else "")
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
