"""`rm NAME`: remove a run or a sweep."""

from __future__ import annotations

import argparse
import shutil

from rich.console import Console

from jobs import paths
from jobs.commands.arguments import Parser, add_switch
from jobs.commands.program import Program
from jobs.runs.directory import RunDirectory, directories
from minimind.language import phrase, say
from minimind.units import size


def add_rm(parser: Parser, program: Program) -> None:
    """Which, and how sure."""
    parser.add_argument("run", help=say("name of the run or the sweep"))
    add_switch(parser, "yes", say("without asking"))
    add_switch(parser, "needed", say("also one whose weights or tokenizer others were made from"))
    parser.set_defaults(command=remove)


def remove(args: argparse.Namespace, program: Program, console: Console) -> int:
    """Delete its folder. Raises RunStateError while it runs, ValueError where others need it."""
    from jobs.sweeps.view import named

    run = named(args.run)
    run.require_idle()
    if (others := needed_by(run)) and not args.needed:
        raise ValueError(
            say(
                "{names} began with what is in {name}: an adapter needs it to be loaded, and a run that has no "
                "checkpoint yet to go on. To remove it all the same: minimind rm {name} --needed",
                names=", ".join(others),
                name=run.name,
            )
        )
    held = sum(path.stat().st_size for path in run.path.rglob("*") if path.is_file())
    if not args.yes:
        about = (run.stage, phrase(run.state().word), size(held))
        console.print(say("{name}: {value}", name=run.path, value=say(", ").join(about)))
        if not console.is_terminal or console.input(say("Remove it? [y/N] "), markup=False).strip().lower() != "y":
            console.print(
                say("Nothing was removed. To remove it without being asked: minimind rm {name} --yes", name=run.name)
            )
            return 1
    with run.hold():  # nobody begins to train in it meanwhile
        # Whoever looks at this moment finds no half a run: a name that begins with a dot is none.
        gone = run.path.with_name(f".removed-{run.name}")
        shutil.rmtree(gone, ignore_errors=True)
        folder = run.path.resolve()  # it may lie elsewhere, on a larger disk
        run.path.rename(gone)
    if gone.is_symlink():
        gone.unlink()
        gone = folder
    shutil.rmtree(gone)
    console.print(say("Removed {name}; {bytes} are free again.", name=run.name, bytes=size(held)))
    return 0


def needed_by(run: RunDirectory) -> list[str]:
    """The names of the runs and sweeps whose weights, of any role, or tokenizer are this run's."""
    found = []
    for other in (*directories(paths.runs()), *directories(paths.sweeps(), "sweep")):
        if other.path == run.path:
            continue
        try:
            spec = other.spec()
        except ValueError:  # its files are damaged: it can go on from nothing
            continue
        if other.kind == "sweep":
            spec = spec.get("run") or {}
        roles = (spec.get("roles") or {}).values()
        named = [spec.get("init_from"), (spec.get("data") or {}).get("tokenizer"), *roles]
        if any(text is not None and _is_of(text, run) for text in named):
            found.append(other.name)
    return found


def _is_of(text: str, run: RunDirectory) -> bool:
    """Whether a reference in a spec means something of the run: run, run@step, or a path in its folder."""
    if paths.is_path(text):
        return paths.absolute(text).is_relative_to(run.path)
    return text.partition("@")[0] == run.name
