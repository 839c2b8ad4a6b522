"""The seam between HTTP and the models: what a request asks of a replica, and what comes back.

Everything here is plain data, so it crosses a process boundary as it is. A replica answers a `Generation` with one
`Accepted`, then lists of `Piece`s until every choice has a `finish`; a `Scoring` with one `Accepted`, then `Scores`; or
either with a `Failure`, at any point, and nothing after it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any, Protocol

from jobs.serving.model_card import ModelCard
from minimind.text.chat import Delta
from service.errors import ApiError


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation to answer. thinking: None leaves it to the model.

    forced: the answer must be a call of this tool; "" of any; None leaves it to the model. one_call: the answer ends
    with its first call.
    """

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    thinking: bool | None = None
    forced: str | None = None
    one_call: bool = False


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts, in which the names of special tokens are the tokens, or token ids, to go on from.

    echo: give them back in front of the answer. begin: as new documents.
    """

    prompts: list[str | list[int]]
    echo: bool = False
    begin: bool = False


@dataclass(frozen=True, slots=True)
class Generation:
    """One request. n: answers for each prompt. max_tokens: None is as much as fits.

    temperature to repetition_penalty: None leaves it to the model's checkpoint. stop: texts that end the answer; of a
    conversation's only in its content. ignore_eos: the end token does not end it. logprobs: how many alternatives to
    name at each token, 0 only the chosen one's, None none at all. stream: pieces are wanted as they come, not all at
    the end.
    """

    model: str
    prompt: Chat | Texts
    n: int = 1
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None
    stream: bool = False


@dataclass(frozen=True, slots=True)
class Scoring:
    """Conversations that a reward model is to judge, each with an answer at its end."""

    model: str
    conversations: list[list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Accepted:
    """The model is in memory and the prompts fit. model: of a generation as it was asked for; of a scoring as run@step,
    for scores of two checkpoints are not to be compared. fingerprint: equal for equal weights in equal precision.
    """

    model: str
    fingerprint: str
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class TokenProb:
    """A token's bytes and its log-probability (None for the first of a text); top: the likeliest, best first.

    in_text: the text has these bytes; it has not those of a token that ends it.
    """

    token: bytes
    logprob: float | None
    top: list[tuple[bytes, float]]
    in_text: bool = True


@dataclass(slots=True)
class Piece:
    """What is new of one choice. tokens: where log-probs were asked for. finish: "stop" or "length", at its end.

    decode_s: with the last piece of a request, the time between its first token and its last, 0 before.
    """

    choice: int
    deltas: list[Delta] = field(default_factory=list)
    tokens: list[TokenProb] = field(default_factory=list)
    completion_tokens: int = 0
    finish: str | None = None
    decode_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Scores:
    """What a reward model says of each conversation, and how many tokens this has."""

    scores: list[float]
    tokens: list[int]


@dataclass(frozen=True, slots=True)
class Failure:
    """The request cannot be answered, or not to its end."""

    error: ApiError


Asked = Generation | Scoring
Reply = Accepted | list[Piece] | Scores | Failure


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in a replica's memory. bytes: of weights and KV cache."""

    model: str
    dtype: str
    bytes: int
    slots: int
    running: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Status:
    """A replica at one moment."""

    replica: str
    memory_bytes: int
    models: list[Loaded]


class Backend(Protocol):
    """Whoever answers: replicas behind Serve, or one in this process."""

    def generate(self, asked: Asked) -> AsyncGenerator[Reply]:
        """The replies to a request. Closing the generator cancels it."""

    async def models(self) -> list[ModelCard]:
        """What can be asked for now."""

    async def model(self, name: str) -> ModelCard:
        """What this name means now, also run@best and run@latest. Raises ApiError, 404, where it means nothing."""

    async def status(self) -> Status:
        """What a replica holds. Raises ApiError while there is none."""
