"""Black-box distillation: a teacher behind an endpoint writes the answers that a student learns by SFT.

Sequence-level knowledge distillation (Kim and Rush 2016, arXiv:1606.07947): nothing of the teacher is needed but what
it says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from data.check import fault
from data.prompts import Prompt, Prompts
from jobs import paths
from jobs.endpoints.endpoint import Body, Endpoint, EndpointError, GarbledError, QuestionRefusedError, RefusedError
from jobs.endpoints.reply import read_reply, tokens_of
from jobs.synthesis.journal import Entry, Journal
from jobs.synthesis.rows import known, messages_of, summed, turn_of
from jobs.terminal.counting import counting
from minimind.language import say

IN_A_ROW = 3
"""After so many failures with no answer in between the teacher is taken to be gone."""

BYTES_PER_TOKEN = 3
"""For what nobody counts: a Chinese character, most of an English token. So rather more tokens than there are."""

ENDED = ("stop", "tool_calls", "function_call", "eos", "eos_token", "end_turn")
"""How servers say that an answer ended by itself."""

FILTERED = ("content_filter", "sensitive", "safety", "refusal")
"""How they say that a filter ended it."""

_BY_A_FILTER = re.compile(
    r"content[ _-]?(filter|policy|management)|data_inspection|safety|inappropriate content|flagged|moderation"
    r"|敏感|不安全",
    re.IGNORECASE,
)
"""What stands in the refusal of a question that a filter kept back, in their makers' words."""


@dataclass(frozen=True)
class Asking:
    """How a teacher is asked; what is None is its own affair."""

    max_tokens: int
    temperature: float | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Distilled:
    """What a call came to. record: the file's, see docs/data.md; {} where no prompt was done. unanswered: where prompts
    stand that got no answer and can be asked again. needed_tokens: the budget without which the next is not asked; None
    where it was not in the way.
    """

    record: Mapping[str, Any]
    unanswered: tuple[str, ...] = ()
    needed_tokens: int | None = None

    @property
    def is_finished(self) -> bool:
        """Whether no prompt is left."""
        return bool(self.record.get("finished"))


def distill(
    teacher: Endpoint,
    prompts: Prompts,
    out: Path,
    asking: Asking,
    console: Console,
    *,
    budget_tokens: int | None = None,
    licence: str | None = None,
) -> Distilled:
    """Have a teacher answer prompts, and write its answers as rows for SFT, in the order of the prompts.

    budget_tokens: of prompts and answers, in all calls for this file together. What has been done is kept and never
    asked again. Raises ValueError for a file that was begun otherwise, EndpointError where the teacher is gone.
    """
    asked = {
        "teacher": {"url": teacher.url, "model": teacher.model},
        "prompts": known(prompts),
        **asdict(asking),
    }
    with Journal.open(out, asked, prompts=paths.kept(str(prompts.path)), licence=licence) as journal:
        if journal.is_finished:
            return Distilled(journal.record)
        work = _Work(teacher, prompts, asking, journal, budget_tokens)
        title = say("{model} answers", model=teacher.name)
        try:
            with counting(title, len(prompts.each), console, done=len(journal)) as tell:
                for _ in work.steps():
                    tell()
        except EndpointError as error:
            if not len(journal):
                raise
            raise EndpointError(
                say(
                    "{error}. {done} of {total} prompts are done and kept; the same command goes on",
                    error=error,
                    done=len(journal),
                    total=len(prompts.each),
                )
            ) from None
        finally:
            journal.keep(_summed(prompts, journal), finished=len(journal) == len(prompts.each))
        return Distilled(journal.record, tuple(prompts.each[number].where for number in work.unanswered), work.needed)


