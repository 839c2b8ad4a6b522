"""A suite: rows, how they are asked, and how answers are scored. Each is one small JSON file, beside its rows.

The rows of others are read as they are: BLiMP's and ZhoBLiMP's pairs, ARC's, C-Eval's and CMMLU's questions.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from data.read import RowFile, suffix_of
from data.suites import grammar
from minimind.config import Config, explain
from minimind.evaluation.checkers import Check, parse_check
from minimind.language import language, say

How = Literal["text", "pair", "choice", "answer"]
"""How likely a text is; which of two sentences is likelier; which of some choices; what the model says."""

SUITES = Path(__file__).parent / "suites"

MADE: dict[str, Callable[[], list[dict[str, str]]]] = {"grammar": grammar.pairs}
"""Rows that are made where they are needed, by name."""

GROUPS = ("language", "kind", "phenomenon", "topic", "subject", "source")
"""Fields of rows by which a score is also given apart, where a row has them."""


class Asking(Config):
    """How the rows are put to a model. question, choice: templates of a choice, with the names of its parts."""

    how: How
    max_tokens: int = Field(default=96, ge=1)
    temperature: float = Field(default=0.0, ge=0)
    samples: int = Field(default=1, ge=1, description="answers to each row, each with a seed of its own")
    seed: int = Field(default=0, ge=0, description="of the samples: another one draws others")
    question: str = "{question}\n"
    choice: str = "{choice}"


class Suite(Config):
    """What a suite file says. rows: a file beside it, `stock:FILE` of the stock data, or `made:NAME`.

    counted: field -> values: the rows that the suite's score is of, if not all; the others are shown beside it, such as
    facts that no model can know. primary: of a choice, whether its log-prob counts per byte or as it is.
    """

    name: str = Field(pattern=r"[a-z0-9][a-z0-9_-]{0,40}$")
    version: int = Field(default=1, ge=1)
    title: dict[Literal["en", "zh"], str]
    rows: str
    ask: Asking
    counted: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    primary: Literal["per_byte", "plain"] = "per_byte"

    @property
    def said(self) -> str:
        """What it is about, in the reader's language."""
        return self.title.get("zh" if language() == "zh" else "en") or next(iter(self.title.values()), self.name)

    @property
    def lower_is_better(self) -> bool:
        """Whether less is better, as of bits per byte."""
        return self.ask.how == "text"

    def counts(self, row: SuiteRow) -> bool:
        """Whether the suite's score is also of this row."""
        return all(row.groups.get(name) in values for name, values in self.counted.items())


@dataclass(frozen=True, slots=True)
class SuiteRow:
    """A row as it is asked. id: the same for the same row of every model. groups: of GROUPS, those it has.

    texts: the text; the good and the bad sentence; or the choices, with `right` the number of the right one. messages:
    the conversation up to the question, before: questions that are asked first, one after the other, of the same model.
    expected: the answer to the letter; fact: what it has to hold. checks: else. answer_language: the one in which an
    answer is to be, None where any will do.
    """

    id: str
    groups: Mapping[str, str]
    texts: tuple[str, ...] = ()
    question: str = ""
    right: int = 0
    messages: tuple[Mapping[str, Any], ...] = ()
    before: tuple[str, ...] = ()
    tools: tuple[Mapping[str, Any], ...] = ()
    expected: str | None = None
    fact: str = ""
    checks: tuple[Check, ...] = ()
    answer_language: str | None = None


@dataclass(frozen=True)
class Rows:
    """The rows of a suite with what they are known by. sha256: of their content."""

    suite: Suite
    rows: list[SuiteRow] = field(repr=False)
    sha256: str


def bundled() -> list[str]:
    """The names of the suites that come with the project."""
    return sorted(file.stem for file in SUITES.glob("*.json"))


