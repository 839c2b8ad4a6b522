from __future__ import annotations

import math

import pytest
import torch

from minimind.evaluation.asking import continuation_ids, likelihoods, replies, windows
from minimind.inference.engine import Engine
from minimind.inference.sampling import SamplingParams
from minimind.network.model import MiniMind, ModelConfig
from minimind.text.chat import render
from minimind.text.tokenizer import Tokenizer
from tests.toys import toy_model

TOKENIZER = Tokenizer.train(["the cat sat on the mat. 猫坐在垫子上。 a dog ran home."] * 3, vocab_size=330)
CONFIG = ModelConfig(
    vocab_size=TOKENIZER.vocab_size,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    max_position_embeddings=128,
)


@pytest.fixture
def model() -> MiniMind:
    return toy_model(config=CONFIG).eval()


def engine(model: MiniMind, **settings: int) -> Engine:
    return Engine(
        model, slots=settings.get("slots", 3), context_tokens=settings.get("context", 64), tokenizer=TOKENIZER
    )


def logprob_of(model: MiniMind, before: list[int], after: list[int]) -> float:
    with torch.no_grad():
        logprobs_TV = model.logits(model(torch.tensor([before + after])))[0].float().log_softmax(1)
    places = range(len(before) - 1, len(before) + len(after) - 1)
    return sum(float(logprobs_TV[place, token]) for place, token in zip(places, after, strict=True))


def test_a_text_is_as_likely_as_the_model_says(model: MiniMind) -> None:
    texts = [("the cat", " sat"), ("the cat", " ran home"), ("", "猫坐"), ("the cat sat on the mat.", " a dog")]
    pairs = [continuation_ids(TOKENIZER, *text) for text in texts]
    told: list[int] = []
    found = likelihoods(engine(model), pairs, told.append)
    for one, (before, after) in zip(found, pairs, strict=True):
        assert one.tokens == len(after)
        assert one.logprob == pytest.approx(logprob_of(model, before, after), abs=1e-4)
    assert sorted(told) == sorted(len(before) + len(after) for before, after in pairs)


def test_white_space_at_the_end_of_a_context_belongs_to_what_follows() -> None:
    assert continuation_ids(TOKENIZER, "the cat ", "sat") == continuation_ids(TOKENIZER, "the cat", " sat")
    before, after = continuation_ids(TOKENIZER, "the cat", " sat")
    assert TOKENIZER.decode(before[1:] + after) == "the cat sat"
    assert before[0] == TOKENIZER.bos_id


def test_a_context_that_is_too_long_loses_its_beginning(model: MiniMind) -> None:
    before, after = continuation_ids(TOKENIZER, "the cat sat on the mat. " * 9, "a dog")
    assert len(before) + len(after) > 64
    (found,) = likelihoods(engine(model), [(before, after)])
    assert found.logprob == pytest.approx(logprob_of(model, before[len(after) - 64 :], after), abs=1e-4)


@pytest.mark.parametrize("after", [[], [5] * 64])
def test_what_cannot_be_scored_is_refused(model: MiniMind, after: list[int]) -> None:
    with pytest.raises(ValueError, match=rf"a text of {len(after)} tokens cannot be scored: 1 to 63 can"):
        likelihoods(engine(model), [([1], after)])


@pytest.mark.parametrize("length", [1, 7, 8, 9, 15, 16, 17, 40])
def test_windows_hold_every_token_once(length: int) -> None:
    ids = list(range(100, 100 + length))
    found = list(windows(ids, 1, 8))
    assert [token for _, after in found for token in after] == ids
    whole = [1, *ids]
    for before, after in found:
        assert before
        assert len(before) + len(after) <= 8
        end = whole.index(after[0])
        assert whole[end - len(before) : end] == before
        assert end == 1 or len(before) >= 4  # half of what a token is guessed from stays


def test_a_long_text_costs_about_what_its_parts_cost(model: MiniMind) -> None:
    ids = TOKENIZER.encode("the cat sat on the mat. a dog ran home. " * 6)
    whole = list(windows(ids, TOKENIZER.bos_id, 64))
    assert len(whole) > 2
    bits = -sum(one.logprob for one in likelihoods(engine(model), whole)) / math.log(2)
    exact = -sum(logprob_of(model, before, after) for before, after in whole) / math.log(2)
    assert bits == pytest.approx(exact, rel=1e-5)


def test_a_reply_is_what_the_engine_writes(model: MiniMind) -> None:
    talks = [[{"role": "user", "content": text}] for text in ("the cat", "猫", "a dog")]
    params = SamplingParams(12, temperature=0.9, seed=4, stop_ids=(TOKENIZER.eos_id,), logprobs=0)
    found = replies(engine(model, context=128), TOKENIZER, talks, params)
    for reply, talk in zip(found, talks, strict=True):
        prompt = render(TOKENIZER, talk, add_generation_prompt=True).ids
        (alone,) = engine(model, context=128).generate([prompt], params)
        assert reply.text == TOKENIZER.decode([i for i in alone.token_ids if i != TOKENIZER.eos_id])
        assert reply.tokens == len(alone.token_ids)
        assert reply.logprob == pytest.approx(sum(alone.logprobs))
        assert reply.finish == alone.finish
        assert reply.seconds > 0


def test_an_answer_has_the_room_that_its_prompt_leaves(model: MiniMind) -> None:
    talk = [{"role": "user", "content": "the cat sat on the mat"}]
    prompt = render(TOKENIZER, talk, add_generation_prompt=True).ids
    (found,) = replies(engine(model, context=len(prompt) + 3), TOKENIZER, [talk], SamplingParams(50, temperature=0.0))
    assert found.tokens == 3
    with pytest.raises(ValueError, match="leaves no room for an answer"):
        replies(engine(model, context=len(prompt)), TOKENIZER, [talk], SamplingParams(50))


def test_after_an_error_the_engine_is_free(model: MiniMind) -> None:
    one = engine(model)
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        likelihoods(one, [([1], [5, 6])])
    one.step()
    assert not one.busy
