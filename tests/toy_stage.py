"""A whole stage in one file: preferences, learnt against answers that the policy writes itself while it trains.

It is there to show that a stage is one file and one row, and to try what the bundled stages do not need: a frozen role,
pairs of answers, a metric of its own, and a source that generates.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from data.batches import OrderedBatches, in_order
from data.pack import learnable
from data.rows import PairRows
from data.shards import TokenShards
from data.split import hold_out
from jobs.stages import sft, supervised
from jobs.stages.preferences import METRICS
from jobs.stages.sampling import answering
from jobs.stages.spec import RunSpec, StageSettings
from jobs.stages.stage import DEFAULT_MODEL, Corpus, Data, HeldOut, ModelSource, Stage
from minimind.device.distributed import Parallel
from minimind.network.model import MiniMind
from minimind.training.answers import Answer, AnswerBatch, answer_batch, answer_logprobs, summed, worst_answers
from minimind.training.objectives import Loss, Models, Objective

STEPS_AHEAD = 2
"""Steps whose answers are written at once, with the same weights: between them a source holds what it has made."""


class ToyPreferenceConfig(StageSettings):
    """What the stage has to be told."""

    kind: Literal["toy_preference"] = "toy_preference"
    beta: float = Field(default=0.1, gt=0, description="how strongly the policy is held to its reference")
    answer_tokens: int = Field(default=6, ge=1, description="tokens that the policy writes as the worse answer")


def toy_preference(size: str = DEFAULT_MODEL) -> RunSpec:
    """The settings of SFT, but for what is measured."""
    spec = sft.sft(size)
    return spec.model_copy(
        update={
            "name": "toy_preference",
            "stage": ToyPreferenceConfig(),
            "data": spec.data.model_copy(update={"path": "data/samples/dpo.jsonl"}),
            "eval": spec.eval.model_copy(update={"best": "val/accuracy", "best_is": "highest"}),
        }
    )


def settings(spec: RunSpec) -> ToyPreferenceConfig:
    """The stage's own."""
    assert isinstance(spec.stage, ToyPreferenceConfig)
    return spec.stage


def models(spec: RunSpec, weights: ModelSource) -> dict[str, nn.Module]:
    """The policy, and the frozen model that it is compared with."""
    return {**supervised.models(spec, weights), "reference": weights.role("reference")}


def objective(spec: RunSpec) -> Objective:
    """DPO's loss (arXiv:2305.18290), summed over pairs."""
    beta = settings(spec).beta

    def preference(models: Models, batch: AnswerBatch) -> Loss:
        with torch.no_grad():
            reference_P = margins(models["reference"], batch)
        margin_P = margins(models["policy"], batch) - reference_P
        total = -F.logsigmoid(beta * margin_P).sum()
        pairs = torch.full_like(total, len(margin_P))
        return Loss(total, pairs, {"accuracy": ((margin_P > 0).sum().float(), pairs)})

    return preference


def margins(model: nn.Module, batch: AnswerBatch) -> Tensor:
    """[P], by how much the better answer of each pair is likelier than the worse one, in nats."""
    assert isinstance(model, MiniMind)
    answer_A = summed(answer_logprobs(model, batch), batch)
    return answer_A[0::2] - answer_A[1::2]


def data(spec: RunSpec, corpus: Corpus, models: Models, parallel: Parallel) -> Data:
    """Pairs whose worse side the policy writes, and held-out pairs as the file has them."""
    width = spec.data.max_seq_len
    training, measured = learnable(corpus.rows, width), corpus.held_out
    if measured is None:
        measured = corpus.rows
        training, held_out = hold_out(corpus.rows, spec.eval.fraction, spec.eval.max_documents, training)
    else:
        held_out = learnable(measured, width)

    def pairs(shards: TokenShards, chosen: Any) -> LonePairs:
        return LonePairs(shards, chosen, width, corpus.tokenizer.pad_id)

    share: dict[str, Any] = {
        "batch_size": spec.loop.batch_size,
        "rank": parallel.rank,
        "world": parallel.world,
    }
    rows = pairs(corpus.rows, training)
    ordered = OrderedBatches(rows, seed=spec.seed, epochs=spec.loop.epochs, **share)
    policy = models["policy"]
    assert isinstance(policy, MiniMind)
    return Data(
        WrittenPairs(rows, ordered, policy, settings(spec).answer_tokens),
        HeldOut(partial(in_order, pairs(measured, held_out), **share)),
    )


class LonePairs(PairRows):
    """One pair a row: there is room for whatever the policy writes."""

    def _length(self, place: int) -> int:
        return 2 * self.max_seq_len


