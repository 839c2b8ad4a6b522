"""The pipeline: tokenizer, every stage, evaluation, gates, report, server. Kill it anywhere and start it again.

A stage that is done, and whose first weights are still those that it began with, is not done again. Each stage ends in
the same weights as if nothing had ever been killed, because each run does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from data.prepare import content_sha256
from jobs import paths
from jobs.evaluation import report, suites
from jobs.evaluation.compare import compare
from jobs.evaluation.gates import GATES, closed
from jobs.experiment.facts import facts_of
from jobs.fit.precision import decide_dtype, with_dtype
from jobs.pipeline import forecast, results
from jobs.pipeline.record import Record, another_pipelines, require_asked
from jobs.pipeline.results import Result
from jobs.pipeline.steps import PipelineOptions, Step
from jobs.runs.directory import RunDirectory
from jobs.runs.evals import EvalLog
from jobs.runs.references import Weights, find_weights
from jobs.runs.show import show
from jobs.stages import flags
from jobs.stages.origin import first_weights, new_spec
from jobs.stages.spec import FILES, RunSpec, other_results
from jobs.stages.table import STAGES
from jobs.terminal.wrap import tell
from jobs.text.prepare import prepare
from jobs.text.tokenizer import TokenizerSpec, run_tokenizer
from jobs.training import launch
from jobs.training.request import JobRequest
from jobs.training.run import choose_sizes, join_and_place, resume, start
from minimind.checkpoints import folders as checkpoint_folders
from minimind.checkpoints.manifest import weights_sha256
from minimind.events import metric_series
from minimind.language import phrase, say


@dataclass(frozen=True)
class Done:
    """A stage at its end. asked: the suites that it ends with; logs: what they found; before: what they found of the
    weights that it began with, or of its teacher where it began with none.
    """

    step: Step
    weights: Weights
    seconds: float
    asked: Sequence[str]
    logs: list[EvalLog]
    before: list[EvalLog]


def run(options: PipelineOptions, console: Console) -> int:
    """All of it, from where an earlier one broke off. Gives the exit status.

    Raises ValueError for data, settings or a cluster that cannot work, RunStateError for a run of another's.
    """
    if not options.has_data:
        from jobs.demo.fetch import fetch_stock

        fetch_stock(console)
    for step in options.steps():
        options.file(step.file)  # all of them are there before anything begins
    record = Record(options.name)
    with record.held():
        return _run(options, record, console)


def _run(options: PipelineOptions, record: Record, console: Console) -> int:
    steps = options.steps()
    _title(console, say("Tokenizer"))
    _tokenizer(options, record, console)
    if steps:
        _title(console, say("What it will take"))
        _forecast(options, steps, record, console)
    done: list[Done] = []
    for step in steps:
        _title(console, say("Stage {stage}", stage=phrase(step.stage)))
        found = _stage(options, step, record, console)
        if found is None:
            return int(RunDirectory(paths.runs() / options.run(step.stage)).state().word != "STOPPED")
        done.append(found)
        if reasons := closed(GATES.get(step.stage, ()), found.asked, found.before, found.logs):
            for reason in reasons:
                console.print(reason, style="yellow")
            if not options.past_gates:
                console.print(
                    say(
                        "The pipeline ends here: a gate behind {stage} is closed. Other settings with --set "
                        "{stage}.PATH=VALUE and another --name; on all the same: --past_gates 1",
                        stage=step.stage,
                    ),
                    style="red",
                )
                return 1
    _title(console, say("What came of it"))
    _end(options, done, console)
    return 0


def _tokenizer(options: PipelineOptions, record: Record, console: Console) -> None:
    run = RunDirectory(paths.runs() / options.tokenizer)
    text = options.file("pretrain")
    preset = options.planned(Step("pretrain"))
    own = {"vocab_size": preset.model.vocab_size, "split_cjk": preset.data.split_cjk}
    asked = {"model": options.model, **own}
    files = {"path": content_sha256(text)}
    if run.exists and run.state().word == "SUCCEEDED":
        require_asked(run.name, record.of("tokenizer"), asked, files)
        console.print(say("Already there: {name}", name=run.name))
        return
    record.write("tokenizer", asked=asked, files=files)
    bad_rows = preset.data.limits.max_bad_rows or 0
    spec = TokenizerSpec.model_validate({"name": run.name, "path": str(text), "max_bad_rows": bad_rows} | own)
    run_tokenizer(spec, console, overwrite=run.exists)


def _forecast(options: PipelineOptions, steps: list[Step], record: Record, console: Console) -> None:
    """Each stage's time, memory and disk, from its data and a few steps made here; of those that are done only that.
    What it computes in is decided here, once: measured again after a kill it might be another dtype, and the pipeline
    would end in other weights.
    """
    found = []
    text = str(options.file("pretrain"))
    for step in steps:
        run = RunDirectory(paths.runs() / options.run(step.stage))
        if run.exists:
            _changes(options, step, run, record)  # what does not belong together is said before anything begins
            if run.state().word == "SUCCEEDED":
                found.append(forecast.done(step.stage))
                continue
        spec = options.planned(step)
        if (dtype := record.of(step.stage).dtype) is not None:
            spec = with_dtype(spec, dtype)
        changes: dict[str, Any] = {"tokenizer": options.tokenizer}
        if spec.data.mix:
            changes["mix_path"] = text
        spec = spec.model_copy(update={"data": spec.data.model_copy(update=changes)})
        if options.preset is not None:
            spec = choose_sizes(spec, options.preset, frozenset(options.request(step).settings), console)
        placed = decide_dtype(join_and_place(spec), console)
        record.write(step.stage, dtype=placed.loop.dtype)
        made = checkpoint_folders.steps(run.checkpoints)[-1:] if run.exists else []
        own = checkpoint_folders.folder_of(run.checkpoints, made[-1]) if made else None
        prepared = prepare(placed, console, own=own, pipeline=launch.pipeline())
        asked = suites.load(options.suites(step, placed))
        found.append(forecast.forecast(placed, prepared, asked, *made))
    forecast.show(found, console)


def _stage(options: PipelineOptions, step: Step, record: Record, console: Console) -> Done | None:
    """The stage's run at its end, evaluated; None where it did not succeed, which is shown."""
    request = options.request(step)
    run = RunDirectory(paths.runs() / request.name)
    weights = first_weights(request.settings)
    before = weights_sha256(weights.folder) if weights is not None else ""
    known, began = record.of(step.stage), None
    if run.exists:
        changes = _changes(options, step, run, record)
        if known.began_with != before:
            raise ValueError(another_pipelines(run.name, say("other first weights")))
        record.write(step.stage, asked=options.asked(step))
        resume(run.name, changes, console)
    else:
        began = time.time()
        record.write(step.stage, began_with=before, asked=options.asked(step), files=_contents(request), weights="")
        spec = with_dtype(new_spec(request.stage, request.settings, request.model, weights), str(known.dtype))
        start(spec, console, weights=weights, request=request)
    if (word := run.state().word) != "SUCCEEDED":
        if word == "STOPPED":
            console.print(say("Stopped. The same command goes on from its last checkpoint."), style="yellow")
        else:
            show(run, console)
        return None
    end = find_weights(run.name)
    asked = options.suites(step, RunSpec.model_validate(run.spec()))
    logs = _evaluated(end, asked, console)
    seconds = known.seconds
    if known.weights != weights_sha256(end.folder) or seconds is None:
        # Of one that was killed in between: what its attempts took, and its evaluation.
        killed = facts_of(run).seconds + sum(float(log.summary["seconds"]) for log in logs)
        seconds = time.time() - began if began is not None else killed
        record.write(step.stage, weights=weights_sha256(end.folder), seconds=seconds)
    if weights is None and step.teacher:
        weights = find_weights(RunSpec.model_validate(run.spec()).roles["teacher"])
    earlier = _evaluated(weights, asked, console) if weights is not None else []
    return Done(step, end, seconds, asked, logs, earlier)


