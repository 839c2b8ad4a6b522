"""Checkpoint folders: written whole or not at all, and never loaded unless every byte is as it was written.

A checkpoint is written to `step_….partial`, synced to the disk, and renamed. `manifest.json`, the last file written,
holds the size and sha256 of every other file and of itself. The folder is also a Hugging Face model folder, which
transformers, vLLM and llama.cpp read as it is, or an adapter folder of PEFT's. docs/run-directory.md describes both.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from minimind.checkpoints.adapter_base import find_base
from minimind.checkpoints.convert import from_hf_config, to_hf_config
from minimind.checkpoints.folders import folder_of, publish
from minimind.checkpoints.manifest import (
    ADAPTER_WEIGHTS,
    MANIFEST,
    SCHEMA_VERSION,
    SELF,
    TRAIN_STATE,
    WEIGHTS,
    Base,
    CheckpointError,
    Manifest,
    base_in,
    manifest_sha256,
    read_manifest,
    sha256_of,
    sync,
    verify,
    weights_file,
)
from minimind.inference.sampling import Sampling
from minimind.language import say
from minimind.network.lora import (
    LoraConfig,
    adapter_state,
    attach,
    detach,
    from_peft_config,
    load_adapter,
    merge,
    to_peft_config,
)
from minimind.network.model import MiniMind, ModelConfig
from minimind.network.score import ScoreModel
from minimind.text.tokenizer import Tokenizer
from minimind.units import size

GENERATION_CONFIG = "generation_config.json"
ADAPTER_CONFIG = "adapter_config.json"


_SMALL_FILES_BYTES = 8_000_000  # tokenizer, JSON files, archive headers: generously


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
class Adapter:
    """What makes a checkpoint one of an adapter: its settings, and the base that it needs."""

    config: LoraConfig
    base: Base


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint in memory.

    weights: fp32 on the CPU; those of the adapter alone, under PEFT's names, where `adapter` is not None.
    train_state: None if it was not asked for. architecture: of the model. roles: weights of further models that were
    trained, by role. references: the checkpoints that frozen roles had.
    """

    folder: Path
    step: int
    lineage: Lineage
    tokenizer_fingerprint: str
    model_config: ModelConfig
    weights: dict[str, Tensor]
    train_state: dict[str, Any] | None
    adapter: Adapter | None = None
    architecture: str = MiniMind.architecture
    roles: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    references: dict[str, Base] = field(default_factory=dict)


ARCHITECTURES: dict[str, type[MiniMind]] = {kind.architecture: kind for kind in (MiniMind, ScoreModel)}


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
    roles: Mapping[str, MiniMind] | None = None,
    references: Mapping[str, Base] | None = None,
    sampling: Sampling | None = None,
    architecture: str = MiniMind.architecture,
) -> Path:
    """Writes `root/step_<step>`, in one move that a kill or a full disk cannot leave half done, and returns it.

    weights: the model's state dict, of any float dtype and device; stored in fp32. With `adapter` they are what
    `lora.adapter_state` gives, and the folder holds nothing of the base but its shape. architecture: of the model, by
    its class. roles: further models that are trained, each into a folder of its own that transformers loads.
    references: the checkpoints of frozen ones. train_state: what else is needed to continue, out of dict, list, tuple,
    str, int, float, bool, None and tensors. sampling: how whoever loads the folder samples the model unless told
    otherwise; None: plainly. A checkpoint of the same step is replaced.

    Raises CheckpointError if the disk lacks the space (before anything is written) or fails on the way; older
    checkpoints stay as they are.
    """
    roles = roles or {}
    _require_shapes(weights, model_config, adapter, say("the weights of step {step}", step=step), architecture)
    _require_plain(train_state, "train_state")
    folder = folder_of(root, step)
    partial = root / f"{folder.name}.partial"
    tensors = [*weights.values(), *(tensor for model in roles.values() for tensor in model.state_dict().values())]
    manifest = _about(step, tokenizer, lineage, adapter, roles, references or {})
    try:
        root.mkdir(parents=True, exist_ok=True)
        _require_space(root, step, sum(4 * tensor.numel() for tensor in tensors) + _tensor_bytes(train_state))
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        _write_json(partial / GENERATION_CONFIG, _generation_config(tokenizer, sampling or Sampling()))
        tokenizer.save(partial)
        _write_model(partial, model_config, architecture, weights, WEIGHTS if adapter is None else ADAPTER_WEIGHTS)
        if adapter is not None:
            _write_json(partial / ADAPTER_CONFIG, to_peft_config(adapter.config, adapter.base.folder))
        for role, model in roles.items():
            tokenizer.save(partial / role)
            _write_model(partial / role, model.config, model.architecture, model.state_dict(), WEIGHTS)
        torch.save(train_state, partial / TRAIN_STATE)
        _seal(partial, manifest)
        publish(partial, folder)
    except CheckpointError:
        raise
    except (OSError, SafetensorError, RuntimeError) as error:  # each library has its own error for a full disk
        raise CheckpointError(_not_written(step, partial, error)) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _not_written(step: int, partial: Path, error: Exception) -> str:
    return say(
        "the checkpoint of step {step} could not be written to {partial}: {error}. {free} are "
        "free there. Older checkpoints are untouched: make room (or see to the disk) and "
        "resume the run from the newest of them.",
        step=step,
        partial=partial.absolute(),
        error=error,
        free=size(shutil.disk_usage(_existing(partial)).free),
    )


