"""How often a model answers prompts right, and which of them it can learn from by trying: what reinforcement learning
has to begin with.

From a prompt that is always or never answered right nothing is learnt by comparing answers; the others, from the easy
to the hard, are a curriculum.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from rich.console import Console

from data.prepare import content_sha256
from data.prompts import Prompt, Prompts
from data.rules import excerpt
from jobs import paths
from jobs.endpoints.judge import IN_A_ROW
from jobs.evaluation.ask import answer_of
from jobs.evaluation.evaluate import SLOTS, LocalExaminee
from jobs.runs.references import Weights
from jobs.stages.trying import TryingSettings, scorers
from jobs.synthesis.calling import Caller
from jobs.synthesis.journal import Entry, Journal
from jobs.synthesis.rows import known, summed
from jobs.synthesis.samples import Sampling, sample, sample_by
from jobs.terminal.counting import counting
from jobs.terminal.wrap import tell
from minimind.checkpoints.checkpoint import load_score_model
from minimind.checkpoints.manifest import weights_sha256
from minimind.evaluation.asking import Reply
from minimind.evaluation.checkers import Answer
from minimind.evaluation.measures import WORD
from minimind.evaluation.statistics import SHARES, mean, pass_at
from minimind.language import say
from minimind.rewards.judging import Rewards
from minimind.rewards.model import ModelScorer
from minimind.rewards.readable import require_readable, spread
from minimind.rewards.terms import (
    Attempt,
    Contains,
    Ending,
    Judge,
    RewardModel,
    Term,
    named,
    names_of,
    require_references,
    require_telling,
)
from minimind.text.chat import render
from minimind.training.signal import RIGHT, Signal, Standing, signal

SHOWN = 3
"""How many of the hardest prompts, and of the easiest, are shown."""

GROUP_WORDS, GROUP_PROMPTS, GROUPS = 2, 5, 8
"""Prompts that begin with the same so many words are a group, if there are so many of them; so many groups are told."""


def terms_of(reward: Sequence[str], reward_model: str | None = None) -> list[Term]:
    """The terms of a reward. reward_model: what is named for the term of that name. Raises ValueError for what is no
    term, and where one of both stands without the other.
    """
    terms = [named(text) for text in reward]
    if terms:
        require_telling(terms[0])
    has_term = any(isinstance(term, RewardModel) for term in terms)
    if has_term and reward_model is None:
        raise ValueError(
            say("--reward reward_model: name the model too, with --reward_model RUN, a run of the stage reward")
        )
    if reward_model is not None and not has_term:
        raise ValueError(
            say(
                "--reward_model {name}: no term of --reward is its score; add one, such as {term}",
                name=reward_model,
                term='\'{"is": "reward_model", "weight": 0.5}\'',
            )
        )
    return terms


def scorer_of(reward_model: Weights, model: LocalExaminee) -> ModelScorer:
    """What scores answers of a model with a reward model. Raises CheckpointError for what gives no scores, ValueError
    for one that reads other tokens.
    """
    judge, tokenizer = load_score_model(reward_model.folder)
    model.tokenizer.require_same(tokenizer.fingerprint, f"--reward_model {reward_model.name}")
    judge = judge.to(model.device).requires_grad_(False).eval()
    return ModelScorer(judge, model.tokenizer, model.engine.context_tokens, lambda: SLOTS)


def measure(
    model: LocalExaminee,
    prompts: Prompts,
    out: Path | None,
    sampling: Sampling,
    reward: Sequence[str],
    console: Console,
    *,
    folder: Path,
    reward_model: Weights | None = None,
    tools: TryingSettings | None = None,
) -> Mapping[str, Any]:
    """Sample a model, judge its answers, and write the curriculum: the rows of prompts whose answers are not all worth
    the same, the easiest first, each with its "pass_rate". Gives the record: see docs/json.md.

    prompts: with their rows. out: None writes no curriculum. reward: its terms, as `named` reads them; an answer is
    right that scores 1 by the first of them. folder: where the code of a term `python` is looked for. reward_model: of
    the term of that name. tools: what answers may call, which prompts list (`calling.tools_of`). What has been done is
    kept when it is ended and started again, and the same arguments give the same, but for what a judge behind an
    endpoint says.

    Raises ValueError for a file that was begun otherwise, rows without the right answer that a term needs, right
    answers none of which the first term can read, a model that writes no numbers, and a judge that is away.
    """
    terms = terms_of(reward, reward_model.name if reward_model is not None else None)
    without = [prompt.where for prompt in prompts.each if prompt.answer is None]
    require_references(terms, without, len(prompts.each))
    known_right = [_as_answered(prompts.each[at]) for at in spread(len(prompts.each)) if prompts.each[at].answer]
    if warning := require_readable(terms[0], names_of(terms)[0], known_right, str(prompts.path)):
        tell(console, warning, style="yellow")
    asked = {
        "model": {"name": model.name, "checkpoint": model.checkpoint, "device": model.device},
        "prompts": known(prompts),
        **asdict(sampling),
        "reward": list(reward),
    }
    if reward_model is not None:
        asked["reward_model"] = {"name": reward_model.name, "sha256": weights_sha256(reward_model.folder)}
    if tools is not None:
        asked["tools"] = list(tools.tools)
        asked["tables"] = {setting: content_sha256(Path(table)) for setting, table in tools.files.items()}
    scorer = scorer_of(reward_model, model) if reward_model is not None else None
    with (
        Rewards(terms, scorers=scorers(terms, scorer), folder=folder) as rewards,
        Journal.open(out or _place(asked), asked, prompts=paths.kept(str(prompts.path))) as journal,
    ):
        if journal.is_finished:
            return journal.record
        total, done = (count * sampling.samples for count in (len(prompts.each), len(journal)))
        judge = _until_away(partial(_entry_of, rewards=rewards), terms[0])
        try:
            with counting(say("{model} is sampled", model=model.name), total, console, done=done) as count:
                if tools is None:
                    sample(
                        model,
                        prompts.each,
                        sampling,
                        lambda prompt, answers: judge(prompt, _attempts(prompt, answers, model, sampling)),
                        journal,
                        lambda tokens: count(),
                    )
                else:
                    with closing(Caller(model, tools, sampling)) as caller:
                        sample_by(caller.ask, prompts.each, sampling, judge, journal, lambda tokens: count())
        finally:
            found = _summed(prompts, journal, sampling)
            finished = len(journal) == len(prompts.each)
            journal.keep(found, finished=finished, rows=_curriculum(prompts, journal, sampling))
        return journal.record


def _as_answered(prompt: Prompt) -> Attempt:
    """As if the right answer had been given."""
    right = prompt.answer or ""
    return Attempt(Answer(right, "stop", (), prompt.question), right, 1, 1)


def _place(asked: Mapping[str, Any]) -> Path:
    """Where what was asked for is kept if nobody names a file."""
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:24]
    return paths.cache() / "passrate" / f"{digest}.jsonl"


def _attempts(prompt: Prompt, answers: Sequence[Reply], model: LocalExaminee, sampling: Sampling) -> list[Attempt]:
    """Answers as terms judge them."""
    before = render(model.tokenizer, [dict(turn) for turn in prompt.turns], add_generation_prompt=True).ids
    room = min(model.engine.context_tokens - len(before), sampling.max_tokens)
    return [
        Attempt(
            answer_of(reply, prompt.question),
            prompt.answer or "",
            reply.tokens or 0,
            room,
            Ending(before, _turn_of(reply)),
        )
        for reply in answers
    ]


def _entry_of(prompt: Prompt, attempts: Sequence[Attempt], rewards: Rewards) -> Entry:
    """What is kept of the answers to a prompt: how many are known to be `right`, the mean `reward`, `tokens`, how many
    were `cut_off`, how many judgements were `not_judged`, in how many the right one `holds` as a part, the first as a
    `sample`; `why` it has no signal.
    """
    group_A = np.zeros(len(attempts), np.int64)
    judged = rewards.judge(attempts, group_A.tolist())
    reward_A = judged.total(rewards.weights)
    right_A = (judged.values_KA[0] >= RIGHT) & ~judged.failed_KA[0]  # what nobody could judge is not known to be right
    entry: Entry = {
        "right": int(right_A.sum()),
        "reward": float(reward_A.mean()),
        "tokens": sum(attempt.tokens for attempt in attempts),
        "cut_off": sum(attempt.answer.finish == "length" for attempt in attempts),
        "not_judged": int(judged.failed_K.sum()),
        "holds": sum(score >= RIGHT for score in Contains().scores(attempts)),
        "sample": attempts[0].answer.text,
    }
    if judged.failed_K[0] == len(attempts):
        name = rewards.names[0]
        return entry | {"why": "not_judged", "detail": f"{name}: {rewards.problems[name]}"}
    (standing,) = signal(reward_A, right_A, group_A).standings
    return entry if standing == "signal" else entry | {"why": standing, "detail": ""}


def _turn_of(reply: Reply) -> dict[str, Any]:
    """What was said, as the turn that a reward model reads."""
    calls = [{"type": "function", "function": {"name": name, "arguments": text}} for name, text in reply.calls]
    return {
        "role": "assistant",
        "content": reply.text,
        "reasoning_content": reply.thinking,
        "tool_calls": calls,
    }


EntryOf = Callable[[Prompt, Sequence[Attempt]], Entry]


def _until_away(entry_of: EntryOf, first: Term) -> EntryOf:
    """Where a judge says what is right, an end where it has judged no answer to IN_A_ROW prompts one after the other:
    else all the rest would be kept as what could not be judged. Raises ValueError then.
    """
    failed: list[str] = []

    def entry(prompt: Prompt, attempts: Sequence[Attempt]) -> Entry:
        found = entry_of(prompt, attempts)
        if not isinstance(first, Judge) or found.get("why") != "not_judged":
            failed.clear()
            return found
        failed.append(prompt.where)
        if len(failed) == IN_A_ROW:
            raise ValueError(
                say(
                    "{where}: no answer to this prompt and the {count} before it could be judged: {problem}. What is "
                    "done is kept; the same command goes on when the judge is there",
                    where=prompt.where,
                    count=IN_A_ROW - 1,
                    problem=found["detail"],
                )
            )
        return found

    return entry


def _measured(journal: Journal) -> Iterator[tuple[int, Entry]]:
    """The prompts whose answers were judged."""
    return (
        (number, entry) for number, entry in journal.entries() if entry.get("why") not in ("unaskable", "not_judged")
    )


def _curriculum(prompts: Prompts, journal: Journal, sampling: Sampling) -> list[dict[str, Any]]:
    """The rows that have signal, those that are right most often first, and of these those that bring most."""
    found = [(number, entry) for number, entry in _measured(journal) if "why" not in entry]
    found.sort(key=lambda one: (-one[1]["right"], -one[1]["reward"], one[0]))
    return [
        {**(prompts.each[number].row or {}), "pass_rate": entry["right"] / sampling.samples} for number, entry in found
    ]


def _summed(prompts: Prompts, journal: Journal, sampling: Sampling) -> dict[str, Any]:
    """What the record says of all prompts."""
    found = list(_measured(journal))
    rights = [entry["right"] for _, entry in found]
    answers = len(found) * sampling.samples
    standings = Signal(tuple(cast(Standing, entry.get("why", "signal")) for _, entry in found))
    order = sorted(found, key=lambda one: (one[1]["right"], one[1]["reward"], one[0]))
    hard = order[:SHOWN]
    return {
        **summed(prompts, journal),
        "measured": len(found),
        "pass_at": {
            str(k): mean([pass_at(sampling.samples, right, k) for right in rights], within=SHARES).known()
            for k in _ks(sampling.samples)
            if rights
        },
        "signal": standings.counts,
        "reward_mean": sum(entry["reward"] for _, entry in found) / len(found) if found else None,
        "answer_tokens": sum(entry["tokens"] for _, entry in found) / answers if found else None,
        "holds": sum(entry["holds"] for _, entry in found) / answers if found else None,
        "cut_off": sum(entry["cut_off"] for _, entry in found) / answers if found else None,
        "not_judged": sum(entry.get("not_judged", 0) for _, entry in journal.entries()),
        "groups": _groups(prompts, found, sampling),
        "hardest": [_shown(prompts.each[number], entry) for number, entry in hard],
        "easiest": [_shown(prompts.each[number], entry) for number, entry in order[len(hard) :][: -SHOWN - 1 : -1]],
    }


def _ks(samples: int) -> list[int]:
    """1, 2, 4, ..., and all of them."""
    return sorted({*(2**power for power in range(samples.bit_length()) if 2**power <= samples), samples})


def _groups(prompts: Prompts, found: Sequence[tuple[int, Entry]], sampling: Sampling) -> list[dict[str, Any]]:
    """Of prompts that begin alike, how many there are, the share of right answers, and how many have signal."""
    alike: defaultdict[str, list[Entry]] = defaultdict(list)
    for number, entry in found:
        words = WORD.findall(prompts.each[number].question)[:GROUP_WORDS]
        alike[("" if all(len(word) == 1 for word in words) else " ").join(words)].append(entry)
    many = [(begins, group) for begins, group in alike.items() if len(group) >= GROUP_PROMPTS]
    many.sort(key=lambda one: -len(one[1]))
    return [
        {
            "begins": begins,
            "prompts": len(group),
            "pass_rate": sum(entry["right"] for entry in group) / (len(group) * sampling.samples),
            "signal": sum("why" not in entry for entry in group),
        }
        for begins, group in many[:GROUPS]
    ]


def _shown(prompt: Prompt, entry: Entry) -> dict[str, Any]:
    return {
        "where": prompt.where,
        "question": excerpt(prompt.question),
        "answer": excerpt(prompt.answer or ""),
        "right": entry["right"],
        "sample": excerpt(entry["sample"]),
    }
