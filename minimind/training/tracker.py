"""How well each prompt is answered, remembered from one visit to the next: the baseline of SPO.

Single-stream policy optimisation (Xu & Ding 2025, arXiv:2509.13232) tries a prompt once, where GRPO tries it many times
to have a mean to compare with. Of each prompt it remembers alpha and beta, which count what succeeded and what failed:

    expected        alpha / (alpha + beta), before the attempt that is judged by it
    after it        alpha <- rho alpha + r,  beta <- rho beta + 1 - r
    rho             2^(-D / D_HALF), between LEAST_KEPT and MOST_KEPT

D is how far the policy has moved since it last answered this prompt: the mean over the tokens of that answer of how
much their log-probability has changed. A prompt that was never tried has D = 0, and alpha = beta = 0.5; where it was
answered n times before the first step, s of them right, alpha = N_0 (s + 0.5) / (n + 1) and beta = N_0 - alpha. Rewards
outside 0 and 1 are remembered as a moving mean, whose rate is 1 / (rho N + 1) with N the attempts that still count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minimind.language import say
from minimind.training.advantages import Floats, Ints
from minimind.training.rollout import PromptBatch, Spans

D_HALF = 0.06
LEAST_KEPT, MOST_KEPT = 0.875, 0.96
N_0 = 1 / (1 - LEAST_KEPT)
"""As many attempts as are remembered at the least: so much the answers before the first step count."""

CURIOSITY = 0.05
"""Added to what prompts are drawn by, so that those always or never answered are tried again."""


@dataclass(frozen=True)
class Remembered:
    """The last answer to a prompt. tokens: with its prompt's; prompt: how many are the prompt's. logprobs: of its own
    tokens, in nats, as they were drawn. told: which of the others are not its own (`rollout.Written`).
    """

    tokens: list[int]
    prompt: int
    logprobs: list[float]
    told: Spans = ()


class Tracker:
    """What is remembered of a number of prompts. shares: whether rewards lie between 0 and 1. begun: whether it began
    with answers to all of them, before the first step.
    """

    def __init__(self, prompts: int, *, shares: bool = True) -> None:
        self.shares = shares
        before = 0.5 if shares else 0.0
        self.alpha_P: Floats = np.full(prompts, before)
        self.beta_P: Floats = np.full(prompts, before)
        self.answers: dict[int, Remembered] = {}
        self.begun = False

    def expected(self, rows: Ints) -> Floats:
        """The reward that each of these prompts is expected to bring."""
        expected_A: Floats = self.alpha_P[rows]
        return expected_A / (expected_A + self.beta_P[rows]) if self.shares else expected_A

    def begin(self, row: int, reward_N: Floats) -> None:
        """Before the first attempt: what N answers brought. Raises ValueError for a reward that cannot be counted."""
        if not self.shares:
            self.alpha_P[row], self.beta_P[row] = reward_N.mean(), N_0
            return
        for reward in reward_N.tolist():
            self._require_share(reward)
        self.alpha_P[row] = N_0 * (reward_N.sum() + 0.5) / (len(reward_N) + 1)
        self.beta_P[row] = N_0 - self.alpha_P[row]

    def update(self, row: int, reward: float, moved: float, answer: Remembered) -> None:
        """After an attempt. moved: D, in nats per token.

        Raises ValueError for a reward that cannot be counted.
        """
        if self.shares:
            self._require_share(reward)
        kept = float(np.clip(2 ** (-moved / D_HALF), LEAST_KEPT, MOST_KEPT))
        if self.shares:
            self.alpha_P[row] = kept * self.alpha_P[row] + reward
            self.beta_P[row] = kept * self.beta_P[row] + 1 - reward
        else:  # alpha is the mean, beta the attempts that count
            self.beta_P[row] = kept * self.beta_P[row] + 1
            self.alpha_P[row] += (reward - self.alpha_P[row]) / self.beta_P[row]
        self.answers[row] = answer

    @staticmethod
    def _require_share(reward: float) -> None:
        if not -1e-9 <= reward <= 1 + 1e-9:
            raise ValueError(
                say(
                    "a reward of {reward:g}: memory = counts is for rewards from 0 to 1. Set stage.memory=mean",
                    reward=reward,
                )
            )

    def draw(self, count: int, seed: int, position: int) -> list[int]:
        """So many different prompts, the likelier the less it is known how they are answered: without replacement by
        sqrt(v (1 - v)) + CURIOSITY (Efraimidis & Spirakis 2006: the largest u^(1 / weight)).
        """
        v_P = np.clip(self.expected(np.arange(len(self.alpha_P))), 0, 1)
        weight_P = np.sqrt(v_P * (1 - v_P)) + CURIOSITY
        digest = hashlib.blake2b(f"spo {seed} {position}".encode(), digest_size=8).digest()
        generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))
        key_P = np.log(generator.random(len(weight_P))) / weight_P
        return [int(row) for row in np.argsort(-key_P, kind="stable")[:count]]

    def state_dict(self) -> dict[str, Any]:
        """All of it, as plain values."""
        return {
            "alpha": self.alpha_P.tolist(),
            "beta": self.beta_P.tolist(),
            "begun": self.begun,
            "answers": {row: (one.tokens, one.prompt, one.logprobs, one.told) for row, one in self.answers.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where `state_dict` stood."""
        self.alpha_P, self.beta_P = np.array(state["alpha"]), np.array(state["beta"])
        self.answers = {int(row): Remembered(*one) for row, one in state["answers"].items()}
        self.begun = state.get("begun", bool(self.answers))  # an older state does not say so


