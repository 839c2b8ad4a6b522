"""A suite put to a checkpoint: its rows asked through the engine, scored, and added up."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from data.suite import Rows, Suite, SuiteRow
from jobs import paths
from jobs.runs import evals
from jobs.runs.directory import RunDirectory
from jobs.runs.evals import EvalLog, Record
from jobs.runs.program import program
from jobs.runs.references import Weights
from minimind.checkpoints.checkpoint import load_model
from minimind.checkpoints.manifest import MANIFEST, sha256_of, weights_sha256
from minimind.evaluation import asking, statistics
from minimind.evaluation.asking import Likelihood, Progress, Reply
from minimind.evaluation.checkers import Answer, score
from minimind.evaluation.diagnostics import diagnose
from minimind.inference.engine import Engine
from minimind.inference.sampling import SamplingParams
from minimind.text.tokenizer import Tokenizer

SLOTS = 32
LOST_FACT = "lost_fact"
"""What the logs call an answer that is not right and has not even the fact in it, beside the names of diagnoses."""

CONTEXT_TOKENS = 1024
"""The most: a suite that asks for more is cut, and few small models read more."""


@dataclass(frozen=True)
class Examinee:
    """A checkpoint in memory, as all suites ask it. weights: where it comes from. sha256: of the weights themselves.
    checkpoint: that of all that decides its answers.
    """

    weights: Weights
    engine: Engine
    tokenizer: Tokenizer
    sha256: str
    checkpoint: str
    stage: str
    device: str

    @classmethod
    def load(cls, weights: Weights, device: torch.device | None = None) -> Examinee:
        """Raises CheckpointError for a checkpoint that does not verify."""
        model, tokenizer, _ = load_model(weights.folder)
        place = device or torch.device("cpu")
        model = model.to(place)
        context = min(CONTEXT_TOKENS, model.config.max_position_embeddings)
        engine = Engine(model, slots=SLOTS, context_tokens=context, tokenizer=tokenizer, seed=0)
        stage = RunDirectory(paths.runs() / weights.run).stage if weights.run is not None else ""
        sha256, checkpoint = weights_sha256(weights.folder), _checkpoint_sha256(weights)
        return cls(weights, engine, tokenizer, sha256, checkpoint, stage, str(place))


def evaluate(examinee: Examinee, rows: Rows, progress: Progress = lambda tokens: None) -> EvalLog:
    """Ask, score, and keep the log. progress: told of each request that has ended.

    Raises ValueError for rows that cannot be asked, a model that writes no numbers, or a disk that is full.
    """
    began = time.time()
    records = _ASKED[rows.suite.ask.how](examinee, rows, progress)
    summary = {
        **_known_by(examinee, rows),
        **summed(rows.suite, rows.rows, records),
        "seconds": round(time.time() - began, 3),
        "time": began,
        "program": program(),
        "precision": "float32",
        "device": examinee.device,
    }
    return evals.write(path_of(examinee.weights, rows.suite.name), records, summary)


def path_of(weights: Weights, suite: str) -> Path:
    """Where the log of a suite lies: with the run, or for a checkpoint elsewhere in MINIMIND_HOME by its name."""
    if weights.run is not None:
        return evals.folder_of(RunDirectory(paths.runs() / weights.run)) / f"{suite}@{weights.step}.jsonl"
    name = "-".join(weights.folder.absolute().parts[-2:]).strip("-/")
    return paths.home() / "evals" / f"{suite}@{name}.jsonl"


def requests_of(rows: Rows) -> int:
    """About how many requests it takes: texts that are longer than the context take more."""
    each = {"text": 1, "pair": 2, "answer": rows.suite.ask.samples}
    return sum(
        len(row.texts) if rows.suite.ask.how == "choice" else each[rows.suite.ask.how] + len(row.before)
        for row in rows.rows
    )


def kept(weights: Weights, rows: Rows) -> EvalLog | None:
    """The log of the same rows, suite and checkpoint, if there is one already."""
    path = path_of(weights, rows.suite.name)
    if not path.is_file():
        return None
    try:
        found = evals.read(path)
    except ValueError:
        return None
    same = {
        "checkpoint": _checkpoint_sha256(weights),
        "rows_sha256": rows.sha256,
        "suite_sha256": _suite_sha256(rows.suite),
    }
    return found if same.items() <= found.summary.items() else None


def _checkpoint_sha256(weights: Weights) -> str:
    """Of the manifest, which has those of the weights, the tokenizer, its template, and an adapter's base."""
    return sha256_of(weights.folder / MANIFEST)


def _suite_sha256(suite: Suite) -> str:
    return hashlib.sha256(suite.model_dump_json().encode()).hexdigest()


