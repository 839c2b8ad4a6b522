"""What the verbs' arguments are made of: a parser that says in words what is wrong, and the kinds of values."""

from __future__ import annotations

import argparse
import difflib
import json
import math
import re
import shutil
import sys
from collections.abc import Callable, Collection
from typing import Any, NoReturn

from rich.cells import cell_len

from jobs.commands.program import Program
from jobs.stages.old_names import FLAGS_ELSEWHERE, STAGES_CALLED, stages_reading
from jobs.terminal.console import show_error
from jobs.terminal.wrap import wrapped
from minimind.language import LANGUAGES, phrase, say

WIDEST = 110
"""Cells of a line of help at most: longer ones are hard to read."""

_WIDE = re.compile(r"[\u00a0\u3000]|\\u3000|\\xa0|(?<![^\s'])(?P<dash>[\u2010-\u2015\u2212\uff0d\ufe63]+)")
"""What an input method or a word processor writes for spaces and dashes, plain or in a repr()."""

_NO_CHOICE = re.compile(r"invalid choice: '(?P<typed>[^']*)' \(choose from (?P<choices>.*)\)")


class Parser(argparse.ArgumentParser):
    """argparse that names the nearest flags for one that does not exist, and takes no abbreviations."""

    def __init__(self, *, fill: Callable[[Parser], None] | None = None, **options: Any) -> None:
        """fill: adds the arguments, as soon as they are needed: some come with heavy imports."""
        super().__init__(allow_abbrev=False, formatter_class=Formatter, add_help=False, **options)
        self._fill = fill
        self._optionals.title, self._positionals.title = say("options"), say("arguments")
        self.add_argument("-h", "--help", action="help", help=say("this help"))
        # Taken out before the rest is read (`language_named`): errors of reading are in it too.
        self.add_argument(
            "--lang", choices=LANGUAGES, help=say("language of what is said (default: that of the locale)")
        )

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and what was perhaps meant, and leave with status 2. All flags, which would bury it, are
        printed by --help alone.
        """
        show_error(f"{self._advice(message)}\n  {say('see: {command}', command=f'{self.prog} --help')}")
        self.exit(2)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse what is not known here and now: the parser of the verb knows its flags, the one above does not."""
        if self._fill is not None:
            fill, self._fill = self._fill, None
            fill(self)
        namespace, rest = super().parse_known_args(args, namespace)
        if rest and self._subparsers is None:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return namespace, rest

    def _advice(self, message: str) -> str:
        """What argparse says, with what was perhaps meant."""
        lines = [_in_words(message)]
        if self._subparsers is not None and "are required: " in message:
            verbs = next(action for action in self._actions if isinstance(action, argparse._SubParsersAction))
            lines[0] += say("; there are {names}", names=", ".join(verbs.choices))
        flags_here = [flag for action in self._actions for flag in action.option_strings]
        unknown = message.partition("unrecognized arguments:")[2]
        if wide := _WIDE.search(unknown or message.partition("invalid choice:")[2].partition("(choose")[0]):
            lines.append(
                say("a full-width or other special dash stands there: type it as an ordinary dash")
                if wide["dash"]
                else say("a full-width or other special space stands there: type it as an ordinary space")
            )
        elif unfit := _NO_CHOICE.search(message):
            choices = re.findall(r"'([^']+)'", unfit["choices"])
            # What is near to a name of upstream is meant as what that is called here.
            known = {**STAGES_CALLED, **{choice: choice for choice in choices}}
            near = [known[name] for name in difflib.get_close_matches(unfit["typed"].lower(), known, n=2)]
            if near := [name for name in dict.fromkeys(near) if name in choices]:
                lines.append(say("near: {names}", names=", ".join(near)))
        flags = re.findall(r"(?<!\S)--[\w-]+", unknown)
        # Where a flag that is known was not taken, what stands before it is wrong.
        lines += [
            say("{name}: {value}", name=flag, value=self._instead_of(flag, flags_here))
            for flag in flags
            if flag not in flags_here
        ]
        return "\n  ".join(lines)

    def _instead_of(self, flag: str, known: list[str]) -> str:
        from jobs.stages.flags import STAGE_FLAGS  # takes seconds, and is needed where somebody is wrong alone

        name = flag.removeprefix("--").replace("-", "_")
        if elsewhere := FLAGS_ELSEWHERE.get(flag.removeprefix("--")):
            return say("no such flag; {instead}", instead=phrase(elsewhere))
        owners = [f"train {stage}" for stage, own in STAGE_FLAGS.items() if name in own]
        if owners and "--from_weight" in known:
            return say("no such flag here; it is one of: {names}", names=", ".join(owners))
        if near := difflib.get_close_matches(flag, known, n=3):
            return say("no such flag; near: {names}", names=", ".join(near))
        if "--set" in known:
            return say("no such flag; see --help, or use --set")
        return say("no such flag; see --help")


