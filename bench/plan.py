"""How far the levels of the memory plan are from each other, and what they cost.

    python bench/plan.py [--quick]

closed_form_us: one closed form. trace_s: CPU seconds of a trace of two steps of `30m` pretraining as its preset has it,
on CUDA in bf16; replay_s: that trace through the model of the allocator. closed_form_max_error and held_out_max_error:
the closed form against the trace, on the configurations it was written by and on others; trace_max_error: the trace
under CPU rules against PyTorch's C++ allocator in the same steps, in a process whose oneDNN is told of AVX2 and no
more: native products of half precision take scratch space that differs from one processor to the next, up to 15 % of a
step. Times are the best of several.
"""

from __future__ import annotations

import sys
from pathlib import Path

# Imports below count from the checkout, not from this folder.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import argparse
import json
import time
from collections.abc import Callable, Iterable

import torch

from minimind.memory.allocator import replay
from minimind.memory.closed_form import closed_form
from minimind.memory.trace import trace
from tests.plans import BF16, HELD_OUT_SHAPES, MORE_REAL_CASES, REAL_CASES, SHAPES, Case, allocator_peaks

PRETRAIN_30M = Case(
    hidden=512, layers=8, heads=8, kv_heads=4, vocab=6400, rows=8, width=512, dtype=BF16, accumulation=4
)


def best(run: Callable[[], object], rounds: int) -> float:
    """CPU seconds of the quickest of so many rounds."""
    times = []
    for _ in range(rounds):
        started = time.process_time()
        run()
        times.append(time.process_time() - started)
    return min(times)


def largest_error(predicted: Callable[[Case], int], real: Callable[[Case], int], cases: Iterable[Case]) -> float:
    """As a share of what is real."""
    return max(abs(predicted(case) / real(case) - 1) for case in cases)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a few configurations of each kind")
    few = slice(3) if parser.parse_args().quick else slice(None)
    torch.set_num_threads(1)

    def formula(case: Case) -> int:
        return closed_form(case.shape)

    def traced(case: Case) -> int:
        return trace(case.step).peak_bytes

    events = trace(PRETRAIN_30M.step).events
    real = dict(list((REAL_CASES | MORE_REAL_CASES).items())[few])
    allocated = allocator_peaks(real)
    figures = {
        "closed_form_us": round(1e6 * best(lambda: [formula(PRETRAIN_30M) for _ in range(1000)], 5) / 1000, 1),
        "trace_s": round(best(lambda: trace(PRETRAIN_30M.step), 5), 2),
        "replay_s": round(best(lambda: replay(events), 5), 3),
        "closed_form_max_error": round(largest_error(formula, traced, SHAPES[few]), 5),
        "held_out_max_error": round(largest_error(formula, traced, HELD_OUT_SHAPES[few]), 5),
        "trace_max_error": round(
            max(abs(trace(case.step, "cpu").peak_bytes / allocated[name] - 1) for name, case in real.items()), 7
        ),
        "configurations": [len(SHAPES[few]), len(HELD_OUT_SHAPES[few]), len(real)],
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
