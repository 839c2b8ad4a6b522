"""What an engine says of a request: events, one after the other, and the whole answer that they make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from minimind.inference.sampling import TopLogprobs

Finish = Literal["stop", "length", "cancelled", "failed"]
"""Why an answer ended: a stop id or stop string, its max_tokens, `cancel`, or an error of this request alone."""


@dataclass(frozen=True, slots=True)
class PromptToken:
    """The log-prob of a prompt's token, None for the first, and the likeliest ones at its place."""

    logprob: float | None
    top: TopLogprobs = ()


@dataclass(frozen=True, slots=True)
class RequestEvent:
    """What happened to one request in a step.

    token_id: the token written; None if the event brings none. The stop id that ends an answer is among them, with
        finish "stop"; tokens that belong to a stop string are not.
    logprob, top: as SamplingParams.logprobs asked. prompt: as prompt_logprobs asked, with the first event.
    finish: not None on a request's last event.
    rest: where a stop string begins in the middle of a token, the text before it.
    error: what went wrong, where finish is "failed".
    written_tokens: how many tokens were computed so far, those of a stop string included.
    score: of a text that a reward model was given (see minimind.inference.reward.Scorer), with its only event.
    """

    request: int
    token_id: int | None = None
    logprob: float | None = None
    top: TopLogprobs = ()
    finish: Finish | None = None
    rest: str = ""
    written_tokens: int = 0
    prompt: tuple[PromptToken, ...] | None = None
    error: str = ""
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer: the events of a request put together. logprobs and top are empty unless asked for."""

    token_ids: list[int]
    finish: Finish
    logprobs: list[float]
    top: list[TopLogprobs]
    rest: str
    written_tokens: int
    prompt: tuple[PromptToken, ...] | None


def completion(events: list[RequestEvent]) -> Completion:
    """A whole answer, given all events of its request."""
    tokens = [event for event in events if event.token_id is not None]
    last = events[-1]
    assert last.finish is not None
    return Completion(
        token_ids=[event.token_id for event in tokens if event.token_id is not None],
        finish=last.finish,
        logprobs=[event.logprob for event in tokens if event.logprob is not None],
        top=[event.top for event in tokens if event.logprob is not None],
        rest=last.rest,
        written_tokens=last.written_tokens,
        prompt=events[0].prompt,
    )
