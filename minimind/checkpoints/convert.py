"""Other programs' formats: Hugging Face's config.json both ways, and foreign weights into our state dict.

Names need no translation: upstream MiniMind, transformers' Qwen3 and this project call every weight the same. What is
left is to account for every name and every shape, and to refuse in words what this model cannot be.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from minimind.config import explain, json_problem
from minimind.language import say
from minimind.network.model import MiniMind, ModelConfig, YarnConfig
from minimind.network.score import ScoreModel

EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
SHOWN = 12  # names per list in an error: two layers' worth

_PREFIXES = re.compile(r"(?:_orig_mod\.|module\.)+")
"""What torch.compile and DistributedDataParallel put in front of every name."""

# Tables of rotary positions that some versions saved along; they are computed from the configuration.
_ROTARY_TABLES = re.compile(r"(.*\.)?(freqs_cos|freqs_sin|pos_cis|rotary_emb\.inv_freq)")

# Settings of Qwen3's config.json that change the model, with the one value that this model has.
_FIXED = {
    "attention_bias": False,
    "hidden_act": "silu",
    "quantization_config": None,
    "use_moe": False,
    "use_sliding_window": False,
}
_REQUIRED = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
)
UPSTREAM_YARN = YarnConfig(
    factor=16, original_max_position_embeddings=2048, beta_fast=32, beta_slow=1, attention_factor=1.0
)
"""What upstream MiniMind's switch `inference_rope_scaling` stands for."""

_YARN = ("factor", "original_max_position_embeddings", "beta_fast", "beta_slow", "attention_factor")


def to_hf_config(config: ModelConfig, architecture: str = MiniMind.architecture) -> dict[str, Any]:
    """The config.json of a checkpoint folder: transformers 4 and 5, vLLM and llama.cpp's converter read it.

    What they have renamed stands there under both names: rope_theta and rope_scaling (transformers 4, llama.cpp) beside
    rope_parameters (transformers 5, vLLM), torch_dtype beside dtype.
    """
    shape = {name: getattr(config, name) for name in ModelConfig.model_fields if name != "rope_scaling"}
    scaling = None
    if config.rope_scaling is not None:
        scaling = {"rope_type": "yarn", "type": "yarn", **config.rope_scaling.model_dump(exclude_none=True)}
    return {
        "architectures": [architecture],
        **({"num_labels": 1} if architecture == ScoreModel.architecture else {}),
        "model_type": "qwen3",
        **shape,
        "rope_scaling": scaling,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta, **(scaling or {})},
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "use_sliding_window": False,
        "use_cache": True,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "dtype": "float32",
        "torch_dtype": "float32",
    }


def from_hf_config(values: Mapping[str, Any]) -> ModelConfig:
    """The ModelConfig of a config.json of the Qwen3 or upstream's own "minimind" layout.

    Raises ValueError for another architecture, a missing shape, and any setting that would make another model of the
    same weights.
    """
    model_type = values.get("model_type")
    if model_type not in ("qwen3", "minimind"):
        raise ValueError(
            say(
                "config.json: model_type = {model_type!r} is another architecture; only dense models "
                "of the types 'qwen3' and 'minimind' (upstream MiniMind with q_norm and k_norm) can "
                "be read",
                model_type=model_type,
            )
        )
    problems = [say("{name} is missing", name=name) for name in _REQUIRED if values.get(name) is None]
    problems += [
        say("{name} = {values!r}: only {only!r} can be read", name=name, values=values[name], only=only)
        for name, only in _FIXED.items()
        if name in values and values[name] != only
    ]
    if any(kind != "full_attention" for kind in values.get("layer_types") or ()):
        problems.append(
            say("layer_types = {layer_types!r}: only 'full_attention' can be read", layer_types=values["layer_types"])
        )
    theta, rope = _rope(values, problems)
    if problems:
        raise ValueError(say("config.json cannot be read as a dense Qwen3 model:\n") + "\n".join(problems))
    shape = {name: values[name] for name in ModelConfig.model_fields if name in values and name != "rope_scaling"}
    shape.setdefault("tie_word_embeddings", model_type == "minimind")  # each type's own default, left out of its file
    try:
        return ModelConfig.model_validate({**shape, "rope_theta": theta, "rope_scaling": rope})
    except ValidationError as error:
        raise ValueError(say("config.json: {error}", error=explain(error))) from None


