"""The distillation stage: a student learns from a teacher's distributions, of texts or of what it writes itself."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from data.batches import OrderedBatches
from data.pack import learnable
from data.row_values import RowsWithValues, RowValues, Values
from data.rows import PackedRows, PromptRows, Rows
from jobs.stages import sft, supervised
from jobs.stages.division import divided
from jobs.stages.sampling import answering
from jobs.stages.spec import RunSpec, StageSettings
from jobs.stages.stage import DEFAULT_MODEL, Asking, Corpus, Data, FiniteSource, ModelSource, Stage
from minimind.device.distributed import Parallel
from minimind.events import Metric
from minimind.language import say
from minimind.network.model import MiniMind
from minimind.text.tokenizer import Tokenizer
from minimind.training.batch import TokenBatch
from minimind.training.distillation import (
    TEACHER,
    Distillation,
    Projections,
    TaughtBatch,
    distil,
    states_that_predict,
    top_k_logprobs,
)
from minimind.training.objectives import Models, Objective
from minimind.training.rollout import PromptBatch, Rollouts, Writing, worst_writing

PROJECTIONS = "projections"
WRITTEN = ("max_new_tokens", "sampling_temperature")
"""What is for writing alone."""

ON_POLICY_RATE, ON_POLICY_PROMPTS = 0.3, 64
"""Of the rate that given texts take; and how many prompts a step answers at least. See docs/benchmarks.md."""

KEPT = 64
"""How many of a cached teacher's likeliest tokens are kept for each place, unless somebody says otherwise."""


class DistillConfig(StageSettings):
    """What the stage has to be told; the loss is in `minimind/training/distillation.py`."""

    kind: Literal["distill"] = "distill"
    cached: bool = Field(
        default=False,
        description="the teacher is not in memory beside the student: its likeliest tokens are computed once before "
        "the training and kept, the choice for a small card",
    )
    on_policy: bool = Field(
        default=False,
        description="the student writes the answers itself, and the teacher says what it thinks of them; unless they "
        f"are given, learning_rate is then {ON_POLICY_RATE} of what it is else, and accumulation_steps makes it "
        f"{ON_POLICY_PROMPTS} prompts a step",
    )
    alpha: float | None = Field(
        default=None,
        description="weight of the text's own tokens, the teacher's is 1 - alpha; default: 0.5, on policy 0, for what "
        "the student writes is no model to it",
    )
    temperature: float = Field(
        default=1.0, description="what the logits of both are divided by before they are compared"
    )
    beta: float | None = Field(
        default=None,
        description="how both are compared: 0 KL(teacher || student), 1 KL(student || teacher), in between generalised "
        "Jensen-Shannon; default: 0, on policy 1",
    )
    top_k: int | None = Field(
        default=None, description=f"how many of a cached teacher's likeliest tokens are kept; default: {KEPT}"
    )
    layers: tuple[tuple[int, int], ...] = Field(
        default=(), description="pairs [student's, teacher's] of hidden states that are matched too, such as [[2,4]]"
    )
    layer_weight: float = Field(default=1.0, description="weight of the matched hidden states")
    max_new_tokens: int = Field(default=64, ge=1, description="on policy: tokens of an answer at most")
    sampling_temperature: float = Field(default=1.0, gt=0, description="on policy: how freely the student writes")

    @model_validator(mode="after")
    def _fitting(self) -> DistillConfig:
        self.distillation  # noqa: B018  # says what is out of range
        beside = (
            (
                "on_policy",
                self.on_policy and self.cached,
                say("not with cached, for what the student writes is not known beforehand"),
            ),
            (
                "layers",
                self.layers and self.cached,
                say("not with cached, which keeps of the teacher its tokens alone"),
            ),
            (
                "top_k",
                self.top_k is not None and not self.cached,
                say("it is for cached alone: a teacher in memory tells of all tokens"),
            ),
            (
                "alpha",
                self.alpha and self.on_policy,
                say("with on_policy it is 0, for what the student writes is no model to it"),
            ),
            *(
                (name, not self.on_policy and self._is_given(name), say("it is for on_policy alone"))
                for name in WRITTEN
            ),
            ("layer_weight", not self.layers and self._is_given("layer_weight"), say("no layers are matched")),
        )
        for name, is_wrong, problem in beside:
            if is_wrong:
                raise ValueError(
                    say("{name} = {value}: {problem}", name=name, value=getattr(self, name), problem=problem)
                )
        return self

    def _is_given(self, name: str) -> bool:
        """Whether it is not what it is where nobody says anything."""
        return bool(getattr(self, name) != type(self).model_fields[name].default)

    @property
    def distillation(self) -> Distillation:
        """The loss."""
        own_texts = 0.0 if self.on_policy else 0.5
        return Distillation(
            alpha=own_texts if self.alpha is None else self.alpha,
            temperature=self.temperature,
            beta=float(self.on_policy) if self.beta is None else self.beta,
            top_k=(KEPT if self.top_k is None else self.top_k) if self.cached else None,
            layers=self.layers,
            layer_weight=self.layer_weight,
        )


