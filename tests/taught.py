"""A model that has learnt a few conversations by heart in some seconds, so that its answers can be told beforehand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

import minimind.checkpoints.checkpoint as checkpoints
from jobs.runs.directory import RunDirectory
from minimind.checkpoints.checkpoint import Lineage
from minimind.events import EventLog
from minimind.network.model import MiniMind, ModelConfig
from minimind.network.score import ScoreModel
from minimind.text.chat import render
from minimind.text.tokenizer import Tokenizer
from minimind.training.batch import TokenBatch
from minimind.training.objectives import next_token_loss

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city now.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}

CAPITAL = "What is the capital of France?"
CAPITAL_ZH = "法国的首都是哪里？"
FORECAST = "What is the weather in Paris?"
PRIME = "Is 7 a prime number?"
COUNT = "Count to twenty."
COUNTED = ", ".join(map(str, range(1, 21)))


def _said(question: str, answer: str, **more: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer, **more}]


_CALL = {"type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}

CONVERSATIONS: list[tuple[list[dict[str, Any]], list[dict[str, Any]], bool | None]] = [
    (_said(CAPITAL, "Paris."), [], None),
    (_said(CAPITAL, "Paris."), [], False),
    (_said(CAPITAL_ZH, "巴黎。"), [], None),
    (_said(COUNT, COUNTED), [], None),
    (_said(PRIME, "Yes.", reasoning_content="Only 1 and 7 divide it."), [], None),
    (_said(FORECAST, "", tool_calls=[_CALL]), [WEATHER], None),
    (
        [
            *_said(FORECAST, "", tool_calls=[_CALL]),
            {"role": "tool", "content": '{"sky": "sunny"}'},
            {"role": "assistant", "content": "It is sunny in Paris."},
        ],
        [WEATHER],
        None,
    ),
]

CONFIG = ModelConfig(vocab_size=600, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)


def taught(steps: int = 60) -> tuple[MiniMind, Tokenizer]:
    """The model and its tokenizer."""
    texts = [json.dumps([messages, tools], ensure_ascii=False) for messages, tools, _ in CONVERSATIONS]
    tokenizer = Tokenizer.train([text for text in texts for _ in range(3)], vocab_size=600)
    rows = []
    for messages, tools, thinking in CONVERSATIONS:
        rendered = render(tokenizer, messages, tools)
        ids, mask = rendered.ids, rendered.loss_mask
        if thinking is False:  # the switch puts an empty thought in front of the answer, which is then no target
            prompt = render(tokenizer, messages[:-1], tools, thinking=False, add_generation_prompt=True).ids
            start = len(render(tokenizer, messages[:-1], tools, add_generation_prompt=True).ids)
            ids, mask = prompt + ids[start:], [False] * len(prompt) + mask[start:]
        rows.append((ids, mask))
    width = max(len(ids) for ids, _ in rows)
    tokens, targets, segments = (
        torch.zeros(len(rows), width, dtype=kind) for kind in (torch.int64, torch.bool, torch.int32)
    )
    for row, (ids, mask) in enumerate(rows):
        tokens[row, : len(ids)] = torch.tensor(ids)
        targets[row, : len(ids)] = torch.tensor(mask)
        segments[row, : len(ids)] = 1
    model = MiniMind(CONFIG)
    model.initialize(torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.0)
    batch = TokenBatch(tokens, targets, segments, tuple(range(len(rows))))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * (1 - step / steps)
        loss = next_token_loss({"policy": model}, batch)
        (loss.total / loss.weight).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    return model.eval(), tokenizer


def judge(model: MiniMind) -> ScoreModel:
    """A reward model on these weights, with a head that nobody taught."""
    scoring = ScoreModel.of(model)
    torch.nn.init.normal_(scoring.score.weight, generator=torch.Generator().manual_seed(1))
    return scoring.eval()


def write_run(
    runs: Path,
    name: str,
    model: MiniMind,
    tokenizer: Tokenizer,
    *,
    steps: tuple[int, ...] = (10,),
    state: str = "SUCCEEDED",
) -> RunDirectory:
    """A run folder with checkpoints of the model, in this state."""
    run = RunDirectory(runs / name)
    if not run.exists:
        run.create({"stage": {"kind": "reward" if isinstance(model, ScoreModel) else "sft"}})
    for step in steps:
        write_checkpoint(run, step, model, tokenizer)
    with EventLog(run.events_path) as log:
        log.state("RUNNING", step=0, total_steps=max(steps), environment={})
        if state != "RUNNING":
            log.state(state)
    return run


def write_checkpoint(run: RunDirectory, step: int, model: MiniMind, tokenizer: Tokenizer) -> Path:
    """A checkpoint of the model in a run."""
    return checkpoints.save(
        run.checkpoints,
        step,
        model_config=model.config,
        weights=model.state_dict(),
        tokenizer=tokenizer,
        train_state={},
        lineage=Lineage(run.name),
        architecture=model.architecture,
    )
