"""Questions that can be made without end, with exact answers: sums, units, dates. And small stories to read."""

from __future__ import annotations

import calendar
import datetime
from collections.abc import Callable
from random import Random

from jobs.stock.compose import Fact, is_held
from jobs.stock.topics import Language

_DAYS_ZH = ("星期一", "星期二", "星期三", "星期四", "星期五", "星期六", "星期日")
_DAYS_EN = tuple(calendar.day_name)
_MONTHS_EN = tuple(calendar.month_name)

# How many of the second are in one of the first.
_UNITS_ZH = (
    ("千米", "米", 1000),
    ("米", "分米", 10),
    ("米", "厘米", 100),
    ("厘米", "毫米", 10),
    ("吨", "千克", 1000),
    ("千克", "克", 1000),
    ("公斤", "斤", 2),
    ("斤", "两", 10),
    ("小时", "分钟", 60),
    ("分钟", "秒", 60),
    ("天", "小时", 24),
    ("个星期", "天", 7),
    ("年", "个月", 12),
    ("元", "角", 10),
    ("角", "分", 10),
    ("升", "毫升", 1000),
    ("平方米", "平方分米", 100),
)
_UNITS_EN = (
    ("kilometre", "metre", 1000),
    ("metre", "centimetre", 100),
    ("centimetre", "millimetre", 10),
    ("tonne", "kilogram", 1000),
    ("kilogram", "gram", 1000),
    ("hour", "minute", 60),
    ("minute", "second", 60),
    ("day", "hour", 24),
    ("week", "day", 7),
    ("year", "month", 12),
    ("litre", "millilitre", 1000),
    ("dozen", "piece", 12),
    ("yard", "foot", 3),
    ("foot", "inch", 12),
    ("pound", "ounce", 16),
)


def arithmetic(rng: Random, language: Language, large: bool) -> Fact:
    """One sum, difference, product or exact quotient of whole numbers; the answer is never negative.

    large: up to three digits; otherwise sums up to 20 and the times table.
    """
    sign = rng.choice("+-×÷")
    if sign in "+-":
        top = 999 if large else 20
        total = rng.randint(1, top)
        a = rng.randint(0, total)
        left, right, answer = (a, total - a, total) if sign == "+" else (total, a, total - a)
    else:
        a, b = rng.randint(1, 99 if large else 9), rng.randint(1, 9)
        left, right, answer = (a, b, a * b) if sign == "×" else (a * b, b, a)
    group = f"{left}{sign}{right}"
    if language == "zh":
        word = {"+": "加", "-": "减", "×": "乘以", "÷": "除以"}[sign]
        asked = rng.choice(
            (f"{left}{word}{right}等于多少", f"{left}{word}{right}等于几", f"{left}{sign}{right}等于多少")
        )
        told = f"{left}{word}{right}等于{answer}。"
    else:
        word = {"+": "plus", "-": "minus", "×": "times", "÷": "divided by"}[sign]
        asked = rng.choice((f"what is {left} {word} {right}", f"how much is {left} {word} {right}"))
        told = f"{left} {word} {right} is {answer}."
    return Fact(f"arithmetic_{language}", asked, str(answer), told, group)


def units(rng: Random, language: Language, large: bool) -> Fact:
    """One conversion between units that gives a whole number, in either direction. large: bigger numbers."""
    table = _UNITS_ZH if language == "zh" else _UNITS_EN
    big, small, factor = rng.choice(table)
    count = rng.randint(1, 99 if large else 9)
    down = rng.random() < 0.7
    from_count, from_unit, to_count, to_unit = (
        (count, big, count * factor, small) if down else (count * factor, small, count, big)
    )
    group = f"{from_count} {from_unit} {to_unit}"
    if language == "zh":
        asked = rng.choice(
            (
                f"{from_count}{from_unit}等于多少{to_unit}",
                f"{from_count}{from_unit}是多少{to_unit}",
                f"{from_count}{from_unit}有多少{to_unit}",
            )
            if down
            else (f"{from_count}{from_unit}等于多少{to_unit}", f"{from_count}{from_unit}是多少{to_unit}")
        )
        told = f"{from_count}{from_unit}等于{to_count}{to_unit}。"
    else:
        given, result = _plural(from_count, from_unit), _plural(to_count, to_unit)
        many = _plural(2, to_unit).removeprefix("2 ")
        verb = "is" if from_count == 1 else "are"
        asked = rng.choice((f"how many {many} {verb} {given}", f"how many {many} are there in {given}"))
        told = f"{given} {verb} {result}."
    return Fact(f"units_{language}", asked, str(to_count), told, group)