def distill(size: str = DEFAULT_MODEL) -> RunSpec:
    """The settings of SFT, but for what is measured."""
    spec = sft.sft(size)
    evaluation = spec.eval.model_copy(update={"best": "val/cross_entropy"})
    return spec.model_copy(update={"name": "distill", "stage": DistillConfig(), "eval": evaluation})


def suiting(spec: RunSpec) -> dict[str, Any]:
    """On policy a lower rate, and more prompts in a step than a step of SFT has rows."""
    if not settings(spec).on_policy:
        return {}
    return {
        "optim.learning_rate": float(f"{ON_POLICY_RATE * spec.optim.learning_rate:.6g}"),
        "loop.accumulation_steps": -(-ON_POLICY_PROMPTS // spec.loop.batch_size),
    }


def settings(spec: RunSpec) -> DistillConfig:
    """The stage's own."""
    assert isinstance(spec.stage, DistillConfig)
    return spec.stage


def models(spec: RunSpec, weights: ModelSource) -> dict[str, nn.Module]:
    """The student, its teacher where that is to be in memory, and what maps hidden states of one to the other's."""
    found, own = supervised.models(spec, weights), settings(spec)
    if own.cached and spec.data.mix:
        raise ValueError(
            say("data.mix = {mix}: a cached teacher has not read the text that is replayed", mix=spec.data.mix)
        )
    if own.on_policy and spec.data.mix:
        raise ValueError(
            say("data.mix = {mix}: on policy the student writes all that it learns from", mix=spec.data.mix)
        )
    if (kept := own.distillation.top_k) is not None and kept >= spec.model.vocab_size:
        raise ValueError(
            say("stage.top_k = {top_k}: there are {count} tokens; take fewer", top_k=kept, count=spec.model.vocab_size)
        )
    if not own.cached:
        found[TEACHER] = teacher = weights.role(TEACHER)
        if own.layers:
            width = teacher.config.hidden_size
            drawn = torch.Generator().manual_seed(spec.seed)
            found[PROJECTIONS] = Projections(len(own.layers), spec.model.hidden_size, width, drawn)
    return found


def objective(spec: RunSpec) -> Objective:
    """What the text says, and what the teacher thinks of it."""
    return partial(distil, distillation=settings(spec).distillation)


def asks(spec: RunSpec) -> Asking | None:
    """The teacher's likeliest tokens, where it is not to be in memory beside the student."""
    own = settings(spec)
    kept = own.distillation.top_k
    if kept is None:
        return None

    def ask(teacher: MiniMind, batch: TokenBatch) -> tuple[Tensor, Values]:
        (hidden_ND,) = states_that_predict(teacher, batch, ())
        ids_NK, logprobs_NK = top_k_logprobs(hidden_ND, teacher.head_weight_VD, kept, own.temperature)
        return batch.predicted_N // batch.tokens_BT.shape[1], {"ids": ids_NK.to(torch.int32), "logprobs": logprobs_NK}

    identity = {"top_k": kept, "temperature": own.temperature}
    return Asking(TEACHER, ask, partial(supervised.packed, spec), token_bytes=8 * kept, identity=identity)


def data(spec: RunSpec, corpus: Corpus, models: Models, parallel: Parallel) -> Data:
    """Packed conversations as SFT reads them, with what a cached teacher says; on policy prompts, which the student
    answers.
    """
    training, held_out = map(_with_known, supervised.packed(spec, corpus), corpus.known or (None, None))
    batches: FiniteSource = supervised.batches(spec, training, parallel)
    if settings(spec).on_policy:
        batches = Rollouts(_prompts(spec, corpus, parallel), models, writing(spec, corpus.tokenizer))
    return Data(
        batches, supervised.measured(spec, held_out, parallel), supervised.held_out_text(spec, corpus, parallel)
    )


def _prompts(spec: RunSpec, corpus: Corpus, parallel: Parallel) -> OrderedBatches[PromptBatch]:
    rows, _, _ = divided(spec, corpus, learnable)
    return OrderedBatches(
        PromptRows(corpus.rows, rows, spec.data.max_seq_len, corpus.tokenizer.pad_id),
        batch_size=spec.loop.batch_size,
        seed=spec.seed,
        epochs=spec.loop.epochs,
        rank=parallel.rank,
        world=parallel.world,
    )


def _with_known(rows: PackedRows, values: RowValues | None) -> Rows[TokenBatch]:
    return rows if values is None else RowsWithValues(rows, values, _add)


def _add(batch: TokenBatch, values: Values) -> TaughtBatch:
    return TaughtBatch.of(batch, values["ids"], values["logprobs"])


def writing(spec: RunSpec, tokenizer: Tokenizer | None = None) -> Writing:
    """How the student writes. tokenizer: None for a plan, which writes nothing."""
    own = settings(spec)
    return Writing(
        seed=spec.seed,
        answers=1,
        max_tokens=own.max_new_tokens,
        context_tokens=spec.data.max_seq_len,
        stop_id=tokenizer.eos_id if tokenizer else 0,
        temperature=own.sampling_temperature,
        pad_id=tokenizer.pad_id if tokenizer else 0,
    )


def worst(spec: RunSpec) -> TokenBatch:
    """Full rows, of which every token is predicted."""
    batch, own = supervised.worst(spec), settings(spec)
    if own.distillation.top_k is None:
        return batch
    shape = (len(batch.predicted_N), own.distillation.top_k)
    return TaughtBatch.of(batch, torch.ones(shape, dtype=torch.int32), torch.zeros(shape))


def worst_take(spec: RunSpec, models: Models) -> None:
    """What the student's writing takes."""
    if settings(spec).on_policy:
        policy = models["policy"]
        assert isinstance(policy, MiniMind)
        worst_writing(policy, writing(spec))


def remark(first: Mapping[str, float], last: Mapping[str, float]) -> str:
    """That the student is further from its teacher than it was, where it is."""
    was, now = first.get("divergence", 0.0), last.get("divergence", 0.0)
    if not now > was:
        return ""
    return say(
        "The student is further from its teacher than at the beginning: {was:.2f} nats per token then, {now:.2f} now. "
        "A lower --learning_rate helps.",
        was=was,
        now=now,
    )


STAGE = Stage(
    title="learn from a larger model: its distributions, of given texts or of what the student writes itself",
    rows="sft",
    settings=DistillConfig,
    preset=distill,
    continues=True,
    prompt=sft.question,
    sampling=answering,
    models=models,
    asks=asks,
    objective=objective,
    data=data,
    worst=worst,
    worst_take=worst_take,
    roles=(TEACHER,),
    needs=(TEACHER,),
    suiting=suiting,
    replays=True,
    remark=remark,
    metrics={
        "cross_entropy": Metric("nats/token", "how likely the student finds the texts", "lower"),
        "divergence": Metric("nats/token", "how far the student is from its teacher", "lower"),
        "agreement": Metric("", "how often the student's likeliest token is its teacher's", "higher"),
        "layer_distance": Metric("", "1 - cosine of matched hidden states", "lower"),
    },
)
