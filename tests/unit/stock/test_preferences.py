from __future__ import annotations

from collections import Counter
from itertools import chain
from pathlib import Path

import pytest

from data.bias import bias_of_labels, bias_of_pairs
from jobs.stock.compose import Fact, sentence
from jobs.stock.knowledge import Knowledge, gather
from jobs.stock.preferences import Couple, Pair, held_preferences, labels, preferences
from jobs.stock.scales import SCALES
from jobs.stock.topics import HELD_ENDINGS, HELD_PREFIXES, TOPICS

KNOWLEDGE = gather({}, SCALES["sample"], 0)
COUPLES = preferences(KNOWLEDGE, 80, 0)
PAIRS = list(chain.from_iterable(COUPLES))
HELD = held_preferences(KNOWLEDGE, COUPLES, 80, 0)
FACTS = {fact.key: fact for found in KNOWLEDGE.taught.values() for fact in found}
FAMILIES = ("fact", "topic", "whole")


def of(pairs: list[Pair], family: str) -> list[Pair]:
    return [pair for pair in pairs if pair.family == family]


def test_as_many_in_either_language_as_were_asked_for() -> None:
    per_family = {"fact": 80, "topic": 40, "whole": 40}
    counts = Counter((pair.language, pair.family) for pair in PAIRS)
    assert counts == {(language, family): count for language in ("zh", "en") for family, count in per_family.items()}
    held = Counter((pair.language, pair.family, pair.length) for pair in HELD if pair.family == "fact")
    per_length = {"same": 24, "shorter": 12, "longer": 12}
    assert held == {(language, "fact", length): n for language in ("zh", "en") for length, n in per_length.items()}
    assert Counter(pair.family for pair in HELD) == {"fact": 96, "topic": 32, "whole": 32}


@pytest.mark.parametrize("family", FAMILIES)
def test_length_says_nothing_in_any_family(family: str) -> None:
    for pairs in (of(PAIRS, family), of(HELD, family)):
        differences = Counter(len(pair.chosen) - len(pair.rejected) for pair in pairs)
        assert len(differences) > 3
        assert all(differences[-more] == count for more, count in differences.items())
        bias = bias_of_pairs([len(pair.chosen) for pair in pairs], [len(pair.rejected) for pair in pairs])
        assert bias is not None
        assert (bias.longer, bias.mean_better) == (0.5, bias.mean_worse)


def test_a_wrong_fact_is_the_right_answer_to_another_question() -> None:
    right: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for pair in of(PAIRS, "fact"):
        fact = FACTS[pair.about]
        of_topic = [other for other in KNOWLEDGE.taught[fact.topic] if other.answer != fact.answer]
        (said,) = {
            other.answer
            for other in of_topic
            if sentence(Fact(fact.topic, fact.subject, other.answer, fact.extra)) == pair.rejected
        }
        right[f"{fact.topic} {fact.answer}"] += 1
        wrong[f"{fact.topic} {said}"] += 1
        assert pair.chosen == sentence(fact)
    assert right == wrong  # no answer is the better one because of what it is


def test_off_the_topic_is_what_is_right_elsewhere() -> None:
    pairs = of(PAIRS, "topic")
    assert Counter(pair.chosen for pair in pairs) == Counter(pair.rejected for pair in pairs)
    near = 0
    for pair in pairs:
        fact = FACTS.get(pair.about)
        if fact is None:
            continue
        assert fact.subject not in pair.rejected
        near += pair.rejected in {sentence(other) for other in KNOWLEDGE.taught[fact.topic]}
    assert near == len(pairs) / 2


def test_what_breaks_off_breaks_off_inside_the_last_sentence_and_what_repeats_repeats_that_end() -> None:
    for first, second in COUPLES:
        if first.family != "whole":
            continue
        assert first.chosen == second.chosen
        end = first.chosen.removeprefix(first.rejected)
        assert end
        assert first.rejected.strip()
        assert end != first.chosen
        assert second.rejected == first.chosen + end
        assert not first.rejected.endswith((".", "!", "?", "。", "！", "？"))
        if first.language == "en":
            assert end.startswith(" ")  # between two words
        fact = FACTS.get(first.about)
        if fact and fact.topic != "next_line_zh":
            assert end.rstrip(".。").endswith(fact.answer)  # what was asked for is missing


def test_no_question_and_no_worse_answer_about_the_same_comes_twice() -> None:
    assert len({pair.question for pair in PAIRS}) == len(PAIRS)
    assert len({pair.question for pair in HELD}) == len(HELD)
    assert not {pair.question for pair in PAIRS} & {pair.question for pair in HELD}
    said = [(pair.about, pair.rejected) for pair in (*PAIRS, *HELD)]
    assert len(set(said)) == len(said)


def test_what_measures_asks_in_words_that_are_kept_back() -> None:
    for pair in HELD:
        fact = FACTS[pair.about]
        cores = [core.format(s=fact.subject, x=fact.extra) for core in TOPICS[fact.topic].held_cores]
        parts = [*HELD_PREFIXES[pair.language], *HELD_ENDINGS[pair.language], *cores]
        assert any(part.lower() in pair.question.lower() for part in parts), pair.question


def test_of_each_pair_one_answer_has_a_label() -> None:
    found = labels(COUPLES)
    assert [pair for pair, _ in found] == PAIRS
    assert [good for _, good in found[:4]] == [True, False, False, True]
    good = [len(pair.chosen) for pair, label in found if label]
    bad = [len(pair.rejected) for pair, label in found if not label]
    assert len(good) == len(bad)
    bias = bias_of_labels(good, bad)
    assert bias is not None
    assert not bias.clear
    broken = [len(pair.rejected) < len(pair.chosen) for pair, label in found if not label and pair.family == "whole"]
    assert 2 * sum(broken) == len(broken)  # as many break off as repeat


def test_the_same_seed_gives_the_same_pairs_and_another_one_others() -> None:
    assert preferences(KNOWLEDGE, 80, 0) == COUPLES
    assert preferences(KNOWLEDGE, 80, 1) != COUPLES


@pytest.mark.parametrize(
    ("fact", "broken"),
    [
        (Fact("capital_zh", "法国", "巴黎"), {"法国的首都是", "法国的首都"}),
        (Fact("region_en", "Cuba", "Latin America and the Caribbean"), {"Cuba is in"}),
        (
            Fact("capital_en", "Peru", "Lima"),
            {"The capital", "The capital of", "The capital of Peru", "The capital of Peru is"},
        ),
        (Fact("next_line_zh", "白日依山尽", "黄河入海流"), {"黄河入"}),
    ],
)
def test_where_there_is_little_there_are_few_pairs_and_none_is_made_up(fact: Fact, broken: set[str]) -> None:
    couples = preferences(Knowledge({fact.topic: [fact]}, {}, [], [], [], [], KNOWLEDGE.leaks), 100, 0)
    assert {pair.family for couple in couples for pair in couple} == {"whole"}
    assert {first.rejected for first, _ in couples} <= broken


def test_of_nothing_there_are_no_pairs() -> None:
    assert preferences(Knowledge({}, {}, [], [], [], [], KNOWLEDGE.leaks), 100, 0) == []


def test_answers_that_may_both_be_right_are_not_exchanged(archives: dict[str, Path]) -> None:
    knowledge = gather(archives, SCALES["full"], 0)
    assert knowledge.taught["region_en"]
    couples: list[Couple] = preferences(knowledge, 40, 0)
    about = {pair.about for couple in couples for pair in couple if pair.family == "fact"}
    assert about
    assert not any(key.startswith("region_en") for key in about)
