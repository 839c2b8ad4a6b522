from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from jobs.runs.directory import RunDirectory
from minimind.checkpoints.manifest import MANIFEST
from minimind.events import EventLog
from minimind.network.model import MiniMind
from minimind.network.score import ScoreModel
from minimind.text.tokenizer import Tokenizer
from service.catalog import Catalog, damaged
from service.errors import ApiError
from tests.taught import write_checkpoint, write_run


@pytest.fixture
def runs(home: Path, known_by_heart: tuple[MiniMind, Tokenizer]) -> Path:
    write_run(home / "runs", "done", *known_by_heart, steps=(1, 2))
    write_run(home / "runs", "half", *known_by_heart, steps=(5,), state="RUNNING")
    return home / "runs"


def test_a_run_is_a_model_when_it_has_succeeded(runs: Path) -> None:
    cards = Catalog().cards()
    assert {(card.id, card.root) for card in cards} == {
        ("done", "done@2"),
        ("done@2", "done@2"),
        ("done@1", "done@1"),
        ("half@latest", "half@5"),
        ("half@5", "half@5"),
    }
    assert all(card.created > 1e9 and card.stage == "sft" for card in cards)
    catalog = Catalog()
    assert catalog.find("done").id == "done@2"
    assert catalog.find("half@latest").id == "half@5"
    assert catalog.find("done@1").folder == runs / "done" / "checkpoints" / "step_00000001"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nobody", "there is no run 'nobody'; models: .*done@2"),
        ("done@7", "no such checkpoint"),
        ("half", "say which checkpoint is meant"),
        ("done@best", "has been validated"),
        ("../runs/done", "not a path"),
        ("/etc/passwd", "not a path"),
        ("~root", "not a path"),
        ("a b\0", "there is no run"),
        ("@", "there is no run"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(runs: Path, name: str, words: str) -> None:
    with pytest.raises(ApiError, match=words) as told:
        Catalog().find(name)
    assert (told.value.status, told.value.param) == (404, "model")


def test_a_new_checkpoint_is_there_at_once(runs: Path, known_by_heart: tuple[MiniMind, Tokenizer]) -> None:
    catalog = Catalog()
    with pytest.raises(ApiError):
        catalog.find("half@6")
    run = write_run(runs, "half", *known_by_heart, steps=(6,), state="RUNNING")
    assert catalog.find("half@6").id == "half@6"
    before = catalog.find("half@6").fingerprint
    model, tokenizer = known_by_heart
    other = MiniMind(model.config)
    write_checkpoint(run, 6, other, tokenizer)
    assert catalog.find("half@6").fingerprint != before


def test_a_deleted_and_a_damaged_checkpoint(runs: Path) -> None:
    catalog = Catalog()
    folder = catalog.find("done").folder
    manifest = folder / MANIFEST
    manifest.write_text(manifest.read_text("utf-8").replace("done", "gone"), "utf-8")
    with pytest.raises(ApiError, match="damaged") as told:
        catalog.find("done")
    assert (told.value.status, told.value.code) == (500, "model_damaged")
    shutil.rmtree(folder)
    with pytest.raises(ApiError, match="deleted") as gone:
        catalog.find("done")
    assert gone.value.status == 404
    assert catalog.find("done").id == "done@1"  # now the last one


def test_a_reward_model_is_none_that_writes(runs: Path, known_by_heart: tuple[MiniMind, Tokenizer]) -> None:
    model, tokenizer = known_by_heart
    run = RunDirectory(runs / "judge")
    run.create({"stage": {"kind": "reward"}})
    write_run(runs, "judge", ScoreModel.of(model), tokenizer, steps=(3,))
    catalog = Catalog()
    assert not [card for card in catalog.cards() if card.root == "judge@3"]
    for ask in (catalog.find, catalog.card):
        with pytest.raises(ApiError, match="'judge': it gives scores .* and writes nothing; models: ") as told:
            ask("judge")
        assert (told.value.status, told.value.code) == (404, "model_not_found")


def test_the_card_of_a_name_that_is_not_in_the_list(runs: Path) -> None:
    with EventLog(RunDirectory(runs / "done").events_path) as log:
        for step, loss in ((1, 0.5), (2, 0.7)):
            log.metrics(step, {"val/loss": loss})
    catalog = Catalog()
    names = {
        "done": "done@2",
        "done@latest": "done@2",
        "done@best": "done@1",
        "done@1": "done@1",
        "half@latest": "half@5",
    }
    for name, root in names.items():
        card = catalog.card(name)
        assert (card.id, card.root, card.step) == (name, root, int(root[-1]))
    with pytest.raises(ApiError, match="say which checkpoint") as told:
        catalog.card("half")
    assert told.value.status == 404


def test_no_home_is_no_models(home: Path) -> None:
    assert Catalog().cards() == []
    assert damaged("m", OSError("no disk")).code == "model_damaged"
