"""An adapter trains like anything else: resumed it ends the same, in any batching it learns the same, and nothing but
it changes.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import minimind.checkpoints.checkpoint as checkpoints
from data.batches import OrderedBatches
from data.pack import pack
from data.rows import PackedRows
from data.shards import TokenShards
from minimind.checkpoints.adapter_base import base_of
from minimind.checkpoints.checkpoint import Adapter, Lineage
from minimind.checkpoints.manifest import Base
from minimind.network.lora import LoraConfig, adapter_state, attach, detach, load_adapter
from minimind.network.model import MiniMind
from minimind.text.tokenizer import Tokenizer
from minimind.training.objectives import next_token_loss
from minimind.training.optim import OptimConfig
from minimind.training.recipe import LoopConfig
from minimind.training.train_state import TrainState
from tests.toys import RecordingHooks, RowBatches, ToyRun, assert_same, text_model, toy_model, toy_rows, weights

LORA = LoraConfig(rank=4, dropout=0.25)


class AdapterRun(ToyRun):
    """A toy run of an adapter that keeps nothing but a checkpoint folder of it, as a real one does."""

    def __init__(self, shards: TokenShards, base: Base, name: str, checkpointing: bool, seed: int) -> None:
        self.base = base
        model = text_model()
        model.load_state_dict(checkpoints.load(Path(base.folder)).weights)
        attach(model, LORA, torch.Generator().manual_seed(seed))
        model.activation_checkpointing = checkpointing
        torch.manual_seed(seed)
        super().__init__(
            OrderedBatches(PackedRows(shards, pack(shards.lengths, 22)), batch_size=2, seed=1, epochs=2, num_workers=1),
            {"policy": model},
            optim=OptimConfig.model_validate({"name": name, "learning_rate": 0.01}),
            loop=LoopConfig(accumulation_steps=3, save_interval=1),
        )

    def save(self, root: Path, tokenizer: Tokenizer) -> Path:
        return checkpoints.save(
            root,
            self.state.step,
            model_config=self.model.config,
            weights=adapter_state(self.model),
            tokenizer=tokenizer,
            train_state={
                "optimizer": self.optimizer.state_dict(),
                "batches": self.batches.state_dict(),
                "state": self.state.state_dict(),
                "rng": self.parallel.rng_state(),
            },
            lineage=Lineage("lora"),
            adapter=Adapter(LORA, self.base),
        )

    def resume(self, folder: Path) -> None:
        loaded = checkpoints.load(folder)
        assert loaded.train_state is not None
        load_adapter(self.model, loaded.weights)
        self.optimizer.load_state_dict(loaded.train_state["optimizer"])
        self.batches.load_state_dict(loaded.train_state["batches"])
        self.state = TrainState(**loaded.train_state["state"])
        self.parallel.set_rng_state(loaded.train_state["rng"])


@pytest.mark.parametrize(("name", "checkpointing"), [("adamw", False), ("muon", True)])
def test_with_dropout_stopped_at_any_step_and_continued(
    shards: TokenShards, tmp_path: Path, name: str, checkpointing: bool
) -> None:
    model = text_model()
    tokenizer = Tokenizer.train(["ab"], vocab_size=292)
    base = checkpoints.save(
        tmp_path / "base",
        1,
        model_config=model.config,
        weights=model.state_dict(),
        tokenizer=tokenizer,
        train_state={},
        lineage=Lineage("base"),
    )
    whole = AdapterRun(shards, base_of(base), name, checkpointing, seed=0)
    folders: list[Path] = []
    whole.train(RecordingHooks(on_save=lambda state: folders.append(whole.save(tmp_path / "lora", tokenizer))))
    assert len(folders) == whole.state.step >= 3
    for folder in folders:
        resumed = AdapterRun(shards, base_of(base), name, checkpointing, seed=1)
        resumed.resume(folder)
        resumed.train()
        assert_same(weights(resumed.model), weights(whole.model), f"from {folder.name}")
        assert_same(resumed.optimizer.state_dict(), whole.optimizer.state_dict(), f"from {folder.name}")
    detach(whole.model)
    assert_same(weights(whole.model), weights(model))


def trained(batch_size: int, accumulation_steps: int, dropout: float = 0.0) -> MiniMind:
    model = toy_model()
    attach(model, LoraConfig(rank=4, dropout=dropout), torch.Generator().manual_seed(2))
    torch.manual_seed(3)
    run = ToyRun(
        RowBatches(toy_rows(16), batch_size, epochs=2),
        {"policy": model},
        loop=LoopConfig(accumulation_steps=accumulation_steps),
    )
    run.train()
    assert run.state.step == 4
    return model


def loss(model: MiniMind) -> float:
    with torch.no_grad():
        return float(next_token_loss({"policy": model}, toy_rows(16)).total)


@pytest.mark.parametrize(("batch_size", "accumulation_steps"), [(4, 2), (2, 4)])
def test_micro_batch_size_and_accumulation_do_not_matter(batch_size: int, accumulation_steps: int) -> None:
    expected, actual = adapter_state(trained(8, 1)), adapter_state(trained(batch_size, accumulation_steps))
    for name, tensor in expected.items():
        torch.testing.assert_close(actual[name], tensor, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_an_adapter_learns_and_its_base_stays(dropout: float) -> None:
    model, base = trained(8, 1, dropout), toy_model()
    state: dict[str, Tensor] = adapter_state(model)
    assert all(tensor.abs().max() > 0 for tensor in state.values())
    assert loss(model) < loss(base)
    after = weights(model)
    assert_same({name: after[name] for name in base.state_dict()}, weights(base))
