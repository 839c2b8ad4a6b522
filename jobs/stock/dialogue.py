"""From questions to conversations: one to four turns, of one topic or of several, some of which refer back.

A model that has only ever seen one question at a time answers the first and no other: it copies its subject from
anywhere before. What it needs to see are conversations in which only the last question counts, and some in which the
last question says only what is new.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from jobs.stock.compose import Fact, sentence
from jobs.stock.topics import AGAIN, HELD_AGAIN, TOPICS

COURSE = ((5, (1,)), (3, (1, 2, 2)), (4, (1, 2, 3, 3, 4)))
"""Shares of all epochs, in their order, and how many turns their conversations have, each number as often as it stands
there. A model that first learns to answer one question, and then which one is meant, learns both in fewer steps."""
LONG_ANSWER = 200  # characters; what is longer is asked alone, or a conversation would not fit a row
ONE_TOPIC = 0.5  # share of the questions that are asked among others of their topic
SAID_SHORT = 0.3  # of the questions that follow one of their own topic
REFERRED = 0.4  # of the conversations at whose end a further question can refer to the last one


@dataclass(frozen=True)
class Exchange:
    """A question and its answer. label: what tells its topic from others. fact: what it is about; None for talk."""

    question: str
    answer: str
    label: str
    fact: Fact | None = None


@dataclass(frozen=True)
class Link:
    """How a question about one fact can refer to another one before it.

    before, after: their topics. by: what of the fact before is the subject of the one after. texts, held_texts: the
    question, with {x} for what else belongs to the fact after; the latter are kept back for evaluation.
    """

    before: str
    after: str
    by: Literal["subject", "answer"]
    texts: tuple[str, ...]
    held_texts: tuple[str, ...]


_SHORT_NAME = ("它的简称呢？", "那它的简称呢？", "它的简称是什么？", "那它简称什么？", "简称呢？", "它的简称是哪个字？")
_SEAT = ("它的{x}呢？", "那它的{x}呢？", "它的{x}是哪里？", "那它的{x}在哪座城市？", "{x}呢？", "它的{x}是哪座城市？")
_CAPITAL_ZH = ("它的首都呢？", "那它的首都呢？", "它的首都是哪里？", "首都呢？", "那首都是哪座城市？")
_CAPITAL_EN = ("And its capital?", "What is its capital?", "And the capital?", "Which city is its capital?")

LINKS = (
    Link("seat_zh", "abbreviation_zh", "subject", _SHORT_NAME, ("那它的简称是什么呢？", "它的简称又是什么？")),
    Link("abbreviation_zh", "seat_zh", "subject", _SEAT, ("那它的{x}是哪里呢？", "它的{x}又是哪里？")),
    Link(
        "city_zh",
        "abbreviation_zh",
        "answer",
        ("这个省的简称呢？", "那个省的简称是什么？", "那这个省的简称是什么？", "这个省简称什么？", "那个省的简称呢？"),
        ("那么那个省的简称呢？", "那个省的简称又是什么？"),
    ),
    Link(
        "city_zh",
        "seat_zh",
        "answer",
        ("这个省的{x}呢？", "那个省的{x}是哪里？", "那这个省的{x}是哪座城市？", "那个省的{x}呢？"),
        ("那么那个省的{x}呢？", "那个省的{x}又是哪里？"),
    ),
    Link("continent_zh", "capital_zh", "subject", _CAPITAL_ZH, ("那它的首都是哪里呢？", "它的首都又是哪里？")),
    Link(
        "capital_zh",
        "continent_zh",
        "subject",
        ("它在哪个洲？", "那它在哪个洲？", "它属于哪个洲？", "它位于哪个大洲？"),
        ("那它位于哪个洲呢？", "它又在哪个洲？"),
    ),
    Link("region_en", "capital_en", "subject", _CAPITAL_EN, ("And what is its capital?", "Its capital?")),
    Link("currency_en", "capital_en", "subject", _CAPITAL_EN, ("And what is its capital?", "Its capital?")),
    Link(
        "capital_en",
        "region_en",
        "subject",
        ("And where is it?", "Where is it?", "And in which part of the world is it?", "Where is that country?"),
        ("And where is that country?", "Where is that?"),
    ),
    Link(
        "capital_en",
        "currency_en",
        "subject",
        ("And its currency?", "What is its currency?", "And the currency?", "Which currency does it use?"),
        ("And what is its currency?", "Its currency?"),
    ),
)


class Links:
    """Finds the facts that a question after another fact can be about."""

    def __init__(self, taught: Mapping[str, Sequence[Fact]]) -> None:
        self._facts = {topic: {fact.subject: fact for fact in facts} for topic, facts in taught.items()}

    def after(self, fact: Fact) -> list[tuple[Link, Fact]]:
        """What may be asked after a question about `fact`."""
        found = []
        for link in LINKS:
            subject = fact.subject if link.by == "subject" else fact.answer
            next_fact = self._facts.get(link.after, {}).get(subject)
            if link.before == fact.topic and next_fact is not None:
                found.append((link, next_fact))
        return found


def turns_of(epoch: int, epochs: int) -> tuple[int, ...]:
    """How many turns the conversations of an epoch may have: few at first, many at last."""
    total = sum(share for share, _ in COURSE)
    until = 0
    for share, turns in COURSE:
        until += share
        if (epoch + 1) * total <= until * epochs:
            return turns
    return COURSE[-1][1]


def converse(exchanges: Sequence[Exchange], turns: Sequence[int], links: Links, rng: Random) -> list[list[Exchange]]:
    """Conversations in which every exchange occurs once, in random order; and some more that refer back to them.

    turns: how many a conversation may have; each is drawn as often as it stands there.
    """
    if max(turns) == 1:
        return [[exchange] for exchange in rng.sample(exchanges, len(exchanges))]
    short = [exchange for exchange in exchanges if len(exchange.answer) <= LONG_ANSWER]
    shuffled = rng.sample(short, len(short))
    middle = round(len(shuffled) * ONE_TOPIC)
    by_topic: dict[str, list[Exchange]] = defaultdict(list)
    for exchange in shuffled[:middle]:
        by_topic[exchange.label].append(exchange)
    found = [
        [first, *(_shortened(exchange, rng) for exchange in others)]
        for exchanges in by_topic.values()
        for first, *others in _cut(exchanges, turns, rng)
    ]
    found += _cut(shuffled[middle:], turns, rng)
    found += [[exchange] for exchange in exchanges if len(exchange.answer) > LONG_ANSWER]
    rng.shuffle(found)
    return [_with_reference(conversation, links, rng) for conversation in found]


def short_question(fact: Fact, rng: Random, *, held: bool = False) -> str | None:
    """A question that says no more than what it is about, as one asks after a question of the same kind; None where a
    topic has none. held: in words that are kept back for evaluation.
    """
    topic = TOPICS[fact.topic]
    if not topic.short:
        return None
    return rng.choice((HELD_AGAIN if held else AGAIN)[topic.language]).format(s=topic.short.format(s=fact.subject))


def referring_question(link: Link, fact: Fact, rng: Random, *, held: bool = False) -> str:
    """A question about `fact` that can be understood after the one that `link` begins with."""
    return rng.choice(link.held_texts if held else link.texts).format(x=fact.extra)


def _cut(exchanges: Sequence[Exchange], turns: Sequence[int], rng: Random) -> list[list[Exchange]]:
    conversations = []
    at = 0
    while at < len(exchanges):
        count = rng.choice(turns)
        conversations.append(list(exchanges[at : at + count]))
        at += count
    return conversations


def _shortened(exchange: Exchange, rng: Random) -> Exchange:
    if exchange.fact is None or rng.random() >= SAID_SHORT:
        return exchange
    question = short_question(exchange.fact, rng)
    return exchange if question is None else Exchange(question, exchange.answer, exchange.label, exchange.fact)


def _with_reference(conversation: Sequence[Exchange], links: Links, rng: Random) -> list[Exchange]:
    """The conversation, and at its end perhaps one question more, which refers to the last one."""
    last = conversation[-1]
    after = links.after(last.fact) if last.fact else []
    if not after or rng.random() >= REFERRED:
        return list(conversation)
    link, fact = rng.choice(after)
    return [*conversation, Exchange(referring_question(link, fact, rng), sentence(fact), fact.topic, fact)]
