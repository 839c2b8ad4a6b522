from __future__ import annotations

import gc
import weakref

import pytest
import torch

from minimind.network.model import MiniMind
from minimind.training.batch import worst_batch
from minimind.training.out_of_memory import DoesNotFitError, Ladder, Shortage, beyond_rungs, parts, release, shortage_in
from minimind.training.train_state import TrainState
from minimind.training.trial_steps import Repeated
from tests.toys import toy_model


class ReadsAhead(Repeated):
    """Batches are prepared ahead until somebody stops it."""

    runs = True

    def stop_reading_ahead(self) -> bool:
        stopped, self.runs = self.runs, False
        return stopped


def ladder(state: TrainState, model: MiniMind | None = None, *, allow_shorter: bool = False) -> Ladder:
    return Ladder(state, {"policy": model or toy_model()}, ReadsAhead(worst_batch(1, 8)), allow_shorter=allow_shorter)


def standing(state: TrainState) -> tuple[int, bool, int]:
    return state.rows_at_once, state.checkpointing, state.cuts


def test_the_rungs_come_in_order_and_end_in_words() -> None:
    state, model = TrainState(), toy_model()
    rungs = ladder(state, model, allow_shorter=True)
    seen = []
    for rows, width in ((6, 32), (3, 32), (2, 32), (1, 32), (1, 32), (1, 17), (1, 9)):
        text = rungs.descend(Shortage(rows, width, ""))
        seen.append((*standing(state), model.activation_checkpointing))
        assert text.endswith(("before", "(activation checkpointing)", "two pieces", "ahead"))
    assert seen == [
        (3, False, 0, False),
        (2, False, 0, False),
        (1, False, 0, False),
        (1, True, 0, True),
        (1, True, 1, True),
        (1, True, 2, True),
        (1, True, 2, True),
    ]
    with pytest.raises(DoesNotFitError, match=r"one row at once, activation checkpointing; rows of 9 tokens\. asked"):
        rungs.descend(Shortage(1, 9, "asked for 1 MiB"))


@pytest.mark.parametrize(("width", "allow_shorter"), [(64, False), (0, True)])
def test_rows_are_cut_only_where_it_is_allowed_and_makes_sense(width: int, allow_shorter: bool) -> None:
    state = TrainState(checkpointing=True)
    rungs = ladder(state, allow_shorter=allow_shorter)
    assert rungs.descend(Shortage(1, width, "")).startswith("batches are no longer prepared ahead")
    with pytest.raises(DoesNotFitError, match="What helps: a smaller model"):
        rungs.descend(Shortage(1, width, ""))
    assert state.cuts == 0


def test_a_ladder_starts_where_the_run_stood() -> None:
    model = toy_model()
    rungs = ladder(TrainState(rows_at_once=2, checkpointing=True, cuts=1), model)
    assert model.activation_checkpointing
    assert [part.slots for part in rungs.parts(worst_batch(3, 16))] == [18, 18, 18]


def test_parts_are_all_rows_at_once_or_so_many() -> None:
    batch = worst_batch(5, 16)
    assert parts(batch, 0) == (batch,)
    assert [len(part.rows) for part in parts(batch, 2)] == [2, 2, 1]
    assert [len(part.rows) for part in parts(batch, 4, cuts=1)] == [4, 4, 2]
    assert [part.slots for part in parts(batch, 0, cuts=2)] == [5 * 4 * 5]


def test_the_shortage_with_most_rows_decides() -> None:
    assert Shortage.over([]) is None
    many, one = Shortage(4, 16, "many"), Shortage(1, 16, "one")
    assert Shortage.over([one, many]) == many
    assert shortage_in(worst_batch(4, 16), torch.OutOfMemoryError("many")) == many


def test_where_no_rung_helps_the_run_ends_in_words() -> None:
    with (
        pytest.raises(DoesNotFitError, match=r"out of memory in the garden\. 3 GiB\. What helps"),
        beyond_rungs("in the garden"),
    ):
        raise torch.OutOfMemoryError("3 GiB")
    with pytest.raises(KeyError), beyond_rungs("in the garden"):
        raise KeyError


def test_release_frees_what_hangs_in_cycles() -> None:
    class Cycle:
        def __init__(self) -> None:
            self.me = self

    gc.disable()
    try:
        gone = weakref.ref(Cycle())
        release(torch.device("cpu"))
        assert gone() is None
    finally:
        gc.enable()


def test_beyond_the_rungs_every_kind_ends_in_words_once() -> None:
    for error in (torch.OutOfMemoryError("a"), MemoryError("b"), RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")):
        with pytest.raises(DoesNotFitError, match=f"^out of memory there. {error}. What helps"), beyond_rungs("there"):
            raise error
    with pytest.raises(DoesNotFitError, match="^out of memory, said already$"), beyond_rungs("there"):
        raise DoesNotFitError("out of memory, said already")
    with pytest.raises(RuntimeError, match="^a bug$"), beyond_rungs("there"):
        raise RuntimeError("a bug")