def load(name: str, stock: Path, path: Path | None = None) -> Rows:
    """A suite with its rows: a bundled one by its name, or from `path`, a suite file or a file of rows.

    stock: where the stock data lies. Raises ValueError that names the file and the line.
    """
    if path is None and name not in bundled():
        raise ValueError(say("there is no suite {name!r}; there are {names}", name=name, names=", ".join(bundled())))
    file = path or SUITES / f"{name}.json"
    if suffix_of(file.name) is not None or file.suffix == ".csv":
        return _implied(file)
    suite = read_suite(file)
    kind, _, rest = suite.rows.partition(":")
    if kind == "made":
        if rest not in MADE:
            raise ValueError(
                say("{file}: rows = {rows!r}: made are {names}", file=file, rows=suite.rows, names=", ".join(MADE))
            )
        return _rows(suite, f"made:{rest}", enumerate(MADE[rest](), start=1))
    source = stock / rest if kind == "stock" else file.parent / suite.rows
    if not source.is_file():
        hint = say(" (`minimind data fetch` makes it)") if kind == "stock" else ""
        raise ValueError(
            say("the suite {name} needs {source}, which is not there{hint}", name=suite.name, source=source, hint=hint)
        )
    return _rows(suite, str(source), _read(source))


def read_suite(file: Path) -> Suite:
    """A suite file, without its rows. Raises ValueError that names the file and the field."""
    try:
        return Suite.model_validate_json(file.read_text("utf-8"))
    except OSError as error:
        raise ValueError(say("the suite {file} cannot be read: {error}", file=file, error=error.strerror)) from None
    except UnicodeDecodeError:
        raise ValueError(say("the suite {file} is not UTF-8", file=file)) from None
    except ValidationError as error:
        raise ValueError(f"{file}: {explain(error)}") from None


def _implied(file: Path) -> Rows:
    """The suite of a file of rows, as its first row looks."""
    first = next((row for _, row in _read(file) if isinstance(row, Mapping)), {})
    form = next((form for form in FORMS if form.fields <= set(first)), None)
    if form is None:
        known = _known(FORMS)
        raise ValueError(
            say("{file}: no form of row that is known: one has the fields {known}", file=file, known=known)
        )
    name = "".join(
        c if c.isascii() and (c.isalnum() or c in "_-") else "-" for c in file.name.partition(".")[0].lower()
    )
    suite = Suite(
        name=name.strip("-_")[:40] or "rows", title={"en": file.name}, rows=file.name, ask=Asking(how=form.how)
    )
    return _rows(suite, str(file), _read(file))


def _read(file: Path) -> Iterator[tuple[int, object]]:
    if file.suffix == ".csv":
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            yield from ((reader.line_num, row) for row in reader)
        return
    for line, row in RowFile(file):
        if isinstance(row, Exception):
            raise row
        yield line, row


def _rows(suite: Suite, source: str, content: Iterable[tuple[int, object]]) -> Rows:
    digest, rows, seen = hashlib.sha256(), [], set()
    forms = [form for form in FORMS if form.how == suite.ask.how]
    for line, row in content:
        try:
            if not isinstance(row, Mapping):
                raise ValueError(say("a row is a JSON object, not {kind}", kind=type(row).__name__))
            form = next((form for form in forms if form.fields <= set(row)), None)
            if form is None:
                known = _known(forms)
                raise ValueError(say("a row of this suite has the fields {known}", known=known))
            made = replace(form.read(row), answer_language=_answer_language(row))
        except ValueError as error:
            raise ValueError(f"{source}:{line}: {error}") from None
        groups = {name: str(row[name]) for name in GROUPS if row.get(name) not in (None, "", [])}
        name = str(line if row.get("id") is None else row["id"])
        made = replace(made, id=name, groups=groups | dict(made.groups))
        if name in seen:
            raise ValueError(
                say("{source}:{line}: a second row with the id {id!r}", source=source, line=line, id=made.id)
            )
        seen.add(name)
        rows.append(made)
        digest.update(json.dumps(row, sort_keys=True, ensure_ascii=False).encode() + b"\n")
    if not rows:
        raise ValueError(say("{source}: no row", source=source))
    return Rows(suite, rows, digest.hexdigest())


def _answer_language(row: Mapping[str, Any]) -> str | None:
    """The field of that name, "zh", "en" or "any"; where there is none, the language of the row."""
    named = row.get("answer_language")
    if named not in (None, "zh", "en", "any"):
        raise ValueError(say('answer_language = {value!r}: there are "zh", "en" and "any"', value=named))
    wanted = named or row.get("language")
    return str(wanted) if wanted and wanted != "any" else None


def _known(forms: Iterable[Form]) -> str:
    return "; ".join(" + ".join(sorted(form.fields)) for form in forms)


