"""TRL's side of bench/dpo_speed.py, for the clients' interpreter: a checkpoint's folder, a file of pairs, and settings
of DPOConfig.

For each number of steps that it reads from standard input it makes so many, and says how long they took, and how high
memory has risen above what it was before the first.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
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


def main(folder: str, pairs: str, settings: str) -> None:
    import torch
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import DPOConfig, DPOTrainer

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

    class Asked(TrainerCallback):
        """Makes as many steps as are asked for."""

        left, began, cpu = 0, 0.0, 0.0

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if self.left == 0:
                if state.global_step:
                    took = {"wall_s": time.perf_counter() - self.began, "cpu_s": time.process_time() - self.cpu}
                    print(json.dumps({"peak_bytes": resident_bytes("VmHWM") - before, **took}), flush=True)
                self.left = int(sys.stdin.readline() or sys.exit())
                self.began, self.cpu = time.perf_counter(), time.process_time()
            self.left -= 1

    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        args=DPOConfig(
            output_dir=os.environ["HF_HOME"],
            use_cpu=True,
            bf16=False,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            max_steps=10**6,
            **json.loads(settings),
        ),
        train_dataset=load_dataset("json", data_files=pairs, split="train"),
        processing_class=AutoTokenizer.from_pretrained(folder),
        callbacks=[Asked()],
    )
    gc.collect()
    before = forget_peak()
    trainer.train()


if __name__ == "__main__":
    main(*sys.argv[1:])
