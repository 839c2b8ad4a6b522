"""Asking and answering: what a reader does on the page, and what the server gets."""

from __future__ import annotations

import json
import re
from contextlib import closing

import pytest
from playwright.sync_api import expect

from tests.browser.chat import Chat
from tests.browser.conftest import OpenChat
from tests.browser.scripted import Call, Finish, Gate, Listening, Reasoning, ScriptedServer

TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]


def test_an_answer_shows_while_it_comes(chat: Chat, server: ScriptedServer) -> None:
    gate = Gate()
    server.answer("The sky ", gate, "is blue.")
    chat.ask("Why?")
    expect(chat.prose).to_have_text("The sky ")
    expect(chat.answer).to_have_attribute("aria-busy", "true")
    gate.open()
    expect(chat.prose).to_have_text("The sky is blue.")
    chat.wait_done()
    expect(chat.field).to_have_value("")
    expect(chat.bubbles).to_have_text(["Why?"])
    (request,) = server.requests
    assert request["stream"] is True
    assert request["stream_options"] == {"include_usage": True}
    assert request["model"] == "sft"
    assert request["messages"] == [{"role": "user", "content": "Why?"}]
    assert not {"temperature", "max_tokens", "tools", "chat_template_kwargs"} & set(request)


def test_the_chosen_model_is_asked_with_what_was_said_before(chat: Chat, server: ScriptedServer) -> None:
    server.answer(Reasoning("hm"), "One.")
    chat.ask_and_wait("first")
    chat.page.get_by_label("Model", exact=True).select_option("sft@200")
    chat.ask_and_wait("second")
    assert server.requests[1]["model"] == "sft@200"
    assert server.requests[1]["messages"] == [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "One.", "reasoning_content": "hm"},
        {"role": "user", "content": "second"},
    ]


@pytest.mark.parametrize("how", ["button", "Escape"])
def test_stop_keeps_what_came_and_frees_the_server(chat: Chat, server: ScriptedServer, how: str) -> None:
    gate = Gate()
    server.answer("Half an ", gate)
    chat.ask("go")
    gate.wait_reached()
    expect(chat.prose).to_have_text("Half an ")
    if how == "button":
        chat.button("Stop (Esc)").click()
    else:
        chat.page.keyboard.press("Escape")
    expect(chat.answer).to_contain_text("Stopped.")
    expect(chat.prose).to_have_text("Half an ")
    expect(chat.answer.locator(".cost")).to_contain_text("about 1 token")
    assert server.hung_up.wait(10)
    chat.ask_and_wait("on")
    assert [message["content"] for message in server.requests[1]["messages"]] == ["go", "Half an ", "on"]


def test_enter_waits_while_an_answer_is_written(chat: Chat, server: ScriptedServer) -> None:
    gate = Gate()
    server.answer("slow", gate)
    chat.ask("one")
    gate.wait_reached()
    chat.ask("two")
    expect(chat.field).to_have_value("two")
    gate.open()
    chat.wait_done()
    assert len(server.requests) == 1


def test_answer_again_replaces_the_last_answer(chat: Chat, server: ScriptedServer) -> None:
    server.answer("first try")
    chat.ask_and_wait("q")
    server.answer("second try")
    chat.button("Answer again").click()
    expect(chat.prose).to_have_text("second try")
    expect(chat.answers).to_have_count(1)
    assert server.requests[0]["messages"] == server.requests[1]["messages"]


def test_only_the_last_answer_can_be_asked_for_again(chat: Chat) -> None:
    chat.ask_and_wait("one")
    chat.ask_and_wait("two")
    expect(chat.button("Answer again")).to_have_count(1)


@pytest.mark.parametrize("how", ["button", "ArrowUp"])
def test_an_edited_message_is_sent_again_and_what_followed_is_dropped(
    chat: Chat, server: ScriptedServer, how: str
) -> None:
    chat.ask_and_wait("capital of Frence?")
    if how == "button":
        chat.bubbles.hover()
        chat.button("Edit and send again").click()
    else:
        chat.field.press("ArrowUp")
    editor = chat.page.locator(".editor textarea")
    expect(editor).to_be_focused()
    expect(editor).to_have_value("capital of Frence?")
    editor.fill("capital of France?")
    editor.press("Enter")
    expect(chat.bubbles).to_have_text(["capital of France?"])
    chat.wait_done()
    assert server.requests[1]["messages"] == [{"role": "user", "content": "capital of France?"}]


def test_an_edit_that_is_called_off_changes_nothing(chat: Chat, server: ScriptedServer) -> None:
    chat.ask_and_wait("mine")
    chat.field.press("ArrowUp")
    chat.page.locator(".editor textarea").fill("other")
    chat.page.keyboard.press("Escape")
    expect(chat.bubbles).to_have_text(["mine"])
    expect(chat.field).to_be_focused()
    assert len(server.requests) == 1


