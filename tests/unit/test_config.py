from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field, ValidationError, model_validator

from minimind.config import Config, explain, override
from minimind.training.optim import OptimConfig


class Inner(Config):
    rate: float = Field(default=0.1, gt=0)
    label: str = "a"
    kind: Literal["x", "y"] = "x"
    flag: bool = False
    limit: int | None = None
    parts: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Inner:
        if self.flag and self.limit is None:
            raise ValueError("flag = True needs a limit")
        return self


class Outer(Config):
    inner: Inner = Inner()
    other: Inner | None = None
    count: int = Field(default=3, ge=1)
    path: Path = Path("data")


def test_config_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Outer().count = 4


def test_config_refuses_unknown_keys_and_bad_defaults() -> None:
    class Bad(Config):
        count: int = Field(default=0, ge=1)

    with pytest.raises(ValidationError, match="extra"):
        Outer.model_validate({"cuont": 3})
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        Bad()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_config_refuses_numbers_that_are_not_finite(value: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        Inner(rate=value)


def test_override_changes_only_the_named_values_and_leaves_the_original() -> None:
    before = Outer()
    after = override(before, {"inner.rate": 0.5, "count": 7})
    assert after == Outer(inner=Inner(rate=0.5), count=7)
    assert before == Outer()


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("count", "7", 7),
        ("inner.rate", "1e-3", 0.001),
        ("inner.flag", "false", False),
        ("inner.limit", "null", None),
        ("inner.limit", "5", 5),
        ("inner.parts", "[1, 2]", (1, 2)),
        ("inner.label", "b", "b"),
        ("inner.label", "123", "123"),
        ("inner.label", "true", "true"),
        ("inner.label", '"null"', "null"),
        ("inner.label", "[draft", "[draft"),
        ("inner.kind", "y", "y"),
        ("path", "2024", Path("2024")),
        ("other", '{"rate": 2}', Inner(rate=2)),
    ],
)
def test_override_reads_texts_by_the_type_of_the_setting(path: str, text: str, value: object) -> None:
    node: object = override(Outer(inner=Inner(limit=1)), {path: text})
    for part in path.split("."):
        node = getattr(node, part)
    assert node == value


def test_a_list_or_an_object_that_is_none_is_told_how_it_is_written() -> None:
    class Terms(Config):
        terms: tuple[dict[str, int], ...] = ()

    for value in ("length", "[{'is': 1}]"):
        with pytest.raises(ValueError, match="a list in JSON is expected, in square brackets, with double quotes"):
            override(Terms(), {"terms": value})
    with pytest.raises(ValueError, match=r"terms\.0 = 'length': an object in JSON is expected, in braces"):
        override(Terms(), {"terms": '["length"]'})


def test_override_lists_every_problem_at_once() -> None:
    with pytest.raises(ValueError, match="no setting") as caught:
        override(
            Outer(),
            {"iner.rate": 1, "inner.rat": 1, "count.x": 1, "inner.rate": -1, "inner.kind": "z", "count": "many"},
        )
    lines = str(caught.value).splitlines()
    assert lines[0] == "iner.rate: no setting 'iner' at the top level; names there: inner"
    assert lines[1].startswith("inner.rat: no setting 'rat' in 'inner'; names there: ")
    assert "rate" in lines[1]
    assert lines[2] == "count.x: no setting 'x' in 'count'; 'count' is a single value (3) and has no parts"
    assert lines[3] == "inner.rate = -1: Input should be greater than 0"
    assert lines[4] == "inner.kind = 'z': Input should be 'x' or 'y'"
    assert lines[5].startswith("count = 'many': Input should be a valid integer")
    assert len(lines) == 6


def test_override_names_all_neighbours_where_none_is_near() -> None:
    with pytest.raises(ValueError, match="names there: count, inner, other, path"):
        override(Outer(), {"zzz": 1})


def test_override_says_that_there_are_no_neighbours() -> None:
    with pytest.raises(ValueError, match="lr_scale.a.b: no setting 'a' in 'lr_scale'; names there: none"):
        override(OptimConfig(), {"lr_scale.a.b": "1"})


@pytest.mark.parametrize("path", ["", ".", "inner.", ".inner", "inner..rate"])
def test_override_refuses_broken_paths(path: str) -> None:
    with pytest.raises(ValueError, match="no setting ''"):
        override(Outer(), {path: 1})


def _errors(values: object) -> str:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(values)
    return explain(caught.value)


def test_explain_gives_path_value_and_what_is_wrong() -> None:
    assert _errors({"count": 0, "inner": {"rate": "fast"}}).splitlines() == [
        "inner.rate = 'fast': Input should be a valid number, unable to parse string as a number",
        "count = 0: Input should be greater than or equal to 1",
    ]


def test_explain_says_that_a_key_is_unknown() -> None:
    assert _errors({"cuont": 1}) == "cuont = 1: there is no such setting"


def test_explain_leaves_the_values_of_a_section_to_its_own_validator() -> None:
    assert _errors({"inner": {"flag": True}}) == "inner: flag = True needs a limit"


def test_explain_names_what_is_missing_and_says_what_a_section_says_itself() -> None:
    class Needs(Config):
        name: str

        @model_validator(mode="after")
        def _check(self) -> Needs:
            raise ValueError("never right")

    with pytest.raises(ValidationError) as missing:
        Needs.model_validate({})
    assert explain(missing.value) == "name: Field required"
    with pytest.raises(ValidationError) as whole:
        Needs(name="x")
    assert explain(whole.value) == "never right"
