"""A suite put to a checkpoint: its rows asked through the engine, scored, and added up."""

from __future__ import annotations

import hashlib
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from data.suite import Rows, Suite, SuiteRow
from jobs import paths
from jobs.evaluation.ask import SCORING, ask
from jobs.runs import evals
from jobs.runs.directory import RunDirectory
from jobs.runs.evals import EvalLog, Record
from jobs.runs.program import program
from jobs.runs.references import Weights
from minimind.checkpoints.checkpoint import load_model
from minimind.checkpoints.manifest import MANIFEST, sha256_of, weights_sha256
from minimind.evaluation import statistics
from minimind.evaluation.asking import Progress
from minimind.evaluation.statistics import AMOUNTS, SHARES
from minimind.inference.engine import Engine
from minimind.network.model import MiniMind
from minimind.text.tokenizer import Tokenizer

SLOTS = 32
"""Requests that are computed together."""

CONTEXT_TOKENS = 1024
"""The most: a suite that asks for more is cut, and few small models read more."""


class Examinee(Protocol):
    """A model that suites can be put to."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    def path_of(self, suite: str) -> Path:
        """Where the log of a suite lies."""
        ...

    def known(self) -> dict[str, Any]:
        """What the log says of it."""
        ...

    def ask(self, rows: Rows, progress: Progress) -> list[Record]:
        """The records of a suite's rows. Raises ValueError for rows that cannot be asked."""
        ...


@dataclass(frozen=True)
class LocalExaminee:
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
    program: Mapping[str, str] = field(default_factory=program)

    @classmethod
    def load(cls, weights: Weights, device: torch.device | None = None) -> LocalExaminee:
        """Raises CheckpointError for a checkpoint that does not verify."""
        model, tokenizer, _ = load_model(weights.folder)
        place = device or torch.device("cpu")
        engine = engine_of(model.to(place), tokenizer)
        stage = RunDirectory(paths.runs() / weights.run).stage if weights.run is not None else ""
        sha256, checkpoint = weights_sha256(weights.folder), _checkpoint_sha256(weights)
        return cls(weights, engine, tokenizer, sha256, checkpoint, stage, str(place))

    @property
    def name(self) -> str:
        """The checkpoint."""
        return self.weights.name

    def path_of(self, suite: str) -> Path:
        """Where the log of a suite lies."""
        return path_of(self.weights, suite)

    def known(self) -> dict[str, Any]:
        """What the log says of it."""
        return {
            "model": self.name,
            "run": self.weights.run,
            "step": self.weights.step,
            "stage": self.stage,
            "checkpoint": self.checkpoint,
            "weights": self.sha256,
            "tokenizer": self.tokenizer.fingerprint,
            "template": hashlib.sha256(self.tokenizer.chat_template.encode()).hexdigest(),
            "precision": "float32",
            "context": self.engine.context_tokens,
            "device": self.device,
            "program": dict(self.program),
        }

    def ask(self, rows: Rows, progress: Progress) -> list[Record]:
        """The records. Raises ValueError for rows that cannot be asked, or a model that writes no numbers."""
        return ask(self.engine, self.tokenizer, rows, progress)


def engine_of(model: MiniMind, tokenizer: Tokenizer) -> Engine:
    """The engine that suites are asked through: the same for every checkpoint."""
    context = min(CONTEXT_TOKENS, model.config.max_position_embeddings)
    return Engine(model, slots=SLOTS, context_tokens=context, tokenizer=tokenizer, seed=0)


def evaluate(examinee: Examinee, rows: Rows, progress: Progress = lambda tokens: None) -> EvalLog:
    """Ask, score, and keep the log. progress: told of each request that has ended.

    Raises ValueError for rows that cannot be asked, a model that writes no numbers, or a disk that is full.
    """
    began = time.time()
    records = examinee.ask(rows, progress)
    summary = {
        **_suite_facts(rows),
        **examinee.known(),
        **summed(rows.suite, rows.rows, records),
        "seconds": round(time.time() - began, 3),
        "time": began,
    }
    return evals.write(examinee.path_of(rows.suite.name), records, summary)


def path_of(weights: Weights, suite: str) -> Path:
    """Where the log of a suite lies: with the run, or for a checkpoint elsewhere in MINIMIND_HOME by its name."""
    if weights.run is not None:
        return evals.folder_of(RunDirectory(paths.runs() / weights.run)) / f"{suite}@{weights.step}.jsonl"
    return elsewhere(suite, str(weights.folder.absolute()))


def elsewhere(suite: str, name: str) -> Path:
    """Where the log of a suite lies for what is no run of this home."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[-60:]
    return paths.home() / "evals" / f"{suite}@{readable}-{hashlib.sha256(name.encode()).hexdigest()[:8]}.jsonl"


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
        "scoring": SCORING,
    }
    return found if same.items() <= found.summary.items() else None


def _checkpoint_sha256(weights: Weights) -> str:
    """Of the manifest, which has those of the weights, the tokenizer, its template, and an adapter's base."""
    return sha256_of(weights.folder / MANIFEST)


def _suite_sha256(suite: Suite) -> str:
    return hashlib.sha256(suite.model_dump_json().encode()).hexdigest()


def _suite_facts(rows: Rows) -> dict[str, Any]:
    suite = rows.suite
    return {
        "suite": suite.name,
        "version": suite.version,
        "suite_sha256": _suite_sha256(suite),
        "rows_sha256": rows.sha256,
        "title": suite.title,
        "how": suite.ask.how,
        "counted": suite.counted,
        "scoring": SCORING,
        "seed": suite.ask.seed,
    }


def summed(suite: Suite, rows: Sequence[SuiteRow], records: Sequence[Record]) -> dict[str, Any]:
    """What the records add up to: the score with its interval, by group, further metrics, and what was wrong. None is
    an end of an interval that nothing is known of, as of a single row.
    """
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
        name: statistics.mean(
            [float(r["metrics"][name]) for r in counted if name in r["metrics"]], within=SHARES
        ).known()
        for name in names
    }
    found = Counter(name for record in counted for name in record.get("diagnoses", ()))
    total = _interval(counted)
    return {
        "score": total["value"],
        "low": total["low"],
        "high": total["high"],
        "n": total["n"],
        "chance": _chance(suite, [row for row in rows if suite.counts(row)]),
        "lower_is_better": suite.lower_is_better,
        "groups": groups,
        "metrics": metrics,
        "diagnoses": dict(found.most_common()),
        "tokens": sum(int(record["tokens"] or 0) for record in records),
    }


def _interval(records: Sequence[Record]) -> dict[str, Any]:
    weights = [float(record["bytes"]) for record in records] if any("bytes" in r for r in records) else None
    found = statistics.mean(
        [float(record["score"]) for record in records], weights, within=AMOUNTS if weights else SHARES
    )
    return {**found.known(), "n": len(records)}


def _chance(suite: Suite, rows: Iterable[SuiteRow]) -> float | None:
    """What guessing scores."""
    if suite.ask.how == "pair":
        return 0.5
    if suite.ask.how == "choice":
        shares = [1 / len(row.texts) for row in rows]
        return sum(shares) / len(shares)
    return None
