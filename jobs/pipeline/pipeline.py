"""The pipeline: tokenizer, every stage, evaluation, gates, report, server. Kill it anywhere and start it again.

A stage that is done, and whose first weights are still those that it began with, is not done again. Each stage ends in
the same weights as if nothing had ever been killed, because each run does.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from data.prepare import content_sha256
from jobs import paths
from jobs.evaluation import report, suites
from jobs.evaluation.compare import compare
from jobs.evaluation.gates import GATES, closed
from jobs.fit.precision import decide_dtype, with_dtype
from jobs.paths import stock_folder
from jobs.pipeline import forecast
from jobs.pipeline.steps import PipelineOptions, Step
from jobs.runs import evals
from jobs.runs.directory import RunDirectory
from jobs.runs.evals import EvalLog
from jobs.runs.references import Weights, find_weights
from jobs.runs.show import show
from jobs.stages import flags
from jobs.stages.origin import first_weights, new_spec
from jobs.stages.spec import RunSpec, other_results
from jobs.stock import VERSION, version_of
from jobs.text.prepare import prepare
from jobs.text.tokenizer import TokenizerSpec, run_tokenizer
from jobs.training import launch
from jobs.training.request import JobRequest
from jobs.training.run import choose_sizes, join_and_place, resume, start
from minimind.checkpoints.manifest import weights_sha256
from minimind.language import phrase, say
from minimind.units import duration


@dataclass(frozen=True)
class Done:
    """A stage at its end. logs: what its suites found; before: what they found of the weights that it began with."""

    step: Step
    weights: Weights
    seconds: float
    logs: list[EvalLog]
    before: list[EvalLog]


def run(options: PipelineOptions, console: Console) -> int:
    """All of it, from where an earlier one broke off. Gives the exit status.

    Raises ValueError for data, settings or a cluster that cannot work, RunStateError for a run of another's.
    """
    if options.from_stock and version_of(stock_folder()) != VERSION:
        from jobs.demo.fetch import fetch_stock

        fetch_stock(console)
    steps = options.steps()
    for step in steps:
        options.file(step.stage)  # all of them are there before anything begins
    record = Record(options.name)
    _title(console, say("Tokenizer"))
    _tokenizer(options, console)
    if steps:
        _title(console, say("What it will take"))
        _forecast(options, steps, record, console)
    done: list[Done] = []
    for step in steps:
        _title(console, say("Stage {stage}", stage=phrase(step.stage)))
        found = _stage(options, step, record, done, console)
        if found is None:
            return 1
        done.append(found)
        if reasons := closed(GATES.get(step.stage, ()), found.before, found.logs):
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


class Record:
    """`pipelines/<name>.json`: of each stage that ended the weights that it began with and those that it ended with."""

    def __init__(self, name: str) -> None:
        self.path = paths.home() / "pipelines" / f"{name}.json"

    def read(self) -> dict[str, dict[str, Any]]:
        """By stage; empty where there is none."""
        try:
            content: dict[str, dict[str, Any]] = json.loads(self.path.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise ValueError(say("{path} cannot be read: {error}", path=self.path, error=error)) from None
        return content

    def write(self, stage: str, **known: Any) -> None:
        """Add to what is known of a stage."""
        content = self.read()
        content[stage] = {**content.get(stage, {}), **known}
        evals.write_text(self.path, json.dumps(content, indent=1) + "\n")


def _tokenizer(options: PipelineOptions, console: Console) -> None:
    run = RunDirectory(paths.runs() / options.tokenizer)
    text = options.file("pretrain")
    if run.exists and run.state().word == "SUCCEEDED":
        kept = TokenizerSpec.model_validate(run.spec())
        if kept.path == str(text):
            console.print(say("Already there: {name}", name=run.name))
            return
        raise ValueError(_another(run.name, f"data.path = {kept.path}"))
    preset = options.planned(Step("pretrain"))
    spec = TokenizerSpec(
        name=options.tokenizer,
        path=str(text),
        vocab_size=preset.model.vocab_size,
        split_cjk=preset.data.split_cjk,
        max_bad_rows=preset.data.limits.max_bad_rows or 0,
    )
    run_tokenizer(spec, console, overwrite=run.exists)


def _forecast(options: PipelineOptions, steps: list[Step], record: Record, console: Console) -> None:
    """Each stage's time, memory and disk, from its data and a few steps made here. What it computes in is decided here,
    once: measured again after a kill it might be another dtype, and the pipeline would end in other weights.
    """
    found = []
    text = str(options.file("pretrain"))
    for step in steps:
        spec = options.planned(step)
        if (dtype := record.read().get(step.stage, {}).get("dtype")) is not None:
            spec = with_dtype(spec, dtype)
        changes: dict[str, Any] = {"tokenizer": options.tokenizer}
        if spec.data.mix:
            changes["mix_path"] = text
        spec = spec.model_copy(update={"data": spec.data.model_copy(update=changes)})
        if options.preset is not None:
            spec = choose_sizes(spec, options.preset, frozenset(options.request(step).settings), console)
        placed = decide_dtype(join_and_place(spec), console)
        record.write(step.stage, dtype=placed.loop.dtype)
        prepared = prepare(placed, console, pipeline=launch.pipeline())
        found.append(forecast.forecast(placed, prepared, suites.load(options.suites(step, placed))))
    forecast.show(found, console)


def _stage(options: PipelineOptions, step: Step, record: Record, done: list[Done], console: Console) -> Done | None:
    """The stage's run at its end, evaluated; None where it did not succeed, which is shown."""
    request = options.request(step)
    run = RunDirectory(paths.runs() / request.name)
    parent = next((one.weights for one in done if one.step.stage == step.after), None)
    before = weights_sha256(parent.folder) if parent is not None else ""
    known = record.read().get(step.stage, {})
    began = time.time()
    if run.exists:
        _require_same(run, request, known, before)
        resume(run.name, {}, console)
    else:
        record.write(step.stage, began_with=before, began=began)
        weights = first_weights(request.settings)
        spec = with_dtype(new_spec(request.stage, request.settings, request.model, weights), str(known["dtype"]))
        start(spec, console, weights=weights, request=request)
    if run.state().word != "SUCCEEDED":
        show(run, console)
        return None
    weights = find_weights(run.name)
    sha256 = weights_sha256(weights.folder)
    seconds = time.time() - float(record.read()[step.stage].get("began", began))
    if known.get("weights") != sha256:
        record.write(step.stage, weights=sha256, seconds=seconds)
    named = RunSpec.model_validate(run.spec()).eval.suites
    asked = suites.fitting(weights) if named is None else named
    logs = _evaluated(weights, asked, console)
    earlier = _evaluated(parent, asked, console) if parent is not None else []
    return Done(step, weights, float(record.read()[step.stage].get("seconds", seconds)), logs, earlier)


