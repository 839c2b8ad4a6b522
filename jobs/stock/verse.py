"""Poems of Tang, Song and Yuan and the classics, in simplified characters."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.stock.archives import read_members, read_text
from jobs.stock.compose import Fact, unambiguous

TANG_300 = "package/dist/mengxue/tangshisanbaishou.json"
SONG_CI_300 = "package/dist/songci/宋词三百首.json"
_ALL = re.compile(
    r"package/dist/(quantangshi/poet\.(tang|song)\.\d+|songci/ci\.song\.\d+|yuanqu/yuanqu|songci/宋词三百首"
    r"|mengxue/tangshisanbaishou|lunyu/lunyu|shijing/shijing|sishuwujing/(daxue|mengzi|zhongyong))\.json"
)
_NOTE = re.compile(r"[(（\[〖{][^)）\]〗}]*[)）\]〗}]")
_SINK = re.compile(r"沈(?![约腰郎])")  # a surname in names, in verse nearly always "to sink"
_LINE = re.compile(r"[\u4e00-\u9fff，。？！、；：“”‘’《》—]+")
_COUPLET = re.compile(r"([\u4e00-\u9fff]{4,9})[，？！；]([\u4e00-\u9fff]{4,9})[。？！；，]")


@dataclass(frozen=True)
class Poem:
    """A poem: its title, who wrote it (empty where nobody is named), its lines and the file that it stands in."""

    title: str
    author: str
    lines: tuple[str, ...]
    file: str = ""

    @property
    def text(self) -> str:
        """Title, author and lines as one document."""
        head = f"《{self.title}》{' ' + self.author if self.author else ''}\n" if self.title else ""
        return head + "\n".join(self.lines)


class Simplifier:
    """Turns traditional characters into simplified ones by jionlp's table.

    Some characters have two simplified forms, and the table knows one: a few frequent words are put right afterwards.
    """

    _WORDS = (
        ("干坤", "乾坤"),
        ("干隆", "乾隆"),
        ("干元", "乾元"),
        ("狼借", "狼藉"),
        ("慰借", "慰藉"),
        ("着书", "著书"),
    )
    _MORE = str.maketrans("馀锺鬬駞顇䌽箇羇煖悮搃氷栢凟徃隠踈麴", "余钟斗驼悴彩个羁暖误总冰柏渎往隐疏曲")

    def __init__(self, jionlp: Path) -> None:
        rows = read_text(jionlp, "jionlp/dictionary/tra2sim_char.txt").splitlines()
        self._table = str.maketrans(dict(row.split("\t")[:2] for row in rows if "\t" in row))

    def __call__(self, text: str) -> str:
        """The text in simplified characters."""
        text = text.translate(self._table).translate(self._MORE)
        for wrong, right in self._WORDS:
            text = text.replace(wrong, right)
        return text


def poems(poetry: Path, simplify: Callable[[str], str], everything: bool) -> list[Poem]:
    """The 300 Tang poems and the 300 Song ci; or, with `everything`, all poems and classics.

    A poem with characters that were lost, or with editors' marks that cannot be taken out, is left out.
    """
    chosen = _ALL.fullmatch if everything else (lambda name: name in {TANG_300, SONG_CI_300})
    found = []
    for file, content in read_members(poetry, lambda name: bool(chosen(name))):
        for title, author, lines in _poems(json.loads(simplify(content.decode()))):
            clean = tuple(filter(None, map(_clean, lines)))
            if clean and all(map(_LINE.fullmatch, clean)):
                found.append(Poem(" ".join(_NOTE.sub("", title).split()), author.strip(), clean, file))
    return found


def facts_of(found: list[Poem], short: bool = False) -> list[Fact]:
    """Who wrote a poem, and which line follows: for the 300 Tang poems that many people know.

    short: lines that follow only of poems of four lines, which are the best known.
    """
    facts = []
    for poem in found:
        if poem.file != TANG_300:
            continue
        group = f"poem/{poem.author}/{poem.title}/{poem.lines[0]}"
        if poem.author and poem.title and len(poem.title) <= 12:
            facts.append(Fact("author_zh", poem.title, poem.author, group=group))
        couplets = _COUPLET.findall("".join(poem.lines))
        for first, second in couplets if len(couplets) <= 2 or not short else ():
            if len(first) == len(second):
                facts.append(Fact("next_line_zh", first, second, group=group))
    return unambiguous(facts)


def _clean(line: str) -> str:
    return _SINK.sub("沉", _NOTE.sub("", line).replace(" ", "").strip())


def _poems(rows: Any) -> Iterator[tuple[str, str, list[str]]]:
    """Title, author and lines of what is in one of the files: they come in four shapes."""
    if isinstance(rows, dict):  # a collection in parts, or one book
        for part in rows.get("content", [rows]):
            for poem in part.get("content", []):
                yield poem["chapter"], poem["author"], poem["paragraphs"]
        if isinstance(rows.get("paragraphs"), list):
            yield rows.get("chapter", ""), "", rows["paragraphs"]
        return
    for row in rows:
        lines = row.get("paragraphs") or row.get("content") or []
        yield row.get("title") or row.get("rhythmic") or row.get("chapter") or "", row.get("author", ""), lines
