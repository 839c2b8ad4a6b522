from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from minimind.checkpoints.convert import EMBEDDING, HEAD, UPSTREAM_YARN, from_hf_config, read_weights, to_hf_config
from minimind.config import override
from minimind.network.model import MODEL_PRESETS, MiniMind, ModelConfig, YarnConfig

CONFIG = ModelConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
QUERY = "model.layers.1.self_attn.q_proj.weight"
YARN = override(CONFIG, {"rope_scaling": YarnConfig(factor=4.0, original_max_position_embeddings=2048).model_dump()})


def upstream_weights(seed: int = 0) -> dict[str, Tensor]:
    """A state dict as upstream saves it: half precision, and the tied head a second time."""
    generator = torch.Generator().manual_seed(seed)
    weights = {
        name: torch.randn(tensor.shape, generator=generator).half()
        for name, tensor in MiniMind(CONFIG).state_dict().items()
    }
    return {**weights, HEAD: weights[EMBEDDING]}


def hf_folder(folder: Path, config: dict[str, Any], weights: dict[str, Tensor]) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    save_file({name: tensor.clone() for name, tensor in weights.items()}, folder / "model.safetensors")
    return folder


# config.json


@pytest.mark.parametrize(
    "config", [*MODEL_PRESETS.values(), YARN, override(YARN, {"tie_word_embeddings": False, "rope_theta": 1e4})]
)
def test_a_configuration_survives_config_json(config: ModelConfig) -> None:
    assert from_hf_config(json.loads(json.dumps(to_hf_config(config)))) == config


def test_config_json_says_everything_under_the_names_of_every_reader() -> None:
    values = to_hf_config(YARN)
    assert values["architectures"] == ["Qwen3ForCausalLM"]
    assert (values["head_dim"], values["intermediate_size"]) == (8, 128)
    assert (values["pad_token_id"], values["bos_token_id"], values["eos_token_id"]) == (0, 1, 2)
    assert values["rope_theta"] == values["rope_parameters"]["rope_theta"] == 1e6
    for scaling in (values["rope_scaling"], values["rope_parameters"]):
        assert (scaling["rope_type"], scaling["factor"], scaling["original_max_position_embeddings"]) == (
            "yarn",
            4.0,
            2048,
        )
    assert "attention_factor" not in values["rope_scaling"]
    assert to_hf_config(CONFIG)["rope_scaling"] is None
    assert to_hf_config(CONFIG)["rope_parameters"] == {"rope_type": "default", "rope_theta": 1e6}


@pytest.mark.parametrize("style", ["transformers 4", "transformers 5"])
def test_either_generation_of_rope_settings_is_read(style: str) -> None:
    values = to_hf_config(YARN)
    for name in ("rope_parameters",) if style == "transformers 4" else ("rope_scaling", "rope_theta"):
        del values[name]
    assert from_hf_config(values) == YARN


def test_upstreams_own_configuration_is_read() -> None:
    values = {
        "model_type": "minimind",
        **{name: getattr(CONFIG, name) for name in ("vocab_size", "hidden_size", "num_hidden_layers")},
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "intermediate_size": 128,
        "rope_theta": 1e6,
        "hidden_act": "silu",
        "use_moe": False,
        "num_experts": 4,
        "flash_attn": True,
        "rope_scaling": {"type": "yarn", "factor": 4, "original_max_position_embeddings": 2048},
    }
    assert from_hf_config(values) == YARN


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "llama"}, "model_type = 'llama' is another architecture"),
        ({"model_type": "qwen3_moe"}, "model_type = 'qwen3_moe'"),
        ({"model_type": "minimind", "use_moe": True}, "use_moe = True: only False"),
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"head_dim": None}, "head_dim is missing"),
        ({"attention_bias": True}, "attention_bias = True: only False"),
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu': only 'silu'"),
        ({"use_sliding_window": True}, "use_sliding_window = True"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
        ({"rope_theta": None, "rope_parameters": None}, "rope_theta is missing"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e6}}, "rope type = 'llama3'"),
        (
            {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6, "factor": 2.0, "mscale": 1.0}},
            "rope settings mscale",
        ),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "factor": 2.0}}, "rope settings factor"),
        ({"num_key_value_heads": 3}, "num_attention_heads = 4 must be a multiple"),
    ],
)
def test_a_config_json_of_another_model_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_hf_config({**to_hf_config(CONFIG), **changes})


