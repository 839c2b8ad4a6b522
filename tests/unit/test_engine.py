from __future__ import annotations

import math
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import torch

import minimind.inference.engine as engine_module
from minimind.config import override
from minimind.inference.cache import kv_cache_bytes
from minimind.inference.completion import Completion, PromptToken, RequestEvent, completion
from minimind.inference.engine import Engine
from minimind.inference.quantize import WEIGHT_TYPES, QuantizedModel, WeightType
from minimind.inference.sampling import SamplingParams
from minimind.inference.scheduler import Chunk, Request, Scheduler
from minimind.inference.stop_strings import StopStrings
from minimind.network.model import MiniMind
from minimind.text.tokenizer import Tokenizer
from tests.toys import TOY_CONFIG, text_model, toy_model

PROMPT = [5, 9, 3]


def greedy(max_tokens: int, **settings: Any) -> SamplingParams:
    return SamplingParams(max_tokens, temperature=0, **settings)


def engine(slots: int = 2, context_tokens: int = 64, **settings: Any) -> Engine:
    return Engine(toy_model(), slots=slots, context_tokens=context_tokens, **settings)


def run(engine: Engine) -> dict[int, list[RequestEvent]]:
    """All events until the engine has nothing left to do, by request."""
    events: dict[int, list[RequestEvent]] = {}
    while engine.busy:
        for event in engine.step():
            events.setdefault(event.request, []).append(event)
    return events


# The scheduler


def request(number: int, prompt: list[int], **settings: Any) -> Request:
    return Request(number, prompt, SamplingParams(10, **settings), seed=0)


def planned(scheduler: Scheduler) -> tuple[list[tuple[int, int, int, int | None]], list[int]]:
    """A plan as (request, start, stop, source) and the requests that write; it is carried out, soundly, and those that
    are prefilled write then.
    """
    chunks, writing = scheduler.plan()
    assert scheduler.plan()[1] == writing
    scheduler.commit(chunks, writing)
    for chunk in chunks:
        if chunk.stop == len(chunk.request.prompt):
            chunk.request.written.append(0)
            chunk.request.sound = True
    return [(c.request.id, c.start, c.stop, c.source) for c in chunks], [r.id for r in writing]


def test_prompts_are_cut_at_multiples_and_the_others_write_meanwhile() -> None:
    scheduler = Scheduler(slots=2, prefill_tokens=4)
    scheduler.waiting += [request(0, [1, 2]), request(1, list(range(10)))]
    assert planned(scheduler) == ([(0, 0, 2, None), (1, 0, 4, None)], [])
    assert planned(scheduler) == ([(1, 4, 8, None)], [0])
    assert planned(scheduler) == ([(1, 8, 10, None)], [0])
    assert planned(scheduler) == ([], [0, 1])


def test_a_slot_is_given_away_at_once_first_come_first_served() -> None:
    scheduler = Scheduler(slots=1, prefill_tokens=16)
    first, second, third = (request(number, [number] * 3) for number in range(3))
    scheduler.waiting += [first, second, third]
    assert planned(scheduler) == ([(0, 0, 3, None)], [])
    assert planned(scheduler) == ([], [0])
    scheduler.release(first)
    assert planned(scheduler) == ([(1, 0, 3, None)], [])
    scheduler.release(third)
    scheduler.release(second)
    assert planned(scheduler) == ([], [])


def test_a_beginning_that_another_slot_holds_is_copied() -> None:
    scheduler = Scheduler(slots=3, prefill_tokens=100)
    shared = list(range(30))
    scheduler.waiting += [request(0, shared), request(1, shared), request(2, [*shared[:20], 99])]
    # It is not there before the step is over. The last token of a prompt is computed in any case, for its logits.
    assert planned(scheduler)[0] == [(0, 0, 30, None)]
    assert planned(scheduler)[0] == [(1, 29, 30, 0), (2, 20, 21, 0)]


def test_a_conversation_goes_on_in_the_slot_that_holds_it() -> None:
    scheduler = Scheduler(slots=2, prefill_tokens=100)
    first = request(0, list(range(30)))
    scheduler.waiting.append(first)
    planned(scheduler)
    planned(scheduler)  # writes a token; its key is in the slot
    scheduler.release(first)
    follow_up = request(1, [*range(30), 0, 7, 8])
    scheduler.waiting.append(follow_up)
    assert planned(scheduler)[0] == [(1, 31, 33, None)]
    assert follow_up.slot == first.slot


