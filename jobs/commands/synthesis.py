"""`data distill`, `data pairs` and `data passrate`: rows that models write, or choose by what they write."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

from jobs.commands.arguments import Parser, add_json, positive, print_json, seconds
from jobs.commands.program import Program
from jobs.terminal.console import Terminal
from minimind.language import say

if TYPE_CHECKING:
    from jobs.evaluation.evaluate import LocalExaminee
    from jobs.runs.references import Weights


def add_distill(parser: Parser, program: Program) -> None:
    """Which prompts, which teacher, and how it is asked."""
    _add_prompts(parser, program)
    parser.add_argument(
        "--teacher",
        required=True,
        metavar="URL#MODEL",
        help=say("an OpenAI-compatible endpoint and its model; its key stands in MINIMIND_API_KEY"),
    )
    parser.add_argument("--max_tokens", type=positive, default=1024, metavar="N", help=_of_an_answer(1024))
    own = say("(default: the teacher's own)")
    parser.add_argument("--temperature", type=amount, metavar="T", help=own)
    parser.add_argument("--seed", type=int, metavar="N", help=own)
    parser.add_argument(
        "--system",
        metavar="TEXT",
        help=say("a system turn where there is none; it stands in the rows too"),
    )
    parser.add_argument(
        "--at_once",
        type=positive,
        default=8,
        metavar="N",
        help=say("questions at the same time (default: {value})", value=8),
    )
    parser.add_argument("--per_minute", type=positive, metavar="N", help=say("requests at most (default: any number)"))
    parser.add_argument(
        "--answer_s",
        type=seconds,
        default=600.0,
        metavar="S",
        help=say("for how long the teacher may say nothing before it is asked again (default: {value})", value=600),
    )
    parser.add_argument(
        "--budget_tokens",
        type=positive,
        metavar="N",
        help=say("of prompts and answers in all; before it would be exceeded it ends, and can go on"),
    )
    parser.add_argument("--licence", metavar="TEXT", help=say("under which the answers may be used: kept beside them"))
    parser.set_defaults(command=distill)


_A_TOOL = '\'[{"is": "calculator"}]\''


def add_passrate(parser: Parser, program: Program) -> None:
    """Which prompts, which model, how it is sampled, and what is right."""
    what = say(
        "questions with right answers, as --stage rl reads them, or conversations, whose last answer is the right one"
    )
    parser.add_argument("prompts", metavar="FILE", help=say("; ").join((what, program.counting)))
    parser.add_argument(
        "--weight", required=True, metavar="RUN", help=say("the model: a run, run@step, run@best, or ./folder")
    )
    _add_sampling(parser, max_tokens=64, of_an_answer=say("of an answer, at most (default: {value})", value=64))
    parser.add_argument(
        "--reward",
        nargs="+",
        default=["contains"],
        metavar="TERM",
        help=say(
            "what an answer is judged by: exact, contains, number and others by their names, or in JSON as runs have "
            "them; the first says whether it is right (default: contains)"
        ),
    )
    parser.add_argument(
        "--reward_model",
        metavar="RUN",
        help=say("the model of a term reward_model: a run of the stage reward, run@step, run@best or ./folder"),
    )
    parser.add_argument(
        "--tools",
        metavar="JSON",
        help=say("what an answer may call, as stage.tools of a run has it, such as {example}", example=_A_TOOL),
    )
    parser.add_argument(
        "-o",
        "--out",
        metavar="FILE.jsonl",
        help=say("the curriculum: the rows that something can be learnt from, the easiest first"),
    )
    add_json(parser)
    parser.set_defaults(command=passrate)


def add_pairs(parser: Parser, program: Program) -> None:
    """Which model, which prompts, how it is sampled, and what is better."""
    parser.add_argument("model", metavar="RUN", help=say("a run, run@step, run@best, or ./folder"))
    _add_prompts(parser, program)
    _add_sampling(parser, max_tokens=256, of_an_answer=_of_an_answer(256))
    better = parser.add_mutually_exclusive_group()
    better.add_argument(
        "--by",
        nargs="+",
        default=["contains"],
        metavar="CHECK",
        help=say(
            "what a good answer passes: contains, exact or number, by the right answer of each prompt, or checks in "
            "JSON as suites have them (default: contains)"
        ),
    )
    better.add_argument(
        "--reward",
        metavar="RUN",
        help=say("a reward model, whose higher score is the better answer: a run, run@step or run@best"),
    )
    parser.add_argument(
        "--best_of", metavar="FILE.jsonl", help=say("also rows for SFT: the best sample of each prompt, if any is good")
    )
    parser.set_defaults(command=pairs)


def _add_sampling(parser: Parser, *, max_tokens: int, of_an_answer: str) -> None:
    parser.add_argument(
        "--samples",
        type=positive,
        default=8,
        metavar="N",
        help=say("answers to each prompt (default: {value})", value=8),
    )
    parser.add_argument("--temperature", type=amount, default=1.0, metavar="T", help=say("(default: {value})", value=1))
    parser.add_argument("--max_tokens", type=positive, default=max_tokens, metavar="N", help=of_an_answer)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help=say("(default: {value})", value=0))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help=say("(default: {value})", value="cpu"))


def _add_prompts(parser: Parser, program: Program) -> None:
    what = say("rows of prompts, conversations or preferences: what is asked in them is answered anew")
    parser.add_argument("prompts", help=say("; ").join((what, program.counting)))
    parser.add_argument(
        "--out",
        required=True,
        metavar="FILE.jsonl",
        help=say("the rows; what was asked for and what came of it is kept beside them, in FILE.jsonl.json"),
    )


def _of_an_answer(value: int) -> str:
    return say("of an answer, thoughts included; one that is cut off is left out (default: {value})", value=value)


def amount(text: str) -> float:
    """A number of at least 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(say("{text!r} is not a number of at least 0", text=text))
    return value


