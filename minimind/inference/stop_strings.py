"""Texts that end an answer, found while it is written."""

from __future__ import annotations

from collections.abc import Sequence

from minimind.inference.completion import RequestEvent
from minimind.text.tokenizer import Tokenizer


class StopStrings:
    """Holds events back while their tokens may be the beginning of a stop string."""

    def __init__(self, stop: Sequence[str], tokenizer: Tokenizer) -> None:
        self._stop = [text.encode("utf-8", errors="replace") for text in stop]
        self._tokenizer = tokenizer
        self._held: list[tuple[RequestEvent, int]] = []  # and where its text ends
        self._text = b""

    def push(self, event: RequestEvent) -> list[RequestEvent]:
        """The events that may go out now, given one more; the last has a finish if a stop string ends the text."""
        assert event.token_id is not None
        self._text += self._tokenizer.decode_bytes([event.token_id])
        self._held.append((event, len(self._text)))
        found = [at for at in map(self._text.find, self._stop) if at >= 0]
        safe = min(found) if found else len(self._text) - max(map(self._overlap, self._stop))
        begun = 0
        out: list[RequestEvent] = []
        while self._held and self._held[0][1] <= safe:
            held, begun = self._held.pop(0)
            out.append(held)
        if found:
            rest = self._text[begun:safe].decode("utf-8", errors="replace")
            self._held = []
            out.append(RequestEvent(event.request, finish="stop", rest=rest, written_tokens=event.written_tokens))
        self._text = self._text[begun:]
        self._held = [(held, end - begun) for held, end in self._held]
        return out

    def flush(self) -> list[RequestEvent]:
        """What is still held, where the answer ends otherwise."""
        return [event for event, _ in self._held]

    def _overlap(self, stop: bytes) -> int:
        """How much of the end of the text is the beginning of this stop string."""
        longest = min(len(stop) - 1, len(self._text))
        return next((size for size in range(longest, 0, -1) if self._text.endswith(stop[:size])), 0)
