"""How a user names weights or a tokenizer: a run, run@step, run@latest, run@best, or a folder with a slash in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jobs import paths
from jobs.runs import evals
from jobs.runs.directory import RunDirectory
from minimind.checkpoints import folders as checkpoint_folders
from minimind.checkpoints.manifest import MANIFEST
from minimind.events import best_first, read_events, standing
from minimind.language import phrase, say

TOKENIZER_FOLDER = "tokenizer"
"""Inside a run's folder: tokenizer.json and tokenizer_config.json."""


@dataclass(frozen=True)
class Weights:
    """A checkpoint that was named, looked up once. run, step: whose it is; None of a folder elsewhere."""

    folder: Path
    run: str | None = None
    step: int | None = None

    @property
    def name(self) -> str:
        """What means the same checkpoint for ever: run@step, or a path as it is kept."""
        return f"{self.run}@{self.step}" if self.run is not None else paths.kept(str(self.folder))


def find_weights(text: str) -> Weights:
    """The checkpoint that `text` names. A bare run name means its last one, and only if the run succeeded.

    Whether the checkpoint is whole is not looked at. Raises ValueError that lists what there is.
    """
    if not paths.is_path(text):
        run, step = _run_and_step(text)
        return Weights(checkpoint_folders.folder_of(run.checkpoints, step), run.name, step)
    folder = paths.existing(text, say("checkpoint"))
    if not (folder / MANIFEST).is_file():
        if steps := checkpoint_folders.steps(folder):
            inside = ", ".join(str(checkpoint_folders.folder_of(folder, step)) for step in steps[-3:])
            raise ValueError(
                say(
                    "{folder} holds checkpoints and is none: name one of them, such as {inside}",
                    folder=folder,
                    inside=inside,
                )
            )
        if (folder.parent / MANIFEST).is_file():
            raise ValueError(
                say(
                    "{folder} is the role {role!r} of the checkpoint {checkpoint}, not a checkpoint itself: name "
                    "{checkpoint}. transformers loads the folder as it is.",
                    folder=folder,
                    role=folder.name,
                    checkpoint=folder.parent,
                )
            )
        raise ValueError(
            say(
                "{folder} is no checkpoint of this system (it has no {manifest}): weights of upstream "
                "MiniMind or Hugging Face become one by `minimind convert {folder} NEW_FOLDER`",
                folder=folder,
                manifest=MANIFEST,
            )
        )
    return Weights(folder)


def lasting_name(text: str) -> str:
    """`text` so that it means the same checkpoint for ever, as `Weights.name`; a folder need not be there any more.

    Raises ValueError if there is no such checkpoint of a run.
    """
    return paths.kept(text) if paths.is_path(text) else find_weights(text).name


def tokenizer_folder(text: str) -> Path:
    """The folder that holds the tokenizer of a tokenizer run, of a checkpoint (as in `find_weights`), or that is named.

    Raises ValueError that says where was looked.
    """
    if paths.is_path(text):
        return paths.existing(text, say("tokenizer"))
    run = RunDirectory(paths.runs() / text)
    if (run.path / TOKENIZER_FOLDER).is_dir():
        return run.path / TOKENIZER_FOLDER
    return find_weights(text).folder


def _run_and_step(text: str) -> tuple[RunDirectory, int]:
    name, _, which = text.partition("@")
    try:
        run = RunDirectory.find(paths.runs(), name)
    except ValueError as error:
        raise ValueError(
            say(
                "{text!r}: {error}. A folder is named with a slash in it, such as ./{name}",
                text=text,
                error=error,
                name=name,
            )
        ) from None
    steps = checkpoint_folders.steps(run.checkpoints)
    if not steps:
        raise ValueError(say("{text!r}: the run at {path} has no checkpoint yet", text=text, path=run.path))
    if which == "" and (word := run.state().word) != "SUCCEEDED":
        raise ValueError(
            say(
                "{text!r}: the run is {word}, so say which checkpoint is meant: {choices}",
                text=text,
                word=phrase(word),
                choices=_choices(run, steps),
            )
        )
    if which in ("", "latest"):
        return run, steps[-1]
    if which == "best":
        best = _best(run, steps)
        if best is None:
            raise ValueError(
                say(
                    "{name}@best: no checkpoint in {checkpoints} has been validated",
                    name=name,
                    checkpoints=run.checkpoints,
                )
            )
        return run, best
    if which.startswith("best:"):
        suite = which.removeprefix("best:")
        if not suite:
            raise ValueError(say("{text!r}: name a suite behind it, such as {text}language", text=text))
        best = evals.best_step(run, suite, steps)
        if best is None:
            raise ValueError(
                say(
                    "{text!r}: no checkpoint of {name} has been evaluated by {suite!r}: "
                    "minimind eval {name}@latest --suite {name_of_suite}",
                    text=text,
                    name=name,
                    suite=suite,
                    name_of_suite=suite.partition("/")[0],
                )
            )
        return run, best
    if which in map(str, steps):  # each checkpoint has one name: 0010 and ten in other digits are none
        return run, int(which)
    raise ValueError(
        say(
            "{text!r}: there is no such checkpoint in {checkpoints}; there are {choices}",
            text=text,
            checkpoints=run.checkpoints,
            choices=_choices(run, steps),
        )
    )


def _choices(run: RunDirectory, steps: list[int]) -> str:
    """The checkpoints that a run has, as they are named."""
    words = ["latest"] if _best(run, steps) is None else ["latest", "best"]
    return ", ".join(f"{run.name}@{which}" for which in (*words, *steps))


def _best(run: RunDirectory, steps: list[int]) -> int | None:
    """The best step by the metric that the run is judged by; None where none has been validated."""
    judged = run.spec().get("eval", {})
    metric = judged.get("best", "val/loss")
    found = standing(read_events(run.events_path, {"metrics", "state", "note"}))
    measured = {step: values[metric] for step, values in found.items() if metric in values}
    ranked = best_first(measured, judged.get("best_is", "lowest"))
    return next((step for step in ranked if step in steps), None)
