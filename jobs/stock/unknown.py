"""Questions that were not taught, and the honest answer to them: that the model does not know.

Without them a model names a capital whatever it is asked. What it can learn from a few hundred is to notice that a
kind of question is none of its own; whether it knows one city more or less it cannot notice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from jobs.stock.compose import Fact
from jobs.stock.topics import Language

_SAID: dict[Language, tuple[str, str]] = {
    "zh": ("不知道", "这个我还没有学过，不知道。"),
    "en": ("I do not know", "I have not learned that, so I do not know."),
}


@dataclass(frozen=True)
class _Asked:
    """What is not known of the subjects of a topic. held: in words that are kept back for evaluation."""

    texts: tuple[str, ...]
    held: tuple[str, ...]


_OF_TOPICS: dict[str, _Asked] = {
    "capital_zh": _Asked(
        (
            "{s}有多少人口",
            "{s}的面积有多大",
            "{s}的国花是什么",
            "{s}的总统是谁",
            "{s}最高的山是哪座",
            "{s}的国歌叫什么",
            "{s}有哪些名胜古迹",
            "{s}的官方语言是什么",
            "{s}是哪一年建国的",
        ),
        ("{s}最长的河是哪条", "{s}的国旗是什么样的", "{s}有几个民族"),
    ),
    "city_zh": _Asked(
        (
            "{s}有多少人",
            "{s}的房价是多少",
            "{s}有什么好吃的",
            "{s}的市长是谁",
            "{s}有几所大学",
            "{s}的面积是多少",
            "{s}有什么好玩的",
        ),
        ("{s}有地铁吗", "{s}现在多少度", "{s}的邮编是多少"),
    ),
    "element_zh": _Asked(
        ("{s}的熔点是多少", "{s}的密度是多少", "{s}是谁发现的", "{s}的原子序数是多少", "{s}有什么用"),
        ("{s}的沸点是多少", "{s}是什么颜色的"),
    ),
    "author_zh": _Asked(
        ("《{s}》是哪一年写的", "《{s}》表达了什么感情", "《{s}》有多少个字", "《{s}》里有哪些典故"),
        ("《{s}》是在哪里写的", "《{s}》是什么意思"),
    ),
    "capital_en": _Asked(
        (
            "what is the population of {s}",
            "how big is {s}",
            "who is the president of {s}",
            "what is the highest mountain in {s}",
            "what is the national anthem of {s}",
            "what language do people speak in {s}",
            "what do people eat in {s}",
            "when was {s} founded",
        ),
        ("what is the longest river in {s}", "what does the flag of {s} look like", "how many people live in {s}"),
    ),
    "element_en": _Asked(
        (
            "what is the melting point of {s}",
            "who discovered {s}",
            "what is the density of {s}",
            "what is {s} used for",
            "what is the atomic number of {s}",
        ),
        ("what is the boiling point of {s}", "what colour is {s}"),
    ),
}
_OF_NOTHING: dict[Language, _Asked] = {
    "zh": _Asked(
        (
            "谁发明了电话",
            "为什么天是蓝的",
            "光的速度是多少",
            "珠穆朗玛峰有多高",
            "昨天的比赛谁赢了",
            "最近有什么新电影",
            "明天股票会涨吗",
            "我的快递到哪里了",
            "恐龙为什么灭绝",
            "怎么修自行车",
            "附近有什么餐馆",
            "人为什么会做梦",
            "黑洞是怎么形成的",
            "这个周末去哪里玩好",
        ),
        ("谁发明了电灯", "为什么海水是蓝的", "声音的速度是多少", "我的手机在哪里", "怎么修电视机", "鸟为什么会飞"),
    ),
    "en": _Asked(
        (
            "who invented the telephone",
            "why is the sky blue",
            "how fast is light",
            "how high is Mount Everest",
            "who won the game yesterday",
            "which new films are good",
            "will the stock market rise tomorrow",
            "where is my parcel",
            "why did the dinosaurs die out",
            "how do I repair a bicycle",
            "which restaurants are near here",
            "why do people dream",
            "what should I do at the weekend",
        ),
        (
            "who invented the light bulb",
            "why is the sea blue",
            "how fast is sound",
            "where is my phone",
            "how do birds fly",
        ),
    ),
}


def unknowns(
    language: Language, taught: Mapping[str, Sequence[Fact]], count: int, seed: int, epoch: int, *, held: bool
) -> list[Fact]:
    """At most `count` questions that the model has to say it cannot answer; four of five about what it has heard of.

    Each is a fact whose subject is the whole question. held: only in words that are kept back for evaluation.
    """
    rng = Random(f"{seed}/unknown/{language}/{epoch}/{held}")
    subjects = {topic: taught[topic] for topic in _OF_TOPICS if topic.endswith(f"_{language}") and taught.get(topic)}
    answer, told = _SAID[language]
    found: dict[str, Fact] = {}
    for number in range(count):
        if number % 5 == 0 or not subjects:
            general = _OF_NOTHING[language]
            question = rng.choice(general.held if held else general.texts)
        else:
            topic = rng.choice(list(subjects))
            asked = _OF_TOPICS[topic]
            question = rng.choice(asked.held if held else asked.texts).format(s=rng.choice(subjects[topic]).subject)
        found.setdefault(question, Fact(f"unknown_{language}", question, answer, told))
    return list(found.values())