def test_what_was_used_last_is_kept_longest() -> None:
    scheduler = Scheduler(slots=2, prefill_tokens=100)
    one, two = request(0, [1] * 20), request(1, [2] * 20)
    scheduler.waiting += [one, two]
    planned(scheduler)
    scheduler.release(two)
    scheduler.release(one)
    other = request(2, [3] * 20)
    scheduler.waiting.append(other)
    planned(scheduler)
    assert other.slot == two.slot


def test_short_beginnings_forgotten_ones_and_scored_prompts_are_computed_again() -> None:
    for length, forget, settings in ((10, False, {}), (30, True, {}), (30, False, {"prompt_logprobs": 0})):
        scheduler = Scheduler(slots=2, prefill_tokens=100)
        first = request(0, list(range(length)))
        scheduler.waiting.append(first)
        planned(scheduler)
        scheduler.release(first)
        if forget:
            scheduler.forget()
        scheduler.waiting.append(request(1, list(range(length)), **settings))
        assert planned(scheduler)[0] == [(1, 0, length, None)]


def test_a_chunk_says_what_to_compute() -> None:
    scheduler = Scheduler(slots=1, prefill_tokens=8)
    one = request(0, [1, 2, 3])
    scheduler.waiting.append(one)
    assert scheduler.plan() == ([Chunk(one, 0, 3, None)], [])
    assert scheduler.running == [one]


# Stop strings

LETTERS = Tokenizer.train(["ab"], vocab_size=292)


def pushed(text: str, *stop: str) -> tuple[str, str, str]:
    """What goes out by itself, what of a cut token follows, and what is held when the text is over."""
    watch = StopStrings(stop, LETTERS)
    out: list[RequestEvent] = []
    for token_id in LETTERS.encode(text):
        out += watch.push(RequestEvent(0, token_id))
        if out and out[-1].finish:
            break
    ids = [event.token_id for event in out if event.token_id is not None]
    rest = out[-1].rest if out and out[-1].finish else "-"
    held = [event.token_id for event in watch.flush() if event.token_id is not None]
    return LETTERS.decode(ids), rest, LETTERS.decode(held)


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("hello world", ("END",), ("hello world", "-", "")),
        ("hello END more", ("END",), ("hello ", "", "")),
        ("hello EN more", ("END",), ("hello EN more", "-", "")),
        ("hello EN", ("END",), ("hello ", "-", "EN")),
        ("EEND", ("END",), ("E", "", "")),
        ("xyz", ("yz", "z"), ("x", "", "")),
        ("xyz", ("z", "yz"), ("x", "", "")),
        ("aab", ("aaab", "b"), ("aa", "", "")),
        ("中文。好", ("。",), ("中文", "", "")),
        ("中文好", ("。",), ("中文好", "-", "")),
    ],
)
def test_stop_strings_hold_back_what_may_belong_to_them(
    text: str, stop: tuple[str, ...], expected: tuple[str, str, str]
) -> None:
    assert pushed(text, *stop) == expected


def test_the_text_before_a_stop_string_in_the_same_token_is_the_rest() -> None:
    tokenizer = Tokenizer.train(["what. what. what. what. what."] * 3, vocab_size=310)
    (token_id,) = [i for i in tokenizer.encode("what. what. what.") if b"hat" in tokenizer.decode_bytes([i])][:1]
    text = tokenizer.decode([token_id])
    before, stop = text[:-2], text[-2:-1]
    (event,) = StopStrings((stop,), tokenizer).push(RequestEvent(0, token_id, written_tokens=1))
    assert event == RequestEvent(0, finish="stop", rest=before, written_tokens=1)


# The engine


def test_an_answer_is_as_long_as_asked() -> None:
    (answer,) = engine().generate([PROMPT], greedy(5))
    assert (len(answer.token_ids), answer.finish, answer.written_tokens) == (5, "length", 5)
    assert (answer.logprobs, answer.top, answer.rest, answer.prompt) == ([], [], "", None)


def test_a_stop_id_ends_an_answer_and_is_its_last_token() -> None:
    (free,) = engine().generate([PROMPT], greedy(8))
    end = free.token_ids[3]
    (answer,) = engine().generate([PROMPT], greedy(8, stop_ids=(end, 63)))
    assert answer.token_ids == free.token_ids[: free.token_ids.index(end) + 1]
    assert answer.finish == "stop"


