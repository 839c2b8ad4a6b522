from __future__ import annotations

from pathlib import Path

from jobs.stock import known
from jobs.stock.compose import Fact
from jobs.stock.places import (
    capitals_known,
    countries_en,
    countries_zh,
    divisions_zh,
    elements_known,
    provinces_known,
)


def answers(facts: list[Fact], topic: str) -> dict[str, str]:
    return {fact.subject: fact.answer for fact in facts if fact.topic == topic}


def test_countries_in_chinese(archives: dict[str, Path]) -> None:
    facts = countries_zh(archives["jionlp"])
    capitals, continents = answers(facts, "capital_zh"), answers(facts, "continent_zh")
    assert capitals["东山国"] == "东山城"
    assert capitals["缅甸"] == "内比都"  # the package still has the capital before
    assert "以色列" not in capitals  # disputed
    assert "以色列" not in continents
    assert "新加坡" not in capitals  # a question that answers itself
    assert continents["新加坡"] == "亚洲"
    assert continents["斐济"] == "大洋洲"  # misspelt there


def test_cities_counties_and_towns(archives: dict[str, Path]) -> None:
    facts, lines = divisions_zh(archives["jionlp"], towns=True)
    cities, counties = answers(facts, "city_zh"), answers(facts, "county_zh")
    assert cities["夏湖市"] == "青山省"
    assert "春河市" not in cities  # two provinces have one: the question would have two answers
    assert not {"台北市", "上海市"} & cities.keys()
    assert counties["夏湖北县"] == "青山省夏湖市"
    assert counties["静安区"] == "上海市"
    assert "高新技术产业开发区" not in counties
    assert "青山省夏湖市夏湖北县下辖桥头镇、桥尾乡。" in lines
    assert divisions_zh(archives["jionlp"], towns=False) == (facts, [])


def test_countries_in_english(archives: dict[str, Path]) -> None:
    facts = countries_en(archives["countryinfo"])
    assert answers(facts, "capital_en") == {"France": "Paris", "the Gambia": "Banjul", "Eswatini": "Mbabane"}
    assert answers(facts, "currency_en") == {"France": "the euro", "Singapore": "the Singapore dollar"}
    assert answers(facts, "region_en")["Singapore"] == "Southeast Asia"


def test_own_tables() -> None:
    capitals = capitals_known()
    assert answers(capitals, "capital_zh")["法国"] == "巴黎"
    assert answers(capitals, "capital_en")["the Netherlands"] == "Amsterdam"
    assert Fact("seat_zh", "广东省", "广州", "省会") in provinces_known()
    assert Fact("seat_zh", "西藏自治区", "拉萨", "首府") in provinces_known()
    assert answers(provinces_known(), "abbreviation_zh")["上海市"] == "沪"
    assert answers(elements_known(), "element_en")["gold"] == "Au"
    assert answers(elements_known(), "element_zh")["金"] == "Au"
    for facts in (capitals, provinces_known(), elements_known()):
        keys = [fact.key for fact in facts]
        assert len(set(keys)) == len(keys)
    assert len(known.STATES_ISO2) == 193
    assert len({short for _, short in known.ABBREVIATIONS}) == 34
