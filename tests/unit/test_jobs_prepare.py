from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import minimind.checkpoints.checkpoint as checkpoints
from data.prepare import encode_in_threads
from data.shards import TokenShards
from jobs import paths
from jobs.fit.disk import disk_plan
from jobs.runs.directory import RunDirectory
from jobs.stages.spec import RunSpec
from jobs.text.doctor import check_data
from jobs.text.prepare import Prepared, prepare, require_vocabulary
from jobs.text.tokenizer import TokenizerSpec, run_tokenizer
from minimind.checkpoints.checkpoint import Lineage
from minimind.checkpoints.manifest import CheckpointError
from minimind.network.model import MiniMind
from minimind.text.tokenizer import Tokenizer
from tests.small import SAMPLES, Screen, small_spec, write_chats, write_rows


@pytest.fixture
def screen() -> Screen:
    return Screen()


def checkpoint(spec: RunSpec, tokenizer: Tokenizer, root: Path, step: int = 3) -> Path:
    return checkpoints.save(
        root,
        step,
        model_config=spec.model,
        weights=MiniMind(spec.model).state_dict(),
        tokenizer=tokenizer,
        train_state={},
        lineage=Lineage("parent"),
    )


def test_everything_is_made_once_and_found_again(home: Path, screen: Screen) -> None:
    first = prepare(small_spec(), screen)
    assert "Checked pretrain.jsonl: 321 rows" in screen.text
    assert f"training one with 600 ids on {SAMPLES}" in screen.text
    assert "321 documents" in screen.text
    assert "longer than 32 tokens are read in pieces" in screen.text
    tokenizer = Tokenizer.load(first.tokenizer)
    assert tokenizer.vocab_size == 600
    shards = TokenShards.open(first.shards, tokenizer.fingerprint)
    assert (len(shards), shards.fingerprint) == (321, first.data_fingerprint)
    assert (first.validation_shards, first.init_folder, first.parent_run) == (None, None, None)
    assert Prepared.model_validate_json(first.model_dump_json()) == first

    again = Screen()
    assert prepare(small_spec(seed=1, optim__learning_rate=0.1), again) == first
    assert "Checked" not in again.text
    assert "training one" not in again.text
    assert not list(paths.cache().rglob("*.partial"))


def test_the_tokenizer_follows_vocabulary_and_splitting(home: Path, screen: Screen) -> None:
    folders = {
        prepare(small_spec(model__vocab_size=size, data__split_cjk=split), screen).tokenizer
        for size in (600, 610)
        for split in (True, False)
    }
    assert len(folders) == 4
    assert sorted(Tokenizer.load(folder).vocab_size for folder in folders) == [600, 600, 610, 610]


def test_two_runs_at_once_train_one_tokenizer(home: Path) -> None:
    screens = [Screen() for _ in range(3)]
    with ThreadPoolExecutor(3) as threads:
        results = list(threads.map(lambda screen: prepare(small_spec(), screen), screens))
    assert results[0] == results[1] == results[2]
    assert sum("training one" in screen.text for screen in screens) == 1


def test_a_named_tokenizer_is_taken_and_kept(home: Path, screen: Screen) -> None:
    run = run_tokenizer(TokenizerSpec(name="words", path=str(SAMPLES), vocab_size=600, split_cjk=True), screen)
    named = prepare(small_spec(data__tokenizer="words"), screen)
    fingerprint = Tokenizer.load(run.path / "tokenizer").fingerprint
    assert Tokenizer.load(named.tokenizer).fingerprint == fingerprint
    shutil.rmtree(run.path)
    assert Tokenizer.load(named.tokenizer).fingerprint == fingerprint  # workers that start again still find it


def test_a_vocabulary_that_does_not_match_is_refused(home: Path, screen: Screen) -> None:
    run_tokenizer(TokenizerSpec(name="words", path=str(SAMPLES), vocab_size=500), screen)
    with pytest.raises(ValueError, match="has 500 ids, the model has 600: .*--set model.vocab_size=500"):
        prepare(small_spec(data__tokenizer="words"), screen)
    prepare(small_spec(data__tokenizer="words", model__vocab_size=500), screen)
    tokenizer = Tokenizer.train(["ab"], vocab_size=300)
    require_vocabulary(tokenizer, 300, "here")
    for size in (299, 301):
        with pytest.raises(ValueError, match=f"the tokenizer in here has 300 ids, the model has {size}"):
            require_vocabulary(tokenizer, size, "here")


