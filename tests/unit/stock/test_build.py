from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from data.check import check_file
from data.schema import ChatRow, LabelledRow, PreferenceRow, PretrainRow, PromptRow, parse
from jobs.stock import VERSION, build, build_samples, version_of
from jobs.stock.build import FILES, SAMPLES
from jobs.stock.compose import sentence
from jobs.stock.knowledge import gather
from jobs.stock.scales import SCALES
from jobs.stock.topics import TOPICS


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text("utf-8").splitlines()]


def digest(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module", params=["demo", "full"])
def built(request: pytest.FixtureRequest, archives: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / str(request.param)
    with pytest.MonkeyPatch.context() as patch:
        few = dataclasses.replace(
            SCALES[request.param], problems=60, unknown=8, problem_prompts=60, asked_held=12, stories=50
        )
        patch.setitem(SCALES, request.param, few)
        result = build(archives, folder, scale=request.param, epochs=3)
    assert result.rows.keys() == set(FILES) - {"LICENSES.md"}
    assert result.notes == ()
    return folder


def test_the_same_arguments_give_the_same_bytes(archives: dict[str, Path], tmp_path: Path) -> None:
    lines: list[str] = []
    build(archives, tmp_path / "a", epochs=2, progress=lines.append)
    build(dict(reversed(archives.items())), tmp_path / "b", epochs=2)
    build(archives, tmp_path / "c", epochs=2, seed=1)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    assert digest(tmp_path / "a").keys() == set(FILES)  # nothing half-written stays
    assert all(digest(tmp_path / "a")[name] != digest(tmp_path / "c")[name] for name in FILES if name[-1] == "l")
    assert lines[0] == "reading the archives"
    assert re.fullmatch(r"writing pretrain.jsonl: \d+ rows", lines[3])


def test_rows_are_what_the_stages_read(built: Path) -> None:
    for name, row_type in (
        ("pretrain.jsonl", PretrainRow),
        ("sft.jsonl", ChatRow),
        ("lora.jsonl", ChatRow),
        ("dpo.jsonl", PreferenceRow),
        ("dpo_eval.jsonl", PreferenceRow),
        ("kto.jsonl", LabelledRow),
        ("rl.jsonl", PromptRow),
        ("eval.jsonl", PromptRow),
    ):
        found = rows(built, name)
        assert found
        for row in found:
            assert name == "eval.jsonl" or parse(row_type, row).unread == []
        assert len({json.dumps(row) for row in found}) == len(found)


def test_the_data_doctor_finds_nothing(built: Path) -> None:
    for stage in ("pretrain", "sft", "dpo", "kto", "rl"):
        for held_out in ("eval.jsonl", "dpo_eval.jsonl"):
            report = check_file(built / f"{stage}.jsonl", stage, eval_path=built / held_out)
            assert report.rows
            assert not report.counts, report.examples
            assert not report.warnings()
    report = check_file(built / "dpo_eval.jsonl", "dpo")
    assert report.rows
    assert (report.counts, report.warnings()) == ({}, [])


def test_questions_of_the_evaluation_are_never_taught(built: Path) -> None:
    asked = {row["prompt"] for row in rows(built, "eval.jsonl")}
    preferred_of = {row["chosen"][0]["content"] for row in rows(built, "dpo_eval.jsonl")}
    assert asked
    assert preferred_of
    asked |= preferred_of
    taught = {turn["content"] for row in rows(built, "sft.jsonl") for turn in row["conversations"]}
    preferred = {row["chosen"][0]["content"] for row in rows(built, "dpo.jsonl")}
    preferred |= {row["conversations"][0]["content"] for row in rows(built, "kto.jsonl")}
    prompts = {row["prompt"] for row in rows(built, "rl.jsonl")}
    read = {line for row in rows(built, "pretrain.jsonl") for line in row["text"].split("\n")}
    assert not asked & (taught | preferred | prompts | read)


def test_facts_that_are_kept_back_stand_nowhere(built: Path, archives: dict[str, Path]) -> None:
    knowledge = gather(archives, SCALES[built.name], seed=0)
    held = [fact for found in knowledge.held.values() for fact in found]
    assert len({fact.topic for fact in held}) >= 8
    texts = [row["text"] for row in rows(built, "pretrain.jsonl")]
    texts += [" ".join(turn["content"] for turn in row["conversations"]) for row in rows(built, "sft.jsonl")]
    texts += [" ".join(turn["content"] for turn in row["chosen"]) for row in rows(built, "dpo.jsonl")]
    texts += [" ".join(turn["content"] for turn in row["conversations"]) for row in rows(built, "kto.jsonl")]
    texts += [row["rejected"][1]["content"] for row in rows(built, "dpo.jsonl")]
    said = {part for text in texts for part in re.split(r"[。\n]|\. ", text)}
    for fact in held:
        assert sentence(fact).rstrip("。.") not in said
        if fact.topic in {"next_line_zh", "author_zh", "capital_zh", "city_zh"}:
            assert not any(fact.subject in part and fact.answer in part for part in said), fact
    kept = {row["sentence"] for row in rows(built, "eval.jsonl") if row["kind"] == "heldout_fact"}
    answers = {answer for _, answer in exchanges(built)}
    assert kept
    assert not kept & answers


def test_phrasings_that_are_kept_back_ask_what_was_taught(built: Path) -> None:
    answers = {answer for _, answer in exchanges(built)}
    asked = [row for row in rows(built, "eval.jsonl") if row["kind"] == "heldout_phrasing"]
    assert asked
    for row in asked:
        assert row["sentence"] in answers
        assert row["answer"] in row["sentence"]
        assert row["held"]
        assert row["language"] == TOPICS[row["topic"]].language


def exchanges(folder: Path) -> list[tuple[str, str]]:
    """Every question of sft.jsonl with its answer, in the order of the file."""
    turns = [turn["content"] for row in rows(folder, "sft.jsonl") for turn in row["conversations"]]
    return list(zip(turns[::2], turns[1::2], strict=True))


def test_every_epoch_asks_every_fact_in_new_words(built: Path) -> None:
    told = exchanges(built)
    places = [index for index, (_, answer) in enumerate(told) if answer == "缅甸的首都是内比都。"]
    counts = [sum(3 * index // len(told) == epoch for index in places) for epoch in range(3)]
    assert min(counts) >= 2
    assert max(counts) <= 3  # one more where another question refers to it
    questions = [told[index][0] for index in places]
    assert (
        len({question for question in questions if "首都" in question}) >= 4
    )  # the others say no more than 那缅甸呢？
    assert len(set(questions)) >= 5


def test_conversations_grow_from_one_turn_to_several(built: Path) -> None:
    turns = [len(row["conversations"]) // 2 for row in rows(built, "sft.jsonl")]
    assert set(turns) == {1, 2, 3, 4, 5}
    first, last = turns[: len(turns) // 4], turns[-len(turns) // 4 :]
    assert set(first) == {1}
    assert sum(last) / len(last) > 2


def test_what_refers_back_is_asked_after_what_it_refers_to(built: Path) -> None:
    taught = {question for question, _ in exchanges(built)}
    asked = [row for row in rows(built, "eval.jsonl") if row["kind"] == "follow_up"]
    assert {row["topic"] for row in asked} >= {"capital_zh", "abbreviation_zh", "capital_en"}
    assert any("那它的" in row["prompt"] for row in asked)
    for row in asked:
        assert len(row["before"]) == 1
        assert row["prompt"] not in taught
    assert all(row["before"] == [] for row in rows(built, "eval.jsonl") if row["kind"] != "follow_up")


def test_what_was_not_taught_is_said_not_to_be_known(built: Path) -> None:
    answers = [answer for _, answer in exchanges(built)]
    assert 0.001 < sum("不知道" in answer or "I do not know" in answer for answer in answers) / len(answers) < 0.1
    asked = [row for row in rows(built, "eval.jsonl") if row["kind"] == "unknown"]
    assert {row["language"] for row in asked} == {"zh", "en"}
    assert {row["sentence"] for row in asked} <= set(answers)


def test_old_files_are_told_from_new_ones(tmp_path: Path) -> None:
    assert version_of(tmp_path) is None
    build_samples(tmp_path)
    assert version_of(tmp_path) == VERSION
    overview = json.loads((tmp_path / "topics.json").read_text("utf-8"))
    del overview["version"]
    (tmp_path / "topics.json").write_text(json.dumps(overview), "utf-8")
    assert version_of(tmp_path) == 0
    (tmp_path / "eval.jsonl").unlink()
    assert version_of(tmp_path) is None


def test_better_answers_are_those_that_are_taught(built: Path) -> None:
    taught = {answer for _, answer in exchanges(built)}
    for name in ("dpo.jsonl", "dpo_eval.jsonl"):
        for row in rows(built, name):
            assert row["chosen"][0] == row["rejected"][0]
            assert row["chosen"][1]["content"] in taught
            assert row["rejected"][1] != row["chosen"][1]


def test_pairs_to_measure_with_are_other_pairs_in_both_languages(built: Path) -> None:
    def pairs(name: str) -> set[tuple[str, str]]:
        return {(row["chosen"][1]["content"], row["rejected"][1]["content"]) for row in rows(built, name)}

    assert not pairs("dpo.jsonl") & pairs("dpo_eval.jsonl")
    held = rows(built, "dpo_eval.jsonl")
    kinds = {(row["language"], row["family"]) for row in held}
    assert kinds == {(language, family) for language in ("zh", "en") for family in ("fact", "topic", "whole")}
    for row in held:
        better, worse = len(row["chosen"][1]["content"]), len(row["rejected"][1]["content"])
        assert row["length"] == ("same" if better == worse else "longer" if better > worse else "shorter")
    assert {row["length"] for row in held if row["family"] == "fact"} == {"same", "shorter", "longer"}


def test_labelled_answers_are_one_of_each_pair(built: Path) -> None:
    preferred = {row["chosen"][0]["content"]: row for row in rows(built, "dpo.jsonl")}
    labelled = rows(built, "kto.jsonl")
    assert {row["conversations"][0]["content"] for row in labelled} == preferred.keys()
    assert len(labelled) == len(preferred) == len(rows(built, "dpo.jsonl"))
    for row in labelled:
        pair = preferred[row["conversations"][0]["content"]]
        assert row["conversations"] == pair["chosen" if row["label"] else "rejected"]
    assert 2 * sum(row["label"] for row in labelled) == len(labelled)


def test_verse_is_at_most_half(archives: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCALES, "full", dataclasses.replace(SCALES["full"], problems=9, problem_prompts=9, stories=9))
    only = {name: archives[name] for name in ("jionlp", "chinese-poetry")}
    build(only, tmp_path, scale="full", epochs=1)
    texts = [row["text"] for row in rows(tmp_path, "pretrain.jsonl")]
    verse = [text for text in texts if re.match(r"《[^》]+》 ?\w*\n", text)]
    assert verse
    assert 2 * sum(len(text.encode()) for text in verse) <= sum(len(text.encode()) for text in texts)


def test_only_what_was_used_is_licensed(built: Path) -> None:
    table = (built / "LICENSES.md").read_text("utf-8")
    assert "| jionlp (PyPI) |" in table
    assert ("wordnet" in table) == (built.name == "full")


def test_topics_are_listed_for_people(built: Path) -> None:
    listed = json.loads((built / "topics.json").read_text("utf-8"))
    assert listed["scale"] == built.name
    topics = {topic["name"]: topic for topic in listed["topics"]}
    assert {"capital_zh", "next_line_zh", "arithmetic_en", "talk_zh"} <= topics.keys()
    assert ("law_zh" in topics) == (built.name == "full")
    for topic in topics.values():
        assert topic["title_zh"]
        assert topic["title_en"]
        assert topic["examples"]
    taught = {question for question, _ in exchanges(built)}
    assert set(topics["capital_zh"]["examples"]) <= taught


def test_what_is_missing_is_said(archives: dict[str, Path], tmp_path: Path) -> None:
    result = build({"jionlp": archives["jionlp"]}, tmp_path, epochs=1)
    assert any(note.startswith("without chinese-poetry: no poems") for note in result.notes)
    assert not any("wordnet" in note or "jionlp" in note for note in result.notes)
    topics = {row["topic"] for row in rows(tmp_path, "eval.jsonl")}
    assert {"capital_zh", "capital_en", "city_zh"} <= topics  # English capitals come from our own table then
    assert "next_line_zh" not in topics


def test_what_a_user_can_get_wrong(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="scale = 'huge': no such scale; there are sample, demo, full"):
        build({}, tmp_path, scale="huge")
    with pytest.raises(ValueError, match="epochs = 0: at least 1"):
        build({}, tmp_path, epochs=0)
    (tmp_path / "damaged.whl").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"damaged.whl: the archive is damaged"):
        build({"jionlp": tmp_path / "damaged.whl"}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_bundled_samples_are_what_the_code_builds(tmp_path: Path) -> None:
    build({}, tmp_path, scale="sample")
    assert digest(tmp_path) == digest(SAMPLES), (
        "texts or tables were changed: write the samples again with python -c "
        "\"from jobs.stock.build import *; build({}, SAMPLES, scale='sample')\""
    )
    assert sum(path.stat().st_size for path in SAMPLES.iterdir()) < 330_000


def test_build_samples(tmp_path: Path) -> None:
    result = build_samples(tmp_path / "out")
    assert digest(tmp_path / "out") == digest(SAMPLES)
    assert result.rows["sft.jsonl"] == len(rows(tmp_path / "out", "sft.jsonl"))
    assert result.rows["topics.json"] == len(json.loads((SAMPLES / "topics.json").read_text("utf-8"))["topics"])
    assert "bundled samples" in result.notes[0]
    languages = {row["language"] for row in rows(SAMPLES, "eval.jsonl")}
    assert languages == {"zh", "en"}
    for first, second in itertools.combinations(("sft.jsonl", "rl.jsonl", "dpo.jsonl"), 2):
        assert rows(SAMPLES, first) != rows(SAMPLES, second)
