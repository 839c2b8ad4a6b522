from __future__ import annotations

import pytest

from jobs.stock.compose import (
    Fact,
    Leaks,
    draw,
    draw_held_out,
    hold_out_facts,
    is_held,
    sentence,
    statements,
    unambiguous,
)
from jobs.stock.topics import ENDINGS, HELD_ENDINGS, HELD_PREFIXES, PREFIXES, TOPICS, Language

FRANCE = Fact("capital_zh", "法国", "巴黎")
DUTCH = Fact("capital_en", "the Netherlands", "Amsterdam")
FACTS = [
    FRANCE,
    DUTCH,
    Fact("city_zh", "苏州市", "江苏省"),
    Fact("seat_zh", "广东省", "广州", "省会"),
    Fact("author_zh", "静夜思", "李白"),
    Fact("next_line_zh", "白日依山尽", "黄河入海流"),
    Fact("saying_zh", "猫爷过桥", "一步一个脚印"),
    Fact("element_en", "gold", "Au"),
    Fact("currency_en", "France", "the euro"),
    Fact("region_en", "Niger", "Sub-Saharan Africa"),
]


def test_sentences() -> None:
    assert sentence(FRANCE) == "法国的首都是巴黎。"
    assert sentence(Fact("seat_zh", "广东省", "广州", "省会")) == "广东省的省会是广州。"
    assert sentence(Fact("region_en", "the Gambia", "Africa")) == "The Gambia is in Africa."
    assert statements(DUTCH)[2] == "The Netherlands has Amsterdam as its capital."


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.topic)
def test_draws_are_fresh_repeatable_and_made_of_taught_parts(fact: Fact) -> None:
    topic = TOPICS[fact.topic]
    drawn = [question for epoch in range(20) for question in draw(fact, 1, epoch)]
    assert len(drawn) == 20 * topic.draws
    assert len(set(drawn)) == len(drawn)
    assert draw(fact, 1, 7) == draw(fact, 1, 7)
    assert [draw(fact, 2, epoch) for epoch in range(20)] != [draw(fact, 1, epoch) for epoch in range(20)]
    forbidden = {core.format(s=fact.subject, x=fact.extra).lower() for core in topic.held_cores}
    for question in drawn:
        assert not question.startswith(HELD_PREFIXES[topic.language])
        assert not question.endswith(HELD_ENDINGS[topic.language])
        assert not any(core in question.lower() for core in forbidden)


def test_every_second_draw_is_bare() -> None:
    for epoch in range(10):
        bare, dressed = draw(FRANCE, 0, epoch)
        assert not bare.startswith(PREFIXES["zh"][1:])
        assert dressed.startswith(PREFIXES["zh"][1:])


def test_a_sentence_begins_with_a_capital_letter() -> None:
    for epoch in range(40):
        bare, dressed = draw(DUTCH, 0, epoch)
        assert bare[0].isupper()
        if dressed.startswith("Tell me, "):
            assert dressed.removeprefix("Tell me, ")[0].islower()


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.topic)
def test_held_out_phrasings_have_a_part_that_was_not_taught(fact: Fact) -> None:
    topic = TOPICS[fact.topic]
    taught = {question for epoch in range(200) for question in draw(fact, 0, epoch)}
    parts: set[str] = set()
    for number in range(60):
        question, held = draw_held_out(fact, 0, number)
        assert question not in taught
        parts.update(held)
        assert question.startswith(HELD_PREFIXES[topic.language]) == ("prefix" in held)
        assert question.endswith(HELD_ENDINGS[topic.language]) >= ("ending" in held)
    assert parts == {"prefix", "core", "ending"}
    assert draw_held_out(fact, 0, 3) == draw_held_out(fact, 0, 3)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_no_taught_text_can_be_read_as_a_held_out_one(language: Language) -> None:
    for held in HELD_PREFIXES[language]:
        assert not any(prefix and held.startswith(prefix) for prefix in PREFIXES[language])
    for held in HELD_ENDINGS[language]:
        assert held not in ENDINGS[language]


def test_split_is_by_group_and_by_content() -> None:
    facts = [Fact("next_line_zh", f"甲{number}", f"乙{number}", group=f"poem {number // 4}") for number in range(400)]
    taught, held = hold_out_facts(facts, seed=3)
    assert sorted(taught + held, key=facts.index) == facts
    assert {fact.group for fact in taught} & {fact.group for fact in held} == set()
    assert len({fact.group for fact in held}) == 6
    again = hold_out_facts(facts[::-1], seed=3)
    assert set(again[1]) == set(held)
    assert set(hold_out_facts(facts, seed=4)[1]) != set(held)
    assert hold_out_facts(facts[:9], seed=3) == (facts[:9], [])  # too few to keep any back


def test_one_problem_in_ten_is_held() -> None:
    held = [is_held(f"{number}+1", seed=0) for number in range(2000)]
    assert 150 < sum(held) < 250
    assert held == [is_held(f"{number}+1", seed=0) for number in range(2000)]


def test_unambiguous() -> None:
    other = Fact("capital_zh", "法国", "里昂")
    assert unambiguous([DUTCH, FRANCE, DUTCH]) == [DUTCH, FRANCE]
    assert unambiguous([FRANCE, DUTCH, other]) == [DUTCH]


def test_leaks() -> None:
    leaks = Leaks(
        [
            Fact("capital_zh", "法国", "巴黎"),
            Fact("region_en", "Niger", "Africa"),
            Fact("currency_en", "the Netherlands", "the euro"),
            Fact("element_zh", "金", "Au"),
        ]
    )
    assert leaks.mentions("去年我在法国，住在巴黎。")
    assert not leaks.mentions("法国的首都很大。")
    assert not leaks.mentions("巴黎很大。")
    assert leaks.mentions("Niger lies in Africa")
    assert not leaks.mentions("Nigeria lies in Africa")
    assert leaks.mentions("The Netherlands pay in euro.")
    assert leaks.mentions("元素金写作 Au。")
    assert not leaks.mentions("元素金写作 August。")
    assert not Leaks([]).mentions("法国")
    assert not leaks.mentions("")