def _about(
    step: int,
    tokenizer: Tokenizer,
    lineage: Lineage,
    adapter: Adapter | None,
    roles: Mapping[str, MiniMind],
    references: Mapping[str, Base],
) -> Manifest:
    """The manifest of a checkpoint, but for its files."""
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": lineage.run_id,
        "step": step,
        "parent_run": lineage.parent_run,
        "parent_step": lineage.parent_step,
        "tokenizer_fingerprint": tokenizer.fingerprint,
        "data_fingerprint": lineage.data_fingerprint,
        **({} if adapter is None else {"base": asdict(adapter.base)}),
        **({"roles": sorted(roles)} if roles else {}),
        **({"references": {role: asdict(base) for role, base in references.items()}} if references else {}),
    }


def _write_model(
    folder: Path, config: ModelConfig, architecture: str, weights: Mapping[str, Tensor], file: str
) -> None:
    """What transformers loads: the configuration, and the weights in fp32."""
    _write_json(folder / "config.json", to_hf_config(config, architecture))
    plain = {name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in weights.items()}
    safetensors.torch.save_file(plain, folder / file, metadata={"format": "pt"})


def _seal(folder: Path, manifest: Manifest) -> None:
    """Sync all files of a folder to the disk, and write its manifest last."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for file in files:
        sync(file)
    listed = {
        file.relative_to(folder).as_posix(): {"bytes": file.stat().st_size, "sha256": sha256_of(file)} for file in files
    }
    whole: Manifest = {**manifest, "files": listed}
    _write_json(folder / MANIFEST, {**whole, SELF: manifest_sha256(whole)})
    sync(folder / MANIFEST)
    for inner in (*{file.parent for file in files if file.parent != folder}, folder):
        sync(inner)


def load(folder: Path, expect: ModelConfig | None = None, *, weights_only: bool = False) -> Checkpoint:
    """Reads a checkpoint after verifying all of it; with `weights_only`, `train_state` is left out.

    expect: the model it is for. Raises CheckpointError for a damaged checkpoint, for one of another model (both
    settings are named), and for weights that are not exactly what the folder's own config.json says.
    """
    manifest = verify(folder)
    where = str(folder.absolute())
    settings = json.loads((folder / "config.json").read_text("utf-8"))
    model_config, architecture = from_hf_config(settings), _architecture(settings, where)
    if expect is not None and (differences := _differences(model_config, expect)):
        raise CheckpointError(
            say(
                "{where} is a checkpoint of another model: {differences}. Set the model to the "
                "checkpoint's, or start from another checkpoint",
                where=where,
                differences="; ".join(differences),
            )
        )
    adapter = None
    if (base := base_in(manifest)) is not None:
        adapter = Adapter(from_peft_config(json.loads((folder / ADAPTER_CONFIG).read_text("utf-8"))), base)
    weights = safetensors.torch.load_file(folder / weights_file(manifest))
    _require_shapes(weights, model_config, adapter, say("the weights of {where}", where=where), architecture)
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
        architecture=architecture,
        roles={role: safetensors.torch.load_file(folder / role / WEIGHTS) for role in manifest.get("roles", ())},
        references={role: Base(**values) for role, values in manifest.get("references", {}).items()},
    )


def load_model(folder: Path, expect: ModelConfig | None = None) -> tuple[MiniMind, Tokenizer, Checkpoint]:
    """The model of a checkpoint, ready to answer: on the CPU, in eval mode, an adapter merged into its base.

    The third part is what `load` gives, without the train state. Raises CheckpointError as `load` does, for a model
    that gives scores, and for an adapter whose base is not there, is damaged, or has other weights by now.
    """
    model, checkpoint = _model(folder, expect)
    if isinstance(model, ScoreModel):
        raise _gives_scores(checkpoint.step, checkpoint.lineage.run_id)
    return model, Tokenizer.load(folder), checkpoint


def load_score_model(folder: Path) -> tuple[ScoreModel, Tokenizer]:
    """The model of a checkpoint that gives scores, as `load_model` gives one that writes."""
    model, checkpoint = _model(folder, None)
    if not isinstance(model, ScoreModel):
        raise _gives_none(checkpoint.step, checkpoint.lineage.run_id)
    return model, Tokenizer.load(folder)


def require_language_model(folder: Path) -> None:
    """Raise CheckpointError for a checkpoint whose model gives scores and writes nothing."""
    manifest = read_manifest(folder)
    if gives_scores(folder):
        raise _gives_scores(manifest["step"], manifest["run_id"])


def require_score_model(folder: Path) -> None:
    """Raise CheckpointError for a checkpoint whose model writes and gives no scores."""
    manifest = read_manifest(folder)
    if not gives_scores(folder):
        raise _gives_none(manifest["step"], manifest["run_id"])


def gives_scores(folder: Path) -> bool:
    """Whether a checkpoint's model gives scores and writes nothing. Raises CheckpointError for a damaged config."""
    file = folder / "config.json"
    try:
        settings = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        verify(folder)  # says what is damaged, of those that say what belongs to them
        raise CheckpointError(say("{file} cannot be read: {error}", file=file.absolute(), error=error)) from None
    return bool(settings.get("architectures") == [ScoreModel.architecture])


