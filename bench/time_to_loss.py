"""How much sooner our recipe reaches the validation loss that the usual recipe has at its end.

    python bench/time_to_loss.py [--sizes tiny 256x4] [--seeds 3] [--quick]
    python bench/time_to_loss.py --rates 0.003 0.006 0.012     # how the learning rates of the presets were chosen

The usual recipe, as upstream MiniMind and most people have it: transformers' Qwen3 model with weights drawn from
N(0, 0.02), rows padded to max_seq_len, AdamW with a learning rate of 5e-4 that falls by a cosine to a tenth without a
warm-up, 200 steps or one pass over the corpus. Ours: the preset of `jobs/stages/pretrain.py` over packed rows, planned
for a part of the peer's tokens (SHARE), its loss measured on the way. Corpus, tokenizer, held-out documents, shape and
rows x width of a step are the same. Validation is in bits per byte and is not part of the time. Tokens are real
(non-padding) ones.

Ratios are the peer's at its end over ours at the crossing, medians over seeds and sizes.
"""

from __future__ import annotations

import sys
from pathlib import Path

# Imports below count from the checkout, not from this folder.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import argparse
import itertools
import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from data.batches import OrderedBatches, in_order
from data.pack import Packing, pack
from data.prepare import tokenise
from data.read import iter_texts
from data.rows import PackedRows
from data.shards import TokenShards
from data.split import hold_out
from jobs.paths import stock_folder
from jobs.stages.pretrain import pretrain
from minimind.checkpoints.convert import to_hf_config
from minimind.device.distributed import Parallel
from minimind.network.model import MODEL_PRESETS, MiniMind, ModelConfig
from minimind.text.tokenizer import Tokenizer
from minimind.training.evaluate import validate
from minimind.training.loop import train
from minimind.training.objectives import next_token_loss
from minimind.training.optim import OptimConfig, build_optimizer, learning_rate_factor
from minimind.training.precision import Precision
from minimind.training.recipe import LoopConfig, Recipe
from minimind.training.train_state import TrainState
from minimind.training.trial_steps import NoHooks

WIDTH, ROWS = 256, 8
SHARE = 0.3
"""Our run is planned for this share of the tokens that the peer sees."""
EVALUATIONS = 30

SIZES: dict[str, tuple[ModelConfig, OptimConfig]] = {
    "tiny": (MODEL_PRESETS["tiny"], pretrain("tiny").optim),
    "256x4": (ModelConfig(hidden_size=256, num_hidden_layers=4), pretrain("30m").optim),
}


@dataclass
class Clock:
    """CPU and wall seconds, running only inside `with`."""

    cpu_s: float = 0.0
    wall_s: float = 0.0
    _started: list[tuple[float, float]] = field(default_factory=list)

    def __enter__(self) -> None:
        self._started.append((time.process_time(), time.perf_counter()))

    def __exit__(self, *_: object) -> None:
        cpu, wall = self._started.pop()
        self.cpu_s += time.process_time() - cpu
        self.wall_s += time.perf_counter() - wall


@dataclass(frozen=True)
class Point:
    """How good a model was, and what that had cost."""

    bits_per_byte: float
    tokens: float
    cpu_s: float
    wall_s: float