class _Work:
    """Questions to the teacher, and what becomes of what it says. needed: see Distilled."""

    def __init__(
        self, teacher: Endpoint, prompts: Prompts, asking: Asking, journal: Journal, budget_tokens: int | None
    ) -> None:
        self._teacher, self._prompts, self._asking, self._journal = teacher, prompts.each, asking, journal
        self._budget_tokens = budget_tokens
        self._spent_tokens = sum(entry["tokens"] for _, entry in journal.entries())
        self._asked: list[int] = []  # the number of each question of the stream
        self._under_way: dict[int, int] = {}  # the most tokens that each may take
        self._failed: list[tuple[int, Entry | None, str]] = []  # since the last answer
        self._has_answered = len(journal) > 0
        self.unanswered: list[int] = []
        self.needed: int | None = None

    def steps(self) -> Iterator[None]:
        """Ask; after each answer, or failure to get one, a step. Raises EndpointError where the teacher is gone."""
        with closing(self._teacher.stream(self._bodies(), lambda answer, seconds: answer)) as answers:
            for place, answer in answers:
                number = self._asked[place]
                del self._under_way[number]
                if isinstance(answer, EndpointError):
                    self._take_failure(number, answer)
                else:
                    self._take(number, entry_of(self._prompts[number], answer))
                yield
        if self._failed and not self._has_answered:
            raise EndpointError(self._failed[-1][2])
        self._settle_failures()

    def _bodies(self) -> Iterator[Body | None]:
        """The questions that the budget has room for, each with the most that it may take."""
        for number, prompt in enumerate(self._prompts):
            if number in self._journal:
                continue
            body = body_of(prompt, self._asking)
            most = about_tokens(body) + self._asking.max_tokens
            while not self._has_room(most):
                if not self._under_way:
                    self.needed = self._spent_tokens + most
                    return
                yield None
            self._under_way[number] = most
            self._asked.append(number)
            yield body

    def _has_room(self, tokens: int) -> bool:
        taken = self._spent_tokens + sum(self._under_way.values())
        return self._budget_tokens is None or taken + tokens <= self._budget_tokens

    def _take(self, number: int, entry: Entry) -> None:
        self._spent_tokens += entry["tokens"]
        if entry.get("why") == "garbled":
            self._fail(
                number,
                entry,
                say("{url}: what came is no answer: {problem}", url=self._teacher.url, problem=entry["detail"]),
            )
            return
        self._has_answered = True
        self._settle_failures()
        self._journal.add(number, entry)

    def _take_failure(self, number: int, error: EndpointError) -> None:
        if isinstance(error, RefusedError):
            raise error
        problem, nothing = str(error), {"tokens": 0}
        if isinstance(error, GarbledError):
            self._fail(number, _left_out("garbled", problem, nothing), problem)
        elif not isinstance(error, QuestionRefusedError):
            self._fail(number, None, problem)
        elif _BY_A_FILTER.search(problem):
            self._take(number, _left_out("filtered", problem, nothing))
        elif self._has_answered:  # so its settings are right, and it is this prompt that it does not take
            self._journal.add(number, _left_out("refused", problem, nothing))
        else:
            self._fail(number, _left_out("refused", problem, nothing), problem)

    def _fail(self, number: int, entry: Entry | None, problem: str) -> None:
        """entry: what is kept of it once it is known that the teacher does answer; None: it can be asked again."""
        self._failed.append((number, entry, problem))
        if len(self._failed) == IN_A_ROW:
            raise EndpointError(problem)

    def _settle_failures(self) -> None:
        for number, entry, _ in self._failed:
            if entry is None:
                self.unanswered.append(number)
            else:
                self._journal.add(number, entry)
        self._failed.clear()


def body_of(prompt: Prompt, asking: Asking) -> Body:
    """What the teacher is sent."""
    messages, tools = messages_of(prompt.turns)
    chosen = {"temperature": asking.temperature, "seed": asking.seed, "tools": tools or None}
    given = {name: value for name, value in chosen.items() if value is not None}
    return {"messages": messages, "max_tokens": asking.max_tokens, **given}


def about_tokens(content: object) -> int:
    """About how many tokens a text is, or messages are."""
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    return -(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN)


def entry_of(prompt: Prompt, answer: Mapping[str, Any]) -> Entry:
    """What is kept of an answer: its row, or `why` there is none, of LEFT_OUT, and in detail; `tokens`, and `estimated`
    where the endpoint does not say how many.
    """
    cost = _cost(prompt, answer)
    try:
        reply = read_reply(answer, 0.0)
        message = answer["choices"][0].get("message") or {}
        whole = len(message.get("tool_calls") or ()) == len(reply.calls)
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        return _left_out("garbled", repr(error), cost)
    if message.get("refusal") or reply.finish in FILTERED:
        return _left_out("filtered", str(message.get("refusal") or reply.finish), cost)
    if reply.finish not in ENDED:
        return _left_out("cut_off", reply.finish, cost)
    if not reply.text.strip() and not reply.calls:
        return _left_out("empty", "", cost)
    if not whole:
        return _left_out("unfit", say("the arguments of a call are no JSON"), cost)
    row = {"conversations": [*prompt.turns, turn_of(reply)]}
    if problem := fault("sft", row):
        return _left_out("unfit", problem, cost)
    return {"row": row, **cost}


def _left_out(why: str, detail: str, cost: Entry) -> Entry:
    """detail: half a character in it, which no file takes, becomes "?"."""
    return {"why": why, "detail": detail[:200].encode("utf-8", "replace").decode(), **cost}


def _cost(prompt: Prompt, answer: Mapping[str, Any]) -> Entry:
    both = (tokens_of(answer, "prompt") or 0) + (tokens_of(answer, "completion") or 0)
    if tokens := max(tokens_of(answer, "total") or 0, both):
        return {"tokens": tokens}
    return {"tokens": about_tokens(prompt.turns) + about_tokens(answer.get("choices")), "estimated": True}


def _summed(prompts: Prompts, journal: Journal) -> dict[str, Any]:
    """What the record says of all that came."""
    entries = [entry for _, entry in journal.entries()]
    return {
        **summed(prompts, journal),
        "tokens": sum(entry["tokens"] for entry in entries),
        "tokens_estimated_of": sum("estimated" in entry for entry in entries),
    }
