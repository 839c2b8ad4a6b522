"""The engine against transformers' generate with the same weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from minimind.checkpoints.convert import to_hf_config
from minimind.inference.compiled import library
from minimind.inference.engine import Engine
from minimind.inference.sampling import SamplingParams
from tests.toys import TOY_CONFIG, toy_model


@pytest.fixture(params=[False, True], ids=["pytorch", "native"])
def native(request: pytest.FixtureRequest) -> bool:
    if request.param and library() is None:
        pytest.skip("no C compiler with OpenMP here")
    return bool(request.param)


@pytest.mark.parametrize("settings", [{}, {"repetition_penalty": 1.7}])
def test_greedy_is_that_of_transformers(settings: dict[str, Any], native: bool) -> None:
    model = toy_model()
    peer: Any = Qwen3ForCausalLM(Qwen3Config(**to_hf_config(TOY_CONFIG)))
    peer.load_state_dict(model.state_dict(), strict=False)  # the tied head is the embedding
    peer.eval()
    generator = torch.Generator().manual_seed(2)
    prompts = [torch.randint(0, 64, (length,), generator=generator).tolist() for length in (1, 7, 30, 65)]
    engine = Engine(model, slots=3, context_tokens=100, prefill_tokens=20, native=native)
    answers = engine.generate(prompts, SamplingParams(30, temperature=0, **settings))
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = torch.tensor([prompt])
        written = peer.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=30,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
            **settings,
        )
        assert answer.token_ids == written[0, len(prompt) :].tolist()
