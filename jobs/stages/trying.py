"""What stages share that learn by trying: prompts, the policy's own answers, and the reward that these bring."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from shlex import quote
from typing import Any
from weakref import finalize

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator
from torch import Tensor, nn

from data.batches import OrderedBatches, in_order
from data.encode import Tool as ListedTool
from data.rows import PromptRows
from jobs import paths
from jobs.endpoints.judge import JudgeScorer
from jobs.stages import flags, preferences, prompts, sft, supervised
from jobs.stages.preferences import REFERENCE
from jobs.stages.prompts import AttemptReader
from jobs.stages.sampling import answering
from jobs.stages.spec import RunSpec, StageSettings
from jobs.stages.stage import Answers, Corpus, Data, HeldOut, Looked, ModelSource, Stage
from minimind.device.distributed import Parallel
from minimind.events import Metric
from minimind.inference.reward import worst_scoring
from minimind.language import say
from minimind.network.model import MiniMind
from minimind.network.score import ScoreModel
from minimind.rewards.judging import Judged, Rewards, Scorer
from minimind.rewards.model import ENDING, ModelScorer
from minimind.rewards.terms import (
    TERMS,
    Attempt,
    Judge,
    Python,
    RewardModel,
    Term,
    names_of,
    parse_term,
    require_telling,
)
from minimind.text.tokenizer import Tokenizer
from minimind.tools.kinds import Lookup, Tool, parse_tools
from minimind.tools.toolbox import Toolbox
from minimind.training.alarms import alarms
from minimind.training.answers import AnswerBatch, answer_states, state_logprobs
from minimind.training.attempts import Attempts, Credit, Trying, Verdict, examined
from minimind.training.batch import worst_batch
from minimind.training.gate import Gate
from minimind.training.objectives import Loss, Models, Objective
from minimind.training.policy import JudgedBatch, PolicyBatch, PolicyLoss, policy_loss
from minimind.training.replay import Beside, BesideBatch, beside_loss
from minimind.training.rollout import SLOTS, PromptSource, Writer, Writing, Written, worst_writing
from minimind.training.signal import RIGHT

REWARD_MODEL = "reward_model"

HELD_OUT = 0.1
"""Share of the prompts: there are fewer of them than of conversations."""

LEAST_HELD_OUT = 100
"""Of so many prompts one is a point of the share that is answered right; of ten it is ten."""

RIGHT_BY = "contains"
"""What says whether an answer is right, unless a user does: a model that was taught to answer in sentences seldom says
the right answer and nothing else.
"""

MOST_ALIKE = 4
"""How many terms of one kind a reward may have."""

METRICS = {
    "reward": Metric("", "mean reward of an answer; of held-out prompts of the likeliest one", None),
    "right": Metric("", "share of held-out prompts whose likeliest answer is right", "higher"),
    "right_known": Metric("", "share of held-out prompts of whose answer it could be told whether it is right", None),
    "facts": Metric("", "share of the questions of eval.facts_path that are answered right", "higher"),
    "answer_tokens": Metric("tokens", "how long an answer is", None),
    "cut_off": Metric("", "share of answers that had not ended when there was no more room", None),
    "repetition": Metric("", "share of an answer's stretches of 4 tokens that stood in it before", None),
    "tool_calls": Metric("", "calls of tools in an answer", None),
    "tool_errors": Metric("", "share of the calls of tools that failed", None),
    "not_judged": Metric("", "judgements per answer that could not be made: they neither reward nor punish", None),
    "no_signal": Metric("", "share of the groups whose rewards are all the same: nothing is learnt from them", None),
    "stopped": Metric("", "share of the passes that were left out because the policy had moved too far", None),
    "entropy": Metric("nats/token", "how unsure the policy is of what it writes", None),
    "clip_low": Metric("", "share of tokens that became too unlikely to be learnt on", None),
    "clip_high": Metric("", "share of tokens that became too likely to be learnt on", None),
    "gap": Metric("nats/token", "how far what was drawn from is from what is trained", "lower"),
    "gap_clipped": Metric("", "share of tokens whose gap is too large to be made good", "lower"),
    "kl": preferences.METRICS["kl"],
    "replayed_loss": Metric("nats/token", "loss of what is replayed", "lower"),
} | {
    f"{what}_{name}{number}": Metric("", meaning, None)
    for what, meaning in (
        ("reward", "one term of the reward, before its weight"),
        ("not_judged", "share of the answers that this term could not judge"),
    )
    for name in TERMS
    for number in ("", *(f"_{at}" for at in range(2, MOST_ALIKE + 1)))
}
"""What all of these stages measure."""


WORDS = {
    "data.path": "prompts with their right answers, or conversations that end in them: .jsonl, .jsonl.gz or .parquet, "
    "or a folder of either; in a job a relative path counts from MINIMIND_HOME",
    "data.max_seq_len": "tokens of a prompt and an answer to it, together at most; prompts that leave no room for an "
    "answer are left out",
    "loop.batch_size": "prompts whose answers are learnt from in one forward pass on one worker",
    "loop.accumulation_steps": "forward passes per optimizer step, each over the answers to as many prompts",
    "loop.epochs": "how often each prompt is tried",
    "seed": "decides the order of the prompts, and what answers are drawn",
}
"""What settings mean where prompts are tried, and no rows are learnt."""


class TryingSettings(StageSettings):
    """Base of the settings of stages that learn by trying."""

    rewards: tuple[dict[str, Any], ...] = Field(
        default=({"is": RIGHT_BY},),
        min_length=1,
        description='what an answer is rewarded for: terms {"is": NAME, "weight": 1, ...}, of which the first says '
        "whether it is right; names: minimind/rewards/terms.py",
    )
    code_path: str | None = Field(
        default=None,
        description="the folder with the modules of terms `python`; default: the one from which the run is started, in "
        "a job MINIMIND_HOME",
    )
    max_new_tokens: int = Field(default=64, ge=1, description="tokens of an answer at most")
    tools: tuple[dict[str, Any], ...] = Field(
        default=(),
        description='what an answer may call, and prompts list: {"is": NAME, ...}; names: minimind/tools/kinds.py',
    )
    max_calls: int = Field(default=4, ge=1, description="calls of tools in an answer at most")
    tool_tokens: int = Field(
        default=64, ge=1, description="tokens that the model reads of a call at most, the template's words among them"
    )
    passes: int = Field(default=1, ge=1, description="optimizer steps on each set of answers")
    stop_kl: float | None = Field(
        default=None,
        gt=0,
        description="with several passes: no more on a set of answers once the policy is further than this from what "
        "wrote them, in nats per token; null: all passes",
    )
    learn_cut: bool = Field(default=True, description="whether answers that had not ended are learnt from")
    loss: PolicyLoss = Field(default=PolicyLoss(), description="what the answers are learnt by")
    mix_weight: float = Field(
        default=0.1,
        gt=0,
        description="what the mean loss of what data.mix replays counts beside that of the answers",
    )
    truth: dict[str, Any] | None = Field(
        default=None,
        description='what says whether a held-out answer is right, where that is not the first term: {"is": NAME, ...}',
    )
    gate: Gate | None = Field(
        default=Gate(), description="what becomes of a run that gets worse: it goes back to a good checkpoint; off"
    )

    @field_validator("gate", mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        if isinstance(value, str) and value not in ("off", "0"):
            raise ValueError(
                say("{value!r} is no gate: off turns it off, stage.gate.right=0.2 and the like change it", value=value)
            )
        return None if value in ("off", False, 0, "0") else value

    @field_validator("truth")
    @classmethod
    def _truth(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None:
            kind = type(parse_term(value))
            if issubclass(kind, RewardModel | Judge):
                by_itself = [
                    name
                    for name, known in TERMS.items()
                    if not (known.punishes or issubclass(known, RewardModel | Judge))
                ]
                raise ValueError(
                    say(
                        "{kind} is another model's opinion and may be wrong: what is true is told by one of {names}",
                        kind=value["is"],
                        names=", ".join(by_itself),
                    )
                )
        return value

    @field_validator("rewards")
    @classmethod
    def _terms(cls, value: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
        kinds = [type(parse_term(term)) for term in value]
        for kind in kinds:
            most = 1 if kind is RewardModel else MOST_ALIKE  # a run has one
            if kinds.count(kind) > most:
                raise ValueError(
                    say(
                        "{count} terms of the kind {kind}: at most {most}",
                        count=kinds.count(kind),
                        kind=next(name for name, known in TERMS.items() if known is kind),
                        most=most,
                    )
                )
        return value

    @field_validator("tools")
    @classmethod
    def _tools(cls, value: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
        parse_tools(value)
        return value

    @cached_property
    def terms(self) -> tuple[Term, ...]:
        """The reward's terms."""
        return tuple(parse_term(term) for term in self.rewards)

    @cached_property
    def called(self) -> tuple[Tool, ...]:
        """What an answer may call; the paths of tables count from MINIMIND_HOME."""
        return parse_tools(self.tools)

    @property
    def offers(self) -> tuple[ListedTool, ...]:
        """The tools."""
        return tuple(tool.listed for tool in self.called)

    @property
    def files(self) -> dict[str, str]:
        """The tables of tools."""
        return flags.tables_of({flags.TOOLS: self.tools})

    def require_telling(self) -> None:
        """Raise ValueError where what is to say whether an answer is right cannot. Runs from before may have that."""
        require_telling(parse_term(self.truth) if self.truth is not None else self.terms[0])

    def require_files(self) -> None:
        """Raise ValueError where a table is not there, or is none."""
        for tool in self.called:
            if isinstance(tool, Lookup):
                tool.require_table(paths.existing(tool.table, say("table of the tool {name}", name=tool.name)))

    def require_code(self) -> None:
        """Raise ValueError where the function of a term `python` is not there, or cannot be imported."""
        if codes := [term for term in self.judging if isinstance(term, Python)]:
            judging_by(self, codes).close()

    @property
    def judging(self) -> tuple[Term, ...]:
        """The reward's terms, and what else says what is right."""
        return (*self.terms, *([parse_term(self.truth)] if self.truth is not None else []))

    @property
    def told_tokens(self) -> int:
        """What an answer may be told, in tokens."""
        return self.max_calls * self.tool_tokens if self.tools else 0

    @property
    def held_to(self) -> Gate | None:
        """The gate."""
        return self.gate

    @property
    def answers(self) -> int:
        """To each prompt at one time."""
        return 1

    @property
    def most_draws(self) -> int:
        """How often at most prompts are drawn for a step."""
        return 1

    @property
    def has_reward_model(self) -> bool:
        """Whether a term is a reward model's score."""
        return any(isinstance(term, RewardModel) for term in self.terms)

    @property
    def does_without(self) -> tuple[str, ...]:
        """The reference, where the policy is not held to it; the reward model, where no term is its score."""
        return (
            *(() if self.loss.kl else (REFERENCE,)),
            *(() if self.has_reward_model else (REWARD_MODEL,)),
        )


