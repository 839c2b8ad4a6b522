"""What lm-eval makes of a checkpoint, from its folder and from a server: says both as JSON.

Run with the server's address, the model's name, the folder, and what to score and to continue, as JSON.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.models.openai_completions import LocalCompletionsAPI


def main(address: str, name: str, folder: str, asked: str) -> None:
    pairs, texts, beginnings = json.loads(asked)
    common: dict[str, Any] = {"batch_size": 4, "max_length": 512}
    models = {
        "folder": HFLM(pretrained=folder, device="cpu", dtype="float32", **common),
        "server": LocalCompletionsAPI(
            model=name,
            base_url=f"{address}/v1/completions",
            tokenizer=folder,
            tokenizer_backend="huggingface",
            **common,
        ),
    }
    stops = {"until": ["\n", "7"], "max_gen_toks": 12, "temperature": 0}
    requests = {
        "loglikelihood": [tuple(pair) for pair in pairs],
        "loglikelihood_rolling": [(text,) for text in texts],
        "generate_until": [(text, stops) for text in beginnings],
    }
    said = {
        kind: {
            place: getattr(model, kind)([Instance(kind, {}, how, at) for at, how in enumerate(each)], disable_tqdm=True)
            for place, model in models.items()
        }
        for kind, each in requests.items()
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
