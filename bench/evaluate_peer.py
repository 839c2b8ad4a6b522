"""lm-eval's side of bench/evaluate.py, for the clients' interpreter: a checkpoint's folder and a file of pairs.

For each batch size that it reads from standard input it scores all pairs, and says how long that took.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch


def main(folder: str, asked: str) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    pairs = json.loads(Path(asked).read_text("utf-8"))
    models: dict[int, HFLM] = {}
    for line in sys.stdin:
        batch = int(line)
        if batch not in models:
            models[batch] = HFLM(pretrained=folder, device="cpu", dtype="float32", batch_size=batch, max_length=1023)
        requests = [Instance("loglikelihood", {}, tuple(pair), place) for place, pair in enumerate(pairs)]
        began, cpu = time.perf_counter(), time.process_time()
        with torch.inference_mode():
            found = models[batch].loglikelihood(requests, disable_tqdm=True)
        took = {"wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}
        print(json.dumps({"logprobs": [float(value) for value, _ in found], **took}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
