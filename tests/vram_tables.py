"""The tables of docs/vram.md and docs/stages.md, and of both in Chinese: made here, checked by
tests/unit/test_vram_tables.py.

    python -m tests.vram_tables [NAME ...]      writes them anew (some minutes)

A table stands between `<!-- table: NAME -->` and `<!-- end -->`. Cards are planned as on WSL 2, uncalibrated, in bf16.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from jobs.fit.card import named_card
from jobs.fit.needs import Needs
from jobs.fit.plan import BUDGETS, CHINESE_PRESETS, Planner
from jobs.fit.view import CARD_SIZES, PARTS, largest_batches
from jobs.stages.origin import of_preset
from jobs.stages.spec import RunSpec
from jobs.stages.table import STAGES
from minimind.checkpoints.convert import to_hf_config
from minimind.checkpoints.manifest import MANIFEST
from minimind.config import override
from minimind.memory.closed_form import closed_form
from minimind.memory.plan import MemoryPlan
from minimind.memory.trace import trace
from minimind.network.model import MODEL_PRESETS
from minimind.units import memory
from tests.plans import HELD_OUT_SHAPES, MORE_REAL_CASES, REAL_CASES, SHAPES, Case, allocator_peaks

PAGES = [
    Path(__file__).parent.parent / "docs" / f"{name}{language}.md"
    for name in ("vram", "stages")
    for language in ("", "_zh")
]

SYSTEM = "wsl2"

KNOWN = Needs()
"""Shared by all tables: most ask about the same steps."""

SHOWN = ("pretrain", "sft", "lora", "dpo", "distill")
"""The stages in the tables of what fits; kto takes what dpo does, reward less."""

BY_TEXT = ("pretrain", "sft", "lora")
"""Those that have one model, and learn from texts alone."""

Rows = list[list[str]]


def planner(vram: str) -> Planner:
    """Of a card by its memory."""
    return Planner(named_card(vram, os=SYSTEM), KNOWN)


def parts(models: Sequence[str] = tuple(MODEL_PRESETS)) -> Rows:
    """Where the memory of stages that learn from texts goes, with their presets' sizes, on an 8 GB card."""
    specs = {f"{stage} {size}": STAGES[stage].preset(size) for stage in BY_TEXT for size in models}
    plans = {name: planner("8GB").plan(spec) for name, spec in specs.items()}
    names = [part for part in PARTS if any(part in plan.breakdown for plan in plans.values())]
    head = ["", "batch_size x accumulation_steps x max_seq_len", *names, "together"]
    return [
        head,
        *(
            [
                name,
                _sizes(specs[name]),
                *(memory(plan.breakdown[part]) if part in plan.breakdown else "–" for part in names),
                memory(plan.needed_bytes),
            ]
            for name, plan in plans.items()
        ),
    ]


WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "train sft": ("sft", {}),
    "train sft --set data.mix=0.1 --set stage.replay=teacher": ("sft", {"data.mix": 0.1, "stage.replay": "teacher"}),
    "train dpo": ("dpo", {}),
    "train dpo --reference cached": ("dpo", {"stage.reference": "cached"}),
    "train dpo --loss simpo": ("dpo", {"stage.loss": "simpo"}),
    "train dpo --set adapter={}": ("dpo", {"adapter": "{}"}),
    "train kto": ("kto", {}),
    "train reward": ("reward", {}),
    "train distill": ("distill", {}),
    "train distill --cached 1": ("distill", {"stage.cached": True}),
    "train distill --on_policy 1": ("distill", {"stage.on_policy": True}),
    "train grpo": ("grpo", {}),
    "train grpo --set stage.loss.kl=0.02": ("grpo", {"stage.loss.kl": 0.02}),
    "train spo": ("spo", {}),
    "train ppo": ("ppo", {}),
    "train ppo --set stage.critic=own": ("ppo", {"stage.critic": "own"}),
}
"""Command line -> its stage, and its settings."""

