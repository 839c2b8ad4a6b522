"""The numbers of a text: in digits, in Chinese numerals, in English words. All are exact, however large."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from string import ascii_lowercase, ascii_uppercase

from minimind.evaluation.measures import HAN

# Capitals too: to `re`, one that ignores case is also ı or ſ, which no table here has.
_PLAIN = str.maketrans(f"０１２３４５６７８９．－−–﹣＋{ascii_uppercase}", f"0123456789.----+{ascii_lowercase}")
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")

_LONGEST = 2000
"""How many digits of a number are read: Python refuses to read more than 4300, and no right answer has as many."""

# Atomic, so that a long row of digits is not read again for each of the forms that it might begin.
_DECIMAL = r"(?>[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?|(?<![0-9])\.[0-9]+)"
_POWER = r"10(?:\^[{(]?(?P<power>[+-]?[0-9]{1,3})(?![0-9])[)}]?|(?P<raised>[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,3}))"
_TIMES = r"\s?(?:[x×*·]|\\times|\\cdot)\s?"

_CHINESE_DIGITS = {sign: value for value, sign in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_UNITS = {"十": 10, "百": 100, "千": 1000, "万": 10_000, "亿": 100_000_000}
_SIGNS = "".join(_CHINESE_DIGITS)
# 三点五亿; the time 三点五十 has no unit. 几十 and 数十 say no number.
_CHINESE = rf"(?>(?:[{_SIGNS}]|(?<![几数])十)[{_SIGNS}十百千万亿]{{0,99}}(?:点[{_SIGNS}]+(?:[十百千]?[万亿]{{1,2}})?)?)"
# 2千克 is two of a unit that begins with 千.
_UNIT = r"(?:[十百千]?万亿?|[十百千]?亿|百|千(?![克米瓦卡帕赫焦伏]|字节))"
_PART = rf"(?:{_DECIMAL}|{_CHINESE})"

_NO_NUMBER = (
    rf"(?<![{_SIGNS}十百千万亿])(?:一(?:下|起|样|共|些|定|点(?![{_SIGNS}])|般|直|道|切|种|会|旦|边|来|步|题|方面|句话"
    r"|半|致|律|再|向|同|时|旁)|万一|十分(?![钟之]))|[统唯]一|之一"
    rf"|第[{_SIGNS}十百千]+|百分之|零下|[两二三]者|两(?:边|旁|侧)|四(?:舍五入|面八方)|五颜六色|乱七八糟|七上八下"
    r"|十全十美|[一三]心[一二]意|(?:星期|礼拜)[一二三四五六](?![次天个])"
)
"""Words with a numeral in them that count nothing."""

_ONES = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_TEENS = ["ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_ENGLISH_VALUES = {"zero": 0} | {word: value for value, word in enumerate([*_ONES, *_TEENS], 1)}
_ENGLISH_VALUES |= {word: value for value, word in zip(range(20, 100, 10), _TENS, strict=True)}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_PARTS = {"half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8}
_PARTS |= {"ninth": 9, "tenth": 10}

_ONE, _SCALE, _NAME = "|".join(_ONES), "|".join(_SCALES), "|".join(_PARTS)
_GAP = r"(?:\s+|-)"
_SMALL = rf"(?:(?:{'|'.join(_TENS)})(?:[\s-](?:{_ONE}))?|{'|'.join(_TEENS)}|{_ONE}|zero)"
_HUNDRED = rf"(?:{_SMALL}|a){_GAP}hundred(?:{_GAP}(?:and\s+)?{_SMALL})?"
_GROUP = rf"(?:{_HUNDRED}|{_SMALL})"
_LARGE = (
    rf"(?:{_GROUP}|a){_GAP}(?:{_SCALE})(?:,?{_GAP}(?:and\s+)?{_GROUP}{_GAP}(?:{_SCALE}))*"
    rf"(?:,?{_GAP}(?:and\s+)?{_HUNDRED}|{_GAP}(?:and\s+)?{_SMALL})?"
)
_FRACTION = rf"\s+point(?:\s+(?:{_ONE}|zero))+(?:\s+(?:{_SCALE}))?"

_FORMS = {
    "nothing": _NO_NUMBER,
    "chinese_share": rf"(?:(?P<before>{_PART})又)?(?P<below>{_PART}|[千万])分之(?P<above>{_PART})",
    "latex_share": r"(?:(?<![0-9/.,])(?P<whole>[0-9]{1,9})\s?)?\\[dt]?frac\s?(?:\{(?P<top>-?[0-9]{1,9})\}\s?"
    r"\{(?P<bottom>[0-9]{1,9})\}|(?P<one_above>[0-9])(?P<one_below>[0-9]))",
    "share": r"(?<![0-9/.,])(?:(?P<and>[0-9]{1,9}) )?(?P<over>[0-9]{1,9})/(?P<under>[0-9]{1,9})(?![0-9/]|[.,][0-9])",
    "scientific": rf"(?P<decimal>{_DECIMAL})e(?P<exponent>[+-]?[0-9]{{1,3}})(?![0-9a-z])"
    rf"|(?:(?P<times>{_DECIMAL}){_TIMES}|(?<![0-9.,])){_POWER}",
    "with_units": rf"{_DECIMAL}\s?{_UNIT}(?:[0-9]+{_UNIT})*(?:(?<=万)[0-9]{{4}}(?![0-9])|(?<=千)[0-9]{{3}}(?![0-9]))?",
    "scaled": rf"(?P<count>{_DECIMAL})(?P<scales>(?:[\s-]?(?:hundred|{_SCALE})s?(?![a-z]))+)",
    # What is behind ^ is a power, as in cm^2.
    "digits": rf"(?<!\^)(?<!\^\{{){_DECIMAL}",
    "english_share": rf"(?<![a-z])(?:one{_GAP}(?:{_NAME})|(?:{_ONE}){_GAP}(?:(?:{_NAME})s|halves))(?![a-z])",
    "english": rf"(?<![a-z])(?:{_LARGE}|{_GROUP})(?:{_FRACTION})?(?![a-z])",
    "chinese": _CHINESE,
}
_NUMBER = re.compile("|".join(f"(?P<{name}>{form})" for name, form in _FORMS.items()))

_SIGN = re.compile(
    r"(?:(?P<always>负|零下|(?<![a-z])negative)|(?P<minus>(?<![a-z])minus)|-)(?P<apart>\s*)[$£€¥￥]?\s*$"
)
_RESULT = re.compile(r"(?:[=≈:：是为得]|(?<![a-z])(?:is|are|be|equals|makes|gives))[^\S\n]*\Z")
_NAMED = re.compile(r"(?:[=为得剩下有]|等于|答案是|\b(?:is|are|equals|left|makes|has|have)\b)\s*$")
"""What stands before a "one" that is a number, and no article."""
_LATEX_COMMA = re.compile(r"(?<=[0-9])(?:\{,\}|\\[,!])(?=[0-9]{3})")
"""How LaTeX sets off thousands: 1{,}234 and 1\\,234."""
_BEFORE = 24
"""How many characters before a number may say something of it."""


def last_number(text: str) -> float | None:
    r"""The last number of a text, an int where it is whole; None if there is none.

    Digits may be full-width, with commas between thousands (a Chinese comma never is one of those), a power of ten or
    what multiplies them: 1e5, 2 × 10^3, 100万, 5 million. Numerals may be Chinese up to 亿 or English up to trillions.
    Fractions are 四分之三, two thirds, \frac{3}{4}, and 3/4, which may stand behind a whole number (2 3/4); what could
    be made smaller, such as 20/4, is a division, whose last number counts. Of a percentage the number counts.

    A minus is a sign unless a number or a letter stands before it: 9 - 5, GPT-4. Where white space is behind it, it
    only is one after what names a result (is, =, 是): else it subtracts from something, or opens an item of a list.
    "一" and "one", which mostly are articles, only count where the words before name a result, or where there is no
    other number.
    """
    weak: float | None = None
    for value, certain in _numbers_from_the_end(_LATEX_COMMA.sub(",", text.translate(_PLAIN))):
        if certain:
            return _plain(value)
        weak = _plain(value) if weak is None else weak
    return weak


def exact(number: float) -> Fraction:
    """What the digits of a finite number say: 0.1 is a tenth, and not what is nearest to it in binary."""
    return Fraction(number) if isinstance(number, int) else Fraction(repr(number))


def same(found: Fraction, wanted: Fraction, tolerance: Fraction = Fraction(0)) -> bool:
    """Whether two numbers are the same, give or take `tolerance`. Those that are not whole may be rounded, to 1e-9."""
    away = abs(found - wanted)
    is_whole = 1 in (found.denominator, wanted.denominator)
    return away <= tolerance or (not is_whole and away * 10**9 <= abs(wanted))


def _plain(value: Fraction) -> float:
    is_whole = value.denominator == 1 or abs(value) > sys.float_info.max
    return int(value) if is_whole else float(value)


def _numbers_from_the_end(text: str) -> Iterator[tuple[Fraction, bool]]:
    """Each number with whether it certainly is one."""
    found = [match for match in _NUMBER.finditer(text) if match.lastgroup != "nothing"]
    for place in reversed(range(len(found))):
        match = found[place]
        end = found[place - 1].end() if place else 0
        before = text[max(end, match.start() - _BEFORE) : match.start()]
        certain = match[0] not in ("一", "one") or _NAMED.search(before) is not None
        value = _READ[match.lastgroup or ""](match)
        yield (-value if _is_negative(before, follows=place > 0) else value), certain


def _is_negative(before: str, *, follows: bool) -> bool:
    """Whether what stands before a number makes it negative. follows: another number stands before that."""
    sign = _SIGN.search(before)
    if sign is None or sign["always"]:
        return sign is not None
    head = before[: sign.start()]
    if follows and not head.strip(" \t)）%％"):
        return False
    if sign["minus"]:
        return True
    if sign["apart"]:
        return _RESULT.search(head) is not None
    return not head or not (head[-1] in ")]）-" or (head[-1].isalnum() and not HAN.match(head[-1])))


def _decimal(digits: str) -> Fraction:
    whole, _, part = digits.replace(",", "").partition(".")
    return Fraction(f"{whole[:_LONGEST] or 0}.{part[:_LONGEST] or 0}")


def _scientific(match: re.Match[str]) -> Fraction:
    power = match["exponent"] or match["power"] or match["raised"].translate(_RAISED)
    return _decimal(match["decimal"] or match["times"] or "1") * Fraction(10) ** int(power)


def _with_units(match: re.Match[str]) -> Fraction:
    pieces = re.findall(rf"({_DECIMAL})\s?([十百千万亿]*)", match[0])
    return sum((_decimal(count) * math.prod(_UNITS[unit] for unit in units) for count, units in pieces), Fraction(0))


def _scaled(match: re.Match[str]) -> Fraction:
    scales = re.findall(r"[a-z]+?(?=s?(?![a-z]))", match["scales"])
    return _decimal(match["count"]) * math.prod((_SCALES | {"hundred": 100})[scale] for scale in scales)


def _share(match: re.Match[str]) -> Fraction:
    over, under = int(match["over"]), int(match["under"])
    if not under or math.gcd(over, under) > 1:
        return Fraction(under)
    return Fraction(over, under) + (int(match["and"]) if match["and"] and over < under else 0)


def _latex_share(match: re.Match[str]) -> Fraction:
    above, below = int(match["top"] or match["one_above"]), int(match["bottom"] or match["one_below"])
    return int(match["whole"] or 0) + (Fraction(above, below) if below else Fraction(above))


def _chinese_share(match: re.Match[str]) -> Fraction:
    above, below = _part(match["above"]), _part(match["below"])
    before = _part(match["before"]) if match["before"] else 0
    return before + above / below if below else above


def _part(written: str) -> Fraction:
    if written in _UNITS:
        return Fraction(_UNITS[written])
    return _chinese(written) if written[0] in _SIGNS + "十" else _decimal(written)


def _chinese(numeral: str) -> Fraction:
    whole, _, fraction = numeral.partition("点")
    signs = fraction.rstrip("十百千万亿")
    value = _chinese_whole(whole) + _decimal("." + _plain_digits(signs))
    return value * math.prod(_UNITS[unit] for unit in fraction[len(signs) :])


def _chinese_whole(numeral: str) -> int:
    if not any(sign in _UNITS for sign in numeral):
        return int(_plain_digits(numeral))
    total = section = digit = 0
    for sign in numeral:
        if sign in _CHINESE_DIGITS:
            digit = _CHINESE_DIGITS[sign]
        elif sign == "万":
            total += (section + digit) * _UNITS[sign]
            section = digit = 0
        elif sign == "亿":
            total = (total + section + digit) * _UNITS[sign]
            section = digit = 0
        else:
            section += (digit or 1) * _UNITS[sign]
            digit = 0
    # 一百五 is a hundred and fifty, 一百零五 a hundred and five.
    before = _UNITS.get(numeral[-2:-1], 10)
    return total + section + digit * before // 10


def _plain_digits(signs: str) -> str:
    return "".join(str(_CHINESE_DIGITS[sign]) for sign in signs)


def _english_share(match: re.Match[str]) -> Fraction:
    count, name = re.split(_GAP, match[0], maxsplit=1)
    name = name.replace("halves", "half").removesuffix("s")
    return Fraction(_ENGLISH_VALUES[count], _PARTS[name])


def _english(match: re.Match[str]) -> Fraction:
    whole, _, fraction = match[0].partition("point")
    total = group = 0
    for word in re.split(r"[\s,-]+", whole):
        if word == "hundred":
            group = (group or 1) * 100
        elif word in _SCALES:
            total += (group or 1) * _SCALES[word]
            group = 0
        else:
            group += _ENGLISH_VALUES.get(word, 0)
    words = fraction.split()
    digits = "".join(str(_ENGLISH_VALUES[word]) for word in words if word not in _SCALES)
    return (total + group + _decimal("." + digits)) * math.prod(_SCALES.get(word, 1) for word in words)


_READ: dict[str, Callable[[re.Match[str]], Fraction]] = {
    "chinese_share": _chinese_share,
    "latex_share": _latex_share,
    "share": _share,
    "scientific": _scientific,
    "with_units": _with_units,
    "scaled": _scaled,
    "digits": lambda match: _decimal(match[0]),
    "english_share": _english_share,
    "english": _english,
    "chinese": lambda match: _chinese(match[0]),
}
"""How each of `_FORMS` is read that is a number."""
