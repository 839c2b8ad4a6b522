from __future__ import annotations

from pathlib import Path

import pytest
import torch

import minimind.checkpoints.checkpoint as checkpoints
from data.batches import OrderedBatches
from data.rows import PackedRows
from data.shards import TokenShards
from jobs.stages.spec import RunSpec
from jobs.stages.stage import HeldOut
from jobs.text.prepare import Prepared, prepare
from jobs.training.build import MOST_STEPS_UNSAVED, Built, build
from minimind.checkpoints.checkpoint import Lineage
from minimind.checkpoints.manifest import CheckpointError
from minimind.device.distributed import Parallel
from minimind.network.model import MiniMind
from minimind.training.batch import TokenBatch
from minimind.training.objectives import next_token_loss
from tests.small import Screen, small_spec, write_rows
from tests.toys import assert_same


@pytest.fixture
def prepared(home: Path) -> Prepared:
    return prepare(small_spec(), Screen())


def built(spec: RunSpec, prepared: Prepared, rank: int = 0, world: int = 1) -> Built:
    return build(spec, prepared, Parallel(rank, world))


def rows_read(found: Built) -> PackedRows:
    """What its batches are made of."""
    batches = found.recipe.batches
    assert isinstance(batches, OrderedBatches)
    assert isinstance(batches.rows, PackedRows)
    return batches.rows


def targets_of(held_out: HeldOut) -> int:
    found = 0
    for batch in held_out.batches():
        assert isinstance(batch, TokenBatch)
        found += int(batch.loss_mask_BT.sum())
    return found


def test_the_parts_are_what_the_spec_says(prepared: Prepared) -> None:
    spec = small_spec(loop__activation_checkpointing=True, optim__schedule="constant", optim__warmup=0.0)
    parts = built(spec, prepared)
    assert parts.policy.config == spec.model
    assert parts.policy.activation_checkpointing
    assert parts.recipe.objective is next_token_loss
    assert parts.recipe.precision.dtype == torch.float32
    assert parts.tokenizer.vocab_size == 600
    assert parts.recipe.total_steps == 8
    assert parts.recipe.learning_rate(5) == spec.optim.learning_rate
    batches = parts.recipe.batches.take(2)
    assert [(len(batch.rows), batch.width) for batch in batches] == [(4, 32), (4, 32)]


def test_intervals_left_open_are_a_tenth_of_the_run(prepared: Prepared) -> None:
    left_open = {"loop__eval_interval": "null", "loop__save_interval": "null"}
    loop = built(small_spec(loop__max_steps=77, **left_open), prepared).recipe.loop
    assert (loop.eval_interval, loop.save_interval) == (7, 7)
    loop = built(small_spec(loop__max_steps=3, **left_open), prepared).recipe.loop
    assert (loop.eval_interval, loop.save_interval) == (1, 1)
    long = built(small_spec(loop__epochs=1000, loop__max_steps="null", **left_open), prepared)
    assert long.recipe.loop.eval_interval == long.recipe.total_steps // 10 > MOST_STEPS_UNSAVED
    assert long.recipe.loop.save_interval == MOST_STEPS_UNSAVED
    chosen = built(small_spec(loop__save_interval=5000, loop__eval_interval=3), prepared).recipe.loop
    assert (chosen.save_interval, chosen.eval_interval) == (5000, 3)


def test_the_data_decides_the_steps_where_nothing_else_does(prepared: Prepared) -> None:
    one = built(small_spec(loop__max_steps="null"), prepared)
    assert one.recipe.total_steps == -(-rows_read(one).count // 8)
    assert built(small_spec(loop__max_steps="null"), prepared, world=2).recipe.total_steps == -(
        -rows_read(one).count // 16
    )


def test_the_seed_draws_the_weights(prepared: Prepared) -> None:
    first, same, other = (built(small_spec(seed=seed), prepared).policy.state_dict() for seed in (1, 1, 2))
    assert_same(first, same)
    assert not torch.equal(first["model.embed_tokens.weight"], other["model.embed_tokens.weight"])
    assert_same(built(small_spec(seed=1), prepared, rank=1, world=2).policy.state_dict(), first)


def test_ranks_draw_their_own_numbers(prepared: Prepared) -> None:
    drawn = []
    for rank in (0, 1, 0):
        built(small_spec(), prepared, rank=rank, world=2)
        drawn.append(float(torch.rand(())))
    assert drawn[0] == drawn[2] != drawn[1]


def test_what_is_held_out_is_not_trained_on(prepared: Prepared) -> None:
    parts = built(small_spec(), prepared)
    shards = TokenShards.open(prepared.shards, parts.tokenizer.fingerprint)
    trained = set(rows_read(parts).packing.piece_document.tolist())
    held_out = set(range(len(shards))) - trained
    assert len(held_out) == 3  # one in a hundred of 321
    assert parts.held_out.text_bytes == sum(int(shards.text_bytes[i]) for i in held_out)
    targets = targets_of(parts.held_out)
    assert targets == sum(int(shards.lengths[i]) - 1 for i in held_out)
    assert targets_of(parts.held_out) == targets
    shares = [built(small_spec(), prepared, rank=rank, world=2).held_out for rank in (0, 1)]
    assert sum(map(targets_of, shares)) == targets


def test_a_validation_file_leaves_all_rows_to_training(home: Path) -> None:
    spec = small_spec(eval__path=str(write_rows(home / "held.jsonl", ["never seen", "nor this one"])))
    parts = built(spec, prepare(spec, Screen()))
    assert len(set(rows_read(parts).packing.piece_document.tolist())) == 321
    assert parts.held_out.text_bytes == len("never seen" + "nor this one")


def test_first_weights_come_from_the_named_checkpoint(home: Path, prepared: Prepared) -> None:
    spec = small_spec()
    given = MiniMind(spec.model)
    folder = checkpoints.save(
        home / "given",
        1,
        model_config=spec.model,
        weights=given.state_dict(),
        tokenizer=built(spec, prepared).tokenizer,
        train_state={},
        lineage=Lineage("parent"),
    )
    prepared = prepared.model_copy(update={"init_folder": str(folder)})
    assert_same(dict(built(spec, prepared).policy.state_dict()), dict(given.state_dict()))
    with pytest.raises(CheckpointError, match="another model: num_hidden_layers is 2 in the checkpoint and 3"):
        built(small_spec(model__num_hidden_layers=3), prepared)


def test_compiled_blocks_keep_their_names(prepared: Prepared) -> None:
    names = list(built(small_spec(), prepared).policy.state_dict())
    assert list(built(small_spec(loop__compile=True), prepared).policy.state_dict()) == names
