"""Checkpoint folders: written whole or not at all, and never loaded unless every byte is as it was written.

A checkpoint is written to `step_….partial`, synced to the disk, and renamed. `manifest.json`, the last file written,
holds the size and sha256 of every other file and of itself. The folder is also a Hugging Face model folder, which
transformers, vLLM and llama.cpp read as it is, or an adapter folder of PEFT's. docs/run-directory.md describes both.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from minimind.convert import from_hf_config, to_hf_config
from minimind.lora import (
    LoraConfig,
    adapter_state,
    attach,
    detach,
    from_peft_config,
    load_adapter,
    merge,
    to_peft_config,
)
from minimind.model import MiniMind, ModelConfig
from minimind.sampling import Sampling
from minimind.tokenizer import Tokenizer
from minimind.units import size

SCHEMA_VERSION = 1
WEIGHTS, TRAIN_STATE, MANIFEST = "model.safetensors", "train_state.pt", "manifest.json"
GENERATION_CONFIG = "generation_config.json"
ADAPTER_WEIGHTS, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"

Manifest = dict[str, Any]
"""The content of manifest.json, see docs/run-directory.md."""

_FOLDER = re.compile(r"step_(\d{8,})(\.replaced)?")
_SMALL_FILES_BYTES = 8_000_000  # tokenizer, JSON files, archive headers: generously
_SELF = "manifest_sha256"


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written, or must not be loaded; the message says which file, why and what to do."""


@dataclass(frozen=True)
class Lineage:
    """Where a checkpoint comes from.

    run_id: the run that writes it. parent_run, parent_step: the checkpoint its first weights were taken from, None if
    they were drawn at random. data_fingerprint: of the training data, None where there is no fixed set.
    """

    run_id: str
    parent_run: str | None = None
    parent_step: int | None = None
    data_fingerprint: str | None = None


@dataclass(frozen=True)
class Base:
    """The checkpoint whose weights an adapter was trained beside.

    run_id, step: which one. folder: its absolute path then. weights_sha256: of its weights file, which decides whether
    a folder is this checkpoint.
    """

    run_id: str
    step: int
    folder: str
    weights_sha256: str


