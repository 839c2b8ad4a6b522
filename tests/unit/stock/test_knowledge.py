from __future__ import annotations

from pathlib import Path

from jobs.stock.compose import sentence
from jobs.stock.knowledge import choose, gather
from jobs.stock.scales import SCALES


def test_without_packages_there_are_our_own_facts() -> None:
    knowledge = gather({}, SCALES["demo"], seed=0)
    assert {"capital_zh", "capital_en", "seat_zh", "element_en"} <= knowledge.taught.keys()
    assert knowledge.pairs
    assert not knowledge.long
    assert not knowledge.poems


def test_nothing_that_is_taught_gives_away_what_is_kept_back(archives: dict[str, Path]) -> None:
    for scale in ("demo", "full"):
        knowledge = gather(archives, SCALES[scale], seed=0)
        held = {fact.key for found in knowledge.held.values() for fact in found}
        assert held
        assert not held & {fact.key for found in knowledge.taught.values() for fact in found}
        said = [sentence(fact) for found in knowledge.taught.values() for fact in found]
        said += [f"{pair.question} {pair.answer}" for pair in (*knowledge.pairs, *knowledge.chats)]
        said += [f"{fact.subject} {fact.answer}" for fact in knowledge.long]
        assert not any(map(knowledge.leaks.mentions, said))


def test_a_scale_takes_what_it_is_made_for(archives: dict[str, Path]) -> None:
    demo, full = (gather(archives, SCALES[scale], seed=0) for scale in ("demo", "full"))
    assert demo.taught.keys() < full.taught.keys()
    assert "county_zh" in full.taught
    assert not demo.long
    assert {fact.topic for fact in full.long} == {"law_zh", "recipe_en", "definition_en"}
    assert full.chats
    assert len(full.poems) > len(demo.poems)


def test_own_small_talk_comes_before_the_corpus(archives: dict[str, Path]) -> None:
    pairs = gather(archives, SCALES["demo"], seed=0).pairs
    assert [pair.answer for pair in pairs if pair.question.lower() == "hello"] == [
        "Hello! It is nice to talk with you. What would you like to know?"
    ]


def test_choose() -> None:
    items = list(range(100))
    some = choose(items, 10, seed=1)
    assert len(some) == 10
    assert some == sorted(some) == choose(items, 10, seed=1)
    assert some != choose(items, 10, seed=2)
    assert choose(items, 100, seed=1) == items
