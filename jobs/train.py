"""`train STAGE`: from settings to a finished run. This is what a Ray job executes; `--workers 0` needs no Ray."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

import minimind.checkpoint as checkpoints
from jobs import flags, launch, paths
from jobs.adapter import adapter_lines
from jobs.origin import new_spec, require_weights, with_text
from jobs.plan import Planner, to_json
from jobs.plan_view import choice_line, show_plan
from jobs.prepare import disk_plan, prepare
from jobs.presets import DEFAULT_MODEL
from jobs.progress import following
from jobs.references import pinned
from jobs.runs import RunDirectory
from jobs.show import show
from jobs.spec import NO_WEIGHTS, RunSpec
from jobs.stages import STAGES
from minimind.config import override

MAY_CHANGE = (
    "scaling",
    "data.num_workers",
    "data.limits",
    "loop.batch_size",
    "loop.accumulation_steps",
    "loop.activation_checkpointing",
    "loop.out_of_memory",
    "loop.log_interval",
    "loop.save_interval",
    "loop.eval_interval",
    "loop.keep_last",
    "loop.keep_best",
    "loop.max_bad_steps",
    "eval.prompts",
    "eval.sample_tokens",
    "memory",
)
"""What a resumed run may change: none of it changes what is learnt, as long as the global batch stays what it was."""


def train(
    stage: str,
    settings: Mapping[str, Any],
    console: Console,
    *,
    model: str | None = None,
    budget: str | None = None,
    from_resume: bool = False,
    overwrite: bool = False,
) -> int:
    """Start or continue a run of the stage, to its end, and show what came of it. Gives the exit status.

    model: a name in MODEL_PRESETS. budget: a name in BUDGETS, for which sizes are chosen that `settings` leave open.
    Raises as `start` and `resume` do.
    """
    preset = STAGES[stage].preset(model or DEFAULT_MODEL)
    if from_resume:
        if overwrite:
            raise ValueError("--from_resume 1 continues the run and --overwrite 1 deletes it: give one of them")
        if budget is not None:
            raise ValueError(f"--preset {budget} is for a new run; one that is continued keeps its sizes: leave it out")
        name = settings.get("name", preset.name)
        shape = _shape_settings(preset, whole=not STAGES[stage].continues) if model else {}
        run = resume(name, {**shape, **settings}, console)
    else:
        spec = new_spec(stage, settings, model)
        if budget is not None:
            RunDirectory(paths.runs() / spec.name).require_free(overwrite=overwrite)
            spec = chosen(spec, budget, frozenset(settings), console)
        run = start(spec, console, overwrite=overwrite)
    show(run, console, only=("memory", "checkpoints", "samples", "files"))
    for line in adapter_lines(RunSpec.model_validate(run.spec())):
        console.print(line)
    return 0 if run.state().word in ("SUCCEEDED", "STOPPED") else 1


def start(spec: RunSpec, console: Console, *, overwrite: bool = False) -> RunDirectory:
    """A new run, to its end; its state says how it ended.

    Raises ValueError for settings, data or clusters that cannot work, RunStateError for a name that is taken.
    """
    run = RunDirectory(paths.runs() / spec.name)
    run.require_free(overwrite=overwrite)
    require_weights(spec)
    asked = anchored(spec, console)
    spec = _placed(asked)
    plan = planned(spec, console)
    prepared = prepare(spec, console, pipeline=launch.pipeline())
    disk_plan(spec, run, console)
    # CPUs and GPUs that were left open stay so: the run may go on where there are more or fewer. The number of workers
    # is part of the global batch.
    scaling = asked.scaling.model_copy(update={"workers": spec.scaling.workers})
    run.create(asked.model_copy(update={"scaling": scaling}).model_dump(mode="json"), overwrite=overwrite)
    run.write_plan(plan)
    with following(run, console):
        launch.launch(spec, prepared, run, console.out)
    return run


def resume(name: str, settings: Mapping[str, Any], console: Console) -> RunDirectory:
    """Continue a run from its newest checkpoint, to its end; one that has succeeded is left as it is.

    Raises ValueError if there is no such run or a setting would change what is learnt, RunStateError if it is running.
    """
    try:
        run = RunDirectory.find(paths.runs(), name)
    except ValueError as error:
        # Also what somebody sees whose job was killed while it prepared the data.
        raise ValueError(f"{error}. Nothing can be continued yet: to start this run, leave --from_resume out") from None
    run.require_idle()
    spec = resumed(RunSpec.model_validate(run.spec()), settings)
    if run.state().word == "SUCCEEDED":
        console.print(f"The run {run.name!r} has finished already; nothing is left to do.")
        return run
    spec = _placed(spec)
    run.write_plan(planned(spec, console, shorter=False))
    own, _ = checkpoints.newest(run.checkpoints)
    prepared = prepare(spec, console, own=own, pipeline=launch.pipeline())
    disk_plan(spec, run, console)
    run.clear_stop()
    with following(run, console):
        launch.launch(spec, prepared, run, console.out)
    return run


def resumed(stored: RunSpec, settings: Mapping[str, Any]) -> RunSpec:
    """The stored spec with the settings of a resume, and with the accumulation that keeps its global batch.

    Raises ValueError for a setting that would change what is learnt.
    """
    spec = flags.apply(stored, anchored_settings(settings))
    changed = [path for path in differences(stored.model_dump(), spec.model_dump()) if not path.startswith(MAY_CHANGE)]
    if changed:
        lines = [
            f"{flags.named(path)}: the run has {flags.at(stored, path)!r}, asked for is {flags.at(spec, path)!r}"
            for path in changed
        ]
        raise ValueError(
            "a resumed run keeps its settings, so that it ends as if it had never stopped:\n"
            + "\n".join(lines)
            + f"\nLeave them out, or start a new run from its weights: --name OTHER --from_weight {stored.name}@latest"
        )
    if spec.global_batch_size == stored.global_batch_size:
        return spec
    rows = spec.loop.batch_size * spec.world
    if "loop.accumulation_steps" in settings or stored.global_batch_size % rows:
        raise ValueError(
            f"batch_size {spec.loop.batch_size} x accumulation_steps {spec.loop.accumulation_steps} x workers "
            f"{spec.world} is a global batch of {spec.global_batch_size} rows; the run has {stored.global_batch_size}, "
            f"and a resumed run keeps it. Choose numbers whose product is {stored.global_batch_size}"
        )
    accumulation = stored.global_batch_size // rows
    return spec.model_copy(update={"loop": spec.loop.model_copy(update={"accumulation_steps": accumulation})})


def planned(spec: RunSpec, console: Console, *, shorter: bool = True) -> dict[str, Any]:
    """The memory plan of a run on the device it gets, shown, as the run keeps it. Raises ValueError where it does not
    fit, with the nearest run that does. shorter: whether that may have shorter rows.
    """
    planner = Planner(launch.worker_card(spec, console.out))
    plan = planner.plan(spec)
    show_plan(plan, planner.card, spec, console)
    if plan.verdict == "does not fit":
        raise ValueError(planner.refusal(spec, shorter=shorter))
    return to_json(plan, planner.card)


def chosen(spec: RunSpec, budget: str, given: frozenset[str], console: Console) -> RunSpec:
    """The run with the sizes that a preset's budget gives it, and what was chosen said. given: settings that stay."""
    card = launch.worker_card(_placed(spec), console.out)
    result = Planner(card).choose(spec, budget, given)
    console.print(choice_line(spec, result, budget, card))
    return result


