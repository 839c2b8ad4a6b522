"""Our DPO step against that of TRL's DPOTrainer: the same checkpoint, the same pairs, AdamW, float32, two threads.

    python bench/dpo_speed.py [--run demo-all-sft] [--rounds 5] [--threads 2]

The run is one of the demo's (`make demo-all`), or another whose home has the stock data. A step is all that one takes:
rows into a batch, forward through policy and reference, backward, clipping, the update. Ours is
`minimind.training.loop.train` over the recipe that a run builds. TRL runs in a process of its own (`make clients`) as
its users run it, but that it keeps activations (gradient_checkpointing=False), computes in float32 and draws no
progress bar, each of which makes it faster here. It pads the texts of a batch to the longest (no grouping by length,
its default), and takes that batch size of BATCHES which takes least time a pair; ours about as many pairs a step.

Two settings: the stock pairs, whose answers are short, and pairs of one question with several answers of the stock
conversations one after the other; texts are read up to MAX_LENGTH tokens. Sides take turns, one waiting for the others;
figures are medians of the rounds, of about ROUND_PAIRS pairs each.

`ratio`: TRL's time of a pair / ours, both with the reference in memory. `ratio_cached`: TRL as before, ours with what
the reference says computed once before the training, which takes what it takes in one epoch and is not counted.
`both_cached`: TRL so as well. `memory_ratio`: how far memory rises at most above the loaded models in a round, ours /
TRL's, in fresh processes, with as many pairs in a forward pass. Each is of that setting where it is worse; `cpu_` of
CPU time, which other work on the machine hardly changes.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# As the command line has it; OpenMP reads it when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Imports below count from the checkout, not from this folder.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import argparse
import gc
import json
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import torch
from rich.console import Console
from rich.table import Table

import minimind.checkpoints.checkpoint as checkpoints
from bench.trl import PYTHON, Peer, Took, peer
from bench.trl_peer import forget_peak, resident_bytes
from data.batches import OrderedBatches
from data.rows import PairRows
from jobs import paths
from jobs.runs.references import find_weights
from jobs.stages.table import STAGES
from jobs.text.prepare import prepare
from jobs.training.build import build
from minimind.config import override
from minimind.device.distributed import Parallel
from minimind.training.loop import train
from minimind.training.train_state import TrainState
from minimind.training.trial_steps import NoHooks

BATCHES = (4, 8, 16, 32)
ROUND_PAIRS = 64
MAX_LENGTH = 256
LONG_PAIRS = 400
MEMORY_PAIRS = 16
RETURN_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""Without it freed memory stays with the allocator, and a peak of memory says little; with it steps are slower."""

COMPARED = {
    "ratio": ("TRL", "ours"),
    "ratio_cached": ("TRL", "ours, reference=cached"),
    "both_cached": ("TRL, precompute_ref_log_probs", "ours, reference=cached"),
}
"""Whose times are divided."""


class Ours:
    """`minimind.training.loop.train` over a run's recipe, some more steps at each call."""

    def __init__(self, run: str, file: Path, in_step: int, reference: str) -> None:
        """in_step: rows. reference: of the stage, where it is."""
        spec = override(
            STAGES["dpo"].preset("tiny"),
            {
                "model": checkpoints.load_model(find_weights(run).folder)[0].config.model_dump(),
                "init_from": run,
                "data.path": str(file),
                "data.max_seq_len": MAX_LENGTH,
                "optim.name": "adamw",
                "optim.learning_rate": 1e-6,
                "loop.batch_size": in_step,
                "loop.epochs": 10**4,
                "loop.dtype": "float32",
                "stage.reference": reference,
            },
        )
        self.recipe = build(spec, prepare(spec, Console(quiet=True)), Parallel()).recipe
        self.state = TrainState()
        read = cast(OrderedBatches[Any], self.recipe.batches).rows
        self.rows = cast(PairRows, getattr(read, "rows", read))  # the cached reference stands around them
        self.pairs_per_step = in_step * len(self.rows.chosen) / self.rows.count
        gc.collect()
        self.before = forget_peak()

    def __call__(self, steps: int) -> Took:
        """So many steps more."""
        began, cpu = time.perf_counter(), time.process_time()
        train(replace(self.recipe, total_steps=self.state.step + steps), self.state, NoHooks(), Parallel())
        took = time.perf_counter() - began, time.process_time() - cpu
        return Took(*took, resident_bytes("VmHWM") - self.before)