def _rope(values: Mapping[str, Any], problems: list[str]) -> tuple[Any, dict[str, Any] | None]:
    """The base of the rotary embedding, and its YaRN settings or None; what is wrong goes to `problems`."""
    rope = {**(values.get("rope_scaling") or {}), **(values.get("rope_parameters") or {})}
    theta = rope.pop("rope_theta", values.get("rope_theta"))
    if theta is None:
        problems.append(say("rope_theta is missing, both by itself and in rope_parameters"))
    kind = rope.pop("rope_type", rope.pop("type", "default"))
    rope.pop("type", None)
    switch = values.get("inference_rope_scaling") if values["model_type"] == "minimind" else None
    if switch:  # whatever rope_scaling says: upstream computes it from the switch
        kind = "yarn" if (values.get("max_position_embeddings") or 32768) > 2048 else "default"
        rope = UPSTREAM_YARN.model_dump() if kind == "yarn" else {}
    elif switch is not None and kind != "default":
        problems.append(
            say(
                "inference_rope_scaling = {switch!r} and rope type = {kind!r}: upstream computes "
                "without scaling then; set inference_rope_scaling to true, or rope_scaling to null",
                switch=switch,
                kind=kind,
            )
        )
    if kind not in ("default", "yarn"):
        problems.append(say("rope type = {kind!r}: only 'default' and 'yarn' can be read", kind=kind))
    elif unknown := [name for name in rope if kind == "default" or name not in _YARN]:
        problems.append(
            say("rope settings {unknown} of type {kind!r} are not known here", unknown=", ".join(unknown), kind=kind)
        )
    return theta, rope if kind == "yarn" else None


