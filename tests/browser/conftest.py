"""Headless Chromium. Where there is none the tests here are skipped; with REQUIRE_BROWSER=1 that is an error."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browser.chat import Chat
from tests.browser.scripted import Listening, ScriptedServer, listening

TIMEOUT_MS = 20_000

expect.set_options(timeout=TIMEOUT_MS)  # the default of 5 s is short on a machine with other work

OpenChat = Callable[..., Chat]

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests of this folder. Without a browser one of them stands for all: one notice is enough."""
    ours = [item for item in items if "tests/browser/" in item.path.as_posix()]
    for item in ours:
        item.add_marker(pytest.mark.browser)
    if CHROMIUM is None and ours:
        config.hook.pytest_deselected(items=ours[1:])
        items[:] = [item for item in items if item not in ours[1:]]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One Chromium for this folder, and no longer: its driver's event loop runs in this thread, which fails others."""
    if CHROMIUM is None:
        notice = "no Chromium here, so the chat page is not tested: `apt-get install chromium` brings one"
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(notice, pytrace=False)
        pytest.skip(notice)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=browser_arguments())
        yield browser
        browser.close()


def browser_arguments() -> list[str]:
    """What Chromium needs to start here."""
    return ["--no-sandbox"] if os.geteuid() == 0 else []


def new_page(browser: Browser, **reader: Any) -> Page:
    context = browser.new_context(**{"locale": "en-US", "viewport": {"width": 1280, "height": 800}} | reader)
    context.set_default_timeout(TIMEOUT_MS)
    return context.new_page()


@pytest.fixture(scope="package")
def plain_page(browser: Browser) -> Page:
    """The page of a reader of English on a desktop. A new one costs a second, so it is handed on, emptied."""
    return new_page(browser)


@pytest.fixture(scope="package")
def scripted() -> Iterator[Listening]:
    """Where one scripted server after another listens."""
    with listening(ScriptedServer().app) as started:
        yield started


@pytest.fixture
def server() -> ScriptedServer:
    return ScriptedServer()


@pytest.fixture
def here(scripted: Listening, server: ScriptedServer) -> Iterator[Listening]:
    """Where the scripted server of this test listens."""
    scripted.app = server.app
    yield scripted
    scripted.start()


@pytest.fixture
def open_chat(browser: Browser, plain_page: Page, here: Listening) -> Iterator[OpenChat]:
    """Opens the page as a reader with this language, theme and screen. What it logs as an error fails the test."""
    opened: list[Chat] = []

    def open_page(address: str | None = None, expects: set[str] | None = None, **reader: Any) -> Chat:
        chat = Chat(new_page(browser, **reader) if reader else plain_page, expects or set())
        opened.append(chat)
        chat.open(address or here.address)
        return chat

    yield open_page
    for chat in opened:
        chat.leave()
        if chat.page is not plain_page:
            chat.page.context.close()
    for chat in opened:
        assert chat.complaints == []


@pytest.fixture
def chat(open_chat: OpenChat) -> Chat:
    """The page in English on a desktop."""
    return open_chat()