TEACHERS = {"30m": "64m", "64m": "123m"}
"""Size of a student -> that of its teacher."""

SHARES = ("weights", "reference", "teacher", "gradients", "optimizer", "activations", "logits")
"""The parts by which the ways of training differ most."""


def ways(models: Sequence[str] = tuple(TEACHERS), commands: Sequence[str] = tuple(WAYS)) -> Rows:
    """What SFT takes, and what the stages take that compare two models or two answers, on an 8 GB card."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size in models:
            for command in commands:
                stage, changes = WAYS[command]
                teacher = {"roles.teacher": _shape_alone(TEACHERS[size], Path(folder))} if stage == "distill" else {}
                spec = of_preset(STAGES[stage].preset(size), {**changes, **teacher})
                rows.append([f"`{command}`", size, _sizes(spec), *_shares(planner("8GB").plan(spec))])
    return [["", "model", "batch_size x accumulation_steps x max_seq_len", *SHARES, "all else", "together"], *rows]


def _shape_alone(size: str, folder: Path) -> str:
    """A checkpoint of this size, as much of it as a plan looks at."""
    place = folder / size
    place.mkdir(exist_ok=True)
    (place / MANIFEST).touch()
    (place / "config.json").write_text(json.dumps(to_hf_config(MODEL_PRESETS[size])), "utf-8")
    return str(place)


def _shares(plan: MemoryPlan) -> list[str]:
    there = [plan.breakdown.get(part, 0) for part in SHARES]
    cells = [memory(count) if count else "–" for count in there]
    return [*cells, memory(plan.needed_bytes - sum(there)), memory(plan.needed_bytes)]


KNOBS: dict[str, dict[str, Any]] = {
    "as the preset has it": {},
    "--batch_size 4 --accumulation_steps 8": {"loop.batch_size": 4, "loop.accumulation_steps": 8},
    "--batch_size 1 --accumulation_steps 32": {"loop.batch_size": 1, "loop.accumulation_steps": 32},
    "--max_seq_len 256": {"data.max_seq_len": 256},
    "--activation_checkpointing 1": {"loop.activation_checkpointing": True},
    "--dtype float32": {"loop.dtype": "float32"},
    "--optimizer adamw": {"optim.name": "adamw"},
}


def knobs() -> Rows:
    """What each flag costs or saves: 64m pretraining on an 8 GB card."""
    base = STAGES["pretrain"].preset("64m")
    plans = {flag: planner("8GB").plan(override(base, changes)) for flag, changes in KNOBS.items()}
    plans["train lora"] = planner("8GB").plan(STAGES["lora"].preset("64m"))
    whole = plans["as the preset has it"].needed_bytes
    rows = [
        [f"`{name}`", memory(plan.peak_bytes), memory(plan.needed_bytes), _change(plan.needed_bytes / whole)]
        for name, plan in plans.items()
    ]
    return [["", "tensors at the peak", "needed in all", "against the preset"], *rows]


def fits(models: Sequence[str] = tuple(MODEL_PRESETS)) -> Rows:
    """The largest batch_size on each card, without / with activation checkpointing."""
    planners = [planner(card) for card in CARD_SIZES]
    rows = [
        [stage, size, str(spec.data.max_seq_len), *(largest_batches(each, spec) for each in planners)]
        for stage in SHOWN
        for size in models
        for spec in [STAGES[stage].preset(size)]
    ]
    return [["stage", "model", "max_seq_len", *(f"{card[:-2]} GB" for card in CARD_SIZES)], *_merged(rows, 0)]


def presets(models: Sequence[str] = tuple(MODEL_PRESETS)) -> Rows:
    """What each preset chooses for each stage, size and card."""
    rows = []
    for stage in SHOWN:
        for size in models:
            spec = STAGES[stage].preset(size)
            for card in ("4GB", "6GB", "8GB"):
                chosen = [_chosen(planner(card), spec, budget) for budget in BUDGETS]
                rows.append([stage, size, f"{card[:-2]} GB", *chosen])
    names = [f"{english} / {chinese}" for chinese, english in CHINESE_PRESETS.items()]
    return [["stage", "model", "card", *names], *_merged(_merged(rows, 0), 2)]


def _merged(rows: Rows, column: int) -> Rows:
    """Rows that differ in one column alone as one row, which has there what all of them have."""
    found: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        found.setdefault((*row[:column], *row[column + 1 :]), []).append(row[column])
    return [[*rest[:column], ", ".join(cells), *rest[column:]] for rest, cells in found.items()]


def closed_form_errors() -> Rows:
    """The closed form against the trace, on what it was written by and on what nobody had looked at."""
    return [
        ["configurations", "how many", "mean", "largest"],
        ["those it was written by", *_errors(_closed_form_error(case) for case in SHAPES)],
        ["held out", *_errors(_closed_form_error(case) for case in HELD_OUT_SHAPES)],
    ]


def allocator_errors() -> Rows:
    """The trace against what PyTorch's C++ allocator hands out in the same real step on a CPU."""
    cases = REAL_CASES | MORE_REAL_CASES
    allocated = allocator_peaks(cases)
    rows = []
    for name, case in cases.items():
        predicted, real = trace(case.step, "cpu").peak_bytes, allocated[name]
        rows.append([name, f"{predicted:,}", f"{real:,}", f"{100 * (predicted / real - 1):+.4f} %"])
    return [["step", "predicted bytes", "allocated bytes", "error"], *rows]


