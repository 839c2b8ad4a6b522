"""How long a run will take, before it runs: from a few measured steps, or from what a card is said to compute."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.stages.spec import RunSpec
from jobs.stages.weights import policy_shape
from minimind.language import say
from minimind.units import amount, duration

CARD_FLOPS = {
    "RTX 3050": 18.2e12,
    "RTX 3060": 25.5e12,
    "RTX 3070": 40.6e12,
    "RTX 3080": 59.5e12,
    "RTX 3090": 71.2e12,
    "RTX 4060": 30.2e12,
    "RTX 4090": 165.2e12,
}
"""FLOP/s in half precision with sums in fp32, dense. NVIDIA's white papers of GA102 and AD102 name those of the 3070,
3080, 3090 and 4090; the others are twice their fp32 rate, as it is for those. In fp32 it is half.
"""

ASSUMED_USE = 0.3
"""The share of it that training a model of this size reaches: assumed, not measured."""


@dataclass(frozen=True)
class Forecast:
    """tokens: of the whole run, None where the data has not been counted. tokens_per_s; basis: where that is from."""

    tokens: int | None
    tokens_per_s: float
    basis: str

    def line(self) -> str:
        """In words."""
        rate = say("{rate} tokens/s ({basis})", rate=amount(self.tokens_per_s), basis=self.basis)
        if self.tokens is None:
            return say(
                "Forecast: {rate}, {time} for a million tokens", rate=rate, time=duration(1e6 / self.tokens_per_s)
            )
        whole = duration(self.tokens / self.tokens_per_s)
        return say("Forecast: {tokens} tokens at {rate}: {time}", tokens=amount(self.tokens), rate=rate, time=whole)


def by_card(spec: RunSpec, name: str) -> Forecast:
    """From the FLOP/s of a named card. Raises ValueError for one that is not in CARD_FLOPS."""
    if name not in CARD_FLOPS:
        raise ValueError(say("--card {name!r}: there are {names}", name=name, names=", ".join(CARD_FLOPS)))
    rate = CARD_FLOPS[name] / (2 if spec.loop.dtype == "float32" else 1)
    per_token = policy_shape(spec).flops_per_token() * (4 / 3 if spec.loop.activation_checkpointing else 1)
    basis = say(
        "{name} at {use} % of {rate:.0f} TFLOP/s, assumed", name=name, use=round(100 * ASSUMED_USE), rate=rate / 1e12
    )
    return Forecast(tokens_of(spec), ASSUMED_USE * rate / per_token, basis)


def tokens_of(spec: RunSpec) -> int | None:
    """Tokens of a run whose number of steps is given; None where that depends on the data."""
    if spec.loop.max_steps is None:
        return None
    return spec.loop.max_steps * spec.global_batch_size * spec.data.max_seq_len
