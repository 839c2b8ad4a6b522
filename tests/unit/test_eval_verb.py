"""`eval` as a command: what it takes, and how it behaves beside others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import __main__ as cli
from jobs import paths
from jobs.commands.eval import NICENESS
from minimind.network.model import MiniMind
from minimind.text.tokenizer import Tokenizer
from tests import taught
from tests.shell import Shell

BESIDE = """
import os, sys
from jobs import __main__ as cli
status = cli.main(["eval", "taught", "--suite", "skills"])
print("niceness", os.getpriority(os.PRIO_PROCESS, 0))
sys.exit(status)
"""


def test_it_takes_what_a_training_beside_it_leaves(home: Path) -> None:
    taught.write_run(home / "runs", "taught", *taught.taught())
    before = os.getpriority(os.PRIO_PROCESS, 0)
    found = subprocess.run(
        [sys.executable, "-c", BESIDE], cwd=paths.checkout(), capture_output=True, text=True, check=True, timeout=120
    )
    assert f"niceness {min(19, before + NICENESS)}" in found.stdout
    assert "by skills: 150 rows" in found.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "which checkpoint?"),
        (("taught", "--weight", "taught"), "which checkpoint?"),
        (("taught", "--suite", "nofile.jsonl"), "nofile.jsonl"),
        (("http://me:secret@host#m",), "an endpoint is http://HOST:PORT/PATH"),
        (("taught@best:",), "name a suite behind it"),
    ],
)
def test_what_is_wrong_is_said(
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    known: tuple[MiniMind, Tokenizer],
    arguments: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.setattr(os, "nice", lambda by: 0)  # this process has other tests to run
    taught.write_run(home / "runs", "taught", *known)
    shell = Shell(capsys)
    assert shell(cli.main, "eval", *arguments) == 1
    assert said in shell.err
    assert "secret" not in shell.err


@pytest.fixture(scope="module")
def known() -> tuple[MiniMind, Tokenizer]:
    return taught.taught()