def distill(args: argparse.Namespace, program: Program, console: Console) -> int:
    """A teacher's answers as rows for SFT. 1 where prompts are left that got no answer."""
    from data.prompts import read_prompts
    from jobs.endpoints.endpoint import Endpoint
    from jobs.synthesis import distill as teaching
    from jobs.synthesis import view

    if "://" not in args.teacher and "@" not in args.teacher:  # with an @ it may be a password, which is not said
        raise ValueError(
            say(
                "--teacher {text!r} is no address, which is written URL#MODEL. A run of yours teaches by `minimind "
                "train distill --teacher RUN`, or behind the address that `minimind serve` names",
                text=args.teacher,
            )
        )
    prompts = read_prompts(program.place(args.prompts), args.system)
    view.show_prompts(prompts, console)
    teacher = Endpoint.named(args.teacher, at_once=args.at_once, per_minute=args.per_minute, answer_s=args.answer_s)
    asking = teaching.Asking(args.max_tokens, args.temperature, args.seed)
    out = program.place(args.out)
    with _kept_where_stopped(console):
        done = teaching.distill(
            teacher, prompts, out, asking, console, budget_tokens=args.budget_tokens, licence=args.licence
        )
    view.show_distilled(done, out, console)
    return 1 if done.unanswered else 0


def pairs(args: argparse.Namespace, program: Program, console: Console) -> int:
    """A model's own samples as rows for DPO."""
    from data.prompts import read_prompts
    from jobs.runs.references import find_weights
    from jobs.synthesis import view
    from jobs.synthesis.pairs import make_pairs
    from jobs.synthesis.ranking import by_checks, by_reward
    from jobs.synthesis.samples import Sampling
    from minimind.checkpoints.manifest import weights_sha256

    sampling = Sampling(args.samples, args.temperature, args.max_tokens, args.seed)
    weights = _weights(program.place_reference(args.model) or "", args.device)
    prompts = read_prompts(program.place(args.prompts))
    view.show_prompts(prompts, console)
    if args.reward is not None:
        judge = find_weights(program.place_reference(args.reward) or "")
        rank, by = by_reward(judge), [f"reward {judge.name} {weights_sha256(judge.folder)}"]
    else:
        rank, by = by_checks(args.by, prompts.each), args.by
    out, best_of = program.place(args.out), program.place(args.best_of) if args.best_of is not None else None
    model = _loaded(weights, args.device)
    with _kept_where_stopped(console):
        record = make_pairs(model, prompts, out, sampling, rank, console, by=by, best_of=best_of)
    view.show_pairs(record, out, best_of, console)
    return 0


def passrate(args: argparse.Namespace, program: Program, console: Console) -> int:
    """How often a model is right. 1 where rows were asked for and none has signal."""
    from data.prompts import read_questions
    from jobs.runs.references import find_weights
    from jobs.synthesis import view
    from jobs.synthesis.calling import tools_of
    from jobs.synthesis.passrate import measure, terms_of
    from jobs.synthesis.samples import Sampling

    screen = Terminal(stderr=True) if args.json else console
    sampling = Sampling(args.samples, args.temperature, args.max_tokens, args.seed)
    terms_of(args.reward, args.reward_model)  # refused before anything is loaded
    tools = tools_of(args.tools, program.place(".")) if args.tools is not None else None
    reward_model = None
    if args.reward_model is not None:
        reward_model = find_weights(program.place_reference(args.reward_model) or "")
    weights = _weights(program.place_reference(args.weight) or "", args.device)
    prompts = read_questions(program.place(args.prompts))
    view.show_prompts(prompts, screen)
    out = program.place(args.out) if args.out is not None else None
    model = _loaded(weights, args.device)
    with _kept_where_stopped(screen):
        record = measure(
            model,
            prompts,
            out,
            sampling,
            args.reward,
            screen,
            folder=program.place("."),
            reward_model=reward_model,
            tools=tools,
        )
    if args.json:
        print_json(record)
    else:
        view.show_passrate(record, out, console)
    return 1 if out is not None and not record["rows"] else 0


def _weights(reference: str, device: str) -> Weights:
    """Those of a model that is to be sampled. Raises ValueError for one that has not learnt to answer, and where there
    is no such device.
    """
    import torch

    from jobs.runs.references import find_weights
    from jobs.stages.origin import require_answers

    weights = find_weights(reference)
    require_answers(weights)
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError(say("--device cuda: PyTorch sees no GPU here"))
    return weights


def _loaded(weights: Weights, device: str) -> LocalExaminee:
    import torch

    from jobs.evaluation.evaluate import LocalExaminee

    return LocalExaminee.load(weights, torch.device(device))


@contextmanager
def _kept_where_stopped(console: Console) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        console.print(say("Stopped. What is done is kept; the same command goes on."))
        raise