def read_weights(path: Path, config: ModelConfig | None = None) -> tuple[ModelConfig, dict[str, Tensor]]:
    """The configuration and the complete fp32 state dict of foreign weights.

    path: upstream's `.pth` (weights alone or its `_resume.pth`), a `.safetensors` file, or a Hugging Face folder with
        config.json and model.safetensors or pytorch_model.bin, either of them whole or in shards.
    config: what the weights must be; None takes the folder's config.json, or, for a single file, works the sizes out
        from the shapes and takes MiniMind's defaults for what no shape shows (rope_theta, rms_norm_eps).

    Raises ValueError, with every name missing, left over or of the wrong shape, unless the weights are exactly those of
    such a model, in floating point and finite.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(say("{path}: no such file or folder", path=path.absolute()))
    if path.is_dir():
        config = config or _read_config(path / "config.json")
        files = _weight_files(path)
    else:
        files = [path]
    weights: dict[str, Tensor] = {}
    for file in files:
        weights.update(_read_tensors(file))
    try:
        return _fit(weights, config)
    except ValueError as error:
        raise ValueError(say("{name}: {value}", name=path.absolute(), value=error)) from None


def _read_config(path: Path) -> ModelConfig:
    try:
        values = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(say("{path}: no such file; a Hugging Face folder holds one", path=path.absolute())) from None
    except ValueError as error:
        raise ValueError(say("{path}: not JSON: {error}", path=path.absolute(), error=json_problem(error))) from None
    if not isinstance(values, dict):
        raise ValueError(
            say("{path}: must hold a JSON object, not {type}", path=path.absolute(), type=type(values).__name__)
        )
    try:
        return from_hf_config(values)
    except ValueError as error:
        raise ValueError(say("{name}: {value}", name=path.absolute(), value=error)) from None


def _weight_files(folder: Path) -> list[Path]:
    """The files that transformers would read, in its order: an index may be left from an older save."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        whole, index = folder / name, folder / f"{name}.index.json"
        if whole.exists():
            return [whole]
        if index.exists():
            return _shards(index)
    raise ValueError(
        say(
            "{folder}: holds neither model.safetensors nor pytorch_model.bin, whole or in shards",
            folder=folder.absolute(),
        )
    )


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
        files = [index.parent / name for name in names]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            say("{index}: not an index of shards ({error!r})", index=index.absolute(), error=error)
        ) from None
    if missing := [file.name for file in files if not file.is_file()]:
        raise ValueError(
            say(
                "{index}: names files that are not there: {missing}", index=index.absolute(), missing=", ".join(missing)
            )
        )
    return files


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of one file. Pickles are read as data alone: a file that would run code is refused."""
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise ValueError(
                say("{path}: not a readable safetensors file: {error}", path=path.absolute(), error=error)
            ) from None
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # its own words advise to open it all the same
        raise ValueError(
            say(
                "{path}: holds more than tensors and plain values, or is no PyTorch file, and is not "
                "opened: loading it could run code. Save `model.state_dict()` alone with torch.save",
                path=path.absolute(),
            )
        ) from None
    except (RuntimeError, EOFError, OSError) as error:
        raise ValueError(
            say("{path}: not a readable PyTorch file: {error}", path=path.absolute(), error=error)
        ) from None
    if isinstance(loaded, dict) and isinstance(loaded.get("model"), dict) and "optimizer" in loaded:
        loaded = loaded["model"]  # upstream's resume file: weights beside the optimizer's state
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise ValueError(
            say(
                "{path}: must hold a state dict (names to tensors), not {type}",
                path=path.absolute(),
                type=type(loaded).__name__,
            )
        )
    return {str(name): tensor for name, tensor in loaded.items()}


def _fit(weights: dict[str, Tensor], config: ModelConfig | None) -> tuple[ModelConfig, dict[str, Tensor]]:
    """The weights as the state dict of `config`, which is worked out from them where it is None."""
    weights = {name: tensor for name, tensor in _unwrapped(weights).items() if not _ROTARY_TABLES.fullmatch(name)}
    _refuse_other_models(weights)
    tied = HEAD not in weights or (EMBEDDING in weights and _same(weights[HEAD], weights[EMBEDDING]))
    config = config or _infer(weights, tied)
    if config.tie_word_embeddings and tied:
        weights.pop(HEAD, None)
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in MiniMind(config).state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    wrong = [
        say("{name}: {found} in the file, {shape} in the model", name=name, found=list(found[name]), shape=list(shape))
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    problems = [
        *_listed(say("missing"), [name for name in expected if name not in found]),
        *_listed(say("unexpected"), [name for name in found if name not in expected]),
        *_listed(say("of the wrong shape"), wrong),
        *_listed(say("not floating point"), [n for n, w in weights.items() if not w.is_floating_point()]),
        *_listed(say("with values that are not finite"), [n for n, w in weights.items() if not w.isfinite().all()]),
    ]
    if config.tie_word_embeddings and HEAD in weights:
        problems.append(
            say(
                "{head} differs from {embedding}: this model needs tie_word_embeddings = false",
                head=HEAD,
                embedding=EMBEDDING,
            )
        )
    if problems:
        shape = config.model_dump(include={"vocab_size", "hidden_size", "num_hidden_layers", "tie_word_embeddings"})
        described = ", ".join(f"{name} = {value}" for name, value in shape.items())
        raise ValueError(
            say("the weights are not those of a dense model with {described}\n", described=described)
            + "\n".join(problems)
            + say("\nGive the configuration that the weights were trained with, or other weights.")
        )
    return config, {name: weights[name].float().contiguous() for name in expected}


def _unwrapped(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights without what a wrapper put in front of their names."""
    names = {name: name[match.end() :] if (match := _PREFIXES.match(name)) else name for name in weights}
    if len(set(names.values())) < len(names):
        twice = next(name for name, bare in names.items() if name != bare and bare in weights)
        raise ValueError(say("{twice} stands there with and without its prefix: keep one of the two", twice=twice))
    return {names[name]: tensor for name, tensor in weights.items()}


