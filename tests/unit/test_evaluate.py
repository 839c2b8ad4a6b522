from __future__ import annotations

import math

import pytest
import torch

from minimind.device.distributed import Parallel
from minimind.training.batch import TokenBatch
from minimind.training.evaluate import Validation, continuation, validate
from minimind.training.objectives import Loss, Models, next_token_loss
from minimind.training.precision import Precision
from tests.toys import TOY_CONFIG, RowBatches, toy_model, toy_rows

CPU = torch.device("cpu")


def test_validation_gives_nats_per_token_and_bits_per_byte() -> None:
    result = Validation(nats=8 * math.log(2), tokens=4, text_bytes=16)
    assert result.loss == pytest.approx(2 * math.log(2))
    assert result.bits_per_byte == pytest.approx(0.5)


def test_validate_is_the_loss_over_all_batches_however_they_are_cut() -> None:
    rows, model = toy_rows(6), toy_model()
    whole = next_token_loss({"policy": model}, rows)
    for size in (1, 4, 6):
        batches = RowBatches(rows, size).take(6)
        result = validate({"policy": model}, next_token_loss, batches, 100, Precision(torch.float32, CPU), Parallel())
        assert result.nats == pytest.approx(float(whole.total.detach()), rel=1e-6)
        assert result.tokens == float(whole.weight)
        assert result.text_bytes == 100
    assert all(parameter.grad is None for parameter in model.parameters())


def test_validate_computes_so_many_rows_at_once() -> None:
    seen: list[int] = []

    def watched(models: Models, batch: TokenBatch) -> Loss:
        seen.append(len(batch.rows))
        return next_token_loss(models, batch)

    rows, model, precision = toy_rows(5), toy_model(), Precision(torch.float32, CPU)
    results = [
        validate({"policy": model}, watched, [rows], 1, precision, Parallel(), rows_at_once=count) for count in (0, 2)
    ]
    assert seen == [5, 2, 2, 1]
    assert results[1].loss == pytest.approx(results[0].loss, rel=1e-6)


def test_validate_computes_in_the_precision_it_is_given() -> None:
    rows, model = toy_rows(4), toy_model()
    results = [
        validate({"policy": model}, next_token_loss, [rows], 1, Precision(dtype, CPU), Parallel()).loss
        for dtype in (torch.float32, torch.bfloat16)
    ]
    assert results[0] != results[1]
    assert results[1] == pytest.approx(results[0], rel=0.05)


def test_continuation_at_temperature_zero_takes_the_likeliest_token() -> None:
    model = toy_model()
    prompt = [5, 9, 3]
    written = continuation(model, prompt, max_tokens=6, eos_id=-1, temperature=0)
    text = torch.tensor([prompt + written])
    likeliest = model.logits(model(text)).argmax(-1)[0, len(prompt) - 1 : -1]
    assert written == likeliest.tolist()


def test_continuation_is_the_same_for_the_same_seed_only() -> None:
    model = toy_model()

    def write(seed: int) -> list[int]:
        return continuation(model, [5, 9, 3], max_tokens=12, eos_id=-1, temperature=1.0, seed=seed)

    assert write(1) == write(1)
    assert len({tuple(write(seed)) for seed in range(5)}) > 1


def test_continuation_draws_by_the_models_probabilities() -> None:
    model = toy_model()
    counts = torch.zeros(64)
    for seed in range(400):
        counts[continuation(model, [5], max_tokens=1, eos_id=-1, temperature=1.0, seed=seed)[0]] += 1
    expected = torch.softmax(model.logits(model(torch.tensor([[5]])))[0, -1], 0)
    assert (counts / 400 - expected).abs().sum() < 0.35


def test_continuation_leaves_the_random_numbers_of_training_alone() -> None:
    model = toy_model()
    before = torch.get_rng_state()
    continuation(model, [5], max_tokens=3, eos_id=-1)
    assert torch.equal(torch.get_rng_state(), before)


def test_continuation_stops_before_the_end_of_text() -> None:
    model = toy_model()
    free = continuation(model, [5], max_tokens=8, eos_id=-1, temperature=0)
    end = free[3]
    assert continuation(model, [5], max_tokens=8, eos_id=end, temperature=0) == free[: free.index(end)]
    assert continuation(model, [5], max_tokens=2, eos_id=-1, temperature=0) == free[:2]
    assert continuation(model, [5], max_tokens=0, eos_id=-1) == []


def test_continuation_ends_where_the_context_does() -> None:
    model = toy_model(config=TOY_CONFIG.model_copy(update={"max_position_embeddings": 8}))
    assert len(continuation(model, [5, 9, 3], max_tokens=60, eos_id=-1)) == 5
    for prompt in ([5] * 8, [5] * 9):
        assert continuation(model, prompt, max_tokens=60, eos_id=-1) == []
