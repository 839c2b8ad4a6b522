"""Builds the files of every stage out of what was fetched; see `build`."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from jobs.stock import talk
from jobs.stock.compose import Fact, draw, draw_held_out, sentence
from jobs.stock.dialogue import LINKS, Exchange, Links, converse, referring_question, short_question, turns_of
from jobs.stock.generators import problems
from jobs.stock.knowledge import Knowledge, choose, gather
from jobs.stock.mix import pretraining_documents
from jobs.stock.preferences import Couple, Pair, held_preferences, labels, preferences
from jobs.stock.scales import SCALES, Scale
from jobs.stock.sources import PACKAGES, licence_table
from jobs.stock.topics import LANGUAGES, MADE, TOPICS, UNKNOWN
from jobs.stock.unknown import unknowns
from minimind.language import phrase, say

SAMPLES = Path(__file__).resolve().parents[2] / "data" / "samples"
FILES = (
    "pretrain.jsonl",
    "sft.jsonl",
    "lora.jsonl",
    "dpo.jsonl",
    "dpo_eval.jsonl",
    "kto.jsonl",
    "rl.jsonl",
    "eval.jsonl",
    "topics.json",
    "LICENSES.md",
)
VERSION = 5
"""Counts what `build` writes: raised whenever the same packages give other files."""
IDENTITY = Path(__file__).with_name("identity.jsonl")
"""Who the model is, in conversations: what an adapter teaches."""
KEPT_BESIDE = 4
"""Questions of sft.jsonl for each of those, lest an adapter forget what it was taught."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Built:
    """What was written. rows: file name -> number of rows (topics.json: of topics). size_bytes: of all files."""

    folder: Path
    rows: dict[str, int]
    size_bytes: int
    seconds: float
    notes: tuple[str, ...] = ()


