"""Small stand-ins that the loop's tests share: a model, rows of ragged documents, a source, hooks, a whole run."""

from __future__ import annotations

import io
import json
import random
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from data.batches import OrderedBatches
from data.pack import Packing, pack_shards
from data.prepare import tokenise
from data.rows import PackedRows
from data.shards import TokenShards
from minimind.device.distributed import Parallel
from minimind.network.lora import LoraConfig, attach
from minimind.network.model import MiniMind, ModelConfig
from minimind.text.tokenizer import Tokenizer
from minimind.training.batch import TokenBatch
from minimind.training.loop import train
from minimind.training.objectives import Loss, Models, Objective, next_token_loss
from minimind.training.optim import OptimConfig, Optimizer, build_optimizer
from minimind.training.precision import Precision
from minimind.training.recipe import BatchSource, LoopConfig, Recipe
from minimind.training.train_state import TrainState
from tests.small import write_chats

TOY_CONFIG = ModelConfig(
    vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2
)


def toy_model(seed: int = 0, config: ModelConfig = TOY_CONFIG) -> MiniMind:
    """A model in which every weight matters: real initialisation leaves output projections at zero."""
    generator = torch.Generator().manual_seed(seed)
    model = MiniMind(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.2, generator=generator)
    return model


def toy_shards(folder: Path) -> TokenShards:
    """Real token shards in a new folder: 45 short documents of a few words, a vocabulary of 292."""
    words = ["ab", "abc", "cab", "bca", "dad", "c", "bead", "fed"]
    draw = random.Random(0)
    with (folder / "text.jsonl").open("w", encoding="utf-8") as file:
        for _ in range(45):
            file.write(json.dumps({"text": " ".join(draw.choices(words, k=draw.randint(1, 5)))}) + "\n")
    return tokenise([folder / "text.jsonl"], Tokenizer.train(["ab"], vocab_size=292), folder / "shards")


def toy_chats(folder: Path) -> TokenShards:
    """Real shards of 33 conversations with one answer or two, of the same words and vocabulary."""
    words = ["ab", "abc", "cab", "bca", "dad", "c", "bead", "fed"]
    draw = random.Random(1)
    turns_of = [draw.choice((2, 4)) for _ in range(33)]
    chats = [[" ".join(draw.choices(words, k=draw.randint(1, 4))) for _ in range(turns)] for turns in turns_of]
    path = write_chats(folder / "chats.jsonl", chats)
    return tokenise([path], Tokenizer.train(["ab"], vocab_size=292), folder / "shards", rows="sft")


@dataclass(frozen=True)
class ToyStage:
    """What a stage trains, and on what. width: of a row. replay: plain text of which a third of the rows are. adapter:
    trained beside weights that stay.
    """

    shards: TokenShards
    width: int
    replay: TokenShards | None = None
    adapter: LoraConfig | None = None

    @property
    def packing(self) -> Packing:
        return pack_shards(self.shards, self.width)

    def batches(self, **settings: Any) -> OrderedBatches[TokenBatch]:
        """A source; settings are those of OrderedBatches."""
        beside = (self.replay, pack_shards(self.replay, self.width)) if self.replay else None
        rows = PackedRows(self.shards, self.packing, beside=beside)
        return OrderedBatches(rows, replay=1 / 3 if beside else 0.0, **{"seed": 1, "epochs": 2} | settings)

    def model(self, seed: int = 0) -> MiniMind:
        """What trains is drawn from the seed: all weights, or the adapter alone."""
        if self.adapter is None:
            return text_model(seed)
        model = text_model()
        attach(model, self.adapter, torch.Generator().manual_seed(seed))
        return model


STAGE_NAMES = ("pretrain", "sft", "sft with replay", "lora")


def toy_stages(text: TokenShards, chats: TokenShards, dropout: float = 0.0) -> dict[str, ToyStage]:
    """The stages by name. dropout: of the adapter."""
    return {
        "pretrain": ToyStage(text, 22),
        "sft": ToyStage(chats, 90),
        "sft with replay": ToyStage(chats, 90, replay=text),
        "lora": ToyStage(chats, 90, adapter=LoraConfig(rank=4, dropout=dropout)),
    }