def test_every_problem_of_a_config_json_is_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"(?s)vocab_size is missing.*attention_bias.*rope type"):
        from_hf_config(
            {**to_hf_config(CONFIG), "vocab_size": None, "attention_bias": True, "rope_scaling": {"type": "x"}}
            | {"rope_parameters": None}
        )


# Weights


@pytest.mark.parametrize("kind", ["pth", "resume", "safetensors", "folder", "folder with .bin", "sharded folder"])
def test_every_kind_of_file_gives_the_same_complete_state_dict(tmp_path: Path, kind: str) -> None:
    weights = upstream_weights()
    path = tmp_path / "full_sft_32.pth"
    if kind == "pth":
        torch.save(OrderedDict(weights), path)
    elif kind == "resume":
        torch.save({"model": weights, "optimizer": {"state": {}}, "epoch": 1, "step": 7, "wandb_id": None}, path)
    elif kind == "safetensors":
        path = tmp_path / "model.safetensors"
        save_file({name: tensor.clone() for name, tensor in weights.items()}, path)
    else:
        path = hf_folder(tmp_path / "folder", to_hf_config(CONFIG), weights)
        if kind != "folder":
            (path / "model.safetensors").unlink()
        if kind == "folder with .bin":
            torch.save(weights, path / "pytorch_model.bin")
        if kind == "sharded folder":
            shard_of = {name: f"model-0000{i % 2}.safetensors" for i, name in enumerate(weights)}
            for shard in set(shard_of.values()):
                save_file({n: w.clone() for n, w in weights.items() if shard_of[n] == shard}, path / shard)
            (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shard_of}), "utf-8")
    config, state = read_weights(path)
    assert config == CONFIG
    assert HEAD not in state
    assert all(tensor.dtype == torch.float32 for tensor in state.values())
    assert all(torch.equal(tensor, weights[name].float()) for name, tensor in state.items())
    MiniMind(config).load_state_dict(state, strict=True)


def test_what_no_shape_shows_comes_from_the_caller(tmp_path: Path) -> None:
    torch.save(upstream_weights(), tmp_path / "a.pth")
    assert read_weights(tmp_path / "a.pth", YARN)[0] == YARN


def test_an_untied_head_is_kept(tmp_path: Path) -> None:
    weights = {**upstream_weights(), HEAD: torch.ones(64, 32)}
    torch.save(weights, tmp_path / "a.pth")
    config, state = read_weights(tmp_path / "a.pth")
    assert not config.tie_word_embeddings
    assert torch.equal(state[HEAD], torch.ones(64, 32))
    with pytest.raises(ValueError, match=r"lm_head\.weight differs from .* needs tie_word_embeddings = false"):
        read_weights(tmp_path / "a.pth", CONFIG)


def test_an_untied_configuration_keeps_an_equal_head(tmp_path: Path) -> None:
    torch.save(upstream_weights(), tmp_path / "a.pth")
    untied = override(CONFIG, {"tie_word_embeddings": False})
    assert HEAD in read_weights(tmp_path / "a.pth", untied)[1]


def test_saved_rotary_tables_are_left_out(tmp_path: Path) -> None:
    tables = {
        name: torch.ones(4)
        for name in ("model.freqs_cos", "model.freqs_sin", "model.layers.0.self_attn.rotary_emb.inv_freq")
    }
    torch.save({**upstream_weights(), **tables}, tmp_path / "a.pth")
    assert not set(tables) & set(read_weights(tmp_path / "a.pth")[1])


