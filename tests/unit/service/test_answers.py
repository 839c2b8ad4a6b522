from __future__ import annotations

from collections.abc import Sequence

import pytest

from minimind.inference.completion import RequestEvent
from minimind.network.model import MiniMind
from minimind.text.chat import Delta
from minimind.text.tokenizer import Tokenizer
from service.answers import ChatText, Named, watch
from service.backend import Chat, Generation, Texts, TokenProb
from service.prompts import Prompts
from tests.toys import ids_of_bytes

CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'


@pytest.fixture
def tokenizer(known_by_heart: tuple[MiniMind, Tokenizer]) -> Tokenizer:
    return known_by_heart[1]


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of a text in which the names of special tokens are the tokens."""
    [found] = Prompts(tokenizer).encode(Texts([text]))
    return found


def answered(
    tokenizer: Tokenizer, text: str, stop: Sequence[str] = (), one_call: bool = False
) -> tuple[dict[str, str], bool]:
    """What comes of an answer, by kind, and whether it ended before its text did."""
    answer = ChatText(tokenizer, Chat([], [], one_call=one_call), stop)
    deltas: list[Delta] = []
    for token_id in ids(tokenizer, text):
        if not answer.ended:
            deltas += answer.push(token_id)
    deltas += answer.finish()
    said: dict[str, str] = {}
    for delta in deltas:
        said[delta.kind] = said.get(delta.kind, "") + delta.text
    return said, answer.ended


@pytest.mark.parametrize(
    ("text", "stop", "said", "ended"),
    [
        ("<think>\nI divide.\n</think>\n\nYes.", ["divide"], {"reasoning": "I divide.", "content": "Yes."}, False),
        ("<think>\nI\nthink.\n</think>\n\nYes.", ["\n", "\n\n"], {"reasoning": "I\nthink.", "content": "Yes."}, False),
        ("<think>\nYes.\n</think>\n\nYes. No.", [" No"], {"reasoning": "Yes.", "content": "Yes."}, True),
        (CALL, ["\n", "f", "name"], {"tool_call": '{"a": 1}'}, False),
        (f"Wait.\n{CALL}", ["\n"], {"content": "Wait.", "tool_call": '{"a": 1}'}, False),
        ("one\ntwo", ["\n"], {"content": "one"}, True),
        ("one\n", ["\n"], {"content": "one"}, False),  # white space at its end is no part of an answer
        ("one two three", ["two x", "ee", "thr"], {"content": "one two"}, True),
        ("one two three", ["three!"], {"content": "one two three"}, False),
        ("一二三", ["三"], {"content": "一二"}, True),
        ("aab", ["ab"], {"content": "a"}, True),
        ("one", ["one"], {}, True),
    ],
)
def test_a_stop_string_ends_what_is_said_and_nothing_else(
    tokenizer: Tokenizer, text: str, stop: list[str], said: dict[str, str], ended: bool
) -> None:
    assert answered(tokenizer, text, stop) == (said, ended)


def test_one_call_is_all_where_no_more_may_come(tokenizer: Tokenizer) -> None:
    two = f"{CALL}\n{CALL}"
    assert answered(tokenizer, two)[0] == {"tool_call": '{"a": 1}{"a": 1}'}
    assert answered(tokenizer, f"{two} and more", one_call=True) == ({"tool_call": '{"a": 1}'}, True)
    assert answered(tokenizer, "no call", one_call=True) == ({"content": "no call"}, False)


def test_the_thread_is_told_at_the_token_that_ends_it(tokenizer: Tokenizer) -> None:
    chat = Chat([], [])
    ended = watch(tokenizer, Generation("m", chat, stop=("three",)), (), ())
    assert ended is not None
    told = [ended(RequestEvent(0, token_id)) for token_id in ids(tokenizer, "one two three four")]
    at = told.index(True)
    text = tokenizer.decode(ids(tokenizer, "one two three four")[: at + 1])
    assert "three" in text
    assert "four" not in text
    assert watch(tokenizer, Generation("m", chat), (), ()) is None
    assert watch(tokenizer, Generation("m", Texts(["a"]), stop=("x",)), (), ()) is None  # the engine looks itself
    prompt = ids(tokenizer, "<|im_start|>assistant\n<think>\n")
    ended = watch(tokenizer, Generation("m", chat, stop=("three",)), prompt, ())
    assert ended is not None
    told = [ended(RequestEvent(0, token_id)) for token_id in ids(tokenizer, "three\n</think>\n\none three")]
    assert told.index(True) == len(told) - 1
    forced = ids(tokenizer, '<tool_call>\n{"name": "f", "arguments":')
    ended = watch(tokenizer, Generation("m", Chat([], [], one_call=True)), forced, forced)
    assert ended is not None
    told = [ended(RequestEvent(0, token_id)) for token_id in ids(tokenizer, ' {"a": 1}}\n</tool_call>\nmore')]
    assert told.count(True) >= 1
    assert not told[0]


@pytest.mark.parametrize(
    ("text", "stop", "named"),
    [
        ("one\ntwo", "\n", "one"),
        ("one two", "two", "one "),
        ("one two", "three", "one two"),
        ("<think>\nI do.\n</think>\n\nYes", "Yes", "<think>\nI do.\n</think>"),
    ],
)
def test_tokens_that_a_stop_string_takes_back_have_no_name(
    tokenizer: Tokenizer, text: str, stop: str, named: str
) -> None:
    answer = ChatText(tokenizer, Chat([], []), [stop])
    names = Named(answer)
    tokens: list[TokenProb] = []
    for byte in text.encode() if "<" not in text else ():  # one token for each byte
        [token_id] = ids_of_bytes(tokenizer, bytes([byte]))
        if not answer.ended:
            answer.push(token_id)
            tokens += names.push(TokenProb(bytes([byte]), -1.0, []))
    for token_id in ids(tokenizer, text) if "<" in text else ():
        if not answer.ended:
            answer.push(token_id)
            tokens += names.push(TokenProb(tokenizer.decode_bytes([token_id]), -1.0, []))
    answer.finish()
    tokens += names.finish()
    assert b"".join(token.token for token in tokens).decode().rstrip() == named.rstrip()
