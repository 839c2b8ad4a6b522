"""Answers that the policy writes itself while it trains: prompts -> our engine with the weights of now -> batches."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
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

    answers: to each prompt. max_tokens: of each; fewer where prompt and answer would be longer than context_tokens.
    stop_id: the token that ends an answer, and is learnt as its last.
    """

    seed: int
    answers: int
    max_tokens: int
    context_tokens: int
    stop_id: int
    temperature: float = 1.0
    pad_id: int = 0


class Rollouts:
    """A GeneratingSource: what a step trains on is written when it is taken, with the weights as they are then.

    So nothing is left over between steps, and its state is that of its prompts.
    """

    def __init__(self, prompts: PromptSource, models: Models, writing: Writing) -> None:
        self.prompts, self.models, self.writing = prompts, models, writing
        self.slots = SLOTS

    @property
    def policy(self) -> MiniMind:
        """The model that writes."""
        policy = self.models["policy"]
        assert isinstance(policy, MiniMind)
        return policy

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
        asked = [(row, prompt) for batch in batches for row, prompt in zip(batch.rows, batch.prompts(), strict=True)]
        written = iter(self._written(position, asked))
        return [self._batch([next(written) for _ in batch.rows], batch.rows) for batch in batches]

    def stop_reading_ahead(self) -> bool:
        """Whether the prompts were read ahead."""
        return self.prompts.stop_reading_ahead()

    def generate_less(self) -> str:
        """Write half as many answers at once."""
        if self.slots == 1:
            return ""
        self.slots //= 2
        return say("at most {count} answers are written at once from now on", count=self.slots)

    def worst_take(self) -> None:
        """What writing takes in memory, with nothing written."""
        worst_writing(self.policy, self.writing, self.slots)

    def state_dict(self) -> dict[str, Any]:
        """Where the prompts stand, and how much is written at once."""
        return {"prompts": self.prompts.state_dict(), "slots": self.slots}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where `state_dict` stood."""
        self.prompts.load_state_dict(state["prompts"])
        self.slots = state["slots"]

    def _written(self, position: int, asked: Sequence[tuple[int, list[int]]]) -> list[list[Answer]]:
        """To each numbered prompt its answers."""
        how = self.writing
        if not asked:
            return []
        requests = [(row, prompt, number) for row, prompt in asked for number in range(how.answers)]
        params = [
            SamplingParams(
                min(how.max_tokens, how.context_tokens - len(prompt)),
                temperature=how.temperature,
                seed=_seed(how.seed, position, row, number),
                stop_ids=(how.stop_id,),
            )
            for row, prompt, number in requests
        ]
        policy = self.policy
        was_training = policy.training
        policy.eval()  # an adapter's dropout is for learning
        try:
            engine = Engine(policy, slots=self.slots, context_tokens=how.context_tokens)
            found = engine.generate([prompt for _, prompt, _ in requests], params)
        finally:
            policy.train(was_training)
        answers = [
            _answer(prompt, completion.token_ids) for (_, prompt, _), completion in zip(requests, found, strict=True)
        ]
        return [answers[start : start + how.answers] for start in range(0, len(answers), how.answers)]

    def _batch(self, answers: list[list[Answer]], numbers: Sequence[int]) -> AnswerBatch:
        """Rows of prompts with their answers, each under the number of the first prompt in it."""
        sizes = [tree_tokens([answer.tokens for answer in each]) for each in answers]
        rows = _first_fit(sizes, max(*sizes, self.writing.context_tokens))
        width = max(sum(sizes[at] for at in row) for row in rows)
        prompts = [[answers[at] for at in row] for row in rows]
        return answer_batch(prompts, [numbers[row[0]] for row in rows], width, self.writing.pad_id)


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


def _answer(prompt: list[int], written: list[int]) -> Answer:
    ids = [*prompt, *written]
    return Answer(np.array(ids), np.arange(len(ids)) >= len(prompt))


def _seed(seed: int, position: int, row: int, number: int) -> int:
    digest = hashlib.blake2b(f"rollout {seed} {position} {row} {number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
