from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.stages.spec import RunSpec
from jobs.stages.table import STAGES
from jobs.stages.weights import policy_shape
from jobs.sweeps.feasible import groups, require_space, space_of
from minimind.config import override
from tune_spaces import SPACES
from tune_spaces.distribution import Choices, Largest, LogUniform, read_space


def test_each_space_is_around_what_the_stage_does() -> None:
    spec = STAGES["lora"].preset("30m")
    spaces = {name: space_of(name, spec) for name in SPACES}
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
    spec = override(STAGES["pretrain"].preset("tiny"), {"data.max_seq_len": 100})
    assert space_of("batch", spec)["data.max_seq_len"].ends == (100,)


@pytest.mark.parametrize("model", ["tiny", "30m", "123m"])
def test_sizes_are_around_the_model_and_can_all_be_made(model: str) -> None:
    spec = STAGES["pretrain"].preset(model)
    space = space_of("size", spec)
    require_space(spec, space)
    found = groups(spec, space, lambda run: True)
    sizes = [policy_shape(override(spec, group.points[0])).parameter_count() for group in found]
    assert len(found) == 25
    assert sizes == sorted(sizes)  # alike is near, for the searcher
    assert sizes[0] < policy_shape(spec).parameter_count() / 3
    assert sizes[-1] > policy_shape(spec).parameter_count() * 3
    for group in found:
        assert [point["loop.batch_size"] for point in group.points] == [spec.loop.batch_size]


def test_of_a_size_as_many_rows_at_once_as_fit() -> None:
    spec = STAGES["pretrain"].preset("30m")

    def fits(run: RunSpec) -> bool:
        return run.model.num_hidden_layers * run.loop.batch_size <= 32

    found = groups(spec, space_of("size", spec), fits)
    rows = {(p["model.num_hidden_layers"], p["loop.batch_size"]) for group in found for p in group.points}
    assert rows == {(4, 8), (6, 4), (8, 4), (12, 2), (16, 2)}
    assert all(point["loop.batch_size"] * point["loop.accumulation_steps"] == 32 for g in found for point in g.points)
    odd = override(spec, {"loop.batch_size": 6, "loop.accumulation_steps": 2})
    assert {p["loop.batch_size"] for g in groups(odd, space_of("size", odd), lambda run: True) for p in g.points} == {6}
    (refused, *_) = groups(spec, space_of("size", spec), lambda run: False)
    assert (refused.feasible, [point["loop.batch_size"] for point in refused.refused]) == ((), [1])


def test_weights_that_are_there_have_their_shape() -> None:
    spec = override(STAGES["sft"].preset("tiny"), {"init_from": "pretrain"})
    with pytest.raises(ValueError, match=r"model.hidden_size: a stage that begins with weights has their shape"):
        require_space(spec, space_of("size", spec))
    with pytest.raises(ValueError, match=r"data.max_seq_len: only loop.batch_size may be the largest that fits"):
        require_space(spec, {"data.max_seq_len": Largest(largest=(64, 128))})


def test_a_space_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "space.json"
    content = {
        "loop.batch_size": {"largest": [1, 2]},
        "data.max_seq_len": [64, 128],
        "optim.learning_rate": {"low": 1e-4, "high": 1e-2},
    }
    path.write_text(json.dumps(content))
    assert read_space(path) == {
        "loop.batch_size": Largest(largest=(1, 2)),
        "data.max_seq_len": Choices(choices=(64, 128)),
        "optim.learning_rate": LogUniform(low=1e-4, high=1e-2),
    }


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "cannot be read"),
        ("[1]", "it holds one object, dotted path -> values"),
        ("{}", "it holds one object"),
        ('{"loop.batch_size": []}', "loop.batch_size = .*: a list of values"),
        ('{"loop.batch_size": {"largest": []}}', "loop.batch_size = .*: a list of values"),
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
