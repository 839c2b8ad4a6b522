"""The tables of docs/vram.md and docs/stages.md, and of both in Chinese, are what the plan says today. To write them:
python -m tests.vram_tables
"""

from __future__ import annotations

import pytest

from tests.plans import WHOLE_GRID
from tests.vram_tables import TABLES, fits, markdown, pages_with, parts, presets, ways, written

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", TABLES)
def test_a_page_has_every_table_in_both_languages(name: str) -> None:
    english, chinese = pages_with(name)
    assert chinese.name == english.name.replace(".md", "_zh.md")
    assert written(english.read_text("utf-8"), name) == written(chinese.read_text("utf-8"), name)


def holds(name: str, table: str) -> None:
    """Every row of the table stands in its pages."""
    assert len(table.splitlines()) > 2, "a heading, a rule, and rows"
    for page in pages_with(name):
        there = written(page.read_text("utf-8"), name).splitlines()
        assert [row for row in table.splitlines() if row not in there] == []


def test_where_memory_goes() -> None:
    holds("parts", markdown(parts(("30m",))))


def test_what_ways_of_training_take() -> None:
    holds("ways", markdown(ways(("30m",), ("train dpo", "train distill --cached 1"))))


def test_what_presets_choose() -> None:
    holds("presets", markdown(presets(("tiny",))))


def test_what_fits() -> None:
    holds("fits", markdown(fits(("tiny",))))


@pytest.mark.skipif(not WHOLE_GRID, reason="some minutes; MINIMIND_WHOLE_GRID=1 runs it")
@pytest.mark.parametrize("name", ["parts", "ways", "knobs", "presets", "fits", "closed form", "allocator"])
def test_the_tables_that_take_minutes(name: str) -> None:
    holds(name, markdown(TABLES[name]()))
