"""`pipeline`: all stages in a row, as one job."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence

from pydantic import ValidationError
from rich.console import Console

from jobs.commands.arguments import Parser, add_detach, add_switch, budget
from jobs.commands.program import Program
from jobs.stages.stage import DEFAULT_MODEL
from minimind.config import explain
from minimind.language import say
from minimind.network.model import MODEL_PRESETS


def add_pipeline(parser: Parser, program: Program) -> None:
    """Its options."""
    from jobs.pipeline.steps import STEPS

    parser.description = say(
        "All stages in a row, from the tokenizer to reinforcement learning and distillation, with an evaluation and a "
        "gate behind them, and reports: one job. Killed anywhere and started again it goes on where it was."
    )
    parser.add_argument("--name", default="pipeline", help=say("its runs are called NAME-pretrain and so on"))
    parser.add_argument(
        "--data",
        metavar="FOLDER",
        help=say(
            "with pretrain.jsonl, sft.jsonl and, for their stages, lora.jsonl, kto.jsonl, dpo.jsonl, rl.jsonl "
            "(default: the stock data)"
        ),
    )
    parser.add_argument("--model", choices=sorted(MODEL_PRESETS), default=DEFAULT_MODEL, help=say("the size"))
    parser.add_argument(
        "--preset",
        type=budget,
        metavar="conservative|standard|aggressive",
        help=say("choose sizes for a share of the card"),
    )
    stages = say(", ").join(("tokenizer", *(step.stage for step in STEPS)))
    parser.add_argument("--until", metavar="STAGE", help=say("the last stage: {names} (default: all)", names=stages))
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="STAGE.PATH=VALUE",
        help=say(
            "a setting of a stage, such as sft.loop.epochs=2; distill is left out unless it has a size of its own, "
            "such as distill.model.hidden_size=64, or another teacher, distill.roles.teacher=RUN"
        ),
    )
    add_switch(parser, "past_gates", say("go on where a gate between stages is closed"))
    add_switch(parser, "serve", say("serve the model at the end"))
    add_detach(parser, program)
    parser.add_argument("--options", help=argparse.SUPPRESS)
    parser.set_defaults(command=pipeline)


def pipeline(args: argparse.Namespace, program: Program, console: Console) -> int:
    """Do it: in this process, or as a job that is followed."""
    from jobs.pipeline.pipeline import run
    from jobs.pipeline.steps import PipelineOptions

    try:
        if args.options is not None:
            return run(PipelineOptions.model_validate_json(args.options), console)
        settings = _settings(args.set)
        options = PipelineOptions(
            name=args.name,
            data=None if args.data is None else str(program.place(args.data)),
            model=args.model,
            preset=args.preset,
            until=args.until,
            past_gates=args.past_gates,
            serve=args.serve,
            settings=settings,
        )
    except ValidationError as error:
        raise ValueError(explain(error)) from None
    for step in options.steps():
        options.planned(step)  # what is wrong with a setting is said before there is a job
    if not program.submits:
        return run(options, console)
    from jobs.cluster.follow import submit_training
    from jobs.commands.job import key_of_judges
    from jobs.training.request import terms_named

    argv = ["pipeline", "--options", options.model_dump_json(exclude_defaults=True)]
    words = f"pipeline --name {options.name}"
    terms = [term for path, given in settings.items() if path.endswith(".stage.rewards") for term in terms_named(given)]
    variables = key_of_judges(os.environ) if "judge" in terms else None
    return submit_training(
        options.name, argv, words, detach=args.detach, console=console, kind="pipeline", variables=variables
    )


def _settings(assignments: Sequence[str]) -> dict[str, object]:
    """STAGE.PATH -> value. Raises ValueError for what is no assignment, or is given twice."""
    found: dict[str, object] = {}
    for text in assignments:
        path, equals, value = text.partition("=")
        if not equals:
            raise ValueError(say("--set {text!r}: write STAGE.PATH=VALUE", text=text))
        if path in found:
            raise ValueError(
                say(
                    "{path} is given twice: {given!r} and {value!r}; say it once",
                    path=path,
                    given=found[path],
                    value=value,
                )
            )
        try:
            found[path] = json.loads(value)
        except ValueError:
            found[path] = value
    return found
