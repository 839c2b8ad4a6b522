"""Runs of GRPO that go wrong, with their rails and without: when it is told, and what a return does.

    python bench/rl_rails.py {hacked, collapsed} [--home_of demo-all] [--seeds 1 2 3] [--picture]

The task is to sort eight digits (`eight` of bench/rl.py), after some SFT on right demonstrations.

    hacked      a reward that can be cheated: what is true, `exact`, and beside it WEIGHT times how long the answer is,
                up to ROOM tokens. An answer that goes on and on brings more than a right one
    collapsed   the reward is what is true, but the optimizer AdamW, at a rate that is too high for it

Each seed learns with `stage.gate=off` and with the usual gate; all else is the preset's.

before, lowest, last: share of 200 held-out prompts whose likeliest answer is right; last: of the run's last checkpoint.
alarm: the first that the run raised, of a cheated reward `proxy` or `length`; its step, and the last share of right
answers it had seen. fallen: the first validation with 10 points less than the best before it. The last line is the same
as JSON.
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
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.rl import taught
from bench.rl_tasks import TASKS, write_task
from bench.trained import Trained, figure, keep, trained
from jobs import paths
from minimind.events import read_events
from minimind.training.alarms import alarms

ROOM = 32
WEIGHT = 8.0
TRUTH = {"is": "exact"}
LENGTH = {"is": "length", "least": ROOM, "slack": ROOM, "weight": WEIGHT}
TASK = TASKS["eight"]


@dataclass(frozen=True)
class Case:
    """What goes wrong. start: steps of SFT before. every: steps between two validations. causes: of the alarms that are
    meant; none: of any.
    """

    title: str
    start: int
    steps: int
    every: int
    settings: Mapping[str, Any]
    causes: tuple[str, ...] = ()


CASES = {
    "hacked": Case(
        "A reward that pays for length: GRPO without a gate and with it, held-out answers",
        start=70,
        steps=36,
        every=2,
        settings={"stage.rewards": [TRUTH, LENGTH]},
        causes=("proxy", "length"),
    ),
    "collapsed": Case(
        "A rate that is too high: GRPO with AdamW at 1e-3, without a gate and with it, held-out answers",
        start=TASK.start,
        steps=44,
        every=4,
        settings={
            "stage.rewards": [TRUTH],
            "stage.scale": "none",
            "optim.name": "adamw",
            "optim.learning_rate": 1e-3,
        },
    ),
}
COLOURS = {"off": "#d9662b", "gate": "#2a78b5"}


@dataclass(frozen=True)
class Learner:
    """A run, by shares of held-out prompts answered right. Steps are None where it did not happen."""

    seed: int
    gate: str
    before: float
    lowest: float
    last: float
    alarm: int | None
    cause: str | None
    alarm_right: float | None
    fallen: int | None
    returns: list[int]


def learn(
    name: str, seed: int, gate: str, files: Mapping[str, Path], console: Console, steps: int | None
) -> tuple[Trained, Learner]:
    """One that goes on from the start of a case. steps: where they are not the case's."""
    case = CASES[name]
    asked: dict[str, Any] = {
        "init_from": f"bench-{name}-start",
        "seed": seed,
        "data.path": str(files["prompts"]),
        "eval.path": str(files["held_out"]),
        "data.max_seq_len": 96,
        "stage.max_new_tokens": ROOM,
        "loop.epochs": 9,
        "loop.max_steps": steps or case.steps,
        "loop.eval_interval": case.every,
        "loop.log_interval": 1,
    } | dict(case.settings)
    if gate == "off":
        asked["stage.gate"] = "off"
    run = trained("grpo", f"bench-{name}-{gate}-{seed}", asked, console)
    at, right = run.series["val/right"]
    notes = [event for event in read_events(run.run.events_path, {"note"}) if "step" in event]
    alarm, cause = first_alarm(run, case.causes)
    seen = [share for step, share in zip(at, right, strict=True) if alarm is not None and step <= alarm]
    fallen = next((at[k] for k in range(len(at)) if max(right[: k + 1]) - right[k] >= 0.1), None)
    returns = [note["step"] for note in notes if note["kind"] == "return"]
    went_back = next((note for note in notes if note["kind"] == "return" and note["step"] == at[-1]), None)
    last = right[-1] if went_back is None else right[at.index(went_back["good"])]
    return run, Learner(
        seed, gate, right[0], min(right), last, alarm, cause, seen[-1] if seen else None, fallen, returns
    )


