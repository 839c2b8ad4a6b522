"""What can go wrong, and what the page makes of it: words, waiting, another try, and never a lost answer."""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.chat import Chat
from tests.browser.conftest import CHROMIUM, OpenChat, browser_arguments
from tests.browser.scripted import CutOff, ErrorEvent, Gate, Listening, Refusal, ScriptedServer, listening

LOST = {"ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION_RESET"}
GONE = {"ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE"}


def test_a_server_that_is_gone_and_comes_back(open_chat: OpenChat, here: Listening, server: ScriptedServer) -> None:
    chat = open_chat(expects=GONE)
    here.stop()
    chat.ask_and_wait("anyone?")
    expect(chat.answer).to_contain_text("The server does not answer. Is it still running?")
    here.start()
    chat.button("Try again").click()
    expect(chat.prose).to_have_text("sft heard: anyone?")
    expect(chat.answers).to_have_count(1)


def test_a_page_without_its_server_goes_on_when_it_is_back(open_chat: OpenChat, here: Listening) -> None:
    chat = open_chat(expects=GONE)
    here.stop()
    chat.come_back()
    port = here.address.rpartition(":")[2]
    expect(chat.page.locator("#welcome pre")).to_have_text(f". .venv/bin/activate\nminimind serve --port {port}")
    here.start()
    expect(chat.page.locator("#welcome h1")).to_have_text("What would you like to ask?")


def test_a_model_that_is_gone(open_chat: OpenChat, server: ScriptedServer) -> None:
    chat = open_chat(expects={"404"})
    del server.models[0]
    chat.ask_and_wait("hello")
    expect(chat.answer).to_contain_text("There is no model “sft” on this server any more.")
    expect(chat.page.locator("#model-a")).to_have_value("sft@200")
    chat.button("Choose another").click()
    expect(chat.page.locator("#model-a")).to_be_focused()
    chat.ask_and_wait("and now?")
    expect(chat.prose).to_have_text("sft@200 heard: and now?")
    # What got no answer is not told to the model: two messages of the user would follow each other.
    assert server.requests[-1]["messages"] == [{"role": "user", "content": "and now?"}]


def test_a_busy_server_is_asked_again_after_a_countdown(open_chat: OpenChat, server: ScriptedServer) -> None:
    chat = open_chat(expects={"429"})
    server.answer(Refusal(429, "queue full", retry_after_s=1))
    chat.ask("q")
    expect(chat.answer.locator(".status")).to_contain_text(re.compile(r"busy\. Next try in 1 s"))
    expect(chat.prose).to_have_text("sft heard: q")
    assert len(server.requests) == 2


@pytest.mark.parametrize("how", ["now", "stop"])
def test_nobody_has_to_sit_a_countdown_out(open_chat: OpenChat, server: ScriptedServer, how: str) -> None:
    chat = open_chat(expects={"429"})
    server.answer(Refusal(429, "queue full", retry_after_s=600))
    chat.ask("q")
    if how == "now":
        chat.button("Try now").click()
        expect(chat.prose).to_have_text("sft heard: q")
    else:
        chat.button("Stop (Esc)").click()
        expect(chat.answer).to_contain_text("Stopped.")
        assert len(server.requests) == 1


def test_a_model_that_is_loading_answers_by_itself(open_chat: OpenChat, server: ScriptedServer) -> None:
    chat = open_chat(expects={"503"})
    for _ in range(3):
        server.answer(Refusal(503, "loading", retry_after_s=0.2))
    chat.ask("q")
    expect(chat.answer.locator(".status")).to_contain_text("being loaded")
    expect(chat.prose).to_have_text("sft heard: q")


def test_a_server_that_is_not_ready_yet(open_chat: OpenChat, server: ScriptedServer) -> None:
    server.not_ready = Refusal(503, "starting")
    chat = open_chat(expects={"503"})
    expect(chat.page.locator("#welcome h1")).to_have_text("The server is getting ready")
    server.not_ready = None
    chat.come_back()
    expect(chat.page.locator("#welcome h1")).to_have_text("What would you like to ask?")