def _gives_none(step: int, run_id: str) -> CheckpointError:
    return CheckpointError(
        say(
            "step {step} of the run {run_id!r} writes text and gives no scores: a reward model comes from "
            "`minimind train reward`",
            step=step,
            run_id=run_id,
        )
    )


def _gives_scores(step: int, run_id: str) -> CheckpointError:
    return CheckpointError(
        say(
            "step {step} of the run {run_id!r} is a reward model: it gives scores (minimind reward score FILE) and "
            "writes nothing",
            step=step,
            run_id=run_id,
        )
    )


def _model(folder: Path, expect: ModelConfig | None) -> tuple[MiniMind, Checkpoint]:
    checkpoint = load(folder, expect, weights_only=True)
    plain = checkpoint
    if checkpoint.adapter is not None:
        plain = load(find_base(folder), expect=checkpoint.model_config, weights_only=True)
    with torch.device("meta"):  # memory for the weights, but no numbers drawn that are thrown away at once
        model = ARCHITECTURES[plain.architecture](plain.model_config)
    model.to_empty(device="cpu").load_state_dict(plain.weights)
    if checkpoint.adapter is not None:
        attach(model, checkpoint.adapter.config, torch.Generator())
        load_adapter(model, checkpoint.weights)
        merged = merge(model)
        detach(model)
        model.load_state_dict(merged)
    return model.eval(), checkpoint


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
        raise ValueError(say("{file} cannot be read: {error}", file=file.absolute(), error=error)) from None
    if not isinstance(content, dict):
        raise ValueError(say("{file} holds no JSON object", file=file.absolute()))
    given = {field.name: content[field.name] for field in fields(Sampling) if content.get(field.name) is not None}
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int if name == "top_k" else (int, float)):
            raise ValueError(
                say(
                    "{file}: {name} = {value!r} is not a number; correct it, or take it out",
                    file=file.absolute(),
                    name=name,
                    value=value,
                )
            )
    if not given and content.get("do_sample") is None:
        return None
    if content.get("do_sample") is False:
        given["temperature"] = 0.0
    try:
        return Sampling(**given)
    except ValueError as error:
        raise ValueError(
            say("{file}: {error}; correct it, or take it out", file=file.absolute(), error=error)
        ) from None


