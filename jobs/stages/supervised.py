"""What supervised stages share: one model, or an adapter on it, learns the next token of packed rows."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from data.batches import OrderedBatches, in_order
from data.encode import learnt_bytes
from data.pack import Packing, learnable, pack_shards
from data.rows import PackedRows
from data.shards import TokenShards
from data.split import hold_out
from jobs.stages.spec import RunSpec
from jobs.stages.stage import Corpus, Data, HeldOut, ModelSource
from minimind.device.distributed import Parallel
from minimind.network.lora import attach
from minimind.text.tokenizer import Tokenizer
from minimind.training.batch import TokenBatch, worst_batch
from minimind.training.objectives import Models, Objective, next_token_loss


def models(spec: RunSpec, weights: ModelSource) -> dict[str, nn.Module]:
    """The policy; with an adapter, that alone trains."""
    policy = weights.policy()
    if spec.adapter is not None:
        attach(policy, spec.adapter, torch.Generator().manual_seed(spec.seed))
    return {"policy": policy}


def objective(spec: RunSpec) -> Objective:
    """Cross-entropy of every token that is to be learnt."""
    return next_token_loss


def worst(spec: RunSpec) -> TokenBatch:
    """Full rows, of which every token is predicted."""
    return worst_batch(spec.loop.batch_size, spec.data.max_seq_len)


def data(spec: RunSpec, corpus: Corpus, models: Models, parallel: Parallel) -> Data:
    """Packed rows in an order of their own, among them plain text where `data.mix` says so."""
    rows, held_out = divided(spec, corpus.rows, corpus.held_out, ordered=spec.data.in_order)
    text = _text(spec, corpus)
    pad_id = corpus.tokenizer.pad_id
    batches = OrderedBatches(
        PackedRows(*rows, pad_id, beside=text[0] if text and spec.data.mix else None),
        batch_size=spec.loop.batch_size,
        seed=spec.seed,
        epochs=spec.loop.epochs,
        rank=parallel.rank,
        world=parallel.world,
        num_workers=spec.data.num_workers,
        replay=spec.data.mix if text else 0.0,
    )
    return Data(
        batches,
        measured(spec, corpus.tokenizer, held_out, parallel),
        held_out_text(spec, corpus, parallel),
    )


Packed = tuple[TokenShards, Packing]
"""Documents, and those of them that are read, packed."""


def held_out_text(spec: RunSpec, corpus: Corpus, parallel: Parallel) -> HeldOut | None:
    """Plain text to see what is forgotten; None where none is known."""
    text = _text(spec, corpus)
    return measured(spec, corpus.tokenizer, text[1], parallel) if text else None


def _text(spec: RunSpec, corpus: Corpus) -> tuple[Packed, Packed] | None:
    """Plain text to replay, and what of it is held out."""
    shards = corpus.text or corpus.held_out_text
    return divided(spec, shards, corpus.held_out_text) if shards is not None else None


def divided(
    spec: RunSpec, shards: TokenShards, held_out: TokenShards | None, *, ordered: bool = False
) -> tuple[Packed, Packed]:
    """What is trained on, and what is held out: other shards, or a part of the same. ordered: as the file has it."""
    width = spec.data.max_seq_len
    if held_out is not None:
        return (shards, pack_shards(shards, width, in_order=ordered)), (held_out, pack_shards(held_out, width))
    training, validation = hold_out(shards, spec.eval.fraction, spec.eval.max_documents, learnable(shards, width))
    rows = pack_shards(shards, width, training, in_order=ordered)
    return (shards, rows), (shards, pack_shards(shards, width, validation))


def measured(spec: RunSpec, tokenizer: Tokenizer, packed: Packed, parallel: Parallel) -> HeldOut:
    """Packed documents to measure on."""
    share = {"batch_size": spec.loop.batch_size, "rank": parallel.rank, "world": parallel.world}
    rows = PackedRows(*packed, tokenizer.pad_id)
    return HeldOut(partial(in_order, rows, **share), learnt_bytes(tokenizer, *packed))