def test_a_question_asked_before_there_are_models_is_sent_when_there_are(
    open_chat: OpenChat, server: ScriptedServer
) -> None:
    server.not_ready = Refusal(503, "starting")
    chat = open_chat(expects={"503"})
    chat.ask("early")
    expect(chat.field).to_have_value("early")
    server.not_ready = None
    chat.come_back()
    expect(chat.prose).to_have_text("sft heard: early")
    expect(chat.field).to_have_value("")


def test_what_was_changed_since_it_was_asked_too_early_is_not_sent(open_chat: OpenChat, server: ScriptedServer) -> None:
    server.not_ready = Refusal(503, "starting")
    chat = open_chat(expects={"503"})
    chat.ask("early")
    chat.field.press("End")
    chat.field.press_sequentially(", and")
    server.not_ready = None
    chat.come_back()
    expect(chat.page.locator("#welcome h1")).to_have_text("What would you like to ask?")
    expect(chat.field).to_have_value("early, and")
    expect(chat.answers).to_have_count(0)


@pytest.mark.parametrize(("end", "says"), [(CutOff(), ""), (ErrorEvent("the replica died"), "the replica died")])
def test_a_stream_that_breaks_off(open_chat: OpenChat, server: ScriptedServer, end: CutOff, says: str) -> None:
    chat = open_chat(expects=LOST)
    gate = Gate()
    server.answer("As far as ", gate, end)
    chat.ask("q")
    expect(chat.prose).to_have_text("As far as ")
    gate.open()
    chat.wait_done()
    expect(chat.prose).to_have_text("As far as ")
    expect(chat.answer).to_contain_text("The answer broke off in the middle. What came is kept.")
    expect(chat.answer).to_contain_text(says)
    chat.button("Try again").click()
    expect(chat.prose).to_have_text("sft heard: q")


@pytest.mark.parametrize(
    ("status", "words"), [(400, "did not accept this request"), (500, "Something went wrong in the server")]
)
def test_the_servers_own_words_are_shown(open_chat: OpenChat, server: ScriptedServer, status: int, words: str) -> None:
    chat = open_chat(expects={str(status)})
    server.answer(Refusal(status, "the prompt has 612 tokens, the model reads 512"))
    chat.ask_and_wait("q")
    expect(chat.answer).to_contain_text(words)
    expect(chat.answer).to_contain_text("It says: the prompt has 612 tokens, the model reads 512")


def test_a_failure_of_one_model_leaves_the_other_alone(open_chat: OpenChat, server: ScriptedServer) -> None:
    chat = open_chat(expects={"500"})
    chat.button("Compare two models").click()
    server.answer(Refusal(500, "damaged checkpoint"), model="sft@200")
    chat.ask("q")
    expect(chat.answers.nth(0).locator(".prose")).to_have_text("sft heard: q")
    expect(chat.answers.nth(1)).to_contain_text("damaged checkpoint")


def test_topics_that_cannot_be_read_stop_nobody(open_chat: OpenChat, server: ScriptedServer) -> None:
    server.models[0]["minimind"] = {"stock": True}
    server.topics = None
    chat = open_chat(expects={"500"})
    expect(chat.page.locator("#welcome h1")).to_have_text("What would you like to ask?")
    chat.ask_and_wait("q")
    expect(chat.prose).to_have_text("sft heard: q")


def test_no_model_at_all(open_chat: OpenChat, server: ScriptedServer) -> None:
    server.models.clear()
    chat = open_chat()
    expect(chat.page.locator("#welcome")).to_contain_text("make demo")
    chat.ask("hello?")
    expect(chat.field).to_have_value("hello?")
    server.models.append({"id": "first"})
    chat.come_back()
    expect(chat.page.locator("#model-a")).to_have_value("first")


def test_a_key_is_asked_for_and_kept_for_the_tab_only(open_chat: OpenChat) -> None:
    server = ScriptedServer(key="right")
    with listening(server.app) as there:
        chat = open_chat(there.address, expects={"401"})
        chat.button("Enter the key").click()
        dialog = chat.page.locator("#key-dialog")
        dialog.locator("#key").fill("wrong")
        chat.page.keyboard.press("Enter")
        expect(dialog).to_contain_text("does not know this key")
        chat.enter_right_key("right")
        assert chat.run("sessionStorage.getItem('minimind.key')") == "right"
        assert "right" not in chat.run("JSON.stringify(localStorage)")


