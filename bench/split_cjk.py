"""Does a small model remember more if its tokenizer takes every Chinese character by itself?

    python bench/split_cjk.py [--questions 20000] [--seeds 1]

The `tiny` model learns the stock questions and answers as plain text (a question, a new line, its answer; `sft.jsonl`),
from scratch, once with each tokenizer, one pass over the same questions. Then it is asked the questions of `eval.jsonl`
about facts that it was taught, in phrasings that it was not, and the first line of its greedy continuation must hold
the answer.
"""

from __future__ import annotations

import sys
from pathlib import Path

# Imports below count from the checkout, not from this folder.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import argparse
import json
import statistics
import tempfile
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from data.batches import OrderedBatches
from data.pack import pack
from data.prepare import tokenise
from data.read import iter_texts
from data.rows import PackedRows
from jobs.paths import stock_folder
from jobs.stages.pretrain import pretrain
from minimind.device.distributed import Parallel
from minimind.network.model import MODEL_PRESETS, MiniMind
from minimind.text.tokenizer import Tokenizer, compression
from minimind.training.evaluate import continuation
from minimind.training.loop import train
from minimind.training.objectives import next_token_loss
from minimind.training.optim import build_optimizer, learning_rate_factor
from minimind.training.precision import Precision
from minimind.training.recipe import LoopConfig, Recipe
from minimind.training.train_state import TrainState
from minimind.training.trial_steps import NoHooks

WIDTH, ROWS = 256, 8


def questions_as_text(folder: Path, target: Path, count: int) -> None:
    """The first `count` questions and answers as pretraining rows."""
    with (folder / "sft.jsonl").open(encoding="utf-8") as source, target.open("w", encoding="utf-8") as file:
        for _, line in zip(range(count), source, strict=False):
            turns = json.loads(line)["conversations"]
            text = "\n".join(turn["content"] for turn in turns)
            file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")


def taught(folder: Path) -> list[dict[str, Any]]:
    """Questions about facts that were taught, in phrasings that were not."""
    with (folder / "eval.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [row for row in rows if row["kind"] == "heldout_phrasing"]


def learn(text: Path, tokenizer: Tokenizer, seed: int) -> MiniMind:
    """The tiny model after one pass over the text."""
    optim = pretrain("tiny").optim
    model = MiniMind(MODEL_PRESETS["tiny"])
    model.initialize(torch.Generator().manual_seed(seed))
    with tempfile.TemporaryDirectory() as folder:
        shards = tokenise([text], tokenizer, folder)
        batches = OrderedBatches(PackedRows(shards, pack(shards.lengths, WIDTH)), batch_size=ROWS, seed=seed)
        steps = batches.total_steps(1)
        recipe = Recipe(
            models={"policy": model},
            objective=next_token_loss,
            batches=batches,
            optimizer=build_optimizer({"policy": model}, optim),
            learning_rate=lambda step: optim.learning_rate * learning_rate_factor(optim, step, steps),
            precision=Precision(torch.float32, torch.device("cpu")),
            loop=LoopConfig(log_interval=10**9),
            total_steps=steps,
            grad_clip=optim.grad_clip,
        )
        train(recipe, TrainState(), NoHooks(), Parallel())
    return model


def recall(model: MiniMind, tokenizer: Tokenizer, rows: list[dict[str, Any]]) -> float:
    """Share of the questions whose answer stands in the first line of what the model writes."""
    right = 0
    for row in rows:
        ids = [tokenizer.bos_id, *tokenizer.encode(row["prompt"] + "\n")]
        written = continuation(model, ids, max_tokens=40, eos_id=tokenizer.eos_id, temperature=0)
        right += row["answer"] in tokenizer.decode(written).partition("\n")[0]
    return right / max(1, len(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a stock data folder; default: that of `minimind data fetch`")
    parser.add_argument("--questions", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    folder = args.data or stock_folder()
    rows = {lang: [row for row in taught(folder) if row["language"] == lang] for lang in ("zh", "en")}
    table = Table("CJK characters", "characters per token, zh", "en", "recall zh", "recall en")
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        text = Path(temporary) / "questions.jsonl"
        questions_as_text(folder, text, args.questions)
        for name, split in (("apart", True), ("merged", False)):
            tokenizer = Tokenizer.train(iter_texts(text), 6400, split_cjk=split)
            found: dict[str, list[float]] = {"zh": [], "en": []}
            for seed in range(args.seeds):
                model = learn(text, tokenizer, seed)
                for lang, asked in rows.items():
                    found[lang].append(recall(model, tokenizer, asked))
            per_token = compression(tokenizer, list(iter_texts(text))[:2000])
            medians = {lang: statistics.median(values) for lang, values in found.items()}
            cells = [f"{per_token.get(lang, 0):.2f}" for lang in ("zh", "en")]
            table.add_row(name, *cells, *(f"{100 * medians[lang]:.0f} %" for lang in ("zh", "en")))
            figures |= {f"recall_{lang}_{name}": round(value, 3) for lang, value in medians.items()}
    Console(width=110).print(table)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
