from __future__ import annotations

import calendar
import datetime
import operator
import re
from random import Random

import pytest

from jobs.stock.compose import Fact, draw, is_held, sentence
from jobs.stock.generators import arithmetic, dates, problems, story, units
from jobs.stock.topics import Language

LANGUAGES: tuple[Language, ...] = ("zh", "en")
UNITS = {"小时": 3600, "分钟": 60, "秒": 1, "天": 86400, "个星期": 604800, "千米": 1000, "米": 1}
UNITS |= {"公斤": 1000, "斤": 500, "两": 50, "千克": 1000, "克": 1, "吨": 1000000}
UNITS |= {"hour": 3600, "minute": 60, "second": 1, "day": 86400, "week": 604800, "kilometre": 1000, "metre": 1}
UNITS |= {"yard": 36, "foot": 12, "inch": 1, "pound": 16, "ounce": 1}


def many(make: object, language: Language, large: bool) -> list[Fact]:
    rng = Random(5)
    return [make(rng, language, large) for _ in range(400)]  # type: ignore[operator]  # one of three functions


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("large", [False, True])
def test_sums_are_right(language: Language, large: bool) -> None:
    for fact in many(arithmetic, language, large):
        found = re.fullmatch(r"(\d+)([-+×÷])(\d+)", fact.group)
        assert found
        left, sign, right = int(found[1]), found[2], int(found[3])
        operation = {"+": operator.add, "-": operator.sub, "×": operator.mul, "÷": operator.truediv}[sign]
        assert int(fact.answer) == operation(left, right) >= 0
        assert re.findall(r"\d+", fact.subject) == [str(left), str(right)]
        assert re.findall(r"\d+", sentence(fact)) == [str(left), str(right), fact.answer]
        assert large or max(left, right, int(fact.answer)) <= 81


@pytest.mark.parametrize("language", LANGUAGES)
def test_conversions_are_right(language: Language) -> None:
    checked = 0
    for fact in many(units, language, True):
        count, source, target = fact.group.split(" ")
        assert re.findall(r"\d+", sentence(fact)) == [count, fact.answer]
        if source in UNITS and target in UNITS:
            assert int(count) * UNITS[source] == int(fact.answer) * UNITS[target]
            checked += 1
    assert checked > 100


@pytest.mark.parametrize("language", LANGUAGES)
def test_dates_are_right(language: Language) -> None:
    kinds = set()
    days = [f"星期{day}" for day in "一二三四五六日"] if language == "zh" else list(calendar.day_name)
    for fact in many(dates, language, True):
        kind, *rest = fact.group.split(" ")
        kinds.add(kind if not kind[0].isdigit() else "later")
        if kind == "weekday" and rest[0] == "of":
            assert fact.answer == days[datetime.date.fromisoformat(rest[1]).weekday()]
        elif kind == "weekday":
            assert fact.answer == days[(int(rest[0]) + int(rest[2])) % 7]
            assert days[int(rest[0])] in fact.subject
        elif kind == "length":
            year, month = map(int, rest[0].split("-"))
            first = datetime.date(year, month, 1)
            after = datetime.date(year + month // 12, month % 12 + 1, 1)
            assert int(fact.answer) == (after - first).days
        elif kind == "leap":
            year = int(rest[0])
            leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
            assert fact.answer == ({"zh": "是", "en": "yes"} if leap else {"zh": "不是", "en": "no"})[language]
        else:
            end = datetime.date.fromisoformat(kind) + datetime.timedelta(days=int(rest[1]))
            numbers = [int(number) for number in re.findall(r"\d+", fact.answer)]
            assert numbers == ([end.year, end.month, end.day] if language == "zh" else [end.day, end.year])
            assert language == "zh" or calendar.month_name[end.month] in fact.answer
    assert kinds == {"weekday", "length", "leap", "later"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_problems_are_fresh_repeatable_and_never_those_that_are_kept_back(language: Language) -> None:
    first = problems(language, 90, 1, 0, held=False, large=False)
    assert first == problems(language, 90, 1, 0, held=False, large=False)
    assert len({fact.key for fact in first}) == 90
    assert {fact.topic for fact in first} == {f"{kind}_{language}" for kind in ("arithmetic", "units", "dates")}
    assert first != problems(language, 90, 1, 1, held=False, large=False)
    held = problems(language, 60, 1, 0, held=True, large=False)
    assert not {fact.group for fact in first} & {fact.group for fact in held}
    assert all(is_held(fact.group, 1) for fact in held)
    assert draw(first[0], 0, 0)[0].lower().startswith(first[0].subject.lower())


def test_english_units_have_their_plural() -> None:
    texts = " ".join(sentence(fact) for fact in many(units, "en", False))
    assert re.search(r"\b1 (foot|yard|hour|week)\b", texts)
    assert "foots" not in texts
    assert "inchs" not in texts


@pytest.mark.parametrize("language", LANGUAGES)
def test_stories(language: Language) -> None:
    stories = {story(Random(seed), language) for seed in range(200)}
    assert len(stories) > 150
    assert all(text.count("。" if language == "zh" else ".") == 3 for text in stories)
    assert not any("/" in text for text in stories)
    assert story(Random(1), language) == story(Random(1), language)
