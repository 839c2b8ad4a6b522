"""An answer's token ids as text, as they come, and where it ends before its model ends it.

A stop string ends what is said: it is looked for in the content of a conversation's answer alone, for a thought or a
call that is cut in the middle is worth nothing. In a text that goes on everything is text, and the engine looks itself.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from typing import Protocol

from minimind.inference.completion import RequestEvent
from minimind.text.chat import Delta, StreamParser, ends_in_thought
from minimind.text.tokenizer import Tokenizer
from service.backend import Chat, Generation, TokenProb


class Text(Protocol):
    """Token ids into deltas. ended: nothing of what follows belongs to the answer."""

    ended: bool

    def push(self, token_id: int) -> list[Delta]:
        """What a token adds; often nothing yet."""

    def finish(self) -> list[Delta]:
        """What was held back, once no token follows."""


class PlainText:
    """Token ids as text, never half a character."""

    ended = False

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> list[Delta]:
        """What a token completes."""
        return _content(self._decoder.decode(self._tokenizer.decode_bytes((token_id,))))

    def finish(self) -> list[Delta]:
        """What was left incomplete."""
        return _content(self._decoder.decode(b"", final=True))


class ChatText:
    """A conversation's answer, which ends at a stop string in its content or, if it may have one only, after a call.

    in_thought: whether the prompt ends inside a thought, so that the answer begins in it. seen, given: how many
    characters of content the tokens made so far, and how many of them were handed on.
    """

    def __init__(self, tokenizer: Tokenizer, chat: Chat, stop: Sequence[str], *, in_thought: bool = False) -> None:
        self._parser = StreamParser(tokenizer, in_thought)
        self._stop = stop
        self._one_call = chat.one_call
        self._held = ""  # content that may be the beginning of a stop string
        self.ended = False
        self.seen = self.given = 0

    def push(self, token_id: int) -> list[Delta]:
        """What a token adds, as far as it belongs to the answer."""
        return self._taken(self._parser.push(token_id))

    def finish(self) -> list[Delta]:
        """What was held back."""
        deltas = self._taken(self._parser.finish())
        held, self._held = self._held, ""
        self.given += len(held)
        return deltas + _content(held)

    def _taken(self, deltas: list[Delta]) -> list[Delta]:
        taken: list[Delta] = []
        for delta in deltas:
            if self.ended:
                break
            if delta.kind == "content":
                self.seen += len(delta.text)
                taken += _content(self._before_stop(delta.text))
            else:
                taken.append(delta)
                self.ended = self._one_call and delta.kind == "tool_call"
        return taken

    def _before_stop(self, text: str) -> str:
        text = self._held + text
        found = [at for at in map(text.find, self._stop) if at >= 0]
        safe = min(found) if found else len(text) - max((_overlap(text, stop) for stop in self._stop), default=0)
        if safe < len(text):
            safe = len(text[:safe].rstrip())  # an answer has no white space at its end
        self.ended = bool(found)
        self._held = "" if found else text[safe:]
        self.given += safe
        return text[:safe]


def watch(
    tokenizer: Tokenizer, generation: Generation, prompt: Sequence[int], forced: Sequence[int]
) -> Callable[[RequestEvent], bool] | None:
    """Tells the thread of an engine, event by event, whether an answer has ended; None where its model ends it.

    forced: the ids at the end of the prompt that the answer begins with. The same is found once more where the text is
    handed on; here it is found in time, so that nothing is computed that nobody gets.
    """
    chat = generation.prompt
    if not isinstance(chat, Chat) or not (generation.stop or chat.one_call):
        return None
    text = ChatText(tokenizer, chat, generation.stop, in_thought=ends_in_thought(tokenizer, prompt))
    for token_id in forced:
        text.push(token_id)

    def ended(event: RequestEvent) -> bool:
        if event.token_id is not None:
            text.push(event.token_id)
        return text.ended

    return ended


class Named:
    """The tokens of an answer, handed on when it is certain that no stop string takes them back."""

    def __init__(self, text: Text) -> None:
        self._text = text if isinstance(text, ChatText) else None
        self._held: list[tuple[TokenProb, int]] = []  # and how much content there was after it

    def push(self, token: TokenProb) -> list[TokenProb]:
        """The tokens that may go out, given one more, whose text was pushed before."""
        if self._text is None:
            return [token]
        self._held.append((token, self._text.seen))
        if self._text.ended:
            return self.finish()
        # White space is content only if something follows.
        return [] if self._text.seen > self._text.given or token.token.isspace() else self.finish()

    def finish(self) -> list[TokenProb]:
        """What is held and belongs to the answer."""
        if self._text is not None and self._text.ended:
            given = self._text.given
            self._held = [(token, end) for token, end in self._held if end <= given]
            while self._held and self._held[-1][1] == given and self._held[-1][0].token.isspace():
                self._held.pop()
        tokens = [token for token, _ in self._held]
        self._held = []
        return tokens


def _content(text: str) -> list[Delta]:
    return [Delta("content", text)] if text else []


def _overlap(text: str, stop: str) -> int:
    """How much of the end of the text is the beginning of this stop string."""
    longest = min(len(stop) - 1, len(text))
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
