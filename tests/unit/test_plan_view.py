from __future__ import annotations

import re
from pathlib import Path

import pytest

from jobs.fit.card import Card
from jobs.fit.needs import Needs
from jobs.fit.plan import Planner
from jobs.fit.view import choice_line, plan_stage, rest_line, show_plan, show_stage, stage_as_json, what_fits
from minimind.config import override
from minimind.language import speaking
from minimind.memory.plan import PLATFORMS
from tests.small import Screen
from tests.unit.test_plan import SETTINGS, SPEC, with_sizes

SMALL = {name: str(value) for name, value in SETTINGS.items()}


@pytest.fixture
def screen() -> Screen:
    return Screen()


def test_a_plan_shows_its_parts_and_its_verdict(screen: Screen) -> None:
    card = Card("a card", 4 << 30, PLATFORMS["wsl2"], bf16=True)
    plan = Planner(card, Needs()).plan(SPEC)
    show_plan(plan, card, SPEC, screen)
    for said in ("weights ", "fragmentation ", "context ", "together ", "fits: "):
        assert said in screen.text
    assert "pretrain, 8 rows x 256 tokens x 2 accumulation, auto on a card" in screen.text
    assert "; uncalibrated)" in screen.text
    assert "█" in screen.text
    with speaking("zh"):
        show_plan(plan, card, SPEC, screen)
    for said in ("权重", "显存碎片", "CUDA 上下文", "合计", "放得下：", "；未校准"):
        assert said in screen.text
    assert " / " not in screen.text


def test_on_a_cpu_the_context_is_the_process_and_nothing_is_uncalibrated(screen: Screen) -> None:
    card = Card("CPU", 4 << 30, PLATFORMS["cpu"], bf16=True)
    show_plan(Planner(card, Needs()).plan(SPEC), card, SPEC, screen)
    assert "Python, PyTorch, Ray" in screen.text
    assert "uncalibrated" not in screen.text


def test_a_card_without_bfloat16_is_told_of_where_it_is_asked_for(screen: Screen) -> None:
    half, turing = override(SPEC, {"loop.dtype": "bfloat16"}), Card("a card", 4 << 30, PLATFORMS["wsl2"], bf16=False)
    show_plan(Planner(turing, Needs()).plan(SPEC), turing, SPEC, screen)
    assert "has no bfloat16" not in screen.text
    show_plan(Planner(turing, Needs()).plan(half), turing, half, screen)
    assert "has no bfloat16" in screen.text
    assert "--dtype float16" in screen.text


def test_a_stage_is_planned_for_a_card_that_is_named(home: Path, screen: Screen) -> None:
    assert show_stage("pretrain", SMALL | {"memory.vram": "4GB"}, screen, model="tiny", system="windows") == 0
    assert "on 4.00 GB, windows" in screen.text
    assert show_stage("pretrain", SMALL | {"memory.vram": "890MB"}, screen, model="tiny", system="windows") == 1
    assert "The nearest that fits" in screen.text
    with speaking("zh"):
        assert show_stage("pretrain", SMALL | {"memory.vram": "890MB"}, screen, model="tiny", system="windows") == 1
    assert "最接近的可行配置" in screen.text
    assert "--batch_size" in screen.text


def test_a_stage_is_planned_for_what_is_here(home: Path, screen: Screen) -> None:
    assert show_stage("sft", SMALL, screen, model="tiny") == 0
    assert "sft, 8 rows" in screen.text


def test_a_preset_says_what_it_chose(home: Path, screen: Screen) -> None:
    assert show_stage("pretrain", SMALL | {"memory.vram": "4GB"}, screen, model="tiny", budget="standard") == 0
    assert "Preset standard (标准): at most 80 % of 4.00 GB" in screen.text
    line = choice_line(SPEC, with_sizes(16, 1), "conservative", Card("a card", 1 << 30, PLATFORMS["cpu"], bf16=True))
    assert "保守" in line
    assert line.endswith("--batch_size 16 --accumulation_steps 1")
    assert choice_line(SPEC, SPEC, "aggressive", Card("", 1, PLATFORMS["cpu"], bf16=True)).endswith(": nothing changed")


@pytest.mark.parametrize("vram", ["8 cards", "-1", "6144", "0GB", ""])
def test_a_limit_that_is_no_size_is_refused(home: Path, screen: Screen, vram: str) -> None:
    with pytest.raises(ValueError, match=rf"--vram \(memory.vram\) = '{vram}': .*such as 8GB"):
        show_stage("pretrain", {"memory.vram": vram}, screen)


def test_a_limit_smaller_than_the_weights_is_refused_with_what_helps(home: Path, screen: Screen) -> None:
    assert show_stage("pretrain", {"memory.vram": "64MB"}, screen, model="123m") == 1
    assert "No batch of it fits" in screen.text
    assert "lora" in screen.text


@pytest.mark.slow
def test_the_table_of_what_fits_has_the_largest_batch_for_each_card(home: Path, screen: Screen) -> None:
    screen.print(what_fits(screen, stages=["lora"], cards=["1GB", "4GB"], models=["tiny"]))
    row = next(line for line in screen.text.splitlines() if line.split()[:1] == ["lora"])
    plain, *others = row.split()[-6:]
    assert "without / with --activation_checkpointing 1; 64+: that or more" in " ".join(screen.text.split())
    assert "Tokens in a row: 256 (tiny)." in screen.text
    assert 0 < int(plain) < 64
    assert others == ["/", "64+", "64+", "/", "64+"]


def test_a_plan_ends_with_the_rest_of_the_card_and_the_time(home: Path, screen: Screen) -> None:
    given = SMALL | {"memory.vram": "4GB", "loop.max_steps": "1000"}
    more = {"loop.batch_size": "2", "loop.accumulation_steps": "8"}
    assert show_stage("pretrain", given | more, screen, model="tiny", system="linux") == 0
    assert "are left: more rows at once fit" in screen.text
    assert "--batch_size 16 --accumulation_steps 1" in screen.text
    assert '--card "RTX 3050" forecasts it' in screen.text
    assert show_stage("pretrain", given | more, screen, model="tiny", system="linux", speed_of="RTX 3050") == 0
    assert "Forecast: 4.10M tokens at" in screen.text
    found = plan_stage("pretrain", given | more, screen, model="tiny", system="linux")
    assert found.plan.verdict == "fits"
    content = stage_as_json(found)
    assert (content["batch_size"], content["tokens"], content["refusal"]) == (2, 4_096_000, None)
    assert content["plan"]["verdict"] == "fits"
    assert content["tokens_per_s"]["RTX 3050"] > 0


def test_where_no_more_rows_are_wanted_the_rest_may_hold_a_larger_model(home: Path, screen: Screen) -> None:
    given = SMALL | {"memory.vram": "12GB", "loop.batch_size": "2", "loop.accumulation_steps": "1"}
    found = plan_stage("pretrain", given, screen, model="tiny", system="linux")
    assert re.search(r"are left: --model (30m|64m|123m) fits as well", rest_line(found))
