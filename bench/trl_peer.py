"""TRL's side of a benchmark, for the clients' interpreter: a trainer, "dpo" or "grpo", a checkpoint's folder, a file of
rows, and settings of the trainer's config.

For each number of steps that it reads from standard input it makes so many, and says how long they took, how high
memory has risen above what it was before the first, and how many tokens "grpo" has written. Its answers are rewarded by
`reward`, which tells nearly all of them apart.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def resident_bytes(which: str) -> int:
    """VmRSS, what this process has in memory; VmHWM, the most that it has had."""
    status = Path("/proc/self/status").read_text("ascii")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(which))


def forget_peak() -> int:
    """The peak starts from here: from so many bytes."""
    Path("/proc/self/clear_refs").write_text("5", "ascii")
    return resident_bytes("VmRSS")


def reward(text: str) -> float:
    """From 0 to 1, and another for nearly every other text."""
    return zlib.crc32(text.encode()) / 2**32


def rewards(attempts: Sequence[dict[str, Any]]) -> list[float]:
    """The same as a reward of ours calls it."""
    return [reward(attempt["answer"]) for attempt in attempts]


def main(trainer: str, folder: str, rows: str, settings: str) -> None:
    import torch
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    written = 0

    def rewarded(completions: Sequence[Any], completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
        nonlocal written
        written += sum(map(len, completion_ids))
        return [reward(completion[0]["content"]) for completion in completions]

    class Asked(TrainerCallback):
        """Makes as many steps as are asked for."""

        left, began, cpu, tokens = 0, 0.0, 0.0, 0

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if self.left == 0:
                if state.global_step:
                    took = {"wall_s": time.perf_counter() - self.began, "cpu_s": time.process_time() - self.cpu}
                    tokens = written - self.tokens
                    print(json.dumps({"peak_bytes": resident_bytes("VmHWM") - before, "tokens": tokens, **took}))
                    sys.stdout.flush()
                self.left = int(sys.stdin.readline() or sys.exit())
                self.began, self.cpu, self.tokens = time.perf_counter(), time.process_time(), written
            self.left -= 1

    kind, config, more = {
        "dpo": (DPOTrainer, DPOConfig, {}),
        "grpo": (GRPOTrainer, GRPOConfig, {"reward_funcs": rewarded}),
    }[trainer]
    made = kind(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        args=config(
            output_dir=os.environ["HF_HOME"],
            use_cpu=True,
            bf16=False,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            max_steps=10**6,
            **json.loads(settings),
        ),
        train_dataset=load_dataset("json", data_files=rows, split="train"),
        processing_class=AutoTokenizer.from_pretrained(folder),
        callbacks=[Asked()],
        **more,
    )
    gc.collect()
    before = forget_peak()
    made.train()


if __name__ == "__main__":
    main(*sys.argv[1:])
