"""What TRL makes of a checkpoint and of rows: the tokens that it reads and learns, the loss of all rows in one batch,
and its gradients.

Run with what is asked, as JSON: by name the trainer, its settings, the folders of the policy and of the reference, the
file of rows, a chat template to use in place of the policy's own, and a file for the gradients. Says for each the loss,
and of each text its token ids and which of them are learnt.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from datasets import load_dataset
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

TRAINERS: dict[str, tuple[Any, Any]] = {
    "dpo": (DPOTrainer, DPOConfig),
    "cpo": (CPOTrainer, CPOConfig),
    "orpo": (ORPOTrainer, ORPOConfig),
}

USUAL = {"use_cpu": True, "bf16": False, "disable_tqdm": True, "report_to": "none"}


def trained(
    trainer: str,
    settings: dict[str, Any],
    policy: str,
    reference: str | None,
    rows: str,
    template: str | None,
    gradients: str,
) -> dict[str, Any]:
    """One step's forward and backward pass over all rows."""
    kind, config = TRAINERS[trainer]
    tokenizer = AutoTokenizer.from_pretrained(policy)
    tokenizer.chat_template = template or tokenizer.chat_template
    models = {"model": AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32)}
    if reference is not None:
        models["ref_model"] = AutoModelForCausalLM.from_pretrained(reference, dtype=torch.float32)
    made = kind(
        **models,
        args=config(output_dir=f"{gradients}.out", **USUAL, **settings),
        train_dataset=load_dataset("json", data_files=rows, split="train"),
        processing_class=tokenizer,
    )
    batch = made.data_collator([made.train_dataset[place] for place in range(len(made.train_dataset))])
    made.model.train()
    loss = made.compute_loss(made.model, dict(batch))
    loss.backward()
    save_file({name: weight.grad for name, weight in made.model.named_parameters()}, gradients)
    return {"loss": loss.item(), "texts": texts(batch)}


def texts(batch: dict[str, torch.Tensor]) -> list[tuple[list[int], list[bool]]]:
    """The token ids of each text of a batch, and which of them are learnt: all better answers, then all worse ones."""
    if "completion_mask" in batch:
        parts = [(batch["input_ids"], batch["attention_mask"], batch["completion_mask"] == 1)]
    else:
        parts = [
            (batch[f"{side}_input_ids"], batch[f"{side}_attention_mask"], batch[f"{side}_labels"] != -100)
            for side in ("chosen", "rejected")
        ]
    return [
        (ids_T[real_T == 1].tolist(), learnt_T[real_T == 1].tolist())
        for part in parts
        for ids_T, real_T, learnt_T in zip(*part, strict=True)
    ]


def main(asked: str) -> None:
    print(json.dumps({name: trained(**how) for name, how in json.loads(asked).items()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
