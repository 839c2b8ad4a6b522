"""A suite: rows, how they are asked, and how answers are scored. Each is one small JSON file, beside its rows.

The rows of others are read as they are: BLiMP's and ZhoBLiMP's pairs, ARC's, C-Eval's and CMMLU's questions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, ValidationError, field_validator

from data.read import RowFile, suffix_of
from data.schema import PreferenceRow, parse
from data.suites import grammar
from data.table import read_table
from minimind.config import Config, explain
from minimind.evaluation.checkers import Check, parse_check
from minimind.language import language, say
from minimind.text.chat import require_renderable
from minimind.text.template import MAY_FOLLOW

How = Literal["text", "pair", "choice", "answer"]
"""How likely a text is; which of two sentences or answers is likelier; which of some choices; what the model says."""

SUITES = Path(__file__).parent / "suites"

MADE: dict[str, Callable[[], list[dict[str, str]]]] = {"grammar": grammar.pairs}
"""Rows that are made where they are needed, by name."""

Group = Literal["language", "kind", "phenomenon", "topic", "subject", "source"]

GROUPS: tuple[str, ...] = get_args(Group)
"""Fields of rows by which a score is also given apart, where a row has them."""

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""What choices are called; there are no more choices than that."""

ROLES = tuple(filter(None, MAY_FOLLOW))


class Asking(Config):
    """How the rows are put to a model. question, choice: templates of a choice, with the names of its parts; what is
    scored, `choice`, tells the choices apart.
    """

    how: How
    max_tokens: int = Field(default=96, ge=1)
    temperature: float = Field(default=0.0, ge=0)
    samples: int = Field(default=1, ge=1, description="answers to each row, each with a seed of its own")
    seed: int = Field(default=0, ge=0, description="of the samples: another one draws others")
    question: str = "{question}\n"
    choice: str = "{choice}"

    @field_validator("choice")
    @classmethod
    def _tells_apart(cls, value: str) -> str:
        if "{choice}" not in value and "{letter}" not in value:
            raise ValueError(say("{choice} or {letter} has to stand in it, or all choices are the same"))
        return value


class Suite(Config):
    """What a suite file says. rows: a file beside it, `stock:FILE` of the stock data, or `made:NAME`.

    counted: field -> values: the rows that the suite's score is of, if not all; the others are shown beside it, such as
    facts that no model can know. primary: of a choice, whether its log-prob counts per byte or as it is.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,40}$")
    version: int = Field(default=1, ge=1)
    title: dict[Literal["en", "zh"], str]
    rows: str
    ask: Asking
    counted: dict[Group, tuple[str, ...]] = Field(default_factory=dict)
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
    """A row as it is asked. id: its own, or which of the rows it is, from 1. groups: of GROUPS, those it has.

    texts: the text; the good and the bad sentence, or answer; or the choices, with `right` the number of the right one.
    messages: the conversation up to the question. before: questions that are asked first, one after the other, of the
    same model. expected: the answer to the letter; fact: what it has to hold. checks: else. answer_language: the one in
    which an answer is to be, None where any will do.
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
    if suffix_of(file.name) is not None or _is_table(file):
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
        return Suite.model_validate_json(file.read_text("utf-8-sig"))
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


def _is_table(file: Path) -> bool:
    return file.suffix.lower() == ".csv"


def _read(file: Path) -> Iterator[tuple[int, object]]:
    """The rows with their lines, as JSON would give them. Raises ValueError that names the file and the line."""
    try:
        if _is_table(file):
            yield from read_table(file)
            return
        content = RowFile(file)
        for line, row in content:
            if isinstance(row, Exception):
                raise row
            yield line, _as_json(file, line, row) if content.suffix == ".parquet" else row
    except OSError as error:
        raise ValueError(
            say("the rows {file} cannot be read: {error}", file=file, error=error.strerror or error)
        ) from None


def _as_json(file: Path, line: int, row: object) -> dict[str, Any]:
    """A row of a Parquet file with what JSON has not, such as dates, as text. Bytes are no text in any one way."""
    made = {}
    for name, value in dict(row if isinstance(row, Mapping) else {}).items():
        try:
            made[name] = json.loads(json.dumps(value, default=_written))
        except TypeError:
            raise ValueError(
                say(
                    "{file}:{line}: {name} holds what is no text and no JSON: {value}; leave that column out",
                    file=file,
                    line=line,
                    name=name,
                    value=repr(value)[:60],
                )
            ) from None
    return made


def _written(value: object) -> str:
    if isinstance(value, bytes):
        raise TypeError("bytes")
    return str(value)


