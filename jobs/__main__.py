"""The command line. `python -m jobs VERB` does the work here, as a Ray job must. `minimind VERB` is the same for
people: training is submitted as a job and followed, and relative paths count from the folder it is called in.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

import jobs.own_modules  # noqa: F401  # what it is imported for, it does when it is imported: before all below
from jobs import paths
from jobs.commands.arguments import language_named
from jobs.commands.home import home
from jobs.commands.program import HERE, MINIMIND, Program
from jobs.commands.verbs import JOB, parser_of
from jobs.stages.old_names import known_words
from jobs.terminal.console import Terminal, show_error, unfailing_output
from minimind.language import VARIABLE, language, say

_OURS = {
    "minimind.checkpoints.manifest": "CheckpointError",
    "jobs.cluster.access": "ClusterError",
    "minimind.training.out_of_memory": "DoesNotFitError",
    "minimind.training.loop": "NonFiniteLossError",
    "jobs.runs.directory": "RunStateError",
}


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m jobs`: everything happens in this process, as inside a Ray job."""
    return _run(argv, HERE)


def minimind(argv: Sequence[str] | None = None) -> int:
    """`minimind`: training is submitted to the cluster and followed; the rest happens here."""
    return _run(argv, MINIMIND)


def _run(argv: Sequence[str] | None, program: Program) -> int:
    unfailing_output()
    console, errors = Terminal(), Terminal(stderr=True)
    try:
        words = _language_settled(list(sys.argv[1:] if argv is None else argv))
        words = known_words(words, lambda line: errors.print(line, style="dim"))
        args = parser_of(program, of_a_job=words[:1] == [JOB.name]).parse_args(words) if words else None
        if paths.home().is_file():
            raise ValueError(
                say("MINIMIND_HOME, where all you keep lies, is {home}: a file; set it to a folder", home=paths.home())
            )
        if args is None:
            return home(program, console)
        command: Callable[..., int] = args.command
        return command(args, program, console)
    except failures() as error:
        show_error(str(error))
        return 1
    except KeyboardInterrupt:
        return 130


def _language_settled(words: list[str]) -> list[str]:
    """The command line without its `--lang`, which from now on is spoken. Raises ValueError where there is none."""
    try:
        words, lang = language_named(words)
        if lang is not None:
            os.environ[VARIABLE] = lang  # jobs and servers that are started speak it too
        language()
    except ValueError:
        try:
            language()
        except ValueError:
            os.environ.pop(VARIABLE, None)  # what is wrong is said in the language of the locale
        raise
    return words


def failures() -> tuple[type[Exception], ...]:
    """What is told in a sentence; anything else is a bug and keeps its traceback. An error whose module was not loaded
    cannot have been raised: to load it, and PyTorch with it, would take seconds.
    """
    loaded = {name: sys.modules[name] for name in _OURS if name in sys.modules}
    return (ValueError, OSError, *(getattr(module, _OURS[name]) for name, module in loaded.items()))


if __name__ == "__main__":
    sys.exit(main())
