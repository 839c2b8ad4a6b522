from __future__ import annotations

from pathlib import Path

import pytest

from jobs import paths
from jobs.runs.directory import RunDirectory
from jobs.runs.references import find_weights, lasting_name, tokenizer_folder
from minimind.checkpoints.checkpoint import Lineage, save
from minimind.events import EventLog
from minimind.network.model import MiniMind, ModelConfig
from minimind.text.tokenizer import Tokenizer

CONFIG = ModelConfig(vocab_size=292, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1)
TOKENIZER = Tokenizer.train(["ab"], vocab_size=292)


def make_run(name: str, losses: dict[int, float | None], state: str) -> RunDirectory:
    """A run with a checkpoint at each step, validated where there is a loss."""
    run = RunDirectory(paths.runs() / name)
    run.create({"name": name, "stage": {"kind": "pretrain"}})
    with run.hold(), EventLog(run.events_path) as log:
        log.state("RUNNING", step=0)
        for step, loss in losses.items():
            save_checkpoint(run.checkpoints, step)
            if loss is not None:
                log.metrics(step, {"val/loss": loss})
        log.state(state)
    return run


def save_checkpoint(root: Path, step: int) -> Path:
    weights = MiniMind(CONFIG).state_dict()
    return save(
        root, step, model_config=CONFIG, weights=weights, tokenizer=TOKENIZER, train_state={}, lineage=Lineage("x")
    )


@pytest.fixture
def finished(home: Path) -> RunDirectory:
    return make_run("done", {2: 3.0, 4: 1.5, 6: 2.0, 8: None}, "SUCCEEDED")


@pytest.mark.parametrize(
    ("text", "step"), [("done", 8), ("done@latest", 8), ("done@best", 4), ("done@2", 2), ("done@6", 6)]
)
def test_a_run_names_a_checkpoint(finished: RunDirectory, text: str, step: int) -> None:
    assert find_weights(text).folder == finished.checkpoints / f"step_{step:08d}"
    assert lasting_name(text) == f"done@{step}"
    assert find_weights(lasting_name(text)).folder == find_weights(text).folder


def test_best_takes_the_earlier_of_two_equal_ones(home: Path) -> None:
    make_run("equal", {2: 1.0, 4: 1.0}, "SUCCEEDED")
    assert lasting_name("equal@best") == "equal@2"


def test_what_was_no_number_is_never_best(home: Path) -> None:
    make_run("broken", {2: float("nan"), 4: 1.5, 6: 1.0}, "SUCCEEDED")
    assert lasting_name("broken@best") == "broken@6"
    make_run("hopeless", {2: float("nan")}, "SUCCEEDED")
    with pytest.raises(ValueError, match="has been validated"):
        find_weights("hopeless@best")


@pytest.mark.parametrize("text", ["done@3", "done@-2", "done@newest", "done@2@4", "done@02", "done@２"])
def test_another_step_is_refused_with_those_there_are(finished: RunDirectory, text: str) -> None:
    with pytest.raises(ValueError, match="no such checkpoint") as caught:
        find_weights(text)
    assert repr(text) in str(caught.value)
    assert "done@latest, done@best, done@2, done@4, done@6, done@8" in str(caught.value)


def test_a_run_that_has_not_succeeded_is_not_taken_silently(home: Path) -> None:
    make_run("stopped", {2: None}, "STOPPED")
    with pytest.raises(ValueError, match=r"'stopped': the run is STOPPED, so say which .*: stopped@latest, stopped@2$"):
        find_weights("stopped")
    assert lasting_name("stopped@latest") == "stopped@2"
    with pytest.raises(ValueError, match="stopped@best: no checkpoint in .* has been validated"):
        find_weights("stopped@best")


def test_a_run_without_a_checkpoint(home: Path) -> None:
    run = make_run("empty", {}, "FAILED")
    with pytest.raises(ValueError, match=f"'empty@latest': the run at {run.path} has no checkpoint yet"):
        find_weights("empty@latest")


def test_an_unknown_run_is_refused_with_those_near_and_how_to_name_a_folder(finished: RunDirectory) -> None:
    with pytest.raises(ValueError, match="no run 'dome'") as caught:
        find_weights("dome")
    assert "runs there: done" in str(caught.value)
    assert "such as ./dome" in str(caught.value)


def test_a_folder_has_a_slash_and_counts_from_home(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = save_checkpoint(home / "mine", 5)
    monkeypatch.chdir(tmp_path)
    for text in ("mine/step_00000005", "./mine/step_00000005", str(folder)):
        assert find_weights(text).folder.samefile(folder)
        assert lasting_name(text) == "mine/step_00000005"  # a home that is moved still has it
    with pytest.raises(ValueError, match=f"checkpoint not found: {home}/other/step.*mine"):
        find_weights("other/step")


def test_foreign_weights_are_sent_to_convert(home: Path) -> None:
    (home / "hf").mkdir()
    (home / "hf" / "config.json").write_text("{}")
    (home / "pretrain_512.pth").touch()
    for text in ("./hf", "./pretrain_512.pth"):
        with pytest.raises(ValueError, match=f"{home / text} is no checkpoint.*minimind convert {home / text}"):
            find_weights(text)


def test_a_folder_of_checkpoints_is_told_from_foreign_weights(home: Path) -> None:
    folder = save_checkpoint(home / "imported", 0)
    with pytest.raises(ValueError, match=f"{home}/imported holds checkpoints and is none: .* such as {folder}$"):
        find_weights("./imported")


def test_a_tokenizer_is_that_of_a_tokenizer_run_a_checkpoint_or_a_folder(finished: RunDirectory, home: Path) -> None:
    run = RunDirectory(paths.runs() / "words")
    run.create({"name": "words", "stage": {"kind": "tokenizer"}})
    TOKENIZER.save(run.path / "tokenizer")
    assert tokenizer_folder("words") == run.path / "tokenizer"
    assert tokenizer_folder("done") == find_weights("done").folder
    assert tokenizer_folder("done@2") == find_weights("done@2").folder
    assert tokenizer_folder("runs/words/tokenizer") == run.path / "tokenizer"
    assert Tokenizer.load(tokenizer_folder("done@best")).fingerprint == TOKENIZER.fingerprint
    with pytest.raises(ValueError, match="tokenizer not found: .*/nothing"):
        tokenizer_folder("./nothing")
    with pytest.raises(ValueError, match="no run 'nothing'"):
        tokenizer_folder("nothing")


def test_a_role_inside_a_checkpoint_is_said_to_be_one(finished: RunDirectory) -> None:
    checkpoint = finished.checkpoints / "step_00000008"
    (checkpoint / "critic").mkdir()
    with pytest.raises(ValueError, match=f"is the role 'critic' of the checkpoint {checkpoint}, not a"):
        find_weights(str(checkpoint / "critic"))
