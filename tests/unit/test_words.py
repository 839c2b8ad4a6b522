"""The reader's language: every sentence that is said has its Chinese, with the same places for values."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from string import Formatter
from typing import get_args

import pytest

from data.check import PROBLEMS
from data.schema import LOOKS
from data.suite import GROUPS as GROUPS_OF_ROWS
from data.suite import bundled
from jobs import paths
from jobs.commands.arguments import SAID_BY_ARGPARSE
from jobs.commands.verbs import GROUPS, VERBS
from jobs.demo.demo import OTHER_QUESTIONS, TURN_TITLES
from jobs.evaluation.suites import WAYS
from jobs.experiment.log import COLUMNS
from jobs.fit.view import PARTS
from jobs.runs.directory import CONTINUE, KILLED
from jobs.runs.meanings import OWN_LOSS, TRIED_LOSS
from jobs.runs.show import WAITING
from jobs.serving.conversation import HELP, NO_MODEL
from jobs.stages import flags
from jobs.stages.old_names import FLAGS_ELSEWHERE
from jobs.stages.spec import RunSpec
from jobs.stages.table import STAGES
from jobs.stock.sources import PACKAGES
from jobs.sweeps.report import OUTCOMES
from jobs.sweeps.sweep import DIED
from jobs.sweeps.trial import DISK_FULL, outcome_of
from jobs.synthesis.view import LEFT_OUT
from jobs.text.tokenizer import DATA_FILE, TOKENIZER_FLAGS, TokenizerSpec
from minimind.config import JSON_WORDS, WORDS
from minimind.evaluation.diagnostics import DIAGNOSES
from minimind.evaluation.statistics import Verdict
from minimind.events import METRICS, STATES
from minimind.inference.scoring import NOT_FINITE
from minimind.language import _CATALOGUES, language, phrase, say, speaking

CHINESE: dict[str, str] = {}
for catalogue in _CATALOGUES:
    CHINESE |= import_module(catalogue).CHINESE


@pytest.fixture
def no_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MINIMIND_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_locale")
def test_the_language_is_as_asked_or_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    assert language() == "en"
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    assert language() == "zh"
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    assert language() == "en"
    monkeypatch.setenv("MINIMIND_LANG", "zh")
    assert language() == "zh"
    monkeypatch.setenv("MINIMIND_LANG", "en_US.UTF-8")
    assert language() == "en"
    for wrong in ("fr", "enough"):
        monkeypatch.setenv("MINIMIND_LANG", wrong)
        with pytest.raises(ValueError, match=f"MINIMIND_LANG = '{wrong}': there are en, zh"):
            language()
    with speaking("zh"):
        assert language() == "zh"


def test_say() -> None:
    assert say("step") == "step"
    assert say("near: {names}", names="{a}, b") == "near: {a}, b"
    with speaking("zh"):
        assert say("step") == "步数"
        assert say("no such text {x:g}", x=1.0) == "no such text 1"
        assert phrase("no such {text}") == "no such {text}"
    assert say("step") == "step"


def test_no_sentence_stands_in_two_catalogues() -> None:
    assert len(CHINESE) == sum(len(import_module(catalogue).CHINESE) for catalogue in _CATALOGUES)


def all_modules() -> Iterator[tuple[str, ast.Module]]:
    for package in ("minimind", "data", "jobs"):
        for file in sorted((paths.checkout() / package).rglob("*.py")):
            yield str(file.relative_to(paths.checkout())), ast.parse(file.read_text("utf-8"))


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Those that speak by the one mechanism."""
    for name, tree in all_modules():
        imports = (node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
        if name == "minimind/language.py" or "minimind.language" in imports:
            yield name, tree


def alternatives(node: ast.expr) -> list[ast.expr]:
    """`a if x else b` is two texts."""
    return alternatives(node.body) + alternatives(node.orelse) if isinstance(node, ast.IfExp) else [node]


_SAID_BY_TEMPLATES = re.compile(r'\b(?:say|phrase)\("([^"]*)"')


def calls() -> Iterator[tuple[str, str, ast.expr]]:
    """Where something is said: the place, say or phrase, and what."""
    for name, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("say", "phrase"):
                for text in alternatives(node.args[0]):
                    yield f"{name}:{node.lineno}", node.func.id, text


def literals() -> set[str]:
    """What is said where it stands, in modules and in templates."""
    found = {text.value for *_, text in calls() if isinstance(text, ast.Constant) and isinstance(text.value, str)}
    for file in (paths.checkout() / "jobs").rglob("*.jinja"):
        found |= set(_SAID_BY_TEMPLATES.findall(file.read_text("utf-8")))
    return found


def declared() -> set[str]:
    """What stands in tables and descriptions, and is handed to `phrase`."""
    texts = {*STATES, KILLED, CONTINUE, WAITING, NO_MODEL, *HELP.values(), *SAID_BY_ARGPARSE, *FLAGS_ELSEWHERE.values()}
    texts |= {
        DATA_FILE,
        *WORDS.values(),
        *JSON_WORDS,
        *PARTS,
        *OUTCOMES,
        *TURN_TITLES,
        *(title for title, _ in OTHER_QUESTIONS),
    }
    for metric in (*METRICS.values(), *OWN_LOSS.values(), *TRIED_LOSS.values()):
        texts |= {metric.meaning, metric.unit} - {""}
    texts |= {*GROUPS, *(verb.help for verb in VERBS.values()), *(title for title, _ in flags.GROUPS.values())}
    texts |= {stage.title for stage in STAGES.values()} | set(DIAGNOSES.values())
    texts |= {text for stage in STAGES.values() for text in stage.words.values()}
    texts |= set(COLUMNS)
    texts |= {problem.meaning for problem in PROBLEMS.values()} | set(LOOKS.values())
    fields = [flags.field_of(RunSpec, path) for path in (*flags.FLAGS.values(), *flags.ADAPTER_FLAGS.values())]
    fields += [
        flags.field_in(STAGES[name].preset("tiny"), path)
        for name, own in flags.STAGE_FLAGS.items()
        for path in own.values()
    ]
    fields += [flags.field_of(TokenizerSpec, path) for path in TOKENIZER_FLAGS.values()]
    texts |= {*bundled(), *GROUPS_OF_ROWS, *WAYS.values(), *get_args(Verdict)}
    texts |= {NOT_FINITE, *LEFT_OUT.values(), DIED, *DISK_FULL, *(package.used for package in PACKAGES)}
    return texts | {field.description for field in fields if field.description}


def all_texts() -> set[str]:
    """Every text of the modules that speak: what a table of theirs holds may be handed to `phrase`."""
    nodes = (node for _, tree in modules() for node in ast.walk(tree))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_what_is_said_is_a_literal() -> None:
    assert not [where for where, function, text in calls() if function == "say" and not isinstance(text, ast.Constant)]


def test_everything_that_is_said_has_its_chinese() -> None:
    said = literals() | declared()
    assert len(said) > 200
    assert not sorted(said - CHINESE.keys())


def test_nothing_is_translated_that_is_never_said() -> None:
    assert not sorted(CHINESE.keys() - literals() - declared() - all_texts())


def test_both_have_the_same_places_for_values() -> None:
    def places(template: str) -> set[tuple[str | None, ...]]:
        return {(name, spec, conversion) for _, name, spec, conversion in Formatter().parse(template) if name}

    templates = literals() | {*SAID_BY_ARGPARSE, *WORDS.values()}
    differ = [english for english in templates & CHINESE.keys() if places(english) != places(CHINESE[english])]
    assert not differ


def test_the_values_of_a_sentence_have_their_places() -> None:
    """`say` is given what its template names, and no more."""
    for where, tree in modules():
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "say"):
                continue
            given = {keyword.arg for keyword in node.keywords}
            for text in alternatives(node.args[0]):
                if isinstance(text, ast.Constant) and isinstance(text.value, str) and None not in given:
                    named = {name for _, name, _, _ in Formatter().parse(text.value) if name} if given else set()
                    assert named == given, f"{where}:{node.lineno}: {text.value}"


