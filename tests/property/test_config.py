from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimind.config import Config, override


class Leaf(Config):
    whole: int = 0
    real: float = 0.0
    text: str = ""
    flag: bool = False
    maybe: int | None = None
    many: tuple[int, ...] = ()


class Branch(Config):
    left: Leaf = Leaf()
    right: Leaf = Leaf()


class Tree(Config):
    low: Branch = Branch()
    leaf: Leaf = Leaf()


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "whole": st.integers(-(2**63), 2**63 - 1),
    "real": st.floats(allow_nan=False, allow_infinity=False),
    "text": st.text().filter(lambda text: text != "null" and text[:1] not in ("[", "{", '"')),
    "flag": st.booleans(),
    "maybe": st.none() | st.integers(0, 1000),
    "many": st.lists(st.integers(-5, 5)).map(tuple),
}
LEAVES = ("low.left", "low.right", "leaf")
CHANGES = st.fixed_dictionaries(
    {}, optional={f"{leaf}.{name}": values for leaf in LEAVES for name, values in VALUES.items()}
)


def at(config: Config, path: str) -> Any:
    node: Any = config
    for part in path.split("."):
        node = getattr(node, part)
    return node


@given(CHANGES)
def test_named_values_change_and_nothing_else(changes: dict[str, Any]) -> None:
    changed = override(Tree(), changes)
    for path in (f"{leaf}.{name}" for leaf in LEAVES for name in VALUES):
        assert at(changed, path) == changes.get(path, at(Tree(), path))


@given(CHANGES)
def test_a_command_line_says_the_same_as_values(changes: dict[str, Any]) -> None:
    texts = {path: value if isinstance(value, str) else json.dumps(value) for path, value in changes.items()}
    assert override(Tree(), texts) == override(Tree(), changes)


@given(CHANGES, CHANGES)
def test_one_after_the_other_is_both_at_once(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert override(override(Tree(), first), second) == override(Tree(), first | second)


@given(st.text().filter(lambda path: path not in {"low", "leaf", "low.left", "low.right"}), st.integers())
def test_any_other_path_is_refused_by_its_name(path: str, value: int) -> None:
    with pytest.raises(ValueError, match="no setting") as caught:
        override(Tree(), {path: value})
    assert str(caught.value).startswith(f"{path}: ")
