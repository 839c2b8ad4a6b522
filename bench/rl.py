"""What a model learns by trying, and what as much more SFT would have taught it: GRPO, SPO and PPO on three tasks.

    python bench/rl.py [--home_of demo-all] [--tasks rising eight arithmetic] [--seeds 1 2 3] [--picture]

`bench/rl_tasks.py` has the tasks. An answer is right or wrong, and that is the reward.

Each algorithm goes on from the same weights for as many steps as its task says, with the preset's settings but for
those that the task has for it. Beside them stands `sft`, which goes on for about as much CPU time on the same
demonstrations that the start was taught. A seed decides the prompts' order and what is written.

before, after: share of the held-out prompts whose likeliest answer is right. facts: the suite. The start and `sft` are
taught a part of the stock's conversations beside the demonstrations; the others are replayed these, and nothing of the
demonstrations. text: held-out plain text, bits per byte. Of all three the row `start` has what was before. CPU s: of
the whole process, its start (about 8 s) and validations included. The last line is medians over seeds, as JSON:
{task: {algorithm: [before, after, CPU s]}}.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# OpenMP reads it when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Imports below count from the checkout, not from this folder.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.rl_tasks import TASKS, Task, write_task
from bench.trained import Trained, evaluated, figure, keep, trained
from jobs import paths

EXACT = {"is": "exact"}
ROOM = 24
"""Tokens of an answer at most."""
ALGORITHMS = ("grpo", "spo", "ppo", "sft")
COLOURS = {"grpo": "#2a78b5", "spo": "#3a9e6f", "ppo": "#d9662b", "sft": "#8a8a8a"}


@dataclass(frozen=True)
class Learner:
    """A run. right: share of held-out prompts answered right, by step. facts, text: what it still knows."""

    run: Trained
    right: tuple[list[int], list[float]]
    facts: float
    text: float


def begun(name: str, home_of: str, files: Mapping[str, Path], console: Console, steps: int) -> Trained:
    """The SFT run that all go on from."""
    asked = taught(TASKS[name], files) | {"init_from": f"{home_of}-sft", "loop.max_steps": steps}
    asked |= dict(TASKS[name].start_settings)
    return trained("sft", f"bench-rl-{name}-start", asked, console)


def going_on(name: str, algorithm: str, seed: int, files: Mapping[str, Path], steps: int) -> dict[str, Any]:
    """Settings of a run that goes on from a task's start."""
    asked: dict[str, Any] = {"init_from": f"bench-rl-{name}-start", "seed": seed, "loop.max_steps": steps}
    if algorithm == "sft":
        return asked | taught(TASKS[name], files)
    asked |= {
        "data.path": str(files["again" if algorithm == "spo" else "prompts"]),
        "data.chats_path": str(files["known"]),
        "data.max_seq_len": 64,
        "eval.path": str(files["held_out"]),
        "stage.rewards": [EXACT],
        "stage.max_new_tokens": ROOM,
        "loop.epochs": 99,
        "loop.eval_interval": max(1, steps // 8),
    }
    return asked | dict(TASKS[name].settings.get(algorithm, {}))


def learnt(run: Trained, algorithm: str, look: str, files: Mapping[str, Path], console: Console) -> Learner:
    """What a run has learnt. look: the name of the run that asks what SFT has."""
    if algorithm == "sft":
        return examined(run, look, files, console)
    return Learner(run, run.series["val/right"], _facts(run, console), run.last(TEXT))


TEXT = "val/pretrain_bits_per_byte"


def _facts(run: Trained, console: Console) -> float:
    return evaluated(run.name, ("facts",), console)["facts"].score


def taught(task: Task, files: Mapping[str, Path]) -> dict[str, Any]:
    """SFT on a task's demonstrations."""
    return {
        "data.path": str(files["demonstrations"]),
        "data.mix": 0.1,
        "data.max_seq_len": 128,
        "loop.batch_size": task.batch_size,
        "loop.epochs": 99,
        "optim.learning_rate": 4e-3,
    }


def examined(run: Trained, name: str, files: Mapping[str, Path], console: Console) -> Learner:
    """What an SFT run has learnt. What it answers right a step of GRPO examines, before it changes it."""
    asked = {
        "init_from": run.name,
        "data.path": str(files["prompts"]),
        "eval.path": str(files["held_out"]),
        "data.max_seq_len": 64,
        "stage.rewards": [EXACT],
        "stage.max_new_tokens": ROOM,
        "loop.max_steps": 1,
    }
    looked = trained("grpo", f"bench-rl-look-{name}", asked, console)
    return Learner(run, ([0], [looked.first("val/right")]), _facts(run, console), run.last(TEXT))


def show(found: Mapping[tuple[str, int, str], Learner], starts: Mapping[str, Learner], console: Console) -> None:
    """A row for each run, and for what those of a task began as."""
    table = Table("task", "seed", "algorithm", "steps", "right %", "facts %", "text", "CPU s", "tokens/s")

    def row(task: str, seed: str, algorithm: str, one: Learner) -> None:
        table.add_row(
            task,
            seed,
            algorithm,
            str(one.run.steps),
            f"{100 * one.right[1][-1]:.1f}",
            f"{100 * one.facts:.1f}",
            f"{one.text:.3f}",
            f"{one.run.cpu_s:.0f}",
            f"{statistics.median(one.run.series['perf/tokens_per_s'][1]):.0f}",
        )

    for name, start in starts.items():
        row(name, "", "start", start)
        for (task, seed, algorithm), one in found.items():
            if task == name:
                row(task, str(seed), algorithm, one)
    console.print(table)


def draw(found: Mapping[tuple[str, int, str], Learner], tasks: Sequence[str]) -> Path:
    """How many held-out prompts are answered right while the policies learn."""
    made = figure("Learnt by trying: held-out prompts whose likeliest answer is right", width=11)
    for place, task in zip(made.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        seen: set[str] = set()
        for (of_task, _, algorithm), one in found.items():
            if of_task != task:
                continue
            label = None if algorithm in seen else algorithm.upper()
            seen.add(algorithm)
            if algorithm == "sft":
                place.axhline(100 * one.right[1][-1], color=COLOURS["sft"], linewidth=1, linestyle=":", label=label)
                continue
            steps, right = one.right
            place.plot(steps, [100 * share for share in right], color=COLOURS[algorithm], linewidth=1.5, label=label)
        place.set_ylim(0, 101)
        place.set_xlabel(f"step ({task})")
        place.set_ylabel("right, %")
    made.axes[0].legend(frameon=False, loc="center right")
    return keep(made, "rl.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home_of", default="demo-all", metavar="PIPELINE", help="whose SFT run it begins with")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--algorithms", nargs="+", choices=ALGORITHMS, default=list(ALGORITHMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--picture", action="store_true", help="draw docs/pictures/rl.png")
    parser.add_argument("--quick", action="store_true", help="a smoke run: its figures mean nothing")
    args = parser.parse_args()
    console = Console(width=130)
    found: dict[tuple[str, int, str], Learner] = {}
    starts: dict[str, Learner] = {}
    for name in args.tasks:
        task, files = TASKS[name], write_task(name, paths.home())
        start = begun(name, args.home_of, files, console, 2 if args.quick else task.start)
        starts[name] = examined(start, f"{name}-start", files, console)
        for seed in args.seeds:
            for algorithm in args.algorithms:
                steps = 2 if args.quick else task.more if algorithm == "sft" else task.steps[algorithm]
                asked = going_on(name, algorithm, seed, files, steps)
                run = trained(algorithm, f"bench-rl-{name}-{algorithm}-{seed}", asked, console)
                found[name, seed, algorithm] = learnt(run, algorithm, f"{name}-{seed}", files, console)
    show(found, starts, console)
    if args.picture:
        console.print(str(draw(found, args.tasks)))
    figures: dict[str, dict[str, list[float]]] = {}
    for name in args.tasks:
        for algorithm in args.algorithms:
            of_it = [found[name, seed, algorithm] for seed in args.seeds]
            right = statistics.median(one.right[1][-1] for one in of_it)
            seconds = statistics.median(one.run.cpu_s for one in of_it)
            before = starts[name].right[1][0]
            figures.setdefault(name, {})[algorithm] = [round(before, 3), round(right, 3), round(seconds, 1)]
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
