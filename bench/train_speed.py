"""Our whole training step against what most people run: transformers' Qwen3, rows padded to max_seq_len, full logits.

    python bench/train_speed.py [--quick] [--compile] [--threads 1]

Both sides train the same weights on the same documents, truncated to T tokens: ours packed, by
`minimind.training.loop.train` (chunked cross-entropy, clipping), the peer's one document a row with an attention mask
(cross-entropy over all logits, clipping). The optimizer is the same fused AdamW on both sides, so that the ratio is
that of everything else.

Documents are random token ids whose lengths are log-normal with the median (174 tokens) and the 95th percentile (1367)
that short Chinese and English instruction data was measured to have.

Real tokens per second = slots per second (rows x T, padding included), times the share of the slots that holds real
tokens over all documents: how long a step takes depends on its slots alone, so no luck of the draw is in the ratio.
Rounds alternate between the sides. CPU time is the judge (what else runs on the machine hardly changes it), wall time
is shown beside it. MFU: 6 x weights in matrix products x real tokens, over the rate of a 2048^3 fp32 product in the
same round. Memory: how far the peak RSS of a fresh process rises above its RSS before the first of two steps.
"""

from __future__ import annotations

import sys
from pathlib import Path

# Imports below count from the checkout, not from this folder.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import argparse
import gc
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import psutil
import pyarrow as pa
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from data.batches import OrderedBatches
from data.pack import pack
from data.rows import PackedRows
from data.shards import ShardWriter, TokenShards, shard_schema
from minimind.checkpoints.convert import to_hf_config
from minimind.device.distributed import Parallel
from minimind.network.model import MODEL_PRESETS, MiniMind, ModelConfig
from minimind.training.loop import train
from minimind.training.objectives import next_token_loss
from minimind.training.optim import OptimConfig, build_optimizer
from minimind.training.precision import Precision
from minimind.training.recipe import LoopConfig, Recipe
from minimind.training.train_state import TrainState
from minimind.training.trial_steps import NoHooks

MEDIAN_TOKENS, P95_TOKENS = 174, 1367
OPTIM = OptimConfig(name="adamw", learning_rate=5e-4)
CASES: dict[str, tuple[ModelConfig, int, int]] = {
    "30m": (MODEL_PRESETS["30m"], 340, 4),
    "256x4": (ModelConfig(hidden_size=256, num_hidden_layers=4), 256, 8),
}
"""Model, T, rows per step."""
MEMORY_ROWS = 8


class Side(Protocol):
    """One of the two that are compared. utilisation: share of the slots of all documents that is real."""

    utilisation: float

    def step(self) -> None:
        """One optimizer step."""


class Ours:
    """`minimind.training.loop.train` over packed rows, one more step at each call."""

    def __init__(self, config: ModelConfig, width: int, batch_size: int, documents: list[np.ndarray]) -> None:
        self.model = MiniMind(config)
        self.model.load_state_dict(initial_weights(config))
        shards = write_shards(documents, config.vocab_size)
        packing = pack(shards.lengths, width)
        self.batches = OrderedBatches(PackedRows(shards, packing), batch_size=batch_size, seed=0, epochs=1000)
        self.utilisation = packing.utilisation
        self.optimizer = build_optimizer({"policy": self.model}, OPTIM)
        self.precision = Precision(torch.float32, torch.device("cpu"))
        self.state = TrainState()

    def step(self) -> None:
        recipe = Recipe(
            models={"policy": self.model},
            objective=next_token_loss,
            batches=self.batches,
            optimizer=self.optimizer,
            learning_rate=lambda step: OPTIM.learning_rate,
            precision=self.precision,
            loop=LoopConfig(log_interval=1000),
            total_steps=self.state.step + 1,
            grad_clip=OPTIM.grad_clip,
        )
        train(recipe, self.state, NoHooks(), Parallel())


