"""The page as a reader uses it."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import ConsoleMessage, Error, Locator, Page, expect


class Chat:
    """The chat page. complaints: what the browser logged as an error or warning, but for `expects`' HTTP failures."""

    def __init__(self, page: Page, expects: set[str]) -> None:
        self.page = page
        self.complaints: list[str] = []
        self._expects = expects
        page.on("console", self._hear)
        page.on("pageerror", self._catch)
        self.field = page.locator("#prompt")
        self.answers = page.locator(".answer")
        self.answer = self.answers.last
        self.prose = self.answer.locator(".prose")
        self.bubbles = page.locator(".bubble")

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type not in {"error", "warning"}:
            return
        # Chromium logs every answer above 399 and every lost connection; no page can keep it from that.
        expected = "Failed to load resource" in message.text and any(cause in message.text for cause in self._expects)
        if not expected:
            self.complaints.append(message.text)

    def _catch(self, error: Error) -> None:
        self.complaints.append(str(error))

    def open(self, address: str) -> None:
        """As on a first visit: the browser keeps nothing of an earlier one."""
        session = self.page.context.new_cdp_session(self.page)
        session.send("Storage.clearDataForOrigin", {"origin": address, "storageTypes": "all"})
        session.detach()
        self.page.goto(address)
        expect(self.field).to_be_focused()

    def leave(self) -> None:
        """Close the page's connections, and hear no more of it."""
        self.page.goto("about:blank")
        self.page.remove_listener("console", self._hear)
        self.page.remove_listener("pageerror", self._catch)

    def ask(self, text: str) -> None:
        self.field.fill(text)
        self.field.press("Enter")

    def ask_and_wait(self, text: str) -> None:
        before = self.answers.count()
        self.ask(text)
        expect(self.answers).to_have_count(before + 1)
        self.wait_done()

    def wait_done(self) -> None:
        expect(self.page.locator("#stop")).to_be_hidden()
        for answer in self.answers.all():
            expect(answer).to_have_attribute("aria-busy", "false")

    def come_back(self) -> None:
        """As a reader who was in another tab: the page looks again what there is."""
        self.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def enter_key(self, key: str) -> Locator:
        """Into the dialog that asks for one, which is given."""
        dialog = self.page.locator("#key-dialog")
        dialog.locator("#key").fill(key)
        dialog.get_by_role("button", name="Use it").click()
        return dialog

    def enter_right_key(self, key: str) -> None:
        """One after which the page asks and is answered."""
        expect(self.enter_key(key)).to_be_hidden()
        expect(self.button("Enter the key")).to_be_hidden()  # it has learnt which models there are
        self.ask_and_wait("hi")
        expect(self.prose).to_have_text("sft heard: hi")

    def open_settings(self) -> Locator:
        self.page.locator("#open-settings").click()
        panel = self.page.locator("#settings")
        expect(panel).to_be_visible()
        return panel

    def run(self, script: str, argument: Any = None) -> Any:
        return self.page.evaluate(script, argument)
