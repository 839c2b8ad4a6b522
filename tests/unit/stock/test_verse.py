from __future__ import annotations

from pathlib import Path

from jobs.stock.verse import TANG_300, Poem, Simplifier, facts_of, poems


def test_simplified_without_notes_or_lost_characters(archives: dict[str, Path]) -> None:
    found = poems(archives["chinese-poetry"], Simplifier(archives["jionlp"]), everything=False)
    first = found[0]
    assert (first.title, first.author, first.file) == ("远山", "王一", TANG_300)
    assert first.lines == ("远山飞白鸟，近水落青沙。", "行人歸去晚，門外有梅花。")  # the small table knows no more
    assert first.text == "《远山》 王一\n远山飞白鸟，近水落青沙。\n行人歸去晚，門外有梅花。"
    titles = [poem.title for poem in found]
    assert "壞诗" not in titles  # two characters were lost
    assert "如梦令" in titles
    assert "长诗" not in titles


def test_everything(archives: dict[str, Path]) -> None:
    found = poems(archives["chinese-poetry"], Simplifier(archives["jionlp"]), everything=True)
    assert {"远山", "如梦令", "長诗", "大学"} <= {poem.title for poem in found}
    assert Poem("", "", ("一。",)).text == "一。"


def test_simplifier_knows_frequent_exceptions(archives: dict[str, Path]) -> None:
    simplify = Simplifier(archives["jionlp"])
    assert simplify("乾坤有餘詩") == "乾坤有余诗"
    found = poems(archives["chinese-poetry"], simplify, everything=False)
    assert "沉水不知年。" in next(poem.lines[0] for poem in found if "乾坤" in poem.lines[0])


def test_facts_are_of_the_well_known_poems_and_unambiguous(archives: dict[str, Path]) -> None:
    facts = facts_of(poems(archives["chinese-poetry"], Simplifier(archives["jionlp"]), everything=True))
    authors = {fact.subject: fact.answer for fact in facts if fact.topic == "author_zh"}
    lines = {fact.subject: fact.answer for fact in facts if fact.topic == "next_line_zh"}
    assert authors["远山"] == "王一"
    assert "無题" not in authors  # two poets wrote one
    assert "如梦令" not in authors
    assert lines["远山飞白鸟"] == "近水落青沙"
    assert lines["三月风吹柳"] == "五更雨洗尘"
    assert "长短" not in lines  # halves of unequal length are no couplet
    assert "一二三四五" not in lines
    short = facts_of(poems(archives["chinese-poetry"], Simplifier(archives["jionlp"]), everything=True), short=True)
    assert {fact.subject for fact in facts} - {fact.subject for fact in short} == {
        "一月天寒夜",
        "二月花开早",
        "三月风吹柳",
    }
    poem = [fact.group for fact in facts if fact.subject in {"远山", "远山飞白鸟", "行人歸去晚"}]
    assert len(poem) == 3
    assert len(set(poem)) == 1  # a poem is kept back as a whole
