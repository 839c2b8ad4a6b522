"""Faults that are planted in copies of a good model: a comparison finds each of them, and nothing where there is none.

What 5 % of noise does depends on the model: here it takes more than the numbers vary by (see planted.noisy), and the
bundled suites find 5 % of what they vary by in the demo's model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from data.suite import Rows
from jobs.evaluation.compare import Compared, asked_otherwise, compare, ranked
from jobs.evaluation.view import verdict_of
from jobs.runs.evals import EvalLog
from tests import planted
from tests.planted import Taught

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SEEDS = range(5)


@dataclass(frozen=True)
class World:
    """The models, the suites, and what these say of the good one."""

    young: Taught
    good: Taught
    adapted: Sequence[tuple[Taught, Taught]]
    rows: list[Rows]
    base: list[EvalLog]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    young, good = planted.taught()
    adapted = [planted.adapted(young, seed) for seed in SEEDS]
    folder = tmp_path_factory.mktemp("world")
    rows = planted.rows(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIMIND_HOME", str(folder))
        base = planted.logs(good, rows, "good")
    return World(young, good, adapted, rows, base)


def against(a: list[EvalLog], b: list[EvalLog]) -> list[Compared]:
    return compare(list(zip(a, b, strict=True)))


def verdicts(compared: Sequence[Compared]) -> dict[str, str]:
    return {one.a.suite: verdict_of(one.whole) for one in compared}


def worst_group(compared: Sequence[Compared]) -> tuple[str | None, str]:
    """The field and value of what is ranked first of all that differs, which got worse."""
    _, first = ranked(compared)[0]
    assert verdict_of(first) == "worse"
    return first.field, first.value


def test_the_good_model_is_good(world: World) -> None:
    assert {log.suite: log.score for log in world.base if log.suite != "prose"} == {"facts": 1.0, "pairs": 1.0}


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("seed", SEEDS)
class TestFaults:
    def test_the_end_is_never_written(self, world: World, seed: int) -> None:
        facts, *_ = compared = against(world.base, planted.logs(planted.without_end(world.good, seed), world.rows, "b"))
        assert verdicts(compared)["facts"] == "worse"
        assert "never_ends" in facts.regressions[0].b["diagnoses"]
        assert next(iter(facts.b.summary["diagnoses"])) == "never_ends"

    def test_noise_on_the_weights(self, world: World, seed: int) -> None:
        compared = against(world.base, planted.logs(planted.noisy(world.good, seed), world.rows, "b"))
        assert verdicts(compared)["prose"] == "worse"

    def test_an_adapter_at_twice_its_strength(self, world: World, seed: int) -> None:
        once, twice = (planted.logs(one, world.rows, "b") for one in world.adapted[seed])
        compared = against(once, twice)
        assert verdicts(compared)["prose"] == "worse"
        assert "better" not in verdicts(compared).values()

    def test_a_language_is_lost(self, world: World, seed: int) -> None:
        compared = against(world.base, planted.logs(planted.without_chinese(world.good, seed), world.rows, "b"))
        assert verdicts(compared) == {"facts": "worse", "prose": "worse", "pairs": "worse"}
        assert worst_group(compared) == ("language", "zh")
        assert all(one.regressions[0].a["groups"]["language"] == "zh" for one in compared)

    def test_a_table_is_shuffled(self, world: World, seed: int) -> None:
        facts, prose, pairs = compared = against(
            world.base, planted.logs(planted.mistaught(world.good, seed), world.rows, "b")
        )
        assert verdicts(compared)["facts"] == verdicts(compared)["prose"] == "worse"
        assert worst_group(compared) == ("topic", "elements")
        assert all(one.regressions[0].a["groups"]["topic"] == "elements" for one in (facts, prose, pairs))
        assert facts.regressions[0].b["diagnoses"] == ["lost_fact"]

    def test_the_chat_template_lacks_a_line_break(self, world: World, seed: int, tmp_path: Path) -> None:
        good, _ = world.adapted[seed]
        wrong = planted.off_by_a_newline(good, tmp_path / "tokenizer")
        compared = against(*(planted.logs(one, world.rows, "b") for one in (good, wrong)))
        assert verdicts(compared) == {"facts": "worse", "prose": "cannot tell", "pairs": "cannot tell"}
        assert asked_otherwise(compared) == [
            "The two have different chat templates: a difference in answers may come from that alone."
        ]

    def test_a_row_of_the_vocabulary_is_zeros(self, world: World, seed: int) -> None:
        broken, token = planted.truncated(world.good, seed)
        facts, prose, _ = compared = against(world.base, planted.logs(broken, world.rows, "b"))
        assert verdicts(compared)["facts"] == verdicts(compared)["prose"] == "worse"
        assert worst_group(compared) == ("language", "en" if token.isascii() else "zh")
        assert token in facts.regressions[0].a["expected"]
        assert token in prose.regressions[0].a["prompt"]

    def test_it_is_asked_at_a_high_temperature(self, world: World, seed: int, tmp_path: Path) -> None:
        rows = planted.rows(tmp_path, temperature=1.5, seed=seed)
        compared = against(world.base, planted.logs(world.good, rows, "b"))
        assert verdicts(compared) == {"facts": "worse", "prose": "cannot tell", "pairs": "cannot tell"}
        assert asked_otherwise(compared) == ["The two were not asked alike: facts changed in between."]


@pytest.mark.usefixtures("home")
def test_nothing_is_found_where_there_is_nothing(world: World) -> None:
    compared = against(world.base, planted.logs(world.good.copied(), world.rows, "b", slots=5))
    assert not any(one.cases and (one.regressions or one.gains) for one in compared)
    assert ranked(compared) == []
    assert set(verdicts(compared).values()) == {"cannot tell"}
    assert asked_otherwise(compared) == []


@pytest.mark.usefixtures("home")
def test_two_samplings_of_one_model_are_not_told_apart(world: World, tmp_path: Path) -> None:
    drawn = [
        planted.logs(world.young, planted.rows(tmp_path, temperature=0.7, seed=seed)[:1], "b") for seed in range(40)
    ]
    found = [against(a, b) for a, b in zip(drawn[::2], drawn[1::2], strict=True)]
    assert all(one.regressions and one.gains for (one,) in found)
    told = [verdicts(one)["facts"] for one in found]
    assert told.count("cannot tell") >= 18
    assert sum(not ranked(one) for one in found) >= 18
