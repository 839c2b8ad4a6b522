"""The whole demo on a few facts, asked often enough to be learnt: from text to answers over HTTP."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from jobs import __main__ as cli
from jobs import paths
from jobs.cluster.access import Cluster
from jobs.paths import stock_folder
from jobs.runs.directory import RunDirectory
from jobs.serving import server as serving
from jobs.stock import build
from jobs.stock.scales import SCALES


def test_the_demo_goes_from_text_to_answers(
    ray_cluster: Cluster, ray_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = dataclasses.replace(
        SCALES["sample"], facts=6, problems=4, unknown=4, stories=20, asked=8, asked_held=2, asked_follow=2
    )
    monkeypatch.setitem(SCALES, "sample", few)
    build({}, stock_folder(), scale="sample", epochs=24)  # it is there already, so nothing is fetched
    assert cli.minimind(["demo", "--keep", "0"]) == 0
    said = capsys.readouterr().out
    assert "What the model will learn about: " in said
    before, after = map(float, re.findall(r"never saw: ([\d.]+) before, ([\d.]+) after", said)[0])
    assert after < before
    turns = re.findall(r"asked (?:first|second|third): \d+ % \((\d+) / (\d+)\)", said)
    assert [asked for _, asked in turns] == ["36", "36", "36"]
    first, second, _ = (int(right) for right, _ in turns)
    assert first >= 25  # one thread answered 35, 23 and 15: what it was taught it answers
    assert second >= 10  # of single questions alone it would answer none
    assert re.search(r"the question before: \d+ % \(\d+ / 12\)", said)
    assert re.search(r"does not know: \d+ % \(\d+ / 7\)", said)
    assert re.search(r"before and after SFT: [\d.]+ → [\d.]+ \([+-][\d.]+ %\)", said)
    assert said.count("✓") + said.count("✗") == 8
    for name, stage in (("demo", "pretrain"), ("demo-chat", "sft")):
        run = RunDirectory.find(paths.runs(), name)
        assert (run.state().word, run.spec()["stage"]["kind"]) == ("SUCCEEDED", stage)
    assert serving.running_url() is None  # --keep 0 has ended it
