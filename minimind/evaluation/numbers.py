"""The numbers of a text: in digits, in Chinese numerals, in English words."""

from __future__ import annotations

import re
from collections.abc import Iterator

_WIDE = str.maketrans("０１２３４５６７８９．，－−﹣＋", "0123456789.,---+")

_DIGITS = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?|(?<![0-9])\.[0-9]+")

_CHINESE_DIGITS = {sign: value for value, sign in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_UNITS = {"十": 10, "百": 100, "千": 1000, "万": 10_000}
_SIGNS = "".join(_CHINESE_DIGITS)
_CHINESE = re.compile(rf"[{_SIGNS}十][{_SIGNS}十百千万]*(?:点[{_SIGNS}]+)?")
_NO_NUMBER = re.compile(
    rf"(?<![{_SIGNS}十百千万])(?:一(?:下|起|样|共|些|定|点(?![{_SIGNS}])|般|直|道|切|种|会|旦|边|来|步|题|方面|句话)"
    rf"|万一|十分)|[统唯]一|之一|第[{_SIGNS}十百]+|百分之"
)
"""Words with a numeral in them that count nothing."""

_ONES = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_TEENS = ["ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_ENGLISH_VALUES = {"zero": 0} | {word: value for value, word in enumerate([*_ONES, *_TEENS], 1)}
_ENGLISH_VALUES |= {word: value for value, word in zip(range(20, 100, 10), _TENS, strict=True)}
_SMALL = rf"(?:(?:{'|'.join(_TENS)})(?:[\s-](?:{'|'.join(_ONES)}))?|{'|'.join(_TEENS)}|{'|'.join(_ONES)}|zero)"
_ENGLISH = re.compile(rf"\b(?:(?:{'|'.join(_ONES)}|a)\s+hundred(?:\s+(?:and\s+)?{_SMALL})?|{_SMALL})\b", re.IGNORECASE)

_NEGATIVE = re.compile(r"(?:(?:负|零下|\b(?:minus|negative))\s*|(?<![0-9)])(?<![0-9)]\s)-)$", re.IGNORECASE)
_NAMED = re.compile(r"(?:[=为得剩下有]|等于|答案是|\b(?:is|are|equals|left|makes|has|have)\b)\s*$", re.IGNORECASE)
"""What stands before a "one" that is a number, and no article."""


def last_number(text: str) -> float | None:
    """The last number of a text, None if there is none.

    Digits may be full-width and have thousands separators; numerals may be Chinese up to 万 or English up to hundreds.
    A minus is a sign unless a number stands before it. "一" and "one", which mostly are articles, only count where the
    words before name a result, or where there is no other number.
    """
    weak: float | None = None
    for value, certain in _numbers_from_the_end(text.translate(_WIDE)):
        if certain:
            return value
        weak = value if weak is None else weak
    return weak


def _numbers_from_the_end(text: str) -> Iterator[tuple[float, bool]]:
    """Each number with whether it certainly is one."""
    found = [(match.start(), match[0], float(match[0].replace(",", ""))) for match in _DIGITS.finditer(text)]
    words = _NO_NUMBER.sub(lambda match: "　" * len(match[0]), text)
    found += [(match.start(), match[0], _chinese(match[0])) for match in _CHINESE.finditer(words)]
    found += [(match.start(), match[0], _english(match[0])) for match in _ENGLISH.finditer(text)]
    for start, written, value in sorted(found, reverse=True):
        before = text[max(start - 12, 0) : start]
        certain = written.lower() not in ("一", "one") or _NAMED.search(before) is not None
        yield (-value if _NEGATIVE.search(before) else value), certain


def _chinese(numeral: str) -> float:
    whole, _, fraction = numeral.partition("点")
    value = _chinese_whole(whole)
    return value + float("0." + _plain_digits(fraction)) if fraction else value


def _chinese_whole(numeral: str) -> float:
    if not any(sign in _UNITS for sign in numeral):
        return float(_plain_digits(numeral))
    total = section = digit = 0.0
    for sign in numeral:
        if sign in _CHINESE_DIGITS:
            digit = _CHINESE_DIGITS[sign]
        elif sign == "万":
            total += (section + digit) * _UNITS[sign]
            section = digit = 0.0
        else:
            section += (digit or 1) * _UNITS[sign]
            digit = 0.0
    # 一百五 is a hundred and fifty, 一百零五 a hundred and five.
    before = _UNITS.get(numeral[-2:-1], 10)
    return total + section + digit * (before / 10 if digit else 1)


def _plain_digits(signs: str) -> str:
    return "".join(str(_CHINESE_DIGITS[sign]) for sign in signs)


def _english(words: str) -> float:
    value = 0
    for word in re.split(r"[\s-]+", words.lower()):
        if word == "hundred":
            value = (value or 1) * 100
        else:
            value += _ENGLISH_VALUES.get(word, 0)
    return float(value)
