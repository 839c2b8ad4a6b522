"""`train STAGE`: one stage, or the tokenizer that comes before all of them; and `resume` by the name of a run."""

from __future__ import annotations

import argparse
import os
from typing import Any

from rich.console import Console

from jobs import paths
from jobs.commands.arguments import Parser, add_detach, add_overwrite, add_switch, budget
from jobs.commands.program import Program
from jobs.runs.directory import RunDirectory
from jobs.stages import flags
from jobs.stages.spec import RunSpec
from jobs.stages.stage import DEFAULT_MODEL
from jobs.stages.table import STAGES
from jobs.text.tokenizer import DATA_FILE, TOKENIZER_FLAGS, TokenizerSpec, run_tokenizer
from minimind.language import phrase, say


def add_train(parser: Parser, program: Program) -> None:
    """The stages, each with its flags."""
    stages = parser.add_subparsers(title=say("stages"), metavar="STAGE", required=True, parser_class=Parser)
    _add_tokenizer(stages.add_parser("tokenizer", help=say("learn a vocabulary from text")), program)
    for name, stage in STAGES.items():
        title = phrase(stage.title)
        below = stages.add_parser(name, help=title, description=title, usage="%(prog)s [--FLAG VALUE ...]")
        groups = flags.add_flags(below, stage.preset, DEFAULT_MODEL)
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
        below.set_defaults(command=train, stage=name)


def _add_tokenizer(parser: argparse.ArgumentParser, program: Program) -> None:
    for flag, field in TOKENIZER_FLAGS.items():
        info = TokenizerSpec.model_fields[field]
        words = f"{phrase(info.description or '')} ({say('default: {value}', value=flags.default_text(info.default))})"
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
    settings = settings_of(args, program)
    if not program.submits:
        return _train_here(args, settings, console)
    name = str(settings.get("name", STAGES[args.stage].preset(args.model or DEFAULT_MODEL).name))
    workers = settings.get("scaling.workers")
    if args.from_resume and workers is None:
        workers = RunDirectory.find(paths.runs(), name).spec()["scaling"]["workers"]
    if str(workers) == "0":
        return _train_here(args, settings, console)
    from jobs.cluster.follow import submit_training

    # What is wrong here would otherwise be found once the job has started.
    if args.from_resume:
        from jobs.training.run import resumed

        run = RunDirectory.find(paths.runs(), name)
        run.require_idle()
        if args.model is None and not args.overwrite:
            resumed(RunSpec.model_validate(run.spec()), settings)
    else:
        look_before(args.stage, settings, args.model, RunDirectory(paths.runs() / name), args.overwrite)
    switches = [part for name in ("from_resume", "overwrite") if getattr(args, name) for part in (f"--{name}", "1")]
    named = [part for name in ("model", "preset") if getattr(args, name) for part in (f"--{name}", getattr(args, name))]
    argv = ["train", args.stage, *named, *switches, *flags.arguments(settings)]
    return submit_training(name, argv, detach=args.detach, console=console)


def settings_of(args: argparse.Namespace, program: Program) -> dict[str, Any]:
    """What the command line asks of a stage: the settings of --spec, and over them its flags."""
    given = flags.read_settings(program.place(args.spec)) if args.spec is not None else {}
    settings = {**flags.absolute(given, paths.home()), **flags.changes(args)}
    return flags.absolute(settings, program.place("."))


def _train_here(args: argparse.Namespace, settings: dict[str, Any], console: Console) -> int:
    from jobs.training.run import train

    switches = {"from_resume": args.from_resume, "overwrite": args.overwrite}
    return train(args.stage, settings, console, model=args.model, budget=args.preset, **switches)


def look_before(
    stage: str, settings: dict[str, Any], model: str | None, folder: RunDirectory, overwrite: bool
) -> RunSpec:
    """The spec of a new run. Raise ValueError or RunStateError for what a job would end with as soon as it looks:
    settings, weights, a name that is taken, files and their first row.
    """
    from jobs.stages.origin import new_spec
    from jobs.text.prepare import require_files

    spec = new_spec(stage, settings, model)
    folder.require_free(overwrite=overwrite)
    if not files_elsewhere():
        require_files(spec)
    return spec


def files_elsewhere() -> bool:
    """Whether the cluster is one that was named, whose files may lie on another machine."""
    return bool(os.environ.get("RAY_API_SERVER_ADDRESS"))


def tokenizer(args: argparse.Namespace, program: Program, console: Console) -> int:
    """The tokenizer stage: in this process, or as a job that is followed."""
    given = flags.changes(args, TOKENIZER_FLAGS)
    if not program.submits:
        run_tokenizer(flags.apply(TokenizerSpec(), given, TOKENIZER_FLAGS), console, overwrite=args.overwrite)
        return 0
    from jobs.cluster.follow import submit_training

    if "path" in given:
        given["path"] = str(paths.existing(program.place(given["path"]), DATA_FILE))
    name = flags.apply(TokenizerSpec(), given, TOKENIZER_FLAGS).name
    RunDirectory(paths.runs() / name).require_free(overwrite=args.overwrite)
    argv = ["train", "tokenizer", *(["--overwrite", "1"] if args.overwrite else []), *flags.arguments(given)]
    return submit_training(name, argv, detach=args.detach, console=console)
