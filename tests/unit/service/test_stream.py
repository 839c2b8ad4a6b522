from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import anyio
import pytest

from minimind.text.chat import Delta
from service import stream
from service.backend import Accepted, Failure, Piece, Reply, TokenProb
from service.errors import ApiError
from service.stream import ChatFormat, TextFormat

ACCEPTED = Accepted("m", "fp", 5)


async def replies(*given: Reply) -> AsyncGenerator[Reply]:
    for reply in given:
        yield reply


def events(words: stream.Format, *given: Reply, include_usage: bool = False) -> list[Any]:
    async def collect() -> list[bytes]:
        return [data async for data in stream.stream(ACCEPTED, replies(*given), words, include_usage=include_usage)]

    data = anyio.run(collect)
    assert all(item.startswith(b"data: ") and item.endswith(b"\n\n") for item in data)
    return [item[6:-2].decode() if item == stream.DONE else json.loads(item[6:]) for item in data]


def test_a_chat_stream() -> None:
    first = [Piece(0, [Delta("reasoning", "hm"), Delta("content", "巴")], completion_tokens=2)]
    last = [Piece(0, [Delta("content", "黎")], completion_tokens=1, finish="length", decode_s=0.25)]
    chunks = events(ChatFormat(logprobs=False), first, last, include_usage=True)
    assert chunks[0]["choices"] == [
        {
            "index": 0,
            "delta": {"role": "assistant", "content": "巴", "reasoning_content": "hm"},
            "logprobs": None,
            "finish_reason": None,
        }
    ]
    assert chunks[1]["choices"][0]["delta"] == {"content": "黎"}
    assert chunks[1]["choices"][0]["finish_reason"] is None
    # The end stands alone: some clients read no text beside it.
    assert chunks[2]["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}]
    assert chunks[3]["usage"] == {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    assert chunks[3]["minimind"] == {"decode_s": 0.25}
    assert "minimind" not in chunks[0]
    assert chunks[0]["usage"] is None
    assert chunks[4] == "[DONE]"


def test_an_event_is_one_line_for_every_client() -> None:
    text = "a\u2028b\u2029c\u0085d\ne 巴黎 \\"
    line, empty, nothing = stream.event({"content": text}).decode().split("\n")
    assert (empty, nothing) == ("", "")
    assert line.splitlines() == [line], "httpx's iter_lines would cut it"
    assert json.loads(line.removeprefix("data: ")) == {"content": text}


def test_an_answer_of_one_piece_has_its_role_once_and_its_end_alone() -> None:
    both = [Piece(0, [Delta("content", "a")], finish="stop"), Piece(1, [Delta("content", "b")])]
    chunks = events(ChatFormat(logprobs=False), both, [Piece(1, finish="stop")])
    assert [choice["delta"] for choice in chunks[0]["choices"]] == [
        {"role": "assistant", "content": "a"},
        {"role": "assistant", "content": "b"},
    ]
    assert [(c["index"], c["delta"], c["finish_reason"]) for c in chunks[1]["choices"]] == [(0, {}, "stop")]
    assert [(c["index"], c["delta"], c["finish_reason"]) for c in chunks[2]["choices"]] == [(1, {}, "stop")]


def test_a_silent_stream_says_that_it_is_still_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "QUIET_S", 0.001)
    closed: list[bool] = []

    async def run() -> list[bytes]:
        go_on = asyncio.Event()

        async def waiting() -> AsyncGenerator[Reply]:
            try:
                await go_on.wait()
                yield [Piece(0, [Delta("content", "a")], finish="stop")]
            finally:
                closed.append(True)

        told = []
        async for data in stream.stream(ACCEPTED, waiting(), ChatFormat(False), include_usage=False):
            told.append(data)
            if len(told) == 3:
                go_on.set()
        # A client that goes away while nothing comes ends what it waits for.
        never = stream.stream(ACCEPTED, waiting(), ChatFormat(False), include_usage=False)
        go_on.clear()
        assert await anext(never) == stream.STILL_HERE
        await never.aclose()
        return told

    told = asyncio.run(run())
    assert told[:3] == [stream.STILL_HERE] * 3
    assert stream.STILL_HERE.startswith(b":")
    assert told[-1] == stream.DONE
    assert closed == [True, True]


def test_a_failure_is_an_event_and_the_last_one() -> None:
    chunks = events(ChatFormat(False), [Piece(0, [Delta("content", "a")])], Failure(ApiError(503, "gone", code="lost")))
    assert chunks[-1]["error"]["code"] == "lost"
    assert "[DONE]" not in chunks


def test_tool_calls_in_pieces_and_whole() -> None:
    pieces = [
        Piece(0, [Delta("tool_call", '{"a"', 0, "call_1", "f")]),
        Piece(0, [Delta("tool_call", ": 1}", 0), Delta("tool_call", "{}", 1, "call_2", "g")], finish="stop"),
    ]
    chunks = events(ChatFormat(False), [pieces[0]], [pieces[1]])
    assert chunks[0]["choices"][0]["delta"]["tool_calls"] == [
        {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a"'}}
    ]
    assert chunks[1]["choices"][0]["delta"]["tool_calls"][0] == {"index": 0, "function": {"arguments": ": 1}"}}
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [None, None, "tool_calls"]
    whole = ChatFormat(False).whole(pieces)
    assert whole["message"]["content"] is None
    assert [call["function"] for call in whole["message"]["tool_calls"]] == [
        {"name": "f", "arguments": '{"a": 1}'},
        {"name": "g", "arguments": "{}"},
    ]
    assert whole["finish_reason"] == "tool_calls"


def test_an_answer_that_says_nothing_is_empty_text() -> None:
    assert ChatFormat(False).whole([Piece(0, finish="stop")])["message"]["content"] == ""


def test_whole_answers_keep_their_choices_apart() -> None:
    given = [
        [
            Piece(1, [Delta("content", "b")], completion_tokens=1),
            Piece(0, [Delta("content", "a")], completion_tokens=1),
        ],
        [Piece(1, [Delta("content", "B")], finish="stop"), Piece(0, finish="length")],
    ]
    answer = anyio.run(stream.whole, ACCEPTED, replies(*given), TextFormat(False))
    assert [(choice["text"], choice["finish_reason"]) for choice in answer["choices"]] == [
        ("a", "length"),
        ("bB", "stop"),
    ]
    assert answer["usage"]["total_tokens"] == 7
    with pytest.raises(ApiError, match="gone"):
        anyio.run(stream.whole, ACCEPTED, replies(Failure(ApiError(503, "gone"))), TextFormat(False))


def test_the_first_reply_decides() -> None:
    assert anyio.run(stream.accepted, replies(ACCEPTED)) == ACCEPTED
    with pytest.raises(ApiError, match="no room"):
        anyio.run(stream.accepted, replies(Failure(ApiError(503, "no room"))))
    with pytest.raises(ApiError, match="no answer"):
        anyio.run(stream.accepted, replies())


def test_logprobs_of_texts_count_characters() -> None:
    tokens = [
        TokenProb("法".encode()[:1], None, []),
        TokenProb("法".encode()[1:], -1.0, [(b"x", -0.5)]),
        TokenProb(b" a", -2.0, [(b" a", -2.0)]),
        TokenProb(b"!", -3.0, []),
        TokenProb(b"<|im_end|>", -4.0, [], in_text=False),
    ]
    words = TextFormat(True)
    first = words.chunk(Piece(0, tokens=tokens[:3]))["logprobs"]
    second = words.chunk(Piece(0, tokens=tokens[3:]))["logprobs"]
    assert first["text_offset"] + second["text_offset"] == [0, 0, 1, 3, 4]
    assert second["tokens"][-1] == "<|im_end|>"
    assert first["tokens"][0] == "bytes:\\xe6"
    assert first["token_logprobs"] == [None, -1.0, -2.0]
    assert first["top_logprobs"] == [None, {"x": -0.5, "bytes:\\xb3\\x95": -1.0}, {" a": -2.0}]


def test_pieces_merge_in_order() -> None:
    merged = stream.merged(
        [Piece(2, [Delta("content", "a")], completion_tokens=1), Piece(2, [Delta("content", "b")], finish="stop")]
    )
    assert (merged.choice, [delta.text for delta in merged.deltas], merged.finish) == (2, ["a", "b"], "stop")
