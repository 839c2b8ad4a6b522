"""OpenAI's own client against the real application and a real model."""

from __future__ import annotations

import json
import socket
import threading
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from jobs.endpoints.endpoint import Endpoint
from jobs.evaluation import report, suites
from jobs.evaluation.compare import compare
from jobs.evaluation.evaluate import LocalExaminee, evaluate
from jobs.evaluation.remote import RemoteExaminee
from jobs.runs.references import find_weights
from tests import taught
from tests.small import Screen
from tests.unit.service.conftest import Served, number, open_sequences, until

WEATHER: Any = taught.WEATHER


def said(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


def test_the_models_are_the_runs_and_their_checkpoints(client: openai.OpenAI) -> None:
    ids = [model.id for model in client.models.list()]
    assert set(ids) == {"taught", "taught@10", "young@latest", "young@2", "young@1"}
    assert client.models.retrieve("taught").model_dump()["root"] == "taught@10"
    with pytest.raises(openai.NotFoundError, match=r"taught@10"):
        client.models.retrieve("nobody")


@pytest.mark.parametrize(("question", "answer"), [(taught.CAPITAL, "Paris."), (taught.CAPITAL_ZH, "巴黎。")])
def test_a_plain_answer(client: openai.OpenAI, question: str, answer: str) -> None:
    reply = client.chat.completions.create(model="taught", messages=said(question), temperature=0)
    assert reply.choices[0].message.content == answer
    assert (reply.choices[0].finish_reason, reply.model, reply.object) == ("stop", "taught", "chat.completion")
    assert reply.usage is not None
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert reply.usage.completion_tokens > 1
    assert reply.system_fingerprint is not None


def test_a_streamed_answer_with_its_usage(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="taught",
        messages=said(taught.COUNT),
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == taught.COUNTED
    assert [chunk.choices[0].finish_reason for chunk in chunks[-3:-1]] == [None, "stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens >= 20
    assert {chunk.id for chunk in chunks} == {chunks[0].id}


def test_a_streamed_answer_comes_while_it_is_written(client: openai.OpenAI, steps_allowed: threading.Semaphore) -> None:
    steps_allowed.release(8)
    stream = client.chat.completions.create(model="taught", messages=said(taught.COUNT), temperature=0, stream=True)
    begun = ""
    while not begun:
        begun = next(stream).choices[0].delta.content or ""
    assert taught.COUNTED.startswith(begun)
    assert len(begun) < len(taught.COUNTED)
    steps_allowed.release(1000)
    assert begun + "".join(chunk.choices[0].delta.content or "" for chunk in stream) == taught.COUNTED


def test_a_stream_says_usage_only_when_asked(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(model="taught", messages=said(taught.CAPITAL), temperature=0, stream=True)
    assert all(chunk.usage is None for chunk in stream)


def test_thoughts_stand_beside_the_answer(client: openai.OpenAI) -> None:
    message = (
        client.chat.completions.create(model="taught", messages=said(taught.PRIME), temperature=0).choices[0].message
    )
    assert message.model_dump()["reasoning_content"] == "Only 1 and 7 divide it."
    assert message.content == "Yes."


def test_the_thinking_switch_is_in_the_prompt(client: openai.OpenAI) -> None:
    tokens = {}
    for thinking in (None, True, False):
        extra = {} if thinking is None else {"chat_template_kwargs": {"enable_thinking": thinking}}
        reply = client.chat.completions.create(
            model="taught", messages=said(taught.CAPITAL), temperature=0, max_tokens=4, extra_body=extra
        )
        assert reply.usage is not None
        tokens[thinking] = reply.usage.prompt_tokens
    assert tokens[None] < tokens[True] < tokens[False]


@pytest.mark.parametrize("choice", ["auto", "required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_tool_call_and_what_follows(client: openai.OpenAI, choice: Any) -> None:
    reply = client.chat.completions.create(
        model="taught", messages=said(taught.FORECAST), temperature=0, tools=[WEATHER], tool_choice=choice
    )
    assert reply.choices[0].finish_reason == "tool_calls"
    message = reply.choices[0].message
    assert message.content is None
    assert message.tool_calls is not None
    call: Any = message.tool_calls[0]
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Paris"})
    # The client's own objects go back as they came.
    history: list[Any] = [
        *said(taught.FORECAST),
        message,
        {"role": "tool", "tool_call_id": call.id, "content": '{"sky": "sunny"}'},
    ]
    after = client.chat.completions.create(model="taught", messages=history, temperature=0, tools=[WEATHER])
    assert after.choices[0].message.content == "It is sunny in Paris."


def test_streamed_tool_calls(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="taught", messages=said(taught.FORECAST), temperature=0, tools=[WEATHER], stream=True
    )
    name, arguments, finish = "", "", None
    for chunk in stream:
        for call in chunk.choices[0].delta.tool_calls or ():
            assert call.index == 0
            assert call.function is not None
            name += call.function.name or ""
            arguments += call.function.arguments or ""
        finish = chunk.choices[0].finish_reason or finish
    assert (name, json.loads(arguments), finish) == ("get_weather", {"city": "Paris"}, "tool_calls")


def test_tool_choice_none_hides_the_tools(client: openai.OpenAI) -> None:
    common: Any = {"model": "taught", "messages": said(taught.FORECAST), "temperature": 0, "max_tokens": 8}
    hidden = client.chat.completions.create(**common, tools=[WEATHER], tool_choice="none")
    assert hidden.choices[0].message.tool_calls is None
    plain = client.chat.completions.create(**common)
    assert hidden.usage == plain.usage


def test_logprobs_of_a_chat(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(
        model="taught", messages=said(taught.CAPITAL), temperature=0, logprobs=True, top_logprobs=3
    )
    logprobs = reply.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert "".join(token.token for token in logprobs.content) == "Paris."
    for token in logprobs.content:
        assert len(token.top_logprobs) == 3
        assert token.top_logprobs[0].token == token.token  # temperature 0 takes the likeliest
        assert token.logprob == token.top_logprobs[0].logprob <= 0
        assert bytes(token.bytes or []).decode() == token.token


def test_logprobs_of_a_stream_are_those_of_the_whole(client: openai.OpenAI) -> None:
    common: Any = {"model": "taught", "messages": said(taught.COUNT), "temperature": 0, "logprobs": True}
    whole = client.chat.completions.create(**common).choices[0].logprobs
    streamed: list[Any] = []
    for chunk in client.chat.completions.create(**common, stream=True):
        if chunk.choices[0].logprobs is not None:
            streamed += chunk.choices[0].logprobs.content or []
    assert whole is not None
    assert whole.content is not None
    assert [token.token for token in whole.content] == [token.token for token in streamed]
    expected = [token.logprob for token in whole.content]
    assert [token.logprob for token in streamed] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    "penalty", [{"frequency_penalty": 2.0}, {"presence_penalty": 2.0}, {"extra_body": {"repetition_penalty": 2.0}}]
)
def test_penalties_change_what_is_drawn(client: openai.OpenAI, penalty: Any) -> None:
    def answers(**more: Any) -> list[str | None]:
        reply = client.chat.completions.create(
            model="taught", messages=said(taught.COUNT), temperature=2, seed=1, n=4, max_tokens=60, **more
        )
        return [choice.message.content for choice in reply.choices]

    assert answers(**penalty) == answers(**penalty) != answers()


def test_content_in_parts_and_a_system_message(client: openai.OpenAI) -> None:
    def prompt_tokens(*messages: Any) -> int:
        reply = client.chat.completions.create(model="taught", messages=messages, temperature=0, max_tokens=1)
        assert reply.usage is not None
        return reply.usage.prompt_tokens

    first, second = taught.CAPITAL[:8], taught.CAPITAL[8:]
    parts = [{"type": "text", "text": first}, {"type": "text", "text": second}]
    [plain] = said(taught.CAPITAL)
    reply = client.chat.completions.create(
        model="taught",
        messages=[{"role": "user", "content": [{"type": "text", "text": first}, {"type": "text", "text": second}]}],
        temperature=0,
    )
    assert reply.choices[0].message.content == "Paris."
    assert prompt_tokens({"role": "user", "content": parts}) == prompt_tokens(plain)
    system = prompt_tokens({"role": "system", "content": "Be brief."}, plain)
    assert system == prompt_tokens({"role": "developer", "content": "Be brief."}, plain) > prompt_tokens(plain)


def test_n_answers_differ_and_come_again_with_the_seed(client: openai.OpenAI) -> None:
    def answers(seed: int) -> list[str | None]:
        reply = client.chat.completions.create(
            model="taught", messages=said("Talk."), temperature=2, max_tokens=12, n=4, seed=seed
        )
        assert [choice.index for choice in reply.choices] == [0, 1, 2, 3]
        return [choice.message.content for choice in reply.choices]

    first = answers(7)
    assert len(set(first)) == 4
    assert answers(7) == first
    assert answers(8) != first


def test_n_answers_in_one_stream(client: openai.OpenAI) -> None:
    texts = {0: "", 1: "", 2: ""}
    stream = client.chat.completions.create(
        model="taught", messages=said(taught.COUNT), temperature=0, n=3, stream=True
    )
    for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert set(texts.values()) == {taught.COUNTED}


def test_stop_strings(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(
        model="taught", messages=said(taught.COUNT), temperature=0, stop=["7", "never said"]
    )
    assert reply.choices[0].message.content == "1, 2, 3, 4, 5, 6,"
    assert reply.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_length(client: openai.OpenAI, name: str) -> None:
    limit: Any = {name: 3}
    reply = client.chat.completions.create(model="taught", messages=said(taught.COUNT), temperature=0, **limit)
    assert reply.choices[0].finish_reason == "length"
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 3


def test_completions_of_several_prompts(client: openai.OpenAI) -> None:
    reply = client.completions.create(model="taught", prompt=["1, 2, 3", "4, 5, 6"], temperature=0, n=2, max_tokens=6)
    assert [choice.index for choice in reply.choices] == [0, 1, 2, 3]
    texts = [choice.text for choice in reply.choices]
    assert texts[0] == texts[1]
    assert texts[2] == texts[3]
    streamed = {0: "", 1: "", 2: "", 3: ""}
    stream = client.completions.create(
        model="taught", prompt=["1, 2, 3", "4, 5, 6"], temperature=0, n=2, max_tokens=6, stream=True
    )
    for chunk in stream:
        for choice in chunk.choices:
            streamed[choice.index] += choice.text
    assert list(streamed.values()) == texts


def test_echo_with_logprobs_scores_a_text(client: openai.OpenAI) -> None:
    """What evaluation harnesses ask: how likely is this text?"""
    text = "<|im_start|> 法国 1, 2, 3"
    reply = client.completions.create(model="taught", prompt=text, echo=True, logprobs=2, max_tokens=0)
    choice = reply.choices[0]
    assert (choice.text, choice.finish_reason) == (text, "length")
    logprobs: Any = choice.logprobs
    assert logprobs.token_logprobs[0] is None
    assert all(value < 0 for value in logprobs.token_logprobs[1:])
    assert logprobs.top_logprobs[0] is None
    assert all(2 <= len(best) <= 3 for best in logprobs.top_logprobs[1:])
    assert len(logprobs.tokens) == len(logprobs.text_offset) == len(logprobs.token_logprobs)
    assert logprobs.text_offset[0] == 0
    assert logprobs.text_offset == sorted(logprobs.text_offset)
    assert logprobs.text_offset[-1] < len(text)
    longer = client.completions.create(model="taught", prompt=text, echo=True, logprobs=2, max_tokens=2, temperature=0)
    more: Any = longer.choices[0].logprobs
    assert more.token_logprobs[1 : len(logprobs.tokens)] == pytest.approx(logprobs.token_logprobs[1:], abs=1e-4)
    assert len(more.tokens) == len(logprobs.tokens) + 2


def test_token_ids_as_prompt(client: openai.OpenAI) -> None:
    text = client.completions.create(model="taught", prompt=[[36, 37], [38]], echo=True, max_tokens=0)
    assert [len(choice.text) for choice in text.choices] == [2, 1]
    with pytest.raises(openai.BadRequestError, match="token id 600 is not in the vocabulary of 600"):
        client.completions.create(model="taught", prompt=[600])


def test_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match=r"model 'nobody'.*models: .*taught@10") as missing:
        client.chat.completions.create(model="nobody", messages=said("hi"))
    assert (missing.value.param, missing.value.code) == ("model", "model_not_found")
    with pytest.raises(openai.NotFoundError, match=r"not a path"):
        client.chat.completions.create(model="../taught", messages=said("hi"))
    with pytest.raises(openai.NotFoundError, match=r"the run is FAILED, so say which .*: young@latest, "):
        client.chat.completions.create(model="young", messages=said("hi"))
    with pytest.raises(openai.BadRequestError, match=r"temperature: .*less than or equal to 2") as hot:
        client.chat.completions.create(model="taught", messages=said("hi"), temperature=3)
    assert hot.value.param == "temperature"
    with pytest.raises(openai.BadRequestError, match=r"context is 512 tokens.*has \d+ tokens and 500 more") as long:
        client.chat.completions.create(model="taught", messages=said("hi " * 30), max_tokens=500)
    assert long.value.code == "context_length_exceeded"


def test_a_client_that_goes_away_frees_its_slots_with_the_next_step(
    served: Served, client: openai.OpenAI, steps_allowed: threading.Semaphore
) -> None:
    """Each answer has 480 tokens to write, and the engine may take a few steps: these answers cannot end otherwise."""
    many: dict[str, Any] = {"model": "taught", "messages": said("Talk."), "temperature": 2, "max_tokens": 480, "n": 128}
    steps_allowed.release(20)
    stream = client.chat.completions.create(**many, stream=True, extra_body={"ignore_eos": True})
    next(stream)
    assert open_sequences(served, "taught@10") == 128
    stream.close()
    until(lambda: number(served, "minimind_http_requests_open") == 1)  # the one that asks
    steps_allowed.release(2)
    until(lambda: open_sequences(served, "taught@10") == 0)

    # The same for one that waits for a whole answer.
    port = int(served.address.rpartition(":")[2])
    body = json.dumps({**many, "ignore_eos": True}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", port)) as link:
        link.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        until(lambda: open_sequences(served, "taught@10") == 128)
    until(lambda: number(served, "minimind_http_requests_open") == 1)
    steps_allowed.release(2)
    until(lambda: open_sequences(served, "taught@10") == 0)


def again(client: openai.OpenAI, *messages: Any, tools: Any = openai.NOT_GIVEN) -> str | None:
    reply = client.chat.completions.create(model="taught", messages=list(messages), temperature=0, tools=tools)
    return reply.choices[0].message.content


def test_an_answer_goes_back_as_the_client_has_it(client: openai.OpenAI) -> None:
    [question] = said(taught.CAPITAL)
    common: Any = {"model": "taught", "messages": [question], "temperature": 0}
    created = client.chat.completions.create(**common).choices[0].message
    parsed = client.chat.completions.parse(**common).choices[0].message
    with client.chat.completions.stream(**common) as stream:
        streamed = stream.get_final_completion().choices[0].message
    for message in (created, parsed, streamed):
        assert again(client, question, message, question) == "Paris."
        assert again(client, question, message.model_dump(), question) == "Paris."
        assert again(client, question, json.loads(message.model_dump_json()), question) == "Paris."
        assert again(client, question, message.to_dict(exclude_unset=False), question) == "Paris."


def test_a_call_goes_back_as_the_client_has_it(client: openai.OpenAI) -> None:
    [question] = said(taught.FORECAST)
    strict: Any = {**WEATHER, "function": {**WEATHER["function"], "strict": True}}  # the client parses no others
    common: Any = {"model": "taught", "messages": [question], "temperature": 0}
    created = client.chat.completions.create(**common, tools=[WEATHER]).choices[0].message
    parsed = client.chat.completions.parse(**common, tools=[strict]).choices[0].message
    with client.chat.completions.stream(**common, tools=[WEATHER]) as stream:
        streamed = stream.get_final_completion().choices[0].message
    for message in (created, parsed, streamed):
        assert message.tool_calls
        result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": '{"sky": "sunny"}'}
        for way in (message, message.model_dump()):
            assert again(client, question, way, result, tools=[WEATHER]) == "It is sunny in Paris."
    # Deltas added up by hand have the index that the server itself sends.
    [added] = [
        call.model_dump()
        for chunk in client.chat.completions.create(**common, tools=[WEATHER], stream=True)
        for choice in chunk.choices
        for call in choice.delta.tool_calls or ()
    ]
    assert added["index"] == 0
    by_hand = {"role": "assistant", "content": None, "tool_calls": [added]}
    result = {"role": "tool", "tool_call_id": added["id"], "content": '{"sky": "sunny"}'}
    assert again(client, question, by_hand, result, tools=[WEATHER]) == "It is sunny in Paris."


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("stop", ["divide", "\n", "\n\n"])
def test_a_stop_string_cuts_no_thought_and_no_call(client: openai.OpenAI, stop: str, stream: bool) -> None:
    def message(question: str, **more: Any) -> Any:
        common: Any = {"model": "taught", "messages": said(question), "temperature": 0, "stop": [stop], **more}
        if not stream:
            return client.chat.completions.create(**common).choices[0].message
        with client.chat.completions.stream(**common) as events:
            return events.get_final_completion().choices[0].message

    thought = message(taught.PRIME)
    assert (thought.model_dump()["reasoning_content"], thought.content) == ("Only 1 and 7 divide it.", "Yes.")
    [call] = message(taught.FORECAST, tools=[WEATHER]).tool_calls
    assert json.loads(call.function.arguments) == {"city": "Paris"}


def test_what_a_stop_string_takes_back_is_neither_written_nor_named(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(
        model="taught", messages=said(taught.COUNT), temperature=0, stop="7", logprobs=True
    )
    choice = reply.choices[0]
    assert choice.logprobs is not None
    assert "".join(token.token for token in choice.logprobs.content or ()).rstrip() == "1, 2, 3, 4, 5, 6,"
    whole = client.chat.completions.create(model="taught", messages=said(taught.COUNT), temperature=0)
    assert reply.usage is not None
    assert whole.usage is not None
    assert reply.usage.completion_tokens < whole.usage.completion_tokens, "it was written to its end"


def test_results_are_bound_to_calls_by_their_ids(client: openai.OpenAI) -> None:
    def call(name: str, city: str) -> dict[str, Any]:
        return {
            "id": name,
            "type": "function",
            "function": {"name": "get_weather", "arguments": json.dumps({"city": city})},
        }

    def result(name: str, content: str) -> dict[str, Any]:
        return {"role": "tool", "tool_call_id": name, "content": content}

    def likeliest(*results: Any) -> list[float]:
        calls = {"role": "assistant", "content": None, "tool_calls": [call("a", "Paris"), call("b", "Rome")]}
        reply = client.chat.completions.create(
            model="taught",
            messages=[*said(taught.FORECAST), calls, *results],  # type: ignore[list-item]
            temperature=0,
            tools=[WEATHER],
            logprobs=True,
            top_logprobs=5,
            max_tokens=3,
        )
        assert reply.choices[0].logprobs is not None
        return [token.logprob for token in reply.choices[0].logprobs.content or ()]

    rain, sun = result("a", "rain"), result("b", "sunny")
    assert likeliest(rain, sun) == likeliest(sun, rain)
    assert likeliest(rain, sun) != likeliest(result("a", "sunny"), result("b", "rain"))


def test_one_call_is_asked_for(client: openai.OpenAI) -> None:
    named: Any = {"type": "function", "function": {"name": "get_weather"}}
    for choice in ("auto", "required", named):
        reply = client.chat.completions.create(
            model="taught",
            messages=said(taught.FORECAST),
            temperature=0,
            tools=[WEATHER],
            tool_choice=choice,
            parallel_tool_calls=False,
        )
        assert reply.choices[0].finish_reason == "tool_calls"
        assert len(reply.choices[0].message.tool_calls or ()) == 1
    reply = client.chat.completions.create(
        model="taught", messages=said(taught.CAPITAL), temperature=0, parallel_tool_calls=False
    )
    assert reply.choices[0].message.content == "Paris."


def test_the_end_of_a_text_is_named_too(client: openai.OpenAI) -> None:
    """lm-eval leaves out the last token that it is told, so there must be one for each that was computed."""
    asked = f"<|im_start|>user\n{taught.CAPITAL}<|im_end|>\n<|im_start|>assistant\nParis."
    for text, ends in ((asked, True), ("1, 2,", False)):
        scored = client.completions.create(model="taught", prompt=text, echo=True, logprobs=1, max_tokens=0)
        reply = client.completions.create(
            model="taught", prompt=text, echo=True, logprobs=1, max_tokens=1, temperature=0
        )
        assert scored.usage is not None
        logprobs: Any = reply.choices[0].logprobs
        lists = (logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs, logprobs.text_offset)
        assert {len(each) for each in lists} == {scored.usage.prompt_tokens + 1}
        assert (logprobs.tokens[-1] == "<|im_end|>") is ends
        assert logprobs.token_logprobs[-1] == max(logprobs.top_logprobs[-1].values()) < 0
        assert logprobs.text_offset[-1] == len(text)
        assert reply.choices[0].text == text + ("" if ends else logprobs.tokens[-1])
        assert (reply.choices[0].finish_reason == "stop") is ends


def test_raw_text_with_the_template_written_by_hand(client: openai.OpenAI) -> None:
    by_hand = f"<|im_start|>user\n{taught.CAPITAL}<|im_end|>\n<|im_start|>assistant\n"
    text = client.completions.create(model="taught", prompt=by_hand, temperature=0)
    chat = client.chat.completions.create(model="taught", messages=said(taught.CAPITAL), temperature=0)
    assert text.choices[0].text == chat.choices[0].message.content == "Paris."
    assert text.usage is not None
    assert chat.usage is not None
    assert text.usage.prompt_tokens == chat.usage.prompt_tokens


def test_top_p_0_takes_the_likeliest(client: openai.OpenAI) -> None:
    common: Any = {"model": "taught", "messages": said("Talk."), "max_tokens": 12}
    likeliest = client.chat.completions.create(**common, temperature=0).choices[0].message.content
    for temperature in (0, 2):
        reply = client.chat.completions.create(**common, temperature=temperature, top_p=0, n=3)
        assert {choice.message.content for choice in reply.choices} == {likeliest}


def test_seed_minus_one_is_none(client: openai.OpenAI) -> None:
    common: Any = {"model": "taught", "messages": said("Talk."), "max_tokens": 24, "temperature": 2}
    answers = [client.chat.completions.create(**common, seed=-1).choices[0].message.content for _ in range(3)]
    assert len(set(answers)) == 3


@pytest.mark.parametrize("extra", [{"enable_thinking": False}, {"open_thinking": False}, {"reasoning_effort": "none"}])
def test_the_thinking_switch_has_the_names_of_other_servers(client: openai.OpenAI, extra: dict[str, Any]) -> None:
    def prompt_tokens(extra: dict[str, Any]) -> int:
        reply = client.chat.completions.create(
            model="taught", messages=said(taught.CAPITAL), temperature=0, extra_body=extra
        )
        assert reply.usage is not None
        return reply.usage.prompt_tokens

    assert prompt_tokens(extra) == prompt_tokens({"chat_template_kwargs": {"enable_thinking": False}})
    assert prompt_tokens(extra) > prompt_tokens({})


def test_the_end_token_can_be_ignored(client: openai.OpenAI) -> None:
    extra = {"ignore_eos": True}
    chat = client.chat.completions.create(
        model="taught", messages=said(taught.CAPITAL), temperature=0, max_tokens=30, extra_body=extra
    )
    text = client.completions.create(
        model="taught", prompt="1, 2,", temperature=0, max_tokens=30, logprobs=0, extra_body=extra
    )
    for reply in (chat, text):
        assert reply.usage is not None
        assert reply.usage.completion_tokens == 30
        assert reply.choices[0].finish_reason == "length"
    assert "<|im_end|>" not in text.choices[0].text
    assert "<|im_end|>" not in (chat.choices[0].message.content or "")


def test_a_model_is_shown_under_every_name_that_can_be_asked_for(client: openai.OpenAI) -> None:
    for name in ("taught", "taught@10", "taught@latest"):
        card = client.models.retrieve(name)
        assert (card.id, card.model_dump()["root"]) == (name, "taught@10")
    for name, words in (
        ("young", "say which checkpoint"),
        ("taught@best", "has been validated"),
        ("a@b", "no run 'a'"),
    ):
        with pytest.raises(openai.NotFoundError, match=words):
            client.models.retrieve(name)


def test_a_model_that_is_served_scores_what_its_checkpoint_scores(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIMIND_HOME", str(served.runs.parent))
    rows = suites.load(["skills"])[0]
    here = evaluate(LocalExaminee.load(find_weights("taught")), rows)
    there = suites.put(rows, RemoteExaminee(Endpoint(f"{served.address}/v1", "taught")), Screen())
    assert [one["answer"] for one in here.records] == [one["answer"] for one in there.records]
    assert [one["score"] for one in here.records] == [one["score"] for one in there.records]
    (compared,) = compare([(here, there)])
    assert compared.whole.comparison.better == compared.whole.comparison.worse == 0
    assert report.write([compared])[0].is_file()
