from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from data.encode import documents
from data.schema import ChatRow, PretrainRow, parse
from jobs.text.masks import BRACKETS, LEARNT, LOST, READ, coloured, show_rows
from jobs.text.tokenizer import TokenizerSpec, run_tokenizer
from minimind.text.tokenizer import Tokenizer
from tests.small import CHATS, SAMPLES, Screen, turns, write_chats, write_rows


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["zz"], vocab_size=292)  # a token per byte


def terminal(**options: object) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=200, color_system="standard", **options)  # type: ignore[arg-type]


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_what_is_learnt_and_what_is_lost_have_their_styles(tokenizer: Tokenizer) -> None:
    (document,) = documents(tokenizer, parse(ChatRow, {"conversations": turns("q", "yes", "q", "no")}))
    text, learnt = coloured(tokenizer, document, None, {})
    parts = [(text.plain[span.start : span.end], span.style) for span in text.spans]
    begin = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"
    assert parts == [
        (begin, READ),
        ("yes<|im_end|>", LEARNT),
        ("\n" + begin, READ),
        ("no<|im_end|>", LEARNT),
        ("\n", READ),
    ]
    assert learnt == 4 + 3
    first = document.first_target
    assert first is not None
    text, learnt = coloured(tokenizer, document, first + 2, {})
    parts = [(text.plain[span.start : span.end], span.style) for span in text.spans]
    assert parts[:2] == [(begin, READ), ("ye", LEARNT)]
    assert parts[2][1] == LOST
    assert learnt == 2


def test_of_text_all_but_the_first_token_is_learnt(tokenizer: Tokenizer) -> None:
    (document,) = documents(tokenizer, PretrainRow(text="ab"))
    text, learnt = coloured(tokenizer, document, None, BRACKETS)
    assert text.plain == "<|im_start|>⟦ab<|im_end|>⟧"
    assert learnt == 3


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            {"prompt": "q", "chosen": "yes", "rejected": "no"},
            ["1 chosen\n", "⟦yes<|im_end|>⟧", "1 rejected\n", "⟦no<|"],
        ),
        (
            {"prompt": turns("q", "before", "r"), "chosen": "yes", "rejected": "no"},
            ["1 chosen\n", "\nbefore<|", "⟦yes<|im_end|>⟧", "1 rejected\n", "\nbefore<|", "⟦no<|"],
        ),
        ({"prompt": "q", "completion": "no", "label": False}, ["1 label = false\n", "⟦no<|im_end|>⟧"]),
    ],
)
def test_answers_are_shown_with_what_is_thought_of_them(
    tmp_path: Path, row: dict[str, object], said: list[str]
) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    console = Screen()
    show_rows(tmp_path / "rows.jsonl", None, console)
    at = 0
    for part in said:
        at = console.text.index(part, at) + 1


def test_with_colours_and_a_legend() -> None:
    console = terminal()
    show_rows(CHATS, "sft", console, rows=2)
    out = printed(console)
    assert "\x1b[1;4;32mlearnt" in out
    assert "read, not learnt" in out
    answer = json.loads(CHATS.read_text("utf-8").partition("\n")[0])["conversations"][1]["content"]
    assert f"\x1b[1;4;32m{answer}<|im_end|>" in out
    assert "⟦" not in out
    assert "\n2" in out.replace("\x1b[1m", "")
    assert "\n3" not in out.replace("\x1b[1m", "")


@pytest.mark.parametrize("console", [Screen(), terminal(no_color=True)])
def test_without_colours_brackets_say_it(console: Console, tmp_path: Path) -> None:
    path = write_chats(tmp_path / "chats.jsonl", [("[bold]q", "[red]a")])
    show_rows(path, "sft", console, max_seq_len=100)
    out = console.text if isinstance(console, Screen) else printed(console)
    assert "⟦learnt⟧" in out
    assert "✂lost, behind max_seq_len" in out
    assert "[bold]q<|im_end|>" in out
    assert "⟦[red]a<|im_end|>⟧" in out


def test_with_a_tokenizer_tokens_are_counted(home: Path) -> None:
    run_tokenizer(TokenizerSpec(name="words", path=str(SAMPLES), vocab_size=600), Screen())
    screen = Screen()
    show_rows(write_chats(home / "chats.jsonl", [("q", "a")]), "sft", screen, tokenizer="words")
    assert re.search(r"^1: \d+ tokens, 2 learnt$", screen.text, re.MULTILINE)
    without = Screen()
    show_rows(home / "chats.jsonl", "sft", without)
    assert "tokens" not in without.text


def test_a_row_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", ["text"])
    with pytest.raises(ValueError, match=f"{path}:1: this is plain text: use --stage pretrain"):
        show_rows(path, "sft", Screen())
    path.write_text(json.dumps({"conversations": turns("q", "a")[::-1]}) + "\n")
    with pytest.raises(ValueError, match=f"{path}:1: .*assistant"):
        show_rows(path, "sft", Screen())
