"""How the models of a stage are sampled unless a request says otherwise."""

from __future__ import annotations

from jobs.stages.table import STAGES
from minimind.network.model import MODEL_PRESETS


def test_the_smaller_a_model_the_closer_it_keeps_to_what_it_knows() -> None:
    for stage in ("sft", "lora"):
        temperatures = [STAGES[stage].sampling(config).temperature for config in MODEL_PRESETS.values()]
        assert temperatures == sorted(temperatures)
        assert temperatures[0] <= 0.2 < temperatures[-1]


def test_a_model_that_continues_text_is_not_made_to_repeat_itself() -> None:
    assert all(STAGES["pretrain"].sampling(config).temperature >= 0.7 for config in MODEL_PRESETS.values())
