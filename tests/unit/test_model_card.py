"""The card of a model, of runs that were never trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs import __main__ as cli
from jobs import paths
from jobs.runs.directory import RunDirectory
from tests.experiments import checkpoint, write_run, write_scores
from tests.shell import Shell
from tests.small import SAMPLES, small_spec, write_rows


@pytest.fixture
def shell(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    return Shell(capsys)


@pytest.fixture
def family(home: Path) -> RunDirectory:
    """A chat model, with the run that its weights come from, and a file of the user's own."""
    own = write_rows(home / "data" / "mine.jsonl", ["a", "b"])
    mother = write_run("mother", data__path=str(own))
    child = write_run("child", "sft", init_from="mother@8")
    for run in (mother, child):
        checkpoint(run)
    write_scores(child)
    return child


def test_a_card_tells_all_that_is_known(shell: Shell, family: RunDirectory) -> None:
    assert shell(cli.minimind, "card", "child") == 0
    said = shell.out
    assert said.startswith("---\nlibrary_name: transformers\n")
    assert "# child@8" in said
    assert "| Blocks | 2 |" in said
    assert said.index("| mother@8 | learn language") < said.index("| child@8 | learn to answer")
    assert f"| mine.jsonl | mother@8, data.path | no longer here | `{'5' * 64}` | not known to this program |" in said
    assert "| grammar of a sentence (grammar) | 75.0 % | 70.0 % … 80.0 % | 50.0 % | 300 |" in said
    assert "> Hello → =1\\|\\<b\\>" in said
    assert "\x1b" not in said
    assert "AutoModelForCausalLM.from_pretrained(folder)" in said
    assert "minimind reproduce child" in said
    assert "minimind train sft --name child" in said
    assert "It makes things up" in said
    assert "It has learnt to answer questions." in said
    assert str(paths.home()) not in said.replace(str(SAMPLES.parent), "")


def test_a_card_in_chinese_into_a_file(shell: Shell, family: RunDirectory, tmp_path: Path) -> None:
    file = tmp_path / "card" / "README.md"
    assert shell(cli.minimind, "card", "child@8", "-o", str(file), "--lang", "zh") == 0
    said = file.read_text("utf-8")
    for title in ("基本信息", "训练经过", "训练数据", "训练配置", "评测结果", "局限", "如何加载", "如何复现"):
        assert f"## {title}" in said
    assert "本程序不知道" in said
    assert shell(cli.minimind, "card", "child", "-o", str(tmp_path)) == 1
    assert "is a folder" in shell.err or "是目录" in shell.err


def test_the_licences_of_stock_data_are_listed(shell: Shell, home: Path) -> None:
    stock = paths.stock_folder()
    file = write_rows(stock / "pretrain.jsonl", ["a"])
    (stock / "LICENSES.md").write_text("# Made of\n\n| package | licence |\n|---|---|\n| poems | MIT |\n", "utf-8")
    checkpoint(write_run("one", data__path=str(file)))
    checkpoint(write_run("two", data__path=str(write_rows(stock / "mine.jsonl", ["b"]))))
    assert shell(cli.minimind, "card", "one") == 0
    assert "stock data, see below" in shell.out
    assert "| poems | MIT |" in shell.out
    assert "language: [zh, en]" in shell.out
    assert "has not learnt to answer" in shell.out
    assert shell(cli.minimind, "card", "two") == 0  # lies beside it, and is none of it
    assert "not known to this program" in shell.out
    assert "language:" not in shell.out


def test_an_adapter_is_loaded_by_peft_and_a_parent_that_is_gone_is_said(shell: Shell, home: Path) -> None:
    checkpoint(write_run("fine", "lora", init_from="gone@4"))
    assert shell(cli.minimind, "card", "fine") == 0
    assert "AutoPeftModelForCausalLM" in shell.out
    assert "| gone@4 | not here any more, or from elsewhere" in shell.out
    assert "Of them the adapter's" in shell.out


def test_what_has_no_card_is_said(shell: Shell, home: Path) -> None:
    for name, words in (("none", "no run 'none'"), ("./here", "checkpoint not found")):
        assert shell(cli.minimind, "card", name) == 1
        assert words in shell.err
    checkpoint(write_run("odd"))
    content = json.loads((paths.runs() / "odd" / "spec.json").read_text("utf-8"))
    content["model"]["hidden_size"] = -1
    (paths.runs() / "odd" / "spec.json").write_text(json.dumps(content), "utf-8")
    assert shell(cli.minimind, "card", "odd") == 1
    assert "is damaged" in shell.err
    assert "model.hidden_size = -1" in shell.err
    empty = RunDirectory(paths.runs() / "empty")
    empty.create(small_spec(name="empty").model_dump(mode="json"))
    checkpoint(empty)
    assert shell(cli.minimind, "card", "empty@8") == 1
    assert "has not begun" in shell.err
