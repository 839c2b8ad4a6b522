"""What a stage is: the few functions that say what it trains, on what, and how. Runs and plans call the same ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from data.pack import Ints, learnable
from data.row_values import RowValues, Values
from data.rows import Rows
from data.shards import TokenShards
from jobs.stages.spec import RunSpec, StageSettings
from minimind.device.distributed import Parallel
from minimind.events import Metric
from minimind.inference.sampling import Sampling
from minimind.network.model import MiniMind, ModelConfig
from minimind.network.score import ScoreModel
from minimind.text.tokenizer import Tokenizer
from minimind.training.alarms import Alarm, Series
from minimind.training.batch import Batch
from minimind.training.objectives import Models, Objective
from minimind.training.recipe import BatchSource

DEFAULT_MODEL = "30m"


class ModelSource(Protocol):
    """Where a run's models come from: from checkpoints, or, for a plan, from their shapes alone."""

    def policy(self) -> MiniMind:
        """The model that the run trains, with its first weights or drawn from its seed; no adapter is on it."""
        ...

    def role(self, role: str) -> MiniMind:
        """The frozen model of the checkpoint that the spec names for a role; where it names none, the first weights."""
        ...

    def scoring(self, role: str) -> ScoreModel:
        """The frozen reward model of the checkpoint that the spec names for a role of `Stage.scoring`."""
        ...


class WeightSource(ModelSource, Protocol):
    """Models with their numbers."""

    def fingerprint(self, role: str) -> str:
        """What tells the weights of a role's model from all others."""
        ...


@dataclass(frozen=True)
class Corpus:
    """What a run reads, tokenised.

    rows: of the stage's own kind. held_out: other rows to measure on; None where a part of `rows` is held out. text:
    plain text to replay and to see what is forgotten; None where none is known. chats: conversations to replay; None
    where none are. held_out_text: None where a part of `text` is held out. facts: questions whose answers the weights
    know, as rows of stages that try; None where none are known. known: what a frozen model says of the rows that are
    trained on, and of those that are held out; None where that is not computed.
    """

    tokenizer: Tokenizer
    rows: TokenShards
    held_out: TokenShards | None = None
    text: TokenShards | None = None
    chats: TokenShards | None = None
    held_out_text: TokenShards | None = None
    facts: TokenShards | None = None
    known: tuple[RowValues, RowValues] | None = None


@dataclass(frozen=True)
class Asking:
    """What a frozen model is asked about a run's rows before it trains, and is not in memory beside the others then.

    role: of the model. ask: (the model, a batch) -> (the row of the batch that each value is of, ascending; the
    values). rows: those to train on, and the held-out ones. token_bytes: how much is kept of each learnt token.
    identity: what the values depend on, beside the model, the precision and the rows.
    """

    role: str
    ask: Callable[[MiniMind, Any], tuple[Tensor, Values]]
    rows: Callable[[Corpus], tuple[Rows[Any], Rows[Any]]]
    token_bytes: int
    identity: Mapping[str, int | float] = field(default_factory=dict)


@dataclass(frozen=True)
class HeldOut:
    """What is measured on. batches: makes an iterator over this rank's share. text_bytes: UTF-8 length of all of the
    text that is predicted, for bits per byte; 0 where that says nothing. rows: on all ranks; 0 where nobody asks.
    """

    batches: Callable[[], Iterator[Batch]]
    text_bytes: int = 0
    rows: int = 0


class FiniteSource(BatchSource, Protocol):
    """A source that knows where it ends."""

    def total_steps(self, accumulation_steps: int) -> int:
        """Optimizer steps until nothing is left."""
        ...


@dataclass(frozen=True)
class Answers:
    """What a stage that trains on its own answers computes, as far as that is known beforehand: as if its answers were
    as long as the right ones. trained: tokens that are learnt on in an epoch, prompts included. written: in an epoch.
    examined: written to held-out prompts, at each validation. first: written before the first step.
    """

    trained: int
    written: int
    examined: int
    first: int = 0


@dataclass(frozen=True)
class Data:
    """What a stage trains and measures on. text: held-out plain text; None where none is known. answers: of a stage
    that trains on its own; its `held_out` and `facts` cannot be read without its models. facts: questions whose answers
    the weights knew; None where none are known.
    """

    batches: FiniteSource
    held_out: HeldOut
    text: HeldOut | None = None
    answers: Answers | None = None
    facts: HeldOut | None = None


