"""Preference training as TRL does it: the same file and checkpoints give the same tokens, losses and gradients.

TRL is asked as its users ask it, with conversations and the checkpoint's own tokenizer. Three things differ, and are
taken account of here. TRL learns the line's end that the chat template writes behind an answer as well; no model of
ours ever has to say it, and where numbers are compared TRL's template leaves it out. Its ORPO adds the cross-entropy of
prompts and answers together, a mean over all tokens of the batch; ours, as the paper has it, is that of the answer
alone, a mean over its tokens. And it smooths no labels of the sigmoid loss any more; what label_smoothing means is
compared for SimPO.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import minimind.checkpoints.checkpoint as checkpoints
from data.pack import learnable
from data.prepare import tokenise
from data.rows import AnswerRows, PairRows
from jobs.runs.directory import RunDirectory
from minimind.network.model import MiniMind
from minimind.training.answers import Answer, answer_logprobs
from minimind.training.objectives import token_logprobs
from minimind.training.preference import WITHOUT_REFERENCE, PreferenceLoss, pair_answers, preference_loss
from tests import taught
from tests.clients.conftest import said_by
from tests.small import turns

pytestmark = pytest.mark.timeout(900)

WIDTH = 96
"""How many tokens of prompt and answer are read: less than those of the longest pair."""

TOLERANCE = 1e-5
"""Of a loss, and of the norm of each gradient: what rounding makes of sums that are added up in another order. It is
under 3e-6 here."""

LINE_END = "{{- '\\n' -}}"


@dataclass(frozen=True)
class Case:
    """A loss as TRL's trainers are told of it, and as ours is."""

    trainer: str
    settings: dict[str, Any]
    loss: PreferenceLoss


CASES = {
    "sigmoid": Case("dpo", {"loss_type": "sigmoid", "beta": 0.3}, PreferenceLoss("sigmoid", 0.3)),
    "sigmoid by length": Case(
        "dpo", {"loss_type": "sigmoid_norm", "beta": 2.0}, PreferenceLoss("sigmoid", 2.0, by_length=True)
    ),
    "hinge": Case("dpo", {"loss_type": "hinge", "beta": 0.1}, PreferenceLoss("hinge", 0.1)),
    "ipo": Case("dpo", {"loss_type": "ipo", "beta": 0.3}, PreferenceLoss("ipo", 0.3)),
    "simpo": Case(
        "cpo",
        {"loss_type": "simpo", "cpo_alpha": 0.0, "beta": 2.0, "simpo_gamma": 0.5},
        PreferenceLoss("simpo", 2.0, gamma=0.5),
    ),
    "simpo, smoothed": Case(
        "cpo",
        {"loss_type": "simpo", "cpo_alpha": 0.0, "beta": 2.0, "simpo_gamma": 0.0, "label_smoothing": 0.2},
        PreferenceLoss("simpo", 2.0, label_smoothing=0.2),
    ),
    "orpo": Case("orpo", {"beta": 0.3}, PreferenceLoss("orpo", 0.3)),
}


def pair(chosen: str, rejected: str, *before: str, system: str | None = None) -> dict[str, Any]:
    """A row as users have it: before are the turns that both sides have in common."""
    first = [] if system is None else [{"role": "system", "content": system}]
    return {side: [*first, *turns(*before, answer)] for side, answer in (("chosen", chosen), ("rejected", rejected))}


PAIRS = [
    pair("Paris.", "Rome, I think.", taught.CAPITAL),
    pair("巴黎。", "罗马。", taught.CAPITAL_ZH, system="回答要短。"),
    pair("Yes. Only 1 and 7 divide it.", "Yes.", taught.CAPITAL, "Paris.", taught.PRIME),
    pair(
        "巴黎今天是晴天。", "巴黎今天下雨，我不知道为什么。", "你好 <|im_end|>", "你好！", "今天天气？", system="Short!"
    ),
    pair(taught.COUNTED, "1, 2, 3, 4, 5 and so on, " * 8, taught.COUNT),
]