@dataclass(frozen=True)
class Adapter:
    """What makes a checkpoint one of an adapter: its settings, and the base that it needs."""

    config: LoraConfig
    base: Base


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint in memory.

    weights: fp32 on the CPU; those of the adapter alone, under PEFT's names, where `adapter` is not None.
    train_state: None if it was not asked for.
    """

    folder: Path
    step: int
    lineage: Lineage
    tokenizer_fingerprint: str
    model_config: ModelConfig
    weights: dict[str, Tensor]
    train_state: dict[str, Any] | None
    adapter: Adapter | None = None


def save(
    root: Path,
    step: int,
    *,
    model_config: ModelConfig,
    weights: Mapping[str, Tensor],
    tokenizer: Tokenizer,
    train_state: dict[str, Any],
    lineage: Lineage,
    adapter: Adapter | None = None,
    sampling: Sampling | None = None,
) -> Path:
    """Writes `root/step_<step>`, in one move that a kill or a full disk cannot leave half done, and returns it.

    weights: the model's state dict, of any float dtype and device; stored in fp32. With `adapter` they are what
    `lora.adapter_state` gives, and the folder holds nothing of the base but its shape. train_state: what else is needed
    to continue, out of dict, list, tuple, str, int, float, bool, None and tensors. sampling: how whoever loads the
    folder samples the model unless told otherwise; None: plainly. A checkpoint of the same step is replaced.

    Raises CheckpointError if the disk lacks the space (before anything is written) or fails on the way; older
    checkpoints stay as they are.
    """
    _require_shapes(weights, model_config, adapter, f"the weights of step {step}")
    _require_plain(train_state, "train_state")
    folder = folder_of(root, step)
    partial = root / f"{folder.name}.partial"
    try:
        root.mkdir(parents=True, exist_ok=True)
        _require_space(root, step, sum(4 * tensor.numel() for tensor in weights.values()) + _tensor_bytes(train_state))
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        _write_json(partial / "config.json", to_hf_config(model_config))
        _write_json(partial / GENERATION_CONFIG, _generation_config(tokenizer, sampling or Sampling()))
        tokenizer.save(partial)
        plain = {name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in weights.items()}
        weights_file = WEIGHTS if adapter is None else ADAPTER_WEIGHTS
        safetensors.torch.save_file(plain, partial / weights_file, metadata={"format": "pt"})
        if adapter is not None:
            _write_json(partial / ADAPTER_CONFIG, to_peft_config(adapter.config, adapter.base.folder))
        torch.save(train_state, partial / TRAIN_STATE)
        files = sorted(partial.iterdir())
        for file in files:
            _sync(file)
        manifest: Manifest = {
            "schema_version": SCHEMA_VERSION,
            "run_id": lineage.run_id,
            "step": step,
            "parent_run": lineage.parent_run,
            "parent_step": lineage.parent_step,
            "tokenizer_fingerprint": tokenizer.fingerprint,
            "data_fingerprint": lineage.data_fingerprint,
            **({} if adapter is None else {"base": asdict(adapter.base)}),
            "files": {file.name: {"bytes": file.stat().st_size, "sha256": _sha256(file)} for file in files},
        }
        _write_json(partial / MANIFEST, {**manifest, _SELF: _manifest_sha256(manifest)})
        _sync(partial / MANIFEST)
        _sync(partial)
        _publish(partial, folder)
    except CheckpointError:
        raise
    except (OSError, SafetensorError, RuntimeError) as error:  # each library has its own error for a full disk
        raise CheckpointError(
            f"the checkpoint of step {step} could not be written to {partial.absolute()}: {error}. "
            f"{size(shutil.disk_usage(_existing(root)).free)} are free there. Older checkpoints are untouched: make "
            f"room (or see to the disk) and resume the run from the newest of them."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def verify(folder: Path) -> Manifest:
    """The manifest of a checkpoint whose every file is there with the size and sha256 that were written.

    Raises CheckpointError that names the file, what was expected and what was found.
    """
    where = folder.absolute()
    if not folder.is_dir():
        near = [path.name for _, path in _folders(folder.parent)]
        there = f"checkpoints beside it: {', '.join(near)}" if near else f"{where.parent} holds no checkpoint"
        raise CheckpointError(f"there is no checkpoint folder {where}; {there}")
    if not (folder / MANIFEST).is_file():
        raise CheckpointError(
            f"{where} has no {MANIFEST}, so it is not a complete checkpoint of this system (a Hugging Face folder or "
            f"an upstream file must be imported by `minimind convert` first)"
        )
    manifest = read_manifest(folder)
    for name, expected in manifest["files"].items():
        file = folder / name
        if not file.is_file():
            raise CheckpointError(f"{where}: {name} is missing; the manifest lists it with {expected['bytes']} bytes")
        if (actual := file.stat().st_size) != expected["bytes"]:
            raise CheckpointError(f"{where}: {name} has {actual} bytes, {expected['bytes']} were written")
        if (digest := _sha256(file)) != expected["sha256"]:
            raise CheckpointError(
                f"{where}: {name} is damaged: sha256 is {digest}, {expected['sha256']} was written. "
                f"Take another checkpoint, or copy this one again from where it came"
            )
    return manifest


def load(folder: Path, expect: ModelConfig | None = None, *, weights_only: bool = False) -> Checkpoint:
    """Reads a checkpoint after verifying all of it; with `weights_only`, `train_state` is left out.

    expect: the model it is for. Raises CheckpointError for a damaged checkpoint, for one of another model (both
    settings are named), and for weights that are not exactly what the folder's own config.json says.
    """
    manifest = verify(folder)
    where = str(folder.absolute())
    model_config = from_hf_config(json.loads((folder / "config.json").read_text("utf-8")))
    if expect is not None and (differences := _differences(model_config, expect)):
        raise CheckpointError(
            f"{where} is a checkpoint of another model: {'; '.join(differences)}. "
            f"Set the model to the checkpoint's, or start from another checkpoint"
        )
    adapter = None
    if (base := _base(manifest)) is not None:
        settings = json.loads((folder / ADAPTER_CONFIG).read_text("utf-8"))
        adapter = Adapter(from_peft_config(settings), base)
    weights = safetensors.torch.load_file(folder / _weights_file(manifest))
    _require_shapes(weights, model_config, adapter, f"the weights of {where}")
    train_state = None
    if not weights_only:
        train_state = torch.load(folder / TRAIN_STATE, map_location="cpu", weights_only=True)
    return Checkpoint(
        folder=folder,
        step=manifest["step"],
        lineage=Lineage(**{name: manifest[name] for name in Lineage.__dataclass_fields__}),
        tokenizer_fingerprint=manifest["tokenizer_fingerprint"],
        model_config=model_config,
        weights=weights,
        train_state=train_state,
        adapter=adapter,
    )


def load_model(folder: Path, expect: ModelConfig | None = None) -> tuple[MiniMind, Tokenizer, Checkpoint]:
    """The model of a checkpoint, ready to answer: on the CPU, in eval mode, an adapter merged into its base.

    The third part is what `load` gives, without the train state. Raises CheckpointError as `load` does, and for an
    adapter whose base is not there, is damaged, or has other weights by now.
    """
    checkpoint = load(folder, expect, weights_only=True)
    plain = checkpoint
    if checkpoint.adapter is not None:
        plain = load(find_base(folder), expect=checkpoint.model_config, weights_only=True)
    with torch.device("meta"):  # memory for the weights, but no numbers drawn that are thrown away at once
        model = MiniMind(plain.model_config)
    model.to_empty(device="cpu").load_state_dict(plain.weights)
    if checkpoint.adapter is not None:
        attach(model, checkpoint.adapter.config, torch.Generator())
        load_adapter(model, checkpoint.weights)
        merged = merge(model)
        detach(model)
        model.load_state_dict(merged)
    return model.eval(), Tokenizer.load(folder), checkpoint


def base_of(folder: Path) -> Base:
    """The checkpoint in `folder` as the base of a new adapter. Raises CheckpointError if it is an adapter itself."""
    manifest = read_manifest(folder)
    where = folder.absolute()
    if (base := _base(manifest)) is not None:
        raise CheckpointError(
            f"{where} is an adapter, and an adapter needs a whole model below it: take its base, "
            f"step {base.step} of the run {base.run_id!r} in {base.folder}, or train all weights from the adapter"
        )
    return Base(manifest["run_id"], manifest["step"], str(where), manifest["files"][WEIGHTS]["sha256"])


def find_base(folder: Path) -> Path:
    """Where the base of the adapter in `folder` is: where it was, or at the same place beside the adapter.

    The second finds it when both were moved together: two folders side by side, or all runs. The base's weights must
    have the recorded sha256; its files are not read. Raises CheckpointError that says where was looked and what was
    found there.
    """
    manifest = read_manifest(folder)
    where = folder.absolute()
    if (base := _base(manifest)) is None:
        raise CheckpointError(f"{where} is no adapter: it has a whole model, and no base")
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
        if _base(there) is not None:  # the step of the same number in the adapter's own run
            continue
        weights = there["files"][WEIGHTS]["sha256"]
        if weights == base.weights_sha256:
            return place
        found.append(f"the weights of {place} have the sha256 {weights}")
    what = f"{where} is an adapter for step {base.step} of the run {base.run_id!r}, whose weights have the sha256"
    if found:
        raise CheckpointError(
            f"{what} {base.weights_sha256}; {'; '.join(found)}. On other weights the adapter would compute nonsense: "
            f"bring the old checkpoint back, or train the adapter anew on the one that is there"
        )
    raise CheckpointError(
        f"{what} {base.weights_sha256}; it is in none of {', '.join(map(str, looked))}. "
        f"Copy it to one of these places: without its base an adapter is not a model"
    )


def newest(root: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint below `root` that verifies (None if there is none), and a note for each skipped one."""
    skipped: list[str] = []
    for _, folder in reversed(_folders(root)):
        try:
            verify(folder)
        except CheckpointError as error:
            skipped.append(f"skipped {folder.name}: {error}")
            continue
        return folder, skipped
    return None, skipped