def settings(spec: RunSpec) -> TryingSettings:
    """The stage's own."""
    assert isinstance(spec.stage, TryingSettings)
    return spec.stage


PROMPTS, STEPS = 32, 25
"""Prompts of a step as presets have it, and steps of a run from which something is learnt."""


def epochs_for(rows: int) -> int:
    """Epochs in which the prompts of so many rows, of which some are held out, make a run of some STEPS steps."""
    held_out = min(max(HELD_OUT * rows, LEAST_HELD_OUT), rows / 3)
    return max(1, math.ceil(STEPS * PROMPTS / max(1.0, rows - held_out)))


LOGGED = 2
"""Steps between two rows of metrics: such runs are short, and alarms look at the last ten steps."""


def preset(name: str, stage: StageSettings, size: str) -> RunSpec:
    """The settings of SFT, but for its rate, its data and what is measured."""
    spec, small = sft.sft(size), size == "tiny"
    return spec.model_copy(
        update={
            "name": name,
            "stage": stage,
            "data": spec.data.model_copy(update={"path": "data/stock/rl.jsonl", "max_seq_len": 128 if small else 512}),
            "optim": spec.optim.model_copy(
                update={"learning_rate": 7e-4 if small else 3e-5, "decay": 1.0, "final": 0.1}
            ),
            "loop": spec.loop.model_copy(
                update={
                    "batch_size": PROMPTS if small else PROMPTS // 8,
                    "accumulation_steps": 1 if small else 8,
                    "epochs": 1,
                    "log_interval": LOGGED,
                }
            ),
            "eval": spec.eval.model_copy(
                update={
                    "best": "val/right",
                    "best_is": "highest",
                    "fraction": HELD_OUT,
                    "least_documents": LEAST_HELD_OUT,
                }
            ),
        }
    )


