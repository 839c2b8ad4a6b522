"""`sweep STAGE`: trials over a space on Ray Tune, none of which the memory plan refuses. What it knows lies in its
folder, in the files of a run: killed at any moment, it goes on with what is there.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import socket
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, field_validator
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch
from rich.console import Console

from jobs import paths
from jobs.cluster import ray_private
from jobs.fit.plan import Planner
from jobs.fit.precision import decide_dtype, with_dtype
from jobs.runs.directory import RunDirectory, require_name
from jobs.stages import flags
from jobs.stages.origin import first_weights, new_spec
from jobs.stages.spec import RunSpec, differences
from jobs.stages.stage import DEFAULT_MODEL
from jobs.stages.table import STAGES
from jobs.sweeps.feasible import Group, Point, Pool, groups, require_open, require_space, space_of
from jobs.sweeps.report import point_text, ranked, trial_line, write_report
from jobs.sweeps.trial import PARTS, outcome_of, run_trial
from jobs.sweeps.view import begun_trials, trials_of
from jobs.text.prepare import prepare
from jobs.training import launch
from jobs.training.nodes import wait_for_room
from jobs.training.request import JobRequest, SweepOptions
from jobs.training.run import lasting_settings, resolve, with_kept_paths
from minimind.config import Config, override
from minimind.events import Event, EventLog
from minimind.language import phrase, say
from minimind.units import duration, memory
from tune_spaces.distribution import LogUniform, Space

Objective = Literal["bits_per_byte", "tokens_per_s"]

DIRECTION: dict[Objective, Literal["min", "max"]] = {"bits_per_byte": "min", "tokens_per_s": "max"}

_WORST: dict[Objective, float] = {"bits_per_byte": 99.0, "tokens_per_s": 0.0}
"""What a searcher is told of a trial that measured nothing. It only compares."""


class SweepSpec(Config):
    """What a sweep was asked to do. run: where the space leaves a setting alone."""

    name: str
    run: RunSpec
    space: Space
    objective: Objective = "bits_per_byte"
    budget_s: float = Field(default=60.0, gt=0)
    trials: int = Field(default=20, ge=1)

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        return require_name(value)

    @property
    def varies_size(self) -> bool:
        """Whether the models of its trials differ in their shape."""
        return any(path.startswith("model.") for path in self.space)


def sweep(request: JobRequest, console: Console) -> int:
    """Start or continue a sweep, to its end, and report it. Gives the exit status: 1 where no trial measured anything.

    Raises ValueError for what cannot work, RunStateError for a name that is taken, OSError where the disk is full.
    """
    require_open(request.settings)
    name, options = request.name, request.sweep or SweepOptions()
    folder = RunDirectory(paths.sweeps() / require_name(name), "sweep")
    if request.from_resume:
        folder.require_there()
        if request.model is not None:
            raise ValueError(
                say("--model {model}: a continued sweep keeps its model; leave it out", model=request.model)
            )
        stored = SweepSpec.model_validate(folder.spec())
        spec = extended(stored, request.stage, request.settings, options)
        weights = None
    else:
        folder.require_free(overwrite=request.overwrite)
        settings = {**request.settings, "name": name}
        weights = first_weights(settings)
        run, weights = resolve(new_spec(request.stage, settings, request.model, weights), weights, console)
        space = space_of(options.space or "batch", run)
        spec = SweepSpec.model_validate({"name": name, "run": run, "space": space, **options.given()})
    require_space(spec.run, spec.space)
    placed = decide_dtype(launch.join(spec.run, together=False), console)
    spec = spec.model_copy(update={"run": with_dtype(spec.run, placed.loop.dtype)})
    planner = Planner(launch.worker_card(placed, console.print))
    console.print(say("Looking for what fits {card}", card=planner.card.title))
    found = groups(spec.run, spec.space, planner.fits)
    require_feasible(spec, found, planner)
    prepare(spec.run, console, weights=weights)
    if request.from_resume:
        identity = folder.identity
    else:
        identity = folder.create(spec.model_dump(mode="json"), overwrite=request.overwrite)
    status = 0

    def body(log: EventLog) -> bool:
        nonlocal status
        whole = _run(spec, placed, found, log, folder, console)
        status = _report(spec, found, folder, console)
        return whole

    if not attempt(folder, identity, spec.trials, body):
        console.print(say("{name} was stopped. Go on: minimind resume {name}", name=name))
        return 0
    return status


def attempt(folder: RunDirectory, identity: str, trials: int, body: Callable[[EventLog], bool]) -> bool:
    """One attempt at a sweep, with its lock, its states and `body` between them, which makes the trials and the report.
    Gives what `body` gives: whether all came to its end.
    """
    with folder.hold(), EventLog(folder.events_path) as log:
        folder.require_identity(identity)
        folder.clear_stop()
        log.state("RUNNING", step=len(trials_of(folder)), total_steps=trials, environment={})
        try:
            whole = body(log)
        except BaseException as error:
            with suppress(OSError):  # perhaps the disk is what it failed for
                reason = str(error) or type(error).__name__
                log.state("FAILED", reason=reason, traceback=traceback.format_exc())
            raise
        log.state("SUCCEEDED" if whole else "STOPPED")
    return whole


def _report(spec: SweepSpec, found: list[Group], folder: RunDirectory, console: Console) -> int:
    """Write best.json and the page, and say what came of it. Gives the exit status."""
    done, stage = trials_of(folder), spec.run.stage.kind
    best = ranked(done, spec.objective)
    if best:
        content = json.dumps(best_settings(spec, best[0]["settings"]), indent=2, ensure_ascii=False)
        (folder.path / "best.json").write_text(content + "\n", "utf-8")
    report = folder.path / "report.html"
    write_report(report, spec.name, spec.objective, list(spec.space), found, done, console)
    console.print("\n" + say("Report: {path}", path=report))
    if not best:
        console.print(say("No trial has measured anything; their reasons stand above."), style="red")
        return 1
    best_path = folder.path / "best.json"
    if spec.varies_size:
        console.print(
            say(
                "It is the best for {time}. With more time a larger one wins: for four times as long about twice the "
                "parameters.",
                time=duration(spec.budget_s),
            )
        )
    console.print(say("Train it: minimind train {stage} --spec {path} --name NAME", stage=stage, path=best_path))
    return 0


def extended(stored: SweepSpec, stage: str, settings: Mapping[str, Any], options: SweepOptions) -> SweepSpec:
    """The stored sweep, with more trials if so asked. Raises ValueError for anything else that differs from it."""
    stored = stored.model_copy(update={"run": with_kept_paths(stored.run)})
    asked = flags.apply(stored.run, lasting_settings({**settings, "name": stored.name}))
    wanted = SweepSpec.model_validate({**dict(stored), "run": asked, **options.given()})
    if options.space is not None:
        wanted = wanted.model_copy(update={"space": space_of(options.space, stored.run)})
    changed = differences(stored.model_dump(exclude={"trials"}), wanted.model_dump(exclude={"trials"}))
    if stage != stored.run.stage.kind:
        changed.insert(0, say("stage {stage}, not {kind}", stage=stage, kind=stored.run.stage.kind))
    if changed:
        raise ValueError(
            say(
                "a continued sweep keeps its settings, but for --trials; it was started with other "
                "{changed}. Leave them out, or start another with --name OTHER",
                changed=", ".join(changed),
            )
        )
    return wanted


def require_feasible(spec: SweepSpec, found: list[Group], planner: Planner) -> None:
    """Raise ValueError where no point fits: what stands in the way, and what would help."""
    if any(group.fitting for group in found):
        return
    smallest = [override(spec.run, group.points[0]) for group in found]
    least, plan = min(((run, planner.plan(run)) for run in smallest), key=lambda pair: pair[1].needed_bytes)
    largest = ", ".join(f"{phrase(part)} {memory(count)}" for part, count in list(plan.breakdown.items())[:3])
    raise ValueError(
        say(
            "no point of the space fits {card}. The smallest is {settings}; most of it: {largest}.",
            card=planner.card.title,
            settings=settings_text(least),
            largest=largest,
        )
        + f"\n{planner.refusal(least)}"
    )


def settings_text(run: RunSpec) -> str:
    """The sizes of a run, as flags."""
    loop = run.loop
    return (
        f"--batch_size {loop.batch_size} --max_seq_len {run.data.max_seq_len} "
        f"--activation_checkpointing {int(loop.activation_checkpointing)}"
    )


def best_settings(spec: SweepSpec, point: Point) -> Point:
    """What `train STAGE --spec` needs to make the run of a point: the point, its weights, and all else that differs
    from the stage's own settings, or would be chosen to suit them.
    """
    best, stage = override(spec.run, point), STAGES[spec.run.stage.kind]
    weights = {f"roles.{role}": named for role, named in best.roles.items()}
    usual = stage.preset(DEFAULT_MODEL)
    if best.init_from is not None:
        weights["init_from"] = best.init_from
        usual = new_spec(best.stage.kind, weights)
    content = best.model_dump(mode="json")
    different = differences(usual.model_dump(mode="json"), content)
    result = {path: flags.at(content, path) for path in (*weights, *different, *stage.suiting(best)) if path != "name"}
    return result | point | {"scaling.workers": 1}


class PointSearch(Searcher):
    """Gives Tune the points of a pool as `inner` likes them, and writes down what becomes of each."""

    def __init__(
        self,
        inner: Searcher,
        pool: Pool,
        spec: SweepSpec,
        log: EventLog,
        console: Console,
        *,
        first: int,
        count: int,
        stop: Callable[[], bool],
    ) -> None:
        super().__init__(metric="score", mode=DIRECTION[spec.objective])
        self.inner, self.pool, self.spec, self.log, self.console = inner, pool, spec, log, console
        self.number, self.last, self.stop = first, first + count - 1, stop
        self.running: dict[str, tuple[int, Point]] = {}
        self.errors: dict[str, str] = {}
        self.problem = ""

    @property
    def whole(self) -> bool:
        """Whether every trial there was to be has come to its end."""
        return not self.running and (self.number > self.last or not len(self.pool))

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # its type lacks FINISHED
        """The next point; FINISHED where there are enough, none is open, a stop is asked for or the disk is full."""
        if self.problem or self.number > self.last or not len(self.pool) or self.stop():
            return Searcher.FINISHED
        drawn = self.inner.suggest(trial_id)
        if not isinstance(drawn, dict):
            return drawn
        drawn = dict(drawn)
        settings = {**self.pool.draw(drawn.pop("u")), **drawn}
        number, self.number = self.number, self.number + 1
        said = say("trial {number} / {last}: {point} ...", number=number, last=self.last, point=point_text(settings))
        try:
            self.log.note("trial_started", said, trial=number, settings=settings)
        except OSError as full:
            self.problem = say("trial {number} could not be written down: {problem}", number=number, problem=full)
            return Searcher.FINISHED
        self.running[trial_id] = number, settings
        self.console.print(said, style="dim")
        return {"number": number, "settings": settings}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Write down how a trial ended; a point that ran out of memory closes those that need no less."""
        number, settings = self.running.pop(trial_id)
        known = {name: value for name, value in (result or {}).items() if name in _KEPT}
        if error or not result:
            known |= {"outcome": "failed", "reason": self.errors.pop(trial_id, "") or phrase(DIED)}
        record = {"trial": number, "settings": settings, "outcome": "ended early", **known}
        if record["outcome"] == "infeasible":
            record["closed"] = len(
                self.pool.learn({path: settings[path] for path in settings if path in _paths(self.pool)})
            )
        if record["outcome"] == "disk full":
            self.problem = say(
                "the disk is full, trial {number} could not go on: {reason}",
                number=number,
                reason=record.get("reason", ""),
            )
        try:
            self.log.note("trial", trial_line(record), **record)
        except OSError as full:
            self.problem = self.problem or say(
                "trial {number} could not be written down: {problem}", number=number, problem=full
            )
        self.console.print(trial_line(record))
        value = score(self.spec.objective, record)
        self.inner.on_trial_complete(trial_id, {"score": value, "training_iteration": PARTS})

    def __getstate__(self) -> dict[str, Any]:
        """Tune keeps copies of its searcher on disk: of this one nothing is needed."""
        return {}

    def __deepcopy__(self, memo: dict[int, Any]) -> PointSearch:
        return self

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the sweep's events hold all of it."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing."""


