from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest

import minimind.checkpoints.checkpoint as checkpoints
from jobs import paths
from jobs.runs.directory import RunDirectory
from minimind.checkpoints import folders as checkpoint_folders
from minimind.checkpoints.manifest import WEIGHTS
from minimind.inference.engine import Engine
from minimind.inference.quantize import quantized
from minimind.inference.sampling import SamplingParams
from minimind.network.model import MiniMind, ModelConfig
from minimind.text.tokenizer import Tokenizer
from minimind.units import size
from service import loading, model_pool
from service.catalog import Catalog
from service.errors import ApiError
from service.loading import LoadPlan, fastest, load, plan, weight_bytes
from service.model_pool import ModelPool, PooledModel
from service.settings import Settings
from tests.taught import CONFIG, write_checkpoint, write_run

SMALL: dict[str, Any] = {"context_tokens": 64, "slots": 2, "dtype": "float32", "threads": 1}


@pytest.fixture
def runs(home: Path, known_by_heart: tuple[MiniMind, Tokenizer]) -> Path:
    for name in ("a", "b", "c"):
        write_run(home / "runs", name, *known_by_heart)
    return home / "runs"


def folder(runs: Path, name: str) -> Path:
    return checkpoint_folders.folder_of(runs / name / "checkpoints", 10)


def pool(models: float) -> ModelPool:
    """Room for so many models."""
    return ModelPool(Catalog(), Settings(**SMALL, memory_bytes=int(models * one_model())))


def one_model() -> int:
    return weight_bytes(CONFIG, "float32") + 2 * 2 * 2 * 16 * 4 * 2 * 64


def in_memory(pool: ModelPool) -> list[str]:
    return [model.model for model in pool.loaded()]


def test_a_plan_is_what_the_engine_then_takes(runs: Path) -> None:
    needs = plan(folder(runs, "a"), Settings(**SMALL))
    engine, _, holds = load(folder(runs, "a"), needs)
    assert holds == needs
    assert isinstance(engine, Engine)
    assert needs.kv_bytes == engine.kv_cache_bytes
    assert needs.bytes == one_model()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("weight_type", ["float32", "bfloat16", "int8"])
def test_weights_are_counted_as_they_are_held(tied: bool, weight_type: Any) -> None:
    config = ModelConfig(
        vocab_size=512, hidden_size=128, num_hidden_layers=2, num_attention_heads=4, tie_word_embeddings=tied
    )
    model = quantized(MiniMind(config), weight_type)
    tensors = {tensor.data_ptr(): tensor.nbytes for tensor in (*model.parameters(), *model.buffers())}
    assert weight_bytes(config, weight_type) == pytest.approx(sum(tensors.values()), rel=0.05)


def test_the_fastest_precision_is_measured_once(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "MEASURED_TOKENS", 40)
    needs = plan(folder(runs, "a"), Settings(**SMALL | {"dtype": "auto"}))
    assert needs.weight_bytes == weight_bytes(CONFIG, "float32")
    _, _, holds = load(folder(runs, "a"), needs)
    kept = list((paths.cache() / "precision").iterdir())
    assert len(kept) == 1
    assert json.loads(kept[0].read_text("utf-8"))["weight_type"] == holds.weight_type
    kept[0].write_text('{"weight_type": "bfloat16"}', "utf-8")
    model, tokenizer, _ = checkpoints.load_model(folder(runs, "b"))  # equal weights, whatever the run
    assert fastest(folder(runs, "b"), model, tokenizer) == "bfloat16"