def models(spec: RunSpec, weights: ModelSource) -> dict[str, nn.Module]:
    """The policy, where it is held to one the frozen model that it began as, and the reward model of a term."""
    found, own = supervised.models(spec, weights), settings(spec)
    if own.loss.kl and (spec.adapter is None or REFERENCE in spec.roles):
        found[REFERENCE] = weights.role(REFERENCE)
    if not own.has_reward_model:
        return found
    found[REWARD_MODEL] = model = weights.scoring(REWARD_MODEL)
    if model.config.max_position_embeddings < spec.data.max_seq_len + ENDING:
        raise ValueError(
            say(
                "data.max_seq_len = {width}: the reward model reads at most {most} tokens, and needs {more} more than "
                "these for the end of an answer; set it to at most {fits}",
                width=spec.data.max_seq_len,
                most=model.config.max_position_embeddings,
                more=ENDING,
                fits=model.config.max_position_embeddings - ENDING,
            )
        )
    return found


def objective(spec: RunSpec) -> Objective:
    """The policy's loss; of held-out answers minus their reward."""
    how = settings(spec).loss

    return objective_of(lambda models, batch: attempted(how, models, batch)[0])


def objective_of(loss: Callable[[Models, PolicyBatch], Loss]) -> Objective:
    """The objective of a stage that tries. loss: of attempts."""

    def of_any(models: Models, batch: PolicyBatch | BesideBatch | JudgedBatch) -> Loss:
        if isinstance(batch, JudgedBatch):
            return batch.loss
        if isinstance(batch, BesideBatch):
            return beside_loss(models, batch)
        return loss(models, batch)

    return of_any


