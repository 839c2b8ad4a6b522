"""Texts of others on a page: what a model or a user wrote may be anything, and none of it is markup."""

from __future__ import annotations

import re
import unicodedata

_MARKUP = re.compile(r"([\\`*_~#&!\[\]<>|])")
_AT_START = re.compile(r"^([-+=]|\d+(?=[.)]))")
_JOINING = "\u200c\u200d\u00ad"
"""Format characters that belong to ordinary writing: joiners, of emoji too, and soft hyphens."""


def visible(text: str) -> str:
    """A text in which nothing steers the reader's terminal or page: control characters, and those that turn the
    direction of writing, are shown by name. Line breaks and tabs stay.
    """
    return "".join(map(_visible, text))


def _visible(character: str) -> str:
    if character in "\n\t" or character in _JOINING:
        return character
    category = unicodedata.category(character)
    if category == "Cc" and ord(character) < 0x20:
        return chr(0x2400 + ord(character))
    return f"⟨U+{ord(character):04X}⟩" if category in ("Cc", "Cf", "Cs", "Co", "Cn") else character


def cell(text: str) -> str:
    """A text in a table or in a line of Markdown."""
    return _MARKUP.sub(r"\\\1", visible(text)).replace("://", ":\\//").replace("\n", " ").replace("\t", " ")


def quoted(text: str, indent: str = "") -> str:
    """A text as a quotation in Markdown, line by line."""
    return "\n".join(f"{indent}> {_AT_START.sub(_escaped, cell(line).lstrip())}".rstrip() for line in text.split("\n"))


def _escaped(start: re.Match[str]) -> str:
    """What would begin a list, a rule or a heading as the text that it is."""
    sign = start[0]
    return f"{sign}\\" if sign.isdigit() else f"\\{sign}"


def fenced(text: str) -> str:
    """A command or a program as a block of code, which nothing in it ends."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}\n{visible(text)}\n{fence}"