TABLES: dict[str, Callable[[], Rows]] = {
    "parts": parts,
    "ways": ways,
    "knobs": knobs,
    "fits": fits,
    "presets": presets,
    "closed form": closed_form_errors,
    "allocator": allocator_errors,
}


def markdown(rows: Rows) -> str:
    """A table; its first row is the head."""
    head, *body = rows
    rule = ["---"] * len(head)
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *body))


def pages_with(name: str) -> list[Path]:
    """The pages that have a table of this name."""
    return [path for path in PAGES if f"<!-- table: {name} -->" in path.read_text("utf-8")]


def written(page: str, name: str) -> str:
    """The table of this name as a page has it."""
    found = re.search(rf"<!-- table: {name} -->\n\n(.*?)\n\n<!-- end -->", page, re.DOTALL)
    assert found is not None, f"no table {name!r}"
    return found[1]


def main() -> None:
    torch.set_num_threads(1)  # kernels take a workspace for each thread
    for name in sys.argv[1:] or TABLES:
        table = markdown(TABLES[name]())
        for path in pages_with(name):
            page = path.read_text("utf-8")
            block = f"<!-- table: {name} -->\n\n{table}\n\n<!-- end -->"
            old = rf"<!-- table: {name} -->.*?<!-- end -->"
            path.write_text(re.sub(old, block.replace("\\", "\\\\"), page, flags=re.DOTALL), "utf-8")


def _sizes(spec: RunSpec) -> str:
    return f"{spec.loop.batch_size} x {spec.loop.accumulation_steps} x {spec.data.max_seq_len}"


def _change(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.0f} %"


def _chosen(planner: Planner, spec: RunSpec, budget: str) -> str:
    try:
        found = planner.choose(spec, budget)
    except ValueError:
        return "–"
    return _sizes(found) + (" c" if found.loop.activation_checkpointing else "")


def _closed_form_error(case: Case) -> float:
    return abs(closed_form(case.shape) / trace(case.step).peak_bytes - 1)


def _errors(values: Iterable[float]) -> list[str]:
    errors = list(values)
    return [str(len(errors)), f"{100 * sum(errors) / len(errors):.2f} %", f"{100 * max(errors):.2f} %"]


if __name__ == "__main__":
    main()
