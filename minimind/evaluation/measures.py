"""How long a text is, in what language, and what it lists: counts that a person would come to by eye."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U000323af]")
_LATIN = re.compile(r"[A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f]")
_LETTER = re.compile(r"[^\W\d_]")

# A Chinese character is a word, and so is a run of other letters and digits with what joins them.
WORD = re.compile(rf"{HAN.pattern}|(?:(?!{HAN.pattern})[^\W_])+(?:['’\-.,](?:(?!{HAN.pattern})[^\W_])+)*")

_CLOSING = "\"'”’）)\\]」』》*"
_END = re.compile(rf"[。！？]+[{_CLOSING}]*|[.!?]+[{_CLOSING}]*(?=\s|$)(?!\s+[a-z])")
_ABBREVIATION = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|St|Prof|vs|etc|e\.g|i\.e|No|[A-Z])\.(?=\s)")

_NUMERALS = [*"一二三四五六七八九十", *(f"十{sign}" for sign in "一二三四五六七八九"), "二十"]
_ORDINAL = r"第(?:\d{1,2}|[一二三四五六七八九十]{1,3})[步点条项个]?[，,：:、]"
_MARK = re.compile(
    r"(?P<indent>[ \t　]*)(?:[-*•·+–—●○▪][ \t]+|[•·●○▪]|(?:\d{1,3}|[一二三四五六七八九十]{1,3}|[a-hA-H])[.)）、．]"
    rf"(?!\d)|[(（](?:\d{{1,3}}|[一二三四五六七八九十]{{1,3}})[)）]|[①-⑳]|{_ORDINAL})[ \t]*\S"
)
_INLINE = re.compile(rf"(?<![\d.])\d{{1,2}}(?=[.)）、．](?!\d))|[①-⑳]|{_ORDINAL}")
_NUMBER = re.compile(r"\d+|[①-⑳]|[一二三四五六七八九十]+")


def words(text: str) -> int:
    """How many words; a Chinese character counts as one."""
    return len(WORD.findall(text))


def characters(text: str) -> int:
    """How many characters, as one counts 字: without white space and punctuation."""
    return sum(unicodedata.category(character)[0] not in "ZCP" for character in text)


def sentences(text: str) -> int:
    """How many sentences. A line ends one; a number that opens a line, a decimal point and "Mr." do not."""
    count = 0
    for line in text.splitlines():
        mark = _MARK.match(line)
        line = _ABBREVIATION.sub("", line[mark.end() - 1 :] if mark else line)
        count += sum(_has_content(piece) for piece in _END.split(line))
    return count


def lines(text: str) -> int:
    """How many lines that are not blank."""
    return sum(bool(line.strip()) for line in text.splitlines())


def items(text: str) -> int:
    """How many items the numbered or bulleted list of a text has; what is indented below an item belongs to it.

    Where no two lines are items, numbers that count 1, 2, 3 inside a line make a list as well, and so do ①②③ and
    第一, 第二, 第三.
    """
    indents = [len(mark["indent"]) for line in text.splitlines() if (mark := _MARK.match(line)) is not None]
    if len(indents) > 1:
        return sum(indent == min(indents) for indent in indents)
    count = 0
    for match in _INLINE.finditer(text):
        count += _place(match[0]) == count + 1
    return max(count, len(indents))


def _place(mark: str) -> int:
    """The number in what marks an item."""
    number = _NUMBER.search(mark)
    if number is None:
        return 0
    if number[0].isdigit():
        return int(unicodedata.normalize("NFKC", number[0]))
    return _NUMERALS.index(number[0]) + 1 if number[0] in _NUMERALS else 0


def share(text: str, language: str) -> float:
    """Which share of the letters is Chinese ("zh") or Latin ("en"); 0 for a text without letters."""
    letters = len(_LETTER.findall(text))
    own = len((HAN if language == "zh" else _LATIN).findall(text))
    return own / letters if letters else 0.0


def distinct_grams(words: Sequence[str], size: int) -> float:
    """Which share of the runs of `size` words is different from those before; 1 where there is none."""
    grams = list(zip(*(words[start:] for start in range(size)), strict=False))
    return len(set(grams)) / len(grams) if grams else 1.0


def _has_content(piece: str) -> bool:
    return any(character.isalnum() for character in piece)
