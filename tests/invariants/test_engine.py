"""What the engine writes is what the plain model would, whatever else it writes at the same time."""

from __future__ import annotations

import random

import pytest
import torch

from minimind.inference.compiled import library
from minimind.inference.completion import Completion, RequestEvent, completion
from minimind.inference.engine import Engine
from minimind.inference.quantize import WEIGHT_TYPES, WeightType
from minimind.inference.sampling import SamplingParams
from minimind.network.lora import LoraConfig, attach
from minimind.network.model import MiniMind
from minimind.training.objectives import next_token_loss
from tests.toys import toy_model, toy_rows


@pytest.fixture(params=[False, True], ids=["pytorch", "native"])
def native(request: pytest.FixtureRequest) -> bool:
    if request.param and library() is None:
        pytest.skip("no C compiler with OpenMP here")
    return bool(request.param)


def prompts(count: int) -> list[list[int]]:
    """Ragged prompts; every third begins like the one before."""
    draw = random.Random(0)
    texts: list[list[int]] = []
    for number in range(count):
        start = texts[-1][:25] if number % 3 == 2 else []
        texts.append(start + [draw.randrange(64) for _ in range(draw.randint(1, 40))])
    return texts


@torch.no_grad()
def plain_greedy(model: MiniMind, prompt: list[int], max_tokens: int) -> list[int]:
    """The likeliest tokens, the whole text computed again for each."""
    text = list(prompt)
    for _ in range(max_tokens):
        text.append(int(model.logits(model(torch.tensor([text]))[0, -1]).argmax()))
    return text[len(prompt) :]


def test_greedy_is_the_plain_forward_token_for_token(native: bool) -> None:
    model, texts = toy_model(), prompts(12)
    lengths = [3 + 5 * (number % 4) for number in range(12)]
    engine = Engine(model, slots=4, context_tokens=80, prefill_tokens=16, native=native)
    params = [SamplingParams(length, temperature=0) for length in lengths]
    answers = [answer.token_ids for answer in engine.generate(texts, params)]
    assert answers == [plain_greedy(model, text, length) for text, length in zip(texts, lengths, strict=True)]


def test_an_adapter_takes_part() -> None:
    model = toy_model()
    attach(model, LoraConfig(rank=4), torch.Generator().manual_seed(0))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(1))
    (answer,) = Engine(model, slots=1, context_tokens=40).generate([[5, 9, 3]], SamplingParams(12, temperature=0))
    assert answer.token_ids == plain_greedy(model, [5, 9, 3], 12) != plain_greedy(toy_model(), [5, 9, 3], 12)


@pytest.mark.parametrize("weight_type", WEIGHT_TYPES)
def test_a_seeded_request_gets_the_same_answer_alone_and_among_31_others(weight_type: WeightType) -> None:
    """In every precision, log-probs to the last bit, wherever the beginning of its prompt was found."""
    if library() is None:
        pytest.skip("no C compiler with OpenMP here")
    together, in_turns, again, alone = answers_of_32(weight_type, native=True)
    assert together == in_turns == again == alone


def test_in_pytorch_a_seeded_request_gets_the_same_answer_in_float32() -> None:
    """The logits differ by rounding, which moves an answer once in some hundred thousand tokens."""
    first, *others = answers_of_32("float32", native=False)
    for answers in others:
        assert [answer.token_ids for answer in answers] == [answer.token_ids for answer in first]


def answers_of_32(weight_type: WeightType, native: bool) -> list[list[Completion]]:
    """All at once, in turns in five slots, the same once more in another order and with what those hold, each alone."""
    model, texts = toy_model(), prompts(32)
    params = [
        SamplingParams(
            5 + number % 17,
            temperature=(0.7, 1.0, 1.5)[number % 3],
            top_k=(0, 20)[number % 2],
            top_p=(1.0, 0.9, 0.8, 1.0)[number % 4],
            frequency_penalty=(0.0, 0.3)[number % 5 == 0],
            seed=number,
            logprobs=0,
        )
        for number in range(32)
    ]

    def engine(slots: int) -> Engine:
        return Engine(model, slots=slots, context_tokens=100, prefill_tokens=8, weight_type=weight_type, native=native)

    five = engine(5)
    in_turns = five.generate(texts, params)
    numbers = {five.add(texts[number], params[number]): number for number in reversed(range(32))}
    events: dict[int, list[RequestEvent]] = {number: [] for number in range(32)}
    for event in finish(five):
        events[numbers[event.request]].append(event)
    alone = [engine(1).generate([text], how)[0] for text, how in zip(texts, params, strict=True)]
    return [engine(32).generate(texts, params), in_turns, [completion(events[n]) for n in range(32)], alone]


def finish(engine: Engine) -> list[RequestEvent]:
    events: list[RequestEvent] = []
    while engine.busy:
        events += engine.step()
    return events


def test_a_beginning_found_in_a_slot_changes_nothing(native: bool) -> None:
    model = toy_model()
    prompt = prompts(1)[0] * 3
    engine = Engine(model, slots=3, context_tokens=200, native=native)
    params = SamplingParams(10, temperature=0)
    first = engine.add(prompt, params)
    same = [engine.add(prompt, params) for _ in range(4)]
    events = finish(engine)
    found = {request: [e.token_id for e in events if e.request == request] for request in (first, *same)}
    assert all(found[number] == found[first] for number in same)
    follow_up = prompt + [token for token in found[first] if token is not None] + [1, 2, 3]
    number = engine.add(follow_up, params)
    assert [event.token_id for event in finish(engine) if event.request == number] == plain_greedy(model, follow_up, 10)


def test_log_probs_are_those_of_training(native: bool) -> None:
    model, rows = toy_model(), toy_rows(6)
    engine = Engine(model, slots=2, context_tokens=32, native=native)
    nats = 0.0
    for row in range(6):
        for segment in sorted(set(rows.segment_BT[row].tolist())):
            text = rows.tokens_BT[row][rows.segment_BT[row] == segment].tolist()
            if segment and len(text) > 1:
                (answer,) = engine.generate([text], SamplingParams(0, prompt_logprobs=0))
                assert answer.prompt is not None
                nats -= sum(token.logprob for token in answer.prompt if token.logprob is not None)
    with torch.no_grad():
        loss = next_token_loss({"policy": model}, rows)
    assert nats / float(loss.weight) == pytest.approx(float(loss.total / loss.weight), abs=1e-5)


def test_log_probs_of_an_answer_are_those_of_training_to_1e_4(native: bool) -> None:
    model = toy_model()
    engine = Engine(model, slots=8, context_tokens=100, native=native)
    texts = prompts(20)
    answers = engine.generate(texts, SamplingParams(25, seed=3, logprobs=0))
    for prompt, answer in zip(texts, answers, strict=True):
        with torch.no_grad():
            logprobs_TV = model.logits(model(torch.tensor([prompt + answer.token_ids])))[0].log_softmax(1)
        places = range(len(prompt) - 1, len(prompt) + 24)
        expected = [float(logprobs_TV[place, token]) for place, token in zip(places, answer.token_ids, strict=True)]
        assert answer.logprobs == pytest.approx(expected, abs=1e-4)