@dataclass(frozen=True)
class Theirs:
    """TRL, some more steps at each call."""

    peer: Peer
    pairs_per_step: float

    def __call__(self, steps: int) -> Took:
        """So many steps more."""
        return self.peer(steps)


@contextmanager
def trl(
    python: Path, folder: Path, file: Path, threads: int, batch: int, more: Mapping[str, str] = {}, **settings: Any
) -> Iterator[Theirs]:
    """TRL with this checkpoint and these pairs. more: of its environment. settings: of its DPOConfig."""
    settings = {
        "per_device_train_batch_size": batch,
        "max_length": MAX_LENGTH,
        "gradient_checkpointing": False,
        **settings,
    }
    with peer("dpo", python, folder, file, threads, settings, more) as there:
        yield Theirs(there, batch)


def long_pairs(conversations: Path) -> list[dict[str, Any]]:
    """A question with 2 to 16 answers of other conversations on one side, as many of others on the other side."""
    rows = [json.loads(line)["conversations"] for line in conversations.read_text("utf-8").splitlines()]
    draw = random.Random(0)

    def side(question: dict[str, Any]) -> list[dict[str, Any]]:
        answers = [row[-1]["content"] for row in draw.sample(rows, draw.randint(2, 16))]
        return [question, {"role": "assistant", "content": "\n".join(answers)}]

    return [{"chosen": side(row[0]), "rejected": side(row[0])} for row in draw.sample(rows, LONG_PAIRS)]


