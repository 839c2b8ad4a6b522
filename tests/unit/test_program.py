"""Which program does the work, how it was called, and what a run keeps of its machine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from jobs.runs.program import COMMIT, TYPED, commit, program, told_to_jobs, typed
from jobs.training.environment import cpu, environment
from minimind.device.distributed import Parallel


def test_the_program_is_named_by_its_commit_and_its_sources() -> None:
    found = program()
    assert found == program()
    assert len(found["source"]) == 12
    assert found["commit"]


@pytest.mark.parametrize("file", ["data/a.py", "jobs/stages/b.py", "minimind/training/c.py", "tune_spaces/d.py"])
def test_a_change_in_any_room_names_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    monkeypatch.setattr("jobs.paths.checkout", lambda: tmp_path)
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text("1\n")
    before = program()["source"]
    (tmp_path / file).write_text("2\n")
    assert program()["source"] != before


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["/usr/bin/minimind", "train", "sft", "--name", "a b"], "minimind train sft --name 'a b'"),
        (["/checkout/jobs/__main__.py", "log"], "python -m jobs log"),
        (["/site-packages/pytest/__main__.py", "tests"], ""),
        (["-c"], ""),
    ],
)
def test_the_command_line_as_it_was_typed(monkeypatch: pytest.MonkeyPatch, argv: list[str], words: str) -> None:
    monkeypatch.delenv(TYPED, raising=False)
    monkeypatch.setattr(sys, "argv", argv)
    assert typed() == words
    assert told_to_jobs()[TYPED] == words


def test_a_job_knows_what_its_submitter_typed_and_which_commit_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TYPED, "minimind train sft")
    monkeypatch.setattr(sys, "argv", ["/tmp/copy/jobs/__main__.py", "job", "{}"])
    assert typed() == "minimind train sft"
    monkeypatch.setenv("PATH", "")  # as in Ray's copy of the checkout, git has nothing to say
    monkeypatch.delenv(COMMIT, raising=False)
    assert commit() == "unknown"
    monkeypatch.setenv(COMMIT, "abc+changes")
    assert commit() == program()["commit"] == "abc+changes"


def test_the_machine_a_run_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    found = environment(Parallel(), "the command", "as typed")
    assert found.keys() >= {"python", "torch", "ray", "platform", "device", "cpu", "kernels", "threads", "source"}
    assert (found["command"], found["typed"], found["variables"]) == (
        "the command",
        "as typed",
        "ONEDNN_MAX_CPU_ISA=AVX2",
    )
    assert "typed" not in environment(Parallel(), "the command")
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: {"cpu_name": "A CPU", "avx2": True, "amx_bf16": False, "sse": True}
    )
    assert (cpu()["cpu"], cpu()["vectors"]) == ("A CPU", "avx2")