class WrittenPairs:
    """Pairs in the order of their source; the worse side of each is what the policy writes after the prompt by now.

    Answers for STEPS_AHEAD steps are written with the same weights. answer_tokens: how long they are at most.
    """

    def __init__(
        self, rows: LonePairs, pairs: OrderedBatches[AnswerBatch], policy: MiniMind, answer_tokens: int
    ) -> None:
        self.rows, self.pairs, self.policy, self.answer_tokens = rows, pairs, policy, answer_tokens
        self.width = rows.max_seq_len
        self.rows_at_once = pairs.batch_size
        self.made: list[list[AnswerBatch]] = []

    @property
    def done(self) -> bool:
        """True when every pair has been taken; ranks that get none of a step make an empty one of it."""
        return self.pairs.done and not self.made

    def total_steps(self, accumulation_steps: int) -> int:
        """Those of the pairs."""
        return self.pairs.total_steps(accumulation_steps)

    def take(self, count: int) -> list[AnswerBatch]:
        """The next step of those that are made; where none is left, others are made first."""
        if not self.made:
            while len(self.made) < STEPS_AHEAD and not self.pairs.done:
                self.made.append([self._with_own_answers(batch) for batch in self.pairs.take(count)])
        return self.made.pop(0) if self.made else []

    def stop_reading_ahead(self) -> bool:
        """Nothing is prepared in a thread."""
        return self.pairs.stop_reading_ahead()

    def generate_less(self) -> str:
        """Write half as many answers at once."""
        if self.rows_at_once == 1:
            return ""
        self.rows_at_once = -(-self.rows_at_once // 2)
        return f"answers are written for {self.rows_at_once} prompts at once"

    def worst_take(self) -> None:
        """The last token of answers that fill their rows."""
        last_token(self.policy, self.rows_at_once, self.width)

    def state_dict(self) -> dict[str, Any]:
        """Where the pairs stand, what is made of them and not yet taken, and how much is made at once."""
        made = [[vars(batch) for batch in step] for step in self.made]
        return {"pairs": self.pairs.state_dict(), "made": made, "rows_at_once": self.rows_at_once}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where `state_dict` stood."""
        self.pairs.load_state_dict(state["pairs"])
        self.made = [[AnswerBatch(**batch) for batch in step] for step in state["made"]]
        self.rows_at_once = state["rows_at_once"]

    def _with_own_answers(self, batch: AnswerBatch) -> AnswerBatch:
        """The pairs with what the policy writes as their worse sides, as long as there is room."""
        offsets, places = self.rows.packing.row_offsets, self.rows.packing.piece_document
        better = [
            [self.rows.answers(place)[0] for place in places[offsets[row] : offsets[row + 1]]] for row in batch.rows
        ]
        flat = [answer for row in better for answer in row]
        own: list[Answer] = []
        for start in range(0, len(flat), self.rows_at_once):
            own += write(self.policy, flat[start : start + self.rows_at_once], self.answer_tokens, self.width)
        written = iter(own)
        pairs = [[[answer, next(written)] for answer in row] for row in better]
        return answer_batch(pairs, batch.rows, batch.tokens_BT.shape[1], self.rows.pad_id)


def write(policy: MiniMind, answers: list[Answer], answer_tokens: int, width: int) -> list[Answer]:
    """To the prompts of these answers those that take the likeliest token each time: of `answer_tokens` tokens, or as
    many as there is room for in `width`.
    """
    device = policy.head_weight_VD.device
    begin_B = torch.tensor([int(answer.targets.argmax()) for answer in answers])
    stop_B = (begin_B + answer_tokens).clamp(max=width)
    written_BT = torch.zeros(len(answers), width, dtype=torch.int64)
    for row, answer in enumerate(answers):
        written_BT[row, : begin_B[row]] = torch.from_numpy(answer.tokens[: begin_B[row]].astype("int64"))
    place_T = torch.arange(width)
    own_BT = (place_T >= begin_B[:, None]) & (place_T < stop_B[:, None])
    for place in range(int(begin_B.min()), int(stop_B.max())):
        next_B = likeliest(policy, written_BT[:, :place].to(device)).cpu()
        written_BT[:, place] = torch.where(own_BT[:, place], next_B, written_BT[:, place])
    return [
        Answer(written_BT[row, :stop].numpy(), own_BT[row, :stop].numpy()) for row, stop in enumerate(stop_B.tolist())
    ]


@torch.no_grad()
def likeliest(policy: MiniMind, tokens_BT: Tensor) -> Tensor:
    """[B], the token that the policy thinks likeliest to follow."""
    return policy.logits(policy(tokens_BT)[:, -1]).argmax(-1)


def worst(spec: RunSpec) -> AnswerBatch:
    """Rows that two answers fill, of which every token is predicted."""
    return worst_answers(spec.loop.batch_size, spec.data.max_seq_len)


def worst_take(spec: RunSpec, models: Models) -> None:
    """The last token of answers that fill their rows, for as many prompts as a batch has."""
    policy = models["policy"]
    assert isinstance(policy, MiniMind)
    last_token(policy, spec.loop.batch_size, spec.data.max_seq_len)


def last_token(policy: MiniMind, rows: int, width: int) -> None:
    """What of `write` takes most memory."""
    likeliest(policy, torch.ones(rows, width - 1, dtype=torch.int64, device=policy.head_weight_VD.device))


STAGE = Stage(
    title="a toy: answers of a file are preferred to those that the model writes itself",
    rows="dpo",
    settings=ToyPreferenceConfig,
    preset=toy_preference,
    continues=True,
    prompt=sft.question,
    sampling=answering,
    models=models,
    objective=objective,
    data=data,
    worst=worst,
    worst_take=worst_take,
    roles=("reference",),
    metrics={"accuracy": METRICS["accuracy"]},
)
