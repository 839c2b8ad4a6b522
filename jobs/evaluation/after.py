"""What a stage ends with is evaluated by itself."""

from __future__ import annotations

from rich.console import Console

from jobs.evaluation import suites, view
from jobs.runs.directory import RunDirectory
from jobs.runs.references import find_weights
from jobs.stages.spec import RunSpec
from jobs.stages.table import STAGES
from minimind.language import say


def evaluate_after(run: RunDirectory, spec: RunSpec, console: Console) -> None:
    """Put the run's suites to its last checkpoint. Whatever goes wrong is said, and is no failure of the run."""
    if run.state().word != "SUCCEEDED" or spec.eval.suites == () or not STAGES[spec.stage.kind].writes:
        return
    try:
        weights = find_weights(run.name)
        wanted = suites.fitting(weights) if spec.eval.suites is None else spec.eval.suites
        logs = suites.evaluate_all(weights, suites.load(wanted), console)
    except Exception as error:  # noqa: BLE001  # the run has succeeded, whatever becomes of this
        console.print(
            say(
                "The model was not evaluated: {error}. Later: minimind eval {name}", error=_words(error), name=run.name
            ),
            style="yellow",
        )
        return
    if logs:
        view.show_scores(logs, console)


def _words(error: Exception) -> str:
    """What is said in words as it is; a mistake of this program with its name, for "'x'" alone says nothing."""
    known = isinstance(error, ValueError | OSError | RuntimeError) and str(error)
    return str(error) if known else f"{type(error).__name__}: {error}"