def attempted(how: PolicyLoss, models: Models, batch: PolicyBatch) -> tuple[Loss, Tensor]:
    """The policy's loss, and its states before the tokens that it learns."""
    policy = models["policy"]
    assert isinstance(policy, MiniMind)
    reference_M = preferences.reference_logprobs(models, batch) if how.kl else None
    state_ND = answer_states(policy, batch)
    return policy_loss(how, batch, state_logprobs(policy, state_ND, batch), reference_M), state_ND


class TermJudge(AttemptReader):
    """Judges answers by the terms of a reward, with the data's right answers beside them. begun: whether the run has
    tried a prompt, in this process or in one before it: then what judges has worked, and may be away for a while.
    """

    def __init__(
        self,
        rewards: Rewards,
        rows: PromptRows,
        tokenizer: Tokenizer,
        begun: Callable[[], bool],
        scorer: ModelScorer | None = None,
    ) -> None:
        super().__init__(rows, tokenizer)
        self.rewards, self.begun, self.scorer = rewards, begun, scorer
        self.names, self.weight_K = rewards.names, np.array(rewards.weights)
        self._has_judged: set[Rewards] = set()

    def judge(self, written: Sequence[Written]) -> Verdict:
        """What each term says of each answer."""
        judged = self._judged(self.rewards, written)
        problems = {
            name: self.rewards.problems[name]
            for name, failed in zip(self.names, judged.failed_K, strict=True)
            if failed
        }
        return Verdict(judged.values_KA, judged.failed_KA, problems)

    def _judged(self, rewards: Rewards, written: Sequence[Written]) -> Judged:
        """What rewards say of answers, of which the first term says what is right. Raises ValueError where it could
        tell of none of the first, before any prompt is tried.
        """
        judged = rewards.judge([self.attempt(one) for one in written], [one.row for one in written])
        if written and judged.failed_KA[0].all() and rewards not in self._has_judged and not self.begun():
            raise ValueError(
                say(
                    "the reward {name}, which says what is right, could judge none of the first {count} answers: "
                    "{problem}",
                    name=rewards.names[0],
                    count=len(written),
                    problem=rewards.problems[rewards.names[0]],
                )
            )
        if written:
            self._has_judged.add(rewards)
        return judged

    def worst(self) -> None:
        """What the reward model takes, where there is one."""
        if self.scorer is not None:
            self.scorer.worst()

    def texts(self, one: Written) -> tuple[str, str, str]:
        """The last turn before the answer, the answer and the right one; of each what is said, not what is thought."""
        attempt = self.attempt(one)
        return attempt.answer.prompt, attempt.answer.text, attempt.reference


