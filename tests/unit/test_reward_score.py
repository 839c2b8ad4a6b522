"""`minimind reward score`: a reward model's scores of the answers of a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from data.encode import conversation
from data.schema import ChatRow
from jobs.__main__ import main
from jobs.evaluation.rewards import Scored, score_file, summary
from jobs.runs.directory import RunDirectory
from jobs.runs.references import find_weights
from minimind.checkpoints.checkpoint import Lineage, save
from minimind.checkpoints.manifest import CheckpointError
from minimind.language import speaking
from minimind.network.model import MiniMind, ModelConfig
from minimind.network.score import ScoreModel
from minimind.text.tokenizer import Tokenizer
from tests.shell import Shell
from tests.small import small_spec, turns

TOKENIZER = Tokenizer.train(["ab"], vocab_size=292)
CONFIG = ModelConfig(vocab_size=292, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1)


def scoring() -> ScoreModel:
    model = ScoreModel.of(MiniMind(CONFIG, generator=torch.Generator().manual_seed(0)))
    with torch.no_grad():
        model.score.weight.normal_(generator=torch.Generator().manual_seed(1))
    return model.eval()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a run `reward`, and a run `plain` that writes."""
    monkeypatch.setenv("MINIMIND_HOME", str(tmp_path))
    for name, model in (("reward", scoring()), ("plain", MiniMind(CONFIG))):
        run = RunDirectory(tmp_path / "runs" / name)
        run.create(small_spec("sft", name=name).model_dump(mode="json"))
        save(
            run.checkpoints,
            1,
            model_config=CONFIG,
            weights=model.state_dict(),
            tokenizer=TOKENIZER,
            train_state={},
            lineage=Lineage(name),
            architecture=model.architecture,
        )
    return tmp_path


def pairs(folder: Path) -> Path:
    rows = [{"chosen": turns("q", "ab" * n), "rejected": turns("q", "ba" * m)} for n, m in ((1, 2), (2, 2), (3, 1))]
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def test_a_score_is_that_of_the_whole_conversation_at_its_end(home: Path) -> None:
    scored = score_file(find_weights("reward@1"), pairs(home), None)
    assert [(Path(one.file).name, one.line) for one in scored] == [
        ("pairs.jsonl", 1),
        ("pairs.jsonl", 2),
        ("pairs.jsonl", 3),
    ]
    row = ChatRow.model_validate({"conversations": turns("q", "ab" * 3)})
    ids = conversation(TOKENIZER, row.conversations).ids
    with torch.no_grad():
        expected = float(scoring().scores(torch.tensor([ids]))[0, -1])
    assert scored[2].scores[0] == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert scored[2].tokens[0] == len(ids)


def test_pairs_are_summed_up_by_which_answer_is_longer() -> None:
    scored = [
        Scored("a", 1, (2.0, 1.0), (5, 7)),
        Scored("a", 2, (0.0, 1.0), (7, 5)),
        Scored("a", 3, (1.0, 1.0), (5, 5)),
        Scored("a", 4, (3.0,), (9,)),
    ]
    found = summary(scored)
    assert {name: (count, right.value) for name, (count, right) in found.pairs.items()} == {
        "any": (3, 0.5), "shorter": (1, 1.0), "as long": (1, 0.5), "longer": (1, 0.0)
    }  # fmt: skip
    assert found.spread == {"answers": 7, "mean": pytest.approx(9 / 7), "low": 0.0, "high": 3.0}
    assert found.labels == {}


def test_good_answers_are_set_against_bad_ones() -> None:
    rows = [(2.0, True), (0.0, True), (1.0, False), (0.0, False), (-2.0, False)]
    scored = [Scored("a", line, (score,), (5,), good) for line, (score, good) in enumerate(rows, 1)]
    of_six = 3 + 1 + 0.5  # couples whose good one is ahead, a tie counting half
    assert summary(scored).labels == {
        "good": 2, "bad": 3, "mean_good": 1.0, "mean_bad": pytest.approx(-1 / 3), "ahead": of_six / 6
    }  # fmt: skip
    assert summary(scored[:2]).labels == {}


def test_labelled_rows_are_scored_by_the_name_of_any_stage_that_reads_them(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    path = home / "labelled.jsonl"
    lines = [json.dumps({"conversations": turns, "label": label}) for label in (True, False)]
    path.write_text("\n".join(lines), encoding="utf-8")
    shell = Shell(capsys)
    assert shell(main, "reward", "score", str(path), "--weight", "reward@1") == 0
    assert "Of a good and a bad one drawn at random the good one is ahead in 50.0%" in " ".join(shell.out.split())
    assert shell(main, "reward", "score", str(pairs(home)), "--stage", "reward", "--weight", "reward@1") == 0
    assert "the better answer is" in shell.out


def test_the_verb_tells_writes_and_speaks_both_languages(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shell, path = Shell(capsys), str(pairs(home))
    assert shell(main, "reward", "score", path, "--weight", "reward@1", "-o", str(home / "scores.jsonl")) == 0
    assert "6 answers, mean score" in shell.out
    assert "the better answer is" in shell.out
    rows: list[dict[str, Any]] = [json.loads(line) for line in (home / "scores.jsonl").read_text("utf-8").splitlines()]
    assert [row["line"] for row in rows] == [1, 2, 3]
    assert all(len(row["scores"]) == len(row["tokens"]) == 2 for row in rows)
    assert shell(main, "reward", "score", path, "--weight", "reward@1", "--json") == 0
    told = json.loads(shell.out)
    assert told["model"] == "reward@1"
    assert told["pairs"]["any"]["pairs"] == 3
    assert 0 <= told["pairs"]["any"]["ahead"]["value"] <= 1
    with speaking("zh"):
        assert shell(main, "reward", "score", path, "--weight", "reward@1") == 0
    assert "较好的回答" in shell.out


def test_rows_without_answers_and_models_without_scores_are_refused(home: Path) -> None:
    text = home / "text.jsonl"
    text.write_text('{"text": "no answer"}\n', "utf-8")
    with pytest.raises(ValueError, match=r"text.jsonl: its rows have no answers to score; those of sft, dpo, kto have"):
        score_file(find_weights("reward@1"), text, None)
    with pytest.raises(CheckpointError, match="step 1 of the run 'plain' writes text and gives no scores"):
        score_file(find_weights("plain@1"), pairs(home), None)
    broken = home / "broken.jsonl"
    broken.write_text('{"chosen": 1, "rejected": 2}\n', "utf-8")
    with pytest.raises(ValueError, match=r"broken.jsonl"):
        score_file(find_weights("reward@1"), broken, "dpo")
