"""Texts of others in Markdown: what a model or a user wrote may be anything, and none of it is markup."""

from __future__ import annotations

import re

from jobs.evaluation.report import visible

_MARKUP = re.compile(r"([\\`*\[\]<>|])")


def cell(text: str) -> str:
    """A text in a table or in a line."""
    return _MARKUP.sub(r"\\\1", visible(text)).replace("\n", " ").replace("\t", " ")


def quoted(text: str) -> str:
    """A text as a quotation, line by line."""
    return "\n".join(f"> {cell(line)}".rstrip() for line in text.split("\n"))


def fenced(text: str) -> str:
    """A command or a program as a block of code, which nothing in it ends."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}\n{visible(text)}\n{fence}"
