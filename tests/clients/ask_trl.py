"""What TRL makes of a checkpoint and of rows: the tokens that it reads and learns, the loss of all rows in one batch,
and its gradients.

Run with what is asked, as JSON: by name the trainer, its settings, the folders of the policy and of the reference, the
file of rows, a chat template to use in place of the policy's own, and a file for the gradients. Says for each the loss,
and of each text its token ids and which of them are learnt. Of the trainer "gkd" the divergence alone is asked, of
texts. The trainer "grpo" is asked about answers that are given with their rewards, and says of each its advantage.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, load_dataset
from safetensors.torch import save_file
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl import (
    DPOConfig,
    DPOTrainer,
    GRPOConfig,
    GRPOTrainer,
    KTOConfig,
    KTOTrainer,
    RewardConfig,
    RewardTrainer,
)
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.gkd import GKDTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

TRAINERS: dict[str, tuple[Any, Any]] = {
    "dpo": (DPOTrainer, DPOConfig),
    "cpo": (CPOTrainer, CPOConfig),
    "orpo": (ORPOTrainer, ORPOConfig),
    "kto": (KTOTrainer, KTOConfig),
    "reward": (RewardTrainer, RewardConfig),
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
    of = AutoModelForSequenceClassification if trainer == "reward" else AutoModelForCausalLM
    models = {"model": of.from_pretrained(policy, dtype=torch.float32)}
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
    save(made.model, gradients)
    return {"loss": loss.item(), "texts": texts(batch)}


def distilled(settings: dict[str, Any], policy: str, reference: str, rows: str, gradients: str) -> dict[str, Any]:
    """The divergence of policy and reference over the learnt tokens of texts, which stand in the file as `texts` gives
    them.
    """
    student, teacher = (AutoModelForCausalLM.from_pretrained(each, dtype=torch.float32) for each in (policy, reference))
    ids, learnt = zip(*json.loads(Path(rows).read_text("utf-8")), strict=True)
    ids_BT, learnt_BT = (pad_sequence(list(map(torch.tensor, part)), batch_first=True) for part in (ids, learnt))
    with torch.no_grad():
        teacher_BTV = teacher(ids_BT).logits
    labels_BT = ids_BT.masked_fill(~learnt_BT, -100)
    loss = GKDTrainer.generalized_jsd_loss(
        student(ids_BT).logits[:, :-1], teacher_BTV[:, :-1], labels_BT[:, 1:], **settings
    )
    loss.backward()
    save(student, gradients)
    return {"loss": loss.item()}


class Given(GRPOTrainer):  # type: ignore[misc]  # TRL is not there where types are checked
    """One that writes and judges nothing itself. given: by name what there is of each answer, see `tried`."""

    given: dict[str, Any]

    def _generate(self, prompts: list[Any]) -> tuple[Any, ...]:
        given = self.given
        drawn = given["drawn"] if self.use_vllm else None
        return given["prompts"], given["answers"], None, [""] * len(prompts), drawn, {}, None, None

    def _calculate_rewards(self, *_: Any) -> torch.Tensor:
        return torch.tensor(self.given["rewards"])


def tried(settings: dict[str, Any], policy: str, reference: None, rows: str, gradients: str) -> dict[str, Any]:
    """The loss of answers. In the file stand for each its prompt and itself, as token ids, and the rewards of each
    term, with the weights of the terms. For each token of an answer stands there how likely it was before this step
    (old), by the reference (held), and as it was drawn (drawn), in nats: which of these are used, the settings say.
    """
    given = json.loads(Path(rows).read_text("utf-8"))
    used = settings.pop("used")
    made = Given(
        model=AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32),
        reward_funcs=[lambda **_: [], lambda **_: []],
        args=GRPOConfig(
            output_dir=f"{gradients}.out",
            per_device_train_batch_size=len(given["answers"]),
            reward_weights=given["weights"],
            vllm_importance_sampling_mode="token_truncate",
            vllm_importance_sampling_clip_max=2.0,
            **USUAL,
            **settings,
        ),
        train_dataset=Dataset.from_list([{"prompt": "?"}] * len(given["answers"])),
        processing_class=AutoTokenizer.from_pretrained(policy),
    )
    made.given, made.use_vllm = given, "drawn" in used
    made.model.train()
    made.current_gradient_accumulation_steps = 1
    batch = made._generate_and_score_completions([{"prompt": "?"} for _ in given["answers"]])
    for name, place in (("old", "old_per_token_logps"), ("held", "ref_per_token_logps")):
        if name in used:
            batch[place] = pad_sequence([torch.tensor(each) for each in given[name]], batch_first=True)
    loss = made._compute_loss(made.model, batch)
    loss.backward()
    save(made.model, gradients)
    return {"loss": loss.item(), "advantages": batch["advantages"].tolist()}


def save(model: torch.nn.Module, gradients: str) -> None:
    save_file({name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}, gradients)


def texts(batch: dict[str, torch.Tensor]) -> list[tuple[list[int], list[bool]]]:
    """The token ids of each text of a batch, and which of them are learnt: all better answers, then all worse ones; of
    labelled ones all answers, then all to other prompts; for scores nothing is learnt.
    """
    parts = []
    for side in ("", "KL_", "chosen_", "rejected_"):
        if f"{side}input_ids" in batch:
            ids_BT = batch[f"{side}input_ids"]
            mask_BT = batch.get(f"{side}completion_mask", torch.zeros_like(ids_BT)) == 1
            labels_BT = batch.get(f"{side}labels", torch.full_like(ids_BT, -100))
            parts.append((ids_BT, batch[f"{side}attention_mask"], mask_BT | (labels_BT != -100)))
    return [
        (ids_T[real_T == 1].tolist(), learnt_T[real_T == 1].tolist())
        for part in parts
        for ids_T, real_T, learnt_T in zip(*part, strict=True)
    ]


def said(trainer: str, **how: Any) -> dict[str, Any]:
    if trainer == "grpo":
        return tried(**how)
    return distilled(**how) if trainer == "gkd" else trained(trainer, **how)


def main(asked: str) -> None:
    print(json.dumps({name: said(**how) for name, how in json.loads(asked).items()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
