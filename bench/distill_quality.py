"""Whether a student learns more from a teacher than from the texts alone, at equal steps: off policy, and on policy.

    python bench/distill_quality.py [--home_of demo-all] [--teacher RUN] [--seeds 1 2 3] [--picture]

The teacher has four times the parameters of `tiny` (320 x 6, 9.8M) and is trained first, on the stock data as the
pipeline trains `tiny`, unless --teacher names a run. The students are `tiny`, from runs of `make demo-all`. A seed
decides the order of the rows and what a student writes.

    hard    `train sft` with the pipeline's settings, from pretraining. STEPS_OF_STUDENTS is half of what the pipeline
            takes (625): there `tiny` knows nearly all of the facts from the texts alone
    off     `train distill`, the same rows in the same order, the same rate: off policy
    more    EXTRA further steps of `train sft`, from what `hard` ended with
    on      as many steps of `train distill --on_policy 1`, from the same: it wants a student that answers already. A
            step answers 64 prompts, about as many conversations as the rows of a step of `more` hold

loss: cross-entropy of the held-out conversations in nats per token, the same rows for all. match: the suite `facts`, to
the letter, with a 95 % interval; beside it the difference to hard labels, row by row. text: held-out plain text in bits
per byte. agreement: how often the student's likeliest token is the teacher's. The settings of off, more and on were
chosen on a seed that is not reported, each among as many (docs/benchmarks.md).

The last line has medians over seeds.
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
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.trained import Trained, compared, evaluated, figure, keep, trained
from jobs.evaluation.compare import Finding
from jobs.pipeline.steps import STEPS, PipelineOptions
from jobs.runs.evals import EvalLog

STEPS_OF_STUDENTS = 312
EXTRA = 100
SHAPE = {
    "model.hidden_size": 320,
    "model.num_hidden_layers": 6,
    "model.num_attention_heads": 8,
    "model.num_key_value_heads": 4,
}
PRETRAINING = {
    "loop.epochs": 2,
    "loop.max_steps": 200,
    "loop.eval_interval": 100,
    "optim.learning_rate": 0.004,
    "loop.dtype": "bfloat16",
}
"""Of the teacher: the rate is two thirds of what `tiny` takes, for it is wider."""
TUNING = {
    "loop.eval_interval": 250,
    "loop.dtype": "bfloat16",
    "optim.learning_rate": 0.003,
    "data.max_seq_len": 256,
    "loop.batch_size": 4,
    "loop.accumulation_steps": 1,
}
"""Likewise: those of `tiny`, whose preset a model of this size is not given."""
AGAIN = TUNING | {"loop.max_steps": 300, "optim.learning_rate": 0.0015, "data.in_order": False}
"""Half a pass more, for after one it knew no more facts than `tiny`."""

ONCE_MORE = TUNING | {"data.in_order": False, "data.mix": 0.05, "seed": 21}
"""And a whole one."""

FURTHER = ("more", "on")
"""Of the kinds of students those that go on from `hard`, which is trained before them."""

AFTER: dict[str, Any] = {"loop.max_steps": EXTRA, "loop.epochs": 1, "loop.eval_interval": 25}
CHOSEN: dict[str, dict[str, Any]] = {
    "hard": {},
    "off": {"stage.alpha": 0.5, "stage.temperature": 1.0},
    "more": AFTER | {"optim.learning_rate": 4e-4, "data.in_order": False, "data.mix": 0.0},
    "on": AFTER
    | {
        "optim.learning_rate": 1.2e-3,
        "data.in_order": False,
        "data.mix": 0.0,
        "stage.on_policy": True,
        "loop.batch_size": 64,
        "loop.accumulation_steps": 1,
    },
}
"""What each kind of student is asked for beside the pipeline's settings of SFT."""


@dataclass(frozen=True)
class Student:
    """A run, and its facts. loss: cross-entropy of the held-out conversations."""

    run: Trained
    facts: EvalLog

    @property
    def loss(self) -> float:
        """In nats per token."""
        return self.run.last(loss_name(self.run))

    @property
    def match(self) -> float:
        """Share of the facts that are answered to the letter."""
        return self.facts.score


