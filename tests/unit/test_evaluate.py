from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from data.suite import Rows, SuiteRow, load
from jobs import paths
from jobs.evaluation import chart, report, suites, texts
from jobs.evaluation import evaluate as evaluating
from jobs.evaluation.ask import _filled
from jobs.evaluation.compare import Compared, compare
from jobs.evaluation.evaluate import LocalExaminee, evaluate, kept
from jobs.evaluation.gates import Gate, closed
from jobs.evaluation.suites import evaluate_all
from jobs.evaluation.view import show_comparison, show_groups, show_scores
from jobs.runs import evals, reports
from jobs.runs.directory import RunDirectory
from jobs.runs.evals import EvalLog
from jobs.runs.references import Weights, find_weights
from jobs.runs.reports import list_reports
from minimind.checkpoints.checkpoint import Lineage, save
from minimind.checkpoints.manifest import CheckpointError
from minimind.events import EventLog
from minimind.language import speaking
from minimind.network.model import MiniMind, ModelConfig
from minimind.text.tokenizer import Tokenizer
from tests.disk import files_limited_to
from tests.small import Screen
from tests.toys import toy_model

TEXTS = ["the cat sat on the mat. 猫坐在垫子上。 a dog ran home. 狗跑回家。"] * 3
TOKENIZER = Tokenizer.train(TEXTS, vocab_size=330)
CONFIG = ModelConfig(
    vocab_size=TOKENIZER.vocab_size,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    max_position_embeddings=256,
)

ROWS: dict[str, list[dict[str, Any]]] = {
    "text": [
        {"text": "the cat sat. 猫坐着。", "language": "en"},
        {"text": "狗跑回家。" * 60, "language": "zh"},
        {"text": "a", "language": "en"},
    ],
    "pair": [
        {"sentence_good": "the cat sat.", "sentence_bad": "the sat cat.", "phenomenon": "order"},
        {"sentence_good": "a dog ran.", "sentence_bad": "a dog ran.", "phenomenon": "same"},
    ],
    "choice": [
        {"question": "the cat", "A": "sat", "B": "ran home", "answer": "A"},
        {"question": "狗", "A": "跑", "B": "坐", "C": "猫", "answer": "B"},
    ],
    "answer": [
        {"prompt": "the cat?", "checks": [{"is": "contains", "any": ["cat"]}], "language": "en", "id": "one"},
        {"prompt": "猫？", "checks": [{"is": "stopped"}, {"is": "characters", "most": 500}], "language": "zh"},
    ],
}


@pytest.fixture
def weights(home: Path) -> Weights:
    return make("good", toy_model(config=CONFIG))


def make(name: str, model: MiniMind) -> Weights:
    """A finished run with this model."""
    run = RunDirectory(paths.runs() / name)
    run.create({"name": name, "stage": {"kind": "sft"}, "eval": {}, "optim": {"learning_rate": 0.1}})
    with run.hold(), EventLog(run.events_path) as log:
        log.state("RUNNING", step=0)
        save(
            run.checkpoints, 4, model_config=CONFIG, weights=model.state_dict(), tokenizer=TOKENIZER, train_state={},
            lineage=Lineage("x"),
        )  # fmt: skip
        for step in (2, 4):
            log.metrics(step, {"val/bits_per_byte": 3.0 / step})
        log.state("SUCCEEDED")
    return find_weights(name)


