"""What supervised stages share: one model, or an adapter on it, learns the next token of packed rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from data.batches import OrderedBatches, in_order
from data.encode import learnt_bytes
from data.pack import Packing, learnable, pack_shards
from data.rows import PackedRows, Rows
from data.shards import TokenShards
from data.split import hold_out
from jobs.stages.spec import EvalConfig, RunSpec
from jobs.stages.stage import Corpus, Data, HeldOut, ModelSource
from minimind.device.distributed import Parallel
from minimind.network.lora import attach
from minimind.text.tokenizer import Tokenizer
from minimind.training.batch import TokenBatch, worst_batch
from minimind.training.objectives import Models, Objective, next_token_loss

TEXT_HELD_OUT = float(EvalConfig.model_fields["fraction"].default)
"""Of plain text no more is held out than pretraining holds out where nobody says anything: these are the same
documents, and a larger part would have some that the weights have learnt from.
"""


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


def data(
    spec: RunSpec,
    corpus: Corpus,
    models: Models,
    parallel: Parallel,
    *,
    marked: Callable[[PackedRows], Rows[TokenBatch]] | None = None,
) -> Data:
    """Packed rows in an order of their own, among them plain text where `data.mix` says so. marked: tells the rows that
    are trained on how to tell these apart.
    """
    training, held_out = packed(spec, corpus)
    return Data(
        batches(spec, marked(training) if marked else training, parallel),
        measured(spec, held_out, parallel, corpus.tokenizer),
        held_out_text(spec, corpus, parallel),
    )


def packed(spec: RunSpec, corpus: Corpus) -> tuple[PackedRows, PackedRows]:
    """What is trained on, with the plain text beside that is replayed, and what is measured on."""
    text = _text(spec, corpus) if spec.data.mix else None
    pad_id = corpus.tokenizer.pad_id
    training, held_out = _divided(spec, corpus.rows, corpus.held_out, ordered=spec.data.in_order)
    return PackedRows(*training, pad_id, beside=text[0] if text else None), PackedRows(*held_out, pad_id)


def batches(spec: RunSpec, rows: Rows[TokenBatch], parallel: Parallel) -> OrderedBatches[TokenBatch]:
    """Rows in an order of their own, with as many of those beside as `data.mix` says."""
    return OrderedBatches(
        rows,
        batch_size=spec.loop.batch_size,
        seed=spec.seed,
        epochs=spec.loop.epochs,
        rank=parallel.rank,
        world=parallel.world,
        num_workers=spec.data.num_workers,
        replay=spec.data.mix if rows.beside else 0.0,
    )


def measured(spec: RunSpec, rows: Rows[TokenBatch], parallel: Parallel, tokenizer: Tokenizer | None = None) -> HeldOut:
    """Rows to measure on. tokenizer: tells how many bytes of text are predicted; None where that says nothing."""
    share = {"batch_size": spec.loop.batch_size, "rank": parallel.rank, "world": parallel.world}
    text_bytes = 0
    if tokenizer is not None:
        assert isinstance(rows, PackedRows)
        text_bytes = learnt_bytes(tokenizer, rows.shards, rows.packing)
    return HeldOut(partial(in_order, rows, **share), text_bytes)


def held_out_text(spec: RunSpec, corpus: Corpus, parallel: Parallel) -> HeldOut | None:
    """Plain text to see what is forgotten; None where none is known."""
    text = _text(spec, corpus)
    if text is None:
        return None
    return measured(spec, PackedRows(*text[1], corpus.tokenizer.pad_id), parallel, corpus.tokenizer)


def replayed(spec: RunSpec, corpus: Corpus) -> PackedRows:
    """What is replayed, by itself: conversations that were taught, with the plain text beside, or one of both; never
    text that is there to be measured on alone.
    """
    text, pad_id = _text(spec, corpus) if corpus.text is not None else None, corpus.tokenizer.pad_id
    if corpus.chats is None:
        assert text is not None, "a run that replays has something to"
        return PackedRows(*text[0], pad_id)
    width = spec.data.max_seq_len
    chats = pack_shards(corpus.chats, width, learnable(corpus.chats, width))
    return PackedRows(corpus.chats, chats, pad_id, beside=text[0] if text else None)


Packed = tuple[TokenShards, Packing]
"""Documents, and those of them that are read, packed."""


def _text(spec: RunSpec, corpus: Corpus) -> tuple[Packed, Packed] | None:
    """Plain text to replay, and what of it is held out."""
    shards = corpus.text or corpus.held_out_text
    fraction = min(spec.eval.fraction, TEXT_HELD_OUT)
    return _divided(spec, shards, corpus.held_out_text, fraction=fraction) if shards is not None else None


def _divided(
    spec: RunSpec,
    shards: TokenShards,
    held_out: TokenShards | None,
    *,
    ordered: bool = False,
    fraction: float | None = None,
) -> tuple[Packed, Packed]:
    """What is trained on, and what is held out: other shards, or a part of the same. ordered: as the file has it.
    fraction: how large a part, by default what the run's settings say.
    """
    width, least = spec.data.max_seq_len, spec.eval.least_documents if fraction is None else 0
    if held_out is not None:
        return (shards, pack_shards(shards, width, in_order=ordered)), (held_out, pack_shards(held_out, width))
    training, validation = hold_out(
        shards, fraction or spec.eval.fraction, spec.eval.max_documents, learnable(shards, width), least=least
    )
    rows = pack_shards(shards, width, training, in_order=ordered)
    return (shards, rows), (shards, pack_shards(shards, width, validation))