@pytest.mark.parametrize("key", ["我的密钥一二三四五", "right\u200b", "ｒｉｇｈｔ", "“right”", "clé-right"])
def test_a_key_that_cannot_be_sent_is_a_wrong_one(open_chat: OpenChat, key: str) -> None:
    server = ScriptedServer(key="right")
    with listening(server.app) as there:
        chat = open_chat(there.address, expects={"401"})
        chat.button("Enter the key").click()
        dialog = chat.enter_key(key)
        expect(dialog).to_contain_text("does not know this key")
        expect(dialog.locator("#key")).to_have_value("")
        assert chat.run("JSON.stringify([{...sessionStorage}, {...localStorage}])").count("key") == 0
        chat.button("Cancel").click()
        chat.page.reload()
        chat.button("Enter the key").click()
        chat.enter_right_key(" right ")


def test_a_wrong_key_is_not_kept(open_chat: OpenChat) -> None:
    server = ScriptedServer(key="right")
    with listening(server.app) as there:
        chat = open_chat(there.address, expects={"401"})
        chat.button("Enter the key").click()
        expect(chat.enter_key("wrong")).to_contain_text("does not know this key")
        assert chat.run("sessionStorage.getItem('minimind.key')") is None


def test_a_browser_that_keeps_nothing(browser: Browser, here: Listening, tmp_path: Path) -> None:
    """Site data blocked, as in Chromium's own settings: a browser of its own, some 2 s."""
    preferences = tmp_path / "Default" / "Preferences"
    preferences.parent.mkdir()
    blocked = {"profile": {"default_content_setting_values": {"cookies": 2}}}
    preferences.write_text(json.dumps(blocked), "utf-8")
    context = browser.browser_type.launch_persistent_context(
        tmp_path, executable_path=CHROMIUM, args=browser_arguments(), locale="en-US"
    )
    with closing(context):
        chat = Chat(context.new_page(), set())
        chat.page.goto(here.address)
        assert chat.run("() => { try { return String(localStorage) } catch (error) { return error.name } }") == (
            "SecurityError"
        )
        chat.ask_and_wait("hi")
        expect(chat.prose).to_have_text("sft heard: hi")
        expect(chat.page.locator("#toast")).to_have_text(re.compile("This browser keeps nothing for this page"))
        chat.button("Light or dark").click()
        chat.button("切换到中文").click()
        expect(chat.button("设置")).to_be_visible()
        expect(chat.prose).to_have_text("sft heard: hi")
        chat.page.reload()
        expect(chat.page.locator("#welcome h1")).to_have_text("What would you like to ask?")
        assert chat.complaints == []


def test_a_key_that_changed_is_asked_for_and_the_question_sent_again(open_chat: OpenChat) -> None:
    server = ScriptedServer()
    with listening(server.app) as there:
        chat = open_chat(there.address, expects={"401"})
        server.key = "new"
        chat.ask("hi")
        chat.enter_key("new")
        expect(chat.prose).to_have_text("sft heard: hi")
        expect(chat.answers).to_have_count(1)


def test_trouble_in_chinese(open_chat: OpenChat, server: ScriptedServer) -> None:
    chat = open_chat(locale="zh-CN", expects={"503"} | LOST)
    server.answer(Refusal(503, "loading", retry_after_s=600))
    chat.ask("你好")
    expect(chat.answer.locator(".status")).to_contain_text("模型正在加载，就绪后马上回答。")
    server.answer("到此", CutOff())
    chat.button("现在就试").click()
    expect(chat.answer).to_contain_text("回答中途断开了，已收到的部分保留。")


def test_an_answer_is_not_disturbed_when_the_reader_switches_the_language(chat: Chat, server: ScriptedServer) -> None:
    gate = Gate()
    server.answer("before ", gate, "after")
    chat.ask("q")
    gate.wait_reached()
    chat.button("切换到中文").click()
    expect(chat.prose).to_have_text("before ")
    gate.open()
    expect(chat.prose).to_have_text("before after")
    expect(chat.answer.locator(".cost")).to_contain_text("2 词元")