def _evaluated(weights: Weights, asked: Sequence[str], console: Console) -> list[EvalLog]:
    """The logs of these suites; none where something goes wrong, which is said."""
    try:
        return suites.evaluate_all(weights, suites.load(asked), console)
    except (ValueError, OSError, RuntimeError) as error:
        console.print(say("{model} was not evaluated: {error}", model=weights.name, error=error), style="yellow")
        return []


def _require_same(run: RunDirectory, request: JobRequest, known: Mapping[str, Any], before: str) -> None:
    """Raise ValueError where the run that is there is not the one that is asked for."""
    if known.get("began_with", before) != before:
        raise ValueError(_another(run.name, say("other first weights")))
    stored = RunSpec.model_validate(run.spec())
    own = ("name", "init_from", "data.tokenizer", "data.path")
    settings = {path: value for path, value in request.settings.items() if path not in own}
    for path in other_results(stored, flags.apply(stored, settings)):
        raise ValueError(_another(run.name, f"{path} = {flags.at(stored, path)}"))
    source = Path(request.settings["data.path"])
    if run.sources.get("data.path", "") != content_sha256(source):
        raise ValueError(_another(run.name, say("other rows than {source} has now", source=source)))


def _another(name: str, what: str) -> str:
    return say(
        "the run {name!r} is there with {what}: it is another pipeline's. Take another --name, or remove it: "
        "minimind rm {name}",
        name=name,
        what=what,
    )


def _end(options: PipelineOptions, done: list[Done], console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))
    table.add_column(say("stage"), no_wrap=True)
    table.add_column(say("time"), justify="right", no_wrap=True)
    names = list(dict.fromkeys(log.suite for one in done for log in one.logs))
    for name in names:
        table.add_column(phrase(name), justify="right", no_wrap=True)
    table.add_column("sha256", no_wrap=True)
    for one in done:
        scores = {log.suite: evals.number(log.summary, log.score) for log in one.logs}
        sha256 = weights_sha256(one.weights.folder)[:12]
        table.add_row(phrase(one.step.stage), duration(one.seconds), *(scores.get(name, "") for name in names), sha256)
    console.print(table, soft_wrap=False)
    for one in done:
        pairs = [(a, b) for a in one.before for b in one.logs if a.suite == b.suite]
        if pairs:
            compared = compare(pairs)
            console.print(f"\n{report.verdict(compared)}")
            console.print(say("Report: {path}", path=report.write(compared)[0]), soft_wrap=True)
    if not done:
        return
    last = done[-1].weights.run
    if options.serve:
        from jobs.serving import server
        from jobs.serving.server import ServeFlags

        address = server.running_url() or server.start(server.application(ServeFlags(), os.environ), console)
        console.print(say("Talk with it: {url}/", url=address), style="bold")
    else:
        console.print(say("Talk with it: minimind chat {name}, or minimind serve", name=last), style="bold")


def _title(console: Console, text: str) -> None:
    console.print(f"\n{text}", style="bold")
