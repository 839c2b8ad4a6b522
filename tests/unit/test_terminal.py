from __future__ import annotations

import ast
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich import box
from rich.progress import Progress, TextColumn
from rich.table import Table
from rich.text import Text

from jobs import paths
from jobs.terminal.console import Terminal, can_show, plain
from tests.small import SAMPLES, write_chats, write_rows

EVIL = "hello\x1b]52;c;ZXZpbA==\x07\x1b]0;title\x07\x1b[2J\x9b2J\x7f\r"
SHOWN = "hello]52;c;ZXZpbA==]0;title[2J2J"


def terminal() -> Terminal:
    return Terminal(file=io.StringIO(), force_terminal=True, color_system="standard", width=80, legacy_windows=False)


def written(console: Terminal) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_control_signs_go_and_text_stays() -> None:
    assert plain(EVIL) == SHOWN
    assert plain("a\tb\nc 中文 é \x1b[1;31mred\x1b[0m") == "a\tb\nc 中文 é red"
    every = "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0)]))
    assert plain(every) == "\t\n"


def test_no_way_of_printing_lets_an_order_through() -> None:
    console = terminal()
    console.print(EVIL, end="", markup=False, soft_wrap=True)
    console.print(Text(EVIL, style="bold"))
    console.out(EVIL, end="", highlight=False)
    table = Table(EVIL, title=EVIL, caption=EVIL, box=box.SIMPLE)
    table.add_row(EVIL)
    table.add_row(Text(EVIL))
    console.print(table, soft_wrap=False)
    found = written(console)
    for order in ("\x1b]", "\x1b[2J", "\x9b", "\x07", "\x7f", "\r"):
        assert order not in found
    assert found.count(SHOWN) >= 5


def test_its_own_colours_and_bars_still_work() -> None:
    console = terminal()
    console.print("warm", style="red")
    with Progress(TextColumn("{task.description}"), console=console, transient=True) as bar:
        bar.add_task("work", total=1)
    found = written(console)
    assert "\x1b[31mwarm" in found
    assert "\x1b[2K" in found  # the bar's own


def test_square_brackets_are_text() -> None:
    console = terminal()
    console.print("data [v2]/x.jsonl [/INST] [bold red]loud :smile:")
    table = Table("[b]", title="[/a]", box=box.SIMPLE)
    table.add_row("[/tag]")
    console.print(table, soft_wrap=False)
    found = written(console)
    for text in ("data [v2]/x.jsonl [/INST] [bold red]loud :smile:", "[b]", "[/a]", "[/tag]"):
        assert text in found


@pytest.mark.slow
def test_there_is_one_console() -> None:
    """Every other one would read markup in users' texts."""
    made = [
        f"{file.name}:{node.lineno}"
        for package in ("data", "jobs", "minimind", "service", "tune_spaces")
        for file in (paths.checkout() / package).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "Console"
    ]
    assert made == []


def test_what_an_encoding_lacks_is_told() -> None:
    narrow = Terminal(file=io.TextIOWrapper(io.BytesIO(), encoding="gbk"))
    assert can_show("中文", narrow)
    assert not can_show("⟦", narrow)


def command(home: Path, *argv: str, encoding: str = "utf-8") -> subprocess.CompletedProcess[str]:
    """The command line as a process of its own, as a shell starts it."""
    variables = os.environ | {"MINIMIND_HOME": str(home), "PYTHONIOENCODING": encoding, "COLUMNS": "200"}
    line = [sys.executable, "-m", "jobs", *argv]
    return subprocess.run(
        line, env=variables, cwd=paths.checkout(), capture_output=True, encoding=encoding, check=False
    )


@pytest.mark.parametrize("encoding", ["ascii", "gbk"])
@pytest.mark.slow
def test_an_encoding_that_lacks_a_sign_ends_no_command(home: Path, encoding: str) -> None:
    rows = write_chats(home / "chats.jsonl", [("q", "\U0001f600 中文")])
    shown = command(home, "data", "show", str(rows), encoding=encoding)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert ("[[? 中文" if encoding == "gbk" else "[[? ??") in shown.stdout
    assert command(home, "train", "pretrain", "--help", encoding=encoding).returncode == 0
    refused = command(home, "data", "check", "没有\U0001f600.jsonl", encoding=encoding)
    assert refused.returncode == 1
    assert "no such file" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.slow
def test_data_is_shown_as_it_is(home: Path) -> None:
    folder = home / "data [v2]"
    text = write_rows(folder / "bad [zh].jsonl", ["fine"])
    with text.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"[/red]": "x"}) + "\n" + json.dumps({"text": "leak [/INST]", "[/tag]": 1}) + "\n")
    leak = write_rows(folder / "eval.jsonl", ["leak [/INST]"])
    found = command(home, "data", "check", str(text), "--eval", str(leak))
    assert found.returncode == 1
    assert "Traceback" not in found.stderr
    for part in (f"{text} as pretrain", "'[/tag]'", "leak [/INST]"):
        assert part in found.stdout.replace("\n", " ")
    chats = write_chats(folder / "chats.jsonl", [("[bold red]q", "[/INST] a\x1b[2J")])
    with chats.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"conversations": [{"role": "[/a]", "content": "x"}]}) + "\n")
    found = command(home, "data", "check", str(chats), "--stage", "sft")
    assert found.returncode == 1
    assert "[/a]" in found.stdout
    shown = command(home, "data", "show", str(chats), "--rows", "1")
    assert "[bold red]q" in shown.stdout
    assert "⟦[/INST] a[2J" in shown.stdout
    assert SAMPLES.exists()
