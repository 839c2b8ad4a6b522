from __future__ import annotations

from jobs.stages.adapter import adapter_lines
from jobs.stages.lora import lora
from jobs.stages.sft import sft
from jobs.stages.spec import RunSpec
from jobs.stages.weights import optimizer_states, trained_parameters
from minimind.config import override
from minimind.language import speaking
from minimind.network.model import MiniMind
from tests.small import small_spec


def test_the_report_has_the_runs_own_numbers_in_both_languages() -> None:
    (english,) = adapter_lines(lora("30m"))
    with speaking("zh"):
        (chinese,) = adapter_lines(lora("30m"))
    # 8 blocks; rank 8 beside q, o: 512 + 512, k, v: 512 + 256, and three of the 512 x 1664 maps.
    trained = 8 * 8 * (2 * 1024 + 2 * 768 + 3 * (512 + 1664))
    assert trained_parameters(lora("30m")) == trained
    for line in (english, chinese):
        for number in ("647k", "30.7M", "2.1 %", "7.8 MB", "360.3 MB", "352.5 MB"):
            assert number in line
    assert "memory saved" in english
    assert "节省" in chinese


def test_a_run_without_an_adapter_has_no_report_and_trains_all() -> None:
    assert adapter_lines(sft("tiny")) == []
    assert trained_parameters(small_spec()) == MiniMind(small_spec().model).parameter_count()


def test_the_report_follows_the_optimizer() -> None:
    def states(spec: RunSpec, name: str) -> float:
        return optimizer_states(override(spec, {"optim.name": name}))

    assert states(lora("tiny"), "adamw") == 2 > states(lora("tiny"), "muon") > 1
