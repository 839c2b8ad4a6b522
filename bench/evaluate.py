"""How long the bundled suites take, and multiple choice against lm-eval's `hf` backend with the same rows and threads.

    python bench/evaluate.py [--run demo-chat] [--rounds 5] [--question TEMPLATE] [--choice TEMPLATE]

The run is one of the demo's (`make demo`), or another whose home has the stock data. `suite_s`: all bundled suites that
fit it, from the checkpoint on the disk to the last log. `rows_per_s_ratio`: 400 questions of the stock data's facts
with four choices each, ours from the rows to the log, lm-eval's log-likelihoods alone, without its task's work before
and after; both have loaded the model. It runs in a process of its own (`make clients`), in fp32, with that batch size
of BATCHES which takes least. Both sides take turns, one waiting for the other; figures are medians of the rounds. Their
log-probs have to agree, or the benchmark fails.
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
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from data import suite as suites
from data.suite import Rows
from jobs import paths
from jobs.evaluation import suites as bundled
from jobs.evaluation.evaluate import LocalExaminee, evaluate
from jobs.runs.evals import EvalLog
from jobs.runs.references import find_weights

ROWS, CHOICES = 400, 4
BATCHES = (8, 16, 32, 64, 128)
QUESTION, CHOICE = "Question: {question}\nAnswer:", " {choice}"
"""As lm-eval asks ARC."""
BOS = "<|im_start|>"
"""A text of ours begins with it; lm-eval's context has its name in front."""

TOLERANCE = 1e-3
"""In nats a choice: what rounding makes of some tens of tokens."""


@dataclass(frozen=True)
class Took:
    """One pass over all rows."""

    wall_s: float
    cpu_s: float


class Peer:
    """lm-eval in a process of its own, which waits while it is not asked."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def __call__(self, batch: int) -> tuple[Took, list[float]]:
        """One pass, and the log-prob of each choice."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{batch}\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith('{"logprobs"'):
                said = json.loads(line)
                return Took(said["wall_s"], said["cpu_s"]), said["logprobs"]
        raise RuntimeError("lm-eval has ended; what it said is above")


@contextmanager
def lm_eval(python: Path, folder: Path, pairs: list[tuple[str, str]], threads: int) -> Iterator[Peer]:
    """lm-eval with this checkpoint; pairs: contexts and what continues them."""
    with tempfile.TemporaryDirectory() as home:
        asked = Path(home) / "pairs.json"
        asked.write_text(json.dumps(pairs), "utf-8")
        command = [str(python), "-I", str(Path(__file__).with_name("evaluate_peer.py")), str(folder), str(asked)]
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": home, "OMP_NUM_THREADS": str(threads)}
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        ) as process:
            try:
                yield Peer(process)
            finally:
                process.kill()


def questions(file: Path) -> list[dict[str, Any]]:
    """Rows of four choices: the right answer, and three of other questions of the same language."""
    facts = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    chinese = [any("\u4e00" <= character <= "\u9fff" for character in fact["prompt"]) for fact in facts]
    answers = {
        side: sorted({fact["answer"] for fact, is_zh in zip(facts, chinese, strict=True) if is_zh == side})
        for side in (True, False)
    }
    rows = []
    for place, (fact, is_zh) in enumerate(list(zip(facts, chinese, strict=True))[:ROWS]):
        draw = random.Random(place)
        wrong = draw.sample([one for one in answers[is_zh] if one != fact["answer"]], CHOICES - 1)
        texts = draw.sample([fact["answer"], *wrong], CHOICES)
        labels = list("ABCD")
        rows.append(
            {
                "id": place,
                "language": "zh" if is_zh else "en",
                "question": fact["prompt"],
                "choices": {"text": texts, "label": labels},
                "answerKey": labels[texts.index(fact["answer"])],
            }
        )
    return rows