def test_what_a_model_takes_is_said_before_it_is_taken(
    runs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    said: list[str] = []

    def out_of_memory(folder: Path, needs: LoadPlan) -> Any:
        said.extend(caplog.messages)
        raise RuntimeError("out of memory")

    async def run() -> None:
        models = pool(1)
        with pytest.raises(ApiError, match="out of memory"):
            async with models.use("a"):
                pass
        models.close()

    monkeypatch.setattr(model_pool, "load", out_of_memory)
    with caplog.at_level("INFO", model_pool.__name__):
        asyncio.run(run())
    assert len(said) == 1
    kv = size(2 * 2 * 2 * 16 * 4 * 2 * 64)
    assert said[0].startswith(f"a@10 will take {size(one_model())}: at most ")
    assert f"and {kv} of KV cache for 2 slots of 64 tokens; the server may use {size(one_model())}" in said[0]


def test_the_least_recently_used_leaves(runs: Path) -> None:
    async def run() -> None:
        models = pool(2.5)
        for name in ("a", "b", "a"):
            async with models.use(name) as model:
                assert model.found.id == f"{name}@10"
        async with models.use("c"):
            assert set(in_memory(models)) == {"a@10", "c@10"}
        assert in_memory(models)[0] == "c@10"
        models.close()
        assert in_memory(models) == []

    asyncio.run(run())


def test_a_model_in_use_stays(runs: Path) -> None:
    async def run() -> None:
        models = pool(1.5)
        async with models.use("a") as first:
            with pytest.raises(ApiError, match="no room for 'b@10'.*while these answer: a@10") as told:
                async with models.use("b"):
                    pass
            assert (told.value.status, told.value.retry_after_s) == (503, 5)
            assert not first.host.failed
        async with models.use("b"):
            assert in_memory(models) == ["b@10"]
        models.close()

    asyncio.run(run())


def test_a_model_that_never_fits_is_told_with_its_size(runs: Path) -> None:
    async def run() -> None:
        with pytest.raises(ApiError, match=r"needs .* of weights, .* of KV cache\), the server may use") as told:
            async with pool(0.5).use("a"):
                pass
        assert told.value.status == 400

    asyncio.run(run())


def test_many_requests_load_a_model_once(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[Path] = []
    real = load

    def counted(place: Path, needs: Any) -> Any:
        loads.append(place)
        return real(place, needs)

    monkeypatch.setattr(model_pool, "load", counted)

    async def run() -> None:
        models = pool(3)

        async def use() -> int:
            async with models.use("a") as model:
                return id(model)

        gone = asyncio.create_task(use())
        await asyncio.sleep(0)
        gone.cancel()  # the client that asked first goes away
        assert len(set(await asyncio.gather(*(use() for _ in range(20))))) == 1
        models.close()

    asyncio.run(run())
    assert len(loads) == 1


def test_a_slow_load_is_503_and_goes_on(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    real = load

    def slow(place: Path, needs: Any) -> Any:
        assert go_on.wait(20)
        return real(place, needs)

    monkeypatch.setattr(model_pool, "load", slow)

    async def run() -> None:
        models = ModelPool(Catalog(), Settings(**SMALL, load_timeout_s=0.05))
        with pytest.raises(ApiError, match="is being loaded") as told:
            async with models.use("a"):
                pass
        assert (told.value.status, told.value.code) == (503, "loading")
        go_on.set()
        while not models.loaded():
            await asyncio.sleep(0.01)
        models.close()

    asyncio.run(run())


def test_a_damaged_checkpoint_is_an_error_of_its_own_requests(runs: Path) -> None:
    weights = folder(runs, "b") / WEIGHTS
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    (folder(runs, "c") / "config.json").write_text("{", "utf-8")

    async def run() -> None:
        models = pool(3)
        for name, words in (("b", "is damaged: sha256"), ("c", "cannot be loaded")):
            with pytest.raises(ApiError, match=words) as told:
                async with models.use(name):
                    pass
            assert (told.value.status, told.value.code) == (500, "model_damaged")
        async with models.use("a") as model:
            assert not model.host.failed
        models.close()

    asyncio.run(run())


def test_an_overwritten_checkpoint_and_a_failed_engine_are_loaded_anew(
    runs: Path, known_by_heart: tuple[MiniMind, Tokenizer]
) -> None:
    async def run() -> None:
        models = pool(3)
        async with models.use("a") as first:
            pass
        async with models.use("a") as again:
            assert again is first
        write_checkpoint(RunDirectory(runs / "a"), 10, MiniMind(CONFIG), known_by_heart[1])
        async with models.use("a") as other:
            assert other.fingerprint != first.fingerprint
            other.host.close()
        async with models.use("a") as healed:
            assert healed is not other
            assert not healed.host.failed
        models.close()

    asyncio.run(run())


def test_a_model_that_was_waited_for_is_not_evicted_before_its_first_use(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the end of a load and the first use of its model other loads run, and look for who can leave."""

    async def at_once(function: Any, *arguments: Any) -> Any:
        return function(*arguments)  # what takes a thread no time at all leaves no time in between

    async def run() -> None:
        models = pool(1.5)

        async def use(name: str) -> str:
            async with models.use(name) as model:
                assert not model.host.failed, "closed before use"
                return name

        told = await asyncio.gather(*(use(name) for name in ("a", "b", "c")), return_exceptions=True)
        assert "a" in told
        for other in told:
            assert other == "a" or (isinstance(other, ApiError) and "while these answer: a@10" in other.message)
        async with models.use("b") as model:  # those who used it, and those who gave up, are not counted for ever
            assert not model.host.failed
            assert in_memory(models) == ["b@10"]
        models.close()

    monkeypatch.setattr(asyncio, "to_thread", at_once)
    asyncio.run(run())


def test_who_gives_up_waiting_is_no_user(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    real = load

    def slow(place: Path, needs: Any) -> Any:
        assert go_on.wait(20)
        return real(place, needs)

    monkeypatch.setattr(model_pool, "load", slow)

    async def run() -> None:
        models = pool(1.5)

        async def use() -> None:
            async with models.use("a"):
                pass

        waiting = [asyncio.create_task(use()) for _ in range(3)]
        while len(models._loading) < 1 or next(iter(models._loading.values())).waiting < 3:
            await asyncio.sleep(0.01)
        for task in waiting[:2]:
            task.cancel()
        go_on.set()
        await asyncio.gather(*waiting, return_exceptions=True)
        async with models.use("b"):
            assert in_memory(models) == ["b@10"]
        models.close()

    asyncio.run(run())


def stopped(model: PooledModel) -> bool:
    return model.host.failed


def test_an_overwritten_run_answers_to_the_end_of_its_answers(
    runs: Path, known_by_heart: tuple[MiniMind, Tokenizer]
) -> None:
    async def run() -> None:
        models = pool(2.5)
        async with models.use("a") as first:
            write_checkpoint(RunDirectory(runs / "a"), 10, MiniMind(CONFIG), known_by_heart[1])
            async with models.use("a") as other:
                assert other is not first
                assert not stopped(first)
                ticket = first.host.submit([[1]], [SamplingParams(max_tokens=4, temperature=0)], stream=False)
                assert (await ticket.take())[-1][1].finish is not None
                # It counts as long as it is there.
                with pytest.raises(ApiError, match="no room for 'b@10'.*while these answer: a@10$"):
                    async with models.use("b"):
                        pass
        assert stopped(first)
        async with models.use("b"), models.use("a"):
            pass
        models.close()

    asyncio.run(run())


def test_the_weights_that_a_model_is_made_from_need_room_while_it_is_made(runs: Path) -> None:
    whole = weight_bytes(CONFIG, "float32")
    small = plan(folder(runs, "a"), Settings(**SMALL | {"dtype": "int8"}))
    assert small.loading_bytes == small.bytes + whole
    assert plan(folder(runs, "a"), Settings(**SMALL)).loading_bytes == one_model()  # it keeps them

    async def run(memory_bytes: int) -> None:
        models = ModelPool(Catalog(), Settings(**SMALL | {"dtype": "int8"}, memory_bytes=memory_bytes))
        async with models.use("a") as model:
            assert model.plan.bytes == small.bytes
        models.close()

    asyncio.run(run(small.loading_bytes))
    with pytest.raises(ApiError, match=r"of KV cache, .* more while it is loaded\), the server may use"):
        asyncio.run(run(small.loading_bytes - 1))
