"""A checkpoint into memory: what it will take, in which precision it is fastest, and then the engine itself."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from jobs import paths
from minimind.checkpoints.checkpoint import gives_scores, load_model, load_score_model
from minimind.checkpoints.convert import from_hf_config
from minimind.checkpoints.manifest import weights_sha256
from minimind.inference.cache import kv_cache_bytes
from minimind.inference.engine import Engine
from minimind.inference.quantize import WEIGHT_TYPES, WeightType, choose_precision
from minimind.inference.reward import Scorer
from minimind.network.model import MiniMind, ModelConfig
from minimind.network.score import ScoreModel
from minimind.text.tokenizer import Tokenizer
from service.settings import Settings

logger = logging.getLogger(__name__)

MEASURED_TOKENS = 768
"""How much of the sample text the precisions are compared on."""

_BYTES: dict[WeightType, int] = {"float32": 4, "bfloat16": 2, "int8": 1}


@dataclass(frozen=True)
class LoadPlan:
    """What a model will hold in memory, in bytes, and how it will run. weight_type: None is not decided yet.

    source_bytes: of the weights that it is made from, which go when it is made.
    """

    weight_bytes: int
    kv_bytes: int
    weight_type: WeightType | None
    slots: int
    context_tokens: int
    source_bytes: int = 0

    @property
    def bytes(self) -> int:
        """All of it, once it is loaded."""
        return self.weight_bytes + self.kv_bytes

    @property
    def loading_bytes(self) -> int:
        """All of it, with what is there while it is loaded."""
        return self.bytes + self.source_bytes


def plan(folder: Path, settings: Settings) -> LoadPlan:
    """What the model of a checkpoint takes, from its shape alone: at most, while its precision is not decided.

    While it loads, the weights are there in fp32 as well, unless it keeps them so. One that gives scores does, so that
    they are those of `minimind reward score`; it needs no KV cache, for it reads a text once. Raises ValueError or
    OSError for a damaged config.
    """
    config = _config(folder)
    context = min(settings.context_tokens, config.max_position_embeddings)
    if gives_scores(folder):
        return LoadPlan(weight_bytes(config, "float32", ScoreModel), 0, "float32", settings.slots, context)
    weight_type = None if settings.dtype == "auto" else settings.dtype
    return LoadPlan(
        weight_bytes=max(
            weight_bytes(config, kind) for kind in (WEIGHT_TYPES if weight_type is None else [weight_type])
        ),
        kv_bytes=kv_cache_bytes(config, settings.slots, context),
        weight_type=weight_type,
        slots=settings.slots,
        context_tokens=context,
        source_bytes=0 if weight_type == "float32" else weight_bytes(config, "float32"),
    )


def weight_bytes(config: ModelConfig, weight_type: WeightType, kind: type[MiniMind] = MiniMind) -> int:
    """What the weights of a serving model take, but for norms and scales. In the smaller types the embedding stays in
    fp32, and a head that is tied to it is a copy.
    """
    with torch.device("meta"):
        numbers = sum(parameter.numel() for parameter in kind(config).parameters())
    if weight_type == "float32":
        return 4 * numbers
    embedding = config.vocab_size * config.hidden_size
    return 4 * embedding + _BYTES[weight_type] * (numbers if config.tie_word_embeddings else numbers - embedding)


def load(folder: Path, needs: LoadPlan) -> tuple[Engine | Scorer, Tokenizer, LoadPlan]:
    """The engine of a checkpoint, and the plan with its precision. Raises CheckpointError for one that is not whole."""
    if gives_scores(folder):
        judge, tokenizer = load_score_model(folder)
        return Scorer(judge, needs.slots), tokenizer, needs
    model, tokenizer, _ = load_model(folder)
    weight_type = needs.weight_type or fastest(folder, model, tokenizer)
    engine = Engine(
        model,
        slots=needs.slots,
        context_tokens=needs.context_tokens,
        tokenizer=tokenizer,
        weight_type=weight_type,
    )
    return (
        engine,
        tokenizer,
        replace(needs, weight_type=weight_type, weight_bytes=weight_bytes(model.config, weight_type)),
    )


def fastest(folder: Path, model: MiniMind, tokenizer: Tokenizer) -> WeightType:
    """The fastest precision that loses less than 0.5 % of bits per byte on the bundled text.

    Measured once for each checkpoint on each kind of machine, and kept in the cache of MINIMIND_HOME.
    """
    machine = [torch.__version__, torch.get_num_threads(), dict(torch.cpu.get_capabilities())]
    key = json.dumps([weights_sha256(folder), *machine], sort_keys=True)
    known = paths.cache() / "precision" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
    if known.is_file():
        kept: WeightType = json.loads(known.read_text("utf-8"))["weight_type"]
        return kept
    choice = choose_precision(model, sample_tokens(tokenizer, model.config.max_position_embeddings))
    losses = ", ".join(f"{kind} {100 * loss:+.3f} %" for kind, loss in choice.losses.items())
    logger.info("%s: %s is the fastest; bits per byte against float32: %s", folder, choice.weight_type, losses)
    known.parent.mkdir(parents=True, exist_ok=True)
    partial = known.with_suffix(".partial")
    partial.write_text(
        json.dumps({"weight_type": choice.weight_type, "losses": choice.losses, "seconds": choice.seconds}), "utf-8"
    )
    partial.replace(known)
    return choice.weight_type


def sample_tokens(tokenizer: Tokenizer, most: int) -> list[int]:
    """Token ids of the bundled text, MEASURED_TOKENS or `most` of them."""
    ids: list[int] = []
    with (paths.checkout() / "data" / "samples" / "pretrain.jsonl").open(encoding="utf-8") as rows:
        for row in rows:
            ids += [*tokenizer.encode(json.loads(row)["text"]), tokenizer.eos_id]
            if len(ids) >= min(MEASURED_TOKENS, most):
                break
    return ids[: min(MEASURED_TOKENS, most)]


def _config(folder: Path) -> ModelConfig:
    return from_hf_config(json.loads((folder / "config.json").read_text("utf-8")))
