"""How fast `tokenise` is against `tokenizers.encode_batch` alone, on texts in memory, and how much memory it takes.

    python bench/tokenize_speed.py [--large_mb 1024]

`tokenise` reads and checks the JSON lines, encodes, and writes and syncs the shards; `encode_batch` gets the same texts
in the same batches and throws its result away. Rounds alternate. Memory: the growth of the peak RSS while a file of
--large_mb is tokenised, over that for a file of --small_mb, each in a process of its own.
"""

from __future__ import annotations

import sys
from pathlib import Path

# Imports below count from the checkout, not from this folder.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import argparse
import json
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from itertools import islice

import psutil
import tokenizers
from rich.console import Console
from rich.table import Table

from bench import corpus
from data.encode import BATCH_DOCUMENTS
from data.prepare import tokenise
from data.read import iter_texts
from minimind.text.tokenizer import Tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speed_mb", type=float, default=24, help="size of the file that is timed")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--small_mb", type=float, default=100)
    parser.add_argument("--large_mb", type=float, default=1024, help="0: measure no memory")
    parser.add_argument("--split_cjk", action="store_true", help="time the tokenizer that keeps characters apart")
    parser.add_argument("--growth_of", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.growth_of:
        print(_growth(args.folder, Path(args.growth_of)))
        return
    console = Console(width=110)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer = Tokenizer.train(islice(corpus.texts(seed=1), 20_000), 6400, split_cjk=args.split_cjk)
        tokenizer.save(folder)
        figures = _speed(folder, tokenizer, args.speed_mb, args.rounds, console)
        if args.large_mb:
            figures |= _memory(folder, args.small_mb, args.large_mb, console)
    print(json.dumps(figures))


def _speed(folder: Path, tokenizer: Tokenizer, megabytes: float, rounds: int, console: Console) -> dict[str, float]:
    path = folder / "speed.jsonl"
    corpus.write(path, megabytes)
    texts = list(iter_texts(path))
    batches = [texts[at : at + BATCH_DOCUMENTS] for at in range(0, len(texts), BATCH_DOCUMENTS)]
    text_mb = sum(len(text.encode()) for text in texts) / 1e6
    peer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))

    def encode_batch(_: int) -> None:
        for batch in batches:
            peer.encode_batch(batch)

    def ours(number: int) -> None:
        tokenise([path], tokenizer, folder / f"shards {number}")

    times: dict[str, list[tuple[float, float]]] = {"encode_batch": [], "tokenise": []}
    for number in range(rounds):
        turns: list[tuple[str, Callable[[int], None]]] = [("encode_batch", encode_batch), ("tokenise", ours)]
        for what, run in turns if number % 2 else turns[::-1]:
            times[what].append(_timed(run, number))

    table = Table("", "wall s", "CPU s", "MB of text per s", title=f"{text_mb:.0f} MB of text, medians of {rounds}")
    for what, measured in times.items():
        wall, cpu = (statistics.median(column) for column in zip(*measured, strict=True))
        table.add_row(what, f"{wall:.2f}", f"{cpu:.2f}", f"{text_mb / wall:.2f}")
    pairs = list(zip(times["encode_batch"], times["tokenise"], strict=True))
    wall_shares, cpu_shares = ([peer[i] / ours[i] for peer, ours in pairs] for i in (0, 1))
    for what, shares in (("wall", wall_shares), ("CPU", cpu_shares)):
        spread = f"{min(shares):.2f} to {max(shares):.2f}"
        table.add_row(f"share of encode_batch, {what}", f"{statistics.median(shares):.3f}", spread, "")
    console.print(table)
    return {
        "share_of_encode_batch": round(statistics.median(wall_shares), 3),
        "share_of_encode_batch_cpu": round(statistics.median(cpu_shares), 3),
    }


def _timed(run: Callable[[int], None], number: int) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    run(number)
    return time.perf_counter() - wall, time.process_time() - cpu


def _memory(folder: Path, small_mb: float, large_mb: float, console: Console) -> dict[str, float]:
    growths = []
    table = Table("file", "rows", "peak RSS growth, MB", "seconds", title="memory")
    for megabytes in (small_mb, large_mb):
        path = folder / f"{megabytes:.0f}MB.jsonl"
        rows = corpus.write(path, megabytes)
        begin = time.perf_counter()
        command = [sys.executable, __file__, "--growth_of", str(path), "--folder", str(folder)]
        growths.append(int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
        seconds = time.perf_counter() - begin
        table.add_row(f"{megabytes:.0f} MB", f"{rows:,}", f"{growths[-1] / 1e6:.0f}", f"{seconds:.0f}")
        path.unlink()
    console.print(table)
    return {"rss_growth_ratio": round(growths[1] / growths[0], 3), "large_mb": large_mb}


def _growth(folder: Path, path: Path) -> int:
    """By how many bytes the peak RSS of this process grows while `path` is tokenised."""
    tokenizer = Tokenizer.load(folder)
    before = psutil.Process().memory_info().rss
    tokenise([path], tokenizer, folder / f"shards of {path.name}")
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert peak, "Linux tells the peak; ru_maxrss would count the parent's"
    return int(peak[1]) * 1024 - before


if __name__ == "__main__":
    main()
