"""An adapter's checkpoint folder is PEFT's: peft loads it on its base and computes the same, and the other way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import safetensors.torch
import torch
import transformers
from torch import Tensor

from minimind.checkpoints.adapter_base import base_of
from minimind.checkpoints.checkpoint import Adapter, Lineage, load_model, save
from minimind.network.lora import TARGETS, LoraConfig, adapter_state, attach, load_adapter
from minimind.network.model import MiniMind, ModelConfig
from minimind.text.tokenizer import Tokenizer

# peft asks transformers by a name that transformers has given up.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

CONFIG = ModelConfig(vocab_size=300, hidden_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2)
TOKENS = torch.randint(0, 300, (2, 60), generator=torch.Generator().manual_seed(0))
SETTINGS = [LoraConfig(rank=4, alpha=10, dropout=0.1), LoraConfig(target_modules=("v_proj", "down_proj"))]


def drawn(parameters: list[Tensor], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in parameters:  # matrices that begin at zero would hide what is compared
            parameter.normal_(1.0 if parameter.dim() == 1 else 0.0, 0.1, generator=generator)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = MiniMind(CONFIG)
    drawn(list(model.parameters()), seed=1)
    return save(
        tmp_path_factory.mktemp("base"),
        4,
        model_config=CONFIG,
        weights=model.state_dict(),
        tokenizer=Tokenizer.train(["床前明月光，疑是地上霜。", "the quick brown fox"] * 5, vocab_size=300),
        train_state={},
        lineage=Lineage("base"),
    )


def attached(base: Path, config: LoraConfig, seed: int) -> MiniMind:
    model, _, _ = load_model(base)
    attach(model, config, torch.Generator())
    drawn(list(adapter_state(model).values()), seed)
    return model


def logits(model: MiniMind) -> Tensor:
    with torch.no_grad():
        return model.logits(model(TOKENS))


def peer_logits(peer: Any) -> Tensor:
    with torch.no_grad():
        result: Tensor = peer.eval()(TOKENS).logits
    return result


def peer_base(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)


@pytest.mark.parametrize("config", SETTINGS)
def test_peft_loads_the_folder_and_computes_the_same_logits(base: Path, tmp_path: Path, config: LoraConfig) -> None:
    model = attached(base, config, seed=2)
    _, tokenizer, _ = load_model(base)
    folder = save(
        tmp_path,
        3,
        model_config=CONFIG,
        weights=adapter_state(model),
        tokenizer=tokenizer,
        train_state={},
        lineage=Lineage("lora"),
        adapter=Adapter(config, base_of(base)),
    )
    expected = logits(model)
    peer: Any = peft.PeftModel.from_pretrained(peer_base(base), str(folder))
    trained = {name.replace(".default", "") for name, _ in peer.named_parameters() if "lora_" in name}
    assert trained == set(adapter_state(model))
    torch.testing.assert_close(peer_logits(peer), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(peer_logits(peer.merge_and_unload()), expected, rtol=0, atol=1e-5)
    merged, _, _ = load_model(folder)
    torch.testing.assert_close(logits(merged), expected, rtol=0, atol=1e-5)
    by_itself: Any = peft.AutoPeftModelForCausalLM.from_pretrained(str(folder), local_files_only=True)
    torch.testing.assert_close(peer_logits(by_itself), expected, rtol=0, atol=1e-5)
    assert (logits(load_model(base)[0]) - expected).abs().max() > 0.1


@pytest.mark.parametrize("config", SETTINGS)
def test_an_adapter_that_peft_wrote_is_taken_over(base: Path, tmp_path: Path, config: LoraConfig) -> None:
    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # annotated as int, used as a factor
        target_modules=list(config.target_modules),
        task_type="CAUSAL_LM",
    )
    peer: Any = peft.get_peft_model(peer_base(base), settings)
    drawn([parameter for name, parameter in peer.named_parameters() if "lora_" in name], seed=3)
    peer.save_pretrained(tmp_path)
    model = attached(base, config, seed=4)
    load_adapter(model, safetensors.torch.load_file(tmp_path / "adapter_model.safetensors"))
    torch.testing.assert_close(logits(model), peer_logits(peer), rtol=0, atol=1e-5)


def test_all_linear_maps_are_those_that_peft_finds(base: Path) -> None:
    peer: Any = peft.get_peft_model(
        peer_base(base), peft.LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM")
    )
    adapted = {name.split(".")[-4] for name, _ in peer.named_parameters() if "lora_A" in name}
    assert adapted == set(TARGETS)
