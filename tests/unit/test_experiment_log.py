"""The training log, of runs that were never trained."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from jobs import __main__ as cli
from jobs import paths
from jobs.experiment.facts import facts_of
from jobs.experiment.log import COLUMNS
from jobs.runs.directory import RunDirectory
from tests.experiments import write_run, write_scores
from tests.shell import Shell
from tests.small import SAMPLES

HANDBOOK = ["日期", "命令", "显存", "loss", "样例输出"]
"""The columns of its training log."""


@pytest.fixture
def shell(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    return Shell(capsys)


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_columns_are_the_handbooks_and_begin_with_them(shell: Shell) -> None:
    write_run("first")
    assert shell(cli.minimind, "log", "--csv", "--lang", "zh") == 0
    assert shell.out.splitlines()[0].split(",")[: len(HANDBOOK)] == HANDBOOK
    assert shell(cli.minimind, "log", "--markdown", "--lang", "zh") == 0
    assert shell.out.startswith(f"| {' | '.join(HANDBOOK)} |")
    shell.capsys.readouterr()


def test_a_row_a_run_the_oldest_first(shell: Shell) -> None:
    write_run("younger", at=9000.0, optim__learning_rate=0.1)
    write_scores(write_run("older"))
    assert shell(cli.minimind, "log", "--csv") == 0
    older, younger = table(shell.out)
    assert (older["Run"], younger["Run"]) == ("older", "younger")
    assert older["Command"] == "minimind train pretrain --name older"
    assert older["Date"].startswith("1970-01-01")
    assert older["Memory"] == "1.00 GB (1.50 GB planned)"
    assert older["Loss"] == "5.0000 → 4.0000, held out 4.5000"
    assert older["Sample output"] == "Hello → =1|<b>⏎red"
    assert (older["Time"], older["Steps"], older["Tokens/s"], older["Bits/byte"]) == ("30 s", "8/8", "200", "1.5000")
    assert older["Scores (95 % interval)"] == "grammar@8 75.0 % (70.0 % … 80.0 %)"
    assert older["PyTorch"] == "2.13.0 / 2.14.0"
    assert older["Machine"] == "cpu, A CPU, threads: 2"
    assert older["Changed since the run before"] == ""
    assert younger["Changed since the run before"] == "optim.learning_rate: 0.006 → 0.1"
    assert len(older) == len(COLUMNS)
    assert all(
        older[title] for title in COLUMNS if title not in ("Alarms", "Changed since the run before", "First weights")
    )


def test_markup_and_formulas_of_others_are_none(shell: Shell) -> None:
    run = write_run("one")
    run.samples_path.write_text(json.dumps({"step": 8, "prompt": "=A1", "continuation": "![x](y)|"}) + "\n", "utf-8")
    assert shell(cli.minimind, "log", "--csv") == 0
    assert table(shell.out)[0]["Sample output"] == "'=A1 → ![x](y)|"
    assert shell(cli.minimind, "log", "one", "--markdown") == 0
    header, _, row = shell.out.splitlines()
    assert "=A1 → \\!\\[x\\](y)\\|" in row
    assert row.replace("\\|", "").count("|") == header.count("|")


@pytest.mark.parametrize("prompt", ["=1", "\t=1", " =1", "＝1", "\u200b=HYPERLINK(1)", "-1", "@x"])
def test_no_cell_begins_as_a_formula(shell: Shell, prompt: str) -> None:
    run = write_run("one")
    run.samples_path.write_text(json.dumps({"step": 8, "prompt": prompt, "continuation": ""}) + "\n", "utf-8")
    assert shell(cli.minimind, "log", "--csv") == 0
    assert table(shell.out)[0]["Sample output"].startswith("'")


@pytest.mark.parametrize("line", ["[1]", "5", '{"step": 8, "prompt": "a"}', "{"])
def test_a_damaged_file_leaves_its_run_out(shell: Shell, line: str) -> None:
    write_run("two")
    write_run("one").samples_path.write_text(line + "\n", "utf-8")
    assert shell(cli.minimind, "log") == 0
    assert "two" in shell.out
    assert "left out: " in shell.err
    assert "samples.jsonl cannot be read" in shell.err


def test_the_terminal_shows_a_block_a_run_that_fits(shell: Shell) -> None:
    write_run("one", data__path="/a/very/long/path/" + "x" * 90 + ".jsonl")
    assert shell(cli.minimind, "log") == 0
    assert shell.out.splitlines()[1].strip() == "one"
    assert "minimind train pretrain --name one" in shell.out
    assert max(map(len, shell.out.splitlines())) <= 80
    assert shell(cli.minimind, "log", "--lang", "zh") == 0
    assert "样例输出" in shell.out


def test_json_has_what_is_known(shell: Shell) -> None:
    write_scores(write_run("one"))
    assert shell(cli.minimind, "log", "one", "--json") == 0
    (found,) = json.loads(shell.out)["runs"]
    assert list(found)[:6] == ["date", "command", "peak_memory_bytes", "planned_bytes", "loss", "samples"]
    assert (found["seconds"], found["tokens_per_s"], found["loss"]) == (30.0, 200.0, 4.0)
    assert found["files"] == {"data.path": {"path": str(SAMPLES), "sha256": "5" * 64}}
    assert found["scores"][0]["chance"] == 0.5
    assert found["began_with"]["tokenizer"] == "7" * 64
    assert found["environment"]["workers"] == "1"


def test_bad_input_is_named(shell: Shell) -> None:
    write_run("good")
    assert shell(cli.minimind, "log", "god") == 1
    assert "no run 'god'" in shell.err
    assert "good" in shell.err
    assert shell(cli.minimind, "log", "--csv", "--json") == 1
    assert "give one of them" in shell.err
    RunDirectory(paths.runs() / "empty").create({"name": "empty", "stage": {"kind": "pretrain"}})
    for name, content in (("cut", "{"), ("odd", '{"schema_version": 1, "stage": 3}'), ("new", '{"schema_version": 9}')):
        write_run(name).spec_path.write_text(content, "utf-8")
    write_run("noise").samples_path.write_text("{\n", "utf-8")
    write_run("blank").plan_path.write_text("", "utf-8")
    bad = {
        "empty": "has not begun",
        "cut": "cannot be read",
        "odd": "is damaged",
        "new": "schema_version 9",
        "noise": "samples.jsonl cannot be read",
        "blank": "plan.json cannot be read",
    }
    for name, words in bad.items():
        assert shell(cli.minimind, "log", name) == 1
        assert words in " ".join(shell.err.split())
    assert shell(cli.minimind, "log", "--csv") == 0  # those that can be read are not lost
    assert [row["Run"] for row in table(shell.out)] == ["good"]
    assert shell.err.count("left out") == len(bad)


def test_where_there_is_no_run(shell: Shell) -> None:
    assert shell(cli.minimind, "log") == 0
    assert "no runs yet in" in shell.out
    assert shell(cli.minimind, "log", "--json") == 0
    assert json.loads(shell.out) == {"runs": []}


def test_the_time_of_a_run_that_was_killed_is_that_of_its_events(home: Path) -> None:
    run = write_run("killed")
    lines = run.events_path.read_text("utf-8").splitlines(keepends=True)
    run.events_path.write_text("".join(lines[:-1]), "utf-8")
    assert facts_of(run).seconds == 30.0
