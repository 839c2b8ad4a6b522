"""What a request asks a model to go on from, or to score, as token ids."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from data.encode import conversation
from data.schema import Message
from minimind.text.chat import render
from minimind.text.tokenizer import Tokenizer
from service import errors
from service.backend import Chat, Texts


class Prompts:
    """Prompts in the ids of one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._longest_bytes = max(len(tokenizer.decode_bytes([token_id])) for token_id in range(tokenizer.vocab_size))
        names = sorted(tokenizer.special_ids, key=len, reverse=True)  # of two that begin alike the longer one is meant
        self._names = re.compile("(" + "|".join(map(re.escape, names)) + ")")

    def least_tokens(self, prompt: Chat | Texts) -> int:
        """How many tokens the longest text of the prompt has at least, told by its bytes alone."""
        texts = ["".join(_texts(prompt.messages, prompt.tools))] if isinstance(prompt, Chat) else prompt.prompts
        return max((self._least(text) for text in texts if isinstance(text, str)), default=0)

    def encode(self, prompt: Chat | Texts) -> list[list[int]]:
        """The ids of each text. Raises ApiError for a conversation in no order, and for ids that are not there."""
        if isinstance(prompt, Texts):
            begin = [self._tokenizer.bos_id] if prompt.begin else []
            return [begin + self._ids(text) for text in prompt.prompts]
        try:
            rendered = render(
                self._tokenizer, prompt.messages, prompt.tools, thinking=prompt.thinking, add_generation_prompt=True
            )
        except ValueError as error:
            raise errors.invalid(str(error), "messages") from None
        return [rendered.ids + self.forced(prompt)]

    def conversations(self, conversations: Sequence[Sequence[dict[str, Any]]], context_tokens: int) -> list[list[int]]:
        """The ids of whole conversations, as a reward model learns from them.

        Raises ApiError that names the first that the template refuses, or that has more than `context_tokens`.
        """
        written = []
        for number, messages in enumerate(conversations):
            where = f"conversations[{number}]"
            if (least := self._least("".join(_texts(messages)))) > context_tokens:
                raise errors.too_long_to_score(where, least, context_tokens, at_least=True)
            try:
                ids = conversation(self._tokenizer, [Message.model_validate(message) for message in messages]).ids
            except ValueError as error:
                raise errors.invalid(f"{where}: {error}", where) from None
            if len(ids) > context_tokens:
                raise errors.too_long_to_score(where, len(ids), context_tokens, at_least=False)
            written.append(ids)
        return written

    def _least(self, text: str) -> int:
        return -(-len(text.encode()) // self._longest_bytes)

    def forced(self, prompt: Chat) -> list[int]:
        """How an answer begins that must be a tool call: the prompt says it already, so the model goes on with it."""
        if prompt.forced is None:
            return []
        if prompt.thinking:
            raise errors.invalid("a forced call leaves no room to think: leave enable_thinking out", "tool_choice")
        # It ends where a word ends for the tokenizer: the space belongs to what follows.
        named = f'\n{{"name": "{prompt.forced}", "arguments":' if prompt.forced else "\n"
        return [self._tokenizer.special_ids["<tool_call>"], *self._tokenizer.encode(named)]

    def _ids(self, text: str | list[int]) -> list[int]:
        vocab_size, special = self._tokenizer.vocab_size, self._tokenizer.special_ids
        if isinstance(text, str):
            # As other servers read it: who writes a raw prompt writes the template by hand.
            pieces = filter(None, self._names.split(text))
            return [
                token_id
                for piece in pieces
                for token_id in ([special[piece]] if piece in special else self._tokenizer.encode(piece))
            ]
        if bad := next((token_id for token_id in text if token_id >= vocab_size), None):
            raise errors.invalid(f"token id {bad} is not in the vocabulary of {vocab_size} tokens", "prompt")
        return text


def _texts(messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]] = ()) -> Iterator[str]:
    """What the template writes of a conversation at least; its own words come on top."""
    for message in messages:
        yield message["content"].strip()
        yield message.get("reasoning_content", "").strip()
        for call in message.get("tool_calls", ()):
            yield call["function"]["arguments"]
    for tool in tools:
        yield json.dumps(tool, ensure_ascii=False)
