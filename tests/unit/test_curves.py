from __future__ import annotations

import math
from pathlib import Path

import pytest
from matplotlib import image

from jobs.terminal.curves import picture, smooth, terminal_curve
from minimind.language import speaking

STEPS = list(range(10, 1001, 10))
VALUES = [2 + 6 * math.exp(-step / 200) for step in STEPS]


def columns_of(line: str) -> list[int]:
    """Where the drawing of a line has dots, right of its axis."""
    drawing = line.replace("┤", "│").replace("+", "|").replace("│", "|").split("|", 1)[1]
    return [index for index, character in enumerate(drawing) if character != " "]


@pytest.mark.parametrize("braille", [True, False])
def test_the_terminal_curve_falls_from_left_to_right_between_its_labels(braille: bool) -> None:
    text = terminal_curve(
        "train/loss", STEPS, VALUES, unit="nats/token", last_step=1000, width=70, height=10, braille=braille
    ).plain
    title, *rows, axis, labels = text.splitlines()
    assert len(rows) == 10
    assert max(map(len, rows)) <= 70
    assert title.startswith("train/loss  nats/token   7.707")
    assert title.endswith("2.04")
    assert rows[0].split()[0] == "7.71"
    assert rows[-1].split()[0] == "2.04"
    assert columns_of(rows[0])[0] <= 1
    middles = [sum(columns_of(row)) / len(columns_of(row)) for row in rows]
    assert middles == sorted(middles)
    assert axis.endswith("step")
    assert labels.split()[0] == "0"
    assert labels.split()[-1] == "1000"
    assert text.isascii() != braille


def test_a_shorter_run_ends_in_the_middle_and_resumes_are_marked() -> None:
    text = terminal_curve("train/loss", STEPS, VALUES, last_step=2000, width=70, resumed=[1000, 2000]).plain
    *_, row, axis, _ = text.splitlines()
    assert 28 <= max(columns_of(row)) <= 32
    drawing = axis.split("└")[1]
    assert drawing.count("▲") == 2
    assert drawing.index("▲") in (27, 28, 29)


def test_odd_curves_can_be_drawn() -> None:
    assert "no metrics yet" in terminal_curve("train/loss", [1], [math.nan], last_step=1).plain
    with speaking("zh"):
        assert "还没有指标" in terminal_curve("train/loss", [], [], last_step=1).plain
    assert "2.5 → 2.5" in terminal_curve("train/loss", [0], [2.5], last_step=0).plain
    flat = terminal_curve("train/loss", [1, 2], [3.0, 3.0], last_step=2).plain
    assert flat.splitlines()[1].split()[0] == "3.50"
    gap = terminal_curve("train/loss", [1, 2, 3], [3.0, math.inf, 1.0], last_step=3).plain
    assert gap.splitlines()[1].split()[0] == "3.00"
    assert "1.23M" in terminal_curve("perf/tokens_per_s", [1, 2], [1.234e6, 1e6], last_step=2).plain


def test_in_chinese() -> None:
    with speaking("zh"):
        text = terminal_curve("val/bits_per_byte", STEPS, VALUES, unit="bits/byte", last_step=1000, width=60).plain
    assert "比特/字节" in text
    assert "步数" in text


def test_smooth_is_centred_and_keeps_length_and_lines() -> None:
    line = [float(index) for index in range(300)]
    assert smooth(line) == pytest.approx(line)
    assert smooth(line[:59]) == line[:59]
    noisy = [(-1.0) ** index for index in range(400)]
    assert max(map(abs, smooth(noisy)[10:-10])) < 0.2


def test_the_picture_is_written_with_what_there_is(tmp_path: Path) -> None:
    train = {"train/loss": (STEPS, VALUES)}
    validation = {"val/loss": (STEPS[::20], VALUES[::20]), "val/bits_per_byte": (STEPS[::20], VALUES[::20])}
    path = tmp_path / "curve.png"
    assert picture(path, "a run", train | validation, resumed=[300, 310, 320, 330, 340]) == path
    tall = image.imread(path).shape
    assert picture(path, "a run", train) == path
    wide = image.imread(path).shape
    assert tall[1] == wide[1] > 1000
    assert tall[0] > wide[0]
    assert picture(tmp_path / "none.png", "a run", {"train/loss": ([1], [math.nan])}) is None
    assert picture(tmp_path / "none.png", "a run", {"perf/step_s": ([1], [0.5])}) is None
    assert not (tmp_path / "none.png").exists()


def test_a_run_that_tries_has_its_reward_drawn_and_not_its_loss(tmp_path: Path) -> None:
    reward = {"train/reward": (STEPS, VALUES), "val/reward": (STEPS[::20], VALUES[::20])}
    tried = reward | {"val/right": (STEPS[::20], VALUES[::20])}
    for name, series in {
        "a.png": tried | {"train/loss": (STEPS, VALUES)},
        "b.png": tried | {"train/loss": (STEPS, [0.0] * len(STEPS))},
        "c.png": tried | {"val/right": (STEPS[::20], [0.5] * len(STEPS[::20]))},
    }.items():
        picture(tmp_path / name, "a run", series)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes() != (tmp_path / "c.png").read_bytes()


def test_equal_curves_give_equal_pictures(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        picture(tmp_path / name, "a run", {"train/loss": (STEPS, VALUES)})
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_chinese_labels_need_a_chinese_font(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one the labels are English: a warning about missing glyphs would be an error here."""
    monkeypatch.setattr("jobs.terminal.curves._CJK_FONTS", ())
    monkeypatch.setattr("jobs.terminal.curves._WINDOWS_FONT", tmp_path / "none")
    series = {"train/loss": (STEPS, VALUES)}
    with speaking("zh"):
        picture(tmp_path / "zh.png", "a run", series)
    picture(tmp_path / "en.png", "a run", series)
    assert (tmp_path / "zh.png").read_bytes() == (tmp_path / "en.png").read_bytes()
