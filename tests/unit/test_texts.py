from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.texts import LONG, SHORT, conversion, is_gbk, is_utf16, passages


def cut(text: str) -> list[tuple[int, object]]:
    return list(passages(text.encode().splitlines(keepends=True)))


def test_short_paragraphs_are_put_together_and_a_note_stays_whole() -> None:
    assert cut("# Title\n\none\ntwo\n\n\n\u3000\n  three\n") == [(1, "# Title\n\none\ntwo\n\n  three")]
    assert cut("") == cut("\n \n\u3000\n") == []


def test_a_novel_becomes_passages_that_end_with_a_paragraph() -> None:
    paragraph = "字" * 400
    found = cut("\n\n".join([paragraph] * 7))
    assert found == [(1, "\n\n".join([paragraph] * 3)), (7, "\n\n".join([paragraph] * 3)), (13, paragraph)]


def test_a_novel_without_blank_lines_is_cut_at_the_ends_of_lines() -> None:
    found = cut("字" * 900 + "\n" + "字" * 900 + "\n" + "字" * 300 + "\n" + "字" * 5000 + "\nend")
    assert [(line, len(str(text))) for line, text in found] == [(1, 1801), (3, 300), (4, 5000), (5, 3)]


@given(st.lists(st.sampled_from(["", " ", "a", "字" * 300, "x" * 999, "y" * 1001, "z" * 2500]), max_size=40))
def test_nothing_but_blank_lines_is_lost_and_lines_are_exact(lines: list[str]) -> None:
    found = cut("\n".join(lines))
    texts = [str(text) for _, text in found]
    assert "\n".join(texts).split("\n") != [""] or not any(map(str.strip, lines))
    assert [line for text in texts for line in text.split("\n") if line] == [line for line in lines if line.strip()]
    for number, text in found:
        assert lines[number - 1] == str(text).split("\n")[0]
    for first, second in pairwise(texts):  # none ends early
        assert len(first) >= SHORT or len(first.replace("\n", "") + second.split("\n")[0]) > LONG
    assert all(len(text.replace("\n", "")) <= LONG or "\n" not in text for text in texts)


def test_a_line_that_is_not_utf8_stands_alone() -> None:
    (line, before), (number, error), (last, after) = passages([b"a\n", b"\xff\n", b"b\n"])
    assert (line, before, number, last, after) == (1, "a", 2, 3, "b")
    assert isinstance(error, UnicodeDecodeError)


@pytest.mark.parametrize(
    ("text", "encoding", "expected"),
    [
        ("床前明月光", "gbk", True),
        ('{"text": "今天 a 下雨了"}', "gb18030", True),
        ("Résumé of an élève, naïve café", "cp1252", False),
        ("Größe für Mädchen", "latin-1", False),
        ("繁體中文的說明文件放在這裡", "big5", False),
    ],
)
def test_gbk_is_told_from_other_encodings(text: str, encoding: str, expected: bool) -> None:
    assert is_gbk(text.encode(encoding)) is expected


@pytest.mark.parametrize(
    ("beginning", "expected"),
    [
        ("{".encode("utf-16"), True),
        ("{}".encode("utf-16-be"), True),
        (b"", False),
        (b"{", False),
        ("字".encode(), False),
    ],
)
def test_utf16_is_seen_in_the_first_bytes(beginning: bytes, expected: bool) -> None:
    assert is_utf16(beginning) is expected


def test_the_command_that_converts_names_a_new_file() -> None:
    assert conversion(Path("/x/a b.txt"), "GBK") == "iconv -f GBK -t UTF-8 '/x/a b.txt' > '/x/a b.utf8.txt'"
    assert conversion(Path("/x/a.jsonl.gz"), "GBK") == "zcat /x/a.jsonl.gz | iconv -f GBK -t UTF-8 > /x/a.utf8.jsonl"
