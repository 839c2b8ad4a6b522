"""Which prompts can be learnt from, and what is said where none can."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from minimind.language import speaking
from minimind.training.signal import Signal, Standing, signal


def found(rewards: Sequence[Sequence[float]], rights: Sequence[Sequence[int]]) -> tuple[Standing, ...]:
    group_A = np.repeat(np.arange(len(rewards)), [len(group) for group in rewards])
    reward_A = np.array([value for group in rewards for value in group], np.float64)
    right_A = np.array([value for group in rights for value in group], np.bool_)
    return signal(reward_A, right_A, group_A).standings


def test_a_prompt_has_signal_where_its_answers_are_worth_different_things() -> None:
    rewards: list[list[float]] = [[1, 0], [1, 1, 1], [0, 0], [0.2, 0.2], [0.2, 0.0, 0.2], [0, 0]]
    rights = [[1, 0], [1, 1, 1], [0, 0], [0, 0], [0, 0, 0], [1, 0]]
    standings = found(rewards, rights)
    assert standings == ("signal", "all_right", "all_wrong", "all_wrong", "signal", "equal")
    assert Signal(standings).counts == {"signal": 2, "all_right": 1, "all_wrong": 2, "equal": 1}
    assert Signal(standings).advice == ""
    assert found([], []) == ()


@pytest.mark.parametrize(
    ("standings", "said"),
    [
        (["all_right"] * 3, ["No prompt of 3 has signal", "Always right, 3 prompts: too easy"]),
        (["all_wrong"] * 2, ["No prompt of 2 has signal", "Never right, 2 prompts: too hard. More SFT comes first"]),
        (
            ["all_wrong", "all_right", "equal"],
            ["No prompt of 3 has signal", "Always right, 1", "Never right, 1", "Worth the same, right or wrong, 1"],
        ),
        ([], []),
    ],
)
def test_where_none_has_signal_it_says_what_to_do(standings: list[Standing], said: list[str]) -> None:
    lines = Signal(tuple(standings)).advice.splitlines()
    assert len(lines) == len(said)
    assert all(line.startswith(begins) for line, begins in zip(lines, said, strict=True))
    with speaking("zh"):
        assert Signal(("all_wrong",)).advice.startswith("1 个问题都没有信号")


def test_where_nobody_knows_what_is_right_it_speaks_of_worth_alone() -> None:
    found = signal(np.array([1.0, 1.0, 0.0, 1.0]), None, np.array([0, 0, 1, 1]))
    assert found.standings == ("equal", "signal")