def _evaluated(weights: Weights, asked: Sequence[str], console: Console) -> list[EvalLog]:
    """The logs of these suites; none where something goes wrong, which is said."""
    try:
        return suites.evaluate_all(weights, suites.load(asked), console)
    except (ValueError, OSError, RuntimeError) as error:
        console.print(say("{model} was not evaluated: {error}", model=weights.name, error=error), style="yellow")
        return []


def _contents(request: JobRequest) -> dict[str, str]:
    """The sha256 of each file of data that a stage is asked to read, by its setting."""
    named = {path: request.settings.get(path) for path in FILES} | flags.tables_of(request.settings)
    return {path: content_sha256(paths.existing(file, path)) for path, file in named.items() if file is not None}


def _changes(options: PipelineOptions, step: Step, run: RunDirectory, record: Record) -> dict[str, Any]:
    """The settings of a run that is there which are asked for otherwise now, and which it may go on with.

    Raises ValueError where others differ, which would make it another run, or the content of a file does.
    """
    known, asked = record.of(step.stage), options.asked(step)
    stored, planned = RunSpec.model_validate(run.spec()), options.planned(step)
    differ = [path for path in {**known.asked, **asked} if known.asked.get(path) != asked.get(path)]
    changes = {path: flags.at(planned, path) for path in differ if path not in ("model", "preset")}
    if other_results(stored, flags.apply(stored, changes)):
        changes = {}
    require_asked(run.name, known, asked, _contents(options.request(step)), harmless=changes)
    return changes


def _end(options: PipelineOptions, done: list[Done], console: Console) -> None:
    results.show([_result(one) for one in done], console)
    for one in done:
        pairs = [(a, b) for a in one.before for b in one.logs if a.suite == b.suite]
        if pairs:
            compared = compare(pairs)
            console.print()
            tell(console, report.verdict(compared))
            console.print(say("Report: {path}", path=report.write(compared)[0]), soft_wrap=True)
    if not done:
        return
    last = next(one.weights.run for one in reversed(done) if STAGES[one.step.stage].writes and not one.step.teacher)
    if options.serve:
        from jobs.serving import server
        from jobs.serving.server import ServeFlags

        address = server.running_url() or server.start(server.application(ServeFlags(), os.environ), console)
        console.print(say("Talk with it: {url}/", url=address), style="bold")
    else:
        console.print(say("Talk with it: minimind chat {name}, or minimind serve", name=last), style="bold")


def _result(one: Done) -> Result:
    return Result(
        one.step.stage, one.seconds, weights_sha256(one.weights.folder), one.logs, measured=_measured(one.weights)
    )


def _measured(weights: Weights) -> tuple[str, float, float] | None:
    """What a run was judged by on its held-out rows, before its first step and at its end, where that says more than
    its loss.
    """
    run = RunDirectory.find(paths.runs(), str(weights.run))
    best = RunSpec.model_validate(run.spec()).eval.best
    _, values = metric_series(run.events_path, best)
    return (best.removeprefix("val/"), values[0], values[-1]) if values and best != "val/loss" else None


def _title(console: Console, text: str) -> None:
    console.print(f"\n{text}", style="bold")
