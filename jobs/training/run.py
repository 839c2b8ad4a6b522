"""`train STAGE`: from what is asked for to a finished run. This is what a Ray job executes; `--workers 0` needs no Ray.

A run goes through the steps of docs/design.md, and `start` lists them: resolve, place, plan, prepare, create, launch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from jobs import paths
from jobs.evaluation.after import evaluate_after
from jobs.fit.disk import disk_plan
from jobs.fit.plan import Planner, to_json
from jobs.fit.precision import decide_dtype, keep_dtype, with_dtype
from jobs.fit.view import choice_line, show_plan
from jobs.runs.directory import RunDirectory
from jobs.runs.progress import following
from jobs.runs.references import Weights, lasting_name
from jobs.runs.show import show
from jobs.stages import flags
from jobs.stages.adapter import adapter_lines
from jobs.stages.origin import first_weights, new_spec, require_weights, with_text
from jobs.stages.spec import CODE, FILES, NO_WEIGHTS, RunSpec, other_results
from jobs.stages.table import STAGES
from jobs.stages.trying import TryingSettings, next_commands
from jobs.text.prepare import Prepared, prepare, require_files
from jobs.training import launch
from jobs.training.build import known_bytes
from jobs.training.request import JobRequest
from minimind.checkpoints import folders as checkpoint_folders
from minimind.config import override
from minimind.events import read_events, standing
from minimind.language import say


def train(request: JobRequest, console: Console) -> int:
    """Start or continue a run of the stage, to its end, and show what came of it. Gives the exit status.

    Raises as `start` and `resume` do.
    """
    if request.from_resume:
        run = resume(request.name, resume_settings(request), console)
    else:
        weights = first_weights(request.settings)
        spec = new_spec(request.stage, request.settings, request.model, weights)
        run = start(spec, console, overwrite=request.overwrite, weights=weights, request=request)
    show(run, console, only=("alarms", "memory", "checkpoints", "samples", "files"))
    spec = RunSpec.model_validate(run.spec())
    for line in adapter_lines(spec):
        console.print(line)
    if run.state().word == "STOPPED":
        console.print(say("Next: {command}", command=f"minimind resume {spec.name}"))
    if run.state().word == "SUCCEEDED" and isinstance(spec.stage, TryingSettings):
        console.print(say("Next:"))
        for what, command in next_commands(spec, newest_is_best=newest_is_best(run, spec)):
            console.print(f"  # {what}", style="dim")
            console.print(f"  {command}", soft_wrap=True)
    return 0 if run.state().word in ("SUCCEEDED", "STOPPED") else 1


def newest_is_best(run: RunDirectory, spec: RunSpec) -> bool:
    """Whether none of the steps that a run has validated is better than the last of these, as its checkpoints stand."""
    found = standing(read_events(run.events_path, {"metrics", "state", "note"}))
    measured = [values[spec.eval.best] for _, values in sorted(found.items()) if spec.eval.best in values]
    best = min if spec.eval.best_is == "lowest" else max
    return not measured or measured[-1] == best(measured)


def start(
    spec: RunSpec,
    console: Console,
    *,
    overwrite: bool = False,
    weights: Weights | None = None,
    request: JobRequest | None = None,
    repeats: RunDirectory | None = None,
) -> RunDirectory:
    """A new run, to its end; its state says how it ended.

    weights: those that the spec names, where somebody has looked them up. request: what was asked for, where more than
    the spec is known: sizes may be chosen for a share of the card. repeats: the run that this one does again, with its
    tokenizer.

    Raises ValueError for settings, data or clusters that cannot work, RunStateError for a name that is taken.
    """
    run = RunDirectory(paths.runs() / spec.name)
    run.require_free(overwrite=overwrite)
    require_weights(spec)

    asked, weights = resolve(spec, weights, console)
    require_files(asked)
    if request is not None and request.preset is not None:
        asked = choose_sizes(asked, request.preset, frozenset(request.settings), console)
    placed = decide_dtype(join_and_place(asked), console)
    plan = plan_or_refuse(placed, console)
    command = f"minimind {request.words()}" if request is not None else None
    tokenizer_of = checkpoint_folders.newest(repeats.checkpoints)[0] if repeats is not None else None
    prepared = prepare(
        placed, console, weights=weights, pipeline=launch.pipeline(), command=command, tokenizer_of=tokenizer_of
    )
    disk_plan(placed, run, console, known_bytes(placed, prepared))
    stored = with_measured(asked, placed)
    began_with = {"tokenizer": prepared.tokenizer_fingerprint, "weights": dict(prepared.weights)}
    if repeats is not None:
        began_with["repeats"] = {"run": repeats.name, "id": repeats.identity}
    identity = run.create(
        stored.model_dump(mode="json"), overwrite=overwrite, sources=prepared.sources, began_with=began_with
    )
    run.write_plan(plan)
    launch_and_follow(placed, prepared, run, identity, console)
    evaluate_after(run, placed, console)
    return run


def resume(name: str, settings: Mapping[str, Any], console: Console) -> RunDirectory:
    """Continue a run from its newest checkpoint, to its end; one that has succeeded is left as it is.

    Raises ValueError if there is no such run or a setting would change what is learnt, RunStateError if it is running.
    """
    try:
        run = RunDirectory.find(paths.runs(), name)
    except ValueError as error:
        # Also what somebody sees whose job was killed while it prepared the data.
        raise ValueError(
            say("{error}. Nothing can be continued yet: to start this run, leave --from_resume out", error=error)
        ) from None
    run.require_idle()
    identity = run.identity
    asked = resumed_spec(RunSpec.model_validate(run.spec()), settings)
    if run.state().word == "SUCCEEDED":
        console.print(say("The run {name!r} has finished already; nothing is left to do.", name=run.name))
        return run

    placed = decide_dtype(keep_dtype(join_and_place(asked), run), console)
    run.write_plan(plan_or_refuse(placed, console, shorter=False))
    own, _ = checkpoint_folders.newest(run.checkpoints)
    prepared = prepare(placed, console, own=own, pipeline=launch.pipeline())
    require_content(run, placed, prepared.sources)
    disk_plan(placed, run, console, known_bytes(placed, prepared))
    run.clear_stop()
    launch_and_follow(placed, prepared, run, identity, console)
    evaluate_after(run, placed, console)
    return run


def resume_settings(request: JobRequest) -> dict[str, Any]:
    """What a request to continue a run changes of it. Raises ValueError for what is for a new run alone."""
    if request.overwrite:
        raise ValueError(say("--from_resume 1 continues the run and --overwrite 1 deletes it: give one of them"))
    if request.preset is not None:
        raise ValueError(
            say(
                "--preset {preset} is for a new run; one that is continued keeps its sizes: leave it out",
                preset=request.preset,
            )
        )
    whole = not STAGES[request.stage].continues
    shape = _shape_settings(request.usual, whole=whole) if request.model else {}
    return {**shape, **request.settings}


def resolve(spec: RunSpec, weights: Weights | None, console: Console) -> tuple[RunSpec, Weights | None]:
    """The spec with nothing in it that may come to mean something else: paths as they are kept, weights by the step of
    their run, and the text that these have learnt from. The weights are looked up here, if nobody has, and handed on.
    """
    weights = weights or first_weights({"init_from": spec.init_from})
    changes = flags.kept(_places(spec)) | ({"init_from": weights.name} if weights is not None else {})
    changes |= {f"roles.{role}": lasting_name(named) for role, named in spec.roles.items()}
    return with_text(override(spec, changes), weights, console), weights


def with_measured(asked: RunSpec, placed: RunSpec) -> RunSpec:
    """The spec as a run keeps it. CPUs and GPUs that were left open stay so: the run may go on where there are more or
    fewer. The number of workers is part of the global batch, and what was measured here (the dtype) is true for the run
    wherever it goes on.
    """
    scaling = asked.scaling.model_copy(update={"workers": placed.scaling.workers})
    return with_dtype(asked, placed.loop.dtype).model_copy(update={"scaling": scaling})


def require_content(run: RunDirectory, spec: RunSpec, found: Mapping[str, str]) -> None:
    """Raise ValueError where a file of a run that goes on holds something else than when the run was created: it may
    lie elsewhere, it may not say something else. found: the sha256 of the files there are now, by setting.

    Of a run from before that was kept, the workers compare data.path with the checkpoint; the others may not move.
    """
    stored = RunSpec.model_validate(run.spec())
    for setting in FILES:
        now, then = flags.at(spec, setting), flags.at(stored, setting)
        if now is None and then is None:
            continue
        _require_same(run, setting, now, then, found)
        if now != then and (now is None or then is None or (not run.sources and setting != "data.path")):
            raise ValueError(
                say(
                    "{named}: the run has {then!r}, asked for is {now!r}; that both hold the same cannot be "
                    "seen, and a resumed run keeps its data: leave it out",
                    named=flags.named(setting),
                    then=then,
                    now=now,
                )
            )
    for setting, then in stored.stage.files.items():
        _require_same(run, setting, spec.stage.files[setting], then, found)


def _require_same(run: RunDirectory, setting: str, now: Any, then: Any, found: Mapping[str, str]) -> None:
    """Raise ValueError where the file of a setting holds something else than when the run was created. now, then: where
    it lies and lay.
    """
    known = run.sources.get(setting) if run.sources else None
    if known is not None and setting in found and found[setting] != known:
        raise ValueError(
            say(
                "{named}: {absolute} is not what the run {name!r} began with: its sha256 is {found}, it "
                "was {known} ({then}). Bring the old file back, or start a new run from these weights "
                "with --name OTHER --from_weight {name}@latest",
                named=flags.named(setting),
                absolute=paths.absolute(now),
                name=run.name,
                found=found[setting][:12],
                known=known[:12],
                then=then,
            )
        )


def launch_and_follow(spec: RunSpec, prepared: Prepared, run: RunDirectory, identity: str, console: Console) -> None:
    """Train and show it. Raises RunTakenError where another process took the run before it could begin."""
    with following(run, console):
        launch.launch(spec, prepared.model_copy(update={"identity": identity}), run, console.print)
    run.require_identity(identity)
    run.require_idle()


def resumed_spec(stored: RunSpec, settings: Mapping[str, Any]) -> RunSpec:
    """The stored spec with the settings of a resume, and with the accumulation that keeps its global batch.

    Raises ValueError for a setting that would change what is learnt.
    """
    stored = with_kept_paths(stored)
    spec = flags.apply(stored, lasting_settings(settings))
    changed = other_results(stored, spec)
    if changed:
        lines = [
            say(
                "{path}: the run has {then!r}, asked for is {now!r}",
                path=flags.named(path),
                then=flags.at(stored, path),
                now=flags.at(spec, path),
            )
            for path in changed
        ]
        raise ValueError(
            say("a resumed run keeps its settings, so that it ends as if it had never stopped:\n")
            + "\n".join(lines)
            + say(
                "\nLeave them out, or start a new run from its weights: --name OTHER --from_weight {name}@latest",
                name=stored.name,
            )
        )
    if spec.global_batch_size == stored.global_batch_size:
        return spec
    rows = spec.loop.batch_size * spec.world
    if "loop.accumulation_steps" in settings or stored.global_batch_size % rows:
        raise ValueError(
            say(
                "batch_size {batch_size} x accumulation_steps {accumulation_steps} x workers {world} is "
                "a global batch of {global_batch_size} rows; the run has {kept}, and a "
                "resumed run keeps it. Choose numbers whose product is {kept}",
                batch_size=spec.loop.batch_size,
                accumulation_steps=spec.loop.accumulation_steps,
                world=spec.world,
                global_batch_size=spec.global_batch_size,
                kept=stored.global_batch_size,
            )
        )
    accumulation = stored.global_batch_size // rows
    return spec.model_copy(update={"loop": spec.loop.model_copy(update={"accumulation_steps": accumulation})})


def plan_or_refuse(spec: RunSpec, console: Console, *, shorter: bool = True) -> dict[str, Any]:
    """The memory plan of a run on the device it gets, shown, as the run keeps it. Raises ValueError where it does not
    fit, with the nearest run that does. shorter: whether that may have shorter rows.
    """
    planner = Planner(launch.worker_card(spec, console.print))
    plan = planner.plan(spec)
    show_plan(plan, planner.card, spec, console)
    if plan.verdict == "does not fit":
        raise ValueError(planner.refusal(spec, shorter=shorter))
    return to_json(plan, planner.card)


def choose_sizes(spec: RunSpec, budget: str, given: frozenset[str], console: Console) -> RunSpec:
    """The run with the sizes that a preset's budget gives it, and what was chosen said. given: settings that stay."""
    placed = join_and_place(spec)
    card = launch.worker_card(placed, console.print)
    spec = with_dtype(spec, decide_dtype(placed, console).loop.dtype)
    result = Planner(card).choose(spec, budget, given)
    console.print(choice_line(spec, result, budget, card))
    return result


