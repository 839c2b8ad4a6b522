"""A step of distillation against a plain one in transformers: padded conversations, all logits, F.kl_div.

    python bench/distill_speed.py [--quick] [--threads 2] [--steps 4] [--temperature 2]

Both sides compute the same step on the same conversations with the same weights, without an optimizer: the teacher's
forward pass, and the student's forward and backward pass, of 0.5 x cross-entropy + 0.5 x T^2 x KL(teacher || student)
over the tokens of the answers, as a mean over them. Before anything is timed, loss and gradients of both are compared.

Ours is `minimind.training.distillation.distil` over rows packed as SFT packs them. The peer is what most people write:
Qwen3ForCausalLM for both, the conversations in random order as transformers' Trainer takes them (not sorted by length),
each batch padded to its longest; logits of all tokens, of which those of the answers are picked before they are
compared; F.kl_div with batchmean. Its batches have about as many conversations as ours.

The student is `tiny` (160 x 4, 2.3M parameters), the teacher 320 x 6 (9.8M), the vocabulary 6400. Both sides compute in
fp32, which is what the loop takes for `tiny` on a CPU. Conversations are random token ids, with lengths as measured:

    stock   of the stock data's conversations: questions of 25 tokens (95th percentile 35), answers of 14 (103); ours
            are in rows of 256 tokens, as SFT of `tiny` has them
    long    the same questions, answers of 200 to 400 tokens; rows of 640 tokens, which hold two and are 95 % full. The
            width decides: rows of 512 hold one (75 % full, ratio 1.2), in those of 1024 attention reads more (1.4)

Rounds alternate between the sides, each once over all conversations of a setting. CPU time is the judge (what else runs
on the machine hardly changes it), wall time is shown beside it. Memory: how far the peak RSS of a fresh process rises
above its RSS before the first of a round's steps.

The last line: `ratio` is the least of the settings' (peer's time / ours), `memory_ratio` the largest (ours / peer's).
"""

from __future__ import annotations

import sys
from pathlib import Path

# Imports below count from the checkout, not from this folder.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import argparse
import json
import os
import statistics
import subprocess
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # CPU time is not to count threads that wait

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from bench.train_speed import initial_weights, peak_rise, timed, write_shards
from data.pack import order, pack_shards
from data.rows import PackedRows
from minimind.checkpoints.convert import to_hf_config
from minimind.network.model import MODEL_PRESETS, MiniMind, ModelConfig
from minimind.training.distillation import Distillation, distil

STUDENT = MODEL_PRESETS["tiny"]
TEACHER = ModelConfig(hidden_size=320, num_hidden_layers=6, num_attention_heads=8, num_key_value_heads=4)
CONVERSATIONS = 4000
"""From which rows are packed; a round takes a few steps of them."""
PROMPT_TOKENS = (25, 35, 47)
"""Median, 95th percentile and most."""


@dataclass(frozen=True)
class Setting:
    """answer_tokens: median, 95th percentile and most, or least and most. width, rows: of a step of ours."""

    answer_tokens: tuple[int, int, int] | tuple[int, int]
    width: int
    rows: int


SETTINGS = {"stock": Setting((14, 103, 181), width=256, rows=4), "long": Setting((200, 400), width=640, rows=3)}


class Conversations:
    """Conversations of random ids, packed as a whole, and the rows of so many steps that are taken from them.

    answers: where the answer of each begins. steps: the rows of each step. taken: the conversations in these rows, in
    random order.
    """

    def __init__(self, setting: Setting, steps: int) -> None:
        rng = np.random.default_rng(0)
        prompts, answers = draw(rng, PROMPT_TOKENS), draw(rng, setting.answer_tokens)
        lengths = np.minimum(prompts + answers, setting.width).tolist()
        self.ids = [rng.integers(0, STUDENT.vocab_size, length, dtype=np.uint16) for length in lengths]
        self.answers = prompts.tolist()
        spans = [[begin, length] for begin, length in zip(self.answers, lengths, strict=True)]
        shards = write_shards(self.ids, STUDENT.vocab_size, spans)
        self.packing = pack_shards(shards, setting.width)
        self.rows = PackedRows(shards, self.packing)
        chosen = order(self.packing.rows, 0, 0)[: steps * setting.rows]
        self.steps: list[list[int]] = chosen.reshape(steps, setting.rows).tolist()
        self.taken: list[int] = rng.permutation(self.documents(chosen.tolist())).tolist()

    def documents(self, rows: list[int]) -> list[int]:
        """The conversations in these rows."""
        offsets = self.packing.row_offsets
        return [int(at) for row in rows for at in self.packing.piece_document[offsets[row] : offsets[row + 1]]]


