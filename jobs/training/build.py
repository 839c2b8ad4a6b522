"""RunSpec + prepared data -> the recipe that the loop follows, and what is measured on. No Ray; nothing is written."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

import minimind.checkpoints.checkpoint as checkpoints
from data.shards import TokenShards
from jobs.stages.known import with_known
from jobs.stages.recipe import place, recipe_of
from jobs.stages.spec import RunSpec
from jobs.stages.stage import Corpus, HeldOut
from jobs.stages.table import STAGES
from jobs.text.prepare import Prepared
from minimind.checkpoints import adapter_base
from minimind.checkpoints.checkpoint import Adapter
from minimind.checkpoints.manifest import Base
from minimind.device.distributed import Parallel
from minimind.network.model import MiniMind
from minimind.network.score import ScoreModel
from minimind.text.tokenizer import Tokenizer
from minimind.training.precision import Precision, common_dtype
from minimind.training.recipe import LoopConfig, Recipe

MOST_STEPS_UNSAVED = 1000
"""However long a run is, a kill costs no more steps than this, unless the user says otherwise."""


@dataclass(frozen=True)
class Built:
    """What a worker trains, and what the hooks around the loop need.

    held_out: rows of the stage's own kind. text: held-out plain text, to see what is forgotten; None where none is
    known. facts: questions whose answers the weights knew; None where none are. adapter: what its checkpoints say of an
    adapter that trains in place of the weights. references: the checkpoints that frozen roles are of.
    """

    recipe: Recipe
    held_out: HeldOut
    text: HeldOut | None
    tokenizer: Tokenizer
    adapter: Adapter | None
    references: dict[str, Base]
    facts: HeldOut | None = None

    @property
    def policy(self) -> MiniMind:
        """The model that is trained and served."""
        policy = self.recipe.models["policy"]
        assert isinstance(policy, MiniMind)
        return policy


def build(
    spec: RunSpec, prepared: Prepared, parallel: Parallel, progress: Callable[[str, int, int], None] | None = None
) -> Built:
    """Open the data and make the models on this rank's device: from checkpoints, or drawn anew from the seed.

    progress: see `jobs.stages.known.with_known`.
    """
    torch.manual_seed(spec.seed + parallel.rank)
    stage, corpus = STAGES[spec.stage.kind], corpus_of(prepared)
    weights = Checkpoints(spec, prepared)
    precision = Precision(
        common_dtype(spec.loop.dtype, parallel),
        parallel.device,
        units_per_step=spec.global_batch_size * spec.data.max_seq_len,
    )
    if (asking := stage.asks(spec)) is not None:
        corpus = with_known(corpus, spec, asking, weights, parallel, precision, progress or _silent)
    models = stage.models(spec, weights)
    place(models, spec, parallel.device)
    if spec.loop.compile:
        for model in models.values():
            if isinstance(model, MiniMind):
                model.compile_blocks()
    data = stage.data(spec, corpus, models, parallel)
    total_steps = min(data.batches.total_steps(spec.loop.accumulation_steps), spec.loop.max_steps or sys.maxsize)
    recipe = recipe_of(spec, models, data.batches, precision, with_intervals(spec.loop, total_steps), total_steps)
    adapter = None
    if spec.adapter is not None and prepared.init_folder is not None:
        adapter = Adapter(spec.adapter, adapter_base.base_of(Path(prepared.init_folder)))
    references = {role: adapter_base.reference_of(Path(folder)) for role, folder in prepared.role_folders.items()}
    return Built(recipe, data.held_out, data.text, corpus.tokenizer, adapter, references, data.facts)


@dataclass(frozen=True)
class Checkpoints:
    """A run's models with their numbers (see `jobs.stages.stage.ModelSource`), on the CPU."""

    spec: RunSpec
    prepared: Prepared

    def policy(self) -> MiniMind:
        """The model that the run trains, with its first weights or drawn from its seed."""
        return self._first().train()

    def role(self, role: str) -> MiniMind:
        """The frozen model of a role: of its checkpoint, or drawn from the seed where the first weights are."""
        folder = self.prepared.role_folders.get(role)
        model = self._first() if folder is None else checkpoints.load_model(Path(folder))[0]
        return model.eval().requires_grad_(False)

    def scoring(self, role: str) -> ScoreModel:
        """The frozen reward model of a role, of its checkpoint."""
        return checkpoints.load_score_model(Path(self.prepared.role_folders[role]))[0].requires_grad_(False)

    def fingerprint(self, role: str) -> str:
        """The sha256 of its checkpoint's weights; where they are drawn, what decides them."""
        drawn = f"seed {self.spec.seed} {self.spec.model.model_dump_json()}"
        return self.prepared.weights.get(f"roles.{role}", drawn)

    def _first(self) -> MiniMind:
        if self.prepared.init_folder is not None:
            return checkpoints.load_model(Path(self.prepared.init_folder), expect=self.spec.model)[0]
        return MiniMind(self.spec.model, generator=torch.Generator().manual_seed(self.spec.seed))


def _silent(what: str, done: int, total: int) -> None:
    """Progress that nobody wants to hear of."""


def known_bytes(spec: RunSpec, prepared: Prepared) -> int:
    """How much is kept, at most, of what a frozen model is asked before the run trains; 0 where none is."""
    asking = STAGES[spec.stage.kind].asks(spec)
    if asking is None:
        return 0
    corpus = corpus_of(prepared)
    shards = [corpus.rows, *([corpus.held_out] if corpus.held_out is not None else [])]
    return asking.token_bytes * sum(each.target_tokens for each in shards)


def corpus_of(prepared: Prepared) -> Corpus:
    """The prepared data, opened."""
    tokenizer = Tokenizer.load(prepared.tokenizer)

    def opened(folder: str | None) -> TokenShards | None:
        return TokenShards.open(folder, tokenizer.fingerprint) if folder is not None else None

    return Corpus(
        tokenizer,
        TokenShards.open(prepared.shards, tokenizer.fingerprint),
        opened(prepared.validation_shards),
        opened(prepared.text_shards),
        opened(prepared.chat_shards),
        opened(prepared.held_out_text_shards),
        opened(prepared.fact_shards),
    )


def with_intervals(loop: LoopConfig, total_steps: int) -> LoopConfig:
    """With what it leaves open decided: a validation and a checkpoint every tenth of the run."""
    tenth = max(1, total_steps // 10)
    intervals = {
        "eval_interval": loop.eval_interval or tenth,
        "save_interval": loop.save_interval or min(tenth, MOST_STEPS_UNSAVED),
    }
    return loop.model_copy(update=intervals)