def first_alarm(run: Trained, causes: Sequence[str]) -> tuple[int, str] | tuple[None, None]:
    """The step at which a run warns of one of these, or of anything, and of what: by its curves, which is all that
    alarms are made of.
    """
    series = run.series
    for last in sorted({step for steps, _ in series.values() for step in steps}):
        cut = {
            name: (steps[: (n := bisect_right(steps, last))], values[:n]) for name, (steps, values) in series.items()
        }
        for alarm in alarms(cut, TASK.asked):
            if not alarm.calm and (alarm.cause in causes or not causes):
                return last, alarm.cause
    return None, None


def show(found: Sequence[Learner], console: Console) -> None:
    """A row for each run."""
    table = Table("seed", "gate", "before %", "lowest %", "last %", "alarm, at %", "fallen", "returns")
    for one in found:
        alarm = (
            ""
            if one.alarm is None or one.alarm_right is None
            else f"{one.cause} {one.alarm}, {100 * one.alarm_right:.1f}"
        )
        shares = (f"{100 * share:.1f}" for share in (one.before, one.lowest, one.last))
        fallen = "" if one.fallen is None else str(one.fallen)
        table.add_row(str(one.seed), one.gate, *shares, alarm, fallen, " ".join(map(str, one.returns)))
    console.print(table)


def draw(name: str, runs: Mapping[tuple[str, int], tuple[Trained, Learner]]) -> Path:
    """Truth and reward of held-out answers, with and without the gate."""
    made = figure(CASES[name].title, width=11)
    places = made.subplots(1, 2)
    for place, metric, words in zip(places, ("val/right", "val/reward"), ("right, %", "reward"), strict=True):
        for (gate, seed), (run, learner) in runs.items():
            steps, values = run.series[metric]
            scaled = [100 * value for value in values] if metric == "val/right" else values
            label = {"off": "stage.gate=off", "gate": "gate"}[gate] if seed == min(at for _, at in runs) else None
            place.plot(steps, scaled, color=COLOURS[gate], linewidth=1.3, label=label)
            if learner.alarm is not None:
                place.axvline(learner.alarm, color=COLOURS[gate], linewidth=0.6, linestyle=":")
            for step in learner.returns:
                place.plot([step], [scaled[steps.index(step)]], "v", color=COLOURS[gate], markersize=6)
        place.set_xlabel("step (dotted: first alarm; triangle: return)")
        place.set_ylabel(words)
        place.legend(frameon=False, loc="best")
    return keep(made, f"rl_{name}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=list(CASES))
    parser.add_argument("--home_of", default="demo-all", metavar="PIPELINE", help="whose SFT run it begins with")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--picture", action="store_true", help="draw docs/pictures/rl_CASE.png")
    parser.add_argument("--quick", action="store_true", help="a smoke run: its figures mean nothing")
    args = parser.parse_args()
    console = Console(width=110)
    files = write_task("eight", paths.home())
    begin = taught(TASK, files) | {
        "init_from": f"{args.home_of}-sft",
        "loop.max_steps": 2 if args.quick else CASES[args.case].start,
    }
    trained("sft", f"bench-{args.case}-start", begin, console)
    runs = {
        (gate, seed): learn(args.case, seed, gate, files, console, 2 if args.quick else None)
        for seed in args.seeds
        for gate in ("off", "gate")
    }
    found = [learner for _, learner in runs.values()]
    show(found, console)
    if args.picture:
        console.print(str(draw(args.case, runs)))
    print(json.dumps([asdict(one) for one in found]))


if __name__ == "__main__":
    main()