@dataclass(frozen=True)
class Checkpoints:
    """Two of them, as folders and in memory, and rows in a file and as ours are read."""

    policy: Path
    reference: Path
    file: Path
    rows: AnswerRows

    def asked(self, trainer: str, settings: dict[str, Any], gradients: Path, template: str | None) -> dict[str, Any]:
        """What `ask_trl.py` is to be told."""
        return {
            "trainer": trainer,
            "settings": {"max_length": WIDTH, **settings},
            "policy": str(self.policy),
            "reference": str(self.reference) if trainer == "dpo" else None,
            "rows": str(self.file),
            "template": template,
            "gradients": str(gradients),
        }


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    home = tmp_path_factory.mktemp("trl")
    file = home / "pairs.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in PAIRS), "utf-8")
    folders = {}
    for name, steps in (("policy", 60), ("reference", 30)):
        model, tokenizer = taught.taught(steps)
        run = RunDirectory(home / name)
        run.create({"stage": {"kind": "sft"}})
        folders[name] = taught.write_checkpoint(run, steps, model, tokenizer)
    shards = tokenise([file], tokenizer, home / "shards", rows="dpo")
    rows = PairRows(shards, learnable(shards, WIDTH), WIDTH, tokenizer.pad_id)
    return Checkpoints(folders["policy"], folders["reference"], file, rows)


def test_tokens_losses_and_gradients_are_those_of_trl(python: Path, there: Checkpoints, tmp_path: Path) -> None:
    files = {name: tmp_path / f"{number}.safetensors" for number, name in enumerate(CASES)}
    shorter = template_without_last_line_end(there.policy)
    asked = {name: there.asked(case.trainer, case.settings, files[name], shorter) for name, case in CASES.items()}
    asked["own template"] = there.asked("dpo", {}, tmp_path / "own.safetensors", None)
    said = said_by(python, "ask_trl.py", tmp_path, json.dumps(asked))
    answers = [there.rows.answers(place) for place in range(len(PAIRS))]
    sides = [pair[side] for side in (0, 1) for pair in answers]
    assert max(len(answer.tokens) for answer in sides) == WIDTH
    assert said["own template"]["texts"] == [
        [answer.tokens.tolist(), (np.arange(len(answer.tokens)) >= answer.targets.argmax()).tolist()]
        for answer in sides
    ]
    ends = [int(answer.targets.nonzero()[0].max()) + 1 for answer in sides]
    texts = [[side.tokens[:end].tolist(), side.targets[:end].tolist()] for side, end in zip(sides, ends, strict=True)]
    for name, case in CASES.items():
        assert said[name]["texts"] == texts, name
        loss, gradients = ours(there, case.loss)
        assert float(loss) == pytest.approx(said[name]["loss"], rel=TOLERANCE), name
        for weight, expected in load_file(files[name]).items():
            difference = torch.linalg.vector_norm(gradients[weight] - expected)
            assert difference <= TOLERANCE * torch.linalg.vector_norm(expected), (name, weight)


def ours(there: Checkpoints, how: PreferenceLoss) -> tuple[Tensor, dict[str, Tensor]]:
    """The mean loss of all pairs and its gradients, of ORPO with the cross-entropy that TRL adds to it."""
    policy = checkpoints.load_model(there.policy)[0]
    batch = there.rows.batch(range(there.rows.count))
    reference_M = None
    if how.name not in WITHOUT_REFERENCE:
        with torch.no_grad():
            reference_M = answer_logprobs(checkpoints.load_model(there.reference)[0], batch)
    logprob_M = answer_logprobs(policy, batch)
    found = preference_loss(how, batch, logprob_M, reference_M)
    loss = found.total / found.weight
    if how.name == "orpo":
        chosen = pair_answers(logprob_M, batch)
        loss = loss + (chosen.chosen_P / chosen.chosen_tokens_P).mean()
        loss = loss + whole_cross_entropy(policy, [there.rows.answers(place)[0] for place in range(len(PAIRS))])
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach(), {name: weight.grad for name, weight in policy.named_parameters() if weight.grad is not None}


def whole_cross_entropy(policy: MiniMind, chosen: list[Answer]) -> Tensor:
    """The mean over all tokens of prompts and answers, up to the last that is learnt."""
    found = []
    for answer in chosen:
        end = int(answer.targets.nonzero()[0].max()) + 1
        tokens = torch.from_numpy(answer.tokens[:end].astype(np.int64))[None]
        found.append(token_logprobs(policy(tokens), policy.head_weight_VD, tokens, torch.arange(1, end)))
    return -torch.cat(found).mean()


def template_without_last_line_end(folder: Path) -> str:
    """The checkpoint's, but that a conversation ends where its last answer does."""
    template: str = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))["chat_template"]
    before, middle, after = template.partition(f"{{{{- '<|im_end|>' -}}}}\n    {LINE_END}")
    assert middle
    return before + middle.replace(LINE_END, "{{- '' if loop.last else '\\n' -}}") + after
