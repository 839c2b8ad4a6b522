from __future__ import annotations

import pytest
import torch

from jobs.fit.card import Card
from jobs.fit.needs import Needs
from jobs.fit.plan import BUDGETS, Planner, command_flags, preset_name, to_json
from jobs.stages.lora import lora
from jobs.stages.pretrain import pretrain
from jobs.stages.recipe import trial_recipe
from jobs.stages.sft import sft
from jobs.stages.spec import RunSpec
from minimind.config import override
from minimind.memory.plan import PLATFORMS
from minimind.memory.trace import trace

MIB = 1 << 20
SETTINGS = {
    "model.hidden_size": 64,
    "model.num_hidden_layers": 2,
    "model.num_attention_heads": 4,
    "model.num_key_value_heads": 2,
    "model.vocab_size": 640,
    "data.max_seq_len": 256,
    "loop.batch_size": 8,
    "loop.accumulation_steps": 2,
}
SPEC = override(pretrain("tiny"), SETTINGS)

KNOWN = Needs()
"""One for all tests: the same small steps are asked about again and again."""


def planner(megabytes: float, platform: str = "emulated") -> Planner:
    return Planner(Card("a card", int(megabytes * MIB), PLATFORMS[platform], bf16=True), KNOWN)


def needed(spec: RunSpec) -> float:
    return planner(1000).plan(spec).needed_bytes / MIB


def sizes(spec: RunSpec | None) -> tuple[int, int, int, bool]:
    assert spec is not None
    loop = spec.loop
    return loop.batch_size, loop.accumulation_steps, spec.data.max_seq_len, loop.activation_checkpointing


def with_sizes(rows: int, accumulation: int, width: int = 256, checkpointing: bool = False) -> RunSpec:
    return override(
        SPEC,
        {
            "loop.batch_size": rows,
            "loop.accumulation_steps": accumulation,
            "data.max_seq_len": width,
            "loop.activation_checkpointing": checkpointing,
        },
    )


def test_a_plan_is_that_of_the_traced_step() -> None:
    plan = planner(1000).plan(SPEC)
    expected = trace(lambda: trial_recipe(SPEC, torch.float32), "cpu").peak_bytes
    assert (plan.verdict, plan.peak_bytes, plan.capacity_bytes) == ("fits", expected, 1000 * MIB)
    assert planner(1000).plan(SPEC, 0.5).capacity_bytes == 500 * MIB


def test_what_is_far_too_large_for_a_gpu_is_not_traced() -> None:
    huge = override(SPEC, {"loop.batch_size": 60_000})
    plan = planner(4096, "wsl2").plan(huge)
    assert (plan.verdict, plan.level) == ("does not fit", "closed form")


def test_dtype_auto_is_that_of_the_card() -> None:
    cards = [Card("", 1, PLATFORMS[name], bf16) for name, bf16 in (("linux", True), ("linux", False), ("cpu", True))]
    dtypes = [Planner(card, KNOWN).shape(SPEC).dtype for card in cards]
    assert dtypes == [torch.bfloat16, torch.float16, torch.float32]
    fp32 = override(SPEC, {"loop.dtype": "float32"})
    assert planner(4096, "wsl2").plan(fp32).peak_bytes > planner(4096, "wsl2").plan(SPEC).peak_bytes