def test_first_weights_bring_their_tokenizer(home: Path, screen: Screen) -> None:
    spec = small_spec(init_from="./given/step_00000003")
    tokenizer = Tokenizer.train(["ab"] * 3, vocab_size=600)
    folder = checkpoint(spec, tokenizer, home / "given")
    prepared = prepare(spec, screen)
    assert prepared.init_folder is not None
    assert Path(prepared.init_folder).samefile(folder)
    assert (prepared.parent_run, prepared.parent_step) == ("parent", 3)
    assert Tokenizer.load(prepared.tokenizer).fingerprint == tokenizer.fingerprint
    run_tokenizer(TokenizerSpec(name="words", path=str(SAMPLES), vocab_size=600), screen)
    with pytest.raises(ValueError, match="was made with another tokenizer") as caught:
        prepare(small_spec(init_from="./given/step_00000003", data__tokenizer="words"), screen)
    assert tokenizer.fingerprint in str(caught.value)
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="model.safetensors has 7 bytes"):
        prepare(spec, screen)


def test_a_run_that_goes_on_needs_nothing_it_began_with(home: Path, screen: Screen) -> None:
    tokenizer = Tokenizer.train(["ab"] * 3, vocab_size=600)
    spec = small_spec(init_from="gone@3", data__tokenizer="gone-too")
    own = checkpoint(spec, tokenizer, home / "own")
    prepared = prepare(spec, screen, own=own)
    assert Tokenizer.load(prepared.tokenizer).fingerprint == tokenizer.fingerprint
    assert prepared.init_folder is None
    with pytest.raises(ValueError, match="no run 'gone'"):
        prepare(spec, screen)


def test_bad_rows_are_refused_or_left_out_by_all(home: Path, screen: Screen, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [f"row number {number}" for number in range(20)])
    with path.open("ab") as file:
        file.write(b'{"text": "broken\n{"text": "\xff"}\n')
    with pytest.raises(ValueError, match="max_bad_rows = 0") as caught:
        prepare(small_spec(data__path=str(path)), screen)
    assert f"{path}:21: broken JSON" in str(caught.value)
    assert f"{path}:22: not UTF-8" in str(caught.value)
    assert "--set data.limits.max_bad_rows=2" in str(caught.value)
    for allowed in (2, "null"):
        prepared = prepare(small_spec(data__path=str(path), data__limits__max_bad_rows=allowed), screen)
        assert "; 2 broken rows left out" in screen.text
        shards = TokenShards.open(prepared.shards, Tokenizer.load(prepared.tokenizer).fingerprint)
        assert (len(shards), shards.skipped_rows) == (20, 2)


def test_held_out_rows_of_their_own(home: Path, screen: Screen, tmp_path: Path) -> None:
    held_out = write_rows(tmp_path / "held.jsonl", ["never seen before", "and neither was this"])
    prepared = prepare(small_spec(eval__path=str(held_out)), screen)
    assert prepared.validation_shards is not None
    tokenizer = Tokenizer.load(prepared.tokenizer)
    assert len(TokenShards.open(prepared.validation_shards, tokenizer.fingerprint)) == 2
    first = json.loads(SAMPLES.read_text("utf-8").splitlines()[0])["text"]
    write_rows(held_out, [first])
    with pytest.raises(ValueError, match="1 leaked"):
        prepare(small_spec(eval__path=str(held_out)), screen)
    with pytest.raises(ValueError, match=f"validation file not found: {home}/gone.jsonl"):
        prepare(small_spec(eval__path="gone.jsonl"), screen)


def test_the_given_pipeline_encodes(home: Path, screen: Screen) -> None:
    calls = []

    def pipeline(*arguments: object) -> object:
        calls.append(arguments)
        return encode_in_threads(*arguments)  # type: ignore[arg-type]

    prepare(small_spec(), screen, pipeline=pipeline)  # type: ignore[arg-type]
    assert len(calls) == 1


def test_a_missing_file_is_named_with_where_it_was_looked_for(home: Path, screen: Screen) -> None:
    with pytest.raises(ValueError, match="data file .*minimind data fetch.* not found") as caught:
        prepare(small_spec(data__path="data/none.jsonl"), screen)
    assert f"{home}/data/none.jsonl ('data/none.jsonl' counts from {home})" in str(caught.value)
    assert not paths.cache().exists()


