"""Whether a sweep wastes nothing and finds what trying everything finds.

    python bench/sweep.py [--trials 16] [--budget_s 5]

The `batch` space around a small model, under an emulated limit that half of its points do not fit. First every point
that fits is measured, then a sweep of fewer trials runs on a Ray cluster of its own. errors: trials that failed.
refused_started: trials that the plan refuses and that began all the same. wasted_steps: trials that ran out of memory.
best_share: the tokens/s of the sweep's best point over those of the best of all, both measured again in turn, median of
five, for a machine is not equally fast at all times.
"""

from __future__ import annotations

import sys
from pathlib import Path

# Imports below count from the checkout, not from this folder.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import argparse
import itertools
import json
import os
import statistics
import tempfile
from typing import Any

import torch
from rich.console import Console

from jobs import paths
from jobs.cluster import local as cluster
from jobs.cluster import submit
from jobs.fit.card import this_card
from jobs.fit.plan import Planner
from jobs.runs.directory import RunDirectory
from jobs.stages import flags
from jobs.stages.spec import RunSpec
from jobs.stages.table import STAGES
from jobs.sweeps.feasible import Point, groups, space_of
from jobs.sweeps.report import point_text, ranked, table
from jobs.sweeps.trial import run_trial
from jobs.sweeps.view import trials_of
from minimind.config import override
from minimind.units import amount

SETTINGS: dict[str, Any] = {
    "name": "bench",
    "data.path": str(paths.checkout() / "data" / "samples" / "pretrain.jsonl"),
    "data.max_seq_len": 256,
    "data.num_workers": 0,
    "model.vocab_size": 600,
    "model.hidden_size": 64,
    "model.num_hidden_layers": 2,
    "loop.batch_size": 8,
    "eval.max_documents": 8,
    "scaling.cpus_per_worker": 1,
}


def limit_for_half(base: RunSpec) -> str:
    """The --vram that half of the points of the space fit."""
    planner = Planner(this_card("1000GB"))
    found = groups(base, space_of("batch", base), lambda run: True)
    needs = [planner.plan(override(base, point)).needed_bytes for group in found for point in group.points]
    return f"{statistics.median(needs) / 2**20:.2f}MB"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--budget_s", type=float, default=5.0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=160)
    with tempfile.TemporaryDirectory() as home:
        os.environ["MINIMIND_HOME"] = home
        os.environ["RAY_AUTH_TOKEN_PATH"] = f"{home}/auth_token"
        base = override(STAGES["pretrain"].preset("tiny"), SETTINGS)
        base = override(base, {"memory.vram": limit_for_half(base)})
        planner = Planner(this_card(base.memory.vram))
        found = groups(base, space_of("batch", base), planner.fits)
        feasible = [point for group in found for point in group.feasible]
        refused = sum(len(group.refused) for group in found)
        console.print(f"{base.memory.vram}: {len(feasible)} points fit, {refused} do not")
        speeds: list[tuple[float, Point]] = []
        numbers = itertools.count()

        def measured(point: Point) -> dict[str, Any]:
            return run_trial(base, point, Path(home) / f"point-{next(numbers)}", args.budget_s, lambda values: None)

        for point in feasible:
            result = measured(point)
            speeds.append((result.get("tokens_per_s") or 0.0, point))
            console.print(f"{amount(speeds[-1][0]):>8} tokens/s  {point_text(point)}  {result['outcome']}")
        given = {**SETTINGS, "memory.vram": base.memory.vram, "name": "swept"}
        argv = ["sweep", "pretrain", "--model", "tiny", "--space", "batch", "--objective", "tokens_per_s"]
        argv += ["--trials", str(args.trials), "--budget_s", str(args.budget_s), *flags.arguments(given)]
        cluster.ensure()
        try:
            submit.follow(submit.submit("swept", argv), lambda text: console.out(text, end=""))
        finally:
            cluster.stop()
        trials = trials_of(RunDirectory(paths.sweeps() / "swept", "sweep"))
        console.print(table(trials, "tokens_per_s"))
        found_best = ranked(trials, "tokens_per_s")[0]["settings"]
        best = max(speeds, key=lambda pair: pair[0])[1]

        def again(point: Point) -> float:
            return float(measured(point)["tokens_per_s"])

        pairs = [(again(found_best), again(best)) for _ in range(5)] if found_best != best else [(1.0, 1.0)]
        share = statistics.median(a for a, _ in pairs) / statistics.median(b for _, b in pairs)
    outcomes = [trial["outcome"] for trial in trials]
    figures = {
        "errors": outcomes.count("failed"),
        "refused_started": outcomes.count("refused"),
        "wasted_steps": outcomes.count("infeasible"),
        "best_share": round(share, 3),
        "points": [len(feasible), refused],
        "trials": len(trials),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
