"""The base of every configuration, and the one way to change a value in it: a dotted path."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from minimind.language import phrase, say


class Config(BaseModel):
    """Frozen; unknown keys, infinities and NaN are refused; defaults are validated like any other value."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


C = TypeVar("C", bound=Config)


def override(config: C, changes: Mapping[str, Any]) -> C:
    """A copy of `config` with the values at dotted paths replaced, and everything validated again.

    `changes` maps a path such as ``optim.weight_decay`` to a value. A text is read by the setting's own type, as a
    command line gives it (``0.1``, ``true``); ``null``, lists, objects and quoted texts are read as JSON.

    Raises ValueError that lists every bad path (with its nearest neighbours) and every bad value at once.
    """
    tree, named = config.model_dump(), _named(type(config))
    problems: list[str] = []
    for path, value in changes.items():
        *sections, name = path.split(".")
        try:
            node = tree
            for depth, section in enumerate(sections):
                node = _part(node, section, path, sections[:depth])
            if ".".join(sections) not in named:
                _part(node, name, path, sections)
        except ValueError as error:
            problems.append(str(error))
        else:
            node[name] = _literal(value)
    try:
        changed = type(config).model_validate(tree)
    except ValidationError as error:
        problems.append(explain(error))
    if problems:
        raise ValueError("\n".join(problems))
    return changed


def _named(kind: type[Config], above: str = "") -> set[str]:
    """The dotted paths of settings that hold values by names of the user's, where a name need not be there yet."""
    found: set[str] = set()
    for name, info in kind.model_fields.items():
        path = f"{above}{name}"
        if get_origin(info.annotation) is dict:
            found.add(path)
        for part in (info.annotation, *get_args(info.annotation)):
            if isinstance(part, type) and issubclass(part, Config):
                found |= _named(part, f"{path}.")
    return found


def explain(error: ValidationError) -> str:
    """A pydantic error as lines of `path = value: what is wrong`."""
    lines = []
    for item in error.errors():
        path = ".".join(str(part) for part in item["loc"])
        # What is wrong with a whole section is said by its own validator, with the values that matter.
        value = "" if item["type"] == "missing" or isinstance(item["input"], dict) else f" = {_written(item['input'])}"
        lines.append(say("{name}: {value}", name=path + value, value=_words(item)) if path else _words(item))
    return "\n".join(lines)


def _written(value: object) -> str:
    """A value as its user wrote it: a list in JSON, which is how it is to be typed."""
    if not isinstance(value, list | tuple):
        return repr(value)
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        return repr(value)


def of_kind(value: object, kinds: Mapping[str, type[C]], what: str) -> C:
    """The configuration that {"is": NAME, ...} describes: one of `kinds`, validated. what: the word for one of them.

    Raises ValueError that names a kind or a setting that there is not, the nearest, and those there are.
    """
    if not isinstance(value, Mapping) or not isinstance(value.get("is"), str):
        raise ValueError(
            say(
                '{value!r} is no {what}: {{"is": NAME, ...}} is; names: {names}',
                value=value,
                what=what,
                names=listed(kinds),
            )
        )
    name = value["is"]
    kind = kinds.get(name)
    if kind is None:
        raise ValueError(
            say(
                "no {what} {name!r}{near}; there are: {names}",
                what=what,
                name=name,
                near=near(name, kinds),
                names=listed(kinds),
            )
        )
    arguments = {key: part for key, part in value.items() if key != "is"}
    for argument in arguments:
        if argument not in kind.model_fields:
            raise ValueError(
                say(
                    "{what} {name}: no argument {argument!r}{near}; allowed are: {names}",
                    what=what,
                    name=name,
                    argument=argument,
                    near=near(str(argument), kind.model_fields),
                    names=listed(kind.model_fields),
                )
            )
    try:
        return kind.model_validate(arguments)
    except ValidationError as error:
        problem = explain(error)
        raise ValueError(say("{what} {name}: {problem}", what=what, name=name, problem=problem)) from None


