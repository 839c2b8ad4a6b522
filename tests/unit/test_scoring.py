from __future__ import annotations

import pytest
import torch

from minimind.inference import scoring
from minimind.inference.cache import Piece
from minimind.inference.compiled import library
from minimind.inference.decoder import Decoder
from minimind.inference.engine import Engine
from minimind.inference.sampling import SamplingParams
from tests.toys import toy_model

TEXTS = [
    ([5, 9, 3, 7, 2, 11], 1),
    ([5, 9, 3, 7, 2, 12, 4], 5),
    ([5, 9, 3, 7, 2, 12, 4], 5),
    ([5, 9, 3, 7, 2], 4),
    ([8, 9], 1),
    (list(range(1, 50)), 10),
    ([*range(1, 50), 3, 4, 5], 49),
    ([*range(1, 50), 3], 49),
    ([*range(1, 50), 4], 49),
    ([7, 7, 7, 7, 7, 7], 3),
]


def by_requests(native: bool | None) -> list[list[float]]:
    """What the engine says of each text by itself, as of a prompt."""
    engine = Engine(toy_model().eval(), slots=1, context_tokens=64, native=native)
    found = []
    for ids, start in TEXTS:
        [done] = engine.generate([ids], SamplingParams(0, prompt_logprobs=0))
        assert done.prompt is not None
        found.append([token.logprob for token in done.prompt[start:] if token.logprob is not None])
    return found


@pytest.mark.parametrize("step", [1, 7, 256])
@pytest.mark.parametrize("cache", [1, 60, 200, 4096])
def test_texts_are_as_likely_together_as_each_by_itself(step: int, cache: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "STEP_TOKENS", step)
    model = toy_model().eval()
    told: list[int] = []
    found = scoring.score(model, TEXTS, cache, told.append)
    expected = by_requests(None)
    assert told == [len(ids) for ids, _ in TEXTS]
    for ours, one, (ids, start) in zip(found, expected, TEXTS, strict=True):
        assert len(ours) == len(ids) - start
        assert ours == pytest.approx(one, abs=1e-5)
    assert found[1] == found[2]


def test_to_the_last_bit_where_c_computes() -> None:
    engine = Engine(toy_model().eval(), slots=4, context_tokens=64)
    if library() is None:
        pytest.skip("no C compiler with OpenMP here")
    assert engine.score(TEXTS) == by_requests(None)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens went through the model, call by call."""
    found: list[int] = []
    extend = Decoder.extend

    def watched(self: Decoder, pieces: list[Piece]) -> torch.Tensor:
        found.append(sum(len(piece.tokens) for piece in pieces))
        return extend(self, pieces)

    monkeypatch.setattr(Decoder, "extend", watched)
    return found


def test_what_begins_alike_is_computed_once(computed: list[int]) -> None:
    question = list(range(1, 31))
    scoring.score(toy_model().eval(), [([*question, *choice], 30) for choice in ([1], [2, 3], [4], [5, 6, 7])], 4096)
    assert sum(computed) == 30 + 0 + 1 + 0 + 2  # the last token of each is only guessed


def test_what_all_begin_with_is_computed_once(computed: list[int]) -> None:
    told, count = list(range(1, 21)), 30
    texts = [([*told, 30 + at, 1, 2, 3, 4, 5, choice], 26) for at in range(count) for choice in (6, 7)]
    model = toy_model().eval()
    for cache in (60, 4096):
        computed.clear()
        found = scoring.score(model, texts, cache)
        assert sum(computed) == len(told) + count * 6
        assert found[7] == pytest.approx(scoring.score(model, [texts[7]], cache)[0], abs=1e-5)


def test_weights_that_are_no_numbers_are_an_error() -> None:
    model = toy_model().eval()
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    with pytest.raises(ValueError, match="logits are not finite"):
        scoring.score(model, TEXTS, 4096)


def test_nothing_to_score() -> None:
    assert scoring.score(toy_model().eval(), [], 4096) == []
