from __future__ import annotations

from string import Formatter

import pytest

from jobs.stock.topics import ENDINGS, HELD_ENDINGS, HELD_PREFIXES, MADE, PREFIXES, TOPICS, Language, Topic


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("topic", TOPICS.values(), ids=TOPICS.keys())
def test_texts_of_a_topic(topic: Topic) -> None:
    assert topic.name.endswith(f"_{topic.language}")
    cores = topic.cores + topic.held_cores
    assert len(set(cores)) == len(cores)
    assert all(fields(core) <= {"s", "x"} and "s" in fields(core) for core in cores)
    assert all({"s", "a"} <= fields(text) for text in topic.statements)
    assert fields(topic.sentence) & {"a", "x"}
    if topic.asked and topic.name not in MADE:
        assert len(topic.cores) >= 5
        assert len(topic.held_cores) >= 2


def test_what_is_kept_back_is_not_taught() -> None:
    languages: tuple[Language, ...] = ("zh", "en")
    for language in languages:
        assert not set(PREFIXES[language]) & set(HELD_PREFIXES[language])
        assert not set(ENDINGS[language]) & set(HELD_ENDINGS[language])
        assert len(set(PREFIXES[language])) == len(PREFIXES[language])
        assert len(set(ENDINGS[language])) == len(ENDINGS[language])
        assert PREFIXES[language][0] == ""