def _known_by(examinee: Examinee, rows: Rows) -> dict[str, Any]:
    suite = rows.suite
    return {
        "suite": suite.name,
        "version": suite.version,
        "suite_sha256": _suite_sha256(suite),
        "rows_sha256": rows.sha256,
        "title": suite.title,
        "how": suite.ask.how,
        "counted": suite.counted,
        "model": examinee.weights.name,
        "run": examinee.weights.run,
        "step": examinee.weights.step,
        "stage": examinee.stage,
        "checkpoint": examinee.checkpoint,
        "weights": examinee.sha256,
        "tokenizer": examinee.tokenizer.fingerprint,
        "template": hashlib.sha256(examinee.tokenizer.chat_template.encode()).hexdigest(),
        "seed": suite.ask.seed,
    }


def summed(suite: Suite, rows: Sequence[SuiteRow], records: Sequence[Record]) -> dict[str, Any]:
    """What the records add up to: the score with its interval, by group, further metrics, and what was wrong."""
    counted = [record for row, record in zip(rows, records, strict=True) if suite.counts(row)]
    groups: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(name for row in rows for name in row.groups):
        # By the field that says what counts all rows are shown, by others those that do.
        shown = [pair for pair in zip(rows, records, strict=True) if name in suite.counted or suite.counts(pair[0])]
        values = sorted({row.groups[name] for row, _ in shown if name in row.groups})
        if len(values) > 1:
            groups[name] = {
                value: _interval([record for row, record in shown if row.groups.get(name) == value]) for value in values
            }
    names = dict.fromkeys(name for record in counted for name in record.get("metrics", {}))
    metrics = {
        name: asdict(statistics.mean([float(r["metrics"][name]) for r in counted if name in r["metrics"]]))
        for name in names
    }
    found = Counter(name for record in counted for name in record.get("diagnoses", ()))
    total = _interval(counted)
    return {
        "score": total["value"],
        "low": total["low"],
        "high": total["high"],
        "n": total["n"],
        "chance": _chance(suite, rows),
        "lower_is_better": suite.lower_is_better,
        "groups": groups,
        "metrics": metrics,
        "diagnoses": dict(found.most_common()),
        "tokens": sum(int(record["tokens"]) for record in records),
    }


def _interval(records: Sequence[Record]) -> dict[str, Any]:
    weights = [float(record["bytes"]) for record in records] if any("bytes" in r for r in records) else None
    found = statistics.mean([float(record["score"]) for record in records], weights)
    return {name: None if math.isnan(value) else value for name, value in asdict(found).items()} | {"n": len(records)}


def _chance(suite: Suite, rows: Iterable[SuiteRow]) -> float | None:
    """What guessing scores."""
    if suite.ask.how == "pair":
        return 0.5
    if suite.ask.how == "choice":
        shares = [1 / len(row.texts) for row in rows]
        return sum(shares) / len(shares)
    return None


def _base(row: SuiteRow) -> Record:
    return {"id": row.id, "groups": dict(row.groups)}


def _texts(examinee: Examinee, rows: Rows, progress: Progress) -> list[Record]:
    """Bits per byte. The bytes are those of the text itself: ids may be parts of characters, and a tokenizer may read a
    text otherwise than it writes it.
    """
    asked = [
        list(asking.windows(ids, examinee.tokenizer.bos_id, examinee.engine.context_tokens))
        for ids in examinee.tokenizer.encode_batch([row.texts[0] for row in rows.rows])
    ]
    found = iter(asking.likelihoods(examinee.engine, [pair for pairs in asked for pair in pairs], progress))
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


def _pairs(examinee: Examinee, rows: Rows, progress: Progress) -> list[Record]:
    """Which of two sentences is likelier; of two equally likely ones half a point."""
    asked = asking.continuations_ids(examinee.tokenizer, [("", text) for row in rows.rows for text in row.texts])
    found = asking.likelihoods(examinee.engine, asked, progress)
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


def _point(good: Likelihood, bad: Likelihood) -> float:
    return 1.0 if good.logprob > bad.logprob else 0.0 if good.logprob < bad.logprob else 0.5


def _choices(examinee: Examinee, rows: Rows, progress: Progress) -> list[Record]:
    """Which of some texts is the likeliest after a question, by its log-prob for each byte and as it is.

    The bytes are lm-eval's: white space that the template puts around a choice is not counted.
    """
    ask = rows.suite.ask
    counted = ask.choice.strip()
    texts = [
        (_filled(ask.question, row, ""), _filled(ask.choice, row, text)) for row in rows.rows for text in row.texts
    ]
    asked = asking.continuations_ids(examinee.tokenizer, texts)
    found = iter(asking.likelihoods(examinee.engine, asked, progress))
    records = []
    for row in rows.rows:
        each = [next(found) for _ in row.texts]
        plain = [one.logprob for one in each]
        per_byte = [
            one.logprob / len(_filled(counted, row, text).encode()) for one, text in zip(each, row.texts, strict=True)
        ]
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