class HeldOutJudge(TermJudge):
    """Judges answers to held-out prompts. truth: what says whether they are right; None: the first term."""

    def __init__(
        self,
        rewards: Rewards,
        rows: PromptRows,
        tokenizer: Tokenizer,
        begun: Callable[[], bool],
        scorer: ModelScorer | None = None,
        truth: Rewards | None = None,
    ) -> None:
        super().__init__(rewards, rows, tokenizer, begun, scorer)
        self.truth = truth

    def right(self, written: Sequence[Written], verdict: Verdict) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """What scores 1, and what has a score. Raises ValueError where none of the first has."""
        value_A, failed_A = verdict.value_KA[0], verdict.failed_KA[0]
        if self.truth is not None:
            judged = self._judged(self.truth, written)
            value_A, failed_A = judged.values_KA[0], judged.failed_KA[0]
        return value_A >= RIGHT, ~failed_A


def data(
    spec: RunSpec,
    corpus: Corpus,
    models: Models,
    parallel: Parallel,
    source: Callable[[RunSpec, PromptRows, Writer, Parallel], tuple[PromptSource, Credit]],
) -> Data:
    """Prompts and how answers to them are credited; measured by the likeliest answers to held-out prompts."""
    own = settings(spec)
    training, examining = prompts.split(spec, corpus)
    facts = prompts.facts(spec, corpus)
    tools = toolbox(own, corpus.tokenizer)
    writer = Writer(models, writing(spec, corpus.tokenizer), tools)
    if tools is not None:
        finalize(writer, tools.close)
    asked, credit = source(spec, training, writer, parallel)
    scorer = model_scorer(spec, corpus.tokenizer, writer)
    rewards = judging_by(own, own.terms, scorers(own.terms, scorer))

    def begun() -> bool:
        return asked.position > 0

    judge = TermJudge(rewards, training, corpus.tokenizer, begun, scorer)
    truth = judging_by(own, [parse_term(own.truth)]) if own.truth is not None else None
    for user_code in filter(None, (rewards, truth)):
        finalize(judge, user_code.close)  # where it comes too soon, the next answers start user code again
    return Data(
        Attempts(
            asked,
            writer,
            judge,
            credit,
            Trying(own.passes, own.stop_kl, own.learn_cut, own.most_draws, first_is_true=own.truth is None),
            parallel,
            per=own.loss.per,
            beside=beside(spec, corpus, parallel) if spec.data.mix else None,
        ),
        asking(examining, writer, HeldOutJudge(rewards, examining, corpus.tokenizer, begun, scorer, truth), parallel),
        supervised.held_out_text(spec, corpus, parallel),
        _expected(spec, training, [examining, *filter(None, [facts])], credit.first_answers),
        asking(facts, writer, fact_judge(own, facts, corpus.tokenizer), parallel) if facts is not None else None,
    )