def test_a_full_disk_is_known_by_what_is_said_of_it() -> None:
    for lang in ("en", "zh"):
        with speaking(lang):
            for sentence in (
                "{path}: only {written} of {count} bytes could be written; is the disk full?",
                (
                    "the checkpoint of step {step} needs {needed} ({needed2} bytes), but the disk of {root} has {free} "
                    "({free2} bytes) free. Older checkpoints are untouched: make room, or keep fewer checkpoints, and "
                    "resume the run"
                ),
            ):
                assert outcome_of(phrase(sentence)) == "disk full", (lang, sentence)


ENGLISH_ERRORS = {
    "jobs/gpu_check.py": "a tool of developers, English throughout",
    "minimind/inference/decoder.py": "arguments of the engine, which no user gives",
    "minimind/inference/engine.py": "arguments of a request: those of a user are refused before, or by the API",
    "minimind/inference/quantize.py": "models and texts that only a program can hand it, and the server's own log",
    "minimind/inference/sampling.py": "arguments of a request, which reach it through the API alone",
    "minimind/tools/calculator.py": "what a model reads of its own expression: the same in every language",
}
"""Modules whose errors may be English -> why: nobody at a command line meets them."""

_WORDS = re.compile(r"[A-Za-z]{2,}\W+[A-Za-z]{2,}")


def unsaid(message: ast.expr) -> str:
    """What of the text of an error does not go through `say`."""
    match message:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr():
            return "{}".join(unsaid(part) for part in message.values)
        case ast.BinOp():
            return unsaid(message.left) + unsaid(message.right)
        case ast.IfExp():
            return f"{unsaid(message.body)}; {unsaid(message.orelse)}"
        case _:
            return ""


def test_errors_are_said() -> None:
    """An error that is raised with a sentence of its own says it in the reader's language."""
    english: dict[str, list[str]] = {}
    for where, tree in all_modules():
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)):
                continue
            if isinstance(node.exc.func, ast.Name) and node.exc.func.id == "TypeError":  # a program's mistake
                continue
            text = "; ".join(unsaid(argument) for argument in node.exc.args)
            if _WORDS.search(text):
                english.setdefault(where, []).append(f"{where}:{node.lineno}: {text}")
    assert not [line for where, lines in english.items() if where not in ENGLISH_ERRORS for line in lines]
    assert not sorted(ENGLISH_ERRORS.keys() - english.keys())
