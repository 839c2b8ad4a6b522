from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.stages.table import STAGES
from tune_spaces import SPACES
from tune_spaces.distribution import Choices, LogUniform, read_space


def test_each_space_is_around_what_the_stage_does() -> None:
    spec = STAGES["lora"].preset("30m")
    spaces = {name: make(spec.loop, spec.optim, spec.data.max_seq_len) for name, make in SPACES.items()}
    widths, rows = (spaces["batch"][path].ends for path in ("data.max_seq_len", "loop.batch_size"))
    assert widths == (128, 256, 512)
    assert rows == (1, 2, 4, 8, 16, 32, 64, 128)
    for name in ("rate", "rank"):
        low, high = spaces[name]["optim.learning_rate"].ends
        assert low < spec.optim.learning_rate < high
    assert spec.adapter is not None
    assert spec.adapter.rank in spaces["rank"]["adapter.rank"].ends
    assert spec.optim.schedule in spaces["rate"]["optim.schedule"].ends


def test_a_short_row_is_not_made_shorter_than_is_of_use() -> None:
    spec = STAGES["pretrain"].preset("tiny")
    assert SPACES["batch"](spec.loop, spec.optim, 100)["data.max_seq_len"].ends == (100,)


def test_a_space_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "space.json"
    path.write_text(json.dumps({"loop.batch_size": [1, 2], "optim.learning_rate": {"low": 1e-4, "high": 1e-2}}))
    assert read_space(path) == {
        "loop.batch_size": Choices(choices=(1, 2)),
        "optim.learning_rate": LogUniform(low=1e-4, high=1e-2),
    }


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "cannot be read"),
        ("[1]", "it holds one object, dotted path -> values"),
        ("{}", "it holds one object"),
        ('{"loop.batch_size": []}', "loop.batch_size = .*: a list of values"),
        ('{"loop.batch_size": 4}', "a list of values, or a range of numbers"),
        ('{"optim.learning_rate": {"low": 1, "high": 0.1}}', "high = 0.1 must be more than low = 1.0"),
        ('{"optim.learning_rate": {"low": 0, "high": 0.1}}', "low"),
    ],
)
def test_a_file_that_is_no_space_is_refused(tmp_path: Path, content: str, complaint: str) -> None:
    path = tmp_path / "space.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=complaint):
        read_space(path)
