from __future__ import annotations

import pytest

from jobs.fit.forecast import ASSUMED_USE, CARD_FLOPS, Forecast, by_card, tokens_of
from jobs.stages.pretrain import pretrain
from jobs.stages.weights import policy_shape
from minimind.config import override

SPEC = pretrain("30m")


def test_the_tokens_of_a_run_are_known_where_its_steps_are() -> None:
    assert tokens_of(SPEC) is None
    assert tokens_of(override(SPEC, {"loop.max_steps": 10})) == 10 * 32 * 512


def test_a_card_computes_six_flops_for_each_weight_and_token() -> None:
    found = by_card(SPEC, "RTX 3050")
    assert found.tokens_per_s == ASSUMED_USE * CARD_FLOPS["RTX 3050"] / policy_shape(SPEC).flops_per_token()
    again = by_card(override(SPEC, {"loop.activation_checkpointing": True}), "RTX 3050")
    assert again.tokens_per_s == pytest.approx(found.tokens_per_s * 3 / 4)
    slow = by_card(override(SPEC, {"loop.dtype": "float32"}), "RTX 3050")
    assert slow.tokens_per_s == pytest.approx(found.tokens_per_s / 2)
    assert "30 % of 18 TFLOP/s, assumed" in found.basis
    with pytest.raises(ValueError, match="--card 'GTX 970': there are RTX 3050, RTX 3060"):
        by_card(SPEC, "GTX 970")


def test_a_forecast_in_words() -> None:
    assert Forecast(2_000_000, 1000.0, "measured").line() == (
        "Forecast: 2.00M tokens at 1.00k tokens/s (measured): 33 min 20 s"
    )
    assert "16 min 40 s for a million tokens" in Forecast(None, 1000.0, "measured").line()
