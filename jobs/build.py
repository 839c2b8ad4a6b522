"""RunSpec + prepared data -> everything the loop needs. No Ray, and nothing is written."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

import minimind.checkpoint as checkpoints
from data.collate import PackedBatches, Replay, in_order
from data.encode import learnt_bytes
from data.pack import Packing, learnable, pack_shards
from data.shards import TokenShards
from data.split import split
from jobs.prepare import Prepared
from jobs.spec import RunSpec
from jobs.stages import STAGES
from minimind.batch import TokenBatch, worst_batch
from minimind.checkpoint import Adapter
from minimind.distributed import Parallel
from minimind.loop import Hooks, LoopConfig, Precision, TrainState, common_dtype, train
from minimind.lora import attach
from minimind.model import MiniMind
from minimind.objectives import Objective
from minimind.optim import Optimizer, build_optimizer, learning_rate_factor
from minimind.tokenizer import Tokenizer

MOST_STEPS_UNSAVED = 1000
"""However long a run is, a kill costs no more steps than this, unless the user says otherwise."""


@dataclass(frozen=True)
class HeldOut:
    """What a loss is measured on. batches: makes an iterator over this rank's share. text_bytes: UTF-8 length of all of
    the text that is predicted.
    """

    batches: Callable[[], Iterator[TokenBatch]]
    text_bytes: int


@dataclass(frozen=True)
class Parts:
    """What `train` takes, and what the hooks around it need.

    validation: held-out rows of the stage's own kind. text: held-out plain text, to see what is forgotten; None where
    none is known. adapter: what its checkpoints say of an adapter that trains in place of the weights. loop: the
    spec's, with its intervals decided. worst: a micro-batch that takes as much memory as one can.
    """

    model: MiniMind
    objective: Objective
    batches: PackedBatches
    validation: HeldOut
    text: HeldOut | None
    optimizer: Optimizer
    learning_rate: Callable[[int], float]
    precision: Precision
    tokenizer: Tokenizer
    adapter: Adapter | None
    loop: LoopConfig
    total_steps: int
    grad_clip: float
    worst: TokenBatch

    def train(self, state: TrainState, hooks: Hooks, parallel: Parallel) -> None:
        """The loop, from `state` on. Raises as `minimind.loop.train`."""
        train(
            {"policy": self.model},
            self.objective,
            self.batches,
            self.optimizer,
            self.learning_rate,
            self.loop,
            state,
            hooks,
            precision=self.precision,
            parallel=parallel,
            total_steps=self.total_steps,
            grad_clip=self.grad_clip,
            worst=self.worst,
        )


def build(spec: RunSpec, prepared: Prepared, parallel: Parallel) -> Parts:
    """Open the data and make the model on this rank's device: from `init_from`, or drawn anew from the seed."""
    torch.manual_seed(spec.seed + parallel.rank)
    tokenizer = Tokenizer.load(prepared.tokenizer)

    ordered = spec.data.in_order
    rows, held_out = _divided(spec, tokenizer, prepared.shards, prepared.validation_shards, ordered=ordered)
    replayed = held_out_text = None
    if folder := prepared.text_shards or prepared.held_out_text_shards:
        replayed, held_out_text = _divided(spec, tokenizer, folder, prepared.held_out_text_shards)
    batches = PackedBatches(
        *rows,
        batch_size=spec.loop.batch_size,
        seed=spec.seed,
        epochs=spec.loop.epochs,
        rank=parallel.rank,
        world=parallel.world,
        pad_id=tokenizer.pad_id,
        num_workers=spec.data.num_workers,
        replay=Replay(*replayed, spec.data.mix) if replayed and spec.data.mix else None,
    )

    def measured(shards: TokenShards, packing: Packing) -> HeldOut:
        share = {"batch_size": spec.loop.batch_size, "rank": parallel.rank, "world": parallel.world}
        return HeldOut(
            partial(in_order, shards, packing, pad_id=tokenizer.pad_id, **share),
            learnt_bytes(tokenizer, shards, packing),
        )

    model = _model(spec, prepared).to(parallel.device)
    adapter = None
    if spec.adapter is not None and prepared.init_folder is not None:
        attach(model, spec.adapter, torch.Generator().manual_seed(spec.seed))
        adapter = Adapter(spec.adapter, checkpoints.base_of(Path(prepared.init_folder)))
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
        validation=measured(*held_out),
        text=measured(*held_out_text) if held_out_text else None,
        optimizer=build_optimizer(model, spec.optim),
        learning_rate=lambda step: spec.optim.learning_rate * learning_rate_factor(spec.optim, step, total_steps),
        precision=Precision(
            common_dtype(spec.loop.dtype, parallel),
            parallel.device,
            units_per_step=spec.global_batch_size * spec.data.max_seq_len,
        ),
        tokenizer=tokenizer,
        adapter=adapter,
        loop=loop,
        total_steps=total_steps,
        grad_clip=spec.optim.grad_clip,
        worst=worst_batch(spec.loop.batch_size, spec.data.max_seq_len),
    )


_Rows = tuple[TokenShards, Packing]
"""Documents, and those of them that are read, packed."""


def _divided(
    spec: RunSpec, tokenizer: Tokenizer, folder: str, held_out_folder: str | None, *, ordered: bool = False
) -> tuple[_Rows, _Rows]:
    """What is trained on, and what is held out: other shards, or a part of the same. ordered: as the file has it."""
    width = spec.data.max_seq_len
    shards = TokenShards.open(folder, tokenizer.fingerprint)
    if held_out_folder is not None:
        held_out = TokenShards.open(held_out_folder, tokenizer.fingerprint)
        return (shards, pack_shards(shards, width, in_order=ordered)), (held_out, pack_shards(held_out, width))
    training, validation = split(shards, spec.eval.fraction, spec.eval.max_documents, learnable(shards, width))
    rows = pack_shards(shards, width, training, in_order=ordered)
    return (shards, rows), (shards, pack_shards(shards, width, validation))


def _model(spec: RunSpec, prepared: Prepared) -> MiniMind:
    if prepared.init_folder is not None:
        model, _, _ = checkpoints.load_model(Path(prepared.init_folder), expect=spec.model)
        return model.train()
    return MiniMind(spec.model, generator=torch.Generator().manual_seed(spec.seed))
