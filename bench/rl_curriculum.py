"""How far GRPO comes in arithmetic in ten CPU minutes: with the curriculum of `minimind data passrate`, and without.

    python bench/rl_curriculum.py [--home_of demo-all] [--seed 1] [--prompts curriculum all sft]

The task is `arithmetic` of bench/rl_tasks.py, and all begin with the weights with which those of bench/rl.py begin.

    curriculum  of the first prompts those from which something can be learnt, the easiest first, as `passrate` has
                written them after eight answers to each; what that took counts too
    all         every prompt in turn
    sft         more SFT on the demonstrations

before, after, facts, text and CPU s are those of bench/rl.py. The last line is {prompts: [before, after, CPU s]}.
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
import subprocess
from itertools import islice

from rich.console import Console
from rich.table import Table

from bench.rl import EXACT, ROOM, Learner, begun, examined, going_on, learnt
from bench.rl_tasks import TASKS, write_task
from bench.trained import children_cpu_s, trained
from data.prepare import content_sha256
from jobs import paths
from jobs.runs import evals
from jobs.runs.references import find_weights
from minimind.checkpoints.manifest import weights_sha256

NAME = "arithmetic"
ASKED = 4096
"""Prompts whose pass rate is measured."""

STEPS = {"curriculum": 300, "all": 340, "sft": 800}


def curriculum(prompts: Path, weight: str, asked: int) -> tuple[Path, float]:
    """The file of prompts that `passrate` keeps of the first ones, and the CPU seconds that it took; made once."""
    some, out = prompts.with_name(f"{NAME}-{asked}.jsonl"), prompts.with_name(f"{NAME}-curriculum-{asked}.jsonl")
    took = out.with_suffix(".bench.json")
    with prompts.open(encoding="utf-8") as lines:
        some.write_text("".join(islice(lines, asked)), "utf-8")
    of = [weights_sha256(find_weights(weight).folder), content_sha256(some)]
    if not (out.is_file() and took.is_file() and json.loads(took.read_text("utf-8"))["of"] == of):
        out.unlink(missing_ok=True)
        before = children_cpu_s()
        options = ("--weight", weight, "--reward", EXACT["is"], "--max_tokens", str(ROOM), "-o", str(out))
        subprocess.run(
            [sys.executable, "-m", "jobs", "data", "passrate", str(some), *options], check=True, cwd=paths.checkout()
        )
        evals.write_text(took, json.dumps({"of": of, "cpu_s": children_cpu_s() - before}) + "\n")
    return out, float(json.loads(took.read_text("utf-8"))["cpu_s"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home_of", default="demo-all", metavar="PIPELINE", help="whose SFT run it begins with")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--prompts", nargs="+", choices=list(STEPS), default=list(STEPS))
    parser.add_argument("--quick", action="store_true", help="a smoke run: its figures mean nothing")
    args = parser.parse_args()
    console = Console(width=110)
    files = write_task(NAME, paths.home())
    start = begun(NAME, args.home_of, files, console, 2 if args.quick else TASKS[NAME].start)
    found: dict[str, tuple[Learner, float]] = {"start": (examined(start, f"{NAME}-start", files, console), 0.0)}
    for prompts in args.prompts:
        steps = STEPS[prompts]
        algorithm, seconds = "sft" if prompts == "sft" else "grpo", 0.0
        asked = going_on(NAME, algorithm, args.seed, files, 2 if args.quick else steps)
        if prompts == "curriculum":
            path, seconds = curriculum(files["prompts"], start.name, 256 if args.quick else ASKED)
            asked |= {"data.path": str(path), "data.in_order": True}
        run = trained(algorithm, f"bench-rl-minutes-{prompts}-{args.seed}", asked, console)
        found[prompts] = learnt(run, algorithm, f"minutes-{prompts}-{args.seed}", files, console), seconds
    table = Table("prompts", "steps", "right %", "facts %", "text", "CPU s")
    for prompts, (one, seconds) in found.items():
        right, facts = (f"{100 * share:.1f}" for share in (one.right[1][-1], one.facts))
        table.add_row(prompts, str(one.run.steps), right, facts, f"{one.text:.3f}", f"{one.run.cpu_s + seconds:.0f}")
    console.print(table)
    before = found.pop("start")[0].right[1][0]
    figures = {
        prompts: [round(before, 3), round(one.right[1][-1], 3), round(one.run.cpu_s + seconds, 1)]
        for prompts, (one, seconds) in found.items()
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
