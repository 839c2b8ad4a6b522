"""The rows of a suite asked of an engine: a record a row, with what was said and what it scores."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from data.suite import LETTERS, Rows, Suite, SuiteRow
from jobs.runs.evals import Record
from minimind.evaluation import asking, statistics
from minimind.evaluation.asking import AskingError, Likelihood, Progress, Reply
from minimind.evaluation.checkers import Answer, score
from minimind.evaluation.diagnostics import diagnose
from minimind.inference.engine import Engine
from minimind.inference.sampling import SamplingParams
from minimind.language import say
from minimind.text.chat import render
from minimind.text.tokenizer import Tokenizer

SCORING = 2
"""Raised whenever rows are asked, or answers scored, otherwise than before: earlier scores cannot be compared."""

Tools = Sequence[Mapping[str, Any]]

Replies = Callable[[list[list[dict[str, Any]]], list[SamplingParams], list[Tools] | None, Progress], list[Reply]]
"""Asks a model: conversations, how each is sampled, the tools of each -> what it says to each."""

_PLACES = re.compile(r"\{(question|choice|letter|choices)\}")

LOST_FACT = "lost_fact"
"""What the logs call an answer that is not right and has not even the fact in it, beside the names of diagnoses."""


def ask(engine: Engine, tokenizer: Tokenizer, rows: Rows, progress: Progress = lambda tokens: None) -> list[Record]:
    """The records, in the order of the rows. progress: told of each request that has ended.

    Raises ValueError for a row that cannot be asked, with its id.
    """
    return _ASKED[rows.suite.ask.how](engine, tokenizer, rows, progress)


def requests_of(rows: Rows) -> int:
    """About how many requests it takes: texts that are longer than the context take more."""
    each = {"text": 1, "pair": 2, "answer": rows.suite.ask.samples}
    return sum(
        len(row.texts) if rows.suite.ask.how == "choice" else each[rows.suite.ask.how] + len(row.before)
        for row in rows.rows
    )


def _base(row: SuiteRow) -> Record:
    return {"id": row.id, "groups": dict(row.groups)}


@contextmanager
def _naming(suite: Suite, asked: Sequence[SuiteRow]) -> Iterator[None]:
    """Say of which row what is raised is. asked: the row of each text or conversation."""
    try:
        yield
    except AskingError as error:
        raise ValueError(
            say("{suite}, row {id}: {problem}", suite=suite.name, id=asked[error.place].id, problem=error)
        ) from None


def _texts(engine: Engine, tokenizer: Tokenizer, rows: Rows, progress: Progress) -> list[Record]:
    """Bits per byte. The bytes are those of the text itself: ids may be parts of characters, and a tokenizer may read a
    text otherwise than it writes it.
    """
    asked = [
        list(asking.windows(ids, tokenizer.bos_id, engine.context_tokens))
        for ids in tokenizer.encode_batch([row.texts[0] for row in rows.rows])
    ]
    with _naming(rows.suite, [row for row, pairs in zip(rows.rows, asked, strict=True) for _ in pairs]):
        found = iter(asking.likelihoods(engine, [pair for pairs in asked for pair in pairs], progress))
    records = []
    for row, pairs in zip(rows.rows, asked, strict=True):
        parts = [next(found) for _ in pairs]
        count = len(row.texts[0].encode())
        bits = -sum(part.logprob for part in parts) / math.log(2)
        records.append(
            _base(row)
            | {
                "prompt": row.texts[0],
                "score": bits / count,
                "bytes": count,
                "logprob": sum(part.logprob for part in parts),
                "tokens": sum(part.tokens for part in parts),
            }
        )
    return records


def _pairs(engine: Engine, tokenizer: Tokenizer, rows: Rows, progress: Progress) -> list[Record]:
    """Which of two sentences, or of two answers, is likelier; of two equally likely ones half a point."""
    asked = [ids for row in rows.rows for ids in _pair_ids(tokenizer, row)]
    with _naming(rows.suite, [row for row in rows.rows for _ in row.texts]):
        found = asking.likelihoods(engine, asked, progress)
    return [
        _base(row)
        | {
            "good": row.texts[0],
            "bad": row.texts[1],
            "score": _point(good, bad),
            "logprobs": [good.logprob, bad.logprob],
            "tokens": good.tokens + bad.tokens,
        }
        for row, good, bad in zip(rows.rows, found[::2], found[1::2], strict=True)
    ]


def _pair_ids(tokenizer: Tokenizer, row: SuiteRow) -> list[tuple[list[int], list[int]]]:
    """What stands before each of both texts of a row, and its own ids: of an answer with the token that ends it."""
    if not row.messages:
        return asking.continuations_ids(tokenizer, [("", text) for text in row.texts])
    before = render(tokenizer, [dict(turn) for turn in row.messages], add_generation_prompt=True).ids
    return [(before, [*tokenizer.encode(text), tokenizer.eos_id]) for text in row.texts]


def _point(good: Likelihood, bad: Likelihood) -> float:
    return 1.0 if good.logprob > bad.logprob else 0.0 if good.logprob < bad.logprob else 0.5


def _choices(engine: Engine, tokenizer: Tokenizer, rows: Rows, progress: Progress) -> list[Record]:
    """Which of some texts is the likeliest after a question, by its log-prob for each byte and as it is.

    The bytes are lm-eval's: white space that the template puts around a choice is not counted.
    """
    ask = rows.suite.ask
    counted = ask.choice.strip()
    places = [(row, place) for row in rows.rows for place in range(len(row.texts))]
    texts = [(_filled(ask.question, row), _filled(ask.choice, row, place)) for row, place in places]
    asked = asking.continuations_ids(tokenizer, texts)
    with _naming(rows.suite, [row for row, _ in places]):
        found = iter(asking.likelihoods(engine, asked, progress))
    records = []
    for row in rows.rows:
        each = [next(found) for _ in row.texts]
        plain = [one.logprob for one in each]
        per_byte = [one.logprob / len(_filled(counted, row, place).encode()) for place, one in enumerate(each)]
        right = {"plain": _best(plain) == row.right, "per_byte": _best(per_byte) == row.right}
        records.append(
            _base(row)
            | {
                "prompt": row.question,
                "choices": list(row.texts),
                "right": row.right,
                "chosen": _best(per_byte if rows.suite.primary == "per_byte" else plain),
                "score": float(right[rows.suite.primary]),
                "metrics": {name: float(value) for name, value in right.items()},
                "logprobs": plain,
                "tokens": sum(one.tokens for one in each),
            }
        )
    return records


def _filled(template: str, row: SuiteRow, place: int | None = None) -> str:
    """A template with {question}, {choices}: all of them, a line each, and {choice}, {letter}: that at `place`, or "".
    What is put in is the row's own, whatever stands in it.
    """
    values = {
        "question": lambda: row.question,
        "choices": lambda: "\n".join(f"{letter}. {text}" for letter, text in zip(LETTERS, row.texts, strict=False)),
        "choice": lambda: "" if place is None else row.texts[place],
        "letter": lambda: "" if place is None else LETTERS[place],
    }
    return _PLACES.sub(lambda match: values[match[1]](), template)


def _best(numbers: Sequence[float]) -> int:
    return max(range(len(numbers)), key=numbers.__getitem__)


def _answers(engine: Engine, tokenizer: Tokenizer, rows: Rows, progress: Progress) -> list[Record]:
    return answers(partial(asking.replies, engine, tokenizer), (tokenizer.eos_id, tokenizer.pad_id), rows, progress)


def answers(reply: Replies, stop_ids: tuple[int, ...], rows: Rows, progress: Progress) -> list[Record]:
    """What a model says, row by row; of several samples the score is the share of them that are right.

    reply: asks it. stop_ids: what ends an answer, where that is not its own affair. Raises ValueError for a row that
    cannot be asked, with its id.
    """
    ask = rows.suite.ask
    talks: list[list[dict[str, Any]]] = [[] for _ in rows.rows]
    for turn in range(max(len(row.before) for row in rows.rows)):
        places = [place for place, row in enumerate(rows.rows) if turn < len(row.before)]
        for place in places:
            talks[place].append({"role": "user", "content": rows.rows[place].before[turn]})
        params = [_params(stop_ids, rows.suite, rows.rows[place], f"before {turn}") for place in places]
        with _naming(rows.suite, [rows.rows[place] for place in places]):
            said = reply([talks[place] for place in places], params, None, progress)
        for place, one in zip(places, said, strict=True):
            talks[place].append({"role": "assistant", "content": one.text})
    whole = [[*talk, *map(dict, row.messages)] for talk, row in zip(talks, rows.rows, strict=True)]
    tools: list[Tools] = [row.tools for row in rows.rows]
    each: list[list[Reply]] = [[] for _ in rows.rows]
    for sample in range(ask.samples):
        params = [_params(stop_ids, rows.suite, row, str(sample)) for row in rows.rows]
        with _naming(rows.suite, rows.rows):
            said = reply(whole, params, tools, progress)
        for place, one in enumerate(said):
            each[place].append(one)
    return [_answered(row, talk, said) for row, talk, said in zip(rows.rows, whole, each, strict=True)]


def _params(stop_ids: tuple[int, ...], suite: Suite, row: SuiteRow, sample: str) -> SamplingParams:
    """The same for every checkpoint: the seed is the row's own, and the suite's where it says one."""
    own = f"{suite.ask.seed} " if suite.ask.seed else ""
    digest = hashlib.blake2b(f"{own}{suite.name} {row.id} {sample}".encode(), digest_size=7).digest()
    return SamplingParams(
        suite.ask.max_tokens,
        temperature=suite.ask.temperature,
        seed=int.from_bytes(digest, "big"),
        stop_ids=stop_ids,
        logprobs=0,
    )


def _answered(row: SuiteRow, talk: Sequence[dict[str, Any]], said: Sequence[Reply]) -> Record:
    prompt = str(talk[-1].get("content") or "")
    judged = [_judged(row, prompt, reply) for reply in said]
    first = said[0]
    metrics: dict[str, float] = {}
    for name in judged[0][1]:
        metrics[name] = sum(metric[name] for _, metric, _ in judged) / len(judged)
    if len(said) > 1:
        right = sum(point == 1.0 for point, _, _ in judged)
        k = 1
        while k <= len(said):
            metrics[f"pass@{k}"] = statistics.pass_at(len(said), right, k)
            k *= 2
    return _base(row) | {
        "prompt": talk,
        "answer": first.text,
        **({"thinking": first.thinking} if first.thinking else {}),
        **({"calls": [list(call) for call in first.calls]} if first.calls else {}),
        **({"expected": row.expected} if row.expected is not None else {}),
        "score": sum(point for point, _, _ in judged) / len(judged),
        "metrics": metrics,
        "diagnoses": list(dict.fromkeys(name for _, _, wrong in judged for name in wrong)),
        "finish": first.finish,
        "logprob": _sum([reply.logprob for reply in said]),
        "tokens": _sum([reply.tokens for reply in said]),
        "seconds": round(sum(reply.seconds for reply in said), 4),
        **({"samples": [reply.text for reply in said]} if len(said) > 1 else {}),
    }


def _sum(values: Sequence[float | None]) -> float | None:
    """None where one of them is not known."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _judged(row: SuiteRow, prompt: str, reply: Reply) -> tuple[float, dict[str, float], tuple[str, ...]]:
    """Whether an answer is right, what else is measured of it, and what is wrong with it as a text."""
    answer = answer_of(reply, prompt)
    wrong = diagnose(answer, language=row.answer_language, max_tokens_reached=reply.finish == "length")
    metrics: dict[str, float] = {}
    if row.expected is not None:
        right = reply.text.strip() == row.expected.strip()
        if row.fact:
            metrics["holds_fact"] = float(row.fact in reply.text)
            wrong = wrong if metrics["holds_fact"] else (*wrong, LOST_FACT)
        return float(right), metrics, wrong
    share, each = score(row.checks, answer)
    return float(all(each)), {"checks": share}, wrong


def answer_of(reply: Reply, prompt: str) -> Answer:
    """What a model said to a question, as checks look at it."""
    calls = tuple((name, _object(arguments)) for name, arguments in reply.calls)
    finish = "tool_calls" if calls else reply.finish  # in OpenAI's words
    return Answer(text=reply.text, finish=finish, calls=calls, prompt=prompt, thinking=reply.thinking)


def _object(arguments: str) -> dict[str, Any]:
    value = json.loads(arguments)
    return value if isinstance(value, dict) else {}


_ASKED: dict[str, Callable[[Engine, Tokenizer, Rows, Progress], list[Record]]] = {
    "text": _texts,
    "pair": _pairs,
    "choice": _choices,
    "answer": _answers,
}
