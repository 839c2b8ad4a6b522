"""Reinforcement learning needs no second loop: a source that generates while the loop pulls, and a frozen role.

The source writes completions with the policy as it is at that moment, scores them, and hands them out as micro-batches
over several epochs. It is stopped here in the middle of a rollout and continues to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from minimind.network.model import MiniMind
from minimind.training.batch import WholeRows
from minimind.training.objectives import Loss, Models
from minimind.training.optim import OptimConfig
from minimind.training.recipe import LoopConfig
from tests.toys import TOY_CONFIG, RecordingHooks, ToyRun, assert_same, toy_model, weights

PROMPT_TOKENS, NEW_TOKENS, GROUP = 2, 4, 4
WANTED = TOY_CONFIG.vocab_size // 2
"""The reward is the share of new tokens below this id."""


@dataclass(frozen=True)
class Rollouts(WholeRows):
    """Completions of one prompt. tokens_BT: prompt and completion; advantage_B: reward minus the group's mean."""

    tokens_BT: Tensor
    advantage_B: Tensor


class RolloutBatches:
    """Prompts -> completions of the policy as it is now -> rewards -> advantages -> micro-batches, twice each."""

    def __init__(self, policy: MiniMind, prompts: int) -> None:
        self.policy = policy
        self.prompts = prompts
        self.next_prompt = 0
        self.generator = torch.Generator().manual_seed(7)
        self.pending: list[Rollouts] = []
        self.rewards: list[float] = []

    @property
    def done(self) -> bool:
        return self.next_prompt == self.prompts and not self.pending

    def take(self, count: int) -> list[Rollouts]:
        if not self.pending:
            fresh = [self._roll_out() for _ in range(min(2, self.prompts - self.next_prompt))]
            self.pending = fresh * 2
        taken, self.pending = self.pending[:count], self.pending[count:]
        return taken

    @torch.no_grad()
    def _roll_out(self) -> Rollouts:
        prompt = torch.tensor([1 + self.next_prompt % 5, 9])
        tokens = prompt.expand(GROUP, -1)
        for _ in range(NEW_TOKENS):
            probability = torch.softmax(self.policy.logits(self.policy(tokens)[:, -1]), -1)
            tokens = torch.cat([tokens, torch.multinomial(probability, 1, generator=self.generator)], 1)
        reward = (tokens[:, PROMPT_TOKENS:] < WANTED).float().mean(1)
        self.rewards.append(float(reward.mean()))
        self.next_prompt += 1
        return Rollouts((self.next_prompt - 1,) * GROUP, tokens, reward - reward.mean())

    def stop_reading_ahead(self) -> bool:
        return False

    def state_dict(self) -> dict[str, Any]:
        return {
            "next_prompt": self.next_prompt,
            "generator": self.generator.get_state().tolist(),
            "pending": [(r.tokens_BT.tolist(), r.advantage_B.tolist(), list(r.rows)) for r in self.pending],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.next_prompt = state["next_prompt"]
        self.generator.set_state(torch.tensor(state["generator"], dtype=torch.uint8))
        self.pending = [
            Rollouts(tuple(rows), torch.tensor(tokens), torch.tensor(advantage))
            for tokens, advantage, rows in state["pending"]
        ]


def token_logprobs(model: MiniMind, tokens_BT: Tensor) -> Tensor:
    """[B, NEW_TOKENS] of the completion."""
    logprobs = F.log_softmax(model.logits(model(tokens_BT)), -1)[:, PROMPT_TOKENS - 1 : -1]
    return logprobs.gather(2, tokens_BT[:, PROMPT_TOKENS:, None])[..., 0]


def policy_gradient(models: Models, batch: Rollouts) -> Loss:
    """Reinforce with a group baseline, kept near the reference (the k3 estimator of the divergence)."""
    policy, reference = models["policy"], models["reference"]
    assert isinstance(policy, MiniMind)
    assert isinstance(reference, MiniMind)
    logprob_BN = token_logprobs(policy, batch.tokens_BT)
    ratio_BN = token_logprobs(reference, batch.tokens_BT) - logprob_BN
    divergence_BN = ratio_BN.exp() - 1 - ratio_BN
    weight = torch.tensor(float(logprob_BN.numel()))
    total = (0.01 * divergence_BN - batch.advantage_B[:, None] * logprob_BN).sum()
    return Loss(total, weight, {"ref_kl": (divergence_BN.sum(), weight)})


def new_run(prompts: int, model_seed: int = 0) -> ToyRun:
    models = {"policy": toy_model(model_seed), "reference": toy_model().requires_grad_(False)}
    return ToyRun(
        RolloutBatches(models["policy"], prompts),
        models,
        objective=policy_gradient,
        optim=OptimConfig(name="adamw", learning_rate=0.1),
        # Three of a rollout's four micro-batches: every other step begins in the middle of one.
        loop=LoopConfig(accumulation_steps=3, save_interval=1, log_interval=1),
    )


def test_a_run_stopped_in_the_middle_of_a_rollout_continues_to_the_last_bit() -> None:
    saved: list[dict[str, Any]] = []
    whole = new_run(6)
    hooks = whole.train(RecordingHooks(on_save=lambda state: saved.append(whole.state_dict())))
    final = whole.state_dict()
    assert [len(middle["batches"]["pending"]) for middle in saved] == [1, 0, 1, 0, 1, 0]
    for middle in saved:
        resumed = new_run(6, model_seed=1)
        resumed.load_state_dict(middle)
        resumed.train()
        assert_same(resumed.state_dict(), final)
    assert_same(weights(whole.models["reference"]), weights(toy_model()))
    assert hooks.metrics[0]["train/ref_kl"] == 0  # the policy began as the reference
    assert hooks.metrics[-1]["train/ref_kl"] > 0


def test_what_is_generated_follows_the_policy_as_it_learns() -> None:
    run = new_run(30)
    assert isinstance(run.batches, RolloutBatches)
    run.train()
    rewards = run.batches.rewards
    assert sum(rewards[-6:]) > 0.9 * 6 > sum(rewards[:6]) + 0.9