def _shape_settings(preset: RunSpec, *, whole: bool) -> dict[str, Any]:
    """The settings that `--model` stands for; where the shape is that of first weights, only what the name says."""
    if whole:
        return {"model": preset.model.model_dump()}
    return {f"model.{name}": getattr(preset.model, name) for name in ("hidden_size", "num_hidden_layers")}


def with_kept_paths(spec: RunSpec) -> RunSpec:
    """The spec with its paths as `paths.kept` keeps them; one from before they were has them absolute."""
    return override(spec, flags.kept(_places(spec)))


def _places(spec: RunSpec) -> dict[str, Any]:
    roles = [f"roles.{role}" for role in spec.roles]
    code = [CODE] if isinstance(spec.stage, TryingSettings) else []
    tools = {flags.TOOLS: list(flags.at(spec, flags.TOOLS))} if spec.stage.files else {}
    return {path: flags.at(spec, path) for path in (*FILES, *code, *flags.RUNS_OR_FOLDERS, *roles)} | tools


def lasting_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with nothing in them that may come to mean something else: every path absolute, or below
    MINIMIND_HOME relative to it, and weights by the step of their run. Raises ValueError if there are no such weights.
    """
    result = flags.kept(settings)
    if result.get("init_from") not in (None, "null", NO_WEIGHTS):
        result["init_from"] = lasting_name(result["init_from"])
    return result | {path: lasting_name(str(text)) for path, text in result.items() if path.startswith("roles.")}


def join_and_place(spec: RunSpec) -> RunSpec:
    """The spec with its workers decided, and this process joined to the cluster that will run them."""
    if spec.scaling.workers == 0:
        return spec
    return launch.join(spec)