def test_a_stop_string_ends_an_answer_and_is_no_part_of_it() -> None:
    model = text_model()
    (free,) = Engine(model, slots=1, context_tokens=64).generate([PROMPT], greedy(12))
    text = LETTERS.decode(free.token_ids[5:7])
    assert text.isascii(), "half characters cannot be named"
    with_stops = Engine(model, slots=1, context_tokens=64, tokenizer=LETTERS)
    (answer,) = with_stops.generate([PROMPT], greedy(12, stop=(text,)))
    whole = LETTERS.decode(free.token_ids)
    assert LETTERS.decode(answer.token_ids) + answer.rest == whole[: whole.index(text)]
    assert answer.finish == "stop"
    assert len(answer.token_ids) < answer.written_tokens <= 8


def test_what_a_stop_string_held_back_comes_out_at_the_end() -> None:
    model = text_model()
    (free,) = Engine(model, slots=1, context_tokens=64).generate([PROMPT], greedy(4))
    last = LETTERS.decode(free.token_ids[-1:])
    with_stops = Engine(model, slots=1, context_tokens=64, tokenizer=LETTERS)
    (answer,) = with_stops.generate([PROMPT], greedy(4, stop=(last + "never",)))
    assert (answer.token_ids, answer.finish) == (free.token_ids, "length")
    (stopped,) = with_stops.generate(
        [PROMPT], greedy(9, stop=(LETTERS.decode(free.token_ids[-2:]) + "!",), stop_ids=(free.token_ids[-1],))
    )
    assert (stopped.token_ids, stopped.finish) == (free.token_ids, "stop")


def test_no_tokens_asked_for_computes_the_prompt_alone() -> None:
    (answer,) = engine().generate([PROMPT], greedy(0, prompt_logprobs=2))
    assert (answer.token_ids, answer.finish, answer.written_tokens) == ([], "length", 0)
    assert answer.prompt is not None
    assert len(answer.prompt) == 3


@pytest.mark.parametrize("prefill_tokens", [1, 2, 256])
def test_log_probs_of_prompt_and_answer_are_the_models(prefill_tokens: int) -> None:
    model = toy_model()
    params = SamplingParams(6, temperature=0.5, top_k=9, seed=1, logprobs=3, prompt_logprobs=1)
    one = Engine(model, slots=1, context_tokens=32, prefill_tokens=prefill_tokens)
    (answer,) = one.generate([PROMPT], params)
    with torch.no_grad():
        logprobs_TV = model.logits(model(torch.tensor([PROMPT + answer.token_ids])))[0].log_softmax(1)
    for place, (token, logprob, top) in enumerate(zip(answer.token_ids, answer.logprobs, answer.top, strict=True), 2):
        assert logprob == pytest.approx(float(logprobs_TV[place, token]), abs=1e-4)
        best = logprobs_TV[place].topk(3)
        assert [token_id for token_id, _ in top] == best.indices.tolist()
        assert [value for _, value in top] == pytest.approx(best.values.tolist(), abs=1e-4)
    assert answer.prompt is not None
    assert answer.prompt[0] == PromptToken(None)
    for place in (1, 2):
        expected = float(logprobs_TV[place - 1, PROMPT[place]])
        assert answer.prompt[place].logprob == pytest.approx(expected, abs=1e-4)
        assert answer.prompt[place].top[0][0] == int(logprobs_TV[place - 1].argmax())


def test_requests_in_a_batch_get_the_alternatives_they_asked_for() -> None:
    params = [greedy(2, logprobs=wanted) for wanted in (None, 0, 1, 4)]
    answers = engine(4).generate([PROMPT] * 4, params)
    assert [[len(top) for top in answer.top] for answer in answers] == [[], [0, 0], [1, 1], [4, 4]]
    assert [len(answer.logprobs) for answer in answers] == [0, 2, 2, 2]


def test_penalties_change_what_is_written() -> None:
    (free,) = engine().generate([PROMPT], greedy(20))
    assert len(set(free.token_ids)) < 20
    answers = engine().generate(
        [PROMPT] * 3,
        [
            greedy(20, presence_penalty=1000.0),
            greedy(20, frequency_penalty=1000.0),
            greedy(20, repetition_penalty=1e6),
        ],
    )
    for answer in answers:
        assert len(set(answer.token_ids)) == 20
    assert not set(answers[2].token_ids) & set(PROMPT)


