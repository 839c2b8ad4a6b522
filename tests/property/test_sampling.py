"""Limits and draws on any logits: against the definitions, written out for one row."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minimind.inference.sampling import SamplingParams, choose, limit, noise

any_time = settings(deadline=None)  # the machine may be busy

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "temperature": st.sampled_from([0.0, 0.3, 1.0, 2.0]),
            "top_k": st.integers(0, 40),
            "top_p": st.sampled_from([0.05, 0.5, 0.9, 0.999, 1.0]),
            "min_p": st.sampled_from([0.0, 0.05, 0.5, 1.0]),
        }
    ),
    min_size=1,
    max_size=6,
)


def staying(logits: list[float], settings: dict[str, Any]) -> set[int]:
    """Top-k, top-p and min-p one after the other, as they are defined."""
    order = sorted(range(len(logits)), key=lambda token: -logits[token])
    if settings["top_k"]:
        order = order[: settings["top_k"]]
    if settings["top_p"] < 1:
        total = sum(math.exp(logits[token]) for token in order)
        kept, before = [], 0.0
        for token in order:
            if before >= settings["top_p"]:
                break
            kept.append(token)
            before += math.exp(logits[token]) / total
        order = kept
    return {token for token in order if math.exp(logits[token] - logits[order[0]]) >= settings["min_p"] * (1 - 1e-6)}


@any_time
@given(ROWS, st.integers(0, 2**32), st.sampled_from([5, 40, 600]))
def test_limits_are_those_of_the_definitions(rows: list[dict[str, Any]], seed: int, vocab_size: int) -> None:
    logits_BV = torch.randn(len(rows), vocab_size, generator=torch.Generator().manual_seed(seed)) * 3
    limited_BV = limit(logits_BV, [SamplingParams(1, **row) for row in rows])
    for before_V, after_V, row in zip(logits_BV, limited_BV, rows, strict=True):
        found = set(after_V.isfinite().nonzero()[:, 0].tolist())
        expected = staying(before_V.double().tolist(), row)
        # Where rounding decides about the last one, one more or less is as right.
        assert len(found ^ expected) <= (1 if row["top_p"] < 1 else 0)
        assert int(before_V.argmax()) in found
        assert torch.equal(after_V[sorted(found)], before_V[sorted(found)])


@any_time
@given(st.integers(0, 2**32), st.integers(1, 40), st.sampled_from([0, 60]))
def test_the_others_never_decide_whether_a_token_stays(seed: int, last: int, top_k: int) -> None:
    """Not even where top-p is the very sum at which it has to decide, and another one needs a look at more tokens."""
    logits_BV = torch.randn(2, 600, generator=torch.Generator().manual_seed(seed)) * 3
    sorted_V = logits_BV[0].sort(descending=True).values[: top_k or None]
    for digits in (0.0, 1e-7, -1e-7):
        own = SamplingParams(1, top_k=top_k, top_p=min(1.0, float(sorted_V.softmax(0).cumsum(0)[last]) + digits))
        together_BV = limit(logits_BV, [own, SamplingParams(1, top_k=500)])
        assert torch.equal(together_BV[:1], limit(logits_BV[:1], [own]))


@any_time
@given(ROWS, st.integers(0, 2**32))
def test_a_row_is_drawn_as_if_it_were_alone(rows: list[dict[str, Any]], seed: int) -> None:
    logits_BV = torch.randn(len(rows), 50, generator=torch.Generator().manual_seed(seed)) * 3
    params = [SamplingParams(1, **row) for row in rows]
    numbers = [noise(seed, row) for row in range(len(rows))]
    together = choose(logits_BV, params, numbers)
    alone = [choose(logits_BV[row : row + 1], [params[row]], [numbers[row]])[0] for row in range(len(rows))]
    assert together == alone
    for token, logits_V, row in zip(together, logits_BV, rows, strict=True):
        if row["temperature"] == 0:
            assert token == int(logits_V.argmax())
        else:
            assert limit(logits_V[None] / row["temperature"], [SamplingParams(1, **row)])[0, token].isfinite()


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.5}, {"top_k": 3}, {"top_p": 0.7}, {"min_p": 0.3}])
def test_draws_follow_the_probabilities(settings: dict[str, Any]) -> None:
    params = SamplingParams(1, **settings)
    logits_V = torch.tensor([1.0, 0.0, 2.0, -1.0, 0.5, 1.5])
    drawn = choose(logits_V.expand(4000, -1), [params] * 4000, [noise(7, position) for position in range(4000)])
    shares_V = torch.bincount(torch.tensor(drawn), minlength=6) / 4000
    expected_V = limit(logits_V[None] / params.temperature, [params])[0].softmax(0)
    assert (shares_V - expected_V).abs().max() < 0.035  # four deviations