def _rows(suite: Suite, source: str, content: Iterable[tuple[int, object]]) -> Rows:
    digest, rows = hashlib.sha256(), {}
    forms = [form for form in FORMS if form.how == suite.ask.how]
    for number, (line, row) in enumerate(content, start=1):
        try:
            made = _row(forms, number, row)
            if made.id in rows:
                raise ValueError(say("a second row with the id {id!r}", id=made.id))
        except ValueError as error:
            raise ValueError(f"{source}:{line}: {error}") from None
        rows[made.id] = made
        digest.update(json.dumps(row, sort_keys=True, ensure_ascii=False).encode() + b"\n")
    if not rows:
        raise ValueError(say("{source}: no row", source=source))
    _require_counted(suite, source, rows.values())
    return Rows(suite, list(rows.values()), digest.hexdigest())


def _row(forms: Sequence[Form], number: int, row: object) -> SuiteRow:
    """A row of one of these forms. number: which of the rows it is; lines would count blank ones."""
    if not isinstance(row, Mapping):
        raise ValueError(say("a row is a JSON object, not {kind}", kind=type(row).__name__))
    form = next((form for form in forms if form.fields <= set(row)), None)
    if form is None:
        found = ", ".join(map(str, row))[:80]
        raise ValueError(
            say("a row has the fields {found}; of this suite it has {known}", found=found, known=_known(forms))
        )
    made = form.read(row)
    groups = {name: str(row[name]) for name in GROUPS if row.get(name) not in (None, "", [])}
    name = number if row.get("id") in (None, "") else row["id"]
    return replace(made, id=str(name), groups=groups | dict(made.groups), answer_language=_answer_language(row))


def _require_counted(suite: Suite, source: str, rows: Collection[SuiteRow]) -> None:
    """Raise ValueError where no row counts, with what is asked for and what there is."""
    if any(map(suite.counts, rows)):
        return
    present = {name: sorted({row.groups[name] for row in rows if name in row.groups}) for name in suite.counted}
    asked, there = (
        say(" and ").join(f"{name} = {_values(values)}" for name, values in each.items())
        for each in (suite.counted, present)
    )
    raise ValueError(
        say(
            "{source}: no row is counted: counted is {asked}, and the rows have {present}",
            source=source,
            asked=asked,
            present=there,
        )
    )


def _values(values: Sequence[str]) -> str:
    """The first ones of some values."""
    return say(", ").join(map(repr, values[:12])) + (", …" if len(values) > 12 else "") or say("none")


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


def _text(row: Mapping[str, Any], name: str, called: str = "") -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(say("{name} is no text: {value}", name=called or name, value=repr(value)[:60]))
    return value


def _list(row: Mapping[str, Any], name: str, kind: type, example: str) -> tuple[Any, ...]:
    """A list of one kind of parts; null is an empty one. example: of what it may be."""
    value = [] if row.get(name) is None else row[name]
    if not isinstance(value, list) or not all(isinstance(part, kind) and part for part in value):
        raise ValueError(
            say("{name} is a list such as {example}, not {value}", name=name, example=example, value=repr(value)[:60])
        )
    return tuple(value)


def _pair(row: Mapping[str, Any]) -> SuiteRow:
    phenomenon = next((str(row[name]) for name in ("phenomenon", "UID", "paradigm") if row.get(name)), "")
    return SuiteRow(
        "",
        {"phenomenon": phenomenon} if phenomenon else {},
        texts=(_text(row, "sentence_good"), _text(row, "sentence_bad")),
    )


def _preference(row: Mapping[str, Any]) -> SuiteRow:
    """A better and a worse answer to a conversation, in any form that preference data has."""
    pair = parse(PreferenceRow, dict(row))
    *prompt, better = pair.chosen
    *same, worse = pair.rejected
    if prompt != same or "assistant" not in (better.role, worse.role) or better.role != worse.role:
        raise ValueError(say("both answers are to follow the same conversation, and to be its last message"))
    messages = tuple(message.model_dump() for message in prompt)
    require_renderable(messages, add_generation_prompt=True)
    family = {"kind": str(row["family"])} if row.get("family") else {}
    return SuiteRow("", family, texts=(better.content, worse.content), messages=messages)


def _arc(row: Mapping[str, Any]) -> SuiteRow:
    """ARC's: choices {"text": [...], "label": [...]}, answerKey one of the labels; or, as ARC's own files have it, a
    choice {"text", "label"} each, in question {"stem", "choices"}.
    """
    stem = row["question"]
    holder = stem if isinstance(stem, Mapping) and "choices" not in row else row
    choices = holder.get("choices")
    if isinstance(choices, list):
        parts = _list(holder, "choices", dict, '[{"text": "air", "label": "A"}]')
        choices = {name: [part.get(name) for part in parts] for name in ("text", "label")}
    if not isinstance(choices, Mapping) or not all(isinstance(choices.get(name), list) for name in ("text", "label")):
        example = '{"text": ["air", "salt"], "label": ["A", "B"]}'
        raise ValueError(say("choices is {example}, not {value}", example=example, value=repr(choices)[:60]))
    question = _text(stem, "stem", "question") if isinstance(stem, Mapping) else _text(row, "question")
    return _choice(question, choices["text"], choices["label"], row["answerKey"])


