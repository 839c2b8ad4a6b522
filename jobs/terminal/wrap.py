"""Lines that are as wide as a terminal, in words: English breaks at blanks, Chinese between its characters."""

from __future__ import annotations

import re

from rich.cells import cell_len
from rich.console import Console

_BEGINS_NO_LINE = "，。、；：！？）》」』”’…%,.;:!?)]}"
_ENDS_NO_LINE = "（《「『“‘([{"
_WIDE = "\u2e80-\u9fff\uac00-\ud7ff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60\uffe0-\uffe6"
_OPEN, _CLOSE = f"[{re.escape(_ENDS_NO_LINE)}]*", f"[{re.escape(_BEGINS_NO_LINE)}]*"
_PIECES = re.compile(rf"\s+|{_OPEN}(?:[{_WIDE}]|[^\s{_WIDE}]+){_CLOSE}|\S")
"""Blanks, and what no line ends in: a word or a wide character, with the signs that belong to it."""


def wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """The text in lines of at most `width` cells; its own line ends stay. indent: of all lines but the first of each.

    A word that is longer than a line stands on a line of its own, whole: a path or a command can be copied.
    """
    return [line for paragraph in text.split("\n") for line in _wrapped(paragraph, max(width, 8), indent)]


def tell(console: Console, text: str, *, style: str | None = None, indent: str = "  ") -> None:
    """Print a sentence that may be longer than the console is wide."""
    console.print("\n".join(wrapped(text, console.width, indent)), style=style, highlight=False, soft_wrap=True)


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    lines, line, gap = [], "", ""
    begins = re.match(r"\s*", text)
    line = begins[0] if begins else ""
    empty = True
    for piece in _PIECES.findall(text[len(line) :]):
        if piece.isspace():
            gap = piece
            continue
        if not empty and cell_len(line + gap + piece) > width:
            lines.append(line)
            line, gap = indent, ""
        line, gap, empty = line + gap + piece, "", False
    return [*lines, line]
