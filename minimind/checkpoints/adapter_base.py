"""The checkpoint that an adapter needs below it: recorded when it is trained, found again where both were moved."""

from __future__ import annotations

from pathlib import Path

from minimind.checkpoints.manifest import (
    MANIFEST,
    WEIGHTS,
    Base,
    CheckpointError,
    base_in,
    read_manifest,
    weights_sha256,
)
from minimind.language import say


def base_of(folder: Path) -> Base:
    """The checkpoint in `folder` as the base of a new adapter. Raises CheckpointError if it is an adapter itself."""
    manifest = read_manifest(folder)
    where = folder.absolute()
    if (base := base_in(manifest)) is not None:
        raise CheckpointError(
            say(
                "{where} is an adapter, and an adapter needs a whole model below it: take its base, "
                "step {step} of the run {run_id!r} in {folder}, or train all weights from the adapter",
                where=where,
                step=base.step,
                run_id=base.run_id,
                folder=base.folder,
            )
        )
    return Base(manifest["run_id"], manifest["step"], str(where), manifest["files"][WEIGHTS]["sha256"])


def reference_of(folder: Path) -> Base:
    """The checkpoint in `folder` as the model of a frozen role; of an adapter, its own weights tell which one it is."""
    manifest = read_manifest(folder)
    return Base(manifest["run_id"], manifest["step"], str(folder.absolute()), weights_sha256(folder))


def find_base(folder: Path) -> Path:
    """Where the base of the adapter in `folder` is: where it was, or at the same place beside the adapter.

    The second finds it when both were moved together: two folders side by side, or all runs. The base's weights must
    have the recorded sha256; its files are not read. Raises CheckpointError that says where was looked and what was
    found there.
    """
    manifest = read_manifest(folder)
    where = folder.absolute()
    if (base := base_in(manifest)) is None:
        raise CheckpointError(say("{where} is no adapter: it has a whole model, and no base", where=where))
    recorded = Path(base.folder)
    beside = [parent.joinpath(*recorded.parts[-depth:]) for depth, parent in enumerate(where.parents, 1)][:3]
    looked = list(dict.fromkeys([recorded, *beside]))
    found = []
    for place in looked:
        if not (place / MANIFEST).is_file():
            continue
        try:
            there = read_manifest(place)
        except CheckpointError as error:
            found.append(str(error))
            continue
        if base_in(there) is not None:  # the step of the same number in the adapter's own run
            continue
        weights = there["files"][WEIGHTS]["sha256"]
        if weights == base.weights_sha256:
            return place
        found.append(say("the weights of {place} have the sha256 {weights}", place=place, weights=weights))
    what = say(
        "{where} is an adapter for step {step} of the run {run_id!r}, whose weights have the sha256",
        where=where,
        step=base.step,
        run_id=base.run_id,
    )
    if found:
        raise CheckpointError(
            say(
                "{what} {weights_sha256}; {found}. On other weights the adapter would compute "
                "nonsense: bring the old checkpoint back, or train the adapter anew on the one that "
                "is there",
                what=what,
                weights_sha256=base.weights_sha256,
                found="; ".join(found),
            )
        )
    raise CheckpointError(
        say(
            "{what} {weights_sha256}; it is in none of {str}. Copy it to one of these places: "
            "without its base an adapter is not a model",
            what=what,
            weights_sha256=base.weights_sha256,
            str=", ".join(map(str, looked)),
        )
    )
