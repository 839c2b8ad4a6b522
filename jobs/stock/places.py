"""Places: countries with their capitals, China's provinces, cities, counties and towns."""

from __future__ import annotations

import json
import re
from pathlib import Path

from jobs.stock import known
from jobs.stock.archives import read_members, read_text, read_zipped_text
from jobs.stock.compose import Fact, unambiguous

_MUNICIPALITIES = frozenset({"北京市", "上海市", "天津市", "重庆市"})
_OUTSIDE = frozenset({"香港特别行政区", "澳门特别行政区", "台湾省"})  # not divided in the same way
_COUNTY = re.compile(r"[\u4e00-\u9fff]{2,}[县区市旗]")
_NOT_A_COUNTY = re.compile(r"开发区|高新|园区|管理区|示范区|新区|矿区|试验区|产业区|街道|林区")


def capitals_known() -> list[Fact]:
    """Capitals in Chinese and English from our own table."""
    return [Fact("capital_zh", zh, zh_capital) for zh, zh_capital, _, _ in known.CAPITALS] + [
        Fact("capital_en", en, en_capital) for _, _, en, en_capital in known.CAPITALS
    ]


def provinces_known() -> list[Fact]:
    """Seats and short names of China's provinces."""
    return [Fact("seat_zh", province, seat, kind) for province, kind, seat in known.SEATS] + [
        Fact("abbreviation_zh", province, short) for province, short in known.ABBREVIATIONS
    ]


def elements_known() -> list[Fact]:
    """Chemical symbols in Chinese and English."""
    return [Fact("element_zh", zh, symbol) for symbol, zh, _ in known.ELEMENTS] + [
        Fact("element_en", en, symbol) for symbol, _, en in known.ELEMENTS
    ]


def countries_zh(jionlp: Path) -> list[Fact]:
    """Capitals and continents in Chinese. Capitals that are the country's own name, or disputed, are left out."""
    facts = []
    continent = ""
    for line in read_text(jionlp, "jionlp/dictionary/world_location.txt").splitlines():
        if line.endswith(":"):
            continent = line[:-1].replace("大洋州", "大洋洲")
            continue
        name, _, capital = line.split("\t")[:3]
        unclear = name in known.CAPITAL_UNCLEAR_ZH
        capital = known.CAPITAL_NOW_ZH.get(name, capital)
        name = known.COUNTRY_NOW_ZH.get(name, name)
        if not unclear:
            facts.append(Fact("continent_zh", name, continent))
            if capital != name:
                facts.append(Fact("capital_zh", name, capital))
    return facts


def divisions_zh(jionlp: Path, towns: bool) -> tuple[list[Fact], list[str]]:
    """Cities and counties of China as facts; and, where `towns` are wanted, a line of text for every county's towns."""
    facts: list[Fact] = []
    lines: list[str] = []
    here = ["", "", ""]  # province, city, county
    names: list[str] = []

    def finish_county() -> None:
        if towns and names:
            lines.append(f"{_full(here)}下辖{'、'.join(names)}。")
        names.clear()

    for line in read_zipped_text(jionlp, "jionlp/dictionary/china_location.zip").splitlines():
        if line.startswith("\t\t\t" if not towns else "\t\t\t\t"):
            continue  # nineteen lines of twenty are villages
        cells = line.split("\t")
        depth = next(depth for depth, cell in enumerate(cells) if cell)
        if depth == 3:
            names.append(cells[3])
        else:
            finish_county()
            here[depth:] = [cells[depth], *("" for _ in here[depth + 1 :])]
            facts += _division(here, depth)
    finish_county()
    return unambiguous(facts), lines


def countries_en(countryinfo: Path) -> list[Fact]:
    """Capital, region and currency of the members of the United Nations, in English."""
    facts = []
    for _, content in read_members(
        countryinfo, lambda name: name.startswith("countryinfo/data/") and name.endswith(".json")
    ):
        row = json.loads(content)
        if row.get("ISO", {}).get("alpha2") not in known.STATES_ISO2 or not row.get("currencies"):
            continue
        own = row["name"]
        name = known.COUNTRY_NOW_EN.get(own, own).removeprefix("The ")
        name = f"the {name}" if name in known.WITH_ARTICLE_EN else name
        capital = known.CAPITAL_NOW_EN.get(own, row["capital"])
        if own in known.CAPITAL_UNCLEAR_EN or not isinstance(capital, str):
            continue
        facts.append(Fact("region_en", name, _region(row["subregion"])))
        if capital != own:
            facts.append(Fact("capital_en", name, capital))
        currency = known.CURRENCY_NOW.get(own) or known.CURRENCIES.get(row["currencies"][0])
        if currency:
            facts.append(Fact("currency_en", name, currency))
    return unambiguous(facts)


def _division(here: list[str], depth: int) -> list[Fact]:
    province, city, county = here
    if province in _OUTSIDE:
        return []
    if depth == 1 and province not in _MUNICIPALITIES and city.endswith(("市", "州", "盟", "地区")):
        return [Fact("city_zh", city, province)]
    if depth == 2 and _COUNTY.fullmatch(county) and not _NOT_A_COUNTY.search(county):
        return [Fact("county_zh", county, _full([province, city, ""]))]
    return []


def _full(here: list[str]) -> str:
    province, city, county = here
    return province + (city if city != province and "直辖" not in city else "") + county


def _region(subregion: str) -> str:
    return {"South-eastern Asia": "Southeast Asia", "Australia and New Zealand": "Oceania"}.get(subregion, subregion)
