"""What is wrong with a text, whatever was asked: the ways in which small models fail, by name.

Each diagnosis is careful: where a good text could look the same (a refrain, a list, digits), it says nothing. The time
of each grows with the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from minimind.evaluation import measures
from minimind.evaluation.checkers import Answer
from minimind.language import phrase
from minimind.text.chat import read_call
from minimind.text.tokenizer import SPECIAL_TOKENS

_LEAST_LOOP = 90
"""The least length of a text whose end may be a loop; a Chinese character counts twice, for it says as much."""
_LEAST_REPEATS = 3
_LEAST_SHORT_LOOP = 40
_LEAST_SHORT_REPEATS = 6
"""A shorter text has to be a loop from beginning to end, and so often that it is no laughter."""
_MOST_LAUGHS = 25
_MOST_ROWS = 30
"""So many syllables of laughter, and so many rows of tables, may be alike before they count as a loop."""
_LEAST_SIGNS = 300
"""The least length of a text for a loop without letters: zeros of a large number, a line of a table are shorter."""

_GRAM = 4
_LEAST_WORDS = 60
_DISTINCT = 0.25
"""Below this share of different 4-grams a text says everything four times. Songs with a refrain are above 0.3."""

_LONGEST_ECHO = 12
_NEARLY_ALL = 0.8
_MOSTLY = 0.6

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_CUT = re.compile(r"[\ud800-\udfff\ufffd]")
_TAG = re.compile("|".join(map(re.escape, SPECIAL_TOKENS)) + r"|<\|spare[0-9]+\|>")
_TAG_SIDE = re.compile(r"_(?:start|end)$")
_CALL_BODY = re.compile(r'\s*\{\s*"name"\s*:[^{}]*"arguments"')
_CODE = re.compile(r"```[^`]*(?:```|$)|`[^`\n]*`")
_LAUGHTER = re.compile(
    r"(?P<han>[哈呵嘿嘻嘎呜啊啦喵汪]{2,})|(?<![a-z])(?:heh|lol|ha|a?(?:ha|he|hi|ho){2,})h?(?![a-z])", re.IGNORECASE
)
# Prose has white space behind a comma, and ends in a stop.
_TABLE_ROW = re.compile(
    r"^[^\n|]*\|[^\n]*$|^[^\n,]+(?:,[^\s,][^\n,]*)+(?<![.!?。！？])$|^[^\n\t]+(?:\t[^\n\t]+)+$", re.MULTILINE
)


def diagnose(answer: Answer, *, language: str | None, max_tokens_reached: bool) -> tuple[str, ...]:
    """The names of what is wrong with an answer, in the order of DIAGNOSES.

    language: the one that is expected, "zh" or "en"; None where either will do.
    max_tokens_reached: the answer was cut because it used all tokens that it was given.
    """
    found = {
        "never_ends": max_tokens_reached or answer.finish == "length",
        "wrong_language": language is not None and _is_other_language(answer.text, language),
    } | {name: test(answer) for name, test in _TESTS.items()}
    return tuple(name for name in DIAGNOSES if found[name])


def describe(name: str) -> str:
    """A diagnosis as a sentence in the reader's language; one that a later version may know, by its name."""
    return phrase(DIAGNOSES[name]) if name in DIAGNOSES else name


DIAGNOSES: dict[str, str] = {
    "empty": "It says nothing.",
    "never_ends": "It does not come to an end: it was cut off.",
    "repeats": "It says the same again and again.",
    "wrong_language": "It is in the other language than was asked for.",
    "cut_character": "It holds a broken character.",
    "leaked_tag": "It shows a tag that belongs to the format of a conversation, not to its text.",
    "broken_call": "It calls a tool in a form that cannot be read.",
    "copied_prompt": "It repeats the question, or copies the text it was given.",
    "control_characters": "It holds control characters, which nobody can see.",
}
"""Name -> what it means, for `phrase`. Their order is that in which they are told."""


def _repeats(answer: Answer) -> bool:
    """A loop at the end, or everything said several times, in the text or in the thoughts.

    A table that was cut off is no excuse: a model that repeats a row seldom comes to an end.
    """
    ended = answer.finish != "length"
    texts = [_without_repeats_of_people(text, tables=ended) for text in (answer.text, answer.thinking)]
    return any(_loops(text.strip()) or _says_little(text) for text in texts)


