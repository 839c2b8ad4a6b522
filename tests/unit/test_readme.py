"""What the pages for users say is so."""

from __future__ import annotations

import json

import pytest

from data.check import CheckLimits
from data.examples import EXAMPLES
from data.formats import stage_of
from data.rules import problems
from data.schema import STAGE_ROWS, parse
from jobs.paths import checkout


@pytest.mark.parametrize("page", ["data.md", "data_zh.md"])
def test_the_rows_on_the_page_of_data_are_rows(page: str) -> None:
    text = (checkout() / "docs" / page).read_text("utf-8")
    shown = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    known = [row for rows in EXAMPLES.values() for row in rows]
    assert [row for row in shown if row not in known] == []
    for row in shown:
        stage = stage_of(row)
        assert stage is not None
        assert list(problems(parse(STAGE_ROWS[stage], row))) == []
    assert {stage_of(row) for row in shown} == set(STAGE_ROWS)
    for name in CheckLimits.model_fields:
        assert f"`{name}`" in text
    assert all(f"`{flag}`" in text for flag in ("weight", "train", "loss_mask", "thinking", "functions"))