def dates(rng: Random, language: Language, large: bool) -> Fact:
    """One question about weekdays, months or leap years between 1900 and 2100. large: also dates some days later."""
    kinds: tuple[Callable[[Random, Language], Fact], ...] = (_weekday_later, _month_length, _leap_year)
    return rng.choice((*kinds, _date_later, _weekday_of) if large else kinds)(rng, language)


def problems(language: Language, count: int, seed: int, epoch: int, *, held: bool, large: bool) -> list[Fact]:
    """`count` different problems of the three kinds in turn; fewer where there are not so many.

    held: only those that are kept back for evaluation, else only the others; on which side a problem is depends on the
    problem and the seed alone.
    """
    rng = Random(f"{seed}/{language}/{epoch}/{held}/{large}")
    found: dict[str, Fact] = {}
    for attempt in range(count * 60):
        if len(found) == count:
            break
        fact = (arithmetic, units, dates)[attempt % 3](rng, language, large)
        if is_held(fact.group, seed) == held:
            found.setdefault(fact.key, fact)
    return list(found.values())


def story(rng: Random, language: Language) -> str:
    """A very small story put together from parts."""
    who, where, when, thing, feeling, reason, end = (rng.choice(options) for options in _STORY[language])
    first, _, again = who.partition("/")
    again = again or first
    if language == "zh":
        return f"{when}，{first}来到{where}，看见{thing}。{again}{feeling}，因为{reason}。{end}"
    again = again[:1].upper() + again[1:]
    return f"{when}, {first} came to {where} and saw {thing}. {again} {feeling}, because {reason}. {end}"


def _weekday_later(rng: Random, language: Language) -> Fact:
    start, days = rng.randrange(7), rng.randint(1, 13)
    end = (start + days) % 7
    group = f"weekday {start} + {days}"
    if language == "zh":
        asked = f"{_DAYS_ZH[start]}之后{days}天是星期几"
        return Fact("dates_zh", asked, _DAYS_ZH[end], f"{_DAYS_ZH[start]}之后{days}天是{_DAYS_ZH[end]}。", group)
    later = f"{_plural(days, 'day')} after {_DAYS_EN[start]}"
    told = f"{later} it is {_DAYS_EN[end]}."
    return Fact("dates_en", f"what day of the week is it {later}", _DAYS_EN[end], told, group)


def _month_length(rng: Random, language: Language) -> Fact:
    year, month = rng.randint(1900, 2100), rng.randint(1, 12)
    days = str(calendar.monthrange(year, month)[1])
    group = f"length {year}-{month}"
    if language == "zh":
        return Fact("dates_zh", f"{year}年{month}月有多少天", days, f"{year}年{month}月有{days}天。", group)
    name = f"{_MONTHS_EN[month]} {year}"
    return Fact("dates_en", f"how many days are there in {name}", days, f"{name} has {days} days.", group)


def _leap_year(rng: Random, language: Language) -> Fact:
    year = rng.randint(1900, 2100)
    leap = calendar.isleap(year)
    group = f"leap {year}"
    if language == "zh":
        answer = "是" if leap else "不是"
        return Fact("dates_zh", f"{year}年是不是闰年", answer, f"{year}年{answer}闰年。", group)
    answer = "yes" if leap else "no"
    told = f"{answer.capitalize()}, {year} {'is' if leap else 'is not'} a leap year."
    return Fact("dates_en", f"is {year} a leap year", answer, told, group)


def _date_later(rng: Random, language: Language) -> Fact:
    start = _day(rng)
    days = rng.randint(1, 60)
    end = start + datetime.timedelta(days=days)
    group = f"{start} + {days}"
    if language == "zh":
        answer = f"{end.year}年{end.month}月{end.day}日"
        given = f"{start.year}年{start.month}月{start.day}日之后{days}天"
        return Fact("dates_zh", f"{given}是哪一天", answer, f"{given}是{answer}。", group)
    given = f"{_plural(days, 'day')} after {_date_en(start)}"
    return Fact("dates_en", f"which date is {given}", _date_en(end), f"{given} is {_date_en(end)}.", group)


