"""The table of verbs, in the order and the groups of `minimind --help`. What a verb takes and does is loaded when it
is named.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module

from jobs.commands.arguments import Parser
from jobs.commands.program import Program
from jobs.terminal.wrap import wrapped
from minimind.language import phrase, say


@dataclass(frozen=True)
class Verb:
    """One verb. module: below `jobs.commands`; its function `add_NAME` adds the verb's arguments to a parser."""

    name: str
    help: str
    module: str

    def fill(self, parser: Parser, program: Program) -> None:
        """Add the verb's arguments; `command` is then the function that does it."""
        add: Callable[[Parser, Program], None] = getattr(
            import_module(f"jobs.commands.{self.module}"), f"add_{self.name.replace('-', '_')}"
        )
        add(parser, program)


GROUPS: dict[str, tuple[Verb, ...]] = {
    "all of it": (
        Verb("demo", "raw text to a model that chats, in a few minutes, with stock data", "demo"),
        Verb("pipeline", "every stage in a row, evaluated, as one job: for a night", "pipeline"),
    ),
    "data": (
        Verb("data", "fetch the stock data, check and look at your own", "data"),
        Verb("convert", "import upstream .pth, safetensors or Hugging Face weights as a checkpoint", "convert"),
    ),
    "train": (
        Verb("plan", "whether a stage fits a card, before it runs and without one", "plan"),
        Verb("train", "train one stage", "train"),
        Verb("sweep", "trials over a space of settings, none of which runs out of memory", "sweep"),
        Verb("resume", "continue a run or a sweep where it stopped or died", "resume"),
        Verb("stop", "end a run or a sweep cleanly, with a checkpoint", "stop"),
        Verb("reproduce", "run a run again, and say whether the same bits come out", "reproduce"),
    ),
    "look": (
        Verb("runs", "list all runs and sweeps", "runs"),
        Verb("show", "one run or sweep: settings, lineage, checkpoints, loss curve", "runs"),
        Verb("attach", "follow a job again", "runs"),
        Verb("logs", "what a run's job has said", "runs"),
        Verb("eval", "put suites to a model: what it can do, and whether it got better", "eval"),
        Verb("reward", "what a reward model says of answers", "reward"),
        Verb("log", "the training log: command, memory, loss and samples of every run", "log"),
        Verb("card", "a model card: what it is, was made from, can do and cannot", "card"),
        Verb("rm", "remove a run or a sweep", "remove"),
    ),
    "talk": (
        Verb("chat", "talk with a model in the terminal", "chat"),
        Verb("serve", "your models behind an OpenAI-compatible endpoint, with a chat page", "serve"),
    ),
    "machine": (
        Verb("cluster", "the local Ray cluster", "cluster"),
        Verb("gpu-check", "measure and prove on this machine's GPU what is said of it", "gpu_check"),
    ),
}

VERBS = {verb.name: verb for verbs in GROUPS.values() for verb in verbs}

JOB = Verb("job", "what a Ray job executes", "job")
"""Typed by nobody, so it is not listed."""


def parser_of(program: Program, *, of_a_job: bool = False) -> Parser:
    """The parser of a whole command line. of_a_job: with the verb that nobody types."""
    parser = _Overview(prog=program.name)
    parser.add_argument("--version", action=_Version, nargs=0)
    verbs = parser.add_subparsers(metavar="VERB", required=True, parser_class=Parser)
    for verb in (*VERBS.values(), *([JOB] if of_a_job else [])):
        verbs.add_parser(verb.name, description=phrase(verb.help), fill=partial(verb.fill, program=program))
    return parser


def version() -> str:
    """The version of this checkout."""
    import tomllib

    from jobs import paths

    project = tomllib.loads((paths.checkout() / "pyproject.toml").read_text("utf-8"))["project"]
    return f"{project['name']} {project['version']}"


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        sys.stdout.write(f"{version()}\n")
        parser.exit()


class _Overview(Parser):
    """The parser above the verbs, whose help is the list of them in groups."""

    def format_help(self) -> str:
        """The verbs, as wide as the terminal."""
        width = self._get_formatter()._width
        margin = 14
        lines = [say("usage: ") + f"{self.prog} VERB ...", ""]
        lines += wrapped(say("Make your own small language model: raw text to a trained model."), width)
        for group, verbs in GROUPS.items():
            lines += ["", say("{title}:", title=phrase(group))]
            for verb in verbs:
                first, *rest = wrapped(phrase(verb.help), width - margin)
                lines += [f"  {verb.name:<{margin - 2}}{first}", *(" " * margin + line for line in rest)]
        lines += ["", *wrapped(say("{program} VERB --help says what a verb takes.", program=self.prog), width)]
        lines += wrapped("--lang zh|en, --version", width)
        return "\n".join(lines) + "\n"