class Peer:
    """transformers' Qwen3ForCausalLM over padded rows, the loss that it computes itself."""

    def __init__(self, config: ModelConfig, width: int, batch_size: int, documents: list[np.ndarray]) -> None:
        from transformers import Qwen3Config, Qwen3ForCausalLM

        self.model = Qwen3ForCausalLM(Qwen3Config(**to_hf_config(config)))
        self.model.set_attn_implementation("sdpa")
        self.model.load_state_dict(initial_weights(config), strict=False)  # the tied head is the embedding
        self.model.train()
        self.width, self.batch_size, self.documents = width, batch_size, documents
        self.utilisation = sum(len(document) for document in documents) / (len(documents) * width)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=OPTIM.learning_rate,
            betas=(OPTIM.beta1, OPTIM.beta2),
            weight_decay=OPTIM.weight_decay,
            fused=True,
        )
        self.position = 0

    def step(self) -> None:
        tokens = torch.zeros(self.batch_size, self.width, dtype=torch.int64)
        mask = torch.zeros_like(tokens)
        for row in range(self.batch_size):
            document = self.documents[self.position % len(self.documents)]
            tokens[row, : len(document)] = torch.from_numpy(document.astype(np.int64))
            mask[row, : len(document)] = 1
            self.position += 1
        labels = tokens.masked_fill(mask == 0, -100)
        loss = self.model(input_ids=tokens, attention_mask=mask, labels=labels, use_cache=False).loss
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), OPTIM.grad_clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def initial_weights(config: ModelConfig) -> dict[str, torch.Tensor]:
    """The weights that both sides begin with. Output projections are drawn too: zeros are no typical numbers."""
    generator = torch.Generator().manual_seed(0)
    weights = MiniMind(config).state_dict()
    for tensor in weights.values():
        if tensor.ndim == 2:
            tensor.normal_(0.0, 0.02, generator=generator)
    return weights


def make_documents(width: int, vocab_size: int, count: int = 4000) -> list[np.ndarray]:
    """Documents of random token ids, truncated to `width`."""
    draw = np.random.default_rng(0)
    spread = np.log(P95_TOKENS / MEDIAN_TOKENS) / 1.6449
    lengths = np.exp(draw.normal(np.log(MEDIAN_TOKENS), spread, count)).astype(int).clip(2, width)
    return [draw.integers(0, vocab_size, length, dtype=np.uint16) for length in lengths.tolist()]


def write_shards(documents: list[np.ndarray], vocab_size: int, targets: list[list[int]] | None = None) -> TokenShards:
    """The documents as token shards. targets: of conversations, [start, end) of what is to be learnt of each."""
    schema = shard_schema(vocab_size, chosen_targets=targets is not None)
    with tempfile.TemporaryDirectory() as folder, ShardWriter(Path(folder), schema) as writer:
        count = len(documents)
        columns = {
            "tokens": documents,
            "bytes": np.zeros(count, np.int32),
            "digest": np.zeros(count, np.uint64),
            "file": np.zeros(count, np.int32),
            "line": np.arange(count),
            **({} if targets is None else {"targets": targets}),
        }
        writer.write(pa.RecordBatch.from_pydict(columns, schema=writer.schema))
        writer.finish([], "random token ids", 0)
        return TokenShards.open(folder, "random token ids")  # stays mapped when the folder goes


def timed(run: Callable[[], Any], times: int) -> tuple[float, float]:
    """Seconds of CPU and of wall time per run."""
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(times):
        run()
    return (time.process_time() - cpu) / times, (time.perf_counter() - wall) / times


def gemm_seconds_per_flop() -> tuple[float, float]:
    """CPU and wall seconds per floating-point operation of a large fp32 matrix product."""
    a, b = torch.ones(2048, 2048), torch.ones(2048, 2048)
    cpu, wall = timed(lambda: torch.mm(a, b), 2)
    flop = 2 * 2048**3
    return cpu / flop, wall / flop