def _weekday_of(rng: Random, language: Language) -> Fact:
    day = _day(rng)
    group = f"weekday of {day}"
    if language == "zh":
        name, answer = f"{day.year}年{day.month}月{day.day}日", _DAYS_ZH[day.weekday()]
        return Fact("dates_zh", f"{name}是星期几", answer, f"{name}是{answer}。", group)
    name, answer = _date_en(day), _DAYS_EN[day.weekday()]
    return Fact("dates_en", f"what day of the week is {name}", answer, f"{name} is a {answer}.", group)


def _day(rng: Random) -> datetime.date:
    return datetime.date(1900, 1, 1) + datetime.timedelta(days=rng.randrange(73_000))


def _date_en(day: datetime.date) -> str:
    return f"{day.day} {_MONTHS_EN[day.month]} {day.year}"


def _plural(count: int, unit: str) -> str:
    several = {"foot": "feet", "inch": "inches", "dozen": "dozen"}.get(unit, unit + "s")
    return f"{count} {unit if count == 1 else several}"


# Who (and who again, where that is said in another way), where, when, what they saw, what they felt, why, how it ended.
_STORY: dict[Language, tuple[tuple[str, ...], ...]] = {
    "zh": (
        (
            "小明",
            "小红",
            "一只小猫/小猫",
            "一位老奶奶/老奶奶",
            "一只小狐狸/小狐狸",
            "一个旅人/旅人",
            "一只小兔子/小兔子",
            "一个渔夫/渔夫",
            "一个木匠/木匠",
            "一个小女孩/小女孩",
            "邮递员",
            "李老师",
        ),
        (
            "河边",
            "山脚下",
            "一座小桥上",
            "森林里",
            "集市上",
            "海边",
            "果园里",
            "学校门口",
            "一间老屋前",
            "灯塔下",
            "车站",
        ),
        ("一天早上", "有一天傍晚", "下雨的时候", "雪后的清晨", "很久以前的一个夜晚", "过年的前一天", "夏天的午后"),
        (
            "一只受伤的小鸟",
            "一封没有署名的信",
            "一棵开满花的树",
            "一把旧雨伞",
            "一条闪闪发光的鱼",
            "一盏亮着的灯",
            "一篮红红的苹果",
            "一只迷路的小狗",
            "一本厚厚的书",
            "一面会说话的镜子",
        ),
        ("很高兴", "觉得很奇怪", "看了很久", "吃了一惊", "停下了脚步", "心里很好奇"),
        (
            "从来没有见过这样的事",
            "想起了从前的朋友",
            "这正是一直在找的东西",
            "昨天这里还什么都没有",
            "周围一个人也没有",
        ),
        (
            "想了一会儿，决定明天再来看看。",
            "后来大家都来了，一起商量该怎么办。",
            "从那以后，每天都要来看一看。",
            "回家的路上，心里一直暖暖的。",
            "这件事，很多年以后还有人讲起。",
            "晚上把这件事讲给家里人听，大家都笑了。",
        ),
    ),
    "en": (
        (
            "Tom",
            "Anna",
            "Lily",
            "a little cat/the cat",
            "an old woman/the old woman",
            "a young fox/the fox",
            "a traveller/the traveller",
            "a fisherman/the fisherman",
            "a carpenter/the carpenter",
        ),
        (
            "the river",
            "a small bridge",
            "the edge of the forest",
            "the market",
            "the shore",
            "an orchard",
            "the lighthouse",
        ),
        (
            "One morning",
            "One evening",
            "On a rainy day",
            "After the first snow",
            "One night, long ago",
            "On a summer afternoon",
        ),
        (
            "a bird with a broken wing",
            "a letter without a name",
            "a tree full of flowers",
            "an old umbrella",
            "a fish that shone like silver",
            "a light in a window",
            "a basket of red apples",
            "a dog that had lost its way",
            "a very thick book",
        ),
        ("was happy", "was surprised", "stood still", "looked for a long time", "was curious"),
        (
            "nothing like it had ever been seen there",
            "it brought an old friend to mind",
            "there was nobody else around",
            "this was what everyone had been looking for",
            "the day before there had been nothing there",
        ),
        (
            "The next morning there was time for a second look.",
            "In the end the neighbours came, and all was well.",
            "From then on there was a visit every day.",
            "The way home seemed shorter than before.",
            "People told the story for many years.",
            "At supper everybody laughed about it.",
        ),
    ),
}