def refusal(tmp_path: Path, weights: Any, config: ModelConfig | None = None) -> str:
    path = tmp_path / "weights.pth"
    torch.save(weights, path)
    with pytest.raises(ValueError, match="weights") as caught:
        read_weights(path, config)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_everything_missing_left_over_or_misshapen_is_listed(tmp_path: Path) -> None:
    weights = upstream_weights()
    del weights["model.norm.weight"]
    weights["model.layers.1.extra"] = torch.ones(3)
    weights[QUERY] = torch.ones(32, 31)
    weights["model.layers.0.mlp.up_proj.weight"] = torch.ones(128, 32, dtype=torch.int64)
    weights["model.layers.1.mlp.up_proj.weight"][3, 4] = float("nan")
    message = refusal(tmp_path, weights)
    assert "1 missing:\n  model.norm.weight" in message
    assert "1 unexpected:\n  model.layers.1.extra" in message
    assert f"{QUERY}: [32, 31] in the file, [32, 32] in the model" in message
    assert "1 not floating point:\n  model.layers.0.mlp.up_proj.weight" in message
    assert "1 with values that are not finite:\n  model.layers.1.mlp.up_proj.weight" in message
    assert "hidden_size = 32, num_hidden_layers = 2" in message


def test_a_long_list_is_cut(tmp_path: Path) -> None:
    message = refusal(tmp_path, upstream_weights(), override(CONFIG, {"num_hidden_layers": 4}))
    assert "22 missing:" in message
    assert "... and 10 more" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.layers.0.mlp.experts.0.gate_proj.weight": 1}, "mixture of experts"),
        ({"model.layers.0.mlp.gate.weight": 1}, "mixture of experts"),
        ({"model.layers.0.self_attn.q_proj.lora.A.weight": 1}, "LoRA adapter; merge it"),
        ({"tok_embeddings.weight": 1, EMBEDDING: None}, "first layout"),
        ({"layers.0.attention.wq.weight": 1}, "first layout"),
        (
            {f"model.layers.{i}.self_attn.{n}_norm.weight": None for i in (0, 1) for n in "qk"},
            "without norms on queries",
        ),
        ({EMBEDDING: None}, "1 missing:\n  model.embed_tokens.weight"),
        ({"model.layers.0.self_attn.q_norm.weight": 5}, "32 rows, which heads of width 5 do not divide"),
        ({EMBEDDING: 5}, r"model.embed_tokens.weight has the shape [5]"),
    ],
)
def test_other_models_are_called_by_their_name(tmp_path: Path, change: dict[str, int | None], message: str) -> None:
    weights = upstream_weights()
    for name, width in change.items():
        if width is None:
            del weights[name]
        else:
            weights[name] = torch.ones(width)
    assert message in refusal(tmp_path, weights)


def test_a_file_that_would_run_code_is_not_opened(tmp_path: Path) -> None:
    torch.save({**upstream_weights(), "config": Path("x")}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"holds more than tensors.*with torch\.save$"):  # and no word of another way
        read_weights(tmp_path / "a.pth")


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_a_damaged_file_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "a.pth":
        torch.save(upstream_weights(), path)
    else:
        save_file({name: tensor.clone() for name, tensor in upstream_weights().items()}, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match="not a readable"):
        read_weights(path)


def test_a_file_without_a_state_dict_is_refused(tmp_path: Path) -> None:
    assert "must hold a state dict" in refusal(tmp_path, [torch.ones(3)])
    assert "must hold a state dict" in refusal(tmp_path, {"epoch": 3})


def test_what_a_folder_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere: no such file or folder"):
        read_weights(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"config\.json: no such file"):
        read_weights(tmp_path)
    (tmp_path / "config.json").write_text("{", "utf-8")
    with pytest.raises(ValueError, match=r"config\.json: not JSON"):
        read_weights(tmp_path)
    (tmp_path / "config.json").write_text("[]", "utf-8")
    with pytest.raises(ValueError, match=r"config\.json: must hold a JSON object, not list"):
        read_weights(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(to_hf_config(CONFIG)), "utf-8")
    with pytest.raises(ValueError, match=r"holds neither model\.safetensors nor pytorch_model\.bin"):
        read_weights(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}', "utf-8")
    with pytest.raises(ValueError, match=r"config\.json: .*'llama' is another architecture"):
        read_weights(tmp_path)


