"""Questions whose answers are known, put to a served model over HTTP: how many it answers to the letter."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from jobs.keys import read_key

AT_ONCE = 16
MAX_TOKENS = 96


@dataclass(frozen=True)
class Question:
    """A row of eval.jsonl. expected: the whole sentence that the model was taught to say."""

    prompt: str
    expected: str


@dataclass(frozen=True)
class Answered:
    """A question and what the model said to it."""

    question: Question
    answer: str

    @property
    def right(self) -> bool:
        """Whether it is the sentence, to the letter."""
        return self.answer.strip() == self.question.expected


def read_questions(path: Path, kind: str = "heldout_phrasing") -> list[Question]:
    """The questions of one kind in an eval.jsonl; see data.stock.build."""
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [Question(row["prompt"], row["sentence"]) for row in rows if row["kind"] == kind]


def ask(url: str, model: str, questions: Sequence[Question]) -> list[Answered]:
    """The likeliest answer (temperature 0) to each question, in their order, AT_ONCE of them at the same time.

    url: of an OpenAI-compatible server, without /v1.

    Raises ValueError with the server's own words if it refuses one.
    """
    key = read_key(os.environ)
    with requests.Session() as session, ThreadPoolExecutor(AT_ONCE) as pool:
        session.trust_env = False  # a proxy for the web is none for loopback
        session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=AT_ONCE))
        session.headers.update({"Authorization": f"Bearer {key}"} if key else {})
        answers = pool.map(lambda question: _answer(session, url, model, question), questions)
        return [Answered(question, answer) for question, answer in zip(questions, answers, strict=True)]


def spread(answered: Sequence[Answered], count: int) -> list[Answered]:
    """`count` of them at equal distances: the file goes through its topics, so these are of many."""
    count = min(count, len(answered))
    return [answered[index * len(answered) // count] for index in range(count)]


def _answer(session: requests.Session, url: str, model: str, question: Question) -> str:
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": question.prompt}],
        "temperature": 0,
        "max_tokens": MAX_TOKENS,
    }
    response = session.post(f"{url}/v1/chat/completions", json=body, timeout=300)
    if not response.ok:
        raise ValueError(f"{url} refuses {question.prompt!r} (HTTP {response.status_code}): {response.text[:500]}")
    return str(response.json()["choices"][0]["message"]["content"])