def suite(how: str, folder: Path, **ask: Any) -> Rows:
    """A suite of ROWS."""
    (folder / f"{how}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS[how]), "utf-8")
    content = {"name": how, "title": {"en": how}, "rows": f"{how}.jsonl", "ask": {"how": how, "max_tokens": 12, **ask}}
    (folder / f"{how}.json").write_text(json.dumps(content), "utf-8")
    return load("", folder, folder / f"{how}.json")


@pytest.mark.parametrize("how", list(ROWS))
def test_a_suite_gives_a_record_a_row_and_a_summary(weights: Weights, tmp_path: Path, how: str) -> None:
    told: list[int] = []
    found = evaluate(LocalExaminee.load(weights), suite(how, tmp_path), told.append)
    assert told
    assert len(found.records) == len(ROWS[how])
    assert found.path == paths.runs() / "good" / "evals" / f"{how}@4.jsonl"
    again = evals.read(found.path)
    assert (again.records, again.summary) == (found.records, found.summary)
    assert found.summary["n"] == len(ROWS[how])
    assert found.summary["low"] <= found.score <= found.summary["high"]
    assert found.summary["chance"] == {"text": None, "pair": 0.5, "choice": (1 / 2 + 1 / 3) / 2, "answer": None}[how]
    assert {"suite", "version", "weights", "tokenizer", "seed", "precision", "program"} <= found.summary.keys()
    show_scores([found], screen := Screen())
    show_groups(found, screen)
    assert how in screen.text


def test_bits_per_byte_are_of_the_raw_bytes(weights: Weights, tmp_path: Path) -> None:
    """Counted through ids they would be wrong where an id is a part of a character (nanochat's 193 ids were)."""
    found = evaluate(LocalExaminee.load(weights), suite("text", tmp_path))
    assert [record["bytes"] for record in found.records] == [len(row["text"].encode()) for row in ROWS["text"]]
    for record in found.records:
        assert record["score"] == pytest.approx(-record["logprob"] / math.log(2) / record["bytes"])
        assert record["tokens"] == len(TOKENIZER.encode(record["prompt"]))
    bits = sum(record["score"] * record["bytes"] for record in found.records)
    assert found.score == pytest.approx(bits / sum(record["bytes"] for record in found.records))
    parts = [token for token in range(TOKENIZER.vocab_size) if b"\xef\xbf\xbd" in _shown(token)]
    assert parts  # there are ids that are no text by themselves


def _shown(token: int) -> bytes:
    return TOKENIZER.decode_bytes([token]).decode("utf-8", errors="replace").encode()


def test_equal_sentences_are_half_a_point(weights: Weights, tmp_path: Path) -> None:
    found = evaluate(LocalExaminee.load(weights), suite("pair", tmp_path))
    assert found.records[1]["score"] == 0.5


def test_what_stands_in_a_row_is_no_template() -> None:
    row = SuiteRow(
        "1", {}, texts=("{letter} {question}", "x"), question="In Jinja, what does {choice} print? {choices}"
    )
    assert _filled("{question}\n{choices}\n", row) == f"{row.question}\nA. {{letter}} {{question}}\nB. x\n"
    assert _filled("{letter}: {choice} {other}", row, 0) == "A: {letter} {question} {other}"
    assert _filled("{letter}", replace(row, texts=("x", "x", "y")), 1) == "B"


LONG = "the cat sat on the mat. " * 200


@pytest.mark.parametrize(
    ("how", "row", "said"),
    [
        ("pair", {"sentence_good": LONG, "sentence_bad": "a"}, r"a text of \d+ tokens cannot be scored: 1 to 255 can"),
        ("pair", {"sentence_good": "a", "sentence_bad": LONG}, r"a text of \d+ tokens cannot be scored"),
        ("choice", {"question": "a", "A": "a", "B": "b", "C": LONG, "answer": "A"}, r"a text of \d+ tokens"),
        ("answer", {"prompt": LONG, "answer": "a"}, r"a prompt of \d+ tokens leaves no room for an answer: 256 fit"),
        ("answer", {"prompt": "a", "sentence": "a", "before": ["a", LONG]}, r"a prompt of \d+ tokens leaves no room"),
    ],
)
def test_a_row_that_is_too_long_is_named(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, row: dict[str, Any], said: str
) -> None:
    monkeypatch.setitem(ROWS, how, [*ROWS[how], {**row, "id": "too long"}, ROWS[how][1]])
    with pytest.raises(ValueError, match=rf"^{how}, row too long: {said}"):
        evaluate(LocalExaminee.load(weights), suite(how, tmp_path))


def test_guessing_is_of_the_rows_that_count(weights: Weights, tmp_path: Path) -> None:
    rows = suite("choice", tmp_path)
    kinds = [replace(row, groups={"kind": kind}) for row, kind in zip(rows.rows, "ab", strict=True)]
    counted = replace(rows, suite=rows.suite.model_copy(update={"counted": {"kind": ("b",)}}), rows=kinds)
    found = evaluate(LocalExaminee.load(weights), counted).summary
    assert (found["n"], found["chance"]) == (1, 1 / 3)


def test_of_one_row_nobody_knows_how_sure_it_is(weights: Weights, tmp_path: Path) -> None:
    found = evaluate(LocalExaminee.load(weights), suite("text", tmp_path)).summary
    assert found["groups"]["language"]["zh"]["n"] == 1
    assert found["groups"]["language"]["zh"]["low"] is found["groups"]["language"]["zh"]["high"] is None
    one = log_of("a", ["x"], [0.5], low=None, high=None, n=1, groups={}, diagnoses={})
    show_scores([one], screen := Screen())
    assert "? … ?" in screen.text


def test_several_answers_give_pass_at_k(weights: Weights, tmp_path: Path) -> None:
    found = evaluate(LocalExaminee.load(weights), suite("answer", tmp_path, samples=4, temperature=1.0))
    assert {"pass@1", "pass@2", "pass@4"} <= found.records[0]["metrics"].keys()
    assert len(found.records[0]["samples"]) == 4
    assert found.records[0]["metrics"]["pass@1"] == pytest.approx(found.records[0]["score"])
    assert len(set(found.records[0]["samples"])) > 1


def test_the_same_weights_answer_the_same(weights: Weights, tmp_path: Path) -> None:
    rows = suite("answer", tmp_path, temperature=1.0)
    first = evaluate(LocalExaminee.load(weights), rows)
    again = evaluate(LocalExaminee.load(weights), rows)
    for one, other in zip(first.records, again.records, strict=True):
        assert (one["answer"], one["logprob"]) == (other["answer"], other["logprob"])


def test_what_has_been_evaluated_is_known(weights: Weights, tmp_path: Path) -> None:
    examinee, rows = LocalExaminee.load(weights), suite("pair", tmp_path)
    assert kept(weights, rows) is None
    evaluate(examinee, rows)
    assert kept(weights, rows) is not None
    ROWS["pair"].append({"sentence_good": "a cat.", "sentence_bad": "cat a."})
    try:
        assert kept(weights, suite("pair", tmp_path)) is None
    finally:
        ROWS["pair"].pop()
    evals.folder_of(RunDirectory(paths.runs() / "good")).joinpath("pair@4.jsonl").write_text("{}\n", "utf-8")
    assert kept(weights, rows) is None


def test_other_weights_or_another_template_are_evaluated_anew(weights: Weights, tmp_path: Path) -> None:
    rows = suite("pair", tmp_path)
    evaluate(LocalExaminee.load(weights), rows)
    save(
        RunDirectory(paths.runs() / "good").checkpoints, 4, model_config=CONFIG,
        weights=toy_model(seed=9, config=CONFIG).state_dict(), tokenizer=TOKENIZER, train_state={},
        lineage=Lineage("x"),
    )  # fmt: skip
    assert kept(weights, rows) is None


def test_a_model_is_loaded_only_where_there_is_something_to_ask(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = suite("pair", tmp_path)
    (first,) = evaluate_all(weights, [rows], Screen())
    monkeypatch.setattr(LocalExaminee, "load", lambda *_: pytest.fail("loaded"))
    (again,) = evaluate_all(weights, [rows], Screen())
    assert again.records == first.records
    file = weights.folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        evaluate_all(weights, [rows], Screen())


def both(first: Weights, second: Weights, folder: Path) -> list[Compared]:
    suites = [suite(how, folder) for how in ROWS]
    a, b = (LocalExaminee.load(weights) for weights in (first, second))
    return compare([(evaluate(a, rows), evaluate(b, rows)) for rows in suites])


def test_a_model_against_itself_shows_nothing(weights: Weights, tmp_path: Path) -> None:
    found = both(weights, weights, tmp_path)
    for one in found:
        assert not one.regressions
        assert not one.gains
        assert all(not finding.held for finding in one.findings)
    verdict = report.verdict(found)
    assert "scores the same" in verdict
    assert "ahead" not in verdict


def test_two_logs_of_other_rows_are_not_compared(weights: Weights, tmp_path: Path) -> None:
    examinee = LocalExaminee.load(weights)
    pair = evaluate(examinee, suite("pair", tmp_path))
    other = EvalLog(pair.path, pair.records, {**pair.summary, "rows_sha256": "x"})
    with pytest.raises(ValueError, match="are not of the same rows: evaluate both anew"):
        compare([(pair, other)])


NASTY = "<script>alert(1)</script> **bold** `x` | \x1b[31mred\x07 \u202eevil\u202c </p>\n\n# title"


def log_of(name: str, answers: list[str], scores: list[float], **more: Any) -> EvalLog:
    """A log as `evaluate` writes it."""
    records = [
        {
            "id": str(number), "groups": {"language": "en"},
            "prompt": [{"role": "user", "content": f"q{number} {NASTY}"}],
            "answer": answer, "score": score, "metrics": {}, "diagnoses": [] if score else ["never_ends", "lost_fact"],
            "finish": "stop", "tokens": 3, "seconds": 0.1, "logprob": -1.0, "expected": NASTY,
        }
        for number, (answer, score) in enumerate(zip(answers, scores, strict=True))
    ]  # fmt: skip
    summary = {
        "suite": "facts", "title": {"en": "Facts", "zh": "事实"}, "model": name, "run": None, "step": None,
        "stage": "sft",
        "rows_sha256": "r", "suite_sha256": "s", "template": "t", "how": "answer", "lower_is_better": False,
        "counted": {}, "groups": {}, "chance": None, "tokenizer": name,
        "seconds": 1.0, "precision": "float32", "score": sum(scores) / len(scores), "low": 0.0, "high": 1.0,
        **more,
    }  # fmt: skip
    return EvalLog(Path("/x"), records, summary)


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_report_shows_what_models_write_as_text(lang: str) -> None:
    scores = [1.0] * 30
    worse = [0.0] * 12 + [1.0] * 18
    a, b = log_of("a", ["right"] * 30, scores), log_of("b", [NASTY] * 12 + ["right"] * 18, worse)
    found = compare([(a, b)])
    assert found[0].whole.comparison.verdict == "worse"
    with speaking(lang):
        page, text = report.render(found, "html"), report.render(found, "md")
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    for content in (page, text):
        assert "\x1b" not in content
        assert "\x07" not in content
        assert "\u202e" not in content
        assert "␛[31m" in content.replace("\\", "")
        assert "⟨U+202E⟩" in content
    assert f'lang="{lang}"' in page
    assert page.count('<article class="case">') == report.CASES
    assert ("tokenizers" if lang == "en" else "分词器") in page  # the two have different ones, which is said
    assert not any(line.startswith("# title") for line in text.splitlines())
    assert "http" not in page.replace("http://www.w3.org", "")


def test_the_report_of_real_logs_is_written_in_both_languages(weights: Weights, tmp_path: Path) -> None:
    other = make("other", toy_model(seed=5, config=CONFIG))
    found = both(weights, other, tmp_path)
    written = report.write(found)
    assert [path.name for path in written] == ["report.en.html", "report.en.md", "report.zh.html", "report.zh.md"]
    page = written[0].read_text("utf-8")
    assert "other@4" in page
    assert "<svg" in page
    assert "polyline" in page
    show_comparison(found, screen := Screen())
    assert "A = good@4" in screen.text
    (row,) = list_reports()
    assert (row.name, row.a, row.b) == ("other@4-vs-good@4", "good@4", "other@4")
    facts = json.loads((written[0].parent / "report.json").read_text("utf-8"))
    assert set(facts["verdict"]) == {"en", "zh"}
    assert [one["suite"] for one in facts["suites"]] == [one.a.suite for one in found]
    (written[0].parent / "report.json").write_text("{", "utf-8")
    assert list_reports() == []


def test_a_report_of_chosen_suites_has_a_place_of_its_own(home: Path) -> None:
    found = compare([(log_of("a@1", ["x"] * 9, [1.0] * 9), log_of("b@2", ["y"] * 9, [0.0] * 9))])
    whole, *_ = report.write(found)
    some, *_ = report.write(found, chosen=True)
    assert (whole.parent.name, some.parent.name) == ("b@2-vs-a@1", "b@2-vs-a@1-facts")
    assert [row.is_of_some for row in list_reports()] == [False, True]  # the newer one is of some alone


def test_the_worst_of_pairs_is_the_one_that_lost_most() -> None:
    a, b = log_of("a", [""] * 9, [1.0] * 9, how="pair"), log_of("b", [""] * 9, [0.0] * 9, how="pair")
    for number, (one, other) in enumerate(zip(a.records, b.records, strict=True)):
        one |= {"good": "x", "logprobs": [-1.0, -2.0]}
        other |= {"good": "x", "logprobs": [-2.0 - number, -1.0]}
    (compared,) = compare([(a, b)])
    assert [case.a["id"] for case in compared.regressions][:2] == [a.records[8]["id"], a.records[7]["id"]]


def test_one_row_has_a_report_too(home: Path) -> None:
    one = log_of("a", ["x"], [1.0])
    report.write(compare([(one, log_of("b", ["y"], [0.0]))]))
    assert [row.b for row in list_reports()] == ["b"]


def test_a_full_disk_ends_a_report_in_words_and_leaves_the_older_one(home: Path) -> None:
    found = compare([(log_of("a", ["x"] * 9, [1.0] * 9), log_of("b", ["y"] * 9, [0.0] * 9))])
    (first, *_) = report.write(found)
    before = {file.name: file.read_bytes() for file in first.parent.iterdir()}
    with files_limited_to(1000), pytest.raises(ValueError, match=r"report.en.html could not be written: .*are free"):
        report.write(found)
    assert {file.name: file.read_bytes() for file in first.parent.iterdir()} == before


def test_a_full_disk_is_said_and_leaves_the_older_report(tmp_path: Path) -> None:
    path = evals.write_text(tmp_path / "report.html", "old")
    with files_limited_to(1000), pytest.raises(ValueError, match="report.html could not be written"):
        evals.write_text(path, "x" * 100_000)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("content", ["", "x", '{"type": "row"}\n', '{"type": "summary"}\n', "[]\n"])
def test_a_file_that_is_no_log_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a@1.jsonl").write_text(content, "utf-8")
    with pytest.raises(ValueError, match="is no log of an evaluation"):
        evals.read(tmp_path / "a@1.jsonl")


def test_the_best_checkpoint_of_a_suite(weights: Weights, tmp_path: Path) -> None:
    run = RunDirectory(paths.runs() / "good")
    with pytest.raises(ValueError, match="no checkpoint of good has been evaluated by 'pair'"):
        find_weights("good@best:pair")
    log = evaluate(LocalExaminee.load(weights), suite("pair", tmp_path))
    assert find_weights("good@best:pair").step == 4
    save(
        run.checkpoints, 2, model_config=CONFIG, weights=toy_model(config=CONFIG).state_dict(), tokenizer=TOKENIZER,
        train_state={}, lineage=Lineage("x"),
    )  # fmt: skip
    second = evaluate(LocalExaminee.load(find_weights("good@2")), suite("pair", tmp_path))

    def rewrite(step: int, **more: Any) -> None:
        path = log.path.with_name(f"pair@{step}.jsonl")
        evals.write(path, log.records, {**second.summary, "step": step, "metrics": {"m/n": {"value": step}}} | more)

    rewrite(2, score=0.99)
    rewrite(3, score=1.0)  # which is not there any more
    assert find_weights("good@best:pair").step == 2
    assert find_weights("good@best:pair/m/n").step == 2
    with pytest.raises(ValueError, match="no checkpoint of good has been evaluated by 'pair/other'"):
        find_weights("good@best:pair/other")
    with pytest.raises(ValueError, match="'good@best:': name a suite behind it, such as good@best:language"):
        find_weights("good@best:")
    rewrite(2, score=0.99, checkpoint="another that was there")
    assert find_weights("good@best:pair").step == 4
    rewrite(2, score=0.99, rows_sha256="others", time=0.0)
    assert find_weights("good@best:pair").step == 4


def test_a_log_is_read_whatever_its_texts_hold(weights: Weights, tmp_path: Path) -> None:
    (tmp_path / "odd.jsonl").write_text(
        "".join(json.dumps({"text": f"the cat{sign}sat"}) + "\n" for sign in "\u2028\u2029\x85\x0b\x1c"), "utf-8"
    )
    rows = suites.load([tmp_path / "odd.jsonl"])
    (log,) = evaluate_all(weights, rows, Screen())
    assert evals.read(log.path).records == log.records
    assert evaluate_all(weights, rows, screen := Screen())[0].summary == log.summary
    assert screen.text == ""


@pytest.mark.parametrize(
    "summary",
    ['"abc"', '{"type": "summary", "format": 1}', '{"type": "summary", "format": 1, "suite": "s", "score": "x"}'],
)
def test_a_damaged_log_is_passed_over(weights: Weights, tmp_path: Path, summary: str) -> None:
    log = evaluate(LocalExaminee.load(weights), suite("pair", tmp_path))
    log.path.with_name("bad@4.jsonl").write_text(f'"abc"\n{summary}\n', "utf-8")
    assert [one.suite for one in evals.logs(RunDirectory(paths.runs() / "good"))] == ["pair"]


def test_scores_of_another_way_to_score_are_not_kept(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = suite("pair", tmp_path)
    evaluate(LocalExaminee.load(weights), rows)
    assert kept(weights, rows) is not None
    monkeypatch.setattr(evaluating, "SCORING", 0)
    assert kept(weights, rows) is None


def test_checkpoints_elsewhere_have_logs_of_their_own(tmp_path: Path) -> None:
    folders = [tmp_path / name / "checkpoints" / "step_00000004" for name in ("a", "b")]
    assert len({evaluating.path_of(Weights(folder), "s") for folder in folders}) == 2
    assert len({reports.folder_of("/模型/一", b) for b in ("/模型/三", "/模型/四")}) == 2


def test_answers_that_go_round_in_circles_are_told_apart() -> None:
    a, b = report.marked("I am sorry. " * 300, "sorry I am. " * 300)
    assert a.startswith("<del>I am sorry.")
    assert b.startswith("<ins>sorry I am.")
    same = "the same beginning " * 60
    a, b = report.marked(f"{same}x {same}", f"{same}yy {same}")
    assert a.count("<del>") == 1
    assert "<del>" in a
    assert "<ins>yy</ins>" in b


def test_nothing_in_markdown_is_markup(home: Path) -> None:
    nasty = "x`\n\n# PWNED\n\n<script>alert(1)</script> ![t](http://evil/x.png) a\\|b"
    a, b = log_of("<img src=x>", ["right"] * 9, [1.0] * 9), log_of("b", [nasty] * 9, [0.0] * 9)
    for record in (*a.records, *b.records):
        record["id"] = f"{record['id']}{nasty}"
    text = report.render(compare([(a, b)]), "md")
    assert not any(line.lstrip("> ").startswith("# PWNED") for line in text.splitlines())
    for markup in ("<script", "<img", "![t]", "http://evil"):
        assert markup not in text.replace("\\<", "")


@pytest.mark.parametrize("line", ["# a", "- a", "+ a", "1. a", "2) a", "~~~", "===", "* a", "&lt;", "a_b_c"])
def test_a_quotation_is_a_text(line: str) -> None:
    shown = texts.quoted(line).removeprefix("> ")
    assert "\\" in shown
    assert shown.replace("\\", "").strip() == line.strip()


def test_nothing_in_a_quotation_is_code() -> None:
    assert texts.quoted("    a") == "> a"


def test_ordinary_writing_is_left_alone() -> None:
    for text in ("👨\u200d👩\u200d👧", "क्\u200dष", "soft\u00adhyphen"):
        assert texts.visible(text) == text
    assert texts.visible("\u202e") == "⟨U+202E⟩"


def test_curves_with_what_is_no_number() -> None:
    drawn = chart.curves([("A", (1, 2, 3), (1.0, math.nan, 2.0)), ("B", (1, 2), (math.inf, 1.0))])
    assert "nan" not in drawn
    assert "inf" not in drawn
    assert drawn.count("polyline") == 1


NAMES = ["language"]


def test_a_gate_closes_where_the_rows_are_sure() -> None:
    def language(bits: float, spread: float) -> EvalLog:
        rows = [bits + spread * (number % 5 - 2) for number in range(60)]
        found = log_of("m", ["x"] * 60, rows, lower_is_better=True, suite="language")
        for record in found.records:
            record["bytes"] = 100
        return found

    gates = [Gate(suite="language", most_worse=0.25), Gate(suite="grammar", least=0.5)]
    before = language(2.0, 0.01)
    assert closed(gates, NAMES, [before], [language(2.3, 0.01)]) == []
    (reason,) = closed(gates, NAMES, [before], [language(2.7, 0.01)])
    assert "language went from 2.0000 to 2.7000: worse by more than the 0.5000 that may be forgotten" in reason
    assert closed(gates, NAMES, [before], [language(2.55, 1.0)]) == []  # perhaps: the interval reaches below the limit
    guessing = log_of("m", ["x"] * 60, [0.0] * 60, suite="grammar", high=0.4)
    (reason,) = closed(gates, ["grammar"], [], [guessing])
    assert "grammar is 0.0 %, at least 50.0 % is asked for: so scores what has read too little" in reason
    assert closed(gates, ["grammar"], [], [log_of("m", ["x"], [0.0], suite="grammar", high=0.6)]) == []
    assert closed(gates, ["grammar"], [], [log_of("m", ["x"], [0.0], suite="grammar", high=None)]) == []
    assert closed(gates, [], [], []) == []
    assert closed(gates, ["grammar"], [], []) == ["grammar could not be asked, so nobody knows"]


def test_a_damaged_checkpoint_is_not_evaluated(weights: Weights) -> None:
    file = weights.folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged"):
        LocalExaminee.load(weights)


def test_a_model_of_no_numbers_is_said(home: Path, tmp_path: Path) -> None:
    model = toy_model(config=CONFIG)
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    weights = make("broken", model)
    with pytest.raises(ValueError, match="not finite"):
        evaluate(LocalExaminee.load(weights), suite("pair", tmp_path))
    assert not (paths.runs() / "broken" / "evals").exists()