@dataclass(frozen=True)
class Form:
    """A form of row. fields: by which it is known."""

    how: How
    fields: frozenset[str]
    read: Callable[[Mapping[str, Any]], SuiteRow]


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row[name]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(say("{name} is no text: {value}", name=name, value=repr(value)[:60]))
    return value


def _pair(row: Mapping[str, Any]) -> SuiteRow:
    phenomenon = next((str(row[name]) for name in ("phenomenon", "UID", "paradigm") if row.get(name)), "")
    return SuiteRow(
        "",
        {"phenomenon": phenomenon} if phenomenon else {},
        texts=(_text(row, "sentence_good"), _text(row, "sentence_bad")),
    )


def _arc(row: Mapping[str, Any]) -> SuiteRow:
    """ARC's: choices {"text": [...], "label": [...]}, answerKey one of the labels."""
    choices, stem = row["choices"], row["question"]
    if isinstance(choices, Mapping):
        texts, labels = list(choices.get("text") or ()), list(choices.get("label") or ())
    else:  # as ARC's own files have it
        texts, labels = [c.get("text") for c in choices], [c.get("label") for c in choices]
    stem = stem.get("stem") if isinstance(stem, Mapping) else stem
    return _choice(str(stem or ""), texts, labels, row["answerKey"])


def _letters(row: Mapping[str, Any]) -> SuiteRow:
    """C-Eval's and CMMLU's: the choices A to D by themselves."""
    by_name = {str(name).lower(): value for name, value in row.items()}
    labels = [letter for letter in "ABCDEFGH" if row.get(letter) not in (None, "")]
    return _choice(
        str(by_name.get("question") or ""), [row[letter] for letter in labels], labels, by_name.get("answer")
    )


def _choice(question: str, texts: list[Any], labels: list[Any], answer: object) -> SuiteRow:
    if len(texts) < 2 or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError(say("a choice is between two texts or more, not {texts}", texts=repr(texts)[:80]))
    if not question.strip():
        raise ValueError(say("{name} is no text: {value}", name="question", value=repr(question)))
    if answer not in labels:
        raise ValueError(say("the answer {answer!r} is none of the choices {labels}", answer=answer, labels=labels))
    return SuiteRow("", {}, texts=tuple(texts), question=question, right=labels.index(answer))


def _fact(row: Mapping[str, Any]) -> SuiteRow:
    """The stock data's questions: the sentence that was taught."""
    question = ({"role": "user", "content": _text(row, "prompt")},)
    before = tuple(str(text) for text in row.get("before") or ())
    return SuiteRow(
        "", {}, messages=question, before=before, expected=_text(row, "sentence"), fact=str(row.get("answer") or "")
    )


def _checked(row: Mapping[str, Any]) -> SuiteRow:
    checks = row["checks"]
    if not isinstance(checks, list) or not checks:
        raise ValueError(
            say("checks is a list of objects such as {example}", example='{"is": "contains", "any": ["4"]}')
        )
    messages = row.get("messages") or [{"role": "user", "content": row.get("prompt")}]
    if not isinstance(messages, list) or not all(isinstance(one, Mapping) and one.get("content") for one in messages):
        raise ValueError(say("messages is a list of turns with role and content"))
    return SuiteRow(
        "", {}, messages=tuple(messages), tools=tuple(row.get("tools") or ()), checks=tuple(map(parse_check, checks))
    )


def _expected(row: Mapping[str, Any]) -> SuiteRow:
    return SuiteRow(
        "", {}, messages=({"role": "user", "content": _text(row, "prompt")},), expected=_text(row, "answer")
    )


FORMS = (
    Form("pair", frozenset({"sentence_good", "sentence_bad"}), _pair),
    Form("choice", frozenset({"question", "choices", "answerKey"}), _arc),
    Form("choice", frozenset({"question", "A", "B", "answer"}), _letters),
    Form("choice", frozenset({"Question", "A", "B", "Answer"}), _letters),
    Form("answer", frozenset({"prompt", "sentence"}), _fact),
    Form("answer", frozenset({"messages", "checks"}), _checked),
    Form("answer", frozenset({"prompt", "checks"}), _checked),
    Form("answer", frozenset({"prompt", "answer"}), _expected),
    Form("text", frozenset({"text"}), lambda row: SuiteRow("", {}, texts=(_text(row, "text"),))),
)