def near(name: str, names: Iterable[str]) -> str:
    """What the writer of a wrong name may have meant, in brackets; "" where none is near."""
    found = difflib.get_close_matches(name, list(names), n=1)
    return say(" (did you mean {name}?)", name=found[0]) if found else ""


def listed(names: Iterable[str]) -> str:
    """The names that there are, as one reads them in a sentence."""
    return ", ".join(names) or say("none")


WORDS = {
    "extra_forbidden": "there is no such setting",
    "missing": "Field required",
    "greater_than": "Input should be greater than {gt}",
    "greater_than_equal": "Input should be greater than or equal to {ge}",
    "less_than": "Input should be less than {lt}",
    "less_than_equal": "Input should be less than or equal to {le}",
    "literal_error": "Input should be {expected}",
    "int_parsing": "Input should be a valid integer, unable to parse string as an integer",
    "float_parsing": "Input should be a valid number, unable to parse string as a number",
    "bool_parsing": "Input should be a valid boolean, unable to interpret input",
    "string_type": "Input should be a valid string",
    "int_type": "a whole number is expected, without quotes",
    "float_type": "a number is expected, without quotes",
    "bool_type": "true or false is expected, without quotes",
    "too_short": "at least {min_length} of them are needed",
    "string_too_short": "at least {min_length} characters are needed",
    "finite_number": "Input should be a finite number",
    "tuple_type": "a list in JSON is expected, in square brackets, with double quotes around texts",
    "list_type": "a list in JSON is expected, in square brackets, with double quotes around texts",
    "dict_type": "an object in JSON is expected, in braces, with double quotes around names and texts",
}
"""Kind of an error -> pydantic's own words for it where these help, as a template for `say`."""


def _words(error: ErrorDetails) -> str:
    """What is wrong, in the reader's language where these are words that we know."""
    if error["type"] in WORDS:
        limits = error.get("ctx", {})
        whole: dict[str, int | str] = {
            name: int(limit) for name, limit in limits.items() if isinstance(limit, float) and limit.is_integer()
        }
        if "expected" in limits:  # 'this', 'that' or 'another'
            whole["expected"] = say(" or ").join(limits["expected"].rsplit(" or ", 1))
        return phrase(WORDS[error["type"]]).format(**limits | whole)
    return error["msg"].removeprefix("Value error, ")


JSON_WORDS = (
    "Expecting value",
    "Extra data",
    "Expecting property name enclosed in double quotes",
    "Expecting ',' delimiter",
    "Expecting ':' delimiter",
    "Unterminated string starting at",
    "Invalid control character at",
    "Invalid \\escape",
    "Invalid \\uXXXX escape",
    "Illegal trailing comma before end of object",
    "Illegal trailing comma before end of array",
)
"""What `json` says of a text."""


def json_problem(error: Exception) -> str:
    """What `json` says of a text, in the reader's language; of another error its own words."""
    if not isinstance(error, json.JSONDecodeError):
        return str(error)
    return say(
        "{problem}: line {line} column {column} (char {place})",
        problem=phrase(error.msg),
        line=error.lineno,
        column=error.colno,
        place=error.pos,
    )


def _literal(value: Any) -> Any:
    if not isinstance(value, str) or not (value == "null" or value.startswith(("[", "{", '"'))):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def _part(node: Any, name: str, path: str, above: list[str]) -> Any:
    """The value at `name` of a section; ValueError with the neighbouring names if there is none."""
    if isinstance(node, dict) and name in node:
        return node[name]
    section = ".".join(above)
    if not isinstance(node, dict):
        hint = say("{section!r} is a single value ({value!r}) and has no parts", section=section, value=node)
    else:
        names = difflib.get_close_matches(name, sorted(node), n=3) or sorted(node)
        hint = say("names there: {names}", names=", ".join(names) or say("none"))
    if above:
        raise ValueError(
            say("{path}: no setting {name!r} in {section!r}; {hint}", path=path, name=name, section=section, hint=hint)
        )
    raise ValueError(say("{path}: no setting {name!r} at the top level; {hint}", path=path, name=name, hint=hint))