def _shape_settings(preset: RunSpec, *, whole: bool) -> dict[str, Any]:
    """The settings that `--model` stands for; where the shape is that of first weights, only what the name says."""
    if whole:
        return {"model": preset.model.model_dump()}
    return {f"model.{name}": getattr(preset.model, name) for name in ("hidden_size", "num_hidden_layers")}


def anchored(spec: RunSpec, console: Console) -> RunSpec:
    """The spec with nothing in it that may come to mean something else, and the text its weights learnt from."""
    places = {path: flags.at(spec, path) for path in (*flags.FILES, *flags.RUNS_OR_FOLDERS)}
    return with_text(override(spec, anchored_settings(places)), console)


def anchored_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with nothing in them that may come to mean something else: every path absolute (relative ones count
    from MINIMIND_HOME), and weights by the step of their run. Raises ValueError if there are no such weights.
    """
    result = flags.absolute(settings, paths.home())
    if result.get("init_from") not in (None, "null", NO_WEIGHTS):
        result["init_from"] = pinned(result["init_from"])
    return result


def _placed(spec: RunSpec) -> RunSpec:
    """The spec with its workers decided, and this process joined to the cluster that will run them."""
    if spec.scaling.workers == 0:
        return spec
    return launch.join(spec)


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """The dotted paths at which two trees of settings differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [line for key in old for line in differences(old[key], new[key], f"{path}.{key}" if path else key)]
    return [] if old == new else [path]
