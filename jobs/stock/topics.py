"""What the model is asked about, and in which words.

A question is a prefix, a core and an ending put together. The parts in `held_cores`, `HELD_PREFIXES` and
`HELD_ENDINGS` never occur in what the model learns from: with them the evaluation asks what was taught in words that
were not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Language = Literal["zh", "en"]
LANGUAGES: tuple[Language, ...] = ("zh", "en")


@dataclass(frozen=True)
class Topic:
    """One kind of fact. In the texts {s} is what is asked about, {a} the answer, {x} what else belongs to the fact.

    cores, held_cores: ways to ask, without their ending. sentence: the answer as a full sentence. statements: ways to
    say it in running text, for pretraining. draws: questions per fact and epoch. asked: whether the evaluation asks
    it (an answer of several lines is taught, but cannot be compared to the letter). short: what it is about, said
    alone, as one asks once the kind of question is clear; "" where nobody would.
    """

    name: str
    language: Language
    title_zh: str
    title_en: str
    cores: tuple[str, ...]
    held_cores: tuple[str, ...]
    sentence: str
    statements: tuple[str, ...] = ()
    draws: int = 2
    asked: bool = True
    short: str = ""


# The empty prefix stands first: a bare question is drawn as often as all the others together.
PREFIXES: dict[Language, tuple[str, ...]] = {
    "zh": (
        "",
        "请问",
        "请问，",
        "你知道",
        "我想知道",
        "请告诉我",
        "告诉我，",
        "问一下，",
        "想问问",
        "帮我查一下，",
        "请回答：",
        "考考你：",
        "小助手，",
        "你好，",
        "那么",
        "我有个问题：",
        "问题：",
        "能不能告诉我",
        "请教一下，",
        "你能说出",
    ),
    "en": (
        "",
        "Please tell me: ",
        "Tell me, ",
        "Can you tell me: ",
        "Quick question: ",
        "Question: ",
        "Hello! ",
        "Hi, ",
        "Hey, ",
        "Please answer: ",
        "I have a question: ",
        "I have a question. ",
        "Just curious, ",
        "For my homework, ",
        "I want to know: ",
        "Excuse me, ",
        "So, ",
    ),
}
HELD_PREFIXES: dict[Language, tuple[str, ...]] = {
    "zh": ("麻烦问一下，", "我很好奇，", "打扰了，", "快问快答：", "老师，"),
    "en": ("One more thing: ", "Help me out, ", "I was wondering, ", "Good day! ", "Do you happen to know: "),
}
ENDINGS: dict[Language, tuple[str, ...]] = {
    "zh": (
        "？",
        "?",
        "",
        "呢？",
        "啊？",
        "呀？",
        "？谢谢。",
        "？请直接回答。",
        "？请用一句话回答。",
        "，你知道吗？",
    ),
    "en": ("?", "", " ?", "? Thanks.", "? Thank you.", "? Please answer briefly.", "? Answer in one sentence."),
}
HELD_ENDINGS: dict[Language, tuple[str, ...]] = {
    "zh": ("？谢谢你！", "？简单说说就好。", "，能告诉我吗？"),
    "en": ("? Thanks a lot!", "? A short answer is enough.", "??"),
}

# After a question of the same kind: {s} is what it is about now.
AGAIN: dict[Language, tuple[str, ...]] = {
    "zh": ("那{s}呢？", "{s}呢？", "那么{s}呢？", "那{s}呢?", "还有{s}呢？", "再说说{s}。"),
    "en": ("And {s}?", "What about {s}?", "And what about {s}?", "How about {s}?", "and {s}?", "Now {s}."),
}
HELD_AGAIN: dict[Language, tuple[str, ...]] = {
    "zh": ("换成{s}呢？", "那如果是{s}呢？", "那{s}的呢？"),
    "en": ("And how about {s}?", "Then what about {s}?", "Same question for {s}."),
}

_LISTED = (
    Topic(
        "capital_zh",
        "zh",
        "各国首都",
        "capitals of the world, in Chinese",
        (
            "{s}的首都是哪里",
            "{s}的首都是哪座城市",
            "{s}的首都是哪个城市",
            "{s}首都是哪",
            "{s}首都是哪里",
            "哪里是{s}的首都",
            "哪座城市是{s}的首都",
            "{s}的首都叫什么",
            "{s}的首都是什么",
            "{s}的首都叫什么名字",
            "{s}这个国家的首都是哪里",
            "{s}的首都位于哪座城市",
        ),
        ("{s}的首都在哪里", "{s}的首都在哪儿", "{s}的首都是什么地方", "哪个城市是{s}的首都"),
        "{s}的首都是{a}。",
        ("{s}的首都是{a}。", "{a}是{s}的首都。", "{s}这个国家的首都是{a}。"),
        short="{s}",
    ),
    Topic(
        "continent_zh",
        "zh",
        "国家在哪个大洲",
        "continents of countries, in Chinese",
        (
            "{s}在哪个洲",
            "{s}位于哪个洲",
            "{s}属于哪个洲",
            "{s}是哪个洲的国家",
            "{s}在哪个大洲",
            "{s}位于哪个大洲",
            "{s}这个国家在哪个洲",
        ),
        ("{s}属于哪个大洲", "{s}是哪个大洲的国家", "{s}处在哪个洲"),
        "{s}位于{a}。",
        ("{s}位于{a}。", "{s}是{a}的一个国家。"),
        draws=1,
        short="{s}",
    ),
    Topic(
        "city_zh",
        "zh",
        "城市属于哪个省",
        "provinces of Chinese cities, in Chinese",
        (
            "{s}属于哪个省",
            "{s}在哪个省",
            "{s}是哪个省的",
            "{s}是哪个省的城市",
            "{s}位于哪个省",
            "{s}归哪个省管",
            "{s}属于哪个省级行政区",
            "{s}位于哪个省级行政区",
            "{s}在中国的哪个省",
            "哪个省管辖{s}",
        ),
        ("{s}是哪个省级行政区的", "{s}属于中国的哪个省", "{s}在哪个省份"),
        "{s}属于{a}。",
        ("{s}属于{a}。", "{s}位于{a}。", "{a}下辖{s}。"),
        short="{s}",
    ),
    Topic(
        "county_zh",
        "zh",
        "县区属于哪个城市",
        "cities of Chinese counties and districts, in Chinese",
        ("{s}属于哪个市", "{s}在哪里", "{s}位于哪里", "{s}归哪里管", "{s}在哪个地方", "{s}是哪里的"),
        ("{s}位于什么地方", "{s}属于哪里"),
        "{s}属于{a}。",
        ("{s}属于{a}。", "{s}位于{a}。"),
        draws=1,
        short="{s}",
    ),
    Topic(
        "seat_zh",
        "zh",
        "省会和首府",
        "seats of the Chinese provinces, in Chinese",
        (
            "{s}的{x}是哪里",
            "{s}的{x}是哪座城市",
            "{s}的{x}是哪个城市",
            "{s}{x}是哪里",
            "哪里是{s}的{x}",
            "哪座城市是{s}的{x}",
            "{s}的{x}叫什么",
            "{s}的{x}是什么",
        ),
        ("{s}的{x}在哪里", "{s}的{x}是什么地方", "哪个城市是{s}的{x}"),
        "{s}的{x}是{a}。",
        ("{s}的{x}是{a}。", "{a}是{s}的{x}。"),
        short="{s}",
    ),
    Topic(
        "abbreviation_zh",
        "zh",
        "省份的简称",
        "short names of the Chinese provinces, in Chinese",
        (
            "{s}的简称是什么",
            "{s}简称什么",
            "{s}的简称是哪个字",
            "{s}用哪个字作简称",
            "哪个字是{s}的简称",
        ),
        ("{s}的简称叫什么", "{s}的简称是什么字"),
        "{s}的简称是{a}。",
        ("{s}的简称是{a}。", "{s}简称{a}。"),
        short="{s}",
    ),
    Topic(
        "element_zh",
        "zh",
        "元素符号",
        "chemical symbols, in Chinese",
        (
            "{s}的元素符号是什么",
            "元素{s}的符号是什么",
            "{s}的化学符号是什么",
            "{s}元素的符号是什么",
            "化学元素{s}的符号是什么",
            "{s}的元素符号怎么写",
        ),
        ("{s}元素怎么用符号表示", "元素{s}的化学符号是什么"),
        "{s}的元素符号是{a}。",
        ("{s}的元素符号是{a}。", "{a}是元素{s}的符号。"),
        short="{s}",
    ),
    Topic(
        "author_zh",
        "zh",
        "唐诗的作者",
        "authors of Tang poems, in Chinese",
        (
            "《{s}》的作者是谁",
            "《{s}》是谁写的",
            "谁写了《{s}》",
            "《{s}》这首诗是谁写的",
            "《{s}》的诗人是谁",
            "唐诗《{s}》的作者是谁",
            "唐诗《{s}》是谁写的",
            "写《{s}》的诗人是谁",
            "《{s}》是谁的诗",
        ),
        ("谁是《{s}》的作者", "《{s}》是谁的作品", "《{s}》这首诗的作者是谁"),
        "《{s}》的作者是{a}。",
        ("《{s}》的作者是{a}。", "《{s}》是{a}写的一首诗。"),
        short="《{s}》",
    ),
    Topic(
        "next_line_zh",
        "zh",
        "唐诗的下一句",
        "next lines of Tang poems, in Chinese",
        (
            "“{s}”的下一句是什么",
            "“{s}”下一句是什么",
            "{s}的下一句是什么",
            "{s}，下一句是什么",
            "“{s}”后面一句是什么",
            "“{s}”接下来是哪一句",
            "“{s}”的下句是什么",
            "“{s}”的下一句怎么说",
        ),
        ("“{s}”的后一句是什么", "“{s}”的下一句是哪一句", "诗句“{s}”的下一句是什么"),
        "{a}。",
        draws=1,
        short="“{s}”",
    ),
    Topic(
        "saying_zh",
        "zh",
        "歇后语",
        "two-part sayings, in Chinese",
        (
            "歇后语“{s}”的下半句是什么",
            "“{s}”的下半句是什么",
            "{s}——下半句是什么",
            "歇后语“{s}”的后半句是什么",
            "歇后语{s}的下半句是什么",
            "“{s}”，歇后语的下半句是什么",
        ),
        ("“{s}”这句歇后语的后半句是什么", "{s}，歇后语后半句是什么"),
        "{s}——{a}。",
        ("{s}——{a}。",),
        draws=1,
        short="“{s}”",
    ),
    Topic(
        "capital_en",
        "en",
        "各国首都（英语）",
        "capitals of the world",
        (
            "what is the capital of {s}",
            "what's the capital of {s}",
            "which city is the capital of {s}",
            "what city is the capital of {s}",
            "what is the capital city of {s}",
            "what is the name of the capital of {s}",
            "{s} has which city as its capital",
            "the capital of {s} is which city",
        ),
        ("which is the capital of {s}", "what is the capital called in {s}", "what is {s}'s capital"),
        "The capital of {s} is {a}.",
        ("The capital of {s} is {a}.", "{a} is the capital of {s}.", "{s} has {a} as its capital."),
        short="{s}",
    ),
    Topic(
        "region_en",
        "en",
        "国家在世界的哪个地区（英语）",
        "regions of the world",
        (
            "where is {s}",
            "in which region of the world is {s}",
            "which region of the world is {s} in",
            "where in the world is {s}",
            "which part of the world is {s} in",
            "in which part of the world is {s}",
            "where is {s} located",
        ),
        ("what region of the world is {s} in", "in what part of the world is {s}"),
        "{s} is in {a}.",
        ("{s} is in {a}.", "{s} is a country in {a}."),
        draws=1,
        short="{s}",
    ),
    Topic(
        "currency_en",
        "en",
        "各国货币（英语）",
        "currencies of the world",
        (
            "what is the currency of {s}",
            "what currency is used in {s}",
            "which currency does {s} use",
            "what is the money of {s} called",
            "which currency is used in {s}",
            "what currency does {s} have",
            "what is the currency in {s}",
        ),
        ("what money do people use in {s}", "what is the official currency of {s}", "which is the currency of {s}"),
        "The currency of {s} is {a}.",
        ("The currency of {s} is {a}.", "In {s} people pay with {a}."),
        draws=1,
        short="{s}",
    ),
    Topic(
        "element_en",
        "en",
        "元素符号（英语）",
        "chemical symbols",
        (
            "what is the chemical symbol of {s}",
            "what is the chemical symbol for {s}",
            "what is the symbol for {s}",
            "which chemical symbol stands for {s}",
            "what symbol does {s} have",
            "what is the symbol of the element {s}",
        ),
        ("which is the chemical symbol of {s}", "how is {s} written as a chemical symbol"),
        "The chemical symbol of {s} is {a}.",
        ("The chemical symbol of {s} is {a}.", "{a} is the chemical symbol of {s}."),
        short="{s}",
    ),
)

_IN: tuple[tuple[Language, str, str], ...] = (("zh", "", ", in Chinese"), ("en", "（英语）", ""))
_MADE = tuple(
    Topic(f"{name}_{language}", language, title_zh + in_zh, title_en + in_en, ("{s}",), (), "{x}", draws=1)
    for name, title_zh, title_en in (
        ("arithmetic", "算术", "arithmetic"),
        ("units", "单位换算", "units"),
        ("dates", "日期", "dates"),
    )
    for language, in_zh, in_en in _IN
)

_UNKNOWN = tuple(
    Topic(
        f"unknown_{language}",
        language,
        "没有学过的事" + in_zh,
        "what it has not learned" + in_en,
        ("{s}",),
        (),
        "{x}",
        draws=1,
    )
    for language, in_zh, in_en in _IN
)

_LONG = (
    Topic(
        "law_zh",
        "zh",
        "法律条文",
        "articles of statutes, in Chinese",
        ("{s}是怎么规定的", "{s}的内容是什么", "{s}规定了什么", "{s}说了什么"),
        (),
        "{a}",
        draws=1,
        asked=False,
    ),
    Topic(
        "recipe_en",
        "en",
        "菜谱（英语）",
        "recipes",
        ("how do I make {s}", "how can I cook {s}", "what is the recipe for {s}", "how do you prepare {s}"),
        (),
        "{a}",
        draws=1,
        asked=False,
    ),
    Topic(
        "definition_en",
        "en",
        "英语词义",
        "meanings of English words",
        ("what does {s} mean", "what is the meaning of {s}", "what is meant by {s}", "how would you explain {s}"),
        (),
        "{a}",
        draws=1,
        asked=False,
    ),
)

TOPICS: dict[str, Topic] = {topic.name: topic for topic in (*_LISTED, *_MADE, *_UNKNOWN, *_LONG)}
MADE = frozenset(topic.name for topic in (*_MADE, *_UNKNOWN))
UNKNOWN = frozenset(topic.name for topic in _UNKNOWN)
