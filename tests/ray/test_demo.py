"""The whole demo on the bundled samples: from text to answers over HTTP."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from data.stock.build import build_samples
from jobs import __main__ as cli
from jobs import paths, serve
from jobs.cluster import Cluster
from jobs.runs import RunDirectory
from jobs.stock import stock_folder


def test_the_demo_goes_from_text_to_answers(
    ray_cluster: Cluster, ray_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build_samples(stock_folder())  # they are there already, so nothing is fetched
    assert cli.minimind(["demo", "--keep", "0"]) == 0
    said = capsys.readouterr().out
    assert "各国首都" in said
    before, after = map(float, re.findall(r"never saw: ([\d.]+) before, ([\d.]+) after", said)[0])
    assert after < before
    right, asked = map(int, re.findall(r"完全匹配率: \d+ % \((\d+) / (\d+)\)", said)[0])
    assert 0 <= right <= asked == 72
    assert said.count("✓") + said.count("✗") == 8
    for name, stage in (("demo", "pretrain"), ("demo-chat", "sft")):
        run = RunDirectory.find(paths.runs(), name)
        assert (run.state().word, run.spec()["stage"]["kind"]) == ("SUCCEEDED", stage)
    assert serve.running_url() is None  # --keep 0 has ended it