def _same(left: Tensor, right: Tensor) -> bool:
    return left.dtype == right.dtype and torch.equal(left, right)


def _refuse_other_models(weights: Iterable[str]) -> None:
    """Says what the weights are where a list of names would only say what they are not."""
    names = list(weights)
    if found := next((n for n in names if ".mlp.experts." in n or ".mlp.gate." in n or ".shared_experts." in n), None):
        raise ValueError(say("{found} belongs to a mixture of experts; only dense models can be read", found=found))
    if found := next((n for n in names if "lora" in n.lower()), None):
        raise ValueError(
            say("{found} belongs to a LoRA adapter; merge it into its base model first and read that", found=found)
        )
    if found := next((n for n in names if n == "tok_embeddings.weight" or ".attention.wq." in n), None):
        raise ValueError(
            say(
                "{found} is a name of MiniMind's first layout (before April 2025), whose rotary "
                "embedding differs as well; only the present layout "
                "(model.layers.0.self_attn.q_proj.weight, ...) can be read",
                found=found,
            )
        )
    if any(n.endswith("self_attn.q_proj.weight") for n in names) and not any(
        n.endswith("q_norm.weight") for n in names
    ):
        raise ValueError(
            say(
                "there is no self_attn.q_norm.weight: these are weights of MiniMind 2 or another "
                "Llama-like model without norms on queries and keys, which this model cannot compute; "
                "only weights of the present layout can be read"
            )
        )


def _infer(weights: Mapping[str, Tensor], tied: bool) -> ModelConfig:
    """The configuration that the shapes speak of; a norm on each head tells how wide a head is."""
    first = "model.layers.0."
    names = {
        "embedding": EMBEDDING,
        "query": f"{first}self_attn.q_proj.weight",
        "key": f"{first}self_attn.k_proj.weight",
        "head": f"{first}self_attn.q_norm.weight",
        "gate": f"{first}mlp.gate_proj.weight",
    }
    if missing := [name for name in names.values() if name not in weights]:
        raise ValueError(
            say("not the weights of a MiniMind model:\n")
            + "\n".join([*_listed(say("missing"), missing), *_listed(say("found"), list(weights))])
        )
    shapes = {what: tuple(weights[name].shape) for what, name in names.items()}
    for what, shape in shapes.items():
        if len(shape) != (1 if what == "head" else 2):
            raise ValueError(say("{names} has the shape {shape}", names=names[what], shape=list(shape)))
    head_dim = shapes["head"][0]
    for what in ("query", "key"):
        if shapes[what][0] % head_dim:
            raise ValueError(
                say(
                    "{names} has {shapes} rows, which heads of width {head_dim} do not divide",
                    names=names[what],
                    shapes=shapes[what][0],
                    head_dim=head_dim,
                )
            )
    layers = [int(match[1]) for name in weights if (match := re.match(r"model\.layers\.(\d+)\.", name))]
    try:
        return ModelConfig(
            vocab_size=shapes["embedding"][0],
            hidden_size=shapes["embedding"][1],
            num_hidden_layers=max(layers) + 1,
            num_attention_heads=shapes["query"][0] // head_dim,
            num_key_value_heads=shapes["key"][0] // head_dim,
            head_dim=head_dim,
            intermediate_size=shapes["gate"][0],
            tie_word_embeddings=tied,
        )
    except ValidationError as error:
        raise ValueError(say("the shapes make no model: {error}", error=explain(error))) from None


def _listed(what: str, names: list[str]) -> list[str]:
    if not names:
        return []
    more = say("\n  ... and {count} more", count=len(names) - SHOWN) if len(names) > SHOWN else ""
    return [say("{count} {what}:", count=len(names), what=what) + "\n  " + "\n  ".join(names[:SHOWN]) + more]
