"""What lm-eval makes of tasks of multiple choice, with a checkpoint's folder and with a server.

Run with the server's address, the model's name, the folder, and as JSON the tasks (name -> configuration) and how many
tokens of question and choice together a model is to see. Says as JSON, for each task and place, of each row its
choices' log-probs, and the task's scores.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.models.openai_completions import LocalCompletionsAPI
from lm_eval.tasks import TaskManager


def main(address: str, name: str, folder: str, asked: str) -> None:
    tasks, window = json.loads(asked)
    models = {
        # It counts what goes in, and the last token does not.
        "folder": HFLM(pretrained=folder, device="cpu", dtype="float32", batch_size=4, max_length=window - 1),
        # It leaves room for one token that the server writes.
        "server": LocalCompletionsAPI(
            model=name,
            base_url=f"{address}/v1/completions",
            tokenizer=folder,
            tokenizer_backend="huggingface",
            batch_size=4,
            max_length=window + 1,
        ),
    }
    said: dict[str, dict[str, Any]] = {}
    manager = TaskManager(include_defaults=False)  # those that come with it are ten thousand files to read
    for place, model in models.items():
        found = simple_evaluate(model, tasks=list(tasks.values()), bootstrap_iters=0, task_manager=manager)
        for task in tasks:
            rows = sorted(found["samples"][task], key=lambda row: row["doc_id"])
            said.setdefault(task, {})[place] = {
                "logprobs": [[float(one[0][0]) for one in row["resps"]] for row in rows],
                "plain": found["results"][task]["acc,none"],
                "per_byte": found["results"][task]["acc_bytes,none"],
            }
    print(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