def write(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return file


def per_pair(side: Ours | Theirs, pairs: int) -> Took:
    """The time of a pair, over about so many pairs."""
    steps = max(1, round(pairs / side.pairs_per_step))
    took, done = side(steps), steps * side.pairs_per_step
    return Took(took.wall_s / done, took.cpu_s / done, took.peak_bytes)


@dataclass(frozen=True)
class Setting:
    """A file of pairs, and how both sides are started on it. start: TRL, with a batch size. pairs: read by both."""

    name: str
    file: Path
    run: str
    start: Callable[..., AbstractContextManager[Theirs]]
    pairs: int
    pairs_per_row: float


def setting_of(name: str, file: Path, args: argparse.Namespace) -> Setting:
    """TRL gets those pairs that ours trains on: not those which are held out."""
    rows = Ours(args.run, file, 1, "model").rows
    read = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    trained = write(file.with_name(f"{name}-trained.jsonl"), [read[row] for row in rows.chosen])
    start = partial(trl, args.clients, find_weights(args.run).folder, trained, args.threads)
    return Setting(name, file, args.run, start, len(rows.chosen), len(rows.chosen) / rows.count)


def best_batch(setting: Setting) -> int:
    """That of TRL's batch sizes which takes least."""
    tried = {}
    for batch in BATCHES:
        with setting.start(batch) as theirs:
            theirs(2)
            tried[batch] = per_pair(theirs, ROUND_PAIRS).cpu_s
    return min(tried, key=lambda batch: tried[batch])


def speed(setting: Setting, args: argparse.Namespace, console: Console) -> dict[str, float]:
    """Times of all sides, and their ratios."""
    batch = best_batch(setting)
    in_step = max(1, round(batch / setting.pairs_per_row))
    with setting.start(batch) as theirs, setting.start(batch, precompute_ref_log_probs=True) as theirs_known:
        sides: dict[str, Ours | Theirs] = {
            "TRL": theirs,
            "TRL, precompute_ref_log_probs": theirs_known,
            "ours": Ours(setting.run, setting.file, in_step, "model"),
            "ours, reference=cached": Ours(setting.run, setting.file, in_step, "cached"),
        }
        for side in sides.values():
            side(2)
        times: dict[str, list[Took]] = {what: [] for what in sides}
        for _ in range(args.rounds):
            for what, side in sides.items():
                times[what].append(per_pair(side, ROUND_PAIRS))
    wall, cpu = (
        {what: 1e3 * statistics.median(getattr(took, clock) for took in of) for what, of in times.items()}
        for clock in ("wall_s", "cpu_s")
    )
    title = f"{setting.name}: {setting.pairs} pairs, {args.threads} threads, {args.rounds} rounds"
    table = Table("", "pairs a step", "ms a pair", "CPU ms a pair", title=title)
    for what, side in sides.items():
        table.add_row(what, f"{side.pairs_per_step:.1f}", f"{wall[what]:.2f}", f"{cpu[what]:.2f}")
    ratios: dict[str, float] = {}
    for key, (other, own) in COMPARED.items():
        ratios |= {key: wall[other] / wall[own], f"cpu_{key}": cpu[other] / cpu[own]}
        table.add_row(key, "", f"{ratios[key]:.2f}", f"{ratios[f'cpu_{key}']:.2f}")
    console.print(table)
    return ratios


def memory(setting: Setting, args: argparse.Namespace, console: Console) -> dict[str, float]:
    """Peaks of a round, each in a process of its own."""
    in_step = max(1, round(MEMORY_PAIRS / setting.pairs_per_row))
    pairs = in_step * setting.pairs_per_row
    with (
        setting.start(round(pairs), RETURN_MEMORY) as keeping,
        setting.start(round(pairs), RETURN_MEMORY, gradient_checkpointing=True) as checkpointing,
    ):
        peaks = {
            "TRL": per_pair(keeping, ROUND_PAIRS).peak_bytes,
            "TRL, gradient_checkpointing": per_pair(checkpointing, ROUND_PAIRS).peak_bytes,
            "ours": memory_of_ours(setting, args.threads, in_step),
        }
    table = Table(f"{setting.name}: {pairs:.1f} pairs in a forward pass", "peak above the models", "of TRL's")
    for what, peak in peaks.items():
        table.add_row(what, f"{peak / 1e6:.0f} MB", f"{peak / peaks['TRL']:.2f}")
    console.print(table)
    return {"memory_ratio": peaks["ours"] / peaks["TRL"]}


def memory_of_ours(setting: Setting, threads: int, in_step: int) -> int:
    """By how many bytes memory rises in a round, in a process of its own."""
    asked = ["--run", setting.run, "--threads", str(threads), "--memory_of", str(setting.file), str(in_step)]
    command = [sys.executable, __file__, *asked]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | RETURN_MEMORY)
    return int(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="demo-all-sft")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clients", type=Path, default=PYTHON)
    parser.add_argument("--memory_of", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.memory_of:
        side = Ours(args.run, Path(args.memory_of[0]), int(args.memory_of[1]), "model")
        print(per_pair(side, ROUND_PAIRS).peak_bytes)
        return
    stock = paths.stock_folder()
    if not (stock / "dpo.jsonl").is_file():
        parser.error(f"{stock / 'dpo.jsonl'} is not there: `make demo-all` makes it, and the run")
    if not args.clients.is_file():
        parser.error(f"{args.clients} is not there: `make clients` makes it")
    console = Console(width=110)
    found = []
    with tempfile.TemporaryDirectory() as made:
        stock_pairs = [json.loads(line) for line in (stock / "dpo.jsonl").read_text("utf-8").splitlines()]
        for name, rows in {"short": stock_pairs, "long": long_pairs(stock / "sft.jsonl")}.items():
            setting = setting_of(name, write(Path(made) / f"{name}.jsonl", rows), args)
            found.append(speed(setting, args, console) | memory(setting, args, console))
    worst = {key: min(figures[key] for figures in found) for key in found[0]}
    worst["memory_ratio"] = max(figures["memory_ratio"] for figures in found)
    print(json.dumps({key: round(value, 2) for key, value in worst.items()}))


if __name__ == "__main__":
    main()
