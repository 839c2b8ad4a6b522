"""`train STAGE`: from flags to a finished run. This is what a Ray job executes; `--workers 0` does it without Ray."""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console

from jobs import flags, launch, paths
from jobs.prepare import disk_plan, prepare
from jobs.presets import DEFAULT_MODEL
from jobs.progress import following
from jobs.runs import RunDirectory
from jobs.show import show
from jobs.spec import RunSpec
from jobs.stages import STAGES

MAY_CHANGE = (
    "scaling",
    "data.num_workers",
    "loop.batch_size",
    "loop.accumulation_steps",
    "loop.log_interval",
    "loop.save_interval",
    "loop.eval_interval",
    "loop.keep_last",
    "loop.keep_best",
)
"""What a resumed run may change: none of it changes what is learnt, as long as the global batch stays what it was."""


def from_arguments(args: argparse.Namespace, console: Console) -> int:
    """Run the stage that the command line describes, to its end. Gives the exit status."""
    settings = flags.changes(args)
    preset = STAGES[args.stage].preset(args.model or DEFAULT_MODEL)
    if args.from_resume:
        changed = settings | ({"model": preset.model} if args.model else {})
        run = resume(settings.get("name", preset.name), changed, console)
    else:
        run = start(with_paths(flags.apply(preset, settings)), console, overwrite=args.overwrite)
    show(run, console, only=("checkpoints", "samples", "files"))
    return 0 if run.state().word in ("SUCCEEDED", "STOPPED") else 1


def start(spec: RunSpec, console: Console, *, overwrite: bool = False) -> RunDirectory:
    """A new run, to its end; its state says how it ended.

    Raises ValueError for settings, data or clusters that cannot work, RunStateError for a name that is taken.
    """
    run = RunDirectory(paths.runs() / spec.name)
    run.require_free(overwrite=overwrite)
    spec = _placed(spec)
    prepared = prepare(spec, console)
    disk_plan(spec, run, console)
    run.create(spec.model_dump(mode="json"), overwrite=overwrite)
    with following(run, console):
        launch.launch(spec, prepared, run)
    return run


def resume(name: str, settings: dict[str, Any], console: Console) -> RunDirectory:
    """Continue a run from its newest checkpoint, to its end; one that has succeeded is left as it is.

    Raises ValueError if there is no such run or a setting would change what is learnt, RunStateError if it is running.
    """
    run = RunDirectory.find(paths.runs(), name)
    spec = resumed(RunSpec.model_validate(run.spec()), settings)
    run.require_idle()
    if run.state().word == "SUCCEEDED":
        console.print(f"The run {run.name!r} has finished already; nothing is left to do.")
        return run
    spec = _placed(spec)
    prepared = prepare(spec, console)
    disk_plan(spec, run, console)
    run.clear_stop()
    with following(run, console):
        launch.launch(spec, prepared, run)
    return run


def with_paths(spec: RunSpec) -> RunSpec:
    """The spec with every path absolute; relative ones count from MINIMIND_HOME."""
    data = spec.data.model_copy(update={"path": str(paths.absolute(spec.data.path))})
    held_out = spec.eval
    if held_out.path is not None:
        held_out = held_out.model_copy(update={"path": str(paths.absolute(held_out.path))})
    return spec.model_copy(update={"data": data, "eval": held_out})


def resumed(stored: RunSpec, settings: dict[str, Any]) -> RunSpec:
    """The stored spec with the settings of a resume, and with the accumulation that keeps its global batch.

    Raises ValueError for a setting that would change what is learnt.
    """
    spec = with_paths(flags.apply(stored, settings))
    changed = [path for path in _differences(stored.model_dump(), spec.model_dump()) if not path.startswith(MAY_CHANGE)]
    if changed:
        lines = [f"{path}: the run has {_at(stored, path)!r}, asked for is {_at(spec, path)!r}" for path in changed]
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


def _placed(spec: RunSpec) -> RunSpec:
    """The spec with its workers decided, and this process joined to the cluster that will run them."""
    if spec.scaling.workers == 0:
        return spec
    launch.connect()
    return launch.resolve_scaling(spec)


def _differences(old: Any, new: Any, path: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [line for key in old for line in _differences(old[key], new[key], f"{path}.{key}" if path else key)]
    return [] if old == new else [path]


def _at(spec: RunSpec, path: str) -> Any:
    node: Any = spec
    for part in path.split("."):
        node = getattr(node, part)
    return node
