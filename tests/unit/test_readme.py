"""What the pages for users say is so."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from data.check import CheckLimits
from data.examples import EXAMPLES
from data.formats import stage_of
from data.rules import problems
from data.schema import STAGE_ROWS, parse
from jobs import __main__ as cli
from jobs.paths import checkout
from jobs.stages.flags import FLAGS
from jobs.stages.old_names import FLAGS_ELSEWHERE, NOT_YET
from tests.shell import Shell

PAGES = [
    f"{name}{language}.md"
    for name in ("README", "docs/data", "docs/stages", "docs/evaluation", "docs/from_minimind")
    for language in ("", "_zh")
]
"""What a newcomer reads, in English and in Chinese."""


@pytest.mark.parametrize("page", ["data.md", "data_zh.md"])
def test_the_rows_on_the_page_of_data_are_rows(page: str) -> None:
    text = (checkout() / "docs" / page).read_text("utf-8")
    shown = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    known = [row for rows in EXAMPLES.values() for row in rows]
    assert [row for row in shown if row not in known] == []
    for row in shown:
        stage = stage_of(row)
        assert stage is not None
        assert list(problems(parse(STAGE_ROWS[stage], row))) == []
    assert {stage_of(row) for row in shown} == set(STAGE_ROWS)
    for name in CheckLimits.model_fields:
        assert f"`{name}`" in text
    assert all(f"`{flag}`" in text for flag in ("weight", "train", "loss_mask", "thinking", "functions"))


NAMED = (
    ["train"],
    ["convert"],
    ["data", "check"],
    ["data", "distill"],
    ["data", "pairs"],
    ["data", "passrate"],
    ["reward", "score"],
)
"""What stands in sentences as the name of a verb, without what it needs."""

COMMAND = re.compile(r"^(ray job submit .* -- python -m jobs|(?:eval \"\$\()?minimind) +(\w.*?)(?:\)\"| >.*)?$")


def commands(page: str) -> list[list[str]]:
    """The command lines of this project on a page, in blocks and in sentences, as words; the first is what runs it."""
    text = (checkout() / page).read_text("utf-8")
    parts = re.split(r"^ *```.*\n", text, flags=re.MULTILINE)
    lines = [line for block in parts[1::2] for line in block.replace("\\\n", " ").splitlines()]
    lines += [code for part in parts[::2] for code in re.findall(r"`([^`\n]+)`", part)]
    found = [match for line in lines if (match := COMMAND.search(line))]
    return [[match[1].split()[0], *shlex.split(match[2], comments=True)] for match in found]


@pytest.mark.parametrize("page", PAGES)
def test_the_command_lines_on_a_page_are_understood(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    shell = Shell(capsys)
    found = commands(page)
    assert len(found) > 2
    for program, *words in found:
        if words[0] == "resume":  # takes all that comes after a name for flags of `train`
            assert len(words) == 2
        elif words in NAMED:
            assert shell(cli.minimind, *words, "--help") == 0
        else:
            assert shell(cli.main if program == "ray" else cli.minimind, *words, "--nosuchflag") == 2
            assert "unrecognized arguments: --nosuchflag\n" in shell.err, (words, shell.err)


@pytest.mark.parametrize("page", ["docs/from_minimind.md", "docs/from_minimind_zh.md"])
def test_the_page_for_those_who_come_from_minimind_is_true(page: str) -> None:
    text = (checkout() / page).read_text("utf-8")
    same = re.search(r"(`--batch_size`.*?`--use_compile`)", text, re.DOTALL)
    assert same is not None
    assert set(re.findall(r"`--(\w+)`", same[1])) <= {*FLAGS, "from_resume"}
    for flag in ("save_dir", "out_dir", "weight", "tokenizer_path", "device", "use_wandb", "use_moe"):
        assert f"`--{flag}" in text
        assert flag in FLAGS_ELSEWHERE
    there, comes = re.split(r"^## (?:What is not there yet|还没有的)$", text, flags=re.MULTILINE)
    for stage in ("pretrain", "full_sft", "lora", "dpo", "distillation", "ppo", "grpo", "spo"):
        assert f"`python train_{stage}.py" in there
        assert stage not in NOT_YET
    assert "`train_agent.py`" in comes
    assert "agent" in NOT_YET


@pytest.mark.parametrize("page", [page for page in PAGES if not page.endswith("_zh.md")])
def test_both_languages_have_the_same_commands(page: str) -> None:
    chinese = page.replace(".md", "_zh.md")
    assert [words[:3] for words in commands(page)] == [words[:3] for words in map(_in_english, commands(chinese))]
    pages = [(checkout() / name).read_text("utf-8") for name in (page, chinese)]
    signs = [re.findall(r"^(#+|```|!\[|- |\|)", text, re.MULTILINE) for text in pages]
    assert signs[0] == signs[1]  # the same headings, blocks, pictures, lists and tables, in the same order


def _in_english(words: list[str]) -> list[str]:
    english = {"名字": "NAME", "教师": "TEACHER", "文件": "FILE", "阶段": "STAGE", "标准": "standard"}
    return [english.get(word, word) for word in words]


@pytest.mark.parametrize("page", [*PAGES, "docs/windows.md", "docs/windows_zh.md"])
def test_what_a_page_links_to_is_there(page: str) -> None:
    text = (checkout() / page).read_text("utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in target]
    assert [target for target in targets if not (checkout() / page).parent.joinpath(target).exists()] == []
    for picture in re.findall(r"!\[[^]]+\]\(([^)]+)\)", text):
        assert (checkout() / page).parent.joinpath(picture).stat().st_size <= 200_000


@pytest.mark.parametrize("page", ["README.md", "README_zh.md"])
def test_the_first_page_stays_short_and_says_the_essential(page: str) -> None:
    text = (checkout() / page).read_text("utf-8")
    assert len(text.splitlines()) <= 150
    for said in ("git clone", "make demo", "make test", "minimind serve --stop", "minimind cluster stop"):
        assert said in text
    assert len(re.findall(r"^!\[", text, re.MULTILINE)) == 2
    assert f"torch=={_pinned('torch')} " in text


def _pinned(package: str) -> str:
    """The version that is installed, as constraints.txt says."""
    lines = (checkout() / "constraints.txt").read_text("utf-8").splitlines()
    return next(line.partition("==")[2] for line in lines if line.startswith(f"{package}=="))
