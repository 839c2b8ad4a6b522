"""Conversations: chatterbot's questions and answers, two people chatting, and our own small talk."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import yaml

from jobs.stock.archives import read_member, read_members
from jobs.stock.topics import Language
from jobs.stock.voice import TALK_EN, TALK_ZH

# The rest of the corpus is jokes, gossip, insults, opinions, broken translations, and a bot that is not this one.
_CHATTERBOT: dict[str, tuple[Language, tuple[str, ...]]] = {
    "chinese": ("zh", ("greetings", "trivia")),
    "english": ("en", ("coding", "computers", "greetings", "tech_support", "trivia")),
}
_NOISE = re.compile(
    r"https?:|www\.|@|\d{5}|\b(fuck|shit|bitch|sex|porn|nigg|rape|cunt|dick|pussy|slut|whore)\w*", re.IGNORECASE
)

_ASKED_ZH: tuple[str, ...] = ("？", "", "?", "，", "呢？", "…")
_SAID_ZH: tuple[str, ...] = ("", "。", "！", "~", "，", "…")
_ASKED_EN: tuple[str, ...] = ("?", "", " ?", "??")
_SAID_EN: tuple[str, ...] = ("", ".", "!", "...")


@dataclass(frozen=True)
class Pair:
    """What somebody says, and what is answered."""

    question: str
    answer: str
    language: Language


def own_talk() -> list[Pair]:
    """The small talk that was written for this project."""
    tables: tuple[tuple[Language, tuple[tuple[tuple[str, ...], str], ...]], ...] = (("zh", TALK_ZH), ("en", TALK_EN))
    return [
        Pair(question, answer, language)
        for language, rows in tables
        for questions, answer in rows
        for question in questions
    ]


def chatterbot(corpus: Path) -> list[Pair]:
    """Questions with one answer each (the first one given), from the sections that are fit to learn from."""
    wanted = {
        f"chatterbot_corpus/data/{folder}/{section}.yml": language
        for folder, (language, sections) in _CHATTERBOT.items()
        for section in sections
    }
    found: dict[str, Pair] = {}
    for name, content in read_members(corpus, lambda name: name in wanted):
        language = wanted[name]
        for turns in yaml.safe_load(content)["conversations"]:
            pair = _pair(turns, language)
            if pair is not None:
                found.setdefault(bare(pair.question).lower(), pair)
    return list(found.values())


def chitchat(dataset: Path, seed: int) -> Iterator[list[str]]:
    """The turns of conversations between two people, in random order: four or more, speakers alternating. English."""
    chats = list(json.loads(read_member(dataset, "chitchat_dataset/dataset.json")).values())
    Random(f"{seed}/chitchat").shuffle(chats)
    for chat in chats:
        turns: list[str] = []
        speaker = None
        for block in chat["messages"]:
            text = " ".join(" ".join(message["text"].split()) for message in block).strip()
            if not block or not text or _NOISE.search(text):
                break  # what follows would answer to nothing
            if block[0]["sender"] == speaker:
                turns[-1] += " " + text
            else:
                turns.append(text)
            speaker = block[0]["sender"]
        if len(turns) >= 4:
            yield turns


def chitchat_pairs(dataset: Path, seed: int) -> Iterator[Pair]:
    """What is said and what is answered to it, where both can stand alone: the first turns, neither short nor long."""
    for turns in chitchat(dataset, seed):
        for question, answer in itertools.pairwise(turns[:6]):
            if 12 <= len(question) <= 200 and 12 <= len(answer) <= 300:
                yield Pair(question, answer, "en")


def bare(text: str) -> str:
    """A question without its closing marks."""
    return text.strip().rstrip("?？.。!！~～ ")


def vary(pair: Pair, number: int) -> str:
    """The question as somebody else would type it: `number` 0, 1, ... gives another ending or another case."""
    text = bare(pair.question)
    asks = pair.question.rstrip().endswith(("?", "？"))
    if pair.language == "zh":
        endings = _ASKED_ZH if asks else _SAID_ZH
    else:
        endings = _ASKED_EN if asks else _SAID_EN
        first = text[:1].lower() if (number // 2) % 2 else text[:1].upper()
        text = first + text[1:]
    return text + endings[number % len(endings)]


def _pair(turns: Any, language: Language) -> Pair | None:
    if not isinstance(turns, list) or len(turns) < 2 or not all(isinstance(turn, str) for turn in turns):
        return None  # a few entries of the corpus are not well formed
    question, answer = " ".join(turns[0].split()), turns[1].strip()
    if len(answer) > 200 or "\n" in answer or not bare(question):
        return None
    answer = " ".join(answer.split())
    if language == "zh":
        answer = answer.replace(",", "，").replace("?", "？").replace("!", "！").rstrip(".。") + "。"
        answer = re.sub(r"([？！])。$", r"\1", answer)
        question = question.replace(",", "，")
    else:
        answer = answer[:1].upper() + answer[1:]
        answer += "" if answer[-1] in ".!?\"'`)" else "."
    return Pair(question, answer, language)