class Formatter(argparse.HelpFormatter):
    """Help as wide as the terminal, up to WIDEST, broken between words, in Chinese between characters."""

    def __init__(self, prog: str) -> None:
        width = min(WIDEST, shutil.get_terminal_size().columns)
        super().__init__(prog, max_help_position=34 if width >= 100 else 26 if width >= 72 else 8, width=width)

    def _format_usage(self, usage: str | None, actions: Any, groups: Any, prefix: str | None) -> str:
        prefix = say("usage: ") if prefix is None else prefix
        wider = cell_len(prefix) - len(prefix)
        self._width -= wider
        try:
            return super()._format_usage(usage, actions, groups, prefix)
        finally:
            self._width += wider

    def format_help(self) -> str:
        """All of it. What argparse sets behind a title is a colon of English."""
        return re.sub(
            "^([^ ].*):$", lambda found: say("{title}:", title=found[1]), super().format_help(), flags=re.MULTILINE
        )

    def _split_lines(self, text: str, width: int) -> list[str]:
        return wrapped(" ".join(text.split()), width)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(indent + line for line in wrapped(" ".join(text.split()), width - len(indent)))


SAID_BY_ARGPARSE = {
    "the following arguments are required: {names}": r"the following arguments are required: (?P<names>.*)",
    "unrecognized arguments: {words}": r"unrecognized arguments: (?P<words>.*)",
    "argument {name}: invalid choice: {typed} (choose from {choices})": (
        r"argument (?P<name>\S+): invalid choice: (?P<typed>.*?) \(choose from (?P<choices>.*)\)"
    ),
    "argument {name}: not allowed with argument {other}": (
        r"argument (?P<name>\S+): not allowed with argument (?P<other>\S+)"
    ),
    "argument {name}: expected one argument": r"argument (?P<name>\S+): expected one argument",
    "argument {name}: {problem}": r"argument (?P<name>\S+): (?P<problem>.*)",
}
"""A template for `say` -> what argparse, which speaks English alone, says."""


def _in_words(message: str) -> str:
    for template, pattern in SAID_BY_ARGPARSE.items():
        if found := re.fullmatch(pattern, message, re.DOTALL):
            return phrase(template).format(**found.groupdict())
    return message


Adder = argparse.ArgumentParser | argparse._ArgumentGroup


def add_rows_of(parser: argparse.ArgumentParser, kinds: Collection[str], default: str) -> None:
    """`--stage`: a stage that reads rows of these kinds, for what rows to read a file as. default: in words."""
    stages = stages_reading(kinds)
    parser.add_argument("--stage", choices=stages, metavar="STAGE", help=f"{', '.join(stages)} {default}")


def add_switch(parser: Adder, name: str, words: str, *, default: bool = False) -> None:
    """The one kind of switch: `--name`, `--name 1`, `--name 0`. words: its help, in the reader's language."""
    parser.add_argument(
        f"--{name}",
        type=switch,
        nargs="?",
        const=True,
        default=default,
        metavar="0|1",
        help=say("{words} (default: {value})", words=words, value=int(default)),
    )


def add_json(parser: Adder) -> None:
    """`--json`."""
    add_switch(parser, "json", say("for programs: one JSON object, whose keys docs/json.md lists"))


def print_json(content: Any) -> None:
    """On stdout and nothing else there. What is no number (NaN) is null: JSON has no word for it."""
    sys.stdout.write(json.dumps(_numbers(content), ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def _numbers(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: _numbers(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_numbers(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def add_detach(parser: Adder, program: Program) -> None:
    """`--detach`, where the work becomes a job."""
    if program.submits:
        add_switch(parser, "detach", say("submit and return; without it the job is followed"))


def add_overwrite(parser: Adder) -> None:
    """`--overwrite`."""
    add_switch(parser, "overwrite", say("delete an older run of this name"))


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(say("{text!r} is not a whole number of at least 1", text=text))
    return int(text)


def seconds(text: str) -> float:
    """A number of seconds."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(say("{text!r} is not a number of seconds above 0", text=text))
    return value


def switch(text: str) -> bool:
    """0 or 1."""
    if text not in ("0", "1"):
        raise argparse.ArgumentTypeError(say("{text!r} is neither 0 nor 1", text=text))
    return text == "1"


def budget(text: str) -> str:
    """The name of a share of the card, in English or Chinese."""
    from jobs.fit.plan import preset_name

    try:
        return preset_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def language_named(words: list[str]) -> tuple[list[str], str | None]:
    """A command line without its `--lang`, which every verb takes, and what that says. Raises ValueError."""
    for place, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if flag == "--lang":
            left, value = (
                (words[:place] + words[place + 1 :], value)
                if equals
                else (
                    words[:place] + words[place + 2 :],
                    "".join(words[place + 1 : place + 2]),
                )
            )
            if value not in LANGUAGES:
                raise ValueError(say("--lang {value}: {names}", value=value, names=", ".join(LANGUAGES)))
            return left, value
    return words, None
