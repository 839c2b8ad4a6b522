"""Whether the preference stages do what they promise: DPO and the reward model, each with several seeds.

    python bench/preferences.py [--from_weight demo-all-sft] [--seeds 1 2 3] [--picture]

The weights are those that `make demo-all` ends SFT with (`tiny`), the pairs the stock's, and the settings those of the
pipeline: one epoch of DPO, three of the reward model. A seed decides the order of the pairs and nothing else. All is
measured on 320 held-out pairs: other words for facts that are taught, and other wrong answers.

DPO. accuracy: the share of pairs whose better answer has gained more on the reference than the worse one; before the
first step both have gained nothing and it is 50 % by definition. likelier: the suite `preferences`, the share whose
better answer is likelier. It does not begin at chance: whoever has learnt the facts in SFT finds the right answer
likelier. Facts: the suite `facts`, exact match, beside the other checkpoint with a paired 95 % interval. Text: held-out
plain text, as the runs measure it. Prose: the suite `language`, which no model has read.

Reward. accuracy: the share of pairs whose better answer has the higher score. By length, in tokens: a judge that goes
by length alone is right in all pairs whose better answer is of the length that it likes, in none of the others, and in
half of those whose answers are as long. So three figures say together whether length fools it:

    as long wrong   the share of pairs of equal length that it ranks wrongly (`fooled_by_length`). Length can't help
                    there, nor mislead: a judge that has learnt length and nothing else has 50 %, one that knows its
                    subject few. Errors there are no work of length themselves.
    length pull     how much more often it is wrong where the better answer is the shorter one than where it is the
                    longer one, in points: 0 where length does not matter, 100 (-100) where long (short) answers win.
    worst           the larger error of these two groups: at most so many are misled by their length.

The last line has medians over seeds; changes are in points (facts) and per cent (text), more is better of facts and
worse of text.
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
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.trained import Trained, compared, evaluated, figure, keep, spread, trained
from jobs import paths
from jobs.evaluation.compare import Compared, Finding
from jobs.evaluation.rewards import score_file, summary
from jobs.pipeline.steps import STEPS, PipelineOptions
from jobs.runs.references import find_weights

SUITES = ("facts", "preferences", "language")
MEASURED_EVERY = {"dpo": 17, "reward": 51}
"""Steps: an eighth of a run."""


@dataclass(frozen=True)
class Preferred:
    """DPO with one seed. of: the suites of the checkpoint before and after, beside each other."""

    run: Trained
    of: dict[str, Compared]

    @property
    def facts(self) -> Finding:
        """Exact match, before and after."""
        return self.of["facts"].whole

    @property
    def text_change(self) -> float:
        """By how many per cent held-out plain text takes more bits."""
        name = "val/pretrain_bits_per_byte"
        return 100 * (self.run.last(name) / self.run.first(name) - 1)


@dataclass(frozen=True)
class Judged:
    """The reward model of one seed. wrong: share of pairs that it ranks wrongly, by which answer is longer."""

    run: Trained
    wrong: dict[str, float]

    @property
    def length_pull(self) -> float:
        """In points: see the module."""
        return 100 * (self.wrong["shorter"] - self.wrong["longer"])


def settings(stage: str, from_weight: str, seed: int, more: dict[str, Any]) -> dict[str, Any]:
    """What the pipeline asks of a stage, on these weights and with this seed."""
    step = next(one for one in STEPS if one.stage == stage)
    asked = dict(PipelineOptions(name="bench", model="tiny").request(step).settings)
    return asked | {"init_from": from_weight, "seed": seed, "loop.eval_interval": MEASURED_EVERY[stage]} | more


def dpo(args: argparse.Namespace, seed: int, console: Console) -> Preferred:
    """Trained, and put to the suites beside the weights that it began with."""
    run = trained("dpo", f"bench-dpo-{seed}", settings("dpo", args.from_weight, seed, args.set["dpo"]), console)
    before = evaluated(args.from_weight, SUITES, console)
    return Preferred(run, compared(before, evaluated(run.name, SUITES, console)))


def reward(args: argparse.Namespace, seed: int, console: Console) -> Judged:
    """Trained, and asked for the scores of the held-out pairs."""
    asked = settings("reward", args.from_weight, seed, args.set["reward"])
    run = trained("reward", f"bench-reward-{seed}", asked, console)
    scored = score_file(find_weights(run.name), paths.stock_folder() / "dpo_eval.jsonl", "dpo")
    return Judged(run, {name: 1 - right.value for name, (_, right) in summary(scored).pairs.items()})


def show_dpo(seeds: list[int], found: list[Preferred], console: Console) -> None:
    """A row a seed, and the mean with the range."""
    columns = ("accuracy %", "likelier %", "facts %", "difference", "text bits/byte", "prose", "kl", "CPU s")
    table = Table("seed", *columns, title=f"DPO: {found[0].run.steps} steps, before -> after")
    for seed, one in zip(seeds, found, strict=True):
        likelier, facts, prose = (one.of[name].whole for name in ("preferences", "facts", "language"))
        between = facts.comparison.difference
        text = "val/pretrain_bits_per_byte"
        table.add_row(
            str(seed),
            f"{100 * one.run.first('val/accuracy'):.1f} -> {100 * one.run.last('val/accuracy'):.1f}",
            f"{100 * likelier.a:.1f} -> {100 * likelier.b:.1f}",
            f"{100 * facts.a:.1f} -> {100 * facts.b:.1f}",
            f"{100 * between.value:+.1f} ({100 * between.low:+.1f} to {100 * between.high:+.1f})",
            f"{one.run.first(text):.3f} -> {one.run.last(text):.3f} ({one.text_change:+.1f} %)",
            f"{prose.a:.3f} -> {prose.b:.3f}",
            f"{one.run.last('val/kl'):.4f}",
            f"{one.run.cpu_s:.0f}",
        )
    table.add_row(
        "mean (from, to)",
        spread([100 * one.run.last("val/accuracy") for one in found]),
        spread([100 * one.of["preferences"].whole.b for one in found]),
        spread([100 * one.facts.b for one in found]),
        spread([100 * (one.facts.b - one.facts.a) for one in found], "+.1f"),
        spread([one.text_change for one in found], "+.2f") + " %",
    )
    console.print(table)


def show_reward(seeds: list[int], found: list[Judged], console: Console) -> None:
    """Likewise."""
    columns = ("accuracy %", "as long wrong %", "shorter better: wrong %", "longer better: wrong %", "length pull")
    table = Table("seed", *columns, "CPU s", title=f"Reward model: {found[0].run.steps} steps")
    groups = ("as long", "shorter", "longer")
    for seed, one in zip(seeds, found, strict=True):
        wrong = [f"{100 * one.wrong[name]:.1f}" for name in groups]
        accuracy = f"{100 * (1 - one.wrong['any']):.1f}"
        table.add_row(str(seed), accuracy, *wrong, f"{one.length_pull:+.1f}", f"{one.run.cpu_s:.0f}")
    table.add_row(
        "mean (from, to)",
        spread([100 * (1 - one.wrong["any"]) for one in found]),
        *(spread([100 * one.wrong[name] for one in found]) for name in groups),
        spread([one.length_pull for one in found], "+.1f"),
    )
    console.print(table)


def draw(preferred: list[Preferred], judged: list[Judged]) -> Path:
    """Held-out accuracy of both stages while they train, and what the reward model gets wrong by length."""
    made = figure("Preferences learnt from 1,600 pairs, on 320 held-out pairs")
    learnt, lengths = made.subplots(1, 2, width_ratios=[2, 1])
    for label, colour, runs in (
        ("DPO", "#2a78b5", [one.run for one in preferred]),
        ("reward model", "#d9662b", [one.run for one in judged]),
    ):
        for number, run in enumerate(runs):
            steps, values = run.series["val/accuracy"]
            share = [100 * step / steps[-1] for step in steps]
            shown = f"{label}, {steps[-1]} steps" if not number else None
            learnt.plot(share, [100 * value for value in values], color=colour, linewidth=1.5, label=shown)
    learnt.axhline(90, color="#7a7a7a", linewidth=1, linestyle=(0, (4, 3)), label="90 %")
    learnt.set_xlabel("% of the run")
    learnt.set_ylabel("pairs ranked rightly, %")
    learnt.legend(frameon=False, loc="lower right")
    groups = {"shorter": "shorter", "as long": "as long", "longer": "longer"}
    width = 0.8 / len(judged)
    for number, one in enumerate(judged):
        at = [place + width * (number - (len(judged) - 1) / 2) for place in range(len(groups))]
        lengths.bar(at, [100 * one.wrong[name] for name in groups], width * 0.9, color="#d9662b")
    lengths.set_xticks(range(len(groups)), list(groups.values()))
    lengths.set_xlabel("the better answer is")
    lengths.set_ylabel("reward model: ranked wrongly, %")
    lengths.set_ylim(0, 50)
    return keep(made, "preferences.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from_weight", default="demo-all-sft", help="a run of SFT on the stock data")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--set", nargs="+", default=[], metavar="STAGE.PATH=VALUE", help="other settings, for a search")
    parser.add_argument("--picture", action="store_true", help="draw docs/pictures/preferences.png")
    parser.add_argument("--quick", action="store_true", help="a smoke run: its figures mean nothing")
    args = parser.parse_args()
    quickly = {"loop.max_steps": 4} if args.quick else {}
    changes: dict[str, dict[str, Any]] = {stage: dict(quickly) for stage in MEASURED_EVERY}
    for text in args.set:
        path, _, value = text.partition("=")
        stage, _, path = path.partition(".")
        changes[stage][path] = json.loads(value)
    args.set = changes
    console = Console(width=170)
    preferred = [dpo(args, seed, console) for seed in args.seeds]
    judged = [reward(args, seed, console) for seed in args.seeds]
    show_dpo(args.seeds, preferred, console)
    show_reward(args.seeds, judged, console)
    if args.picture:
        console.print(str(draw(preferred, judged)))
    figures = {
        "accuracy_before": [one.run.first("val/accuracy") for one in preferred],
        "accuracy": [one.run.last("val/accuracy") for one in preferred],
        "facts_change": [100 * (one.facts.b - one.facts.a) for one in preferred],
        "text_change": [one.text_change for one in preferred],
        "reward_accuracy": [1 - one.wrong["any"] for one in judged],
        "fooled_by_length": [one.wrong["as long"] for one in judged],
        "length_pull": [one.length_pull for one in judged],
        "worst": [max(one.wrong["shorter"], one.wrong["longer"]) for one in judged],
    }
    print(json.dumps({name: round(statistics.median(values), 4) for name, values in figures.items()}))


if __name__ == "__main__":
    main()
