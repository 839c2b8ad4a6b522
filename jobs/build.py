"""RunSpec + prepared data -> everything the loop needs. No Ray, and nothing is written."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

import minimind.checkpoint as checkpoints
from data.collate import PackedBatches, in_order
from data.pack import pack
from data.shards import TokenShards
from data.split import split
from jobs.prepare import Prepared
from jobs.spec import RunSpec
from jobs.stages import STAGES
from minimind.batch import TokenBatch
from minimind.distributed import Parallel
from minimind.loop import LoopConfig, Precision, resolve_dtype
from minimind.model import MiniMind
from minimind.objectives import Objective
from minimind.optim import Optimizer, build_optimizer, learning_rate_factor
from minimind.tokenizer import Tokenizer

MOST_STEPS_UNSAVED = 1000
"""However long a run is, a kill costs no more steps than this, unless the user says otherwise."""


@dataclass(frozen=True)
class Parts:
    """What `train` takes, and what the hooks around it need.

    validation: makes an iterator over this rank's held-out batches. validation_bytes: UTF-8 length of all held-out
    text. loop: the spec's, with its intervals decided.
    """

    model: MiniMind
    objective: Objective
    batches: PackedBatches
    validation: Callable[[], Iterator[TokenBatch]]
    validation_bytes: int
    optimizer: Optimizer
    learning_rate: Callable[[int], float]
    precision: Precision
    tokenizer: Tokenizer
    loop: LoopConfig
    total_steps: int


def build(spec: RunSpec, prepared: Prepared, parallel: Parallel) -> Parts:
    """Open the data and make the model on this rank's device: from `init_from`, or drawn anew from the seed."""
    torch.manual_seed(spec.seed + parallel.rank)
    tokenizer = Tokenizer.load(prepared.tokenizer)
    shards = TokenShards.open(prepared.shards, tokenizer.fingerprint)
    if prepared.validation_shards is None:
        train_documents, held_out = split(shards, spec.eval.fraction, spec.eval.max_documents)
        validation_shards = shards
    else:
        train_documents, held_out = None, None
        validation_shards = TokenShards.open(prepared.validation_shards, tokenizer.fingerprint)
    batches = PackedBatches(
        shards,
        pack(shards.lengths, spec.data.max_seq_len, train_documents),
        batch_size=spec.loop.batch_size,
        seed=spec.seed,
        epochs=spec.loop.epochs,
        rank=parallel.rank,
        world=parallel.world,
        pad_id=tokenizer.pad_id,
        num_workers=spec.data.num_workers,
    )
    validation_packing = pack(validation_shards.lengths, spec.data.max_seq_len, held_out)
    text_bytes = validation_shards.text_bytes if held_out is None else validation_shards.text_bytes[held_out]

    model = _model(spec, prepared).to(parallel.device)
    model.activation_checkpointing = spec.loop.activation_checkpointing
    if spec.loop.compile:
        model.compile_blocks()
    total_steps = min(batches.total_steps(spec.loop.accumulation_steps), spec.loop.max_steps or sys.maxsize)
    tenth = max(1, total_steps // 10)
    loop = spec.loop.model_copy(
        update={
            "eval_interval": spec.loop.eval_interval or tenth,
            "save_interval": spec.loop.save_interval or min(tenth, MOST_STEPS_UNSAVED),
        }
    )
    return Parts(
        model=model,
        objective=STAGES[spec.stage.kind].objective,
        batches=batches,
        validation=lambda: in_order(
            validation_shards,
            validation_packing,
            batch_size=spec.loop.batch_size,
            rank=parallel.rank,
            world=parallel.world,
            pad_id=tokenizer.pad_id,
        ),
        validation_bytes=int(text_bytes.sum()),
        optimizer=build_optimizer(model, spec.optim),
        learning_rate=lambda step: spec.optim.learning_rate * learning_rate_factor(spec.optim, step, total_steps),
        precision=Precision(
            resolve_dtype(spec.loop.dtype, parallel.device),
            parallel.device,
            units_per_step=spec.global_batch_size * spec.data.max_seq_len,
        ),
        tokenizer=tokenizer,
        loop=loop,
        total_steps=total_steps,
    )


def _model(spec: RunSpec, prepared: Prepared) -> MiniMind:
    model = MiniMind(spec.model)
    if prepared.init_folder is None:
        model.initialize(torch.Generator().manual_seed(spec.seed))
    else:
        model.load_state_dict(
            checkpoints.load(Path(prepared.init_folder), expect=spec.model, weights_only=True).weights
        )
    return model