def test_seeds_decide_and_requests_without_one_get_the_engines() -> None:
    def answers(engine_seed: int | None, seed: int | None) -> list[list[int]]:
        found = engine(2, seed=engine_seed).generate([PROMPT] * 4, SamplingParams(12, seed=seed))
        return [answer.token_ids for answer in found]

    assert len({tuple(ids) for ids in answers(None, 5)}) == 1
    assert answers(1, 5) == answers(2, 5)
    assert answers(1, None) == answers(1, None)
    assert answers(1, None) != answers(2, None)
    assert len({tuple(ids) for ids in answers(None, None)}) == 4


def test_cancelling_frees_the_slot_and_the_others_do_not_notice() -> None:
    one = engine(slots=2)
    expected = [answer.token_ids for answer in one.generate([PROMPT, [7, 8]], greedy(10))]
    first, second, third = one.add([1, 2], greedy(60)), one.add(PROMPT, greedy(10)), one.add([7, 8], greedy(10))
    written = [event for _ in range(3) for event in one.step()]
    one.cancel(first)
    events = run(one)
    last = events[first][-1]
    assert (last.finish, last.token_id, last.written_tokens) == ("cancelled", None, 3)
    for number, ids in zip((second, third), expected, strict=True):
        of_request = [e for e in written if e.request == number] + events[number]
        assert [e.token_id for e in of_request] == ids


def test_cancelling_one_that_waits_or_has_ended() -> None:
    one = engine(slots=1)
    first, second = one.add(PROMPT, greedy(2)), one.add(PROMPT, greedy(2))
    one.cancel(second)
    events = run(one)
    assert [event.finish for event in events[second]] == ["cancelled"]
    assert [event.finish for event in events[first]] == [None, "length"]
    one.cancel(first)
    one.cancel(12345)
    assert not one.busy


def test_a_request_gets_its_slot_in_the_step_after_another_ended() -> None:
    one = engine(slots=1)
    first, second = one.add(PROMPT, greedy(2)), one.add(PROMPT, greedy(1))
    assert [[event.request for event in one.step()] for _ in range(3)] == [[first], [first], [second]]
    assert not one.busy


def test_the_cache_takes_what_was_said_and_no_more_with_use() -> None:
    one = engine(slots=3, context_tokens=40)
    cache = one._decoder.cache
    assert one.kv_cache_bytes == kv_cache_bytes(TOY_CONFIG, 3, 40) == cache.nbytes
    tensors = [tensor.data_ptr() for tensor in (*cache.keys, *cache.values)]
    one.generate([PROMPT] * 9, greedy(30))
    assert [tensor.data_ptr() for tensor in (*cache.keys, *cache.values)] == tensors


def test_a_text_may_fill_its_slot_to_the_end() -> None:
    (answer,) = engine(context_tokens=10).generate([PROMPT], greedy(7))
    (free,) = engine().generate([PROMPT], greedy(7))
    assert answer == free


def test_forgetting_makes_new_weights_count() -> None:
    model = toy_model()
    one = Engine(model, slots=1, context_tokens=64)
    prompt = list(range(40))
    (before,) = one.generate([prompt], greedy(5, logprobs=0))
    model.load_state_dict(toy_model(seed=1).state_dict())
    (after,) = one.generate([prompt], greedy(5, logprobs=0))
    (expected,) = Engine(model, slots=1, context_tokens=64).generate([prompt], greedy(5, logprobs=0))
    assert after == expected != before
    one.add(PROMPT, greedy(5))
    with pytest.raises(RuntimeError, match="1 requests are under way"):
        one.forget()


@pytest.mark.parametrize("weight_type", WEIGHT_TYPES)
@pytest.mark.parametrize("replaced", [False, True])
def test_new_weights_count_in_every_precision(weight_type: WeightType, replaced: bool) -> None:
    """Changed in place or replaced, also where the engine reads a rounded copy of them."""
    model = toy_model()
    one = Engine(model, slots=1, context_tokens=64, weight_type=weight_type)
    (before,) = one.generate([PROMPT], greedy(9, logprobs=0))
    for seed in (1, 2):
        model.load_state_dict(toy_model(seed).state_dict(), assign=replaced)
        new = Engine(toy_model(seed), slots=1, context_tokens=64, weight_type=weight_type)
        (expected,) = new.generate([PROMPT], greedy(9, logprobs=0))
        if seed == 1:  # the other way that callers take: requests of their own after a call of forget
            one.forget()
            one.add(PROMPT, greedy(9, logprobs=0))
            found = completion([event for events in run(one).values() for event in events])
        else:
            (found,) = one.generate([PROMPT], greedy(9, logprobs=0))
        assert found == expected != before


