"""Our GRPO step against that of TRL's GRPOTrainer, which writes with transformers: the same checkpoint, prompts, groups
and lengths of answers, AdamW, float32, two threads.

    python bench/rl_speed.py [--run demo-all-sft] [--rounds 5] [--threads 2]

The run is one of the demo's (`make demo-all`), or another whose home has the stock data. A step is all that one takes:
PROMPTS prompts, GROUP answers to each, their rewards, advantages, forward, backward, clipping, the update. Ours is
`minimind.training.loop.train` over the recipe that a run builds. TRL runs in a process of its own (`make clients`) as
its users run it, but that it keeps activations (gradient_checkpointing=False), computes in float32, holds to no
reference (its default) and draws no progress bar. It takes that one of BATCHES, answers in a forward pass, which takes
least time a token. The learning rate is so small that the model stays as it is, and answers as long as they are.

A reward is a number drawn from an answer's text, so that nearly every group has something to learn: what ours leaves
out is no part of the figures. On our side it is a user's function in a process of its own, which wall time counts and
CPU time does not.

Two settings: the stock's questions, and those of its conversations whose answers in the data are longer (MOST tokens at
most in both). The model's own answers are what they are. Sides take turns, one waiting for the other; figures are
medians of the rounds, of STEPS steps each.

`grpo_ratio`: our tokens of answers per second of wall time / TRL's, of the setting where it is worse; `cpu_grpo_ratio`
of CPU time. `rollout_share`: which part of our step's wall time is writing, judging and packing, where it is larger.
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
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from rich.console import Console
from rich.table import Table

import minimind.checkpoints.checkpoint as checkpoints
from bench.trl import PYTHON, Took, peer
from data.batches import OrderedBatches
from data.rows import PromptRows
from jobs import paths
from jobs.runs.references import find_weights
from jobs.stages.table import STAGES
from jobs.text.prepare import prepare
from jobs.training.build import build
from minimind.config import override
from minimind.device.distributed import Parallel
from minimind.training.attempts import Attempts
from minimind.training.loop import train
from minimind.training.train_state import TrainState
from minimind.training.trial_steps import NoHooks

PROMPTS, GROUP, MOST = 32, 8, 64
BATCHES = (32, 64, 128, 256)
STEPS = 2


class Ours:
    """`minimind.training.loop.train` over a run's recipe, some more steps at each call. take_s: what of it went into
    making what is trained on.
    """

    def __init__(self, run: str, file: Path) -> None:
        spec = override(
            STAGES["grpo"].preset("tiny"),
            {
                "model": checkpoints.load_model(find_weights(run).folder)[0].config.model_dump(),
                "init_from": run,
                "data.path": str(file),
                "data.max_seq_len": 256,
                "eval.max_documents": 1,
                "optim.name": "adamw",
                "optim.learning_rate": 1e-9,
                "loop.batch_size": PROMPTS,
                "loop.epochs": 10**4,
                "loop.dtype": "float32",
                "stage.group_size": GROUP,
                "stage.max_new_tokens": MOST,
                "stage.rewards": [{"is": "python", "function": "bench.trl_peer:rewards"}],
                "stage.code_path": str(paths.checkout()),
            },
        )
        self.recipe = build(spec, prepare(spec, Console(quiet=True)), Parallel()).recipe
        self.state = TrainState()
        self.source = cast(Attempts, self.recipe.batches)
        self.take_s, self.tokens = 0.0, 0
        self._take, self._write = self.source.take, self.source.writer.write
        # Put around the source's own methods, for the loop to call: a source of another class would be another run.
        self.source.take = self._timed  # type: ignore[method-assign]  # gives what take gives
        self.source.writer.write = self._counted  # type: ignore[method-assign]  # gives what write gives

    def _timed(self, count: int) -> Any:
        began = time.perf_counter()
        try:
            return self._take(count)
        finally:
            self.take_s += time.perf_counter() - began

    def _counted(self, *asked: Any, **how: Any) -> Any:
        found = self._write(*asked, **how)
        self.tokens += sum(len(one.own) for group in found for one in group)
        return found

    def __call__(self, steps: int) -> Took:
        """So many steps more."""
        before, began, cpu = self.tokens, time.perf_counter(), time.process_time()
        train(replace(self.recipe, total_steps=self.state.step + steps), self.state, NoHooks(), Parallel())
        return Took(time.perf_counter() - began, time.process_time() - cpu, tokens=self.tokens - before)


LONG_CHARACTERS = 60
"""The answers of the longer setting's questions have more than so many in the data."""