DIED = "its process died, or was killed (perhaps for its memory)"


class Halving(ASHAScheduler):
    """Ends the worse half of the trials at each part, and tells the search what an error said: Tune does not.

    Where the models differ in size none ends before half of its time: at first a small one is always ahead.
    """

    def __init__(self, search: PointSearch) -> None:
        grace = PARTS // 2 if search.spec.varies_size else 1
        super().__init__(max_t=PARTS + 1, grace_period=grace, reduction_factor=2)
        self._search = search

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Keep the words of the error that a trial's process came to its end with."""
        self._search.errors[trial.trial_id] = error_words(str(trial.get_error() or ""))
        super().on_trial_error(tune_controller, trial)

    def __getstate__(self) -> dict[str, Any]:
        """Tune keeps copies of it on disk: nothing is needed."""
        return {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Halving:
        return self


def error_words(trace: str) -> str:
    """What a trial's process died of, in a line, from what Ray wrote down."""
    lines = [line.strip() for line in trace.splitlines() if line.strip()]
    if not lines:
        return phrase(DIED)
    if any("actor died" in line or "actor is dead" in line.lower() for line in lines):
        return f"{phrase(DIED)}: {lines[-1][:300]}"
    return next((line for line in reversed(lines) if re.match(r"[\w.]+(Error|Exception)\b", line)), lines[-1])[:500]


def score(objective: Objective, values: Mapping[str, Any]) -> float:
    """What the searcher compares."""
    value = values.get(objective)
    return float(value) if value is not None else _WORST[objective]


_KEPT = ("outcome", "reason", "bits_per_byte", "tokens_per_s", "parameters", "predicted_bytes", "peak_bytes",
         "counts_tensors", "steps", "seconds")  # fmt: skip


def _paths(pool: Pool) -> set[str]:
    return {path for point in pool.points for path in point}


def make_search(
    spec: SweepSpec,
    found: list[Group],
    earlier: list[Event],
    log: EventLog,
    console: Console,
    *,
    begun: int = 0,
    stop: Callable[[], bool] = lambda: False,
) -> PointSearch:
    """The search of a sweep that has these trials behind it: its searcher knows their results, no point is tried twice,
    and what they taught holds.

    begun: the highest number that a trial has had, ended or not. No number is given twice: a trial of a driver that was
    killed may still be writing. stop: whether no more trials are to begin.
    """
    ranges = {path: values for path, values in spec.space.items() if isinstance(values, LogUniform)}
    pool = Pool(found, repeat=bool(ranges))
    known: list[dict[str, float]] = []
    scores: list[float] = []
    for trial in earlier:
        point = {path: value for path, value in trial["settings"].items() if path not in ranges}
        pool.close(point)
        if trial["outcome"] == "infeasible":
            pool.learn(point)
        place = pool.place(point)
        if place is not None:
            known.append({"u": place, **{path: trial["settings"][path] for path in ranges}})
            scores.append(score(spec.objective, trial))
    domains = {"u": tune.uniform(0, 1)} | {path: tune.loguniform(r.low, r.high) for path, r in ranges.items()}
    inner = OptunaSearch(
        OptunaSearch.convert_search_space(domains),
        metric="score",
        mode=DIRECTION[spec.objective],
        points_to_evaluate=known or None,
        evaluated_rewards=scores or None,
        seed=spec.run.seed + len(earlier),
    )
    first = max(begun, *(trial["trial"] for trial in earlier), 0) + 1
    count = max(0, spec.trials - len(earlier))
    return PointSearch(inner, pool, spec, log, console, first=first, count=count, stop=stop)


def _run(
    spec: SweepSpec,
    placed: RunSpec,
    found: list[Group],
    log: EventLog,
    folder: RunDirectory,
    console: Console,
) -> bool:
    """All trials that are left. Gives whether all came to their end; if not, it was stopped. Raises OSError where the
    disk is full.
    """
    _quiet()
    left = begun_trials(folder)
    folders = [int(path.name.removeprefix("trial-")) for path in (folder.path / "trials").glob("trial-*")]
    begun = max((*folders, *(trial["trial"] for trial in left)), default=0)
    remove_dead(folder, left)
    search = make_search(spec, found, trials_of(folder), log, console, begun=begun, stop=folder.stop_requested)
    count = search.last - search.number + 1
    if not search.pool.repeat:
        count = min(count, len(search.pool))
    feasible, refused = (sum(len(getattr(group, kind)) for group in found) for kind in ("feasible", "refused"))
    console.print(
        say(
            "{feasible} points fit, {refused} are never started; {count} trials of {seconds:g} s",
            feasible=feasible,
            refused=refused,
            count=count,
            seconds=spec.budget_s,
        )
    )
    if not count:
        return True
    scaling = placed.scaling
    resources = {"CPU": float(scaling.cpus_per_worker or 1), "GPU": float(scaling.gpus_per_worker or 0)}
    fixed = {
        "sweep": str(folder.path),
        "home": str(paths.home()),
        "threads": scaling.cpus_per_worker or 1,
        "objective": spec.objective,
    }
    wait_for_room(1, resources, console.print)
    work = folder.path / "tune"
    shutil.rmtree(work, ignore_errors=True)  # of an attempt that was killed
    tuner = tune.Tuner(
        tune.with_resources(_trial, resources),
        param_space=fixed,
        tune_config=tune.TuneConfig(
            metric="score",
            mode=DIRECTION[spec.objective],
            search_alg=search,
            scheduler=Halving(search),
            num_samples=count,
            max_concurrent_trials=placed.world,
            reuse_actors=False,  # a process of its own gives all its memory back
            trial_dirname_creator=lambda trial: f"trial-{trial.config['number']:03d}",
        ),
        run_config=tune.RunConfig(name=f"{time.time_ns()}", storage_path=str(work), verbose=0),
    )
    tuner.fit()
    shutil.rmtree(work, ignore_errors=True)
    if search.problem:
        raise OSError(
            say("{problem}\nMake room, then go on: minimind resume {name}", problem=search.problem, name=folder.name)
        )
    return search.whole


def remove_dead(folder: RunDirectory, begun: list[Event]) -> None:
    """Remove the folders of trials that have begun and not ended, but for those whose process is still alive."""
    for trial in begun:
        left = RunDirectory(trial_folder(folder, trial["trial"]))
        if not left.is_running:
            shutil.rmtree(left.path, ignore_errors=True)


def trial_folder(folder: RunDirectory, number: int) -> Path:
    """Where the trial of this number has its run."""
    return folder.path / "trials" / f"trial-{number:03d}"


def _trial(config: dict[str, Any]) -> dict[str, Any]:
    os.environ["MINIMIND_HOME"] = config["home"]
    torch.set_num_threads(config["threads"])
    folder = RunDirectory(Path(config["sweep"]), "sweep")
    objective: Objective = config["objective"]

    def scored(values: Mapping[str, Any]) -> dict[str, Any]:
        return {**values, "score": score(objective, values)}

    trial = trial_folder(folder, config["number"])
    try:
        spec = SweepSpec.model_validate(folder.spec())
        trial.parent.mkdir(exist_ok=True)
    except (OSError, ValueError) as error:  # such as a machine that does not have the folder
        return scored({"outcome": outcome_of(traceback.format_exc()), "reason": f"{socket.gethostname()}: {error}"})
    return scored(
        run_trial(spec.run, config["settings"], trial, spec.budget_s, lambda values: tune.report(scored(values)))
    )


def _quiet() -> None:
    """Tune and Optuna would tell the same in other words."""
    ray_private.quiet_tune()
    for name in ("ray.tune", "optuna"):
        logging.getLogger(name).setLevel(logging.ERROR)
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
