"""Plain text files: how they fall into passages, and in which encoding one is that isn't UTF-8."""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from shlex import quote

SHORT, LONG = 1000, 2000
"""Characters of a passage: from SHORT on it ends with its paragraph, before LONG it ends with a line."""

_GBK = re.compile(rb"[\x00-\x7f]|[\xa1-\xa3][\xa1-\xfe]|(?P<common>[\xb0-\xd7][\xa1-\xfe])|.", re.DOTALL)
"""A character of a text in GBK: ASCII, a sign, one of GB2312's 3,755 common characters, or a byte of anything else."""

_SIGNS = range(0xA1, 0xA4)


def passages(lines: Iterable[bytes]) -> Iterator[tuple[int, str | UnicodeDecodeError]]:
    """The passages of a text, each with the line it begins in, from 1; a line that isn't UTF-8 stands alone.

    A paragraph is what stands between blank lines. Paragraphs are put together, with a blank line between them, until
    they have SHORT characters; what would have more than LONG is cut at the end of a line. So a novel becomes passages
    of a page or two, and a note stays whole. Memory is that of a passage, or of the longest line.
    """
    first, size, gap = 0, 0, False
    passage: list[str] = []
    for number, line in enumerate(lines, start=1):
        text, error = "", None
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as wrong:
            error = wrong
        if text.isspace():
            text = ""
        ends = error is not None or (size + len(text) > LONG if text else size >= SHORT)
        if passage and ends:
            yield first, "\n".join(passage)
            passage, size = [], 0
        if error is not None:
            yield number, error
        elif not text:
            gap = True
        else:
            if not passage:
                first = number
            elif gap:
                passage.append("")
            passage.append(text)
            size, gap = size + len(text), False
    if passage:
        yield first, "\n".join(passage)


def is_utf16(beginning: bytes) -> bool:
    """Whether the first bytes of a file are those of a text in UTF-16: its mark, or letters with a zero byte each."""
    return beginning.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or 0 in beginning[:4]


def is_gbk(line: bytes) -> bool:
    """Whether a line that isn't UTF-8 is Chinese in GBK: then most of what is no ASCII are GB2312's common characters.

    Windows' Western encodings have single bytes where they would stand, Big5 has half of its characters elsewhere.
    """
    found = Counter(
        match.lastgroup for match in _GBK.finditer(line) if match[0][0] > 0x7F and match[0][0] not in _SIGNS
    )
    return found["common"] > found[None]


def conversion(path: Path, encoding: str) -> str:
    """The command that writes a file anew in UTF-8, beside it."""
    plain = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    target = plain.with_name(f"{plain.stem}.utf8{plain.suffix}")
    if plain != path:
        return f"zcat {quote(str(path))} | iconv -f {encoding} -t UTF-8 > {quote(str(target))}"
    return f"iconv -f {encoding} -t UTF-8 {quote(str(path))} > {quote(str(target))}"