def _filled(template: str, row: SuiteRow, choice: str) -> str:
    """A template with {question}, {choice}, {letter}, and {choices}: all of them, a line each."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    listed = "\n".join(f"{letter}. {text}" for letter, text in zip(letters, row.texts, strict=False))
    letter = letters[row.texts.index(choice)] if choice in row.texts else ""
    values = {"question": row.question, "choice": choice, "letter": letter, "choices": listed}
    for name, value in values.items():
        template = template.replace(f"{{{name}}}", value)
    return template


def _best(numbers: Sequence[float]) -> int:
    return max(range(len(numbers)), key=numbers.__getitem__)


def _answers(examinee: Examinee, rows: Rows, progress: Progress) -> list[Record]:
    """What the model says, row by row; of several samples the score is the share of them that are right."""
    ask = rows.suite.ask
    talks: list[list[dict[str, Any]]] = [[] for _ in rows.rows]
    for turn in range(max(len(row.before) for row in rows.rows)):
        places = [place for place, row in enumerate(rows.rows) if turn < len(row.before)]
        for place in places:
            talks[place].append({"role": "user", "content": rows.rows[place].before[turn]})
        params = [_params(examinee, rows.suite, rows.rows[place], f"before {turn}") for place in places]
        said = asking.replies(examinee.engine, examinee.tokenizer, [talks[p] for p in places], params, None, progress)
        for place, reply in zip(places, said, strict=True):
            talks[place].append({"role": "assistant", "content": reply.text})
    whole = [[*talk, *map(dict, row.messages)] for talk, row in zip(talks, rows.rows, strict=True)]
    tools = [row.tools for row in rows.rows]
    each: list[list[Reply]] = [[] for _ in rows.rows]
    for sample in range(ask.samples):
        params = [_params(examinee, rows.suite, row, str(sample)) for row in rows.rows]
        said = asking.replies(examinee.engine, examinee.tokenizer, whole, params, tools, progress)
        for place, reply in enumerate(said):
            each[place].append(reply)
    return [_answered(row, talk, said) for row, talk, said in zip(rows.rows, whole, each, strict=True)]


def _params(examinee: Examinee, suite: Suite, row: SuiteRow, sample: str) -> SamplingParams:
    """The same for every checkpoint: the seed is the row's own, and the suite's where it says one."""
    own = f"{suite.ask.seed} " if suite.ask.seed else ""
    digest = hashlib.blake2b(f"{own}{suite.name} {row.id} {sample}".encode(), digest_size=7).digest()
    return SamplingParams(
        suite.ask.max_tokens,
        temperature=suite.ask.temperature,
        seed=int.from_bytes(digest, "big"),
        stop_ids=(examinee.tokenizer.eos_id, examinee.tokenizer.pad_id),
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
        "diagnoses": list(judged[0][2]),
        "finish": first.finish,
        "logprob": sum(reply.logprob for reply in said),
        "tokens": sum(len(reply.ids) for reply in said),
        "seconds": round(sum(reply.seconds for reply in said), 4),
        **({"samples": [reply.text for reply in said]} if len(said) > 1 else {}),
    }


def _judged(row: SuiteRow, prompt: str, reply: Reply) -> tuple[float, dict[str, float], tuple[str, ...]]:
    """Whether an answer is right, what else is measured of it, and what is wrong with it as a text."""
    calls = tuple((name, _object(arguments)) for name, arguments in reply.calls)
    finish = "tool_calls" if calls else reply.finish  # in OpenAI's words
    answer = Answer(text=reply.text, finish=finish, calls=calls, prompt=prompt, thinking=reply.thinking)
    wrong = diagnose(answer, language=row.groups.get("language"), max_tokens_reached=reply.finish == "length")
    metrics: dict[str, float] = {}
    if row.expected is not None:
        right = reply.text.strip() == row.expected.strip()
        if row.fact:
            metrics["holds_fact"] = float(row.fact in reply.text)
            wrong = wrong if metrics["holds_fact"] else (*wrong, LOST_FACT)
        return float(right), metrics, wrong
    share, each = score(row.checks, answer)
    return float(all(each)), {"checks": share}, wrong


def _object(arguments: str) -> dict[str, Any]:
    value = json.loads(arguments)
    return value if isinstance(value, dict) else {}


_ASKED: dict[str, Callable[[Examinee, Rows, Progress], list[Record]]] = {
    "text": _texts,
    "pair": _pairs,
    "choice": _choices,
    "answer": _answers,
}