def test_the_settings_reach_the_server(chat: Chat, server: ScriptedServer) -> None:
    panel = chat.open_settings()
    panel.get_by_label("System prompt").fill("Be brief.")
    panel.get_by_label("Temperature").fill("0.2")
    panel.get_by_label("Longest answer").fill("64")
    panel.get_by_label("Seed").fill("7")
    panel.get_by_label("Always").check()
    panel.get_by_text("Tools the model may call").click()
    panel.locator("#tools").fill(json.dumps(TOOLS))
    chat.ask_and_wait("hi")
    (request,) = server.requests
    assert request["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (request["temperature"], request["max_tokens"], request["seed"]) == (0.2, 64, 7)
    assert request["chat_template_kwargs"] == {"enable_thinking": True}
    assert request["tools"] == TOOLS

    panel.get_by_label("Never").check()
    chat.ask_and_wait("again")
    assert server.requests[1]["chat_template_kwargs"] == {"enable_thinking": False}

    chat.button("Back to the defaults").click()
    chat.ask_and_wait("plain")
    assert not {"temperature", "max_tokens", "tools", "chat_template_kwargs"} & set(server.requests[2])
    assert server.requests[2]["messages"][0]["role"] == "user"


def test_a_setting_that_cannot_be_is_said_at_its_field_and_not_sent(chat: Chat, server: ScriptedServer) -> None:
    panel = chat.open_settings()
    length = panel.get_by_label("Longest answer")
    length.fill("32")
    length.fill("-3")
    expect(panel.locator(".wrong")).to_contain_text("A whole number from 1 to")
    panel.get_by_text("Tools the model may call").click()
    panel.locator("#tools").fill("{}")
    expect(panel.locator(".wrong")).to_have_count(2)
    expect(panel.locator(".wrong").last).to_contain_text("This is not a JSON list.")
    chat.ask_and_wait("hi")
    assert server.requests[0]["max_tokens"] == 32
    assert "tools" not in server.requests[0]


def test_thinking_is_folded_away(chat: Chat, server: ScriptedServer) -> None:
    gate = Gate()
    server.answer(Reasoning("First "), Reasoning("this."), gate, "The answer.")
    chat.ask("q")
    thinking = chat.answer.locator(".thinking")
    expect(thinking.locator("summary")).to_have_text("Thinking")
    expect(thinking.locator("div")).to_be_hidden()
    thinking.locator("summary").click()
    expect(thinking.locator("div")).to_have_text("First this.")
    gate.open()
    expect(thinking.locator("summary")).to_contain_text("Thought for")
    expect(thinking.locator("div")).to_be_visible()
    expect(chat.prose).to_have_text("The answer.")


def test_tool_calls_are_shown_and_their_results_handed_over(chat: Chat, server: ScriptedServer) -> None:
    server.answer(Call("weather", '{"city": "上海"}'))
    chat.ask_and_wait("How is it in Shanghai?")
    expect(chat.answer.locator(".call header")).to_have_text("Calls weather")
    expect(chat.answer.locator(".call code")).to_have_text('{\n  "city": "上海"\n}')
    chat.page.get_by_label("weather: What does it give?").fill("21 °C")
    server.answer("Mild.")
    chat.button("Hand over").click()
    expect(chat.prose).to_have_text("Mild.")
    expect(chat.page.locator(".call.result")).to_contain_text("21 °C")
    assistant, tool = server.requests[1]["messages"][-2:]
    assert assistant["tool_calls"] == [
        {"id": "call_0", "type": "function", "function": {"name": "weather", "arguments": '{"city": "上海"}'}}
    ]
    assert tool == {"role": "tool", "name": "weather", "content": "21 °C", "tool_call_id": "call_0"}


def test_two_models_answer_the_same_prompt_with_the_same_seed(chat: Chat, server: ScriptedServer) -> None:
    chat.button("Compare two models").click()
    gate = Gate()
    server.answer("A1", gate, model="sft")
    server.answer("B1", model="sft@200")
    chat.ask("q1")
    # The second is done while the first still writes.
    expect(chat.answers.nth(1)).to_have_attribute("aria-busy", "false")
    expect(chat.answers.nth(0)).to_have_attribute("aria-busy", "true")
    gate.open()
    chat.wait_done()
    first, second = (chat.answers.nth(index).bounding_box() for index in (0, 1))
    assert first
    assert second
    assert first["x"] + first["width"] <= second["x"] + 1
    assert first["y"] == second["y"]

    chat.ask("q2")
    expect(chat.answers).to_have_count(4)
    chat.wait_done()
    requests = {(request["model"], len(request["messages"])): request for request in server.requests}
    assert requests["sft", 1]["seed"] == requests["sft@200", 1]["seed"]
    assert requests["sft", 3]["messages"][1]["content"] == "A1"
    assert requests["sft@200", 3]["messages"][1]["content"] == "B1"


@pytest.mark.parametrize(
    ("tokens", "decode_s", "shown"),
    [
        (39, 0.5, r"39 tokens76 tokens/sseed \d+"),  # as measured in the server, however the pieces came
        (19, 0.5, r"19 tokensseed \d+"),  # too few to say
        (39, 0.0, r"39 tokensseed \d+"),  # a server that does not say
    ],
)
def test_tokens_and_an_honest_speed_stand_under_the_answer(
    chat: Chat, server: ScriptedServer, tokens: int, decode_s: float, shown: str
) -> None:
    server.decode_s = decode_s
    server.answer(*["a "] * tokens, Finish("length"))
    chat.ask_and_wait("q")
    cost = chat.answer.locator(".cost")
    expect(cost).to_have_text(re.compile(f"^{shown}$"))
    expect(cost).to_have_attribute("title", re.compile(r"First token after [\d.]+ s, [\d.]+ s in all, 7 tokens read"))
    expect(chat.answer).to_contain_text("Cut off at the longest length allowed.")


def test_an_empty_answer_says_so(chat: Chat, server: ScriptedServer) -> None:
    server.answer(Finish("stop"))
    chat.ask_and_wait("q")
    expect(chat.answer).to_contain_text("The model answered with nothing.")


def test_copying(open_chat: OpenChat, server: ScriptedServer) -> None:
    chat = open_chat(permissions=["clipboard-read", "clipboard-write"])
    server.answer("Text **bold**\n\n```py\nprint(1)\n```")
    chat.ask_and_wait("q")
    chat.answer.get_by_role("button", name="Copy the code").click()
    expect(chat.answer.get_by_title("Copied")).to_be_visible()
    assert chat.run("navigator.clipboard.readText()") == "print(1)"
    chat.answer.get_by_role("button", name="Copy", exact=True).click()
    expect(chat.answer.get_by_title("Copied")).to_have_count(2)
    assert chat.run("navigator.clipboard.readText()") == "Text **bold**\n\n```py\nprint(1)\n```"


def test_the_conversation_survives_a_reload_and_can_be_cleared_and_brought_back(
    chat: Chat, server: ScriptedServer
) -> None:
    server.answer("kept")
    chat.ask_and_wait("q")
    chat.open_settings().get_by_label("System prompt").fill("Be kind.")
    chat.page.reload()
    expect(chat.prose).to_have_text("kept")
    expect(chat.page.locator("#system")).to_have_value("Be kind.")

    chat.button("New conversation").click()
    expect(chat.answers).to_have_count(0)
    expect(chat.page.locator("#welcome")).to_be_visible()
    chat.button("Bring the old one back").click()
    expect(chat.prose).to_have_text("kept")
    chat.button("New conversation").click()
    chat.page.reload()
    expect(chat.page.locator("#welcome")).to_be_visible()
    expect(chat.answers).to_have_count(0)


def test_an_old_conversation_comes_back_before_what_was_asked_meanwhile(chat: Chat, server: ScriptedServer) -> None:
    gate = Gate()
    server.answer("old")
    chat.ask_and_wait("q")
    chat.button("New conversation").click()
    server.answer("new", gate)
    chat.ask("again")
    gate.wait_reached()
    chat.button("Bring the old one back").click()
    expect(chat.answers).to_have_count(2)
    gate.open()
    chat.wait_done()
    chat.page.reload()
    expect(chat.answers.locator(".prose")).to_have_text(["old", "new"])


def test_an_idle_tab_that_is_closed_leaves_what_another_one_kept(chat: Chat, server: ScriptedServer) -> None:
    server.answer("in the other tab")
    with closing(chat.page.context.new_page()) as page:
        other = Chat(page, set())
        page.goto(chat.page.url)
        other.ask_and_wait("q")
    chat.page.reload()
    expect(chat.prose).to_have_text("in the other tab")


def test_a_reload_in_the_middle_keeps_what_came(chat: Chat, server: ScriptedServer) -> None:
    gate = Gate()
    server.answer("came so far", gate)
    chat.ask("q")
    gate.wait_reached()
    expect(chat.prose).to_have_text("came so far")
    chat.page.reload()
    expect(chat.prose).to_have_text("came so far")
    expect(chat.answer).to_contain_text("broke off in the middle")
    assert server.hung_up.wait(10)


@pytest.mark.parametrize("kept", ["not json", '{"version": 0, "turns": [1]}', "null", "[]"])
def test_what_the_browser_kept_in_another_form_is_left_aside(open_chat: OpenChat, here: Listening, kept: str) -> None:
    chat = open_chat(expects={"404"})  # a drawing has no icon of its own
    chat.page.goto(f"{here.address}/ui/icon.svg")  # where nothing is kept on leaving
    chat.run("(kept) => localStorage.setItem('minimind.text.chat', kept)", kept)
    chat.page.goto(here.address)
    expect(chat.page.locator("#welcome h1")).to_be_visible()


def test_a_conversation_that_the_browser_cannot_keep_is_said_once(chat: Chat, server: ScriptedServer) -> None:
    chat.run("() => localStorage.setItem('filler', 'x'.repeat(5_242_000))")
    server.answer("y" * 20_000)
    chat.ask_and_wait("q")
    expect(chat.page.locator("#toast")).to_contain_text("too long for the browser to keep")