def folder_of(root: Path, step: int) -> Path:
    """Where the checkpoint of a step lies below `root`, whether there is one or not."""
    return root / f"step_{step:08d}"


def steps(root: Path) -> list[int]:
    """The steps that have a checkpoint folder below `root`, ascending; whether they verify is not looked at."""
    return sorted({step for step, _ in _folders(root)})


def prune(root: Path, keep_last: int, best_steps: Collection[int] = ()) -> list[Path]:
    """Removes all checkpoints but the last `keep_last` and those of `best_steps`, and what a kill left half written.

    Those newer than the newest that verifies are damaged: they do not count and stay, in case somebody can mend them.
    keep_last: at least 1. Returns what was removed. For the holder of the run's lock only.
    """
    for stale in root.glob("step_*.partial"):
        shutil.rmtree(stale)
    for aside in root.glob("step_*.replaced"):
        folder = aside.with_suffix("")
        if _is_sound(folder):
            shutil.rmtree(aside)
        else:
            shutil.rmtree(folder, ignore_errors=True)
            aside.rename(folder)
    sound, _ = newest(root)
    folders = [folder for _, folder in _folders(root)]
    counted = folders[: folders.index(sound) + 1] if sound else []
    best = {folder_of(root, step) for step in best_steps}
    removed = [folder for folder in counted[: max(0, len(counted) - keep_last)] if folder not in best]
    for folder in removed:
        # Renamed first, so that a kill in between leaves nothing that looks like a damaged checkpoint.
        rubbish = folder.with_name(f"{folder.name}.partial")
        folder.rename(rubbish)
        shutil.rmtree(rubbish)
    return removed