def _letters(row: Mapping[str, Any]) -> SuiteRow:
    """C-Eval's and CMMLU's: the choices A to D by themselves."""
    by_name = {str(name).lower(): value for name, value in row.items()}
    labels = [letter for letter in "ABCDEFGH" if row.get(letter) not in (None, "")]
    return _choice(_text(by_name, "question"), [row[letter] for letter in labels], labels, by_name.get("answer"))


def _choice(question: str, texts: list[Any], labels: list[Any], answer: object) -> SuiteRow:
    if len(texts) < 2 or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError(say("a choice is between two texts or more, not {texts}", texts=repr(texts)[:80]))
    if len(texts) > len(LETTERS):
        raise ValueError(say("{count} choices: at most {most} can be asked", count=len(texts), most=len(LETTERS)))
    if len(labels) != len(texts) or any(labels.count(label) > 1 for label in labels):
        raise ValueError(
            say(
                "{texts} choices need as many different labels, not {labels}",
                texts=len(texts),
                labels=repr(labels)[:80],
            )
        )
    if answer not in labels:
        raise ValueError(say("the answer {answer!r} is none of the choices {labels}", answer=answer, labels=labels))
    right = labels.index(answer)
    same = [label for label, text in zip(labels, texts, strict=True) if text.strip() == texts[right].strip()]
    if len(same) > 1:
        raise ValueError(say("the choices {labels} are the same: which is right cannot be told", labels=same))
    return SuiteRow("", {}, texts=tuple(texts), question=question, right=right)


def _fact(row: Mapping[str, Any]) -> SuiteRow:
    """The stock data's questions: the sentence that was taught."""
    return SuiteRow(
        "",
        {},
        messages=_question(row),
        before=_list(row, "before", str, '["What is a cat?"]'),
        expected=_text(row, "sentence"),
        fact=_text(row, "answer") if row.get("answer") else "",
    )


def _question(row: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    return ({"role": "user", "content": _text(row, "prompt")},)


def _checked(row: Mapping[str, Any]) -> SuiteRow:
    checks = row["checks"]
    if not isinstance(checks, list) or not checks:
        raise ValueError(
            say("checks is a list of objects such as {example}", example='{"is": "contains", "any": ["4"]}')
        )
    tools = _list(row, "tools", dict, '[{"type": "function", "function": {"name": "add"}}]')
    messages = _turns(row) if row.get("messages") else _question(row)
    require_renderable(messages, tools, add_generation_prompt=True)
    return SuiteRow("", {}, messages=messages, tools=tools, checks=tuple(map(parse_check, checks)))


def _turns(row: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    turns = _list(row, "messages", dict, '[{"role": "user", "content": "2 + 2?"}]')
    for number, turn in enumerate(turns):
        if turn.get("role") not in ROLES:
            role = repr(turn.get("role"))[:60]
            raise ValueError(
                say(
                    "messages.{number}: role = {role}: allowed are {names}",
                    number=number,
                    role=role,
                    names=", ".join(ROLES),
                )
            )
        if turn["role"] != "assistant" or not turn.get("tool_calls"):
            _text(turn, "content", f"messages.{number}.content")
    try:
        json.dumps(turns, allow_nan=False)
    except ValueError:
        raise ValueError(say("messages hold NaN or Infinity, which are no JSON")) from None
    return turns


def _expected(row: Mapping[str, Any]) -> SuiteRow:
    return SuiteRow("", {}, messages=_question(row), expected=_text(row, "answer"))


FORMS = (
    Form("pair", frozenset({"sentence_good", "sentence_bad"}), _pair),
    Form("pair", frozenset({"chosen", "rejected"}), _preference),
    Form("choice", frozenset({"question", "choices", "answerKey"}), _arc),
    Form("choice", frozenset({"question", "answerKey"}), _arc),
    Form("choice", frozenset({"question", "A", "B", "answer"}), _letters),
    Form("choice", frozenset({"Question", "A", "B", "Answer"}), _letters),
    Form("answer", frozenset({"prompt", "sentence"}), _fact),
    Form("answer", frozenset({"messages", "checks"}), _checked),
    Form("answer", frozenset({"prompt", "checks"}), _checked),
    Form("answer", frozenset({"prompt", "answer"}), _expected),
    Form("text", frozenset({"text"}), lambda row: SuiteRow("", {}, texts=(_text(row, "text"),))),
)
