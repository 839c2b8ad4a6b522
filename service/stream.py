"""Replies of a replica in OpenAI's words: server-sent events as they come, or one answer at the end; and scores.

Written for many streams at once: plain dicts, serialised by pydantic's Rust core, one event for all that came together.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any, Protocol

from pydantic_core import to_json

from service.backend import Accepted, Failure, Piece, Reply, Scores, TokenProb
from service.errors import ApiError

DONE = b"data: [DONE]\n\n"

STILL_HERE = b": still at it\n\n"
"""A comment, which clients pass over: an answer that waits for a slot is silent, and proxies cut what is silent."""

QUIET_S = 15.0

Json = dict[str, Any]


_SEPARATORS = [(sign.encode(), f"\\u{ord(sign):04x}".encode()) for sign in "\u0085\u2028\u2029"]
"""Signs that end a line for many a client (httpx, str.splitlines), though not for the standard: as JSON escapes."""


def event(body: Json) -> bytes:
    """One server-sent event."""
    data = to_json(body)
    for sign, escape in _SEPARATORS:
        data = data.replace(sign, escape)
    return b"data: " + data + b"\n\n"


class Format(Protocol):
    """The words of one endpoint. An instance is for one request."""

    chunk_object: str
    whole_object: str
    prefix: str

    def chunk(self, piece: Piece) -> Json:
        """The entry of `choices` for what is new."""

    def whole(self, pieces: list[Piece]) -> Json:
        """The entry of `choices` for all pieces of one choice."""


class ChatFormat:
    """/v1/chat/completions."""

    chunk_object = "chat.completion.chunk"
    whole_object = "chat.completion"
    prefix = "chatcmpl-"

    def __init__(self, logprobs: bool) -> None:
        self._logprobs = logprobs
        self._begun: set[int] = set()
        self._called: set[int] = set()

    def chunk(self, piece: Piece) -> Json:
        """The entry of `choices` for what is new; the first of a choice carries the role."""
        delta = self._message(piece)
        for index, call in enumerate(delta.get("tool_calls", ())):
            delta["tool_calls"][index] = {key: value for key, value in call.items() if value is not None}
        if piece.choice not in self._begun:
            self._begun.add(piece.choice)
            delta = {"role": "assistant", "content": "", **delta}
        return {
            "index": piece.choice,
            "delta": delta,
            "logprobs": self._logprobs_of(piece),
            "finish_reason": self._finish(piece),
        }

    def whole(self, pieces: list[Piece]) -> Json:
        """The entry of `choices` for all pieces of one choice."""
        piece = merged(pieces)
        message = {"role": "assistant", "content": None, **self._message(piece), "refusal": None}
        for call in message.get("tool_calls", ()):
            del call["index"]
        if message["content"] is None and "tool_calls" not in message:
            message["content"] = ""
        return {
            "index": piece.choice,
            "message": message,
            "logprobs": self._logprobs_of(piece),
            "finish_reason": self._finish(piece),
        }

    def _message(self, piece: Piece) -> Json:
        message: Json = {}
        calls: dict[int, Json] = {}
        for delta in piece.deltas:
            if delta.kind == "tool_call":
                self._called.add(piece.choice)
                call = calls.setdefault(
                    delta.index,
                    {"index": delta.index, "id": None, "type": None, "function": {"arguments": ""}},
                )
                if delta.name:
                    call |= {"id": delta.id, "type": "function"}
                    call["function"] = {"name": delta.name, **call["function"]}
                call["function"]["arguments"] += delta.text
            else:
                name = "reasoning_content" if delta.kind == "reasoning" else "content"
                message[name] = message.get(name, "") + delta.text
        if calls:
            message["tool_calls"] = list(calls.values())
        return message

    def _finish(self, piece: Piece) -> str | None:
        return "tool_calls" if piece.finish == "stop" and piece.choice in self._called else piece.finish

    def _logprobs_of(self, piece: Piece) -> Json | None:
        if not self._logprobs:
            return None
        return {
            "content": [
                {
                    **_token(token.token, token.logprob or 0.0),
                    "top_logprobs": [_token(name, logprob) for name, logprob in token.top],
                }
                for token in piece.tokens
            ],
            "refusal": None,
        }


class TextFormat:
    """/v1/completions."""

    chunk_object = "text_completion"
    whole_object = "text_completion"
    prefix = "cmpl-"

    def __init__(self, logprobs: bool) -> None:
        self._logprobs = logprobs
        self._offsets: dict[int, int] = {}

    def chunk(self, piece: Piece) -> Json:
        """The entry of `choices` for what is new."""
        return {
            "index": piece.choice,
            "text": "".join(delta.text for delta in piece.deltas),
            "logprobs": self._logprobs_of(piece) if self._logprobs else None,
            "finish_reason": piece.finish,
        }

    def whole(self, pieces: list[Piece]) -> Json:
        """The entry of `choices` for all pieces of one choice."""
        return self.chunk(merged(pieces))

    def _logprobs_of(self, piece: Piece) -> Json:
        offset = self._offsets.get(piece.choice, 0)
        tokens, offsets = [], []
        for token in piece.tokens:
            tokens.append(_readable(token.token))
            inside = token.in_text and bool(token.token) and token.token[0] & 0xC0 == 0x80  # goes on with a character
            offsets.append(offset - inside)
            if token.in_text:
                offset += sum(byte & 0xC0 != 0x80 for byte in token.token)  # characters begin at bytes of other forms
        self._offsets[piece.choice] = offset
        return {
            "tokens": tokens,
            "token_logprobs": [token.logprob for token in piece.tokens],
            "top_logprobs": [_best(token) for token in piece.tokens],
            "text_offset": offsets,
        }


def merged(pieces: list[Piece]) -> Piece:
    """All pieces of one choice as one."""
    whole = Piece(pieces[0].choice)
    for piece in pieces:
        whole.deltas += piece.deltas
        whole.tokens += piece.tokens
        whole.completion_tokens += piece.completion_tokens
        whole.finish = piece.finish
    return whole


async def stream(
    accepted: Accepted, replies: AsyncGenerator[Reply], words: Format, *, include_usage: bool
) -> AsyncGenerator[bytes]:
    """The server-sent events of a request that was accepted. A failure on the way is an event, and the last one.

    The end of a choice is in an event of its own, as with OpenAI: some clients read no text beside it.
    """
    head = _head(accepted, words.chunk_object, words.prefix)
    usage = {"usage": None} if include_usage else {}
    completion_tokens, decode_s = 0, 0.0
    async with aclosing(_or_still_here(replies)) as told:
        async for reply in told:
            if reply is None:
                yield STILL_HERE
            elif isinstance(reply, Failure):
                yield event(reply.error.body())
                return
            elif isinstance(reply, list):
                completion_tokens += sum(piece.completion_tokens for piece in reply)
                decode_s = max([decode_s, *(piece.decode_s for piece in reply)])
                for pieces in _ends_apart(reply):
                    yield event({**head, "choices": [words.chunk(piece) for piece in pieces], **usage})
    if include_usage:
        spent = _usage(accepted.prompt_tokens, completion_tokens)
        yield event({**head, "choices": [], "usage": spent, "minimind": _took(decode_s)})
    yield DONE


async def _or_still_here(replies: AsyncGenerator[Reply]) -> AsyncGenerator[Reply | None]:
    """The replies, and None for each QUIET_S without one."""
    next_one = asyncio.ensure_future(anext(replies, None))
    try:
        while True:
            done, _ = await asyncio.wait({next_one}, timeout=QUIET_S)
            if not done:
                yield None
                continue
            reply = next_one.result()
            if reply is None:
                return
            yield reply
            next_one = asyncio.ensure_future(anext(replies, None))
    finally:
        next_one.cancel()
        with suppress(asyncio.CancelledError):
            await next_one
        await replies.aclose()


def _ends_apart(pieces: list[Piece]) -> list[list[Piece]]:
    """The pieces, and where one has text and the end of its choice, the ends in a second list."""
    ends = [piece for piece in pieces if piece.finish is not None and (piece.deltas or piece.tokens)]
    if not ends:
        return [pieces]
    texts = [replace(piece, finish=None) if piece in ends else piece for piece in pieces]
    return [texts, [Piece(piece.choice, finish=piece.finish) for piece in ends]]


async def whole(accepted: Accepted, replies: AsyncGenerator[Reply], words: Format) -> Json:
    """The one answer. Raises ApiError for a failure on the way."""
    choices: dict[int, list[Piece]] = {}
    async for reply in replies:
        if isinstance(reply, Failure):
            raise reply.error
        for piece in reply if isinstance(reply, list) else ():
            choices.setdefault(piece.choice, []).append(piece)
    every = [piece for pieces in choices.values() for piece in pieces]
    completion_tokens = sum(piece.completion_tokens for piece in every)
    return {
        **_head(accepted, words.whole_object, words.prefix),
        "choices": [words.whole(choices[index]) for index in sorted(choices)],
        "usage": _usage(accepted.prompt_tokens, completion_tokens),
        "minimind": _took(max((piece.decode_s for piece in every), default=0.0)),
    }


async def scores(replies: AsyncGenerator[Reply]) -> Json:
    """The answer of /v1/scores, in the words of vLLM's /score. Raises ApiError for a failure."""
    first = await accepted(replies)
    async for reply in replies:
        if isinstance(reply, Failure):
            raise reply.error
        if isinstance(reply, Scores):
            judged = enumerate(zip(reply.scores, reply.tokens, strict=True))
            return {
                "object": "list",
                "model": first.model,
                "data": [
                    {"object": "score", "index": index, "score": score, "tokens": tokens}
                    for index, (score, tokens) in judged
                ],
                "usage": {"prompt_tokens": first.prompt_tokens, "total_tokens": first.prompt_tokens},
            }
    raise _no_answer()


