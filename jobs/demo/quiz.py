"""Questions whose answers are known, put to a served model over HTTP, alone and in the course of a conversation."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from jobs.endpoints.keys import read_key
from minimind.language import say

AT_ONCE = 16
MAX_TOKENS = 96


@dataclass(frozen=True)
class Question:
    """A row of eval.jsonl. expected: the whole sentence that the model was taught to say. before: what is asked first,
    in the same conversation.
    """

    prompt: str
    expected: str
    before: tuple[str, ...] = ()


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
    """The questions of one kind in an eval.jsonl; see jobs.stock.build."""
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [Question(row["prompt"], row["sentence"], tuple(row["before"])) for row in rows if row["kind"] == kind]


def ask(url: str, model: str, questions: Sequence[Question]) -> list[Answered]:
    """The likeliest answer (temperature 0) to each question, in their order, each in a conversation of its own.

    url: of an OpenAI-compatible server, without /v1. Raises ValueError with the server's own words if it refuses one.
    """
    talks = [[*(Question(text, "") for text in question.before), question] for question in questions]
    return [answered[-1] for answered in converse(url, model, talks)]


def ask_in_turn(url: str, model: str, questions: Sequence[Question], turns: int) -> list[list[Answered]]:
    """Each question once as first turn of a conversation, once as second, and so on: `turns` lists in their order.

    What is asked and answered before it is of other topics, for a file of questions goes through its topics. Arguments
    and errors as of `ask`.
    """
    count = len(questions)
    places = [[(start + turn * count // turns) % count for turn in range(turns)] for start in range(count)]
    talks = converse(url, model, [[questions[place] for place in talk] for talk in places])
    found = [
        {talk[turn]: answered[turn] for talk, answered in zip(places, talks, strict=True)} for turn in range(turns)
    ]
    return [[answers[number] for number in range(count)] for answers in found]


def converse(url: str, model: str, talks: Sequence[Sequence[Question]]) -> list[list[Answered]]:
    """Conversations, AT_ONCE of them at the same time; in each, a question is asked when the one before is answered,
    and the model is shown its own answers. Arguments and errors as of `ask`.
    """
    key = read_key(os.environ)
    with requests.Session() as session, ThreadPoolExecutor(AT_ONCE) as pool:
        session.trust_env = False  # a proxy for the web is none for loopback
        session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=AT_ONCE))
        session.headers.update({"Authorization": f"Bearer {key}"} if key else {})
        return list(pool.map(lambda talk: _converse(session, url, model, talk), talks))


def spread(answered: Sequence[Answered], count: int) -> list[Answered]:
    """`count` of them at equal distances: the file goes through its topics, so these are of many."""
    count = min(count, len(answered))
    return [answered[index * len(answered) // count] for index in range(count)]


def _converse(session: requests.Session, url: str, model: str, talk: Sequence[Question]) -> list[Answered]:
    messages: list[dict[str, str]] = []
    answered = []
    for question in talk:
        messages.append({"role": "user", "content": question.prompt})
        answer = _answer(session, url, model, messages)
        messages.append({"role": "assistant", "content": answer})
        answered.append(Answered(question, answer))
    return answered


def _answer(session: requests.Session, url: str, model: str, messages: list[dict[str, str]]) -> str:
    body: dict[str, Any] = {"model": model, "messages": messages, "temperature": 0, "max_tokens": MAX_TOKENS}
    response = session.post(f"{url}/v1/chat/completions", json=body, timeout=300)
    if not response.ok:
        raise ValueError(
            say(
                "{url} refuses {asked!r} (HTTP {status}): {text}",
                url=url,
                asked=messages[-1]["content"],
                status=response.status_code,
                text=response.text[:500],
            )
        )
    return str(response.json()["choices"][0]["message"]["content"])
