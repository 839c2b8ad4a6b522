from __future__ import annotations

import itertools
from collections import Counter
from random import Random

import pytest

from jobs.stock.compose import Fact, sentence
from jobs.stock.dialogue import (
    COURSE,
    LINKS,
    LONG_ANSWER,
    Exchange,
    Links,
    converse,
    referring_question,
    short_question,
    turns_of,
)
from jobs.stock.topics import AGAIN, HELD_AGAIN, TOPICS

SEATS = [Fact("seat_zh", f"省{number}", f"城{number}", "省会") for number in range(40)]
SHORT_NAMES = [Fact("abbreviation_zh", f"省{number}", f"简{number}") for number in range(40)]
CITIES = [Fact("city_zh", f"市{number}", f"省{number}") for number in range(40)]
TAUGHT = {"seat_zh": SEATS, "abbreviation_zh": SHORT_NAMES, "city_zh": CITIES}


def exchanges() -> list[Exchange]:
    facts = [fact for found in TAUGHT.values() for fact in found]
    talk = [Exchange(f"hi {number}", "Hello.", "talk_en") for number in range(40)]
    return [Exchange(f"{fact.topic} {fact.subject}?", sentence(fact), fact.topic, fact) for fact in facts] + talk


def test_few_turns_come_first_and_many_last() -> None:
    turns = [turns_of(epoch, 12) for epoch in range(12)]
    assert turns == [possible for share, possible in COURSE for _ in range(share)]
    assert [max(possible) for possible in turns] == sorted(max(possible) for possible in turns)
    assert turns_of(0, 1) == COURSE[-1][1]  # where there is but one epoch it has conversations


def test_every_exchange_occurs_once_and_the_rest_refers_back() -> None:
    asked = exchanges()
    found = converse(asked, (1, 2, 3, 4), Links(TAUGHT), Random(0))
    answers = Counter(exchange.answer for talk in found for exchange in talk)
    assert all(answers[exchange.answer] >= 1 for exchange in asked)
    more = sum(answers.values()) - len(asked)
    assert 0 < more < len(asked) / 4
    assert {len(talk) for talk in found} == {1, 2, 3, 4, 5}  # one more where a question refers back
    known = {exchange.question for exchange in asked}
    for talk in found:
        assert talk[0].question in known  # what comes first can be understood alone
        for before, exchange in itertools.pairwise(talk):
            if exchange.question in known:
                continue
            assert exchange.fact is not None
            assert before.fact is not None
            again = [text.format(s=exchange.fact.subject) for text in AGAIN["zh"]]
            assert (exchange.question in again and before.label == exchange.label) or exchange.fact in [
                fact for _, fact in Links(TAUGHT).after(before.fact)
            ]


def test_some_conversations_are_of_one_topic_and_some_of_several() -> None:
    found = converse(exchanges(), (3,), Links({}), Random(0))
    labels = [{exchange.label for exchange in talk} for talk in found if len(talk) == 3]
    assert min(map(len, labels)) == 1
    assert max(map(len, labels)) > 1


def test_one_turn_is_the_exchange_as_it_is() -> None:
    asked = exchanges()
    found = converse(asked, (1,), Links(TAUGHT), Random(0))
    assert found != [[exchange] for exchange in asked]
    assert sorted(talk[0].question for talk in found) == sorted(exchange.question for exchange in asked)


def test_a_long_answer_stands_alone() -> None:
    long = Exchange("how do I make bread?", "x" * (LONG_ANSWER + 1), "recipe_en")
    found = converse([*exchanges(), long], (4,), Links({}), Random(0))
    assert [talk for talk in found if long in talk] == [[long]]


def test_what_a_question_can_refer_to() -> None:
    after = {(link.after, fact.subject) for link, fact in Links(TAUGHT).after(CITIES[3])}
    assert after == {("abbreviation_zh", "省3"), ("seat_zh", "省3")}
    assert [fact for _, fact in Links(TAUGHT).after(SEATS[3])] == [SHORT_NAMES[3]]
    assert Links(TAUGHT).after(Fact("element_zh", "铁", "Fe")) == []


@pytest.mark.parametrize("link", LINKS, ids=lambda link: f"{link.before}-{link.after}")
def test_links(link: object) -> None:
    assert link in LINKS
    assert isinstance(link, type(LINKS[0]))
    assert {link.before, link.after} <= TOPICS.keys()
    assert TOPICS[link.before].language == TOPICS[link.after].language
    assert not set(link.texts) & set(link.held_texts)
    fact = Fact(link.after, "S", "A", "X")
    for held in (False, True):
        question = referring_question(link, fact, Random(0), held=held)
        assert "{" not in question
        assert "S" not in question  # else nothing is referred to


def test_short_questions() -> None:
    assert short_question(Fact("author_zh", "春晓", "孟浩然"), Random(0)) in [
        text.format(s="《春晓》") for text in AGAIN["zh"]
    ]
    held = short_question(Fact("capital_en", "Peru", "Lima"), Random(0), held=True)
    assert held in [text.format(s="Peru") for text in HELD_AGAIN["en"]]
    assert short_question(Fact("arithmetic_en", "what is 1 plus 1", "2", "1 plus 1 is 2."), Random(0)) is None
    for language, texts in AGAIN.items():
        assert not set(texts) & set(HELD_AGAIN[language])