def asking(rows: PromptRows, writer: Writer, judge: HeldOutJudge, parallel: Parallel) -> HeldOut:
    """What is told of the likeliest answers to held-out prompts."""
    at_once = max(1, min(EXAMINED_AT_ONCE, -(-rows.count // parallel.world)))
    batches = partial(in_order, rows, batch_size=at_once, rank=parallel.rank, world=parallel.world)
    return HeldOut(partial(examined, batches, writer, judge), rows=rows.count)


def fact_judge(own: TryingSettings, facts: PromptRows, tokenizer: Tokenizer) -> HeldOutJudge:
    """Judges answers to questions whose answers the weights knew: whatever a run rewards, they are to say these."""
    return HeldOutJudge(judging_by(own, [parse_term({"is": RIGHT_BY})]), facts, tokenizer, lambda: True)


def look(spec: RunSpec, corpus: Corpus) -> Looked:
    """What there is to say before a run begins: how many prompts are held out, and whether what says what is right, the
    first term and `truth`, can read the right answers. Raises ValueError where it can read none.
    """
    own = settings(spec)
    terms = [(names_of(own.terms)[0], own.terms[0])]
    if own.truth is not None:
        truth = parse_term(own.truth)
        terms.append((f"{names_of([truth])[0]} (stage.truth)", truth))
    looked = prompts.look(spec, corpus, terms)
    if own.truth is None and isinstance(own.terms[0], RewardModel | Judge):
        opinion = say(
            "What says whether an answer is right is the first term, {name}: another model's opinion, which may be "
            "wrong, and right from a score of 1. val/right, the gate and the alarms go by it. Where it can be told "
            "what is true, name that with --set stage.truth",
            name=terms[0][0],
        )
        looked = replace(looked, warnings=[*looked.warnings, opinion])
    return looked


def model_scorer(spec: RunSpec, tokenizer: Tokenizer, writer: Writer) -> ModelScorer | None:
    """What scores answers with the reward model, as many at once as are written at once; None where there is none, as
    in a forecast, which has no models.
    """
    model = writer.models.get(REWARD_MODEL)
    if model is None:
        return None
    assert isinstance(model, ScoreModel)
    return ModelScorer(model, tokenizer, spec.data.max_seq_len, lambda: writer.slots)


def scorers(terms: Sequence[Term], of_model: ModelScorer | None) -> dict[str, Scorer]:
    """What judges for the terms that are judged elsewhere, by their names. Keys of judges are in this process's
    environment.
    """
    found: dict[str, Scorer] = {}
    for term, name in zip(terms, names_of(terms), strict=True):
        if isinstance(term, Judge):
            found[name] = JudgeScorer(term, os.environ)
        elif isinstance(term, RewardModel):
            found[name] = of_model or _no_scorer
    return found


def _no_scorer(attempts: Sequence[Attempt]) -> Sequence[float]:
    raise TypeError("where there are no models nothing is judged")


def judging_by(own: TryingSettings, terms: Sequence[Term], scorers: Mapping[str, Scorer] | None = None) -> Rewards:
    """What judges by terms. Raises ValueError, with what to do, where a function of the user's is not there."""
    folder = code_folder(own)
    try:
        return Rewards(terms, scorers=scorers, folder=folder)
    except ValueError as error:
        raise ValueError(
            say(
                "stage.rewards or stage.truth, a term python: {problem}. Mend it on {machine}, or name the folder that "
                "its module is in with --set stage.code_path=FOLDER",
                problem=error,
                machine=socket.gethostname(),
            )
        ) from None


def code_folder(own: TryingSettings) -> Path:
    """Where the functions of terms are looked for. Raises ValueError where there are some, and it is not there."""
    folder = paths.absolute(own.code_path or "")
    if any(isinstance(term, Python) for term in own.judging) and not folder.is_dir():
        raise ValueError(
            say(
                "stage.code_path = {folder}: there is no such folder on {machine}, and the functions of stage.rewards "
                "are looked for there. Put them where every machine of the cluster has them, such as below "
                "MINIMIND_HOME, and name their folder with --set stage.code_path=FOLDER",
                folder=folder,
                machine=socket.gethostname(),
            )
        )
    return folder


def beside(spec: RunSpec, corpus: Corpus, parallel: Parallel) -> Beside:
    """What is replayed beside attempts: of the rows of a step as large a share as `data.mix` says."""
    rows = supervised.replayed(spec, corpus)
    text = OrderedBatches(  # every worker reads all of it
        rows, batch_size=text_rows(spec), seed=spec.seed, epochs=ENDLESS, replay=HALF if rows.beside else 0.0
    )
    return Beside(text, settings(spec).mix_weight, spec.loop.batch_size, rank=parallel.rank, world=parallel.world)


ENDLESS = 1 << 31
"""Epochs of what is replayed: more than any run reads."""

HALF = 0.5
"""Of the replayed rows are plain text where others are conversations."""


def text_rows(spec: RunSpec) -> int:
    """How many rows of text a step replays, on all workers together."""
    return max(1, round(spec.global_batch_size * spec.data.mix / (1 - spec.data.mix))) if spec.data.mix else 0


def _expected(spec: RunSpec, training: PromptRows, asked: Sequence[PromptRows], first: int) -> Answers:
    """What will be read and written if answers turn out as long as the right ones. asked: at each validation. first:
    answers to each prompt before the first step.
    """
    own = settings(spec)
    prompt_R, answer_R = training.lengths(own.max_new_tokens)
    written = own.answers * int(answer_R.sum())
    examined = sum(int(rows.lengths(own.max_new_tokens)[1].sum()) for rows in asked)
    text = training.count * text_rows(spec) // spec.global_batch_size * spec.data.max_seq_len
    trained = own.passes * (int(prompt_R.sum()) + written + text)
    return Answers(trained, written, examined, first * int(answer_R.sum()))


EXAMINED_AT_ONCE = 64
"""Held-out prompts at most; fewer where some workers would get none."""


def in_turn(spec: RunSpec, rows: PromptRows, parallel: Parallel) -> PromptSource:
    """Every prompt once an epoch."""
    return OrderedBatches(
        rows,
        batch_size=spec.loop.batch_size,
        seed=spec.seed,
        epochs=spec.loop.epochs,
        rank=parallel.rank,
        world=parallel.world,
    )


def toolbox(own: TryingSettings, tokenizer: Tokenizer) -> Toolbox | None:
    """What answers may call; None where that is nothing. Raises ValueError where a table is not there: on another
    machine than that which began the run it may not be.
    """
    if not own.called:
        return None
    own.require_files()
    found = [
        tool.model_copy(update={"table": str(paths.absolute(tool.table))}) if isinstance(tool, Lookup) else tool
        for tool in own.called
    ]
    return Toolbox(found, tokenizer, own.tool_tokens)


def writing(spec: RunSpec, tokenizer: Tokenizer | None = None) -> Writing:
    """How answers are written. tokenizer: None for a plan, which writes nothing."""
    own = settings(spec)
    return Writing(
        seed=spec.seed,
        answers=own.answers,
        max_tokens=own.max_new_tokens,
        context_tokens=spec.data.max_seq_len,
        stop_id=tokenizer.eos_id if tokenizer else 0,
        pad_id=tokenizer.pad_id if tokenizer else 0,
        max_calls=own.max_calls if own.tools else 0,
    )


def worst(spec: RunSpec) -> AnswerBatch:
    """As many rows as there are prompts, each as long as a prompt and answers to it can be."""
    own = settings(spec)
    return PolicyBatch.worst(
        spec.loop.batch_size,
        spec.data.max_seq_len,
        own.answers,
        own.max_new_tokens,
        old=own.passes > 1,
        told=own.told_tokens,
    )


def worst_text(spec: RunSpec) -> BesideBatch | None:
    """As many rows of text as are learnt at once; None where nothing is replayed."""
    rows = min(text_rows(spec), spec.loop.batch_size)
    return BesideBatch(**vars(worst_batch(rows, spec.data.max_seq_len)), unit=1.0) if rows else None


def worst_take(spec: RunSpec, models: Models) -> None:
    """What writing takes, and scoring what was written."""
    policy = models["policy"]
    assert isinstance(policy, MiniMind)
    worst_writing(policy, writing(spec))
    if settings(spec).has_reward_model:
        model = models[REWARD_MODEL]
        assert isinstance(model, ScoreModel)
        worst_scoring(model, SLOTS, spec.data.max_seq_len + ENDING)


def remark(first: Mapping[str, float], last: Mapping[str, float]) -> str:
    """How many held-out prompts were answered right at the beginning, and are at the end."""
    if "right" not in first:
        return ""
    was, now = 100 * first["right"], 100 * last["right"]
    told = say("Of the held-out prompts {was:.1f} % were answered right before, {now:.1f} % now.", was=was, now=now)
    if "facts" in first and "facts" in last:
        was, now = 100 * first["facts"], 100 * last["facts"]
        told += say(" Of the questions of eval.facts_path {was:.1f} % were, and {now:.1f} % are.", was=was, now=now)
    return told


def next_commands(spec: RunSpec, *, newest_is_best: bool = True) -> list[tuple[str, str]]:
    """What to ask when a run has ended: what for, and the command. newest_is_best: of its checkpoints."""
    first, name = spec.weights, spec.name if newest_is_best else f"{spec.name}@best"
    commands = [(say("what it writes to held-out prompts, and what that is worth"), f"show {spec.name} --samples")]
    if first is not None:
        against = quote(str(paths.absolute(first)) if paths.is_path(first) else first)
        what = say("what became better than in the weights that it began with, and what worse")
        commands.insert(0, (what, f"eval {name} --against {against}"))
    if not newest_is_best:
        commands.append((say("its best checkpoint, which is not its newest"), f"chat {name}"))
    return [(what, f"minimind {command}") for what, command in commands]


def stage(
    title: str,
    settings: type[TryingSettings],
    preset: Callable[[str], RunSpec],
    source: Callable[[RunSpec, PromptRows, Writer, Parallel], tuple[PromptSource, Credit]],
    metrics: Mapping[str, Metric],
    words: Mapping[str, str] | None = None,
) -> Stage:
    """A stage that tries. source: where prompts come from, and who credits answers. metrics, words: beside those of
    all.
    """
    return Stage(
        title=title,
        rows="rl",
        settings=settings,
        preset=preset,
        continues=True,
        prompt=sft.question,
        sampling=answering,
        models=models,
        objective=objective,
        data=partial(data, source=source),
        look=look,
        worst=worst,
        beside=worst_text,
        worst_take=worst_take,
        roles=(REFERENCE, REWARD_MODEL),
        needs=(REWARD_MODEL,),
        scoring=(REWARD_MODEL,),
        metrics={**METRICS, **metrics},
        replays=True,
        replays_chats=True,
        alarms=alarms,
        remark=remark,
        words={**WORDS, **(words or {})},
    )
