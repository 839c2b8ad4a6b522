from __future__ import annotations

from rich.cells import cell_len

from jobs.terminal.wrap import wrapped


def test_english_breaks_between_words_and_long_ones_stay_whole() -> None:
    assert wrapped("one two three", 9) == ["one two", "three"]
    assert wrapped("see /a/very/long/path now", 10) == ["see", "/a/very/long/path", "now"]
    assert wrapped("", 10) == [""]
    assert wrapped("a\n  b", 10) == ["a", "  b"]
    assert wrapped("one two three", 9, indent="  ") == ["one two", "  three"]


def test_chinese_breaks_between_characters_and_not_before_a_stop() -> None:
    lines = wrapped("从纯文本学习语言：预测每个下一词元。", 12)
    assert "".join(lines) == "从纯文本学习语言：预测每个下一词元。"
    assert all(cell_len(line) <= 12 for line in lines)
    assert not any(line[0] in "，。：" for line in lines)
    assert wrapped("运行（一个）", 8) == ["运行（一", "个）"]


def test_both_in_one_line() -> None:
    assert wrapped("请用 --batch_size 2 再试", 12) == ["请用", "--batch_size", "2 再试"]
