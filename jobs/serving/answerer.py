"""What answers in the terminal: the protocol that a server and a model in this process share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Message = dict[str, Any]

CONTINUED_TOKENS = 128
"""How far a model that only continues text goes on, in tokens: it may know no end."""


@dataclass(frozen=True)
class Model:
    """A model that can be talked to.

    chat: whether it has learnt to answer. temperature: its own, None where that is not known. weights: equal for equal
    weights, "" where they are not known.
    """

    id: str
    chat: bool = True
    temperature: float | None = None
    weights: str = ""


@dataclass(frozen=True)
class Manner:
    """How to answer. None leaves it to the model."""

    temperature: float | None = None
    thinking: bool | None = None


@dataclass(frozen=True)
class Part:
    """What comes of an answer. kind: "reasoning", "content" or "tool_call"."""

    kind: str
    text: str


class Answerer(Protocol):
    """Whoever answers."""

    def models(self) -> list[Model]:
        """What can be talked to: first what has learnt to answer, and the newest of that."""

    def find(self, name: str) -> Model:
        """The model of this name. Raises ValueError that lists what there is."""

    def answer(self, model: str, messages: Sequence[Message], manner: Manner) -> Iterator[Part]:
        """The answer, as it comes. Closing the iterator stops it. Raises ValueError in words."""

    def go_on(self, model: str, text: str, manner: Manner) -> Iterator[Part]:
        """How a text goes on, as `answer` gives an answer."""
