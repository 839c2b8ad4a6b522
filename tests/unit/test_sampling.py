from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from minimind.inference.sampling import SamplingParams, choose, limit, noise, penalise, token_logprobs


def params(**settings: Any) -> SamplingParams:
    return SamplingParams(max_tokens=8, **settings)


def logits_of(*probabilities: float) -> Tensor:
    return torch.tensor(probabilities).log()


def staying(logits_V: Tensor, **settings: Any) -> list[int]:
    """The ids that the limits leave."""
    return limit(logits_V[None], [params(**settings)])[0].isfinite().nonzero()[:, 0].tolist()


PROBABILITIES = logits_of(0.1, 0.4, 0.05, 0.25, 0.2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_tokens": -1}, "max_tokens = -1: allowed is 0 or more"),
        ({"temperature": -0.1}, "temperature = -0.1"),
        ({"temperature": math.nan}, "temperature = nan"),
        ({"temperature": math.inf}, "temperature = inf"),
        ({"temperature": 1e30}, r"temperature = 1e\+30: allowed is 0 to 1000000; 0 takes the likeliest token"),
        ({"top_k": -1}, "top_k = -1"),
        ({"top_p": 0.0}, "top_p = 0.0"),
        ({"top_p": 1.5}, "top_p = 1.5"),
        ({"min_p": 1.5}, "min_p = 1.5"),
        ({"repetition_penalty": 0.0}, "repetition_penalty = 0.0"),
        ({"repetition_penalty": 1e-40}, "repetition_penalty = 1e-40: allowed is 0.01 to 1000000"),
        ({"repetition_penalty": 1e39}, r"repetition_penalty = 1e\+39"),
        ({"presence_penalty": 1e39}, r"presence_penalty = 1e\+39: allowed is -1000000 to 1000000"),
        ({"frequency_penalty": -1e39}, r"frequency_penalty = -1e\+39"),
        ({"presence_penalty": math.nan}, "presence_penalty = nan"),
        ({"frequency_penalty": math.inf}, "frequency_penalty = inf"),
        ({"stop": ("a", "")}, "stop = "),
        ({"logprobs": -1}, "logprobs = -1"),
        ({"prompt_logprobs": -2}, "prompt_logprobs = -2"),
    ],
)
def test_settings_that_make_no_sense_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamplingParams(**({"max_tokens": 1} | settings))


def test_top_k_top_p_and_min_p_leave_the_likeliest() -> None:
    assert staying(PROBABILITIES, top_k=2) == [1, 3]
    assert staying(PROBABILITIES, top_p=0.64) == [1, 3]
    assert staying(PROBABILITIES, top_p=0.66) == [1, 3, 4]
    assert staying(PROBABILITIES, top_p=1e-9) == [1]
    assert staying(PROBABILITIES, min_p=0.45) == [1, 3, 4]
    assert staying(PROBABILITIES, min_p=1.0) == [1]
    assert staying(PROBABILITIES) == [0, 1, 2, 3, 4]
    assert staying(PROBABILITIES, top_k=99) == [0, 1, 2, 3, 4]


def test_top_p_is_a_share_of_what_top_k_left() -> None:
    # 0.4 of 0.65 is 0.615: of the whole it would take a third token.
    assert staying(PROBABILITIES, top_k=2, top_p=0.6) == [1]
    assert staying(PROBABILITIES, top_k=2, top_p=0.62) == [1, 3]
    assert staying(PROBABILITIES, top_k=3, top_p=0.99, min_p=0.6) == [1, 3]


def test_top_p_reaches_below_the_candidates_of_a_flat_distribution() -> None:
    flat_V = torch.linspace(0, 1e-3, 2000)
    kept = staying(flat_V, top_p=0.9)
    assert len(kept) == pytest.approx(1800, abs=3)
    assert kept[-1] == 1999
    assert len(staying(flat_V, top_k=3)) == 3


def test_each_row_has_limits_of_its_own() -> None:
    rows = [params(), params(top_k=1), params(top_p=0.5), params(min_p=0.9)]
    together = limit(PROBABILITIES.expand(4, -1), rows)
    assert together.isfinite().sum(1).tolist() == [5, 1, 2, 1]


def test_temperature_zero_takes_the_likeliest_whatever_the_rest() -> None:
    assert choose(PROBABILITIES[None], [params(temperature=0, top_k=3, top_p=0.5)], [0.999]) == [1]


def test_a_number_picks_the_token_at_its_place_of_the_distribution() -> None:
    numbers = [0.0, 0.0999, 0.1001, 0.499, 0.501, 0.549, 0.551, 0.799, 0.801, 1 - 2**-53]
    picked = choose(PROBABILITIES.expand(10, -1), [params()] * 10, numbers)
    assert picked == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_a_token_without_probability_is_never_picked() -> None:
    logits_V = logits_of(0.0, 0.5, 0.0, 0.5, 0.0)
    assert choose(logits_V.expand(4, -1), [params()] * 4, [0.0, 0.4999, 0.5, 1 - 2**-53]) == [1, 1, 3, 3]


def test_temperature_sharpens_and_flattens() -> None:
    numbers = torch.linspace(0.0005, 0.9995, 1000).tolist()

    def share_of_likeliest(temperature: float) -> float:
        picked = choose(PROBABILITIES.expand(1000, -1), [params(temperature=temperature)] * 1000, numbers)
        return picked.count(1) / 1000

    assert share_of_likeliest(1.0) == pytest.approx(0.4, abs=0.002)
    squares = PROBABILITIES.exp().square()
    assert share_of_likeliest(0.5) == pytest.approx(float(squares[1] / squares.sum()), abs=0.002)
    assert share_of_likeliest(1e-30) == 1.0
    assert share_of_likeliest(1e6) == pytest.approx(0.2, abs=0.002)


