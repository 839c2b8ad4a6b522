"""Which models learnt the stock data, and what it teaches."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from jobs.paths import stock_folder
from jobs.runs.directory import RunDirectory
from jobs.stages.lineage import is_from_stock
from jobs.stock.build import build_samples
from minimind.network.model import MiniMind
from minimind.text.tokenizer import Tokenizer
from service.catalog import Catalog
from tests.taught import write_checkpoint
from tests.unit.service.conftest import Served


@pytest.mark.parametrize(
    ("stage", "path", "stock"),
    [
        ("sft", "data/stock/sft.jsonl", True),
        ("dpo", "{home}/data/stock/dpo.jsonl", True),
        ("pretrain", "data/stock/pretrain.jsonl", False),
        ("sft", "data/mine/sft.jsonl", False),
        ("sft", "data/stock/../mine.jsonl", False),
    ],
)
def test_a_model_that_learnt_to_answer_from_the_stock_data_says_so(
    home: Path, known_by_heart: tuple[MiniMind, Tokenizer], stage: str, path: str, stock: bool
) -> None:
    run = RunDirectory(home / "runs" / "some")
    run.create({"stage": {"kind": stage}, "data": {"path": path.format(home=home)}})
    write_checkpoint(run, 1, *known_by_heart)
    assert {card.stock for card in Catalog().cards()} == {stock}


def test_what_follows_a_model_that_was_taught_them_knows_them_too(home: Path) -> None:
    for name, path, origin in (("taught", "data/stock/sft.jsonl", None), ("after", "mine.jsonl", "taught@5")):
        spec = {"stage": {"kind": "sft"}, "data": {"path": path}, "init_from": origin}
        RunDirectory(home / "runs" / name).create(spec)
    assert is_from_stock(RunDirectory(home / "runs" / "after"))
    (home / "runs" / "taught" / "spec.json").write_text("{", "utf-8")
    assert not is_from_stock(RunDirectory(home / "runs" / "after"))


def test_its_topics_are_listed_with_questions_to_try(served: Served) -> None:
    address = f"{served.address}/ui/topics.json"
    assert httpx.get(address).json() == {"topics": []}
    build_samples(stock_folder())
    topics = httpx.get(address).json()["topics"]
    capitals = next(topic for topic in topics if topic["title_en"] == "capitals of the world")
    assert set(capitals) == {"language", "title_zh", "title_en", "examples"}
    assert capitals["language"] == "en"
    assert all(question.startswith("Wh") for question in capitals["examples"])
    models = httpx.get(f"{served.address}/v1/models").json()["data"]
    assert {model["minimind"]["stock"] for model in models} == {False}