class DrawnPrompts:
    """A PromptSource that draws each step's prompts by what a tracker knows of them; none twice in a step.

    batch: the prompts of these numbers. identity: of all of them, lest a run that goes on takes them for others. An
    epoch is as many prompts as there are, not each of them
    once. The tracker is the same on every worker, so all draw the same, and each takes its share.
    """

    def __init__(
        self,
        tracker: Tracker,
        batch: Callable[[Sequence[int]], PromptBatch],
        *,
        identity: Mapping[str, Any],
        batch_size: int,
        seed: int,
        epochs: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.tracker, self.batch, self.identity = tracker, batch, {**identity, "seed": seed}
        self.batch_size, self.seed, self.rank, self.world = batch_size, seed, rank, world
        self.prompts = len(tracker.alpha_P)
        self.total = epochs * self.prompts
        self.position = 0

    @property
    def done(self) -> bool:
        """True when as many prompts have been taken as there are in all epochs."""
        return self.position >= self.total

    def take(self, count: int) -> list[PromptBatch]:
        """The prompts of this rank for the next step."""
        whole = min(self._at_once(count), self.total - self.position)
        drawn = self.tracker.draw(whole, self.seed, self.position)
        begins = ((micro * self.world + self.rank) * self.batch_size for micro in range(count))
        parts = [drawn[begin : begin + self.batch_size] for begin in begins]
        self.position += whole
        return [self.batch(part) for part in parts if part]

    def every(self) -> Iterator[PromptBatch]:
        """The share of this rank in all prompts, each once, whatever is drawn."""
        for begin in range(self.rank * self.batch_size, self.prompts, self.world * self.batch_size):
            yield self.batch(range(begin, min(begin + self.batch_size, self.prompts)))

    def total_steps(self, accumulation_steps: int) -> int:
        """Optimizer steps until then."""
        return -(-self.total // self._at_once(accumulation_steps))

    def _at_once(self, count: int) -> int:
        """Prompts in a step of so many micro-batches: as none comes twice, no more than there are."""
        return min(self.batch_size * count * self.world, self.prompts)

    def stop_reading_ahead(self) -> bool:
        """False: nothing is read ahead."""
        return False

    def state_dict(self) -> dict[str, Any]:
        """How many prompts have been taken, and of which."""
        return {"position": self.position, **self.identity}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where `state_dict` stood. Raises ValueError where it counted other prompts."""
        for name, mine in self.identity.items():
            if state[name] != mine:
                raise ValueError(
                    say(
                        "can't continue here: {name} of the prompts was {theirs} and is {mine} now, and what is "
                        "remembered is of those of then. Continue with what the run began with, or start a new run "
                        "from its weights.",
                        name=name,
                        theirs=state[name],
                        mine=mine,
                    )
                )
        self.position = state["position"]


def changes(then: Sequence[Remembered], now: Sequence[Sequence[float]]) -> list[float]:
    """D of answers: the mean absolute change of their tokens' log-probabilities."""
    return [
        float(np.mean(np.abs(np.array(one.logprobs) - np.array(logprobs))))
        for one, logprobs in zip(then, now, strict=True)
    ]
