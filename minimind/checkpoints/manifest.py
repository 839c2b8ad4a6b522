"""The manifest of a checkpoint folder: the size and sha256 of all that was written, without which nothing is loaded."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minimind.language import say

SCHEMA_VERSION = 1
WEIGHTS, TRAIN_STATE, MANIFEST = "model.safetensors", "train_state.pt", "manifest.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"

Manifest = dict[str, Any]
"""The content of manifest.json, see docs/run-directory.md."""

SELF = "manifest_sha256"
"""The entry that holds the sha256 of all others."""


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written, or must not be loaded; the message says which file, why and what to do."""


@dataclass(frozen=True)
class Base:
    """A checkpoint that another one needs: the weights below an adapter, or those of a frozen role.

    run_id, step: which one. folder: its absolute path then. weights_sha256: of its weights file, which decides whether
    a folder is this checkpoint.
    """

    run_id: str
    step: int
    folder: str
    weights_sha256: str


def verify(folder: Path) -> Manifest:
    """The manifest of a checkpoint whose every file is there with the size and sha256 that were written.

    Raises CheckpointError that names the file, what was expected and what was found.
    """
    where = folder.absolute()
    if not folder.is_dir():
        near = sorted(path.name for path in folder.parent.glob("step_*[0-9]") if path.is_dir())
        there = (
            say("checkpoints beside it: {near}", near=", ".join(near))
            if near
            else say("{parent} holds no checkpoint", parent=where.parent)
        )
        raise CheckpointError(say("there is no checkpoint folder {where}; {there}", where=where, there=there))
    if not (folder / MANIFEST).is_file():
        raise CheckpointError(
            say(
                "{where} has no {manifest}, so it is not a complete checkpoint of this system (a "
                "Hugging Face folder or an upstream file must be imported by `minimind convert` first)",
                where=where,
                manifest=MANIFEST,
            )
        )
    manifest = read_manifest(folder)
    for name, expected in manifest["files"].items():
        file = folder / name
        if not file.is_file():
            raise CheckpointError(
                say(
                    "{where}: {name} is missing; the manifest lists it with {bytes} bytes",
                    where=where,
                    name=name,
                    bytes=expected["bytes"],
                )
            )
        if (actual := file.stat().st_size) != expected["bytes"]:
            raise CheckpointError(
                say(
                    "{where}: {name} has {actual} bytes, {bytes} were written",
                    where=where,
                    name=name,
                    actual=actual,
                    bytes=expected["bytes"],
                )
            )
        if (digest := sha256_of(file)) != expected["sha256"]:
            raise CheckpointError(
                say(
                    "{where}: {name} is damaged: sha256 is {digest}, {sha256} was written. Take another "
                    "checkpoint, or copy this one again from where it came",
                    where=where,
                    name=name,
                    digest=digest,
                    sha256=expected["sha256"],
                )
            )
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest alone, checked against its own sha256; the other files are not looked at. Raises CheckpointError."""
    file = folder / MANIFEST
    try:
        manifest: Manifest = json.loads(file.read_text("utf-8"))
        digest = manifest.pop(SELF)
        version = manifest["schema_version"]
    except (ValueError, KeyError, AttributeError, TypeError, OSError) as error:
        raise CheckpointError(
            say("{file} cannot be read as a manifest, it is damaged ({error!r})", file=file.absolute(), error=error)
        ) from error
    if version != SCHEMA_VERSION:
        raise CheckpointError(
            say(
                "{file} has schema_version {version!r}; this program reads {schema_version}: use the "
                "version of this program that wrote it",
                file=file.absolute(),
                version=version,
                schema_version=SCHEMA_VERSION,
            )
        )
    if digest != (actual := manifest_sha256(manifest)):
        raise CheckpointError(
            say(
                "{file} is damaged: its sha256 is {actual}, {digest} was written",
                file=file.absolute(),
                actual=actual,
                digest=digest,
            )
        )
    return manifest


def weights_sha256(folder: Path) -> str:
    """The sha256 of the weights file, an adapter's or a model's, as the manifest has it: equal for equal weights."""
    manifest = read_manifest(folder)
    return str(manifest["files"][weights_file(manifest)]["sha256"])


def base_in(manifest: Manifest) -> Base | None:
    """The base in the manifest of an adapter, None in that of a whole model."""
    values = manifest.get("base")
    return Base(**{name: values[name] for name in Base.__dataclass_fields__}) if values is not None else None


def weights_file(manifest: Manifest) -> str:
    """The name of the file with the weights."""
    return WEIGHTS if base_in(manifest) is None else ADAPTER_WEIGHTS


def manifest_sha256(manifest: Manifest) -> str:
    """What a manifest says of itself."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """Of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Let a file, or the names in a folder, outlast a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
