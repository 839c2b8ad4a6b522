from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict

import pytest

from data.suites import chinese, english
from data.suites.grammar import PER_PHENOMENON, VERSION, pairs
from data.suites.templates import fork, turned

ROWS = pairs()
# Raise VERSION when this changes: scores of different rows must not stand in one table.
SHA256 = {1: "3eb78ac4438ea2f521ccf94cb54ffb4bfaf597ecfee3f9c7688c56277d189f14"}


def by_phenomenon() -> dict[str, list[dict[str, str]]]:
    found = defaultdict(list)
    for row in ROWS:
        found[row["phenomenon"]].append(row)
    return dict(found)


def test_a_fork_gives_both_sentences() -> None:
    assert fork("The cat [is|are] here.") == ("The cat is here.", "The cat are here.")
    assert fork("the [red ~ ball]") == ("the red ball", "the ball red")
    assert fork("[next to ~ the tree], [a|an] egg") == ("next to the tree, a egg", "the tree next to, an egg")
    assert fork("弟弟[也~想]去") == ("弟弟也想去", "弟弟想也去")
    assert turned(["[ate|eaten] the {food}"]) == ["[eaten|ate] the {food}"]


def test_each_language_has_its_phenomena_with_as_many_pairs_each() -> None:
    assert len(english.PHENOMENA) == 22
    assert len(chinese.PHENOMENA) == 24
    assert not set(english.PHENOMENA) & set(chinese.PHENOMENA)
    assert {name: len(rows) for name, rows in by_phenomenon().items()} == dict.fromkeys(
        [*english.PHENOMENA, *chinese.PHENOMENA], PER_PHENOMENON
    )


def test_the_rows_are_the_same_at_every_call_and_of_this_version() -> None:
    assert pairs() == ROWS
    assert hashlib.sha256(json.dumps(ROWS).encode()).hexdigest() == SHA256[VERSION]


def test_pairs_differ_and_no_sentence_is_good_here_and_bad_there() -> None:
    written = {(row["sentence_good"], row["sentence_bad"]) for row in ROWS}
    assert len(written) == len(ROWS)
    assert not {good for good, _ in written} & {bad for _, bad in written}


def test_no_slot_or_fork_is_left_and_each_sentence_is_of_its_language() -> None:
    forms = {"en": r"[A-Z][a-z]*( ([a-z]+|I|Sunday))*[.?]", "zh": r"[\u4e00-\u9fff，]+[。？]"}
    for row in ROWS:
        for sentence in (row["sentence_good"], row["sentence_bad"]):
            assert re.fullmatch(forms[row["language"]], sentence), sentence


@pytest.mark.parametrize(("name", "rows"), by_phenomenon().items())
def test_neither_length_nor_few_words_decide(name: str, rows: list[dict[str, str]]) -> None:
    sizes = [(len(row["sentence_good"].encode()), len(row["sentence_bad"].encode())) for row in rows]
    assert abs(sum(good - bad for good, bad in sizes)) / len(rows) <= 0.2
    assert max(abs(good - bad) for good, bad in sizes) <= 4
    units = r"\w" if rows[0]["language"] == "zh" else r"\w+"
    assert len({word for row in rows for word in re.findall(units, row["sentence_good"])}) >= 40


@pytest.mark.parametrize("suite", [english, chinese])
def test_every_word_list_is_used_and_names_no_word_twice(suite: object) -> None:
    words: dict[str, list[str]] = vars(suite)["WORDS"]
    texts: dict[str, list[str]] = vars(suite)["PHENOMENA"]
    told = "".join(text for lists in (*words.values(), *texts.values()) for text in lists)
    assert set(re.findall(r"\{(\w+)\}", told)) == set(words)
    for name, listed in words.items():
        assert len(set(listed)) == len(listed), name