def compare(name: str, args: argparse.Namespace, console: Console) -> dict[str, float]:
    """Speed of both sides on one of CASES."""
    config, width, batch_size = CASES[name]
    documents = make_documents(width, config.vocab_size)
    ours, peer = Ours(config, width, batch_size, documents), Peer(config, width, batch_size, documents)
    flops_per_token = ours.model.flops_per_token()
    if args.compile:
        ours.model.compile_blocks()
    sides: dict[str, Side] = {"ours": ours, "peer": peer}
    steps = 1 if args.quick else max(1, round(3e11 / (flops_per_token * batch_size * width)))
    for side in sides.values():
        side.step()
    rounds: list[dict[str, tuple[float, float]]] = []
    for number in range(args.rounds):
        row = {"gemm": gemm_seconds_per_flop()}
        for what in list(sides) if number % 2 else list(sides)[::-1]:
            row[what] = timed(sides[what].step, steps)
        rounds.append(row)

    slots = batch_size * width
    rates = {
        what: [[slots * side.utilisation / row[what][clock] for row in rounds] for clock in (0, 1)]
        for what, side in sides.items()
    }
    ratios = [[a / b for a, b in zip(rates["ours"][clock], rates["peer"][clock], strict=True)] for clock in (0, 1)]
    title = f"{name}: T = {width}, {batch_size} rows a step, {args.rounds} rounds of {steps} steps"
    table = Table("", "utilisation", "real tokens / CPU s", "real tokens / s", "CPU s / step", "MFU", title=title)
    mfus = {}
    for what, side in sides.items():
        cpu, wall = (statistics.median(values) for values in rates[what])
        mfus[what] = statistics.median(
            flops_per_token * rate * row["gemm"][0] for rate, row in zip(rates[what][0], rounds, strict=True)
        )
        per_step = statistics.median(row[what][0] for row in rounds)
        table.add_row(
            what, f"{side.utilisation:.3f}", f"{cpu:.0f}", f"{wall:.0f}", f"{per_step:.3f}", f"{mfus[what]:.3f}"
        )
    ratio, wall_ratio = (statistics.median(values) for values in ratios)
    spread = [f"{min(values):.2f} to {max(values):.2f}" for values in ratios]
    table.add_row("ratio (spread)", "", f"{ratio:.3f} ({spread[0]})", f"{wall_ratio:.3f} ({spread[1]})", "", "")
    table.add_row("the ratio x the peer's utilisation", "", f"{ratio * peer.utilisation:.3f}", "", "", "")
    rate = 1e-9 / statistics.median(row["gemm"][0] for row in rounds)
    table.add_row("2048^3 fp32 product, GFLOP / CPU s", "", f"{rate:.0f}", "", "", "")
    console.print(table)
    return {
        f"ratio_{name}": round(ratio, 3),
        f"wall_ratio_{name}": round(wall_ratio, 3),
        f"utilisation_{name}": round(peer.utilisation, 3),
        f"mfu_{name}": round(mfus["ours"], 3),
    }


def memory(args: argparse.Namespace, console: Console) -> dict[str, float]:
    """Peak memory increments on 30m at equal rows x T, each in a process of its own."""
    increments = {}
    table = Table("", "peak RSS above that before the first step", "of the peer's")
    for what in ("peer", "ours", "ours with activation checkpointing"):
        # Without the threshold freed memory stays with the allocator and adds noise of a hundred megabytes.
        environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
        command = [sys.executable, __file__, "--memory_of", what, "--threads", str(args.threads)]
        command += ["--quick"] if args.quick else []
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
        increments[what] = int(done.stdout)
        table.add_row(what, f"{increments[what] / 1e6:.0f} MB", f"{increments[what] / increments['peer']:.3f}")
    rows = 1 if args.quick else MEMORY_ROWS
    table.title = f"30m: {rows} rows of {CASES['30m'][1]} tokens, two steps"
    console.print(table)
    return {
        "memory_ratio_30m": round(increments["ours"] / increments["peer"], 3),
        "memory_ratio_30m_checkpointing": round(
            increments["ours with activation checkpointing"] / increments["peer"], 3
        ),
    }


def memory_of(what: str, rows: int) -> int:
    """By how many bytes this process's peak RSS rises in two steps."""
    config, width, _ = CASES["30m"]
    documents = make_documents(width, config.vocab_size, 200)
    side = (Peer if what == "peer" else Ours)(config, width, rows, documents)
    if isinstance(side, Ours):
        side.model.activation_checkpointing = what != "ours"

    def two_steps() -> None:
        side.step()
        side.step()

    return peak_rise(two_steps)


def peak_rise(run: Callable[[], None]) -> int:
    """By how many bytes this process's peak RSS is above its RSS before the call."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts from here
    before = psutil.Process().memory_info().rss
    run()
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    return peak - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="torch threads; more than one wants an idle machine")
    parser.add_argument("--compile", action="store_true", help="compile our blocks")
    parser.add_argument("--quick", action="store_true", help="a smoke run: its figures mean little")
    parser.add_argument("--memory_of", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.memory_of:
        print(memory_of(args.memory_of, 1 if args.quick else MEMORY_ROWS))
        return
    if args.quick:
        args.rounds = 1
    console = Console(width=130)
    figures: dict[str, float] = {}
    for name in CASES:
        figures |= compare(name, args, console)
    figures |= memory(args, console)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
