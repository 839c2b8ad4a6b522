"""`train STAGE`: one stage, or the tokenizer that comes before all of them; and `resume` by the name of a run."""

from __future__ import annotations

import argparse
import os

from rich.console import Console

from jobs import paths
from jobs.commands.arguments import Parser, add_detach, add_overwrite, add_switch, budget
from jobs.commands.job import do, submit
from jobs.commands.program import Program
from jobs.runs.directory import RunDirectory
from jobs.stages import flags
from jobs.stages.spec import RunSpec
from jobs.stages.stage import DEFAULT_MODEL
from jobs.stages.table import STAGES
from jobs.text.tokenizer import DATA_FILE, TOKENIZER_FLAGS, TokenizerSpec
from jobs.training.request import JobRequest, SweepOptions
from minimind.language import phrase, say


def add_train(parser: Parser, program: Program) -> None:
    """The stages, each with its flags."""
    stages = parser.add_subparsers(title=say("stages"), metavar="STAGE", required=True, parser_class=Parser)
    _add_tokenizer(stages.add_parser("tokenizer", help=say("learn a vocabulary from text")), program)
    for name, stage in STAGES.items():
        title = phrase(stage.title)
        below = stages.add_parser(name, help=title, description=title, usage="%(prog)s [--FLAG VALUE ...]")
        groups = flags.add_flags(below, stage.preset, DEFAULT_MODEL, other_words=stage.words)
        add_preset(groups["memory"])
        run = groups["run"]
        run.add_argument(
            "--spec",
            metavar="FILE",
            help=say(
                "settings by dotted path, such as a sweep's best.json, or a run's spec.json; its relative paths count "
                "from MINIMIND_HOME, and flags win over it"
            ),
        )
        add_switch(run, "from_resume", say("continue the run of this name"))
        add_overwrite(run)
        add_detach(run, program)
        if stage.rows == "rl":
            below.epilog = say(
                "What is rewarded: --set 'stage.rewards=[{term}]', by default that the right answer stands in the "
                "answer. docs/stages.md has the other terms, tools, and what the numbers mean.",
                term='{"is": "contains"}',
            )
        below.set_defaults(command=train, stage=name)


def _add_tokenizer(parser: argparse.ArgumentParser, program: Program) -> None:
    for flag, field in TOKENIZER_FLAGS.items():
        info = TokenizerSpec.model_fields[field]
        words = say(
            "{words} (default: {value})",
            words=phrase(info.description or ""),
            value=flags.default_text(info.default),
        )
        flags.add_flag(parser, flag, field, info, words)
    flags.add_set(parser, "max_texts=50000")
    add_overwrite(parser)
    add_detach(parser, program)
    parser.set_defaults(command=tokenizer)


def add_preset(parser: argparse._ArgumentGroup) -> None:
    """`--preset`."""
    parser.add_argument(
        "--preset",
        type=budget,
        metavar="NAME",
        help=say(
            "choose batch_size, accumulation_steps, max_seq_len and activation_checkpointing for the card: "
            "conservative (保守, at most 60 %% of it), standard (标准, 80 %%) or aggressive (激进, 92 %%), and its "
            "dtype; what is given stays"
        ),
    )


def train(args: argparse.Namespace, program: Program, console: Console) -> int:
    """Train the stage: in this process, or as a job that is followed; `--workers 0` trains here in any case."""
    request = request_of(args, program)
    if not program.submits or trains_here(request):
        return do(request, console)
    # What is wrong here would otherwise be found once the job has started.
    if request.from_resume:
        run = RunDirectory.find(paths.runs(), request.name)
        run.require_idle()
        if request.model is None and not request.overwrite:
            from jobs.training.run import resumed_spec

            request = request.resolved(resumed_spec(RunSpec.model_validate(run.spec()), request.settings))
    else:
        request = request.resolved(look_before(request, RunDirectory(paths.runs() / request.name)))
    return submit(request, detach=args.detach, console=console)


def request_of(args: argparse.Namespace, program: Program, sweep: SweepOptions | None = None) -> JobRequest:
    """What the command line asks for: the settings of --spec, and over them its flags."""
    file = getattr(args, "spec", None)
    given = flags.absolute(flags.read_settings(program.place(file)), paths.home()) if file is not None else {}
    return JobRequest(
        stage=args.stage,
        settings={**given, **flags.changes(args)},
        model=args.model,
        preset=getattr(args, "preset", None),
        from_resume=args.from_resume,
        overwrite=args.overwrite,
        sweep=sweep,
    ).anchored(program.place("."))


def trains_here(request: JobRequest) -> bool:
    """Whether the run has no workers: it trains in the process that is called, without Ray."""
    workers = request.settings.get("scaling.workers")
    if request.from_resume and workers is None:
        workers = RunDirectory.find(paths.runs(), request.name).spec()["scaling"]["workers"]
    return str(workers) == "0"


def look_before(request: JobRequest, folder: RunDirectory) -> RunSpec:
    """The spec of a new run. Raise ValueError or RunStateError for what a job would end with as soon as it looks:
    settings, weights, a name that is taken, files and their first row.
    """
    from jobs.stages.origin import new_spec
    from jobs.text.prepare import require_files

    spec = new_spec(request.stage, {**request.settings, "name": request.name}, request.model)
    folder.require_free(overwrite=request.overwrite)
    if not files_elsewhere():
        require_files(spec)
    return spec


def files_elsewhere() -> bool:
    """Whether the cluster is one that was named, whose files may lie on another machine."""
    return bool(os.environ.get("RAY_API_SERVER_ADDRESS"))


def tokenizer(args: argparse.Namespace, program: Program, console: Console) -> int:
    """The tokenizer stage: in this process, or as a job that is followed."""
    settings = flags.changes(args, TOKENIZER_FLAGS)
    request = JobRequest(stage="tokenizer", settings=settings, overwrite=args.overwrite).anchored(program.place("."))
    spec = request.tokenizer_spec()
    if not program.submits:
        return do(request, console)
    if "path" in request.settings:
        paths.existing(spec.path, phrase(DATA_FILE))
    RunDirectory(paths.runs() / spec.name).require_free(overwrite=args.overwrite)
    return submit(request.resolved(spec), detach=args.detach, console=console)
