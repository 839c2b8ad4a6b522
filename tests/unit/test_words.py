from __future__ import annotations

import ast
from pathlib import Path

import pytest

import jobs
from jobs.runs.directory import CONTINUE, KILLED
from jobs.runs.show import WAITING
from jobs.terminal.words import _ZH, language, say
from minimind.events import METRICS, STATES


@pytest.fixture(autouse=True)
def no_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MINIMIND_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)


def test_the_language_is_as_asked_or_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    assert language() == "en"
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    assert language() == "zh"
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    assert language() == "en"
    monkeypatch.setenv("MINIMIND_LANG", "zh")
    assert language() == "zh"
    assert language("en") == "en"
    with pytest.raises(ValueError, match="language = 'fr': there are en, zh"):
        language("fr")
    monkeypatch.setenv("MINIMIND_LANG", "en_US.UTF-8")
    assert language() == "en"
    with pytest.raises(ValueError, match="language = 'enough': there are en, zh"):
        language("enough")
    monkeypatch.setenv("MINIMIND_LANG", "fr")
    assert language("zh") == "zh"
    with pytest.raises(ValueError, match="MINIMIND_LANG = 'fr': there are en, zh"):
        language()


def test_say() -> None:
    assert say("step", "en") == "step"
    assert say("step", "zh") == "步数"
    assert say("no such text", "zh") == "no such text"


def spoken() -> set[str]:
    """What METRICS, the states and the texts around them say."""
    texts = {*STATES, KILLED, CONTINUE, WAITING}
    for metric in METRICS.values():
        texts |= {metric.meaning, metric.unit} - {""}
    return texts


def literals(calls_of: tuple[str, ...] = ()) -> set[str]:
    """Texts in the modules that speak; with `calls_of`, only those handed to these functions."""
    found = set()
    for module in ("show", "curves", "progress", "sweep_view", "__main__"):
        for node in ast.walk(ast.parse(Path(jobs.__path__[0], f"{module}.py").read_text("utf-8"))):
            if calls_of and not (isinstance(node, ast.Call) and ast.unparse(node.func) in calls_of):
                continue
            parts = node.args if isinstance(node, ast.Call) and calls_of else [node]
            found |= {part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)}
    return found - {""}


def test_everything_that_is_said_has_a_translation() -> None:
    said = spoken() | literals(("say", "self._say", "_plain_table"))
    assert len(said) > 50
    assert not [text for text in said if say(text, "zh") == text]


def test_nothing_is_translated_that_is_never_said() -> None:
    assert not set(_ZH) - spoken() - literals()