def draw(rng: np.random.Generator, lengths: tuple[int, ...]) -> np.ndarray:
    """Lengths: log-normal with this median, 95th percentile and most, or even between least and most."""
    if len(lengths) == 2:
        return rng.integers(*lengths, CONVERSATIONS, endpoint=True)
    median, high, most = lengths
    spread = np.log(high / median) / 1.6449
    return np.exp(rng.normal(np.log(median), spread, CONVERSATIONS)).astype(int).clip(2, most)


class Ours:
    """`distil` over packed rows."""

    def __init__(self, conversations: Conversations, distillation: Distillation) -> None:
        self.conversations, self.distillation = conversations, distillation
        self.models = {"policy": MiniMind(STUDENT), "teacher": MiniMind(TEACHER)}
        self.models["policy"].load_state_dict(initial_weights(STUDENT))
        self.models["teacher"].load_state_dict(initial_weights(TEACHER))
        self.models["teacher"].requires_grad_(False)

    def round(self) -> None:
        """Once over all conversations that are taken."""
        for rows in self.conversations.steps:
            self.step(rows)

    def step(self, rows: list[int]) -> float:
        """The mean loss; gradients are of the mean as well."""
        batch = self.conversations.rows.batch(rows)
        self.models["policy"].zero_grad(set_to_none=True)
        loss = distil(self.models, batch, self.distillation)
        torch.autograd.backward(loss.total / loss.weight)
        return float(loss.total.detach() / loss.weight)


class Peer:
    """transformers' Qwen3 twice, over padded conversations."""

    def __init__(self, conversations: Conversations, distillation: Distillation) -> None:
        self.conversations, self.distillation = conversations, distillation
        self.policy, self.teacher = hf_model(STUDENT).train(), hf_model(TEACHER).eval().requires_grad_(False)
        self.batch_size = round(len(conversations.taken) / len(conversations.steps))

    def round(self) -> None:
        """Once over all conversations that are taken."""
        for start in range(0, len(self.conversations.taken), self.batch_size):
            self.step(self.conversations.taken[start : start + self.batch_size])

    def step(self, documents: list[int]) -> float:
        """The mean loss; gradients are of the mean as well."""
        self.policy.zero_grad(set_to_none=True)
        conversations = [(self.conversations.ids[at], self.conversations.answers[at]) for at in documents]
        width = max(len(ids) for ids, _ in conversations)
        tokens = torch.zeros(len(conversations), width, dtype=torch.int64)
        real, learnt = torch.zeros_like(tokens), torch.zeros_like(tokens, dtype=torch.bool)
        for row, (ids, begin) in enumerate(conversations):
            tokens[row, : len(ids)] = torch.from_numpy(ids.astype(np.int64))
            real[row, : len(ids)] = 1
            learnt[row, begin : len(ids)] = True
        with torch.no_grad():
            teacher_logits = self.answers(self.teacher, tokens, real, learnt)
        logits = self.answers(self.policy, tokens, real, learnt)
        alpha, temperature = self.distillation.alpha, self.distillation.temperature
        divergence = F.kl_div(
            F.log_softmax(logits / temperature, dim=-1),
            F.softmax(teacher_logits / temperature, dim=-1),
            reduction="batchmean",
        )
        cross_entropy = F.cross_entropy(logits, tokens[learnt])
        loss = alpha * cross_entropy + (1 - alpha) * temperature**2 * divergence
        torch.autograd.backward(loss)
        return float(loss.detach())

    def answers(self, model: nn.Module, tokens: Tensor, real: Tensor, learnt: Tensor) -> Tensor:
        """The logits of the tokens that are to be learnt."""
        logits: Tensor = model(input_ids=tokens, attention_mask=real, use_cache=False).logits
        return logits[:, :-1][learnt[:, 1:]]


SIDES: dict[str, type[Ours] | type[Peer]] = {"ours": Ours, "peer": Peer}


