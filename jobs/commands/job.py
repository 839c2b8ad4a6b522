"""`job REQUEST`: what a Ray job executes. People type `train` and `sweep`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping

from pydantic import ValidationError
from rich.console import Console

from jobs import paths
from jobs.commands.arguments import Parser
from jobs.commands.program import Program
from jobs.endpoints.keys import API_KEY, API_KEY_FILE, kept_key, read_key
from jobs.runs.directory import RunDirectory
from jobs.training.request import JobRequest
from minimind.config import explain

KEY_FILES = ".key-of-judges-"
"""How the names of the files below MINIMIND_HOME begin that hold keys of judges."""


def add_job(parser: Parser, program: Program) -> None:
    """The request."""
    parser.add_argument("request", help="a jobs.training.request.JobRequest, as JSON")
    parser.set_defaults(command=job)


def job(args: argparse.Namespace, program: Program, console: Console) -> int:
    """Do what is asked for. Raises ValueError for what is no request."""
    try:
        request = JobRequest.model_validate_json(args.request)
    except ValidationError as error:
        raise ValueError(f"{program.name} job: {explain(error)}") from None
    return do(request, console)


def do(request: JobRequest, console: Console) -> int:
    """Do it in this process. Gives the exit status."""
    if request.sweep is not None:
        from jobs.sweeps.sweep import sweep

        return sweep(request, console)
    if request.trains_tokenizer:
        from jobs.text.tokenizer import run_tokenizer

        run_tokenizer(request.tokenizer_spec(), console, overwrite=request.overwrite)
        return 0
    if request.repeats is not None:
        from jobs.experiment.reproduce import reproduce

        return reproduce(request, console)
    from jobs.training.run import train

    return train(request, console)


def submit(request: JobRequest, *, detach: bool, console: Console) -> int:
    """Let a job of the cluster do it, and follow that unless `detach`. Gives the exit status."""
    from jobs.cluster.follow import submit_training

    kind = "run" if request.sweep is None else "sweep"
    argv = ["job", request.model_dump_json(exclude_defaults=True)]
    variables = key_of_judges(os.environ) if "judge" in _terms(request) else None
    return submit_training(
        request.name, argv, request.words(), detach=detach, console=console, kind=kind, variables=variables
    )


def key_of_judges(environment: Mapping[str, str]) -> dict[str, str]:
    """How a job has the key that its submitter has, and no other: in a file, for Ray writes variables into logs. Raises
    ValueError for a key that cannot be read.
    """
    key = read_key(environment)
    file = str(kept_key(key, paths.make(paths.home()), KEY_FILES)) if key is not None else ""
    return {API_KEY: "", API_KEY_FILE: file}


def _terms(request: JobRequest) -> list[str]:
    """The terms of the reward of what is asked for, or of the run that it goes on with or repeats."""
    name = request.repeats or (request.name if request.from_resume else None)
    if name is None or request.rewards:
        return request.rewards
    spec = RunDirectory.find(paths.runs() if request.sweep is None else paths.sweeps(), name).spec()
    stage = spec.get("run", spec).get("stage", {})
    return [str(term.get("is")) for term in stage.get("rewards", ())]