def read_manifest(folder: Path) -> Manifest:
    """The manifest alone, checked against its own sha256; the other files are not looked at. Raises CheckpointError."""
    file = folder / MANIFEST
    try:
        manifest: Manifest = json.loads(file.read_text("utf-8"))
        digest = manifest.pop(_SELF)
        version = manifest["schema_version"]
    except (ValueError, KeyError, AttributeError, TypeError, OSError) as error:
        raise CheckpointError(f"{file.absolute()} cannot be read as a manifest, it is damaged ({error!r})") from error
    if version != SCHEMA_VERSION:
        raise CheckpointError(
            f"{file.absolute()} has schema_version {version!r}; this program reads {SCHEMA_VERSION}: "
            f"use the version of this program that wrote it"
        )
    if digest != (actual := _manifest_sha256(manifest)):
        raise CheckpointError(f"{file.absolute()} is damaged: its sha256 is {actual}, {digest} was written")
    return manifest


def weights_sha256(folder: Path) -> str:
    """The sha256 of the weights file, an adapter's or a model's, as the manifest has it: equal for equal weights."""
    manifest = read_manifest(folder)
    return str(manifest["files"][_weights_file(manifest)]["sha256"])


def read_sampling(folder: Path) -> Sampling | None:
    """The sampling defaults in a folder's generation_config.json; None where it has no such file, or one that says
    nothing about sampling, as transformers writes it for every model.

    `do_sample: false` is temperature 0; what is not in the file is switched off. Raises ValueError for a file that
    cannot be read or holds a value that cannot be.
    """
    file = folder / GENERATION_CONFIG
    try:
        content = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ValueError(f"{file.absolute()} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file.absolute()} holds no JSON object")
    given = {field.name: content[field.name] for field in fields(Sampling) if content.get(field.name) is not None}
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int if name == "top_k" else (int, float)):
            raise ValueError(f"{file.absolute()}: {name} = {value!r} is not a number; correct it, or take it out")
    if not given and content.get("do_sample") is None:
        return None
    if content.get("do_sample") is False:
        given["temperature"] = 0.0
    try:
        return Sampling(**given)
    except ValueError as error:
        raise ValueError(f"{file.absolute()}: {error}; correct it, or take it out") from None


def checkpoint_bytes(parameters: int, optimizer_states: float = 2) -> int:
    """About how many bytes a checkpoint takes on disk.

    parameters: that are saved, the model's or the adapter's. optimizer_states: fp32 numbers the optimizer keeps per
    parameter (AdamW 2, Muon near 1).
    """
    return int(4 * parameters * (1 + optimizer_states)) + _SMALL_FILES_BYTES


