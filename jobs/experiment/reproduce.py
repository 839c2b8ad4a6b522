"""A run's spec run again, from the same first weights and tokenizer, and whether the same bits come out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan

from rich.console import Console

from data.prepare import content_sha256
from jobs import paths
from jobs.experiment.facts import Facts, at, begins, facts_of, find, spec_of
from jobs.fit.precision import keep_dtype
from jobs.runs.directory import RunDirectory, RunStateError
from jobs.runs.references import Weights, find_weights
from jobs.stages.spec import RunSpec
from jobs.training.request import JobRequest
from jobs.training.run import resume, start
from minimind.checkpoints import folders as checkpoint_folders
from minimind.checkpoints.manifest import CheckpointError, read_manifest, weights_sha256
from minimind.language import say

ENDING = "-again"
"""Of the name of a repetition, unless it is given one."""

_NOT_COMPARED = ("command", "typed", "commit", "source")
"""Of the environment. The sources decide whether the program is the same: a commit is named with them."""

Losses = tuple[int, float, float]
"""A step, and the loss of the one and of the other there."""


@dataclass(frozen=True)
class Comparison:
    """Two runs of one spec, side by side.

    steps: those at which both saved, and whose weights were compared. first: of them the first at which the weights
    differ, None where all are the same. missing: the last that the first run saved, where the other has not saved it.
    environment: name -> both values, where they differ. losses: the last that both measured up to `first`, by metric;
    loss_from: the first step at which a loss that was logged differs.
    """

    steps: tuple[int, ...]
    first: int | None
    environment: Mapping[str, tuple[str, str]]
    losses: Mapping[str, Losses]
    loss_from: int | None
    missing: int | None = None

    @property
    def same(self) -> bool:
        """Whether the same bits came out, to the end."""
        return bool(self.steps) and self.first is None and self.missing is None


def reproduce(request: JobRequest, console: Console) -> int:
    """Do what is asked for, and say what came of it. Gives the exit status: 0 for the same bits.

    Raises ValueError or RunStateError where the run cannot be repeated.
    """
    assert request.repeats is not None
    run, other = find(request.repeats), RunDirectory(paths.runs() / request.name)
    spec = require_repeatable(run)
    require_its_name(run, other)
    again = _trained(run, other, spec, request, console)
    if (state := again.state()).word != "SUCCEEDED":
        console.print(
            say(
                "The repetition {name!r} has not come to its end: {word} {reason}",
                name=again.name,
                word=state.word,
                reason=state.reason,
            ).rstrip()
        )
    result = compare(facts_of(run), facts_of(again))
    for line in told(result, run.name, again.name):
        console.print(line)
    return 0 if result.same and state.word == "SUCCEEDED" else 1


def _trained(
    run: RunDirectory, other: RunDirectory, spec: RunSpec, request: JobRequest, console: Console
) -> RunDirectory:
    """The repetition at its end: begun, or where it stopped or died gone on with."""
    if other.exists and checkpoint_folders.steps(other.checkpoints):
        return resume(other.name, {}, console)
    again = keep_dtype(spec, run).model_copy(update={"name": other.name})
    weights = find_weights(spec.weights) if spec.weights is not None else None
    return start(again, console, overwrite=other.exists, weights=weights, request=request, repeats=run)


def require_repeatable(run: RunDirectory) -> RunSpec:
    """The spec of a run that can be run again.

    Raises RunStateError for one that still trains, ValueError for one that has no spec or no checkpoint to compare
    with, and where its data or its first weights are gone or are not what they were.
    """
    spec = spec_of(run)
    if run.is_running:
        raise RunStateError(
            say("the run {name!r} is still training: it can be repeated once it has come to its end", name=run.name)
        )
    facts = facts_of(run)
    if not weights_by_step(facts):
        raise ValueError(
            say(
                "the run {name!r} has saved no checkpoint that a repetition could be compared with ({path})",
                name=run.name,
                path=run.checkpoints,
            )
        )
    if not checkpoint_folders.newest(run.checkpoints)[0]:
        raise ValueError(
            say(
                "the run {name!r} has no whole checkpoint left, from which a repetition takes its tokenizer ({path})",
                name=run.name,
                path=run.checkpoints,
            )
        )
    for setting, (text, known) in facts.files.items():
        path = paths.absolute(text)
        if not path.exists():
            raise ValueError(
                say(
                    "{setting}: {path} is gone, and without it the run {name!r} cannot be repeated. Bring it back; its "
                    "sha256 is {known}",
                    setting=setting,
                    path=path,
                    name=run.name,
                    known=known or say("not known"),
                )
            )
        if known and (found := content_sha256(path)) != known:
            raise ValueError(
                say(
                    "{setting}: {path} is not what the run {name!r} read: its sha256 is {found}, it was {known}. Bring "
                    "the old file back",
                    setting=setting,
                    path=path,
                    name=run.name,
                    found=found,
                    known=known,
                )
            )
    _require_weights(run, spec)
    return spec


def _require_weights(run: RunDirectory, spec: RunSpec) -> None:
    """Raise ValueError unless all weights that the run began with are there and the same."""
    named = {f"roles.{role}": text for role, text in spec.roles.items()}
    if spec.weights is not None:
        named["init_from"] = spec.weights
    known: Mapping[str, str] = run.began_with.get("weights", {})
    for setting, text in named.items():
        try:
            weights: Weights = find_weights(text)
            found = weights_sha256(weights.folder)
        except (ValueError, CheckpointError) as error:
            raise ValueError(
                say(
                    "{setting} = {text}: the weights that the run {name!r} began with are gone, and without them it "
                    "cannot be repeated. {error}",
                    setting=setting,
                    text=text,
                    name=run.name,
                    error=error,
                )
            ) from None
        if setting in known and found != known[setting]:
            raise ValueError(
                say(
                    "{setting} = {text}: these are not the weights that the run {name!r} began with: their sha256 is "
                    "{found}, it was {known}",
                    setting=setting,
                    text=text,
                    name=run.name,
                    found=found,
                    known=known[setting],
                )
            )


def require_its_name(run: RunDirectory, other: RunDirectory) -> None:
    """Raise RunStateError where the name of the repetition is that of another run."""
    if not other.exists:
        other.require_free()
        return
    other.require_idle()
    if at(other.began_with, "repeats.id") != run.identity or not run.identity:
        raise RunStateError(
            say(
                "there is a run {other!r} already, and it is no repetition of {name!r}: give this one another name, "
                "minimind reproduce {name} --name OTHER",
                other=other.name,
                name=run.name,
            )
        )


def weights_by_step(facts: Facts) -> dict[int, str]:
    """The sha256 of the weights of every checkpoint that a run saved, those it removed again too."""
    found: dict[int, str] = {}
    for event in facts.events:
        if begins(event):  # what the attempt before it saved above its first step is saved anew
            found = {step: digest for step, digest in found.items() if step <= event.get("step", 0)}
        elif event["type"] == "checkpoint" and "weights_sha256" in event:
            found[event["step"]] = event["weights_sha256"]
    for step in checkpoint_folders.steps(facts.run.checkpoints):  # of a run from before events had it
        try:
            found.setdefault(step, weights_sha256(checkpoint_folders.folder_of(facts.run.checkpoints, step)))
        except CheckpointError:
            continue
    return found


def compare(one: Facts, other: Facts) -> Comparison:
    """Two runs of one spec, side by side."""
    mine, its = weights_by_step(one), weights_by_step(other)
    steps = sorted(mine.keys() & its.keys())
    first = next((step for step in steps if mine[step] != its[step]), None)
    losses: dict[str, Losses] = {}
    apart: list[int] = []
    if first is not None:
        for name in ("train/loss", "val/loss"):
            pairs = _both(one, other, name)
            if up_to := [pair for pair in pairs if pair[0] <= first]:
                losses[name] = up_to[-1]
            apart += [step for step, a, b in pairs if a != b and not (isnan(a) and isnan(b))]
    environment = _differing(_told_of(one), _told_of(other))
    missing = max(mine) if mine and max(mine) not in its else None
    return Comparison(tuple(steps), first, environment, losses, min(apart, default=None), missing)


def _both(one: Facts, other: Facts, name: str) -> list[Losses]:
    """The steps at which both measured a metric, and what each found."""
    mine, its = (dict(zip(*facts.series.get(name, ([], [])), strict=True)) for facts in (one, other))
    return [(step, mine[step], its[step]) for step in sorted(mine.keys() & its.keys())]


def _told_of(facts: Facts) -> dict[str, str]:
    """What may be why a run ends otherwise: its environment, and what was read, though files of older runs have no
    sha256; and how often memory ran out, after which sums are added up in smaller parts.
    """
    found = dict(facts.environment)
    folder, _ = checkpoint_folders.newest(facts.run.checkpoints)
    if folder is not None:
        manifest = read_manifest(folder)
        found |= {f"{name}_fingerprint": str(manifest[f"{name}_fingerprint"]) for name in ("data", "tokenizer")}
    found["out_of_memory"] = str(sum(event.get("kind") == "out_of_memory" for event in facts.events))
    return found


def _differing(one: Mapping[str, str], other: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """The lines in which two runs differ; what only one of them has kept says nothing."""
    shared = [name for name in one if name in other and name not in _NOT_COMPARED]
    found = {name: (one[name], other[name]) for name in shared if one[name] != other[name]}
    if one.get("source") != other.get("source"):
        found["program"] = (_program(one), _program(other))
    return found


def _program(kept: Mapping[str, str]) -> str:
    return f"{kept.get('commit', '?')} ({kept.get('source', '?')})"


def told(result: Comparison, name: str, other: str) -> list[str]:
    """What a comparison says, line by line."""
    if not result.steps:
        return [say("{name} and {other} have no step in common whose weights were kept.", name=name, other=other)]
    if result.first is None and result.missing is not None:
        return [
            say(
                "The same bits up to step {last}, but not to the end: {name} went on to step {missing}, which {other} "
                "has not saved.",
                name=name,
                other=other,
                last=result.steps[-1],
                missing=result.missing,
            )
        ]
    if result.first is None:
        return [
            say(
                "The same bits: {name} and {other} have the same weights at all {count} steps that were saved "
                "({first} to {last}).",
                name=name,
                other=other,
                count=len(result.steps),
                first=result.steps[0],
                last=result.steps[-1],
            )
        ]
    lines = [say("Not the same bits: the weights of {name} and {other} differ.", name=name, other=other)]
    if result.environment:
        lines.append(say("What else differs, and may be why:"))
        lines += [f"  {key}: {mine}  |  {its}" for key, (mine, its) in result.environment.items()]
    else:
        lines.append(say("Nothing that was kept of the machines and the programs differs."))
    before = [step for step in result.steps if step < result.first]
    lines.append(
        say(
            "The first checkpoint that differs is that of step {step}; that of step {before} is still the same.",
            step=result.first,
            before=before[-1],
        )
        if before
        else say("Already the first checkpoint differs, that of step {step}.", step=result.first)
    )
    lines += [
        say(
            "{metric} at step {step}: {mine:.6g} and {its:.6g}, {apart:.2g} apart",
            metric=metric,
            step=step,
            mine=mine,
            its=its,
            apart=abs(mine - its),
        )
        for metric, (step, mine, its) in result.losses.items()
    ]
    if result.loss_from is not None:
        lines.append(say("Losses differ from step {step} on.", step=result.loss_from))
    return lines
