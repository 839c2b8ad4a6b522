"""The page over the real application and a real model that knows a few answers by heart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from jobs.paths import stock_folder
from jobs.runs.directory import RunDirectory
from jobs.stock.build import build_samples
from service.replica import ModelReplica
from service.settings import Settings
from service.web import create
from tests import taught
from tests.browser.chat import Chat
from tests.browser.conftest import OpenChat
from tests.browser.scripted import Listening, listening

SETTINGS = Settings(context_tokens=512, slots=4, dtype="float32", threads=1)
KEY = "a-key-for-tests"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The runs of a home with the stock data, one model that learnt and one that hardly did."""
    home = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIMIND_HOME", str(home))
        build_samples(stock_folder())
        stock = {"stage": {"kind": "sft"}, "data": {"path": str(stock_folder() / "sft.jsonl")}}
        RunDirectory(home / "runs" / "taught").create(stock)
        for name, steps in (("young", 1), ("taught", 60)):
            taught.write_run(home / "runs", name, *taught.taught(steps))
        yield home / "runs"


@pytest.fixture(scope="module")
def replica(runs: Path) -> Iterator[ModelReplica]:
    replica = ModelReplica(SETTINGS)
    yield replica
    replica.close()


@pytest.fixture(scope="module")
def real(replica: ModelReplica) -> Iterator[Listening]:
    """Where the real application listens."""
    with listening(create(replica, SETTINGS)) as started:
        yield started


@pytest.fixture
def chat(open_chat: OpenChat, real: Listening) -> Chat:
    """The page, with the model that learnt and the likeliest answers."""
    chat = open_chat(real.address)
    chat.page.locator("#model-a").select_option("taught")
    panel = chat.open_settings()
    panel.get_by_label("Temperature").fill("0")
    panel.get_by_label("Longest answer").fill("100")
    panel.locator("#close-settings").click()
    return chat


def test_it_answers(chat: Chat) -> None:
    chat.ask_and_wait(taught.CAPITAL)
    expect(chat.prose).to_have_text("Paris.")
    expect(chat.answer.locator(".cost")).to_contain_text("tokens")
    chat.button("New conversation").click()
    chat.ask_and_wait(taught.CAPITAL_ZH)
    expect(chat.prose).to_have_text("巴黎。")


@pytest.mark.parametrize(("locale", "topic"), [("en-US", "capitals of the world"), ("zh-CN", "各国首都")])
def test_it_lists_what_it_was_taught(open_chat: OpenChat, real: Listening, locale: str, topic: str) -> None:
    chat = open_chat(real.address, locale=locale)
    chat.page.locator("#model-a").select_option("taught")
    card = chat.page.locator(".topics button", has_text=topic)
    question = card.locator(".question").inner_text()
    card.click()
    expect(chat.bubbles).to_have_text(question)
    chat.wait_done()
    expect(chat.answer.locator(".error")).to_have_count(0)
    chat.button("新对话" if locale == "zh-CN" else "New conversation").click()
    chat.page.locator("#model-a").select_option("young")
    expect(chat.page.locator(".topics")).to_have_count(0)


def test_it_thinks(chat: Chat) -> None:
    chat.ask_and_wait(taught.PRIME)
    expect(chat.prose).to_have_text("Yes.")
    chat.answer.locator("summary").click()
    expect(chat.answer.locator(".thinking div")).to_have_text("Only 1 and 7 divide it.")


def test_it_calls_a_tool_and_reads_its_result(chat: Chat) -> None:
    panel = chat.open_settings()
    panel.get_by_text("Tools the model may call").click()
    panel.locator("#tools").fill(chat.run("(tool) => JSON.stringify([tool])", taught.WEATHER))
    chat.ask_and_wait(taught.FORECAST)
    expect(chat.answer.locator(".call header")).to_have_text("Calls get_weather")
    expect(chat.answer.locator(".call code")).to_contain_text('"city": "Paris"')
    chat.answer.locator(".results textarea").fill('{"sky": "sunny"}')
    chat.button("Hand over").click()
    expect(chat.prose).to_have_text("It is sunny in Paris.")


def test_two_models_side_by_side(chat: Chat) -> None:
    chat.button("Compare two models").click()
    chat.page.locator("#model-b").select_option("young")
    chat.ask(taught.CAPITAL)
    expect(chat.answers).to_have_count(2)
    chat.wait_done()
    expect(chat.answers.nth(0).locator(".prose")).to_have_text("Paris.")
    expect(chat.answers.nth(1).locator(".prose")).not_to_have_text("Paris.")


def test_stop_and_go_on(chat: Chat) -> None:
    chat.page.locator("#model-a").select_option("young")
    panel = chat.open_settings()
    panel.get_by_label("Longest answer").fill("")
    panel.get_by_label("Temperature").fill("2")
    chat.ask("Talk.")
    expect(chat.prose).not_to_be_empty()
    chat.page.keyboard.press("Escape")
    chat.wait_done()
    chat.page.locator("#model-a").select_option("taught")
    panel.get_by_label("Temperature").fill("0")
    chat.button("New conversation").click()
    chat.ask_and_wait(taught.CAPITAL)
    expect(chat.prose).to_have_text("Paris.")


def test_a_conversation_that_is_too_long_is_told_with_both_numbers(open_chat: OpenChat, real: Listening) -> None:
    chat = open_chat(real.address, expects={"400"})
    chat.ask_and_wait("word " * 2000)
    expect(chat.answer).to_contain_text("The server did not accept this request.")
    expect(chat.answer.locator(".detail")).to_contain_text("512")


def test_a_run_that_ends_while_the_page_is_open_can_be_asked(chat: Chat, runs: Path) -> None:
    taught.write_run(runs, "fresh", *taught.taught(1))
    chat.come_back()
    chat.page.locator("#model-a").select_option("fresh@10")
    chat.ask_and_wait("hello")
    expect(chat.answer.locator(".error")).to_have_count(0)


def test_a_server_with_a_key(open_chat: OpenChat, replica: ModelReplica) -> None:
    with listening(create(replica, SETTINGS.model_copy(update={"api_key": KEY}))) as there:
        chat = open_chat(there.address, expects={"401"})
        chat.button("Enter the key").click()
        chat.page.locator("#key").fill(KEY)
        chat.button("Use it").click()
        expect(chat.page.locator("#key-dialog")).to_be_hidden()
        chat.page.locator("#model-a").select_option("taught")
        chat.ask_and_wait(taught.CAPITAL)
        expect(chat.answer.locator(".error")).to_have_count(0)