@pytest.mark.parametrize("rows", [1, 2, 4, 8])
def test_the_largest_batch_keeps_the_global_batch(rows: int) -> None:
    room = needed(with_sizes(rows, 16 // rows)) + 0.01
    assert sizes(planner(room).largest(SPEC)) == (rows, 16 // rows, 256, False)


def test_the_largest_batch_is_all_of_it_or_none() -> None:
    assert sizes(planner(1000).largest(SPEC)) == (16, 1, 256, False)
    assert planner(1).largest(SPEC) is None


@pytest.mark.slow
def test_the_nearest_that_fits_takes_fewer_rows_then_checkpointing_then_shorter_rows() -> None:
    steps = [
        (with_sizes(4, 4), (4, 4, 256, False)),
        (with_sizes(1, 16), (1, 16, 256, False)),
    ]
    for spec, expected in steps:
        assert sizes(planner(needed(spec) + 0.01).nearest(SPEC)) == expected
    checkpointed, shorter = with_sizes(1, 16, checkpointing=True), with_sizes(1, 32, 128)
    assert needed(shorter) < needed(checkpointed) < needed(with_sizes(1, 16))
    assert sizes(planner(needed(checkpointed) + 0.01).nearest(SPEC)) == (1, 16, 256, True)
    found = planner(needed(shorter) + 0.01).nearest(SPEC)
    assert found is not None
    assert found.data.max_seq_len == 128
    assert found.global_batch_size * 128 == SPEC.global_batch_size * 256
    assert planner(1).nearest(SPEC) is None


def test_a_refusal_says_what_is_needed_what_there_is_and_what_fits() -> None:
    said = planner(needed(with_sizes(4, 4)) + 0.01).refusal(SPEC)
    for part in ("does not fit", "CPU, limited to", "--batch_size 4 --accumulation_steps 4"):
        assert part in said
    assert "--model" in planner(1).refusal(SPEC)


def test_a_preset_takes_its_share_of_the_card() -> None:
    room = needed(with_sizes(8, 2)) / BUDGETS["standard"] + 0.01
    chosen = {name: sizes(planner(room).choose(SPEC, name)) for name in BUDGETS}
    assert chosen["standard"] == (8, 2, 256, False)
    assert chosen["conservative"][0] < 8
    for name, budget in BUDGETS.items():
        rows, accumulation, width, checkpointing = chosen[name]
        assert rows * accumulation * width == 16 * 256
        assert planner(room).fits(with_sizes(rows, accumulation, width, checkpointing), budget)


@pytest.mark.slow
def test_a_preset_computes_activations_again_before_it_lets_a_gpu_wait() -> None:
    deep = override(SPEC, {"model.num_hidden_layers": 8})
    two = needed(override(deep, {"loop.batch_size": 2, "loop.accumulation_steps": 8})) + 0.01
    rows, _, width, checkpointing = sizes(planner(two / BUDGETS["standard"]).choose(deep, "standard"))
    assert checkpointing
    assert (rows > 2, width) == (True, 256)


def test_a_preset_leaves_what_is_given() -> None:
    room = 1000.0
    given = frozenset({"loop.batch_size", "loop.accumulation_steps"})
    assert sizes(planner(room).choose(SPEC, "standard", given)) == (8, 2, 256, False)
    two = needed(with_sizes(2, 8)) + 0.01
    kept = planner(two / BUDGETS["standard"]).choose(SPEC, "standard", frozenset({"loop.activation_checkpointing"}))
    assert sizes(kept) == (2, 8, 256, False)


def test_given_accumulation_stays_and_so_do_the_rows() -> None:
    one = needed(with_sizes(1, 16, checkpointing=True)) + 0.01
    with pytest.raises(ValueError, match="does not fit"):
        planner(one / BUDGETS["standard"]).choose(SPEC, "standard", frozenset({"loop.accumulation_steps"}))
    assert planner(one / BUDGETS["standard"]).choose(SPEC, "standard").data.max_seq_len == 256


def test_a_preset_chooses_the_dtype_of_the_card() -> None:
    assert planner(1000).choose(SPEC, "standard").loop.dtype == "float32"
    turing = Planner(Card("a card", 8 << 30, PLATFORMS["wsl2"], bf16=False), KNOWN)
    assert turing.choose(SPEC, "standard").loop.dtype == "float16"
    given = override(SPEC, {"loop.dtype": "bfloat16"})
    assert planner(1000).choose(given, "standard", frozenset({"loop.dtype"})).loop.dtype == "bfloat16"


def test_a_budget_that_nothing_fits_is_refused() -> None:
    with pytest.raises(ValueError, match=r"does not fit.*60 % of it.*\n.*No batch of it fits"):
        planner(1).choose(SPEC, "conservative")


def test_a_budget_that_what_is_given_does_not_fit_says_what_does() -> None:
    room = needed(with_sizes(4, 4)) / BUDGETS["standard"] + 0.01
    given = frozenset({"loop.batch_size", "loop.activation_checkpointing", "data.max_seq_len"})
    with pytest.raises(ValueError, match=r"80 % of it.*\n.*--batch_size 4 --accumulation_steps 4"):
        planner(room).choose(SPEC, "standard", given)


def test_the_nearest_has_no_more_rows_and_none_shorter_where_they_may_not_be() -> None:
    one = planner(needed(with_sizes(1, 32, 128)) + 0.01)
    assert one.nearest(SPEC, shorter=False) is None
    assert "not even one row with" in one.refusal(SPEC, shorter=False)
    two = override(SPEC, {"loop.batch_size": 2, "loop.accumulation_steps": 8, "model.num_hidden_layers": 8})
    room = needed(override(two, {"loop.activation_checkpointing": True})) + 0.01
    found = planner(room).nearest(two)
    assert found is not None
    assert found.loop.batch_size <= 2


def test_presets_have_chinese_names() -> None:
    assert [preset_name(name) for name in ("保守", "标准", "激进", "standard")] == [*BUDGETS, "standard"]
    with pytest.raises(ValueError, match=r"'bold': there are conservative \(保守\)"):
        preset_name("bold")


def test_an_adapter_and_an_optimizer_are_planned_for() -> None:
    small = {key: value for key, value in SETTINGS.items() if key.startswith("model")}
    full, adapter = override(sft("tiny"), small), override(lora("tiny"), small)
    plans = [planner(1000).plan(spec) for spec in (full, adapter)]
    assert plans[1].breakdown["adapters"] > 0
    assert plans[1].breakdown["optimizer"] < plans[0].breakdown["optimizer"]


def test_flags_that_make_one_run_the_other() -> None:
    assert command_flags(SPEC, with_sizes(4, 4, checkpointing=True)) == [
        *("--batch_size", "4", "--accumulation_steps", "4", "--activation_checkpointing", "1"),
    ]
    assert command_flags(SPEC, SPEC) == []


def test_a_plan_is_kept_with_its_card_and_whether_its_peak_can_be_measured() -> None:
    emulated, cpu = (planner(2000, name) for name in ("emulated", "cpu"))
    kept = to_json(emulated.plan(SPEC), emulated.card)
    assert (kept["card"], kept["verdict"], kept["counts_tensors"]) == ("a card", "fits", True)
    assert to_json(cpu.plan(SPEC), cpu.card)["counts_tensors"] is False