def questions(name: str, stock: Path) -> list[str]:
    """Of a setting."""
    if name == "short":
        return [json.loads(line)["prompt"] for line in (stock / "rl.jsonl").read_text("utf-8").splitlines()]
    rows = [json.loads(line)["conversations"] for line in (stock / "sft.jsonl").read_text("utf-8").splitlines()]
    return list(dict.fromkeys(row[0]["content"] for row in rows if len(row[1]["content"]) > LONG_CHARACTERS))


def settings_of(batch: int) -> dict[str, Any]:
    """TRL's, with so many answers in a forward pass."""
    return {
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": PROMPTS * GROUP // batch,
        "num_generations": GROUP,
        "max_completion_length": MOST,
        "learning_rate": 1e-9,
        "gradient_checkpointing": False,
        "logging_steps": 10**6,
    }


def compared(
    name: str, asked: Sequence[str], folder: Path, args: argparse.Namespace, console: Console
) -> dict[str, float]:
    """A setting's figures."""
    ours_file, their_file = folder / f"{name}.jsonl", folder / f"{name}-trl.jsonl"
    ours_file.write_text("".join(json.dumps({"prompt": text, "answer": "?"}) + "\n" for text in asked), "utf-8")
    ours = Ours(args.run, ours_file)
    prompts = cast(PromptRows, cast(OrderedBatches[Any], ours.source.prompts).rows)  # without those held out
    messages = [[{"role": "user", "content": asked[int(row)]}] for row in prompts.chosen]
    their_file.write_text("".join(json.dumps({"prompt": one}) + "\n" for one in messages), "utf-8")
    weights = find_weights(args.run).folder

    def theirs(batch: int) -> Any:
        return peer("grpo", args.clients, weights, their_file, args.threads, settings_of(batch))

    tried = {}
    for batch in BATCHES:
        with theirs(batch) as side:
            side(1)
            took = side(STEPS)
            tried[batch] = took.cpu_s / took.tokens
    batch = min(tried, key=lambda size: tried[size])
    with theirs(batch) as trl:
        for side in (trl, ours):
            side(1)
        ours.take_s = 0.0
        rounds: dict[str, list[Took]] = {"TRL": [], "ours": []}
        for _ in range(args.rounds):
            rounds["TRL"].append(trl(STEPS))
            rounds["ours"].append(ours(STEPS))
    wall, cpu = (
        {side: statistics.median(took.tokens / getattr(took, clock) for took in of) for side, of in rounds.items()}
        for clock in ("wall_s", "cpu_s")
    )
    title = f"{name}: {len(prompts.chosen)} prompts, {PROMPTS} x {GROUP} a step, {args.threads} threads"
    table = Table("", "tokens an answer", "tokens/s", "tokens/CPU s", title=title)
    for side, of in rounds.items():
        length = sum(took.tokens for took in of) / (args.rounds * STEPS * PROMPTS * GROUP)
        table.add_row(side, f"{length:.1f}", f"{wall[side]:.0f}", f"{cpu[side]:.0f}")
    console.print(table)
    share = ours.take_s / sum(took.wall_s for took in rounds["ours"])
    ratios = {clock: of["ours"] / of["TRL"] for clock, of in (("wall", wall), ("cpu", cpu))}
    console.print(
        f"ratio {ratios['wall']:.2f}, of CPU time {ratios['cpu']:.2f}; TRL with {batch} answers in a forward pass"
    )
    return {"grpo_ratio": ratios["wall"], "cpu_grpo_ratio": ratios["cpu"], "rollout_share": share}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="demo-all-sft")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clients", type=Path, default=PYTHON)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    stock = paths.stock_folder()
    if not (stock / "rl.jsonl").is_file():
        parser.error(f"{stock / 'rl.jsonl'} is not there: `make demo-all` makes it, and the run")
    if not args.clients.is_file():
        parser.error(f"{args.clients} is not there: `make clients` makes it")
    console = Console(width=110)
    with tempfile.TemporaryDirectory() as made:
        found = [compared(name, questions(name, stock), Path(made), args, console) for name in ("short", "long")]
    worst: Mapping[str, float] = {
        "grpo_ratio": min(one["grpo_ratio"] for one in found),
        "cpu_grpo_ratio": min(one["cpu_grpo_ratio"] for one in found),
        "rollout_share": max(one["rollout_share"] for one in found),
    }
    print(json.dumps({key: round(value, 2) for key, value in worst.items()}))


if __name__ == "__main__":
    main()
