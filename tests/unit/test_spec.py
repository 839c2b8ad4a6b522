from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from jobs.stages.lora import lora
from jobs.stages.pretrain import pretrain
from jobs.stages.sft import sft
from jobs.stages.spec import MemoryConfig, RunSpec
from jobs.stages.stage import DEFAULT_MODEL
from jobs.stages.table import STAGES
from minimind.config import override
from minimind.network.model import MODEL_PRESETS
from minimind.training.objectives import next_token_loss
from tests.small import small_spec


@pytest.mark.parametrize("size", MODEL_PRESETS)
def test_every_preset_is_a_complete_spec_of_its_size(size: str) -> None:
    spec = pretrain(size)
    assert spec.model == MODEL_PRESETS[size]
    assert spec.name == "pretrain"
    assert spec.data.path == "data/stock/pretrain.jsonl"


@pytest.mark.parametrize("size", MODEL_PRESETS)
def test_presets_of_fine_tuning_read_conversations(size: str) -> None:
    for stage, preset in (("sft", sft), ("lora", lora)):
        spec = preset(size)
        assert RunSpec.model_validate(spec.model_dump()) == spec
        assert (spec.name, spec.stage.kind, spec.model) == (stage, stage, MODEL_PRESETS[size])
        assert spec.data.path == "data/stock/sft.jsonl"
        assert (spec.adapter is not None) == (stage == "lora")
        assert spec.init_from is None
    assert sft(size).optim.learning_rate < pretrain(size).optim.learning_rate


def test_what_tiny_was_measured_with() -> None:
    spec = sft("tiny")
    assert (spec.loop.batch_size, spec.data.max_seq_len, spec.loop.epochs) == (4, 256, 8)
    assert (spec.optim.name, spec.optim.learning_rate) == ("muon", 4e-3)


def test_none_is_no_weights() -> None:
    assert small_spec(init_from="none").weights is None
    assert small_spec().weights is None
    assert small_spec(init_from="small@1").weights == "small@1"


def test_the_default_model_is_a_preset() -> None:
    assert pretrain() == pretrain(DEFAULT_MODEL)


def test_the_table_of_stages_gives_what_a_run_needs() -> None:
    for name, preset, rows in (("pretrain", pretrain, "pretrain"), ("sft", sft, "sft"), ("lora", lora, "sft")):
        stage = STAGES[name]
        assert stage.preset("tiny") == preset("tiny")
        assert stage.preset("tiny").stage.kind == name
        assert stage.objective(preset("tiny")) is next_token_loss
        assert stage.rows == rows
        assert stage.continues == (name != "pretrain")
        assert stage.title


def test_a_spec_comes_back_from_its_json() -> None:
    spec = small_spec(eval__prompts='["你好"]', init_from="other@12")
    assert RunSpec.model_validate(json.loads(json.dumps(spec.model_dump(mode="json")))) == spec


def test_the_global_batch_counts_all_workers() -> None:
    spec = small_spec(loop__batch_size=3, loop__accumulation_steps=5)
    assert (spec.world, spec.global_batch_size) == (1, 15)
    for workers, world in ((1, 1), (4, 4), ("null", 1)):
        spec = override(spec, {"scaling.workers": workers})
        assert (spec.world, spec.global_batch_size) == (world, 15 * world)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"name": "../up"}, r"name = '../up': run name '../up': a name has 1 to 100 letters"),
        ({"data.max_seq_len": 32769}, "data.max_seq_len = 32769 is more than model.max_position_embeddings = 32768"),
        ({"data.max_seq_len": 7}, "data.max_seq_len = 7: .*greater than or equal to 8"),
        ({"loop.batch_size": 0}, "loop.batch_size = 0: .*greater than or equal to 1"),
        ({"eval.fraction": 1.0}, "eval.fraction = 1.0: .*less than 1"),
        ({"eval.max_documents": 0}, "eval.max_documents = 0"),
        ({"scaling.workers": -1}, "scaling.workers = -1"),
        ({"seed": -1}, "seed = -1"),
        ({"memory.vram": "all"}, "memory.vram = 'all': 'all' is no size of memory: write a number and GB or MB"),
        (
            {"stage.kind": "sftt"},
            "stage: kind = 'sftt': there are pretrain, sft, lora",
        ),
        ({"stage.kind": "[]"}, r"stage: kind = \[\]: there are"),
        ({"data.mix": 1.5}, "data.mix = 1.5: Input should be less than 1"),
        ({"data.mix": -0.1}, "data.mix = -0.1: Input should be greater than or equal to 0"),
        ({"stage.kind": "lora"}, "adapter = null: lora trains an adapter"),
        ({"loop.batchsize": 2}, "loop.batchsize: no setting 'batchsize' in 'loop'; names there: batch_size"),
        ({"optim.learning_rate": "inf"}, "optim.learning_rate = 'inf'"),
    ],
)
def test_what_makes_no_sense_is_named_with_its_path_and_value(settings: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        override(small_spec(), settings)


def test_a_spec_is_frozen_and_knows_its_fields() -> None:
    spec = small_spec()
    with pytest.raises(ValidationError):
        spec.name = "other"
    with pytest.raises(ValidationError):
        RunSpec.model_validate({**spec.model_dump(), "lerning_rate": 1})


@pytest.mark.parametrize(("given", "kept"), [(8, "8"), (7.5, "7.5"), ("6GB", "6GB"), (None, None)])
def test_a_size_of_memory_may_be_a_number_in_json(given: object, kept: str | None) -> None:
    assert MemoryConfig.model_validate({"vram": given}).vram == kept
