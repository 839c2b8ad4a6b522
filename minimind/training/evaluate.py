"""Measuring a model: held-out loss, bits per byte, and a look at what it writes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch

from minimind.device.distributed import Parallel
from minimind.inference.engine import Engine
from minimind.inference.sampling import SamplingParams
from minimind.network.model import MiniMind
from minimind.training.batch import Batch
from minimind.training.meter import Sums
from minimind.training.objectives import Models, Objective
from minimind.training.out_of_memory import parts
from minimind.training.precision import Precision


@dataclass(frozen=True)
class Validation:
    """What held-out rows show.

    nats: the loss, summed over `tokens` units: of most objectives nats and predicted tokens. text_bytes: the UTF-8
    length of their text. metrics: what else the objective measures, as means by its name.
    """

    nats: float
    tokens: float
    text_bytes: int
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def loss(self) -> float:
        """The mean; of a cross-entropy in nats per token, which depends on the tokenizer."""
        return self.nats / max(self.tokens, 1.0)

    @property
    def bits_per_byte(self) -> float:
        """Bits needed per byte of text; comparable between tokenizers."""
        return self.nats / math.log(2) / max(self.text_bytes, 1)


@torch.no_grad()
def validate(
    models: Models,
    objective: Objective,
    batches: Iterable[Batch],
    text_bytes: int,
    precision: Precision,
    parallel: Parallel,
    rows_at_once: int = 0,
) -> Validation:
    """The objective over all batches of all ranks. batches: this rank's share. text_bytes: of the whole set.
    rows_at_once: rows computed together, 0 for all of a batch.
    """
    sums = Sums()
    for part in (part for batch in batches for part in parts(batch, rows_at_once)):
        with precision.autocast():
            loss = objective(models, part.to(parallel.device))
        for name, (total, weight) in {"": (loss.total, loss.weight), **loss.metrics}.items():
            sums.add(name, float(total), float(weight))
    pairs = Sums.over(parallel.gather(sums)).pairs
    nats, tokens = pairs.pop("", (0.0, 0.0))
    metrics = {name: total / weight for name, (total, weight) in pairs.items() if weight}
    return Validation(nats, tokens, text_bytes, metrics)


def continuation(
    model: MiniMind,
    prompt_ids: Sequence[int],
    *,
    max_tokens: int,
    eos_id: int,
    temperature: float = 0.7,
    seed: int = 0,
) -> list[int]:
    """Token ids that the model writes after `prompt_ids`, up to `eos_id`, `max_tokens` or the end of its context; the
    same for the same seed.

    temperature: 0 takes the likeliest token.
    """
    max_tokens = min(max_tokens, model.config.max_position_embeddings - len(prompt_ids))
    if max_tokens < 1:
        return []
    engine = Engine(model, slots=1, context_tokens=len(prompt_ids) + max_tokens)
    params = SamplingParams(max_tokens, temperature=temperature, seed=seed, stop_ids=(eos_id,))
    (answer,) = engine.generate([prompt_ids], params)
    return answer.token_ids[:-1] if answer.finish == "stop" else answer.token_ids