def loss_name(run: Trained) -> str:
    """What a run calls the cross-entropy: of SFT it is the loss."""
    return "val/cross_entropy" if run.run.stage == "distill" else "val/loss"


def pipeline(stage: str) -> dict[str, Any]:
    """What the pipeline asks of a stage on the stock data."""
    step = next(one for one in STEPS if one.stage == stage)
    return dict(PipelineOptions(name="bench", model="tiny").request(step).settings)


def teacher(args: argparse.Namespace, console: Console) -> Trained:
    """Pretrained and tuned by our own stages."""
    asked = pipeline("pretrain") | SHAPE | PRETRAINING | {"data.tokenizer": f"{args.home_of}-tokenizer"}
    first = trained("pretrain", "bench-teacher-pretrain", asked | args.quickly, console, model="tiny")
    passes = {"bench-teacher-sft": TUNING, "bench-teacher-again": AGAIN, "bench-teacher": ONCE_MORE}
    for name, tuning in passes.items():
        asked = pipeline("sft") | tuning | {"init_from": first.name}
        first = trained("sft", name, asked | args.quickly, console)
    return first


def student(kind: str, seed: int, start: str, args: argparse.Namespace, console: Console) -> Student:
    """One, trained and put to the suite."""
    asked = pipeline("sft") | {"loop.max_steps": args.steps, "loop.eval_interval": 52, "seed": seed}
    asked |= CHOSEN[kind] | {"init_from": start} | args.set[kind] | args.quickly
    stage = "distill" if kind in ("off", "on") else "sft"
    if stage == "distill":
        asked["roles.teacher"] = args.teacher
    run = trained(stage, f"bench-distill-{kind}-{seed}", asked, console)
    return Student(run, evaluated(run.name, ("facts",), console)["facts"])


def difference(a: Student, b: Student) -> Finding:
    """Of B over A, row by row."""
    return compared({"facts": a.facts}, {"facts": b.facts})["facts"].whole


def show(master: Student, found: Mapping[int, Mapping[str, Student]], console: Console) -> None:
    """A row for the teacher, and one for each student."""
    columns = ("seed", "student", "steps", "rate", "loss", "match % (interval)", "more than labels, points", "text")
    table = Table(*columns, "agreement", "wall s", "CPU s")
    rows: list[tuple[int | str, Mapping[str, Student]]] = [("", {"teacher": master}), *found.items()]
    for seed, students in rows:
        for kind, one in students.items():
            other = students.get({"off": "hard", "on": "more"}.get(kind, ""))
            summary = one.facts.summary
            gain = ""
            if other is not None:
                between = difference(other, one).comparison.difference
                gain = f"{100 * between.value:+.1f} ({100 * between.low:+.1f} to {100 * between.high:+.1f})"
            agreement = f"{one.run.last('val/agreement'):.3f}" if one.run.run.stage == "distill" else ""
            table.add_row(
                str(seed),
                kind,
                str(one.run.steps),
                f"{one.run.run.spec()['optim']['learning_rate']:g}",
                f"{one.loss:.4f}",
                f"{100 * one.match:.1f} ({100 * summary['low']:.1f} to {100 * summary['high']:.1f})",
                gain,
                f"{one.run.last('val/pretrain_bits_per_byte'):.3f}",
                agreement,
                f"{one.run.wall_s:.0f}",
                f"{one.run.cpu_s:.0f}",
            )
        table.add_section()
    console.print(table)


