from __future__ import annotations

import math
import struct
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from jobs.runs.tensorboard import TensorBoard
from tests.disk import files_limited_to


def read(path: Path) -> list[Event]:
    """The events of a file of TFRecords."""
    content, events = path.read_bytes(), []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        events.append(Event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    return events


def test_rows_are_in_the_file_as_soon_as_they_are_added(tmp_path: Path) -> None:
    with TensorBoard(tmp_path / "tensorboard", 6) as board:
        board.add(6, {"train/loss": 2.5, "train/lr": math.nan})
        (path,) = (tmp_path / "tensorboard").iterdir()
        assert path.name.startswith("events.out.tfevents.")
        version, start, row = read(path)
    assert version.file_version == "brain.Event:2"
    assert (start.step, start.session_log.status) == (6, SessionLog.START)
    values = {value.tag: value.simple_value for value in row.summary.value}
    assert row.step == 6
    assert row.wall_time > 1.7e9
    assert values["train/loss"] == 2.5
    assert math.isnan(values["train/lr"])


def test_a_full_disk_is_an_error_and_not_a_silence(tmp_path: Path) -> None:
    with (
        TensorBoard(tmp_path / "tensorboard", 0) as board,
        files_limited_to(10),
        pytest.raises(OSError, match="File too large"),
    ):
        board.add(1, {"train/loss": 1.0})
