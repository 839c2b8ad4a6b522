"""The reader's language: what is said to people goes through `say`, and a line is in one language.

A sentence is written down once, in English, where it is said. Its Chinese stands in the catalogue of its package, a
module that holds CHINESE, English template -> Chinese template; it is loaded with the first Chinese sentence.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib import import_module

LANGUAGES = ("en", "zh")
VARIABLE = "MINIMIND_LANG"

_CATALOGUES = ("minimind.chinese", "data.chinese", "jobs.terminal.chinese")
"""Asked where their package is loaded: those above are known here by these names alone."""

_SPOKEN: ContextVar[str | None] = ContextVar("spoken", default=None)


def language() -> str:
    """The language to speak: $MINIMIND_LANG, else that of the locale; "zh" or "en".

    Raises ValueError for a $MINIMIND_LANG that there is not.
    """
    if (spoken := _SPOKEN.get()) is not None:
        return spoken
    asked = os.environ.get(VARIABLE)
    if asked and re.split("[-_.@]", asked)[0].lower() not in LANGUAGES:
        with speaking(_of_locale()):
            raise ValueError(
                say("{name} = {value!r}: there are {names}", name=VARIABLE, value=asked, names=", ".join(LANGUAGES))
            )
    return _of_locale(VARIABLE)


def _of_locale(*above: str) -> str:
    """The language of the first variable that is set, those of the locale last."""
    names = (os.environ.get(name) for name in (*above, "LC_ALL", "LC_MESSAGES", "LANG"))
    return "zh" if next(filter(None, names), "").lower().startswith("zh") else "en"


@contextmanager
def speaking(lang: str) -> Iterator[None]:
    """Speak this language in the block, such as where signs of the other cannot be drawn."""
    before = _SPOKEN.set(lang)
    try:
        yield
    finally:
        _SPOKEN.reset(before)


def say(template: str, /, **values: object) -> str:
    """The sentence in the language of this process, with the values in its places, as `str.format` puts them there.

    A template without a translation is said as it is.
    """
    text = phrase(template)
    return text.format(**values) if values else text


def phrase(text: str, /) -> str:
    """The translation of a text that is declared elsewhere, such as the description of a setting; nothing is put in."""
    if language() == "zh":
        for module in _CATALOGUES:
            if module.partition(".")[0] in sys.modules and (chinese := _chinese(module).get(text)) is not None:
                return chinese
    return text


@cache
def _chinese(module: str) -> Mapping[str, str]:
    content: Mapping[str, str] = import_module(module).CHINESE
    return content