def test_weights_are_rounded_again_only_when_they_have_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    rounded: list[QuantizedModel] = []
    monkeypatch.setattr(QuantizedModel, "follow", lambda small, source: rounded.append(small))
    model = toy_model()
    one = Engine(model, slots=1, context_tokens=64, weight_type="bfloat16")
    one.generate([PROMPT], greedy(2))
    assert rounded == []
    one.forget()  # whoever says that they have changed is believed
    assert len(rounded) == 1
    with torch.no_grad():
        model.get_parameter("model.layers.0.mlp.up_proj.weight").mul_(2)
    one.generate([PROMPT], greedy(2))
    assert len(rounded) == 2


# Errors


class Faults:
    """Errors that come in the midst of an engine's steps, the more the denser. Without one, it counts the calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, one: Engine, seed: int) -> None:
        self.draw = random.Random(seed)
        self.rate = 0.4
        self.raised = 0
        monkeypatch.setattr(one._decoder, "extend", self.around(one._decoder.extend))
        monkeypatch.setattr(one._decoder.cache, "copy", self.around(one._decoder.cache.copy))
        for name in ("choose", "token_logprobs"):
            monkeypatch.setattr(engine_module, name, self.around(getattr(engine_module, name)))

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            self.fail()
            result = function(*args)
            self.fail()
            return result

        return call

    def fail(self) -> None:
        if self.draw.random() < self.rate / 4:
            self.raised += 1
            raise torch.OutOfMemoryError("out of memory, for once")


@pytest.mark.parametrize("native", [False, None])
@pytest.mark.parametrize("seed", range(4))
def test_a_step_that_fails_is_taken_again_as_if_nothing_had_been(
    seed: int, native: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(seed)
    shared = [draw.randrange(64) for _ in range(30)]
    prompts = [shared[: 16 + number] + [number] * (1 + number % 3) for number in range(9)]
    params = [greedy(1 + number % 5, logprobs=0, prompt_logprobs=(None, 1)[number % 4 == 3]) for number in range(9)]
    settings: dict[str, Any] = {"slots": 3, "prefill_tokens": 8, "native": native}
    expected = engine(**settings).generate(prompts, params)
    one = engine(**settings)
    faults = Faults(monkeypatch, one, seed)
    numbers = [one.add(prompt, how) for prompt, how in zip(prompts, params, strict=True)]
    events: dict[int, list[RequestEvent]] = {number: [] for number in numbers}
    while one.busy:
        with suppress(torch.OutOfMemoryError):
            for event in one.step():
                events[event.request].append(event)
    assert faults.raised > 5
    for number, wanted in zip(numbers, expected, strict=True):
        found = completion(events[number])
        assert (found.token_ids, found.finish) == (wanted.token_ids, wanted.finish)
        assert found.logprobs == pytest.approx(wanted.logprobs, abs=1e-5)
        assert len(found.prompt or ()) == len(wanted.prompt or ())


@pytest.mark.parametrize("native", [False, None])
def test_what_a_failed_step_left_in_a_slot_is_no_beginning_of_a_prompt(
    native: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = [(7 * number) % 60 for number in range(40)]
    (expected,) = engine(native=native).generate([prompt], greedy(6))
    one = engine(native=native)
    one.generate([[60] * 40], greedy(6))
    with monkeypatch.context() as patch:
        faults = Faults(patch, one, 0)
        faults.rate = 4
        number = one.add(prompt, greedy(6))
        with pytest.raises(torch.OutOfMemoryError):
            one.step()
    one.cancel(number)
    assert [event.finish for event in one.step()] == ["cancelled"]
    number = one.add(prompt, greedy(6))
    assert completion(run(one)[number]) == expected


def test_events_that_wait_are_not_lost_with_a_step_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    one = engine()
    first, second = one.add(PROMPT, greedy(3)), one.add([1, 2], greedy(3))
    one.cancel(first)
    with monkeypatch.context() as patch:
        Faults(patch, one, 0).rate = 4
        with pytest.raises(torch.OutOfMemoryError):
            one.step()
    events = run(one)
    assert [event.finish for event in events[first]] == ["cancelled"]
    assert len(events[second]) == 3


def test_generating_leaves_nothing_under_way_when_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    one = engine()
    expected = one.generate([PROMPT, [1, 2]], greedy(5))
    with monkeypatch.context() as patch:
        Faults(patch, one, 0).rate = 4
        with pytest.raises(torch.OutOfMemoryError):
            one.generate([PROMPT, [1, 2]], greedy(5))
    assert not one.busy
    with pytest.raises(ValueError, match="the prompt is empty"):
        one.generate([PROMPT, []], greedy(5))
    assert not one.busy
    assert one.generate([PROMPT, [1, 2]], greedy(5)) == expected


def test_generating_leaves_what_was_cancelled_before_to_the_next_step() -> None:
    one = engine()
    cancelled = one.add(PROMPT, greedy(5))
    one.cancel(cancelled)
    (answer,) = one.generate([[1, 2]], greedy(3))
    assert len(answer.token_ids) == 3
    assert [(event.request, event.finish) for event in one.step()] == [(cancelled, "cancelled")]
    assert not one.busy


@pytest.mark.parametrize("native", [False, None])
def test_settings_next_to_the_impossible_harm_nobody(native: bool | None) -> None:
    """Those that HTTP lets through, beside another request and with whatever else changes the logits."""
    (expected,) = engine(native=native).generate([PROMPT], greedy(12))
    for settings in (
        {"temperature": 1e-50},
        {"temperature": 1e-50, "repetition_penalty": 1.1},
        {"temperature": 1e-40, "top_p": 1e-40, "top_k": 5, "min_p": 1e-40},
        {"repetition_penalty": 0.01},
        {"repetition_penalty": 0.01, "temperature": 1e-5, "presence_penalty": -1e6},
        {"frequency_penalty": 1e6, "presence_penalty": 1e6, "temperature": 1e6},
    ):
        one = engine(native=native)
        asked: dict[str, Any] = {"seed": 1, **settings}
        odd = SamplingParams(12, **asked)
        found, answer = one.generate([PROMPT, [7, 8]], [greedy(12), odd])
        assert found == expected
        assert len(answer.token_ids) == 12
        assert all(0 <= token < 64 for token in answer.token_ids)


def damaged_model(damage: float) -> MiniMind:
    """Token 50 is no number, nor what follows it; a text without it is as good as ever."""
    model = toy_model(config=override(TOY_CONFIG, {"tie_word_embeddings": False}))
    with torch.no_grad():
        model.model.embed_tokens.weight[50] = damage
    return model


@pytest.mark.parametrize("native", [False, None])
@pytest.mark.parametrize("damage", [math.nan, math.inf])
@pytest.mark.parametrize("weight_type", WEIGHT_TYPES)
def test_one_request_that_gives_no_numbers_fails_alone(
    weight_type: WeightType, damage: float, native: bool | None
) -> None:
    """Beside it, after it in its slot, and with the beginning of its prompt."""
    model = damaged_model(damage)
    settings: dict[str, Any] = {"context_tokens": 64, "weight_type": weight_type, "native": native}
    prompts = [[3] * 20, [4] * 7, [5] * 33]
    # The likeliest of these never is token 50, which would be a text of numbers no more.
    expected = [Engine(model, slots=1, **settings).generate([prompt], greedy(9))[0].token_ids for prompt in prompts]
    assert not any(50 in answer for answer in expected)
    one = Engine(model, slots=2, prefill_tokens=16, **settings)
    for _ in range(3):
        bad = [one.add([9] * 30 + [50] + [9] * 9, greedy(5)), one.add([9] * 30 + [50], greedy(5, prompt_logprobs=1))]
        good = [one.add(prompt, greedy(9)) for prompt in prompts]
        events = run(one)
        for number in bad:
            (event,) = events[number]
            assert (event.finish, event.token_id) == ("failed", None)
            assert event.error.startswith("the model's logits are not finite")
        assert [completion(events[number]).token_ids for number in good] == expected
    with pytest.raises(RuntimeError, match="logits are not finite"):
        one.generate([PROMPT, [50], PROMPT], greedy(30))
    assert not one.busy


@pytest.mark.parametrize("native", [False, None])
@pytest.mark.parametrize("of_prompt", [None, 0], ids=["writing", "scoring"])
def test_whoever_writes_in_the_step_in_which_another_request_fails_writes_on(
    native: bool | None, of_prompt: int | None
) -> None:
    model = damaged_model(math.nan)
    (expected,) = Engine(model, slots=1, context_tokens=64, native=native).generate([[3] * 20], greedy(9))
    assert 50 not in expected.token_ids
    one = Engine(model, slots=3, context_tokens=64, native=native)
    good = one.add([3] * 20, greedy(9))
    written = [event.token_id for event in one.step()]
    bad, late = one.add([9, 50], greedy(5, prompt_logprobs=of_prompt)), one.add([3] * 20, greedy(9))
    together = {event.request: event for event in one.step()}
    assert together[bad].finish == "failed"
    assert together[good].finish is together[late].finish is None
    written += [together[good].token_id, *(event.token_id for event in run(one)[good])]
    assert written == expected.token_ids


@pytest.mark.parametrize("native", [False, None])
@pytest.mark.parametrize("cancelled_after", [None, 1])
def test_damage_does_not_outlive_the_weights_that_had_it(native: bool | None, cancelled_after: int | None) -> None:
    model = toy_model()
    prompts = [[1, 2, 3], list(range(1, 12))]
    one = Engine(model, slots=2, context_tokens=64, native=native, prefill_tokens=8)
    expected = one.generate(prompts, greedy(5))
    with torch.no_grad():
        model.get_parameter("model.layers.0.self_attn.v_proj.weight").fill_(math.nan)
        model.get_parameter("model.layers.1.self_attn.k_proj.weight").fill_(math.nan)
    numbers = [one.add(list(range(start, 40)), greedy(3)) for start in (1, 2)]
    if cancelled_after is not None:  # before anything has shown what its keys are
        one.step()
        for number in numbers:
            one.cancel(number)
    assert {event.finish for events in run(one).values() for event in events} == (
        {"failed"} if cancelled_after is None else {"cancelled"}
    )
    model.load_state_dict(toy_model().state_dict())
    assert one.generate(prompts, greedy(5)) == expected


@pytest.mark.parametrize(
    ("prompt", "params", "message"),
    [
        ([], greedy(1), "the prompt is empty"),
        ([64], greedy(1), "run from 64 to 64: allowed are 0 to 63"),
        ([-1, 5], greedy(1), "run from -1 to 5: allowed are 0 to 63"),
        ([1] * 60, greedy(5), "60 tokens and max_tokens is 5, together 65: the context holds 64"),
        ([1], greedy(1, stop=("a",)), r"stop = \('a',\): stop strings need an engine that was given a tokenizer"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused(prompt: list[int], params: SamplingParams, message: str) -> None:
    one = engine()
    with pytest.raises(ValueError, match=message):
        one.add(prompt, params)
    assert not one.busy


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"slots": 0}, "slots = 0"),
        ({"prefill_tokens": 0}, "prefill_tokens = 0"),
        ({"context_tokens": 0}, "context_tokens = 0: allowed is 1 to 32768"),
        ({"context_tokens": 40000}, "context_tokens = 40000: allowed is 1 to 32768"),
    ],
)
def test_an_engine_that_cannot_be_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        engine(**settings)


def test_a_model_that_gives_no_numbers_says_so() -> None:
    model = toy_model()
    with torch.no_grad():
        model.model.norm.weight.fill_(math.nan)
    with pytest.raises(RuntimeError, match="logits are not finite"):
        Engine(model, slots=1, context_tokens=8).generate([PROMPT], greedy(2))


def test_each_prompt_may_have_settings_of_its_own() -> None:
    answers = engine().generate([PROMPT, PROMPT, [1]], [greedy(1), greedy(2), greedy(3)])
    assert all(isinstance(answer, Completion) for answer in answers)
    assert [len(answer.token_ids) for answer in answers] == [1, 2, 3]
    assert engine().generate([], greedy(1)) == []
    with pytest.raises(ValueError, match="zip"):
        engine().generate([PROMPT], [])


def test_generating_leaves_the_random_numbers_of_training_alone() -> None:
    generating = engine()
    before = torch.get_rng_state()
    generating.generate([PROMPT], SamplingParams(5))
    assert torch.equal(torch.get_rng_state(), before)
