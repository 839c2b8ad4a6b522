"""What the list of models says of each, its order, and what follows from it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

import minimind.checkpoints.checkpoint as checkpoints
from jobs.runs.directory import RunDirectory
from jobs.serving.models import model_cards
from jobs.stages.lineage import learnt_to_answer
from minimind.checkpoints import folders as checkpoint_folders
from minimind.checkpoints.checkpoint import Lineage
from minimind.checkpoints.manifest import MANIFEST, weights_sha256
from minimind.inference.sampling import Sampling
from minimind.network.model import MiniMind
from minimind.text.tokenizer import Tokenizer
from tests import taught
from tests.unit.service.conftest import serving

Known = tuple[MiniMind, Tokenizer]


def write(home: Path, name: str, known: Known, sampling: Sampling | None = None, **spec: Any) -> None:
    """A run of one step that has succeeded. spec: of its spec.json, `stage` as one word."""
    run = RunDirectory(home / "runs" / name)
    run.create({**spec, "stage": {"kind": spec.get("stage", "sft")}})
    taught.write_run(home / "runs", name, *known, steps=(1,))
    model, tokenizer = known
    parent, _, step = str(spec.get("init_from", "")).partition("@")
    checkpoints.save(
        run.checkpoints,
        1,
        model_config=model.config,
        weights=model.state_dict(),
        tokenizer=tokenizer,
        train_state={},
        lineage=Lineage(name, parent, int(step)) if step else Lineage(name),
        sampling=sampling,
    )


@pytest.fixture
def runs(home: Path, known_by_heart: Known) -> Path:
    """From the oldest to the newest: a base, an SFT of it, plain text learnt after that, another base, an adapter."""
    write(home, "base", known_by_heart, stage="pretrain")
    write(home, "talk", known_by_heart, Sampling(temperature=0.2), init_from="base@1")
    write(home, "later", known_by_heart, stage="pretrain", init_from="talk@1")
    write(home, "adapter", known_by_heart, stage="lora", init_from="base@1")
    write(home, "second", known_by_heart, stage="pretrain", init_from="base@1")
    return home / "runs"


def test_a_card_says_what_a_model_is(runs: Path) -> None:
    cards = {card.id: card for card in model_cards(runs)}
    assert {name for name, card in cards.items() if not card.chat} == {"base", "base@1", "second", "second@1"}
    talk = cards["talk"]
    assert (talk.root, talk.parent, talk.sampling["temperature"]) == ("talk@1", "base@1", 0.2)
    assert cards["base"].parent is None
    assert (
        talk.weights
        == cards["base"].weights
        == weights_sha256(checkpoint_folders.folder_of(runs / "base" / "checkpoints", 1))[:12]
    )


def test_what_can_answer_comes_first_and_of_that_the_newest(runs: Path) -> None:
    names = [card.id for card in model_cards(runs) if "@" not in card.id]
    assert names == ["adapter", "later", "talk", "second", "base"]


def test_a_copied_home_keeps_the_order_and_what_was_taught(home: Path, known_by_heart: Known, tmp_path: Path) -> None:
    path = str(home / "data" / "stock" / "sft.jsonl")
    write(home, "old", known_by_heart, data={"path": path})
    write(home, "new", known_by_heart, data={"path": path})
    copy = tmp_path / "copy"
    shutil.copytree(home / "runs", copy / "runs")
    for file in sorted(copy.rglob("*")):  # the old run is copied last
        os.utime(file, (2e9, 2e9) if "old" in file.parts else (1e9, 1e9))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIMIND_HOME", str(copy))
        shutil.rmtree(home)
        cards = model_cards(copy / "runs")
    assert [card.id for card in cards] == ["new", "new@1", "old", "old@1"]
    assert all(card.stock for card in cards)


def test_runs_whose_origin_goes_in_a_circle_or_is_unknown(home: Path, known_by_heart: Known) -> None:
    write(home, "one", known_by_heart, stage="pretrain", init_from="two@1")
    write(home, "two", known_by_heart, stage="pretrain", init_from="one@1")
    write(home, "lost", known_by_heart, stage="pretrain", init_from="/nowhere/runs/gone/checkpoints/step_00000001")
    write(home, "folder", known_by_heart, stage="pretrain", init_from=f"{home}/runs/talk/checkpoints/step_00000001")
    write(home, "kept", known_by_heart, stage="pretrain", init_from="runs/talk/checkpoints/step_00000001")
    write(home, "talk", known_by_heart)
    names = ("one", "lost", "folder", "kept", "talk")
    answers = {name: learnt_to_answer(RunDirectory(home / "runs" / name)) for name in names}
    assert answers == {"one": False, "lost": False, "folder": True, "kept": True, "talk": True}


def test_a_damaged_checkpoint_is_listed_all_the_same(runs: Path) -> None:
    (runs / "talk" / "checkpoints" / "step_00000001" / MANIFEST).write_text("{", "utf-8")
    talk = next(card for card in model_cards(runs) if card.id == "talk")
    assert (talk.weights, talk.parent, talk.chat) == ("", None, True)


def test_a_model_that_continues_text_refuses_a_conversation_and_continues(runs: Path) -> None:
    asked = {"model": "base", "max_tokens": 4, "temperature": 0}
    with serving() as served:
        listed = served.client.models.list().data
        assert listed[0].model_extra is not None
        assert listed[0].model_extra["minimind"]["chat"] is True
        with pytest.raises(openai.BadRequestError, match=r"has not learnt to answer.*/v1/completions") as told:
            served.client.chat.completions.create(messages=[{"role": "user", "content": "hi"}], **asked)  # type: ignore[call-overload]
        assert (told.value.code, told.value.param) == ("not_a_chat_model", "model")
        assert "minimind train sft --from_weight base" in str(told.value)
        answer = served.client.completions.create(prompt="Paris", **asked)  # type: ignore[call-overload]
        assert answer.usage.completion_tokens > 0
        # With the token with which its documents began, if asked.
        begun = served.client.completions.create(prompt="Paris", extra_body={"add_special_tokens": True}, **asked)  # type: ignore[call-overload]
        assert begun.usage.prompt_tokens == answer.usage.prompt_tokens + 1
        body = {**asked, "prompt": "Paris", "echo": True, "add_special_tokens": True}
        refused = httpx.post(f"{served.address}/v1/completions", json=body)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "add_special_tokens")


def test_what_a_request_leaves_out_is_as_the_checkpoint_says(home: Path, known_by_heart: Known) -> None:
    write(home, "greedy", known_by_heart, Sampling(temperature=0.0))
    write(home, "wild", known_by_heart, Sampling(temperature=50.0))
    messages: Any = [{"role": "user", "content": taught.CAPITAL}]
    with serving() as served:
        ask = served.client.chat.completions.create
        said = [ask(model="greedy", messages=messages, max_tokens=8).choices[0].message.content for _ in range(8)]
        assert set(said) == {"Paris."}
        wild = [ask(model="wild", messages=messages, max_tokens=8).choices[0].message.content for _ in range(8)]
        assert len(set(wild)) > 1
        cold = [ask(model="wild", messages=messages, max_tokens=8, temperature=0) for _ in range(2)]
        assert {answer.choices[0].message.content for answer in cold} == {"Paris."}
