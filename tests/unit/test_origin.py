from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from jobs import paths
from jobs.runs.directory import RunDirectory
from jobs.runs.references import find_weights
from jobs.stages.facts import is_stock_questions
from jobs.stages.lora import lora
from jobs.stages.origin import first_weights, new_spec, require_answers, require_weights, with_text
from jobs.stages.pretrain import pretrain
from jobs.stages.sft import sft
from jobs.stages.spec import RunSpec
from jobs.stock.build import build_samples
from minimind.checkpoints.manifest import CheckpointError
from tests.small import CHATS, SAMPLES, Screen, home_with, small_spec, write_rows


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a pretrained run of another shape than any preset."""
    return home_with(tmp_path_factory.mktemp("trained"), [small_spec(loop__max_steps=1)])


def text_of(spec: RunSpec, screen: Screen | None = None) -> tuple[str | None, str | None]:
    found = with_text(spec, first_weights(dict(spec)), screen or Screen())
    return found.data.mix_path, found.eval.pretrain_path


@pytest.mark.parametrize("stage", ["sft", "lora", "pretrain"])
def test_the_shape_is_that_of_the_weights(home: Path, stage: str) -> None:
    spec = new_spec(stage, {"init_from": "small", "loop.epochs": "3"})
    assert spec.model == small_spec().model
    assert spec.loop.epochs == 3
    assert spec.data.max_seq_len == 256  # the preset is that of the nearest size
    assert spec.stage.kind == stage
    assert new_spec(stage, {"init_from": "small", "model.hidden_size": "32"}, "tiny").model == spec.model


def test_another_shape_is_refused(home: Path) -> None:
    with pytest.raises(
        ValueError, match=r"--hidden_size \(model.hidden_size\) = 64: the model's shape is that of .*small"
    ):
        new_spec("sft", {"init_from": "small", "model.hidden_size": "64"})
    with pytest.raises(ValueError, match="--model 30m is 512x8, the first weights, small, are 32x2: leave it out"):
        new_spec("sft", {"init_from": "small"}, "30m")


def test_without_weights_the_preset_is_what_it_says(home: Path) -> None:
    assert new_spec("pretrain", {}, "tiny") == pretrain("tiny")
    assert new_spec("pretrain", {}) == pretrain()
    spec = new_spec("sft", {"init_from": "none"}, "tiny")
    assert (spec.model, spec.weights) == (sft("tiny").model, None)


@pytest.mark.parametrize("settings", [{}, {"init_from": None}, {"init_from": "null"}])
def test_a_stage_that_goes_on_says_what_to_type(home: Path, settings: dict[str, Any]) -> None:
    for stage, before in (("sft", "pretrain"), ("lora", "sft"), ("dpo", "sft")):
        with pytest.raises(ValueError, match=f"^{stage} goes on from weights .* --from_weight {before} ") as caught:
            new_spec(stage, settings)
        assert "--from_weight none" in str(caught.value)


def test_an_adapter_needs_weights_to_stand_beside(home: Path) -> None:
    for spec in (
        small_spec(adapter="{}"),
        lora("tiny").model_copy(update={"init_from": "none"}),
        small_spec(adapter="{}", init_from="none"),
    ):
        with pytest.raises(ValueError, match="adapter: it trains beside weights .*--from_weight RUN"):
            require_weights(spec)
    require_weights(small_spec(adapter="{}", init_from="small@1"))
    require_weights(small_spec())


def test_unknown_weights_are_named_with_what_there_is(home: Path) -> None:
    with pytest.raises(ValueError, match="'smal': no run 'smal' at .*runs there: small"):
        new_spec("sft", {"init_from": "smal"})
    with pytest.raises(ValueError, match="'small@7': there is no such checkpoint .*small@1"):
        new_spec("sft", {"init_from": "small@7"})
    with pytest.raises(ValueError, match="checkpoint not found: .*gone"):
        new_spec("sft", {"init_from": "./gone"})


def test_damaged_weights_are_named(home: Path) -> None:
    (RunDirectory(paths.runs() / "small").checkpoints / "step_00000001" / "config.json").unlink()
    with pytest.raises(CheckpointError, match="config.json is missing"):
        new_spec("sft", {"init_from": "small"})


def test_the_stage_is_chosen_by_its_name(home: Path) -> None:
    with pytest.raises(ValueError, match="stage.kind = 'sft': a stage is chosen by its name, `train sft`"):
        new_spec("pretrain", {"stage.kind": "sft", "init_from": "small"})


def test_the_text_is_what_the_parent_learnt_from(home: Path) -> None:
    spec = small_spec("sft", init_from="small@1")
    assert text_of(spec) == (str(SAMPLES), None)
    folder = RunDirectory(paths.runs() / "small").checkpoints / "step_00000001"
    assert text_of(small_spec("sft", init_from=str(folder))) == (str(SAMPLES), None)
    assert text_of(small_spec("sft", init_from="none")) == (None, None)
    assert text_of(small_spec(init_from="small@1")) == (None, None)
    copied = home / "elsewhere"
    shutil.copytree(folder, copied)  # a folder alone knows of no run
    assert text_of(small_spec("sft", init_from=str(copied))) == (None, None)


def test_the_parents_held_out_text_is_measured_on_and_its_own_parent_is_asked(home: Path, tmp_path: Path) -> None:
    held_out = str(write_rows(tmp_path / "held.jsonl", ["never seen"]))
    run = RunDirectory(paths.runs() / "small")

    def stored(spec: RunSpec) -> None:
        run.spec_path.write_text(json.dumps({"schema_version": 1, **spec.model_dump(mode="json")}))

    stored(small_spec(eval__path=held_out))
    spec = small_spec("sft", init_from="small@1")
    assert text_of(spec) == (str(SAMPLES), held_out)
    stored(small_spec("sft", data__mix_path=held_out, eval__pretrain_path=str(SAMPLES)))
    assert text_of(spec) == (held_out, str(SAMPLES))
    mine = {"data__mix_path": str(tmp_path / "mine.jsonl"), "eval__pretrain_path": str(tmp_path / "held.jsonl")}
    assert text_of(small_spec("sft", init_from="small@1", **mine)) == tuple(mine.values())


def test_the_conversations_that_are_replayed_are_those_that_the_weights_were_taught(home: Path, tmp_path: Path) -> None:
    text = str(SAMPLES)
    runs = {
        "taught": small_spec("sft", init_from="small", data__mix_path=text),
        "liked": small_spec("dpo", init_from="taught", data__mix_path=text),
        "again": small_spec("grpo", init_from="liked", data__mix_path=text),
    }
    for name, spec in runs.items():
        shutil.copytree(paths.runs() / "small", paths.runs() / name)
        stored = {"schema_version": 1, **spec.model_dump(mode="json"), "name": name}
        RunDirectory(paths.runs() / name).spec_path.write_text(json.dumps(stored))

    def chats_of(weights: str, screen: Screen, **settings: Any) -> str | None:
        spec = small_spec("grpo", init_from=weights, data__path=str(CHATS.with_name("rl.jsonl")), **settings)
        return with_text(spec, first_weights(dict(spec)), screen).data.chats_path

    for name in runs:
        screen = Screen()
        assert chats_of(name, screen, data__mix=0.1) == str(CHATS)
        assert chats_of(name, screen) is None  # nothing is replayed
        assert not screen.text
    mine = str(tmp_path / "mine.jsonl")
    assert chats_of("again", Screen(), data__mix=0.1, data__chats_path=mine) == mine
    shutil.rmtree(paths.runs() / "taught")
    for name in ("again", "small"):
        screen = Screen()
        assert chats_of(name, screen, data__mix=0.1) is None
        assert "only plain text is replayed. Name them with --set data.chats_path=FILE" in " ".join(screen.text.split())
    for name, parent in (("one", "other@1"), ("other", "one@1")):  # each was overwritten by a run from the other
        shutil.copytree(paths.runs() / "again", paths.runs() / name)
        stored = small_spec("grpo", name=name, init_from=parent, data__mix_path=text).model_dump(mode="json")
        RunDirectory(paths.runs() / name).spec_path.write_text(json.dumps({"schema_version": 1, **stored}))
    assert chats_of("one", Screen(), data__mix=0.1) is None
    with pytest.raises(ValueError, match=r"data.chats_path = mine.jsonl: nothing is replayed, data.mix = 0; leave it"):
        small_spec("grpo", data__chats_path="mine.jsonl")
    with pytest.raises(ValueError, match=r"data.chats_path = mine.jsonl: sft replays no conversations; leave it out"):
        small_spec("sft", data__chats_path="mine.jsonl", data__mix=0.1)


def test_what_tries_is_held_to_the_facts_of_the_stock_where_its_weights_were_taught_them(home: Path) -> None:
    build_samples(paths.stock_folder())
    taught = small_spec("sft", name="taught", init_from="small", data__path=str(paths.stock_folder() / "sft.jsonl"))
    shutil.copytree(paths.runs() / "small", paths.runs() / "taught")
    stored = {"schema_version": 1, **taught.model_dump(mode="json")}
    RunDirectory(paths.runs() / "taught").spec_path.write_text(json.dumps(stored))

    def facts_of(weights: str, stage: str = "grpo", **settings: Any) -> str | None:
        questions = str(CHATS if stage == "sft" else CHATS.with_name("rl.jsonl"))
        spec = small_spec(stage, init_from=weights, data__path=questions, **settings)
        return with_text(spec, first_weights(dict(spec)), Screen()).eval.facts_path

    found = facts_of("taught")
    assert found is not None
    assert found.startswith("data/facts/stock-")  # of the home, which may be moved
    asked = [json.loads(line) for line in paths.absolute(found).read_text("utf-8").splitlines()]
    rows = [json.loads(line) for line in CHATS.with_name("eval.jsonl").read_text("utf-8").splitlines()]
    known = [{"prompt": row["prompt"], "answer": row["answer"]} for row in rows if row["kind"] == "heldout_phrasing"]
    assert asked == known
    assert len(known) > 10
    assert is_stock_questions(paths.absolute(found))
    assert not is_stock_questions(paths.stock_folder() / "eval.jsonl")
    assert facts_of("taught", eval__facts_path="mine.jsonl") == "mine.jsonl"
    assert facts_of("small") is None
    assert facts_of("taught", stage__gate="off") is None
    (paths.stock_folder() / "eval.jsonl").write_text("{", "utf-8")
    assert facts_of("taught") is None
    assert facts_of("taught", "sft") is None
    with pytest.raises(ValueError, match=r"eval.facts_path = mine.jsonl: sft is not asked for facts while it trains"):
        small_spec("sft", eval__facts_path="mine.jsonl")
    (paths.stock_folder() / "eval.jsonl").unlink()
    assert facts_of("taught") is None
    assert paths.absolute(found).is_file()


def test_what_has_not_learnt_to_answer_is_told_that_sft_comes_first(home: Path) -> None:
    for stage, told in (("grpo", True), ("sft", False)):
        screen = Screen()
        text_of(small_spec(stage, init_from="small@1"), screen)
        assert ("small@1 has not learnt to answer yet, so hardly anything" in " ".join(screen.text.split())) == told
    with pytest.raises(ValueError, match="small@1 has not learnt to answer yet: SFT comes first"):
        require_answers(find_weights("small@1"))


def test_text_that_is_gone_is_said_and_only_needed_to_replay(home: Path) -> None:
    run = RunDirectory(paths.runs() / "small")
    gone = small_spec(data__path=str(home / "gone.jsonl")).model_dump(mode="json")
    run.spec_path.write_text(json.dumps({"schema_version": 1, **gone}))
    screen = Screen()
    assert text_of(small_spec("sft", init_from="small@1"), screen) == (None, None)
    assert f"the weights learnt from {home}/gone.jsonl, which is gone" in screen.text
    for spec in (
        small_spec("sft", init_from="small@1", data__mix=0.1),
        small_spec("sft", init_from="none", data__mix=0.1),
    ):
        with pytest.raises(ValueError, match="data.mix = 0.1: .*name it with --set data.mix_path=FILE"):
            with_text(spec, first_weights(dict(spec)), screen)
