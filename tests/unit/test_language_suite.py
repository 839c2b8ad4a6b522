"""The passages on which bits per byte are measured: even in language and source, clean, and in no training sample."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).resolve().parents[2] / "data"
SOURCES = ("story", "encyclopedia", "dialogue", "instructions", "letter", "poem")
LANGUAGES = ("en", "zh")
EACH = 8  # passages of a source in a language
SHARED_WORDS = 8
SHARED_CHARACTERS = 20
HAN = "[\u3400-\u9fff]"
# Chinese characters, Chinese punctuation and full-width forms.
ANY_CHINESE = re.compile("[\u3000-\u303f\u3400-\u9fff\uff00-\uffef]")
CHINESE_TEXT = re.compile("(?:[\u4e00-\u9fff，。！？：；、“”…\n])+")
ENGLISH_TEXT = re.compile(r"[A-Za-z0-9 .,:;!?'\"\-\n]+")


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def passages() -> list[dict[str, str]]:
    return read_rows(DATA / "suites" / "language.jsonl")


def strings(value: object) -> Iterator[str]:
    """Every string in a row, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def sequences(text: str, language: str) -> set[tuple[str, ...]]:
    """All runs of 8 words (en) or 20 characters (zh) of a text, without punctuation and case."""
    if language == "en":
        units, length = re.findall(r"[a-z0-9']+", text.lower()), SHARED_WORDS
    else:
        units, length = re.findall(HAN, text), SHARED_CHARACTERS
    return {tuple(units[start : start + length]) for start in range(len(units) - length + 1)}


def opening(row: dict[str, str]) -> str:
    text = row["text"].lower()
    return " ".join(text.split()[:2]) if row["language"] == "en" else text[:2]


def test_eight_passages_of_each_source_in_each_language(passages: list[dict[str, str]]) -> None:
    counted = Counter((row["language"], row["source"]) for row in passages)
    assert counted == {(language, source): EACH for language in LANGUAGES for source in SOURCES}


def test_rows_have_four_strings_and_an_id_that_names_them(passages: list[dict[str, str]]) -> None:
    expected = {
        f"{language}-{source}-{n:02d}" for language in LANGUAGES for source in SOURCES for n in range(1, EACH + 1)
    }
    assert {row["id"] for row in passages} == expected
    assert len(passages) == len(expected)
    for row in passages:
        assert list(row) == ["id", "language", "source", "text"]
        assert row["id"].rsplit("-", 1)[0] == f"{row['language']}-{row['source']}"


def test_no_two_passages_are_the_same_or_begin_alike(passages: list[dict[str, str]]) -> None:
    for values in ([row["text"] for row in passages], [opening(row) for row in passages]):
        assert [value for value, times in Counter(values).items() if times > 1] == []


def test_each_passage_has_300_to_700_bytes(passages: list[dict[str, str]]) -> None:
    sizes = {row["id"]: len(row["text"].encode()) for row in passages}
    assert {name: size for name, size in sizes.items() if not 300 <= size <= 700} == {}


def test_each_passage_keeps_to_its_own_script(passages: list[dict[str, str]]) -> None:
    for row in passages:
        text = row["text"]
        if row["language"] == "zh":
            assert not re.search("[A-Za-zＡ-Ｚａ-ｚ]", text), row["id"]
            assert CHINESE_TEXT.fullmatch(text), row["id"]
            assert text.count("“") == text.count("”"), row["id"]
        else:
            assert not ANY_CHINESE.search(text), row["id"]
            assert ENGLISH_TEXT.fullmatch(text), row["id"]
            assert text.count('"') % 2 == 0, row["id"]


def test_no_white_space_at_the_ends_of_texts_and_lines(passages: list[dict[str, str]]) -> None:
    for row in passages:
        assert row["text"] == row["text"].strip(), row["id"]
        for line in row["text"].split("\n"):
            assert line == line.strip(), row["id"]


def test_the_file_is_plain_json_lines_without_escapes(passages: list[dict[str, str]]) -> None:
    written = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in passages)
    assert (DATA / "suites" / "language.jsonl").read_bytes() == written.encode()


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_passage_shares_a_sequence_with_the_samples_or_another_passage(
    passages: list[dict[str, str]], language: str
) -> None:
    files = sorted((DATA / "samples").glob("*.jsonl"))
    assert files
    seen = {
        sequence
        for path in files
        for row in read_rows(path)
        for text in strings(row)
        for sequence in sequences(text, language)
    }
    assert seen
    for row in passages:
        if row["language"] == language:
            own = sequences(row["text"], language)
            assert own
            assert not own & seen, row["id"]
            seen |= own