def _without_repeats_of_people(text: str, *, tables: bool) -> str:
    """The rest of a text that laughs now and then, or has a table, whose rows may all be the same."""
    laughs = sum(len(laugh[0]) if laugh["han"] else len(laugh[0]) // 2 for laugh in _LAUGHTER.finditer(text))
    if laughs <= _MOST_LAUGHS:
        text = _LAUGHTER.sub("", text)
    if tables and 1 < len(_TABLE_ROW.findall(text)) <= _MOST_ROWS:
        text = _TABLE_ROW.sub("", text)
    return text


def _loops(text: str) -> bool:
    """Whether the last third is one unit, over and over; a short text has to be that from beginning to end."""
    weight = len(text) + len(measures.HAN.findall(text))
    if weight < _LEAST_SHORT_LOOP:
        return False
    short = weight < _LEAST_LOOP
    tail = text if short else text[-(len(text) // 3) :]
    period = _period(tail)
    if len(tail) < period * (_LEAST_SHORT_REPEATS if short else _LEAST_REPEATS):
        return False
    return weight >= _LEAST_SIGNS or any(character.isalpha() for character in tail[:period])


def _period(text: str) -> int:
    """The length of the shortest unit that makes the text when it is repeated; its last copy may be cut.

    By borders (Knuth, Morris and Pratt 1977), in one pass.
    """
    borders = [0] * len(text)
    for end in range(1, len(text)):
        border = borders[end - 1]
        while border and text[end] != text[border]:
            border = borders[border - 1]
        borders[end] = border + (text[end] == text[border])
    return len(text) - borders[-1] if text else 0


def _says_little(text: str) -> bool:
    """Whether few 4-grams of words are different, in the whole or in its second half."""
    words = [word.casefold() for word in measures.WORD.findall(text)]
    return any(len(part) >= _LEAST_WORDS and _distinct(part) < _DISTINCT for part in (words, words[len(words) // 2 :]))


def _distinct(words: Sequence[str]) -> float:
    """The share of different 4-grams. 1 where most words are numbers: those of a table are all alike."""
    if sum(word.isalpha() for word in words) * 2 < len(words):
        return 1.0
    return measures.distinct_grams(words, _GRAM)


def _is_other_language(text: str, language: str) -> bool:
    """Whether a text is in the other language, code aside. A name or a single word in Latin letters may be both."""
    text = _CODE.sub(" ", text)
    if language == "zh":
        latin = [word for word in measures.WORD.findall(text) if not measures.HAN.match(word) and word[0].isalpha()]
        return len(latin) >= 3 and measures.share(text, "en") >= 0.8
    return language == "en" and measures.share(text, "zh") >= 0.5 and len(measures.HAN.findall(text)) >= 2


def _is_cut(answer: Answer) -> bool:
    return any(_CUT.search(text) for text in (answer.text, answer.thinking))


def _leaks(answer: Answer) -> bool:
    """Whether a tag is shown that the prompt did not speak of."""
    tags = {match[0] for text in (answer.text, answer.thinking) for match in _TAG.finditer(text)}
    return any(not _speaks_of(answer.prompt, tag) for tag in tags)


def _speaks_of(prompt: str, tag: str) -> bool:
    """Whether a prompt has a tag or the one that goes with it, or names one. "think" alone is a word like others."""
    name = tag.strip("<|/>")
    pair, prompt = _pair(tag), prompt.casefold()
    named = (name != "think" and name in prompt) or (pair == "im" and "chatml" in prompt)
    return named or pair in map(_pair, _TAG.findall(prompt))


def _pair(tag: str) -> str:
    """What the two tags that go together share."""
    return _TAG_SIDE.sub("", tag.strip("<|/>"))


def _breaks_call(answer: Answer) -> bool:
    """Whether there is a call that is none: between its tags, or without them, as a parser hands on what is broken.

    Not where the prompt speaks of the tag, or of what is in a call.
    """
    bodies = [part.partition("</tool_call>")[0] for part in answer.text.split("<tool_call>")[1:]]
    spoken = _speaks_of(answer.prompt, "<tool_call>")
    if not bodies and _CALL_BODY.match(answer.text):
        bodies = [answer.text]
        spoken = "arguments" in answer.prompt
    return not spoken and any(read_call(body) is None for body in bodies)


def _copies(answer: Answer) -> bool:
    """Whether the answer is mostly the prompt, or is itself most of the prompt. One that goes on from it is neither."""
    text, prompt = (" ".join(part.casefold().split()) for part in (answer.text, answer.prompt))
    prompt = prompt.strip(" ?!.。？！:：")
    if len(prompt) <= _LONGEST_ECHO or not text:
        return False
    if text.count(prompt) * len(prompt) >= _MOSTLY * len(text):
        return True
    return len(text) >= _NEARLY_ALL * len(prompt) and text.strip(" ?!.。？！:：") in prompt


def _has_control(answer: Answer) -> bool:
    return any(_CONTROL.search(text) for text in (answer.text, answer.thinking))


_TESTS: dict[str, Callable[[Answer], bool]] = {
    "empty": lambda answer: answer.is_empty,
    "repeats": _repeats,
    "cut_character": _is_cut,
    "leaked_tag": _leaks,
    "broken_call": _breaks_call,
    "copied_prompt": _copies,
    "control_characters": _has_control,
}
