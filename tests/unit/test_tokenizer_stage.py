from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from jobs import paths
from jobs.runs.directory import RunDirectory, RunStateError
from jobs.runs.references import TOKENIZER_FOLDER
from jobs.text.tokenizer import TokenizerSpec, learn, run_tokenizer
from minimind.events import metric_series
from minimind.text.tokenizer import Tokenizer
from tests.small import SAMPLES, Screen, write_rows


@pytest.fixture
def spec() -> TokenizerSpec:
    return TokenizerSpec(path=str(SAMPLES), vocab_size=600)


def test_the_stage_leaves_a_run_with_a_tokenizer(home: Path, spec: TokenizerSpec) -> None:
    screen = Screen()
    run = run_tokenizer(spec, screen)
    assert run.path == paths.runs() / "tokenizer"
    assert run.state().word == "SUCCEEDED"
    assert run.spec() == spec.model_dump(mode="json")
    tokenizer = Tokenizer.load(run.path / TOKENIZER_FOLDER)
    assert tokenizer.vocab_size == 600
    assert tokenizer.decode(tokenizer.encode("你好 <think>")) == "你好 <think>"
    values = {name: metric_series(run.events_path, f"tokenizer/{name}_chars_per_token") for name in ("zh", "en")}
    for _, (value,) in values.values():
        assert 0.3 < value < 4
    assert f"{values['zh'][1][0]:.2f} characters per token in Chinese" in screen.text
    assert f"{values['en'][1][0]:.2f} characters per token in English" in screen.text
    assert "--tokenizer tokenizer" in screen.text


def test_splitting_cjk_is_passed_on(home: Path, spec: TokenizerSpec) -> None:
    whole, split = (
        Tokenizer.load(
            run_tokenizer(spec.model_copy(update={"name": f"t{cjk}", "split_cjk": cjk}), Screen()).path / "tokenizer"
        )
        for cjk in (False, True)
    )
    assert whole.fingerprint != split.fingerprint
    assert len(split.encode("你好你好")) >= len(whole.encode("你好你好"))


def test_max_texts_bounds_what_is_read(home: Path, tmp_path: Path) -> None:
    texts = ["aaaa bbbb"] * 3 + ["zzzz yyyy"] * 50
    path = write_rows(tmp_path / "rows.jsonl", texts)
    learn(TokenizerSpec(path=str(path), vocab_size=300, max_texts=3), tmp_path / "few")
    learn(TokenizerSpec(path=str(path), vocab_size=300), tmp_path / "all")
    few, every = Tokenizer.load(tmp_path / "few"), Tokenizer.load(tmp_path / "all")
    assert len(few.encode("zzzz")) == 4 > len(every.encode("zzzz"))


def test_text_in_one_language_is_measured_in_one(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.write('{"text": "only English here"}\n' * 4)
    assert list(learn(TokenizerSpec(path=str(path), vocab_size=300), tmp_path / "out")) == ["en"]


def test_a_relative_path_counts_from_home(home: Path) -> None:
    write_rows(home / "data" / "rows.jsonl", ["some text"] * 3)
    run = run_tokenizer(TokenizerSpec(path="data/rows.jsonl", vocab_size=300), Screen())
    assert run.spec()["path"] == str(home / "data" / "rows.jsonl")
    with pytest.raises(ValueError, match=f"data file .* not found: {home}/data/none.jsonl"):
        run_tokenizer(TokenizerSpec(name="other", path="data/none.jsonl"), Screen())
    assert not (paths.runs() / "other").exists()


def test_a_taken_name_is_refused_unless_asked(home: Path, spec: TokenizerSpec) -> None:
    run_tokenizer(spec, Screen())
    with pytest.raises(RunStateError, match="exists already"):
        run_tokenizer(spec, Screen())
    smaller = spec.model_copy(update={"vocab_size": 400})
    assert Tokenizer.load(run_tokenizer(smaller, Screen(), overwrite=True).path / "tokenizer").vocab_size == 400


def test_bad_rows_fail_the_run_unless_they_are_allowed(home: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", ["some text"] * 3)
    with path.open("a") as file:
        file.write('{"txt": 1}\n')
    with pytest.raises(ValueError, match=f"{path}:4: a row needs text"):
        run_tokenizer(TokenizerSpec(path=str(path), vocab_size=300), Screen())
    failed = RunDirectory(paths.runs() / "tokenizer")
    assert failed.state().word == "FAILED"
    assert "rows.jsonl:4" in failed.state().reason
    allowed = TokenizerSpec(path=str(path), vocab_size=300, max_bad_rows=1)
    assert run_tokenizer(allowed, Screen(), overwrite=True).state().word == "SUCCEEDED"


@pytest.mark.parametrize("settings", [{"vocab_size": 291}, {"max_texts": 0}, {"name": "a/b"}, {"max_bad_rows": -1}])
def test_what_makes_no_sense_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        TokenizerSpec.model_validate(settings)