def _nothing(spec: RunSpec) -> Asking | None:
    return None


def _none(spec: RunSpec) -> Batch | None:
    return None


@dataclass(frozen=True)
class Looked:
    """What there is to say of a run's rows before it begins, and to warn of; a sentence each."""

    said: Sequence[str] = ()
    warnings: Sequence[str] = ()


def _as_they_are(spec: RunSpec, corpus: Corpus) -> Looked:
    return Looked()


def _as_it_is(spec: RunSpec) -> dict[str, Any]:
    return {}


Usable = Callable[[TokenShards, int], Ints]
"""(shards, tokens of a text) -> the numbers of the rows of which something can be learnt: see `data.pack`."""


@dataclass(frozen=True)
class Stage:
    """What makes one stage differ from another.

    title: one line for the help. rows: the kind of rows that it reads, as `data check --stage` calls it. usable: which
    of them it can use. settings: of its own, under `stage` in a spec; their `kind` is its name. preset: model size ->
    the complete spec that a run starts from. continues: whether it makes sense only on weights that have learnt
    something. prompt: the token ids that a sample is written after; None where its models give scores and write
    nothing. sampling: how its models are sampled unless a request says otherwise.

    models: by role, the one that is trained and served being "policy"; those of frozen roles ask for no gradient.
    asks: what a frozen model is asked about the rows before the run's models are made; it gives None where the settings
    want nothing to be known beforehand. objective: what is minimised. data: where its batches come from. worst: a batch
    that costs as much memory as one can. beside: as much as one of another kind can that a step has too; None where
    there are none. worst_take: the most that a source computes while it makes one, from shapes
    alone; None where it computes nothing. roles: all that `ModelSource` is asked for, whose checkpoints a spec may
    name, and must name of those in `needs` unless its settings do without. scoring: those of them that are reward
    models; the others write.
    metrics: what its objective measures beside the loss, by name; `train/NAME` and `val/NAME` are made of them.
    closed_form: whether `minimind.memory.plan.closed_form` tells what its step takes. remark: what is to be said at the
    end of a run, of its metrics on held-out rows at the beginning and at the end; "" for nothing. replays: whether it
    reads the plain text that `data.mix` puts among its rows; replays_chats: and conversations too. suiting: what else
    the preset should be for the settings of a spec, by dotted paths; a user's own word counts more. alarms: what the
    metrics so far give reason to warn of, with how many rows are held out, and what its source says of problems. look:
    what to say before a new run begins, as soon as its rows are tokenised; it raises ValueError where nothing could be
    learnt of them. words: what a setting means in it, by dotted path, where that is not what its field says.
    """

    title: str
    rows: str
    settings: type[StageSettings]
    preset: Callable[[str], RunSpec]
    continues: bool
    prompt: Callable[[Tokenizer, str], list[int]] | None
    sampling: Callable[[ModelConfig], Sampling]
    models: Callable[[RunSpec, ModelSource], dict[str, nn.Module]]
    objective: Callable[[RunSpec], Objective]
    data: Callable[[RunSpec, Corpus, Models, Parallel], Data]
    worst: Callable[[RunSpec], Batch]
    asks: Callable[[RunSpec], Asking | None] = _nothing
    beside: Callable[[RunSpec], Batch | None] = _none
    worst_take: Callable[[RunSpec, Models], object] | None = None
    roles: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    scoring: tuple[str, ...] = ()
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    closed_form: bool = False
    replays: bool = False
    replays_chats: bool = False
    suiting: Callable[[RunSpec], Mapping[str, Any]] = _as_it_is
    usable: Usable = learnable
    remark: Callable[[Mapping[str, float], Mapping[str, float]], str] | None = None
    alarms: Callable[[Series, int, Mapping[str, str]], list[Alarm]] | None = None
    look: Callable[[RunSpec, Corpus], Looked] = _as_they_are
    words: Mapping[str, str] = field(default_factory=dict)

    @property
    def writes(self) -> bool:
        """Whether its models write text: a reward model gives scores."""
        return self.prompt is not None