async def accepted(replies: AsyncGenerator[Reply]) -> Accepted:
    """The first reply. Raises ApiError if the request was refused."""
    async for reply in replies:
        if isinstance(reply, Accepted):
            return reply
        if isinstance(reply, Failure):
            raise reply.error
        break
    raise _no_answer()


def _no_answer() -> ApiError:
    return ApiError(500, "the replica gave no answer; its log says why", code="internal_error")


def _head(accepted: Accepted, kind: str, prefix: str) -> Json:
    return {
        "id": prefix + uuid.uuid4().hex[:24],
        "object": kind,
        "created": int(time.time()),
        "model": accepted.model,
        "system_fingerprint": accepted.fingerprint,
    }


def _usage(prompt_tokens: int, completion_tokens: int) -> Json:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def _took(decode_s: float) -> Json:
    """What OpenAI's usage has no place for. decode_s: from the first token to the last, in the engine."""
    return {"decode_s": round(decode_s, 6)}


def _token(token: bytes, logprob: float) -> Json:
    return {"token": _readable(token), "logprob": logprob, "bytes": list(token)}


def _readable(token: bytes) -> str:
    """A token's text; where it is a part of a character, its bytes, so that different tokens stay different."""
    try:
        return token.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token)


def _best(token: TokenProb) -> dict[str, float] | None:
    """OpenAI's old form: the alternatives by their text, with the token that was taken among them."""
    if token.logprob is None:
        return None
    best = {_readable(name): logprob for name, logprob in token.top}
    best.setdefault(_readable(token.token), token.logprob)
    return best