def folder_with(path: Path, **files: Any) -> Path:
    """A Hugging Face folder: `name__json` is a JSON file, everything else holds tensors."""
    path.mkdir()
    (path / "config.json").write_text(json.dumps(to_hf_config(CONFIG)), "utf-8")
    for name, content in files.items():
        file = path / name.replace("__", ".")
        if file.suffix == ".json":
            file.write_text(json.dumps(content), "utf-8")
        elif file.suffix == ".bin":
            torch.save(content, file)
        else:
            save_file({name: tensor.clone().contiguous() for name, tensor in content.items()}, file)
    return path


def halves(weights: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The weights in two files a, b, and their index."""
    names = sorted(weights)
    left, right = names[::2], names[1::2]
    index = {"weight_map": dict.fromkeys(left, "a.bin") | dict.fromkeys(right, "b.bin")}
    return {name: weights[name] for name in left}, {name: weights[name] for name in right}, index


def test_the_file_that_transformers_reads_is_read_not_an_index_left_from_before(tmp_path: Path) -> None:
    new = upstream_weights()
    old = {name: tensor + 1 for name, tensor in new.items()}
    a, b, index = halves(old)
    stale = {"weight_map": dict.fromkeys(old, "old-1.safetensors")}
    folder = folder_with(tmp_path / "both", model__safetensors=new)
    save_file({name: tensor.clone() for name, tensor in old.items()}, folder / "old-1.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(stale), "utf-8")
    _, found = read_weights(folder)
    assert torch.equal(found[EMBEDDING], new[EMBEDDING].float())
    (folder / "model.safetensors").unlink()
    _, found = read_weights(folder)
    assert torch.equal(found[EMBEDDING], old[EMBEDDING].float())
    (folder / "old-1.safetensors").unlink()
    with pytest.raises(ValueError, match=r"index\.json: names files that are not there: old-1\.safetensors"):
        read_weights(folder)

    sharded = folder_with(tmp_path / "bin", a__bin=a, b__bin=b)
    (sharded / "pytorch_model.bin.index.json").write_text(json.dumps(index), "utf-8")
    _, found = read_weights(sharded)
    assert torch.equal(found[EMBEDDING], old[EMBEDDING].float())
    (sharded / "pytorch_model.bin.index.json").write_text("[]", "utf-8")
    with pytest.raises(ValueError, match="not an index of shards"):
        read_weights(sharded)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "_orig_mod.module.", "module._orig_mod."])
def test_what_wrappers_put_in_front_of_names_is_taken_off(tmp_path: Path, prefix: str) -> None:
    weights = upstream_weights()
    torch.save({f"{prefix}{name}": tensor for name, tensor in weights.items()}, tmp_path / "a.pth")
    torch.save(weights, tmp_path / "b.pth")
    wrapped, plain = (read_weights(tmp_path / name) for name in ("a.pth", "b.pth"))
    assert wrapped[0] == plain[0]
    assert all(torch.equal(wrapped[1][name], tensor) for name, tensor in plain[1].items())
    torch.save(weights | {f"{prefix}{QUERY}": weights[QUERY]}, tmp_path / "c.pth")
    with pytest.raises(ValueError, match="stands there with and without its prefix"):
        read_weights(tmp_path / "c.pth")


def test_upstreams_switch_for_long_texts_means_its_yarn() -> None:
    values = to_hf_config(CONFIG) | {"model_type": "minimind", "rope_parameters": None}
    switched = override(CONFIG, {"rope_scaling": UPSTREAM_YARN.model_dump()})
    assert from_hf_config(values | {"inference_rope_scaling": True, "rope_scaling": None}) == switched
    other = {"type": "yarn", "factor": 4, "original_max_position_embeddings": 1024}
    assert from_hf_config(values | {"inference_rope_scaling": True, "rope_scaling": other}) == switched
    assert from_hf_config(values | {"inference_rope_scaling": False, "rope_scaling": None}) == CONFIG
    with pytest.raises(ValueError, match=r"inference_rope_scaling = False and rope type = 'yarn'"):
        from_hf_config(values | {"inference_rope_scaling": False, "rope_scaling": other})
    short = values | {"inference_rope_scaling": True, "max_position_embeddings": 2048}
    assert from_hf_config(short).rope_scaling is None