def build(
    files: Mapping[str, Path],
    folder: Path,
    *,
    scale: str = "demo",
    seed: int = 0,
    epochs: int | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Built:
    """Writes the data of every stage into `folder`; the same arguments give the same bytes.

    files: `Fetched.files`; what is missing there is missing in the result, and said in its notes. scale: a name in
    SCALES. epochs: how many epochs of questions sft.jsonl holds, each phrased afresh, one after another: one pass over
    the file is `epochs` passes over the facts; None takes the scale's own number.

    pretrain.jsonl {"text"}; sft.jsonl {"conversations"}; lora.jsonl the same: who the model is, beside some of
    sft.jsonl; dpo.jsonl {"chosen", "rejected", "family"}: a better and a worse answer, see `preferences`; kto.jsonl
    {"conversations", "label", "family"}: one answer of each of these pairs; dpo_eval.jsonl {"chosen", "rejected",
    "family", "length", "language"}: what is taught, in words that are not, with other worse answers, where `length` is
    that of the better answer beside the worse one ("same", "shorter", "longer"); rl.jsonl {"prompt", "answer"};
    eval.jsonl {"before", "prompt", "answer", "sentence", "topic", "language", "kind", "held"} where kind is
    "heldout_phrasing" (a fact that is taught, in words that are not; `held` names the parts), "heldout_fact",
    "follow_up" (it refers to the question in `before`) or "unknown"; topics.json: what is taught; LICENSES.md: what it
    was made of.

    Raises ValueError for an unknown scale or a damaged archive, OSError if the folder cannot be written. Each file is
    whole or absent, and topics.json comes last.
    """
    start = time.monotonic()
    if scale not in SCALES:
        raise ValueError(
            say("scale = {scale!r}: no such scale; there are {names}", scale=scale, names=", ".join(SCALES))
        )
    size = SCALES[scale]
    files = {name: path for name, path in files.items() if name in size.packages}
    epochs = size.epochs if epochs is None else epochs
    if epochs < 1:
        raise ValueError(say("epochs = {epochs}: at least 1 is needed", epochs=epochs))
    progress(say("reading the archives"))
    knowledge = gather(files, size, seed)
    progress(say("putting together the texts to pretrain on"))
    documents = pretraining_documents(
        files, size, seed, knowledge.taught, knowledge.pairs, knowledge.poems, knowledge.leaks
    )
    progress(say("composing questions"))
    conversations = _conversations(knowledge, size, seed, epochs)
    couples = preferences(knowledge, size.preferences, seed)
    rows: dict[str, Sequence[Row]] = {
        "pretrain.jsonl": [{"text": text} for text in documents],
        "sft.jsonl": conversations,
        "lora.jsonl": _identity(conversations, seed),
        "dpo.jsonl": _preferences(couples, seed),
        "dpo_eval.jsonl": _held_preferences(held_preferences(knowledge, couples, size.preferences_held, seed), seed),
        "kto.jsonl": _labelled(couples, seed),
        "rl.jsonl": _prompts(knowledge, size, seed),
        "eval.jsonl": _evaluation(knowledge, size, seed),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in rows.items():
        progress(say("writing {name}: {count} rows", name=name, count=len(content)))
        _write(folder / name, (json.dumps(row, ensure_ascii=False) for row in content))
    _write(folder / "LICENSES.md", licence_table(files))
    topics = _topics(knowledge, seed)
    overview = {"version": VERSION, "scale": scale, "seed": seed, "topics": topics}
    _write(folder / "topics.json", [json.dumps(overview, ensure_ascii=False, indent=1)])
    counts = {name: len(content) for name, content in rows.items()} | {"topics.json": len(topics)}
    missing = tuple(
        say("without {name}: no {used}", name=package.name, used=phrase(package.used))
        for package in PACKAGES
        if package.name in size.packages and package.name not in files
    )
    return Built(folder, counts, _size_bytes(folder), time.monotonic() - start, missing)


def version_of(folder: Path) -> int | None:
    """The VERSION by which the files in a folder were built, 0 for one from before there were versions; None where they
    are not all there.
    """
    if not all((folder / name).is_file() for name in FILES):
        return None
    return int(json.loads((folder / "topics.json").read_text("utf-8")).get("version", 0))


def build_samples(folder: Path) -> Built:
    """Copies the samples that come with the project into `folder`: for when nothing could be fetched."""
    start = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    rows = {}
    for name in FILES:
        partial = folder / f"{name}.partial"
        shutil.copyfile(SAMPLES / name, partial)
        partial.replace(folder / name)
        text = (folder / name).read_text("utf-8")
        if name == "topics.json":
            rows[name] = len(json.loads(text)["topics"])
        elif name.endswith(".jsonl"):
            rows[name] = text.count("\n")
    note = say("the bundled samples: a few hundred facts and short texts, enough to see everything run")
    return Built(folder, rows, _size_bytes(folder), time.monotonic() - start, (note,))


def _conversations(knowledge: Knowledge, size: Scale, seed: int, epochs: int) -> list[Row]:
    """Every epoch: each fact in new words, fresh problems, the small talk typed in another way, a share of the rest; in
    conversations of one to four turns.
    """
    once = [_exchange(fact, draw(fact, seed, 0)[0]) for fact in knowledge.long]
    once += [Exchange(pair.question, pair.answer, f"talk_{pair.language}") for pair in knowledge.chats]
    Random(f"{seed}/once").shuffle(once)
    links = Links(knowledge.taught)
    seen: set[str] = set()
    rows = []
    for epoch in range(epochs):
        asked = once[epoch::epochs]
        facts = [fact for found in knowledge.taught.values() for fact in found]
        for language in LANGUAGES:
            facts += problems(language, size.problems, seed, epoch, held=False, large=size.large)
            facts += unknowns(language, knowledge.taught, size.unknown, seed, epoch, held=False)
        asked += [_exchange(fact, question) for fact in facts for question in draw(fact, seed, epoch)]
        asked += [Exchange(talk.vary(pair, epoch), pair.answer, f"talk_{pair.language}") for pair in knowledge.pairs]
        new = list({exchange.question: exchange for exchange in asked if exchange.question not in seen}.values())
        seen.update(exchange.question for exchange in new)
        rng = Random(f"{seed}/sft/{epoch}")
        rows += [
            {"conversations": [turn for one in conversation for turn in _turns(one.question, one.answer)]}
            for conversation in converse(new, turns_of(epoch, epochs), links, rng)
        ]
    return rows


def _exchange(fact: Fact, question: str) -> Exchange:
    return Exchange(question, sentence(fact), fact.topic, fact)


def _identity(conversations: Sequence[Row], seed: int) -> list[Row]:
    identity = [json.loads(line) for line in IDENTITY.read_text("utf-8").splitlines()]
    rng = Random(f"{seed}/lora")
    single = [row for row in conversations if len(row["conversations"]) == 2]
    rows = identity + rng.sample(single, min(len(single), KEPT_BESIDE * len(identity)))
    rng.shuffle(rows)
    return rows


def _preferences(couples: Sequence[Couple], seed: int) -> list[Row]:
    rows = [_sides(pair) | {"family": pair.family} for couple in couples for pair in couple]
    Random(f"{seed}/dpo/rows").shuffle(rows)
    return rows


def _held_preferences(pairs: Sequence[Pair], seed: int) -> list[Row]:
    rows = [_sides(pair) | {"family": pair.family, "length": pair.length, "language": pair.language} for pair in pairs]
    Random(f"{seed}/dpo_eval/rows").shuffle(rows)
    return rows


def _labelled(couples: Sequence[Couple], seed: int) -> list[Row]:
    rows = [
        {
            "conversations": _turns(pair.question, pair.chosen if good else pair.rejected),
            "label": good,
            "family": pair.family,
        }
        for pair, good in labels(couples)
    ]
    Random(f"{seed}/kto/rows").shuffle(rows)
    return rows


def _sides(pair: Pair) -> Row:
    return {"chosen": _turns(pair.question, pair.chosen), "rejected": _turns(pair.question, pair.rejected)}


def _prompts(knowledge: Knowledge, size: Scale, seed: int) -> list[Row]:
    facts = [fact for found in knowledge.taught.values() for fact in choose(found, size.prompts, seed)]
    for language in LANGUAGES:
        facts += problems(language, size.problem_prompts, seed, -1, held=False, large=size.large)
    rows = [{"prompt": draw(fact, seed + 2, 0)[0], "answer": fact.answer} for fact in facts]
    Random(f"{seed}/rl").shuffle(rows)
    return rows


def _evaluation(knowledge: Knowledge, size: Scale, seed: int) -> list[Row]:
    """Facts that were taught, in words that were not; facts and problems that were never taught; questions that refer
    to the one before them; and what the model has to say it does not know.
    """
    unseen = dict(knowledge.held)
    for language in LANGUAGES:
        for problem in problems(language, size.asked_held * 3, seed, 0, held=True, large=size.large):
            unseen.setdefault(problem.topic, []).append(problem)
    rows = []
    for topic in TOPICS:
        for fact in choose(knowledge.taught.get(topic, []), size.asked, seed):
            question, held = draw_held_out(fact, seed)
            rows.append(_question(fact, question, "heldout_phrasing", held))
        never = choose(unseen.get(topic, []), size.asked_held, seed)
        rows += [_question(fact, draw(fact, seed, 0)[0], "heldout_fact", ()) for fact in never]
    rows += _follow_ups(knowledge, size, seed)
    for language in LANGUAGES:
        asked = unknowns(language, knowledge.taught, 2 * size.asked_held, seed, 0, held=True)
        rows += [_question(fact, draw(fact, seed, 0)[0], "unknown", ("core",)) for fact in asked]
    return rows


def _follow_ups(knowledge: Knowledge, size: Scale, seed: int) -> list[Row]:
    """Questions in held-out words that nobody understands who did not hear the one before."""
    rng = Random(f"{seed}/follow")
    rows = []
    for found in knowledge.taught.values():
        for before, fact in itertools.pairwise(choose(found, size.asked_follow + 1, seed)):
            question = short_question(fact, rng, held=True)
            if question is not None:
                rows.append(_question(fact, question, "follow_up", ("core",), [draw(before, seed, 0)[0]]))
    links = Links(knowledge.taught)
    pairs = [
        (before, *after) for found in knowledge.taught.values() for before in found for after in links.after(before)
    ]
    for link in LINKS:
        for before, _, fact in choose([pair for pair in pairs if pair[1] == link], size.asked_follow, seed):
            question = referring_question(link, fact, rng, held=True)
            rows.append(_question(fact, question, "follow_up", ("core",), [draw(before, seed, 0)[0]]))
    return rows


def _topics(knowledge: Knowledge, seed: int) -> list[Row]:
    """For people: what can be asked, with questions to try."""
    rows = []
    for name, topic in TOPICS.items():
        taught = knowledge.taught.get(name, [])
        long = [fact for fact in knowledge.long if fact.topic == name]
        if not (taught or long or name in MADE):
            continue
        examples = choose(taught or long, 3, seed) or problems(topic.language, 12, seed, 0, held=False, large=False)
        if name in UNKNOWN:
            examples = unknowns(topic.language, knowledge.taught, 3, seed, 0, held=False)
        rows.append(
            {
                "name": name,
                "language": topic.language,
                "title_zh": topic.title_zh,
                "title_en": topic.title_en,
                "facts": len(taught) + len(long),
                "facts_held_out": len(knowledge.held.get(name, [])),
                "examples": [draw(fact, seed, 0)[0] for fact in examples if fact.topic == name][:3],
            }
        )
    counts = Counter(pair.language for pair in (*knowledge.pairs, *knowledge.chats))
    for language in LANGUAGES:
        title_zh, title_en = ("闲聊", "small talk, in Chinese") if language == "zh" else ("闲聊（英语）", "small talk")
        greetings = [pair.question for pair in talk.own_talk() if pair.language == language]
        rows.append(
            {
                "name": f"talk_{language}",
                "language": language,
                "title_zh": title_zh,
                "title_en": title_en,
                "facts": counts[language],
                "facts_held_out": 0,
                "examples": greetings[:3],
            }
        )
    return rows


def _question(fact: Fact, question: str, kind: str, held: Sequence[str], before: Sequence[str] = ()) -> Row:
    return {
        "before": list(before),
        "prompt": question,
        "answer": fact.answer,
        "sentence": sentence(fact),
        "topic": fact.topic,
        "language": TOPICS[fact.topic].language,
        "kind": kind,
        "held": list(held),
    }


def _turns(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _write(path: Path, lines: Iterable[str]) -> None:
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8", newline="\n") as stream:
        for line in lines:
            stream.write(line + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)


def _size_bytes(folder: Path) -> int:
    return sum((folder / name).stat().st_size for name in FILES)