def _publish(partial: Path, folder: Path) -> None:
    """Gives a complete folder its name. One that has the name already stands aside until the new one is in place."""
    aside = folder.with_name(f"{folder.name}.replaced")
    if folder.exists():
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
    partial.rename(folder)
    _sync(folder.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _is_sound(folder: Path) -> bool:
    try:
        verify(folder)
    except CheckpointError:
        return False
    return True


def _folders(root: Path) -> list[tuple[int, Path]]:
    """Checkpoint folders by step, ascending; `.replaced`, left by a kill in the middle of _publish, before its step."""
    if not root.is_dir():
        return []
    found = ((match, path) for path in root.iterdir() if (match := _FOLDER.fullmatch(path.name)))
    ordered = sorted((int(match[1]), match[2] is None, path) for match, path in found)
    return [(step, path) for step, _, path in ordered]


def _manifest_sha256(manifest: Manifest) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _base(manifest: Manifest) -> Base | None:
    """The base in the manifest of an adapter, None in that of a whole model."""
    values = manifest.get("base")
    return Base(**{name: values[name] for name in Base.__dataclass_fields__}) if values is not None else None


def _weights_file(manifest: Manifest) -> str:
    return WEIGHTS if _base(manifest) is None else ADAPTER_WEIGHTS


def _require_shapes(weights: Mapping[str, Tensor], config: ModelConfig, adapter: Adapter | None, where: str) -> None:
    with torch.device("meta"):
        model = MiniMind(config)
    if adapter is not None:
        attach(model, adapter.config, torch.Generator())
    state = model.state_dict() if adapter is None else adapter_state(model)
    expected = {name: tuple(tensor.shape) for name, tensor in state.items()}
    actual = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    wrong = [f"{name} is missing" for name in expected if name not in actual]
    wrong += [f"{name} is not part of the model" for name in actual if name not in expected]
    wrong += [
        f"{name} is {list(actual[name])}, the model's is {list(shape)}"
        for name, shape in expected.items()
        if name in actual and actual[name] != shape
    ]
    if wrong:
        more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise CheckpointError(f"{where} do not fit the model configuration: {'; '.join(wrong[:5])}{more}")


def _differences(actual: ModelConfig, expected: ModelConfig) -> list[str]:
    return [
        f"{name} is {getattr(actual, name)} in the checkpoint and {getattr(expected, name)} in this run"
        for name in ModelConfig.model_fields
        if getattr(actual, name) != getattr(expected, name)
    ]


def _require_plain(value: Any, path: str) -> None:
    """Refuses what torch.load(weights_only=True) would not read back: better now than on the day of the resume."""
    if type(value) is dict:
        for key, item in value.items():
            if type(key) not in (str, int):
                raise CheckpointError(f"{path} has the key {key!r} of type {type(key).__name__}; only str and int keep")
            _require_plain(item, f"{path}[{key!r}]")
    elif type(value) in (list, tuple):
        for index, item in enumerate(value):
            _require_plain(item, f"{path}[{index}]")
    elif not (value is None or type(value) in (str, int, float, bool) or isinstance(value, Tensor)):
        raise CheckpointError(
            f"{path} is a {type(value).__module__}.{type(value).__name__}, which cannot be loaded safely; "
            f"a checkpoint keeps dict, list, tuple, str, int, float, bool, None and tensors"
        )


def _tensor_bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(map(_tensor_bytes, value.values()))
    if isinstance(value, (list, tuple)):
        return sum(map(_tensor_bytes, value))
    return 0


def _require_space(root: Path, step: int, tensor_bytes: int) -> None:
    needed, free = tensor_bytes + _SMALL_FILES_BYTES, shutil.disk_usage(root).free
    if needed > free:
        raise CheckpointError(
            f"the checkpoint of step {step} needs {size(needed)} ({needed} bytes), but the disk of {root.absolute()} "
            f"has {size(free)} ({free} bytes) free. Older checkpoints are untouched: make room, or keep fewer "
            f"checkpoints, and resume the run"
        )


def _generation_config(tokenizer: Tokenizer, sampling: Sampling) -> dict[str, Any]:
    """What `read_sampling` and transformers read. top_k stands there always: left out, transformers may take 50."""
    ids = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id}
    penalty = {} if sampling.repetition_penalty == 1 else {"repetition_penalty": sampling.repetition_penalty}
    if sampling.temperature == 0:
        return {**ids, "do_sample": False, **penalty}
    how = {"temperature": sampling.temperature, "top_k": sampling.top_k, "top_p": sampling.top_p}
    min_p = {"min_p": sampling.min_p} if sampling.min_p else {}
    return {**ids, "do_sample": True, **how, **min_p, **penalty}


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _existing(path: Path) -> Path:
    return next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
