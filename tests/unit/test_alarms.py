"""Alarms of runs that learn by trying: made-up metrics, and which of them are warned of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from minimind.language import speaking
from minimind.training.alarms import LOOKS, Alarm, alarms
from minimind.training.gate import Gate, Measured, fallen, may_fall, share_error

STEPS = 40


def series(val: Mapping[str, Sequence[float]], **train: Sequence[float]) -> dict[str, tuple[list[int], list[float]]]:
    """Metrics of a run of 40 steps. train: from step 1 on; val: spread evenly from step 0 to the last."""
    made = {f"train/{name}": (list(range(1, len(values) + 1)), list(values)) for name, values in train.items()}
    for name, values in val.items():
        made[f"val/{name}"] = [round(at * STEPS / (len(values) - 1)) for at in range(len(values))], list(values)
    return made


def line(begin: float, end: float) -> list[float]:
    """From one value to another over all steps."""
    return [begin + (end - begin) * at / (STEPS - 1) for at in range(STEPS)]


def settling(begin: float, end: float) -> list[float]:
    """From one value to another, where it stays for the last half."""
    return [*line(begin, end)[::2], *[end] * (STEPS // 2)]


HEALTHY = {
    "loss": line(0.2, 0.1),
    "entropy": line(1.1, 0.4),
    "answer_tokens": line(10, 12),
    "cut_off": line(0.02, 0.0),
    "no_signal": line(0.3, 0.75),
    "repetition": line(0.05, 0.07),
    "gap": line(1e-5, 1e-5),
    "gap_clipped": line(0, 0),
    "kl": line(0, 0.05),
}
RIGHT = {"right": (0.05, 0.3, 0.6, 0.8), "reward": (0.1, 0.4, 0.6, 0.8), "right_known": (1.0, 1.0, 1.0, 1.0)}


def raised(
    val: Mapping[str, Sequence[float]] | None = None, prompts: int = 200, /, **train: Sequence[float]
) -> list[str]:
    found = alarms(series({**RIGHT, **(val or {})}, **{**HEALTHY, **train}), prompts)
    assert all(alarm.text for alarm in found)
    return [alarm.cause for alarm in found]


def test_a_healthy_run_raises_none() -> None:
    assert raised() == []
    assert alarms({}, 0) == []
    for seen in range(1, STEPS):
        cut = {
            name: (
                [step for step in steps if step <= seen],
                [v for s, v in zip(steps, values, strict=True) if s <= seen],
            )
            for name, (steps, values) in series(RIGHT, **HEALTHY).items()
        }
        assert alarms(cut, 200) == [], seen


@pytest.mark.parametrize(
    ("cause", "val", "train"),
    [
        ("collapse", {}, {"entropy": settling(0.5, 0.0)}),
        ("no_signal", {}, {"no_signal": settling(0.5, 1.0)}),
        ("length", {"right": (0.5, 0.5, 0.45, 0.5)}, {"answer_tokens": line(10, 30)}),
        ("cut_off", {}, {"cut_off": line(0, 0.5)}),
        ("proxy", {"right": (0.5, 0.6, 0.55, 0.5), "reward": (0.6, 0.8, 0.9, 1.2)}, {}),
        ("kl", {}, {"kl": line(0, 1.0)}),
        ("repetition", {}, {"repetition": line(0.05, 0.6)}),
        ("gap", {}, {"gap": line(1e-5, 0.3)}),
        ("gap", {}, {"gap_clipped": line(0, 0.05)}),
        ("not_judged", {}, {"not_judged_python": line(0, 1.0), "not_judged_exact": line(0, 0)}),
    ],
)
def test_each_cause_raises_its_alarm(
    cause: str, val: Mapping[str, Sequence[float]], train: Mapping[str, Sequence[float]]
) -> None:
    if cause == "collapse":
        train = {**train, "no_signal": settling(0.5, 1.0)}
        assert raised(val, 200, **train) == ["collapse", "no_signal"]
    else:
        assert raised(val, 200, **train) == [cause]


def test_what_looks_like_trouble_and_is_none() -> None:
    learnt = {"right": (0.1, 0.5, 0.9, 0.99), "reward": (0.1, 0.5, 0.9, 0.99)}
    assert raised(learnt, entropy=settling(0.5, 0.0), no_signal=settling(0.5, 1.0)) == ["learnt"]
    assert raised(loss=line(0.2, 0.001)) == ["loss"]
    calm = [alarm for alarm in alarms(series(learnt, loss=line(0, 0), no_signal=line(1, 1)), 9) if alarm.calm]
    assert [alarm.cause for alarm in calm] == ["loss", "learnt"]
    # Longer answers of which more are right are what was asked for.
    assert raised(answer_tokens=line(10, 40)) == []
    # So is a reward that rises while right answers wobble by chance.
    assert raised({"right": (0.5, 0.6, 0.58, 0.58), "reward": (0.5, 0.8, 0.9, 1.0)}) == []
    assert raised({"right": (0.5, 0.6, 0.5, 0.5), "reward": (0.5, 0.8, 0.8, 0.81)}) == []
    assert raised({"right": (0.5, 0.6, 0.55, 0.5), "reward": (0.6, 0.8, 0.9, 1.2)}, 15) == []
    # Where the reward falls with them nothing is cheated.
    assert raised({"right": (0.5, 0.6, 0.55, 0.5), "reward": (0.5, 0.6, 0.55, 0.5)}) == []
    # A list of numbers repeats some by itself.
    assert raised(repetition=line(0.4, 0.45)) == []


def test_a_term_that_mostly_fails_between_two_validations_is_named_with_its_last_problem() -> None:
    begins, ends = [1.0] * 10 + [0.0] * (STEPS - 10), [0.0] * (STEPS - 9) + [1.0] * 9
    half = [1.0, 0.0] * (STEPS // 2)
    assert raised(not_judged_judge=begins) == []
    assert raised(not_judged_judge=half) == []
    found = series(RIGHT, not_judged_judge=ends, not_judged_judge_2=half)
    (alarm,) = alarms(found, 200, {"judge": "HTTP 500", "judge_2": "another"})
    assert "The reward judge could not judge 69 % of the answers since the validation before: HTTP 500." in alarm.text
    (alarm,) = alarms(found, 200)
    assert ": the notes of the run have the reason." in alarm.text
    # Between validations there is nothing to count yet.
    cut = {name: values for name, values in found.items() if not name.startswith("val/")}
    assert alarms(cut | {"val/right": ([0], [0.5]), "val/right_known": ([0], [1.0])}, 200) == []
    # Where the term says what is right a validation may have no share of right answers.
    unknown = series({**RIGHT, "right_known": (1.0, 1.0, 1.0, 0.0)}, not_judged_judge=ends)
    unknown["val/right"] = unknown["val/right"][0][:-1], unknown["val/right"][1][:-1]
    assert [alarm.cause for alarm in alarms(unknown, 200)] == ["not_judged"]


def test_nothing_is_said_of_a_few_steps() -> None:
    few = {name: values[:3] for name, values in {**HEALTHY, "cut_off": line(1, 1), "entropy": line(0, 0)}.items()}
    assert alarms(series({"right": (0.1, 0.1)}, **few), 200) == []


def test_stages_without_groups_collapse_too() -> None:
    without = {name: values for name, values in HEALTHY.items() if name != "no_signal"}
    found = alarms(series(RIGHT, **{**without, "entropy": settling(0.5, 0.0)}), 200)
    assert [alarm.cause for alarm in found] == ["collapse"]


def test_each_alarm_has_chinese_words() -> None:
    bad: dict[str, Sequence[float]] = {
        "loss": line(0, 0), "entropy": line(0, 0), "no_signal": line(1, 1), "cut_off": line(1, 1), "kl": line(1, 1),
        "answer_tokens": line(5, 50), "repetition": line(0, 0.9), "gap": line(1, 1), "gap_clipped": line(1, 1),
        "not_judged_python": line(1, 1),
    }  # fmt: skip
    worse = {**RIGHT, "right": (0.5, 0.4, 0.3, 0.2), "reward": (0.1, 0.4, 0.8, 1.0)}
    with speaking("zh"):
        found: list[Alarm] = alarms(series(worse, **bad), 200)
    assert len(found) == len(LOOKS)
    assert all(any("\u4e00" <= sign <= "\u9fff" for sign in alarm.text) for alarm in found)


def test_a_fall_counts_beyond_the_tolerance_and_beyond_chance() -> None:
    gate = Gate()
    assert share_error(0.5, 0.5, 200) == pytest.approx(0.05)
    assert may_fall(gate.right, 0.5, 0.5, 10_000) == 0.1
    assert may_fall(gate.right, 0.8, 0.6, 20) == pytest.approx(2 * (2 * 0.7 * 0.3 / 20) ** 0.5)
    assert fallen(gate, 1.0, 0, 0, Measured(0.0, 1)) is None  # of one prompt nothing is sure
    assert fallen(gate, 0.8, 0.0, 0.0, Measured(0.71, 1000)) is None
    assert fallen(gate, 0.8, 0.0, 0.0, Measured(0.69, 1000)) == "right"
    assert fallen(gate, 0.8, 0.0, 0.0, Measured(0.69, 20)) is None
    assert fallen(gate, 0.8, 2.0, 0.0, Measured(0.8, 1000, 2.19)) is None
    assert fallen(gate, 0.8, 2.0, 0.0, Measured(0.8, 1000, 2.21)) == "text"
    assert fallen(gate, 0.8, 0.0, 0.0, Measured(0.8, 1000, 9.0)) is None
    assert fallen(gate, 0.8, 2.0, 0.0, Measured(0.8, 1000)) is None
    assert fallen(gate, 0.8, 0.0, 0.6, Measured(0.8, 1000, facts=0.51, questions=1000)) is None
    assert fallen(gate, 0.8, 0.0, 0.6, Measured(0.8, 1000, facts=0.49, questions=1000)) == "facts"
    assert fallen(gate, 0.8, 0.0, 0.6, Measured(0.8, 1000, facts=0.49, questions=20)) is None
