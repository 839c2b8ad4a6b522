from __future__ import annotations

import pytest

from jobs.stock.compose import Fact, sentence
from jobs.stock.topics import Language
from jobs.stock.unknown import unknowns

TAUGHT = {
    "capital_zh": [Fact("capital_zh", f"国{number}", "都") for number in range(50)],
    "capital_en": [Fact("capital_en", f"Land{number}", "Town") for number in range(50)],
}


@pytest.mark.parametrize(("language", "said"), [("zh", "不知道"), ("en", "I do not know")])
def test_the_answer_is_that_it_does_not_know(language: Language, said: str) -> None:
    facts = unknowns(language, TAUGHT, 40, seed=0, epoch=0, held=False)
    assert 30 < len(facts) <= 40
    assert len({fact.subject for fact in facts}) == len(facts)
    assert {said in sentence(fact) for fact in facts} == {True}
    assert {fact.topic for fact in facts} == {f"unknown_{language}"}
    of_taught = [fact for fact in facts if "国" in fact.subject or "Land" in fact.subject]
    assert 0.5 < len(of_taught) / len(facts) < 1


@pytest.mark.parametrize("language", ["zh", "en"])
def test_what_is_kept_back_is_asked_in_other_words(language: Language) -> None:
    taught = {fact.subject for epoch in range(30) for fact in unknowns(language, TAUGHT, 60, 0, epoch, held=False)}
    held = {fact.subject for fact in unknowns(language, TAUGHT, 60, 0, 0, held=True)}
    assert held
    assert not held & taught


def test_epochs_differ_and_nothing_need_be_taught() -> None:
    first, second = (unknowns("zh", TAUGHT, 20, 0, epoch, held=False) for epoch in (0, 1))
    assert first != second
    assert first == unknowns("zh", TAUGHT, 20, 0, 0, held=False)
    assert unknowns("zh", {}, 20, 0, 0, held=False)