@pytest.mark.parametrize("temperature", [0.0, 1e-300, 1e-50, 1e-45, 1e-38, 9e-6])
@pytest.mark.parametrize("limits", [{}, {"top_k": 3}, {"top_p": 1e-50}, {"min_p": 1e-50}])
def test_a_temperature_next_to_zero_takes_the_likeliest(temperature: float, limits: dict[str, Any]) -> None:
    settings = params(temperature=temperature, **limits)
    assert settings.greedy
    assert choose(torch.tensor([[1.0, 3.0, 2.0, 0.0]]), [settings], [0.999]) == [1]


@pytest.mark.parametrize("scale", [1e-45, 1.0, 3e38])
@pytest.mark.parametrize("temperature", [1e-5, 1.0, 1e6])
def test_what_is_drawn_is_a_token_whatever_the_logits(scale: float, temperature: float) -> None:
    logits_V = torch.tensor([-1.0, 1.0, 0.5, 0.0]) * scale
    for settings in ({}, {"top_k": 2}, {"top_p": 0.5}, {"min_p": 0.5}):
        drawn = choose(
            logits_V.expand(3, -1), [params(temperature=temperature, **settings)] * 3, [0.0, 0.5, 1 - 2**-53]
        )
        assert all(0 <= token < 4 for token in drawn)


@pytest.mark.parametrize(
    "settings",
    [
        {"repetition_penalty": 0.01},
        {"repetition_penalty": 1e6},
        {"presence_penalty": 1e6, "frequency_penalty": 1e6},
        {"repetition_penalty": 0.01, "presence_penalty": -1e6},
    ],
)
def test_penalised_logits_are_finite(settings: dict[str, Any]) -> None:
    most = torch.finfo(torch.float32).max
    seen = torch.arange(6)
    for logits in ([1.0, -1.0, 0.0, 5.0, -5.0, 1e-44], [most, -most, most / 2, 0.0, -1.0, 1.0]):
        after_V = penalise(torch.tensor(logits), params(**settings), seen, seen.repeat(1000))
        assert after_V.isfinite().all()


def test_greedy_and_random_rows_share_a_batch() -> None:
    rows = [params(temperature=0), params(), params(temperature=2.0), params(temperature=0)]
    alone = [choose(PROBABILITIES[None], [row], [0.97])[0] for row in rows]
    assert choose(PROBABILITIES.expand(4, -1), rows, [0.97] * 4) == alone == [1, 4, 4, 1]


def test_noise_is_uniform_and_decided_by_seed_and_position() -> None:
    numbers = torch.tensor(
        [noise(seed, position) for seed in range(100) for position in range(100)], dtype=torch.float64
    )
    assert 0 <= numbers.min() <= numbers.max() < 1
    counts = torch.histc(numbers, bins=10, min=0, max=1)
    assert ((counts - 1000).abs() < 130).all()  # four deviations
    assert len(set(numbers.tolist())) == 10_000
    assert noise(3, 4) == noise(3, 4)


def test_repetition_penalty_divides_positive_and_multiplies_negative_logits_once() -> None:
    logits_V = torch.tensor([2.0, -2.0, 2.0, -2.0])
    seen = torch.tensor([0, 1, 0])
    after = penalise(logits_V, params(repetition_penalty=2.0), seen, seen[:0])
    assert after.tolist() == [1.0, -4.0, 2.0, -2.0]
    assert logits_V.tolist() == [2.0, -2.0, 2.0, -2.0]


def test_presence_counts_once_and_frequency_every_time_in_the_answer_alone() -> None:
    seen, written = torch.tensor([3, 0, 0, 1]), torch.tensor([0, 0, 1])
    zeros = torch.zeros(4)
    assert penalise(zeros, params(presence_penalty=0.5), seen, written).tolist() == [-0.5, -0.5, 0, 0]
    assert penalise(zeros, params(frequency_penalty=0.5), seen, written).tolist() == [-1.0, -0.5, 0, 0]
    assert penalise(zeros, params(presence_penalty=1.0), seen, written[:0]).tolist() == [0, 0, 0, 0]


def test_which_settings_do_something() -> None:
    assert not params().penalised
    assert not params().limited
    for name in ("repetition_penalty", "presence_penalty", "frequency_penalty"):
        assert params(**{name: 0.5}).penalised
    for settings in ({"top_k": 1}, {"top_p": 0.5}, {"min_p": 0.1}):
        assert params(**settings).limited


def test_token_logprobs_are_log_softmax_and_its_largest() -> None:
    logits_BV = torch.randn(3, 20, generator=torch.Generator().manual_seed(0))
    expected = logits_BV.log_softmax(1)
    found = token_logprobs(logits_BV, [4, 0, 19], 2)
    for row, (token, (logprob, top)) in enumerate(zip([4, 0, 19], found, strict=True)):
        assert logprob == pytest.approx(float(expected[row, token]))
        best = expected[row].topk(2)
        assert [token_id for token_id, _ in top] == best.indices.tolist()
        assert [value for _, value in top] == pytest.approx(best.values.tolist())
    logprob, top = token_logprobs(logits_BV, [4, 0, 19], 0)[1]
    assert logprob == pytest.approx(float(expected[1, 0]))
    assert not top
    assert len(token_logprobs(logits_BV, [4, 0, 19], 99)[0][1]) == 20
