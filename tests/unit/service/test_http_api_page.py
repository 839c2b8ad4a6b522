"""docs/http-api.md as it is written: its curl lines and its Python, against a server with models of those names."""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs import paths
from jobs.runs.directory import RunDirectory
from minimind.network.model import MiniMind
from minimind.text.tokenizer import Tokenizer
from tests import taught
from tests.unit.service.conftest import SETTINGS, Served, serving

PAGE = (paths.checkout() / "docs" / "http-api.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
ADDRESS = "http://127.0.0.1:8000"
KEYED = "http://that-machine:8000"
KEY = "choose-a-long-one"

CURLS = [
    (code, answer)
    for (kind, code), (_, answer) in zip(BLOCKS, [*BLOCKS[1:], ("", "")], strict=True)
    if kind == "bash" and code.startswith("curl ")
]
"""Each block that is one call of curl, and the block after it, which shows the answer."""

CONSOLE = [
    re.fullmatch(r"\$ ((?:[^\n]*\\\n)*[^\n]*)\n(.*)", code, re.DOTALL).groups()  # type: ignore[union-attr]
    for kind, code in BLOCKS
    if kind == "console" and code.startswith("$ curl ")
]
"""Calls of curl with what they print."""

PYTHON = [code for kind, code in BLOCKS if kind == "python"]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, known_by_heart: tuple[MiniMind, Tokenizer]) -> Iterator[Served]:
    """A server with the models that the page names."""
    home = tmp_path_factory.mktemp("page")
    for name in ("demo-chat", "my-thinker", "my-caller"):
        taught.write_run(home / "runs", name, *known_by_heart, steps=(840, 847))
    RunDirectory(home / "runs" / "demo").create({"stage": {"kind": "pretrain"}})
    taught.write_run(home / "runs", "demo", *known_by_heart, steps=(366,))
    model, tokenizer = known_by_heart
    taught.write_run(home / "runs", "demo-all-reward", taught.judge(model), tokenizer, steps=(408,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIMIND_HOME", str(home))
        with serving(SETTINGS.model_copy(update={"context_tokens": 2048})) as there:
            yield there


def test_the_page_has_calls_of_both_kinds() -> None:
    assert len(CURLS) >= 5
    assert len(PYTHON) >= 7


@pytest.mark.parametrize(("call", "shown"), CURLS, ids=lambda text: text[:60].split("'{")[0])
def test_curl_answers_in_the_shape_that_is_shown(page: Served, call: str, shown: str) -> None:
    answer = _bash(call.replace(ADDRESS, page.address))
    if shown.startswith("data: "):
        events, wanted = (
            [line.removeprefix("data: ") for line in text.splitlines() if line] for text in (answer, shown)
        )
        assert events[-1] == wanted[-1] == "[DONE]"
        assert _shape(json.loads(events[0])) == _shape(json.loads(wanted[0]))
        assert _shape(json.loads(events[-2])) == _shape(json.loads(wanted[-2]))
    else:
        assert _shape(json.loads(answer)) == _shape(json.loads(shown))


def test_what_curl_prints_on_the_console(page: Served) -> None:
    refused, health, numbers = [
        (_bash(call.replace(ADDRESS, page.address)).splitlines(), shown.splitlines()) for call, shown in CONSOLE
    ]
    assert (refused[0][0], refused[0][-1]) == (refused[1][0], refused[1][-1])
    assert _shape(json.loads(health[0][0])) == _shape(json.loads(health[1][0]))
    assert {_metric(line) for line in numbers[1]} <= {_metric(line) for line in numbers[0]}


def _metric(line: str) -> str:
    return re.split("[{ ]", line)[0]


def test_the_python_runs_from_top_to_bottom(page: Served) -> None:
    names: dict[str, Any] = {}
    said = []
    for code in PYTHON:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code.replace(ADDRESS, page.address), "docs/http-api.md", "exec"), names)
        said.append(out.getvalue().strip())
    assert said[0] == ""
    assert "Paris." in said
    assert "巴黎。" in said
    assert "Only 1 and 7 divide it." in said
    assert "It is sunny in Paris." in said
    assert "model_not_found model" in said
    scores = next(json.loads(line.replace("None", "null")) for line in said if line.startswith("["))
    assert scores[0] is None
    assert all(score <= 0 for score in scores[1:])
    names["client"].close()


def test_refusals_are_those_that_are_shown(page: Served, known_by_heart: tuple[MiniMind, Tokenizer]) -> None:
    shown = [json.loads(line) for line in re.sub(r",\n ", ", ", PAGE).splitlines() if line.startswith('{"error"')]
    chat = f"curl -s {page.address}/v1/chat/completions -H 'Content-Type: application/json' -d "
    one = '{"role": "user", "content": "hi"}'
    asked = [
        f'{{"model": "demo-chat", "messages": [{one}, {one}]}}',
        f'{{"model": "demo-chat", "max_new_tokens": 5, "messages": [{one}]}}',
        f'{{"model": "demo", "messages": [{one}]}}',
        f'{{"model": "demo-chat", "temperature": 3, "messages": [{one}]}}',
        f'{{"model": "nobody", "messages": [{one}]}}',
        f'{{"model": "demo-chat", "max_tokens": 5000, "messages": [{one}]}}',
    ]
    answers = [json.loads(_bash(f"{chat}'{body}'")) for body in asked]
    with serving(SETTINGS.model_copy(update={"api_key": KEY})) as keyed:
        answers.append(json.loads(_bash(f"curl -s {keyed.address}/v1/models")))
        allowed = next(line for line in PAGE.splitlines() if KEYED in line and line.startswith("curl "))
        assert json.loads(_bash(allowed.replace(KEYED, keyed.address)))["data"]
        assert "www-authenticate: Bearer" in _bash(f"curl -si {keyed.address}/v1/models")
    assert len(shown) == len(answers)
    for answer, wanted in zip(answers, shown, strict=True):
        # The models there and the length of a prompt are others here.
        message, expected = (re.sub(r"models: .*|\d+", "", error["error"].pop("message")) for error in (answer, wanted))
        assert message == expected
        assert answer == wanted


def _bash(command: str) -> str:
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=60, check=True, cwd=Path.home()
    )
    return done.stdout


def _shape(value: Any) -> Any:
    """Names and nesting, without values. Of a list what its entries may have."""
    if isinstance(value, dict):
        return {name: _shape(inner) for name, inner in sorted(value.items())}
    if isinstance(value, list):
        return [_shape(value[0])] if value else []
    return None