def timed(examinee: LocalExaminee, wanted: list[Rows]) -> tuple[Took, list[EvalLog]]:
    """All these suites."""
    began, cpu = time.perf_counter(), time.process_time()
    logs = [evaluate(examinee, rows) for rows in wanted]
    return Took(time.perf_counter() - began, time.process_time() - cpu), logs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="demo-chat")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=Path, default=paths.checkout() / ".venv-clients" / "bin" / "python")
    parser.add_argument("--question", default=QUESTION)
    parser.add_argument("--choice", default=CHOICE)
    args = parser.parse_args()
    facts = paths.stock_folder() / "rl.jsonl"
    if not facts.is_file():
        parser.error(f"{facts} is not there: `make demo DEMO_KEEP=1` makes it, and the run")
    if not args.clients.is_file():
        parser.error(f"{args.clients} is not there: `make clients` makes it")
    weights = find_weights(args.run)
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    console = Console(width=110)

    began = time.perf_counter()
    examinee = LocalExaminee.load(weights)
    wanted = bundled.load(bundled.fitting(weights))
    loaded_s = time.perf_counter() - began
    took, logs = timed(examinee, wanted)
    suite_s = loaded_s + took.wall_s
    table = Table("suite", "rows", "seconds")
    for log in logs:
        table.add_row(log.suite, str(len(log.records)), f"{log.summary['seconds']:.1f}")
    table.add_row("all, with the loading", str(sum(len(log.records) for log in logs)), f"{suite_s:.1f}")
    console.print(table, f"{took.cpu_s:.1f} CPU seconds")

    with tempfile.TemporaryDirectory() as folder:
        rows = questions(facts)
        content = Path(folder) / "rows.jsonl"
        content.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
        file = Path(folder) / "bench-choice.json"
        asking = {"how": "choice", "question": args.question, "choice": args.choice}
        described = {"name": "bench-choice", "title": {"en": "bench"}, "rows": content.name, "ask": asking}
        file.write_text(json.dumps(described), "utf-8")
        suite = suites.load("bench-choice", paths.stock_folder(), file)
        pairs = [
            (BOS + args.question.format(question=row["question"]), args.choice.format(choice=text))
            for row in rows
            for text in row["choices"]["text"]
        ]
        our_times, their_times = [], []
        with lm_eval(args.clients, weights.folder, pairs, threads) as peer:
            tried = {batch: peer(batch)[0] for batch in BATCHES}
            batch = min(tried, key=lambda batch: tried[batch].cpu_s)
            for _ in range(args.rounds):
                took_theirs, expected = peer(batch)
                took_ours, (log,) = timed(examinee, [suite])
                their_times.append(took_theirs)
                our_times.append(took_ours)
        log.path.unlink()
    found = [value for record in log.records for value in record["logprobs"]]
    worst = max(abs(a - b) for a, b in zip(found, expected, strict=True))
    if worst > TOLERANCE:
        raise SystemExit(f"the two sides differ by {worst} nats: they were not asked the same")
    table = Table(f"{ROWS} rows, {threads} threads", f"lm-eval hf, batches of {batch}", "ours", "ratio")
    ratios = {}
    for name in ("wall_s", "cpu_s"):
        theirs, ours = (statistics.median(getattr(one, name) for one in times) for times in (their_times, our_times))
        ratios[name] = theirs / ours
        unit = name.replace("_s", "").replace("cpu", "CPU")
        table.add_row(f"rows per {unit} second", f"{ROWS / theirs:.1f}", f"{ROWS / ours:.1f}", f"{theirs / ours:.2f}")
    console.print(table, f"log-probs differ by {worst:.1e} nats at most")
    print(
        json.dumps(
            {
                "rows_per_s_ratio": round(ratios["wall_s"], 2),
                "rows_per_cpu_s_ratio": round(ratios["cpu_s"], 2),
                "suite_s": round(suite_s, 1),
                "suite_cpu_s": round(took.cpu_s, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
