"""The tables of docs/vram.md and vram_zh.md are what the plan says today. To write them: python -m tests.vram_tables"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.plans import WHOLE_GRID
from tests.vram_tables import PAGES, TABLES, fits, markdown, parts, presets, written

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
@pytest.mark.parametrize("name", TABLES)
def test_a_page_has_every_table(page: Path, name: str) -> None:
    assert written(page.read_text("utf-8"), name)


def holds(name: str, table: str) -> None:
    """Every row of the table stands in both pages."""
    assert len(table.splitlines()) > 2, "a heading, a rule, and rows"
    for page in PAGES:
        there = written(page.read_text("utf-8"), name).splitlines()
        assert [row for row in table.splitlines() if row not in there] == []


def test_where_memory_goes() -> None:
    holds("parts", markdown(parts()))


def test_what_presets_choose() -> None:
    holds("presets", markdown(presets(("tiny",))))


def test_what_fits() -> None:
    holds("fits", markdown(fits(("tiny",))))


@pytest.mark.skipif(not WHOLE_GRID, reason="some minutes; MINIMIND_WHOLE_GRID=1 runs it")
@pytest.mark.parametrize("name", ["knobs", "presets", "fits", "closed form", "allocator"])
def test_the_tables_that_take_minutes(name: str) -> None:
    holds(name, markdown(TABLES[name]()))