class Corpus:
    """The stock text as shards, its held-out part, and rows of it."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.tokenizer = Tokenizer.train(iter_texts(source), 6400, split_cjk=True)
        self.shards: TokenShards = tokenise([source], self.tokenizer, folder)
        self.documents, held_out = hold_out(self.shards, 0.02, 100)
        self.packing: Packing = pack(self.shards.lengths, WIDTH, self.documents)
        self.held_out = pack(self.shards.lengths, WIDTH, held_out)
        self.held_out_bytes = int(self.shards.text_bytes[held_out].sum())

    def bits_per_byte(self, model: MiniMind) -> float:
        """Of the held-out documents."""
        batches = in_order(PackedRows(self.shards, self.held_out), batch_size=ROWS)
        precision = Precision(torch.float32, torch.device("cpu"))
        models = {"policy": model}
        return validate(models, next_token_loss, batches, self.held_out_bytes, precision, Parallel()).bits_per_byte


def peer_run(corpus: Corpus, config: ModelConfig, seed: int, steps_at_most: int) -> Point:
    """The usual recipe to its end."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    generator = torch.Generator().manual_seed(seed)
    own = MiniMind(config)
    weights = own.state_dict()
    for tensor in weights.values():
        if tensor.ndim == 2:
            tensor.normal_(0.0, 0.02, generator=generator)
    model = Qwen3ForCausalLM(Qwen3Config(**to_hf_config(config)))
    model.set_attn_implementation("sdpa")
    model.load_state_dict(weights, strict=False)  # the tied head is the embedding
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, fused=True)
    order = torch.randperm(len(corpus.documents), generator=generator).tolist()
    steps = min(steps_at_most, math.ceil(len(order) / ROWS))
    clock, tokens_seen = Clock(), 0
    for step in range(steps):
        with clock:
            tokens = torch.zeros(ROWS, WIDTH, dtype=torch.int64)
            mask = torch.zeros_like(tokens)
            for row, index in enumerate(order[step * ROWS : (step + 1) * ROWS]):
                document = corpus.shards.document(int(corpus.documents[index]))[:WIDTH]
                tokens[row, : len(document)] = torch.from_numpy(document.astype(np.int64))
                mask[row, : len(document)] = 1
            for group in optimizer.param_groups:
                group["lr"] = 5e-4 * (0.1 + 0.45 * (1 + math.cos(math.pi * step / steps)))
            labels = tokens.masked_fill(mask == 0, -100)
            loss = model(input_ids=tokens, attention_mask=mask, labels=labels, use_cache=False).loss
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        tokens_seen += int(mask.sum())
    own.load_state_dict({name: tensor for name, tensor in model.state_dict().items() if name in weights})
    return Point(corpus.bits_per_byte(own), tokens_seen, clock.cpu_s, clock.wall_s)


def new_model(config: ModelConfig, seed: int) -> MiniMind:
    """A model with the weights that this seed draws."""
    model = MiniMind(config)
    model.initialize(torch.Generator().manual_seed(seed))
    return model


