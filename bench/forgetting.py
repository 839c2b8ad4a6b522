"""How much plain text does a model forget while it learns to answer, and what holds it?

    python bench/forgetting.py [--from_weight demo-all-pretrain] [--seeds 1 2 3]

SFT of the stock conversations as `minimind pipeline` does it, once for each seed and each way: with no text among them,
with text whose tokens are learnt again, and with text of which is learnt what the model from before says of it. All see
the same conversations; where text is replayed it is a tenth of the rows in addition. The weights are those of `make
demo-all`, unless others are named. Runs are kept in MINIMIND_HOME, called forgetting-WAY-SEED: what is there is not run
again.
"""

from __future__ import annotations

import sys
from pathlib import Path

# Imports below count from the checkout, not from this folder.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import argparse
import json
import statistics
from typing import Any

from rich.console import Console
from rich.table import Table

from jobs import paths
from jobs.runs import evals
from jobs.runs.directory import RunDirectory
from jobs.stages.origin import new_spec
from jobs.training.run import start
from minimind.events import metric_series

WAYS: dict[str, dict[str, Any]] = {
    "none": {"data.mix": 0},
    "text": {"data.mix": 0.1},
    "teacher": {"data.mix": 0.1, "stage.replay": "teacher"},
}
MEASURES = ("text", "loss", "facts")


def learnt(way: str, seed: int, from_weight: str) -> dict[str, float]:
    """What a run came to: bits per byte of plain text, loss of held-out answers, share of the facts that it knows."""
    run = RunDirectory(paths.runs() / f"forgetting-{way}-{seed}")
    if not run.exists or run.state().word != "SUCCEEDED":
        settings = {
            "name": run.name,
            "init_from": from_weight,
            "seed": seed,
            "data.path": str(paths.stock_folder() / "sft.jsonl"),
            "data.in_order": True,
            "loop.epochs": 1,
            "scaling.workers": 0,
            "eval.suites": ["facts"],
        }
        start(new_spec("sft", settings | WAYS[way]), Console(stderr=True), overwrite=run.exists)
    text, loss = (metric_series(run.events_path, f"val/{name}")[1] for name in ("pretrain_bits_per_byte", "loss"))
    (facts,) = evals.logs(run)
    return {"before": text[0], "text": text[-1], "loss": loss[-1], "facts": facts.score}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from_weight", default="demo-all-pretrain")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    args = parser.parse_args()
    found = {(way, seed): learnt(way, seed, args.from_weight) for seed in args.seeds for way in WAYS}
    table = Table("replayed", "seed", "plain text before", "after", "loss of answers", "facts")
    figures: dict[str, float] = {}
    for way in WAYS:
        for seed in args.seeds:
            one = found[way, seed]
            table.add_row(
                way,
                str(seed),
                f"{one['before']:.3f}",
                f"{one['text']:.3f}",
                f"{one['loss']:.3f}",
                f"{one['facts']:.1%}",
            )
        table.add_section()
        for name in MEASURES:
            figures[f"{name}_{way}"] = round(statistics.median(found[way, seed][name] for seed in args.seeds), 4)
    Console().print(table)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