def draw(master: Student, found: Mapping[int, Mapping[str, Student]]) -> Path:
    """Validation loss while the students train, and what each knows at its end."""
    kinds = {
        "hard": ("hard labels", "#7a7a7a"),
        "off": ("off policy", "#2a78b5"),
        "more": ("more hard labels", "#a8a8a8"),
        "on": ("on policy", "#d9662b"),
    }
    there = {kind for students in found.values() for kind in students}
    kinds = {kind: how for kind, how in kinds.items() if kind in there}
    goes_on = bool(there & {*FURTHER})
    made = figure("A student of 2.3M parameters and its teacher of 9.8M", width=11 if goes_on else 8)
    first, *middle, facts = made.subplots(1, 3 if goes_on else 2, width_ratios=[1.3] * (1 + goes_on) + [1])
    for number, students in enumerate(found.values()):
        for kind, one in students.items():
            name, colour = kinds[kind]
            label = None if number else name
            losses = middle[0] if kind in FURTHER else first
            losses.plot(*one.run.series[loss_name(one.run)], color=colour, linewidth=1.5, label=label)
            match, low, high = (100 * value for value in (one.match, *ends(one)))
            place = list(kinds).index(kind) + 0.18 * (number - (len(found) - 1) / 2)
            error = [[match - low], [high - match]]
            facts.errorbar(place, match, error, color=colour, marker="o", markersize=4, linewidth=1.2)
    for losses, title in zip((first, *middle), ("from pretraining", "from hard labels"), strict=False):
        losses.set_yscale("log")
        losses.yaxis.set_major_formatter("{x:g}")
        losses.yaxis.set_minor_formatter("{x:.2g}")
        losses.set_xlabel(f"step, {title}")
        losses.legend(frameon=False, loc="upper right")
    first.set_ylabel("held-out conversations: nats/token")
    facts.axhline(100 * master.match, color="#333333", linewidth=1, linestyle=(0, (4, 3)), label="teacher")
    facts.set_xlim(-0.5, len(kinds) - 0.5)
    facts.set_xticks(range(len(kinds)), [name.replace(" ", "\n") for name, _ in kinds.values()], fontsize=8)
    facts.set_ylabel("facts answered to the letter, %")
    facts.legend(frameon=False, loc="lower right")
    return keep(made, "distill.png")


def ends(student: Student) -> tuple[float, float]:
    """Of the interval of its facts."""
    return float(student.facts.summary["low"]), float(student.facts.summary["high"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home_of", default="demo-all", metavar="PIPELINE", help="whose runs students begin with")
    parser.add_argument("--teacher", help="a run; default: one is trained")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=STEPS_OF_STUDENTS)
    parser.add_argument("--kinds", nargs="+", choices=list(CHOSEN), default=list(CHOSEN), help="for a search")
    parser.add_argument("--set", nargs="+", default=[], metavar="KIND.PATH=VALUE", help="other settings, for a search")
    parser.add_argument("--picture", action="store_true", help="draw docs/pictures/distill.png")
    parser.add_argument("--quick", action="store_true", help="a smoke run: its figures mean nothing")
    args = parser.parse_args()
    changes: dict[str, dict[str, Any]] = {kind: {} for kind in CHOSEN}
    for text in args.set:
        path, _, value = text.partition("=")
        kind, _, path = path.partition(".")
        changes[kind][path] = json.loads(value)
    args.set, args.quickly = changes, {"loop.max_steps": 4} if args.quick else {}
    console = Console(width=170)
    run = Trained.there(args.teacher) if args.teacher else teacher(args, console)
    args.teacher = run.name
    master = Student(run, evaluated(run.name, ("facts",), console)["facts"])
    found: dict[int, dict[str, Student]] = {}
    for seed in args.seeds:
        found[seed] = students = {}
        for kind in args.kinds:
            start = f"bench-distill-hard-{seed}" if kind in FURTHER else f"{args.home_of}-pretrain"
            students[kind] = student(kind, seed, start, args, console)
    show(master, found, console)
    if args.picture:
        console.print(str(draw(master, found)))
    figures = {}
    for name, measure in (("loss", "loss"), ("match", "match")):
        for kind in args.kinds:
            values = [getattr(students[kind], measure) for students in found.values()]
            figures[f"{name}_{kind}"] = round(statistics.median(values), 4)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