def text_model(seed: int = 0) -> MiniMind:
    """A toy model with the vocabulary of `toy_shards`."""
    return toy_model(seed, TOY_CONFIG.model_copy(update={"vocab_size": 292}))


def toy_rows(count: int, width: int = 16, seed: int = 0) -> TokenBatch:
    """Packed rows of ragged documents; most end in padding, so that rows weigh differently."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, TOY_CONFIG.vocab_size, (count, width), generator=generator)
    segments = torch.zeros(count, width, dtype=torch.int32)
    for row in range(count):
        end, number = int(torch.randint(3, width + 1, (), generator=generator)), 0
        start = 0
        while start < end:
            number += 1
            length = int(torch.randint(1, 8, (), generator=generator)) + (number == 1)  # every row has a target
            segments[row, start : min(end, start + length)] = number
            start += length
    starts = torch.ones_like(segments, dtype=torch.bool)
    starts[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return TokenBatch(
        tokens_BT=tokens.where(segments > 0, 0),
        loss_mask_BT=(segments > 0) & ~starts,
        segment_BT=segments,
        rows=tuple(range(count)),
    )


def ids_of_bytes(tokenizer: Tokenizer, data: bytes) -> list[int]:
    """Token ids of any bytes: of text as `encode` gives them, of what is no UTF-8 an id for each byte."""
    ids: list[int] = []
    for part in re.split(r"([\udc80-\udcff])", data.decode("utf-8", errors="surrogateescape")):
        no_text = "\udc80" <= part <= "\udcff"
        ids += [_byte_ids(tokenizer)[bytes([ord(part) - 0xDC00])]] if no_text else tokenizer.encode(part)
    return ids


@cache
def _byte_ids(tokenizer: Tokenizer) -> dict[bytes, int]:
    meanings = {token_id: tokenizer.decode_bytes([token_id]) for token_id in range(tokenizer.vocab_size)}
    return {meaning: token_id for token_id, meaning in meanings.items() if len(meaning) == 1}


class RowBatches:
    """A BatchSource over rows in memory, in the global order that real sources keep."""

    def __init__(self, rows: TokenBatch, batch_size: int, epochs: int = 1, parallel: Parallel | None = None) -> None:
        self.rows = rows
        self.batch_size = batch_size
        self.total = epochs * len(rows.rows)
        self.parallel = parallel or Parallel()
        self.position = 0

    @property
    def done(self) -> bool:
        return self.position >= self.total

    def take(self, count: int) -> list[TokenBatch]:
        rank, world = self.parallel.rank, self.parallel.world
        end = min(self.total, self.position + count * world * self.batch_size)
        first = self.position + rank * self.batch_size
        starts = range(first, end, world * self.batch_size)
        self.position = end
        return [self._batch(start, min(end, start + self.batch_size)) for start in starts]

    def _batch(self, start: int, end: int) -> TokenBatch:
        index = torch.arange(start, end) % len(self.rows.rows)
        return TokenBatch(
            self.rows.tokens_BT[index],
            self.rows.loss_mask_BT[index],
            self.rows.segment_BT[index],
            tuple(index.tolist()),
        )

    def stop_reading_ahead(self) -> bool:
        return False

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]


class OnCuda(TorchFunctionMode):
    """Tensors say that they are on a GPU."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in (Tensor.is_cpu.__get__, Tensor.is_cuda.__get__):  # type: ignore[attr-defined]
            return func == Tensor.is_cuda.__get__  # type: ignore[attr-defined]
        return func(*args, **(kwargs or {}))


class PoisonedLoss:
    """Next-token loss that is not a number on some rows: in its value, in its gradient, or in both."""

    def __init__(self, rows: Collection[int], part: Literal["value", "gradient", "both"] = "both") -> None:
        self.rows = rows
        self.part = part

    def __call__(self, models: Models, batch: TokenBatch) -> Loss:
        loss = next_token_loss(models, batch)
        if not set(self.rows) & set(batch.rows):
            return loss
        poison = {
            "value": torch.tensor(float("nan")),
            "gradient": (loss.total - loss.total).sqrt(),
            "both": loss.total * float("nan"),
        }
        return Loss(loss.total + poison[self.part], loss.weight)


