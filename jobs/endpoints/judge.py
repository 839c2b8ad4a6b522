"""The term `judge`: what a model behind an endpoint says of answers. Where it is away, slow or talks nonsense, answers
are `Unjudged`, with why, and training goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing

from jobs.endpoints.endpoint import Body, Endpoint, EndpointError, QuestionRefusedError, RefusedError
from jobs.endpoints.keys import read_key
from jobs.endpoints.reply import read_reply
from minimind.evaluation.asking import Reply
from minimind.language import say
from minimind.rewards.terms import Attempt, Judge, Unjudged

IN_A_ROW = 3
"""After so many failures with no answer in between it is asked no more of these answers: it is gone, or hangs."""


class JudgeScorer:
    """A scorer for the term. environment: where its key is (MINIMIND_API_KEY, MINIMIND_API_KEY_FILE).

    Raises ValueError for a key that cannot be read. Nothing is asked until there is an answer to judge.
    """

    def __init__(self, term: Judge, environment: Mapping[str, str]) -> None:
        self._term, self._key = term, read_key(environment)
        self._endpoint = Endpoint(term.url, term.model, self._key, at_once=term.at_once, answer_s=term.timeout_s)

    def __call__(self, attempts: Sequence[Attempt]) -> list[float]:
        """The score of each; of a question that several come to, which is asked once, all have the same."""
        questions = [self._term.asked(attempt) for attempt in attempts]
        distinct = list(dict.fromkeys(questions))
        found: dict[str, float] = {}
        failures = 0
        with closing(self._endpoint.stream(self._bodies(distinct), read_reply)) as replies:
            for place, reply in replies:
                if not isinstance(reply, EndpointError):
                    failures = 0
                    found[distinct[place]] = self._read(reply)
                    continue
                failed = Unjudged(self._without_key(str(reply)))
                found[distinct[place]] = failed
                failures += not isinstance(reply, QuestionRefusedError)
                if isinstance(reply, RefusedError) or failures == IN_A_ROW:
                    found = dict.fromkeys(distinct, failed) | found
                    break
        return [found[question] for question in questions]

    def _bodies(self, questions: Sequence[str]) -> Iterator[Body]:
        for question in questions:
            messages = [{"role": "user", "content": question}]
            yield {"messages": messages, "temperature": 0, "max_tokens": self._term.max_tokens}

    def _read(self, reply: Reply) -> float:
        """The score in what the judge says, without what it thinks."""
        if reply.finish == "length":  # the number may have been still to come
            most = self._term.max_tokens
            return Unjudged(say("the judge's reply was cut off: raise its max_tokens, now {most}", most=most))
        return self._term.read(reply.text)

    def _without_key(self, problem: str) -> str:
        """What a server says of a key may repeat it, and why answers were not judged is kept in files."""
        return problem.replace(self._key, "***") if self._key else problem
