from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs import paths
from jobs.demo.demo import PRETRAIN_RUN, is_outdated, verdict
from jobs.paths import stock_folder
from jobs.runs.directory import RunDirectory
from jobs.stock import VERSION, build_samples
from minimind.language import speaking


@pytest.mark.parametrize(
    ("by_turn", "worse", "english", "chinese"),
    [
        (
            (0.9, 0.8, 0.7),
            0.25,
            "whether it is asked first or later; and it has kept",
            "不论第几个问，它都能答对；普通文本也没有忘掉",
        ),
        ((0.9, 0.1, 0.7), 0.1, "later ones less often (10 %); and it has kept", "（10 %）；普通文本也没有忘掉"),
        ((0.69, 0.9, 0.9), 0.1, "not learnt its facts well; and it has kept", "还没有学好这些知识"),
        ((0.9, 0.8, 0.7), 0.26, "first or later; and it has forgotten some", "普通文本忘掉了一些"),
    ],
)
def test_the_verdict(by_turn: tuple[float, ...], worse: float, english: str, chinese: str) -> None:
    assert english in verdict(by_turn, worse)
    with speaking("zh"):
        assert chinese in verdict(by_turn, worse)


def test_data_of_an_older_version_is_outdated(home: Path) -> None:
    run = RunDirectory(paths.runs() / PRETRAIN_RUN)
    assert not is_outdated(run)  # the first demo
    build_samples(stock_folder())
    run.create({})
    assert not is_outdated(run)
    overview = stock_folder() / "topics.json"
    for older in ({"version": VERSION - 1}, {}):  # there was a time without versions
        topics = {key: value for key, value in json.loads(overview.read_text("utf-8")).items() if key != "version"}
        overview.write_text(json.dumps(topics | older), "utf-8")
        assert is_outdated(run)
    overview.unlink()
    assert not is_outdated(run)  # fetched again, as it was