@dataclass
class RecordingHooks:
    """Hooks that write down what the loop calls."""

    stop_before: int | None = None
    on_save: Callable[[TrainState], None] = lambda state: None
    calls: list[tuple[str, int]] = field(default_factory=list)
    metrics: list[dict[str, float]] = field(default_factory=list)
    notes: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def steps(self, call: str) -> list[int]:
        """At which steps this hook was called."""
        return [step for name, step in self.calls if name == call]

    def log(self, state: TrainState, metrics: dict[str, float]) -> None:
        self.calls.append(("log", state.step))
        self.metrics.append(metrics)

    def note(self, kind: str, text: str, **details: Any) -> None:
        self.notes.append((text, {"kind": kind, **details}))

    def evaluate(self, state: TrainState) -> None:
        self.calls.append(("evaluate", state.step))

    def judge(self, state: TrainState) -> None:
        self.calls.append(("judge", state.step))

    def save(self, state: TrainState) -> None:
        self.calls.append(("save", state.step))
        self.on_save(state)

    def should_stop(self, state: TrainState) -> bool:
        return self.stop_before is not None and state.step + 1 >= self.stop_before


class ToyRun:
    """A recipe whose parts a test may exchange, and all of its run's state as one dict that has been through a file."""

    def __init__(
        self,
        batches: BatchSource,
        models: dict[str, MiniMind] | None = None,
        *,
        objective: Objective = next_token_loss,
        optim: OptimConfig | None = None,
        loop: LoopConfig | None = None,
        dtype: torch.dtype = torch.float32,
        parallel: Parallel | None = None,
        total_steps: int = 1000,
        units_per_step: int = 64,
        worst: TokenBatch | None = None,
    ) -> None:
        self.models = models or {"policy": toy_model()}
        self.model = self.models["policy"]
        self.batches = batches
        self.objective = objective
        self.optim = optim or OptimConfig(learning_rate=0.01)
        self.loop = loop or LoopConfig()
        self.optimizer: Optimizer = build_optimizer({"policy": self.model}, self.optim)
        self.parallel = parallel or Parallel()
        self.precision = Precision(dtype, self.parallel.device, units_per_step)
        self.total_steps = total_steps
        self.worst = worst
        self.state = TrainState()

    def train(self, hooks: RecordingHooks | None = None) -> RecordingHooks:
        """Run the loop; gives the hooks that watched it."""
        hooks = hooks or RecordingHooks()
        train(self.recipe, self.state, hooks, self.parallel)
        return hooks

    @property
    def recipe(self) -> Recipe:
        """What the loop is given."""
        return Recipe(
            models=self.models,
            objective=self.objective,
            batches=self.batches,
            optimizer=self.optimizer,
            learning_rate=lambda step: self.optim.learning_rate / (1 + step),
            precision=self.precision,
            loop=self.loop,
            total_steps=self.total_steps,
            grad_clip=self.optim.grad_clip,
            worst=self.worst,
        )

    def state_dict(self) -> dict[str, Any]:
        file = io.BytesIO()
        torch.save(
            {
                "weights": {role: model.state_dict() for role, model in self.models.items()},
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.precision.scaler.state_dict(),
                "batches": self.batches.state_dict(),
                "state": self.state.state_dict(),
                "rng": self.parallel.rng_state(),
            },
            file,
        )
        file.seek(0)
        loaded: dict[str, Any] = torch.load(file, weights_only=True)
        return loaded

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        for role, model in self.models.items():
            model.load_state_dict(saved["weights"][role])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.precision.scaler.load_state_dict(saved["scaler"])
        self.batches.load_state_dict(saved["batches"])
        self.state = TrainState(**saved["state"])
        self.parallel.set_rng_state(saved["rng"])


def weights(model: MiniMind) -> dict[str, Tensor]:
    """A copy of all weights."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_same(left: Any, right: Any, where: str = "") -> None:
    """Equal to the last bit, however deeply nested."""
    assert type(left) is type(right), where
    if isinstance(left, Tensor):
        assert torch.equal(left, right), where
    elif isinstance(left, Mapping):
        assert left.keys() == right.keys(), where
        for key in left:
            assert_same(left[key], right[key], f"{where}.{key}")
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right), where
        for index, (a, b) in enumerate(zip(left, right, strict=True)):
            assert_same(a, b, f"{where}[{index}]")
    else:
        assert left == right, where