def test_the_disk_must_have_room_for_the_checkpoints(
    home: Path, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small_spec(optim__name="adamw", loop__keep_last=3, loop__keep_best=2)
    run = RunDirectory(paths.runs() / "small")
    disk_plan(spec, run, screen)
    one = checkpoints.checkpoint_bytes(MiniMind(spec.model).parameter_count())
    assert "for 6 checkpoints of 8.6 MB" in screen.text
    usage = shutil.disk_usage(home)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=4 * one))
    with pytest.raises(ValueError, match=f"the run needs up to 51.. MB in {run.path} .6 checkpoints") as caught:
        disk_plan(spec, run, screen)
    assert "--set loop.keep_last=1" in str(caught.value)
    run.checkpoints.mkdir(parents=True)
    (run.checkpoints / "weights").write_bytes(bytes(2 * one))
    disk_plan(spec, run, screen)  # what is there already is not needed again
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=one // 2))
    (run.checkpoints / "weights").write_bytes(bytes(7 * one))
    with pytest.raises(ValueError, match="free: make room"):
        disk_plan(spec, run, screen)  # but one more must fit in any case


def test_check_data_says_whether_a_run_would_take_the_file(home: Path, screen: Screen, tmp_path: Path) -> None:
    run_tokenizer(TokenizerSpec(name="words", path=str(SAMPLES), vocab_size=600), screen)
    assert check_data(SAMPLES, "pretrain", screen, tokenizer="words", max_seq_len=32) == 0
    assert "tokens per row" in screen.text
    assert "Nothing stands in the way" in screen.text
    held_out = write_rows(tmp_path / "held.jsonl", ["a b c"])
    path = write_rows(tmp_path / "rows.jsonl", ["A  b c", "d", ""])
    assert check_data(path, "pretrain", screen, held_out=held_out) == 1
    assert "A run would refuse this file" in screen.text
    assert "1 leaked" in screen.text
    assert "1 empty" in screen.text


def test_a_data_error_names_the_line(home: Path, screen: Screen, tmp_path: Path) -> None:
    held_out = tmp_path / "held.jsonl"
    held_out.write_text('{"text": "fine"}\n{"words": 1}\n')
    with pytest.raises(ValueError, match=rf"(?s)eval\.path: .*{held_out}:2: a row needs text"):
        prepare(small_spec(eval__path=str(held_out)), screen)


def test_held_out_rows_are_looked_at_before_a_run(home: Path, tmp_path: Path, screen: Screen) -> None:
    path = write_rows(tmp_path / "held_out.jsonl", ["fine", " "])
    with pytest.raises(ValueError, match=r"eval\.path: .*held_out\.jsonl, 2 rows for pretrain: 1 empty"):
        prepare(small_spec(eval__path=str(path)), screen)
    chats = write_chats(tmp_path / "chats.jsonl", [("q " * 200, "a")])
    tokenizer = Tokenizer.load(prepare(small_spec(), screen).tokenizer)
    folder = checkpoint(small_spec(), tokenizer, home / "given")
    settings = {"init_from": str(folder), "eval__path": str(chats)}
    with pytest.raises(ValueError, match=r"eval\.path: .*chats\.jsonl.*1 fully_masked"):
        prepare(small_spec("sft", **settings), screen)
    with pytest.raises(
        ValueError, match=r"chats\.jsonl: of none of 1 conversations can anything be learnt in 96 tokens"
    ):
        prepare(small_spec("sft", **settings, data__limits__max_bad_turns=1), screen)


def test_a_field_that_nothing_reads_is_named_by_the_run_itself(home: Path, tmp_path: Path, screen: Screen) -> None:
    rows = [{"text": f"text number {i}", "id": i, "source": "x"} for i in range(20)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare(small_spec(data__path=str(path)), screen)
    assert "Checked rows.jsonl: 20 rows, nothing wrong. Not used: id, source." in screen.text
    path.write_text(json.dumps({"text": "a", "loss_mask": 0}) + "\n" + path.read_text())
    with pytest.raises(ValueError, match=r"(?s)1 unread_fields .*nothing reads loss_mask"):
        prepare(small_spec(data__path=str(path)), screen)


def test_the_same_ids_with_another_chat_template_are_another_tokenizer(home: Path, screen: Screen) -> None:
    plain = run_tokenizer(TokenizerSpec(name="words", path=str(SAMPLES), vocab_size=600), screen).path / "tokenizer"
    shutil.copytree(plain, home / "other")
    (home / "other" / "chat_template.jinja").write_text("{{ messages }}", "utf-8")
    folders = [prepare(small_spec(data__tokenizer=str(path)), screen).tokenizer for path in (plain, home / "other")]
    assert folders[0] != folders[1]
    assert Tokenizer.load(folders[1]).foreign_template == "{{ messages }}"