def checkpoint_bytes(parameters: int, optimizer_states: float = 2) -> int:
    """About how many bytes a checkpoint takes on disk.

    parameters: that are saved, the model's or the adapter's. optimizer_states: fp32 numbers the optimizer keeps per
    parameter (AdamW 2, Muon near 1).
    """
    return int(4 * parameters * (1 + optimizer_states)) + _SMALL_FILES_BYTES


def _architecture(settings: Mapping[str, Any], where: str) -> str:
    names = settings.get("architectures") or [MiniMind.architecture]
    if names[0] not in ARCHITECTURES:
        raise CheckpointError(
            say(
                "{where}: architectures = {names!r}; this program reads {architectures}",
                where=where,
                names=names,
                architectures=", ".join(ARCHITECTURES),
            )
        )
    return str(names[0])


def _require_shapes(
    weights: Mapping[str, Tensor],
    config: ModelConfig,
    adapter: Adapter | None,
    where: str,
    architecture: str = MiniMind.architecture,
) -> None:
    with torch.device("meta"):
        model = ARCHITECTURES[architecture](config)
    if adapter is not None:
        attach(model, adapter.config, torch.Generator())
    state = model.state_dict() if adapter is None else adapter_state(model)
    expected = {name: tuple(tensor.shape) for name, tensor in state.items()}
    actual = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    wrong = [say("{name} is missing", name=name) for name in expected if name not in actual]
    wrong += [say("{name} is not part of the model", name=name) for name in actual if name not in expected]
    wrong += [
        say("{name} is {found}, the model's is {shape}", name=name, found=list(actual[name]), shape=list(shape))
        for name, shape in expected.items()
        if name in actual and actual[name] != shape
    ]
    if wrong:
        more = say("; and {count} more", count=len(wrong) - 5) if len(wrong) > 5 else ""
        raise CheckpointError(
            say(
                "{where} do not fit the model configuration: {wrong}{more}",
                where=where,
                wrong="; ".join(wrong[:5]),
                more=more,
            )
        )


def _differences(actual: ModelConfig, expected: ModelConfig) -> list[str]:
    return [
        say(
            "{name} is {actual} in the checkpoint and {expected} in this run",
            name=name,
            actual=getattr(actual, name),
            expected=getattr(expected, name),
        )
        for name in ModelConfig.model_fields
        if getattr(actual, name) != getattr(expected, name)
    ]


def _require_plain(value: Any, path: str) -> None:
    """Refuses what torch.load(weights_only=True) would not read back: better now than on the day of the resume."""
    if type(value) is dict:
        for key, item in value.items():
            if type(key) not in (str, int):
                raise CheckpointError(
                    say(
                        "{path} has the key {key!r} of type {type}; only str and int keep",
                        path=path,
                        key=key,
                        type=type(key).__name__,
                    )
                )
            _require_plain(item, f"{path}[{key!r}]")
    elif type(value) in (list, tuple):
        for index, item in enumerate(value):
            _require_plain(item, f"{path}[{index}]")
    elif not (value is None or type(value) in (str, int, float, bool) or isinstance(value, Tensor)):
        raise CheckpointError(
            say(
                "{path} is a {module}.{type}, which cannot be loaded safely; a checkpoint keeps dict, "
                "list, tuple, str, int, float, bool, None and tensors",
                path=path,
                module=type(value).__module__,
                type=type(value).__name__,
            )
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
            say(
                "the checkpoint of step {step} needs {needed} ({needed2} bytes), but the disk of "
                "{root} has {free} ({free2} bytes) free. Older checkpoints are untouched: make room, "
                "or keep fewer checkpoints, and resume the run",
                step=step,
                needed=size(needed),
                needed2=needed,
                root=root.absolute(),
                free=size(free),
                free2=free,
            )
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


def _existing(path: Path) -> Path:
    return next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