def hf_model(config: ModelConfig) -> Any:
    """The model of transformers with the weights of ours."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    model = Qwen3ForCausalLM(Qwen3Config(**to_hf_config(config)))
    model.set_attn_implementation("sdpa")
    model.load_state_dict(initial_weights(config), strict=False)  # the tied head is the embedding
    return model


def require_same(ours: Ours, peer: Peer) -> None:
    """Raise AssertionError unless both sides compute the same loss and gradients of the same conversations."""
    rows = ours.conversations.steps[0][:1]
    mine, theirs = ours.step(rows), peer.step(ours.conversations.documents(rows))
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=0)
    gradients = dict(peer.policy.named_parameters())
    for name, parameter in ours.models["policy"].named_parameters():
        scale = float(gradients[name].grad.abs().max())
        torch.testing.assert_close(parameter.grad, gradients[name].grad, rtol=1e-3, atol=1e-4 * scale)


def compare(name: str, distillation: Distillation, args: argparse.Namespace, console: Console) -> dict[str, float]:
    """Speed of both sides in one of SETTINGS."""
    conversations = Conversations(SETTINGS[name], args.steps)
    ours, peer = Ours(conversations, distillation), Peer(conversations, distillation)
    require_same(ours, peer)
    sides: dict[str, Ours | Peer] = {"ours": ours, "peer": peer}
    for side in sides.values():
        side.round()
    seconds: dict[str, list[tuple[float, float]]] = {what: [] for what in sides}
    for number in range(args.rounds):
        for what in list(sides) if number % 2 else list(sides)[::-1]:
            seconds[what].append(timed(sides[what].round, 1))
    tokens = sum(len(conversations.ids[at]) for at in conversations.taken)
    learnt = tokens - sum(conversations.answers[at] for at in conversations.taken)
    title = f"{name}: {args.rounds} rounds of {args.steps} steps, {len(conversations.taken)} conversations, "
    title += f"{tokens} tokens, {learnt} of them learnt"
    table = Table("", "CPU s", "wall s", "learnt tokens / CPU s", title=title)
    for what, values in seconds.items():
        cpu, wall = (statistics.median(value[clock] for value in values) for clock in (0, 1))
        table.add_row(what, f"{cpu:.2f}", f"{wall:.2f}", f"{learnt / cpu:.0f}")
    ratios = [
        [theirs[clock] / mine[clock] for mine, theirs in zip(seconds["ours"], seconds["peer"], strict=True)]
        for clock in (0, 1)
    ]
    cpu_ratio, wall_ratio = (statistics.median(values) for values in ratios)
    spread = [f"{min(values):.2f} to {max(values):.2f}" for values in ratios]
    table.add_row("ratio (spread)", f"{cpu_ratio:.2f} ({spread[0]})", f"{wall_ratio:.2f} ({spread[1]})", "")
    console.print(table)
    return {f"ratio_{name}": round(cpu_ratio, 3), f"wall_ratio_{name}": round(wall_ratio, 3)}


def memory(name: str, args: argparse.Namespace, console: Console) -> dict[str, float]:
    """How far memory rises in a round, each side in processes of its own."""
    rises: dict[str, list[int]] = {what: [] for what in SIDES}
    # Without the threshold freed memory stays with the allocator and adds noise of a hundred megabytes.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    options = [f"--{option}={getattr(args, option)}" for option in ("threads", "temperature", "steps")]
    for _ in range(1 if args.quick else 3):
        for what, values in rises.items():
            command = [sys.executable, __file__, "--memory_of", what, name, *options]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
            values.append(int(done.stdout))
    ours, peer = (statistics.median(rises[what]) for what in ("ours", "peer"))
    console.print(f"{name}: memory rises by {ours / 1e6:.0f} MB, the peer's by {peer / 1e6:.0f} MB: {ours / peer:.3f}")
    return {f"memory_ratio_{name}": round(ours / peer, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=4, help="of each side in a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--temperature", type=float, default=2.0)
    parser.add_argument("--quick", action="store_true", help="a smoke run: its figures mean little")
    parser.add_argument("--memory_of", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.quick:
        args.rounds = args.steps = 1
    torch.set_num_threads(args.threads)
    distillation = Distillation(alpha=0.5, temperature=args.temperature)
    if args.memory_of:
        what, name = args.memory_of
        print(peak_rise(SIDES[what](Conversations(SETTINGS[name], args.steps), distillation).round))
        return
    console = Console(width=130)
    figures: dict[str, float] = {}
    for name in SETTINGS:
        figures |= compare(name, distillation, args, console)
        figures |= memory(name, args, console)
    worst = {
        "ratio": min(figures[f"ratio_{name}"] for name in SETTINGS),
        "memory_ratio": max(figures[f"memory_ratio_{name}"] for name in SETTINGS),
    }
    print(json.dumps(worst | figures))


if __name__ == "__main__":
    main()