def our_run(
    corpus: Corpus, model: MiniMind, optim: OptimConfig, seed: int, steps: int, measurements: int = EVALUATIONS
) -> Iterator[Point]:
    """Our recipe planned for `steps`, measured so often on the way; the model is trained in place."""
    batches = OrderedBatches(PackedRows(corpus.shards, corpus.packing), batch_size=ROWS, seed=seed, epochs=100)
    recipe = Recipe(
        models={"policy": model},
        objective=next_token_loss,
        batches=batches,
        optimizer=build_optimizer({"policy": model}, optim),
        learning_rate=lambda step: optim.learning_rate * learning_rate_factor(optim, step, steps),
        precision=Precision(torch.float32, torch.device("cpu")),
        loop=LoopConfig(log_interval=10**9),
        total_steps=steps,
        grad_clip=optim.grad_clip,
    )
    state, clock = TrainState(), Clock()
    every = max(1, steps // measurements)
    for end in range(every, steps + 1, every):
        with clock:
            train(replace(recipe, total_steps=end), state, NoHooks(), Parallel())
        yield Point(corpus.bits_per_byte(model), state.tokens, clock.cpu_s, clock.wall_s)


def crossing(points: list[Point], target: float) -> Point | None:
    """Where a run first was as good as `target`, between the two measurements around it."""
    for before, after in itertools.pairwise(points):
        if after.bits_per_byte <= target:
            gap = before.bits_per_byte - after.bits_per_byte
            share = min(1.0, max(0.0, (before.bits_per_byte - target) / gap if gap > 0 else 1.0))
            at = [
                getattr(before, name) + share * (getattr(after, name) - getattr(before, name))
                for name in ("tokens", "cpu_s", "wall_s")
            ]
            return Point(target, *at)
    return None


def compare(corpus: Corpus, args: argparse.Namespace, console: Console) -> dict[str, float]:
    """Both recipes for every size and seed."""
    table = Table(
        "size",
        "seed",
        "peer: bits/byte",
        "tokens",
        "CPU s",
        "ours there: tokens",
        "CPU s",
        "CPU",
        "wall",
        "tokens",
        "our end",
    )
    ratios: dict[str, list[float]] = {"wall_ratio": [], "cpu_ratio": [], "token_ratio": []}
    for name in args.sizes:
        config, optim = SIZES[name]
        for seed in range(args.seeds):
            peer = peer_run(corpus, config, seed, 10 if args.quick else args.peer_steps)
            steps = max(4, round(SHARE * peer.tokens / (ROWS * WIDTH * corpus.packing.utilisation)))
            points = list(our_run(corpus, new_model(config, seed), optim, seed, steps))
            there = crossing(points, peer.bits_per_byte)
            row = [name, str(seed), f"{peer.bits_per_byte:.3f}", f"{peer.tokens:.0f}", f"{peer.cpu_s:.0f}"]
            if there is None:
                table.add_row(*row, "not reached", "", "", "", "", f"{points[-1].bits_per_byte:.3f}")
                ratios["cpu_ratio"].append(0.0)
                continue
            found = [peer.cpu_s / there.cpu_s, peer.wall_s / there.wall_s, peer.tokens / there.tokens]
            for key, value in zip(("cpu_ratio", "wall_ratio", "token_ratio"), found, strict=True):
                ratios[key].append(value)
            console.print(f"{name} seed {seed}: " + ", ".join(f"{value:.2f}" for value in found), style="dim")
            row += [f"{there.tokens:.0f}", f"{there.cpu_s:.0f}", *(f"{value:.2f}" for value in found)]
            table.add_row(*row, f"{points[-1].bits_per_byte:.3f}")
    console.print(table)
    return {key: round(statistics.median(values), 2) if values else 0.0 for key, values in ratios.items()}


def learning_rates(corpus: Corpus, args: argparse.Namespace, console: Console) -> dict[str, float]:
    """Bits per byte after the same tokens for each rate, and the best rate of each size."""
    table = Table("size", "optimizer", "learning rate", *(f"seed {seed}" for seed in range(args.seeds)), "median")
    best: dict[str, tuple[float, float]] = {}
    for name in args.sizes:
        config, preset = SIZES[name]
        for optimizer in args.optimizers:
            for rate in args.rates:
                optim = preset.model_copy(update={"learning_rate": rate, "name": optimizer})
                ends = [
                    list(our_run(corpus, new_model(config, seed), optim, seed, args.steps, 1))[-1]
                    for seed in range(args.seeds)
                ]
                bits = [end.bits_per_byte for end in ends]
                median = statistics.median(bits)
                cells = [name, optimizer, f"{rate:g}", *(f"{value:.3f}" for value in bits), f"{median:.3f}"]
                table.add_row(*cells)
                console.print("  ".join(cells), style="dim")
                if name not in best or median < best[name][0]:
                    best[name] = median, rate
    console.print(table)
    return {f"best_rate_{name}": rate for name, (_, rate) in best.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="pretrain rows; default: the stock data (`minimind data fetch`)")
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="torch threads; more than one wants an idle machine")
    parser.add_argument("--peer_steps", type=int, default=200, help="at most; one pass over the corpus is the most")
    parser.add_argument("--rates", nargs="+", type=float, help="compare learning rates instead of recipes")
    parser.add_argument("--optimizers", nargs="+", default=["muon"], choices=["muon", "adamw"], help="with --rates")
    parser.add_argument("--steps", type=int, default=80, help="with --rates: steps of 2048 tokens")
    parser.add_argument("--quick", action="store_true", help="a smoke run: its figures mean nothing")
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.sizes, args.steps = 1, ["tiny"], 4
    torch.set_num_threads(args.threads)
    console = Console(width=150)
    with tempfile.TemporaryDirectory() as folder:
        corpus = Corpus(args.data or stock_folder() / "pretrain.jsonl", Path(folder))
        console.print(
            f"{len(corpus.documents)} documents, packed {corpus.packing.tokens} tokens in {corpus.packing.rows} rows; "
            f"held out: {corpus.held_out_bytes} bytes"
        )
        figures = (learning_rates if args.rates else compare)(corpus, args, console)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
