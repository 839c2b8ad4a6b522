"""The pictures of the READMEs: the chat page, asked what the demo has taught, and the demo's loss curve.

    make demo                                  # and leave its server running
    .venv/bin/python docs/pictures.py          # --url: where the server is

It needs Chromium, and fonts with Chinese in them (apt-get install chromium fonts-noto-cjk fonts-inter). What it draws
goes to docs/pictures/, with `_zh` for Chinese, in few colours, so that each file stays small.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, expect, sync_playwright

FOLDER = Path(__file__).parent / "pictures"
CHECKOUT = FOLDER.parent.parent
MOST_BYTES = 200_000
COLOURS = 96
RUN = "demo"
LOCALES = {"": "en-US", "_zh": "zh-CN"}
QUESTIONS = {
    "": ["What is the capital of Poland?", "What is the symbol for silicon?"],
    "_zh": ["云南省的简称是什么？", "它的省会是哪里？"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the pictures of the READMEs.")
    parser.add_argument("--url", default="http://127.0.0.1:8000/", help="the demo's server (default: %(default)s)")
    url: str = parser.parse_args().url
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        sys.exit("No Chromium here: apt-get install chromium")
    FOLDER.mkdir(exist_ok=True)
    for language in LOCALES:
        _keep(_curve(language), f"curve{language}.png")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        for language in LOCALES:
            _keep(_chat(browser, url, language), f"chat{language}.png")
        browser.close()


def _curve(language: str) -> bytes:
    """The loss curve as `minimind show` draws it."""
    home = Path(os.environ.get("MINIMIND_HOME") or "~/minimind").expanduser()
    spoken = {"MINIMIND_LANG": language.removeprefix("_") or "en"}
    show = [sys.executable, "-m", "jobs", "show", RUN]
    subprocess.run(show, cwd=CHECKOUT, env=os.environ | spoken, check=True, stdout=subprocess.DEVNULL)
    return (home / "runs" / RUN / "curve.png").read_bytes()


def _chat(browser: Browser, url: str, language: str) -> bytes:
    """The page after its questions have been answered."""
    page = browser.new_page(locale=LOCALES[language], viewport={"width": 920, "height": 770}, device_scale_factor=2)
    page.goto(url)
    field = page.locator("#prompt")
    expect(field).to_be_focused(timeout=20_000)  # the page has started
    for number, question in enumerate(QUESTIONS[language], start=1):
        field.fill(question)
        field.press("Enter")
        expect(page.locator(".answer")).to_have_count(number, timeout=20_000)
        expect(page.locator(".answer").last).to_have_attribute("aria-busy", "false", timeout=60_000)
    page.mouse.move(0, 0)
    return page.screenshot(animations="disabled")


def _keep(png: bytes, name: str) -> None:
    """Write a picture in few colours. Raises ValueError where it is still too large for a README."""
    image = Image.open(io.BytesIO(png)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    image.save(FOLDER / name, optimize=True)
    size = (FOLDER / name).stat().st_size
    print(f"{FOLDER / name}: {image.width} x {image.height}, {size:,} bytes")
    if size > MOST_BYTES:
        raise ValueError(f"{name} has {size:,} bytes, more than {MOST_BYTES:,}: take fewer colours")


if __name__ == "__main__":
    main()
