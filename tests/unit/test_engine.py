from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from minimind.cache import kv_cache_bytes
from minimind.engine import Chunk, Completion, Engine, Event, PromptToken, Request, Scheduler, StopStrings
from minimind.sampling import SamplingParams
from minimind.tokenizer import Tokenizer
from tests.toys import TOY_CONFIG, text_model, toy_model

PROMPT = [5, 9, 3]


def greedy(max_tokens: int, **settings: Any) -> SamplingParams:
    return SamplingParams(max_tokens, temperature=0, **settings)


def engine(slots: int = 2, context_tokens: int = 64, **settings: Any) -> Engine:
    return Engine(toy_model(), slots=slots, context_tokens=context_tokens, **settings)


def run(engine: Engine) -> dict[int, list[Event]]:
    """All events until the engine has nothing left to do, by request."""
    events: dict[int, list[Event]] = {}
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
    out: list[Event] = []
    for token_id in LETTERS.encode(text):
        out += watch.push(Event(0, token_id))
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
    (event,) = StopStrings((stop,), tokenizer).push(Event(0, token_id, written_tokens=1))
    assert event == Event(0, finish="stop", rest=before, written_tokens=1)


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
